//! Files that are read where the kernel has them, without a copy: those of this user's private folders, which nobody changes
//! while they are in use.

use std::{io, path::Path};

use mmap_guard::{FileData, map_file};

/// The bytes of a file. One that cannot be mapped, as it is empty or its file system has no locks, is read.
///
/// # Errors
/// What the system says.
pub(crate) fn open(path: &Path) -> io::Result<FileData> {
    map_file(path).or_else(|_| std::fs::read(path).map(FileData::Loaded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_read_and_a_missing_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert_eq!(open(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::write(&path, "").unwrap();
        assert_eq!(&*open(&path).unwrap(), b"");
        std::fs::write(&path, "abc").unwrap();
        let mapped = open(&path).unwrap();
        assert!(matches!(mapped, FileData::Mapped(..)));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(&*mapped, b"abc", "it stays as long as it is open");
    }
}
