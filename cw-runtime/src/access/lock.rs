//! Locks on files of a cluster's folder, for whoever changes what lies there.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use super::dir::ClusterDir;
use super::error::AccessError;
use super::{addresses, files};

/// So often a lock is tried for whose file is removed each time.
const TRIES: u32 = 100;

/// The right to do what its file stands for, as long as it is kept. The system takes it back when the process ends.
#[derive(Debug)]
pub(crate) struct FolderLock {
    file: File,
}

impl ClusterDir {
    /// Takes the lock on a file of this folder, without waiting, and makes the file where it is missing. If somebody else
    /// has it, gives what that one has noted there.
    ///
    /// # Errors
    /// There is no folder, or the file is not private or cannot be locked.
    pub(crate) fn hold(&self, name: &str) -> Result<Result<FolderLock, String>, AccessError> {
        let path = self.path().join(name);
        for _ in 0..TRIES {
            let file = files::open_private(&path)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => {
                    // What an earlier holder has noted is not about this one.
                    file.set_len(0).map_err(AccessError::io(&path, "write it"))?;
                    return Ok(Ok(FolderLock { file }));
                }
                // Its holder has just removed the folder; there may be another by now.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(Err(noted(&file))),
                Err(TryLockError::Error(e)) => return Err(AccessError::io(&path, "lock it")(e)),
            }
        }
        let error = std::io::Error::other("it is removed again and again");
        Err(AccessError::io(&path, "lock it")(error))
    }
}

impl FolderLock {
    /// Leaves process id, host and a word for those who find it held.
    pub(crate) fn note(&self, word: &str) {
        let host = addresses::host_name().unwrap_or_else(|| "?".to_owned());
        let mut file = &self.file;
        // It is for people only: the lock holds without.
        let _ = file.rewind().and_then(|()| writeln!(file, "{} {host} {word}", std::process::id()));
    }

    /// Shows, also to those who cannot see the lock, that it is still held.
    pub(crate) fn touch(&self) {
        let _ = self.file.set_modified(SystemTime::now());
    }
}

/// Whether the file is still the one at this path.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), fs::metadata(path)) else { return false };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

fn noted(file: &File) -> String {
    let mut text = String::new();
    let _ = file.take(1024).read_to_string(&mut text);
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_it_and_others_read_who() {
        let home = tempfile::tempdir().unwrap();
        let dir = ClusterDir::in_home(home.path(), "test").unwrap();
        assert!(dir.hold("x.lock").is_err(), "there is no folder");
        dir.make().unwrap();
        let lock = dir.hold("x.lock").unwrap().unwrap();
        assert_eq!(dir.hold("x.lock").unwrap().unwrap_err(), "");
        lock.note("start");
        let noted = dir.hold("x.lock").unwrap().unwrap_err();
        assert!(
            noted.starts_with(&format!("{} ", std::process::id())) && noted.ends_with(" start"),
            "{noted}"
        );
        drop(lock);
        let _next = dir.hold("x.lock").unwrap().unwrap();
        assert_eq!(dir.hold("x.lock").unwrap().unwrap_err(), "", "the first one's note is gone");
    }

    #[test]
    fn a_lock_on_what_was_removed_is_none() {
        let home = tempfile::tempdir().unwrap();
        let dir = ClusterDir::in_home(home.path(), "test").unwrap();
        dir.make().unwrap();
        let path = dir.path().join("x.lock");
        let old = dir.hold("x.lock").unwrap().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!is_at(&old.file, &path));
        let _new = dir.hold("x.lock").unwrap().unwrap();
        assert!(!is_at(&old.file, &path), "another file is there");
    }
}
