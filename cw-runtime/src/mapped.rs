//! Files that are read where the kernel has them, without a copy: those of this user's private folders, which nobody changes
//! while they are in use.

use std::{io, path::Path, time::Duration};

use mmap_guard::{FileData, map_file};

/// Less is read: a mapped file is an open one too, of which a process may have a thousand.
const MAPPED_BYTES: u64 = 64 << 10;

/// Who fetches a file holds its lock for a moment after it is complete.
const LOCKED_PAUSES: u32 = 100;
const LOCKED_PAUSE: Duration = Duration::from_millis(1);

/// The bytes of a file. One that is small, or cannot be mapped, as its file system has no locks, is read.
///
/// A disk that fails later ends the process that looks at what is mapped (`SIGBUS`).
///
/// # Errors
/// What the system says.
pub(crate) fn open(path: &Path) -> io::Result<FileData> {
    if std::fs::metadata(path)?.len() >= MAPPED_BYTES {
        for _ in 0..LOCKED_PAUSES {
            match map_file(path) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(LOCKED_PAUSE),
                Err(_) => break,
                mapped => return mapped,
            }
        }
    }
    std::fs::read(path).map(FileData::Loaded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_big_file_is_mapped_a_small_one_is_read_and_a_missing_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(open(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::write(&path, "").unwrap();
        assert_eq!(&*open(&path).unwrap(), b"");
        std::fs::write(&path, "abc").unwrap();
        assert!(matches!(open(&path).unwrap(), FileData::Loaded(_)));
        let content = vec![7; 100_000];
        std::fs::write(&path, &content).unwrap();
        let mapped = open(&path).unwrap();
        assert!(matches!(mapped, FileData::Mapped(..)));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&*mapped, content, "it stays as long as it is open");
    }
}
