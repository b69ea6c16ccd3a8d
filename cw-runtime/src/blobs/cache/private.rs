//! Folders that no other user may look into or put something into. Knows modes and owners, not blobs.

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use super::error::CacheError;

/// Makes sure of the folder and of the one it lies in, which is in `/tmp` as a rule: there, anybody may have been
/// first with its name, and may put a link of that name to somewhere else.
///
/// The outer one is looked at first: once it is ours alone, nobody can exchange the inner one any more.
pub(super) fn make(folder: &Path) -> Result<(), CacheError> {
    folder.parent().map_or(Ok(()), make_one)?;
    make_one(folder)
}

fn make_one(path: &Path) -> Result<(), CacheError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(CacheError::io("create the folder", path)(error));
        }
        _ => {}
    }
    let found = fs::symlink_metadata(path).map_err(CacheError::io("look at the folder", path))?;
    match flaw(path, &found, rustix::process::geteuid().as_raw()) {
        Some(cause) => Err(CacheError::NotPrivate { path: path.to_owned(), cause }),
        None => Ok(()),
    }
}

/// Owner before mode: `chmod` would be the wrong advice on somebody else's folder.
fn flaw(path: &Path, found: &Metadata, user: u32) -> Option<String> {
    let (owner, mode) = (found.uid(), found.mode() & 0o777);
    if found.is_symlink() {
        Some("it is a symbolic link".to_owned())
    } else if !found.is_dir() {
        Some("it is no folder".to_owned())
    } else if owner != user {
        Some(format!("it belongs to user {owner}, while this process runs as user {user}"))
    } else if mode & 0o077 != 0 {
        Some(format!("others have rights on it (mode {mode:04o}); run `chmod 700 {}`", path.display()))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    use super::*;

    /// A folder `cw` for `cw/blobs`, neither of them made.
    fn places() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let outer = dir.path().join("cw");
        let inner = outer.join("blobs");
        (dir, outer, inner)
    }

    fn refused(folder: &Path, at_fault: &Path, cause: &str) {
        let error = make(folder).unwrap_err();
        assert!(matches!(&error, CacheError::NotPrivate { path, .. } if path == at_fault), "{error}");
        let line = error.to_string();
        assert!(line.contains(cause) && line.contains(at_fault.to_str().unwrap()), "{line}");
        assert!(!line.contains('\n'), "{line}");
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn both_folders_are_made_private_and_accepted_again() {
        let (_dir, outer, inner) = places();
        make(&inner).unwrap();
        make(&inner).unwrap();
        for path in [outer, inner] {
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn a_folder_that_others_may_enter_is_refused_with_the_remedy() {
        let (_dir, outer, inner) = places();
        make(&inner).unwrap();
        for (path, mode) in [(&inner, 0o750), (&inner, 0o701), (&outer, 0o755), (&outer, 0o720)] {
            set_mode(path, mode);
            refused(&inner, path, &format!("run `chmod 700 {}`", path.display()));
            set_mode(path, 0o700);
        }
        make(&inner).unwrap();
    }

    #[test]
    fn a_symbolic_link_is_refused_even_to_a_private_folder_and_even_dangling() {
        let (dir, outer, inner) = places();
        let elsewhere = dir.path().join("elsewhere");
        symlink(&elsewhere, &outer).unwrap();
        refused(&inner, &outer, "symbolic link");
        make(&elsewhere.join("blobs")).unwrap();
        refused(&inner, &outer, "symbolic link");

        fs::remove_file(&outer).unwrap();
        fs::create_dir(&outer).unwrap();
        set_mode(&outer, 0o700);
        symlink(elsewhere.join("blobs"), &inner).unwrap();
        refused(&inner, &inner, "symbolic link");
    }

    #[test]
    fn a_file_of_that_name_is_refused() {
        let (_dir, outer, inner) = places();
        fs::write(&outer, "").unwrap();
        refused(&inner, &outer, "no folder");
    }

    #[test]
    fn another_users_folder_is_refused() {
        let (_dir, outer, inner) = places();
        make(&inner).unwrap();
        let found = fs::symlink_metadata(&outer).unwrap();
        let cause = flaw(&outer, &found, found.uid() + 1).unwrap();
        assert!(cause.starts_with("it belongs to user"), "{cause}");
    }
}
