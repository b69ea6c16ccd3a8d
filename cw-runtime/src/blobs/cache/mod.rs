//! The blobs this node has, in a folder that all processes of one user here share: workers, a master, in any
//! number, each of which may be killed at any moment. Knows files and locks, not where blobs come from.
//!
//! The folder holds `<id>` for each complete blob, and `<id>.part` for one on its way. A complete one comes about
//! by a rename, so it is there as a whole or not at all; an unfinished one is written by who has its lock. The
//! file system is the only thing these processes have in common, so nothing else needs to be right after a kill.

mod error;
mod evict;
mod lock;
mod part;
mod private;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags};

pub(crate) use self::error::CacheError;
use self::lock::{Attempt, LockedFile};
pub(crate) use self::part::Part;
use crate::blobs::tree::{BlobId, Outline};

const PART_SUFFIX: &str = ".part";

/// Each further attempt means that somebody else came to an end in between; so many in a row do not happen.
const ATTEMPTS_MAX: usize = 16;

/// A node's blobs. Cheap to clone; nothing is open between calls, and all calls may wait for the disk.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    limit_bytes: u64,
}

/// How things stand with a blob that somebody wants to fetch.
#[derive(Debug)]
pub(crate) enum Begin {
    /// It is complete; open for reading, unchecked as with [`Cache::find`].
    Here(File),
    /// Another process, or another [`Part`] of this one, fetches it just now: look again later.
    Busy,
    /// The caller is the one to fetch it.
    Part(Part),
}

impl Cache {
    /// The cache in that folder, which is created where it is missing, as is the one it lies in.
    ///
    /// The limit is for all complete blobs together; it is kept whenever a blob is finished through this value.
    /// Unfinished ones come on top of it.
    ///
    /// # Errors
    /// `NotPrivate` when either folder is a link, another user's, or open to others; `Io` or `Full` when they
    /// cannot be created.
    pub(crate) fn open(folder: PathBuf, limit_bytes: u64) -> Result<Self, CacheError> {
        let absolute = std::path::absolute(&folder).map_err(CacheError::io("find", &folder))?;
        // Without a slash at the end, with which a link would look like the folder it leads to.
        let folder = absolute.components().collect::<PathBuf>();
        private::make(&folder)?;
        Ok(Self { folder, limit_bytes })
    }

    /// A complete blob, open for reading and marked as just used; `None` also when it cannot be opened.
    ///
    /// Its content is not checked: who copies it does that on the way, and calls [`discard`](Self::discard) when it
    /// is damaged. The handle stays good when the blob is removed meanwhile.
    pub(crate) fn find(&self, id: BlobId) -> Option<File> {
        let file = open_to_read(&self.blob_path(id)).ok()?;
        // Without the mark it may go a little early, which is no reason to do without it now.
        let _ = file.set_modified(SystemTime::now());
        Some(file)
    }

    /// Removes a complete blob that turned out to be damaged; that it is gone already is fine.
    ///
    /// # Errors
    /// `Io` when it stays.
    pub(crate) fn discard(&self, id: BlobId) -> Result<(), CacheError> {
        let path = self.blob_path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(CacheError::io("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// Begins to fetch a blob, or goes on where a killed process stopped, unless somebody else is at it.
    ///
    /// It waits for nobody, but reads all that is there of an unfinished blob.
    ///
    /// # Errors
    /// `TooBig`, `BadOutline`, and those of [`open`](Self::open).
    pub(crate) fn begin(&self, id: BlobId, outline: &Outline) -> Result<Begin, CacheError> {
        if let Some(file) = self.find(id) {
            return Ok(Begin::Here(file));
        }
        self.admit(id, outline)?;
        // Once more, as something that cleans up `/tmp` may have removed it.
        private::make(&self.folder)?;
        let path = self.part_path(id);
        for _ in 0..ATTEMPTS_MAX {
            match LockedFile::attempt(&path, true).map_err(CacheError::io("open and lock", &path))? {
                Attempt::Locked(file) => return self.begin_locked(id, outline, file),
                Attempt::Held => return Ok(Begin::Busy),
                Attempt::Moved => {}
            }
        }
        Ok(Begin::Busy)
    }

    /// How much has come of a blob that is being fetched, here or by another process; `None` if none is.
    pub(crate) fn part_bytes(&self, id: BlobId) -> Option<u64> {
        fs::metadata(self.part_path(id)).ok().map(|it| it.len())
    }

    fn admit(&self, id: BlobId, outline: &Outline) -> Result<(), CacheError> {
        let (bytes, limit_bytes) = (outline.bytes, self.limit_bytes);
        if bytes > limit_bytes {
            return Err(CacheError::TooBig { folder: self.folder.clone(), bytes, limit_bytes });
        }
        if !outline.is_of(id) {
            return Err(CacheError::BadOutline { path: self.blob_path(id) });
        }
        Ok(())
    }

    fn begin_locked(&self, id: BlobId, outline: &Outline, file: LockedFile) -> Result<Begin, CacheError> {
        // Somebody may have finished it after we looked; what we have locked is then a new, empty file.
        if let Some(found) = self.find(id) {
            let _ = fs::remove_file(self.part_path(id));
            return Ok(Begin::Here(found));
        }
        Part::resume(self.clone(), id, outline.clone(), file).map(Begin::Part)
    }

    fn blob_path(&self, id: BlobId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    fn part_path(&self, id: BlobId) -> PathBuf {
        self.folder.join(format!("{id}{PART_SUFFIX}"))
    }
}

fn open_to_read(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}
