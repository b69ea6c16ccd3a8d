//! Private files: read with distrust, written whole. Knows modes and owners, not what the files mean.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{AccessError, AccessErrorKind};

/// The format of all files of a cluster.
pub(super) const FORMAT_VERSION: u64 = 1;

/// No file of ours comes near; what is larger is something else.
const FILE_BYTES_MAX: u64 = 1 << 20;

const PERMISSION_BITS: u32 = 0o777;
const OTHERS_BITS: u32 = 0o077;

/// Every file starts with its version, whatever else a later build may have changed.
#[derive(serde::Deserialize)]
struct Head {
    version: u64,
}

/// Reads a private JSON file of this format; `None` when there is none.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, AccessError> {
    let Some(bytes) = read_private(path, FILE_BYTES_MAX)? else {
        return Ok(None);
    };
    let head: Head = parse(path, &bytes)?;
    if head.version != FORMAT_VERSION {
        let kind = AccessErrorKind::Version { found: head.version, known: FORMAT_VERSION };
        return Err(AccessError::new(path, kind));
    }
    parse(path, &bytes).map(Some)
}

/// Replaces a private JSON file as a whole: a reader sees the old one or the new one, also after a crash.
pub(super) fn write<T: Serialize>(path: &Path, content: &T) -> Result<(), AccessError> {
    let mut bytes = serde_json::to_vec_pretty(content).expect("strings and numbers become JSON");
    bytes.push(b'\n');
    write_bytes(path, &bytes)
}

/// Replaces a private file of any content as a whole.
pub(super) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), AccessError> {
    let dir = path.parent().expect("our files lie in a folder");
    replace(dir, path, bytes).map_err(AccessError::io(path, "write it"))
}

/// Makes sure of a folder that only this user may enter, and creates it where it is missing.
pub(super) fn private_dir(path: &Path) -> Result<(), AccessError> {
    // The mode holds from the start for each folder made; existing ones are left as they are.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(AccessError::io(path, "create the folder"))?;
    let found = fs::metadata(path).map_err(AccessError::io(path, "look at the folder"))?;
    check_private(path, &found, 0o700)
}

/// Opens a private file for keeping, and creates it where it is missing.
pub(super) fn open_private(path: &Path) -> Result<File, AccessError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR);
    let file = File::from(file.map_err(|e| AccessError::io(path, "open it")(e.into()))?);
    let found = file.metadata().map_err(AccessError::io(path, "look at it"))?;
    check_private(path, &found, 0o600)?;
    Ok(file)
}

/// The bytes of a private file of at most so many; `None` when there is none.
pub(super) fn read_private(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, AccessError> {
    let unreadable = |source| AccessError::new(path, AccessErrorKind::Unreadable(source));
    let file = match open_to_read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    // Looked at through the open file: a path could name another one by now. A symbolic link is fine, as it is
    // the file at its end that has to be the user's own.
    let found = file.metadata().map_err(unreadable)?;
    if !found.is_file() {
        return Err(malformed(path, "it is no regular file"));
    }
    check_private(path, &found, 0o600)?;
    // All of it is read in one go, and that there is no more in another.
    let room = usize::try_from(found.len().min(bytes_max) + 1).unwrap_or_default();
    let mut bytes = Vec::with_capacity(room);
    file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > bytes_max {
        return Err(malformed(path, "it is too large"));
    }
    Ok(Some(bytes))
}

fn open_to_read(path: &Path) -> io::Result<File> {
    // NONBLOCK keeps a named pipe from making us wait for its writer; regular files do not know it.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// Says where a file stops making sense, and nothing of what stands there: it may be a key.
fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, AccessError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let cause = match error.classify() {
            serde_json::error::Category::Eof => "it is cut short",
            serde_json::error::Category::Data => "a field is missing or of another kind",
            _ => "it is no JSON",
        };
        malformed(path, &format!("{cause} (line {line}, column {column})"))
    })
}

pub(super) fn malformed(path: &Path, cause: &str) -> AccessError {
    AccessError::new(path, AccessErrorKind::Malformed(cause.to_owned()))
}

fn check_private(path: &Path, found: &Metadata, mode: u32) -> Result<(), AccessError> {
    let user = rustix::process::geteuid().as_raw();
    check(path, found.uid(), found.mode() & PERMISSION_BITS, user, mode)
}

/// The rule itself. Owner first: `chmod` would be the wrong advice on somebody else's file.
fn check(path: &Path, owner: u32, mode: u32, user: u32, wanted: u32) -> Result<(), AccessError> {
    let kind = if owner != user {
        AccessErrorKind::Owner { owner, user }
    } else if mode & OTHERS_BITS != 0 {
        AccessErrorKind::Permissions { mode, fix: format!("chmod {wanted:o} {}", path.display()) }
    } else {
        return Ok(());
    };
    Err(AccessError::new(path, kind))
}

fn replace(dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    // tempfile creates with O_EXCL and mode 0600, under a name nobody can have prepared.
    let mut file = tempfile::Builder::new().prefix(".cw-").suffix(".new").tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The rename itself must survive a power cut, or the epoch could be given out twice.
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Note {
        version: u64,
        text: String,
    }

    fn note(text: &str) -> Note {
        Note { version: FORMAT_VERSION, text: text.into() }
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("note.json");
        (dir, path)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & PERMISSION_BITS
    }

    /// Writes whatever bytes with mode 0600.
    fn put(path: &Path, bytes: &[u8]) {
        open_private(path).unwrap().write_all(bytes).unwrap();
    }

    fn refusal(path: &Path) -> AccessErrorKind {
        let error = read::<Note>(path).unwrap_err();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        error.kind
    }

    #[test]
    fn what_was_written_is_read() {
        let (_dir, path) = place();
        assert_eq!(read::<Note>(&path).unwrap(), None);
        write(&path, &note("a")).unwrap();
        assert_eq!(read::<Note>(&path).unwrap(), Some(note("a")));
    }

    #[test]
    fn rewriting_keeps_0600_and_leaves_nothing_behind() {
        let (dir, path) = place();
        write(&path, &note("a")).unwrap();
        assert_eq!(mode(&path), 0o600);
        let first = fs::metadata(&path).unwrap().ino();
        write(&path, &note("b")).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_ne!(fs::metadata(&path).unwrap().ino(), first, "replaced, not overwritten");
        assert_eq!(read::<Note>(&path).unwrap(), Some(note("b")));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn rights_of_others_are_refused_with_the_fix() {
        let (_dir, path) = place();
        write(&path, &note("a")).unwrap();
        for bits in [0o640, 0o604, 0o620, 0o601, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
            let AccessErrorKind::Permissions { mode, fix } = refusal(&path) else {
                panic!("mode {bits:o} must be refused");
            };
            assert_eq!(mode, bits);
            assert_eq!(fix, format!("chmod 600 {}", path.display()));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(read::<Note>(&path).is_ok());
    }

    #[test]
    fn another_owner_is_refused_before_the_mode_is_looked_at() {
        let error = check(Path::new("x"), 1001, 0o666, 1000, 0o600).unwrap_err();
        assert!(matches!(error.kind, AccessErrorKind::Owner { owner: 1001, user: 1000 }));
        assert!(check(Path::new("x"), 1000, 0o600, 1000, 0o600).is_ok());
        let root = check(Path::new("x"), 1001, 0o600, 0, 0o600).unwrap_err();
        assert!(matches!(root.kind, AccessErrorKind::Owner { .. }), "root reads no stranger's keys");
    }

    #[test]
    fn garbage_is_refused_without_being_repeated() {
        let (_dir, path) = place();
        for (bytes, cause) in [
            (b"secretsecret".as_slice(), "no JSON"),
            (b"", "cut short"),
            (b"\xff\xfe\x00", "no JSON"),
            (b"{\"version\":\"secret\"}", "another kind"),
            (b"{\"version\":1,\"text\":[\"secret\"]}", "another kind"),
            (b"{\"version\":1", "cut short"),
        ] {
            let _ = fs::remove_file(&path);
            put(&path, bytes);
            let AccessErrorKind::Malformed(text) = refusal(&path) else {
                panic!("{bytes:?} must be malformed");
            };
            assert!(text.contains(cause) && !text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn another_version_is_refused_even_with_other_fields() {
        let (_dir, path) = place();
        put(&path, br#"{"version": 2, "shape": "new"}"#);
        assert!(matches!(refusal(&path), AccessErrorKind::Version { found: 2, known: 1 }));
    }

    #[test]
    fn only_regular_files_of_a_sane_size() {
        let (dir, path) = place();
        assert!(matches!(refusal(dir.path()), AccessErrorKind::Malformed(_)));
        put(&path, &vec![b' '; FILE_BYTES_MAX as usize + 1]);
        assert!(matches!(refusal(&path), AccessErrorKind::Malformed(_)));
        let below = path.join("file-as-folder");
        assert!(matches!(refusal(&below), AccessErrorKind::Unreadable(_)));
    }

    #[test]
    fn a_link_counts_by_the_file_at_its_end() {
        let (dir, path) = place();
        let link = dir.path().join("link.json");
        symlink(&path, &link).unwrap();
        write(&path, &note("a")).unwrap();
        assert_eq!(read::<Note>(&link).unwrap(), Some(note("a")));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(refusal(&link), AccessErrorKind::Permissions { .. }));
        assert!(open_private(&link).is_err(), "but none is followed for writing");
    }

    #[test]
    fn a_folder_is_made_private_and_a_public_one_refused() {
        let (dir, _) = place();
        let nested = dir.path().join("home").join("cluster");
        private_dir(&nested).unwrap();
        assert_eq!((mode(&nested), mode(nested.parent().unwrap())), (0o700, 0o700));
        private_dir(&nested).unwrap();
        fs::set_permissions(&nested, fs::Permissions::from_mode(0o755)).unwrap();
        let error = private_dir(&nested).unwrap_err();
        assert!(error.to_string().contains(&format!("`chmod 700 {}`", nested.display())));
    }
}
