//! A blob on its way: chunks go in one by one, in order, each checked before it is written.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::time::SystemTime;

use super::error::CacheError;
use super::lock::LockedFile;
use super::{Cache, evict};
use crate::blobs::tree::{BlobId, CHUNK_BYTES, Outline};

/// The one unfinished file of a blob on this node, which nobody else writes while this lives.
///
/// Dropping it keeps what has come, and lets somebody else go on from there. All calls may wait for the disk.
#[derive(Debug)]
pub(crate) struct Part {
    cache: Cache,
    id: BlobId,
    outline: Outline,
    file: LockedFile,
    next: u64,
}

impl Part {
    /// Goes on with what an earlier holder left; its chunks are checked, as it may have been killed in a write.
    ///
    /// The outline must be of that id.
    pub(super) fn resume(
        cache: Cache,
        id: BlobId,
        outline: Outline,
        file: LockedFile,
    ) -> Result<Self, CacheError> {
        let mut part = Self { cache, id, outline, file, next: 0 };
        part.next = part.good_chunks();
        // What follows is damaged or half a chunk: a reader shall come to the end instead.
        let good_bytes = part.outline.bytes.min(offset(part.next));
        part.file.set_len(good_bytes).map_err(CacheError::io("shorten", &part.path()))?;
        Ok(part)
    }

    /// How many chunks at the start of the file are right. One that cannot be read counts as one to fetch again.
    fn good_chunks(&self) -> u64 {
        let mut buffer = Vec::new();
        let is_good = |index: &u64| {
            buffer.resize(self.outline.chunk_len(*index), 0);
            let read = self.file.read_exact_at(&mut buffer, offset(*index));
            read.is_ok() && self.outline.fits(self.id, *index, &buffer)
        };
        (0..self.outline.chunk_count()).take_while(is_good).count() as u64
    }

    /// The chunk that [`put`](Self::put) waits for, counted from 0; all are there once it is the outline's count.
    pub(crate) fn next_chunk(&self) -> u64 {
        self.next
    }

    /// Takes the next chunk. After an error it waits for the same one again.
    ///
    /// # Errors
    /// `Mismatch` when the bytes are not that chunk, `Full` when there is no room, `Io` otherwise.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), CacheError> {
        let path = self.path();
        if !self.outline.fits(self.id, self.next, bytes) {
            return Err(CacheError::Mismatch { path, chunk: self.next });
        }
        let written = self.file.write_all_at(bytes, offset(self.next));
        written.map_err(CacheError::io("write", &path))?;
        self.next += 1;
        Ok(())
    }

    /// A handle of its own on the growing file, for serving the chunks before [`next_chunk`](Self::next_chunk).
    ///
    /// It outlives the part, also when that is finished. It is opened anew rather than duplicated, as a duplicate
    /// would hold the lock too.
    ///
    /// # Errors
    /// What the system says; `NotFound` when something else has removed the file.
    pub(crate) fn reader(&self) -> io::Result<File> {
        let path = self.path();
        let file = super::open_to_read(&path)?;
        // Something that cleans up `/tmp` knows no locks; another holder may have begun anew since.
        if self.file.is_at(&path)? { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Makes the blob one of those that are here, and makes room for it under the cache's limit.
    ///
    /// Nothing is forced to the disk: after a power failure a blob may be damaged, and who copies it checks it.
    ///
    /// # Errors
    /// `Io`; with the cause `UnexpectedEof` when chunks are missing, and `NotFound` when something else has
    /// removed the file.
    pub(crate) fn finish(self) -> Result<File, CacheError> {
        let (part_path, path) = (self.path(), self.cache.blob_path(self.id));
        if self.next < self.outline.chunk_count() {
            return Err(CacheError::io("finish", &part_path)(self.missing()));
        }
        let file = self.reader().map_err(CacheError::io("open", &part_path))?;
        let _ = self.file.set_modified(SystemTime::now());
        fs::rename(&part_path, &path).map_err(CacheError::io("rename", &part_path))?;
        // After the rename: a leftover that may not be written could not be gone on with, if we are killed here.
        let _ = self.file.set_permissions(Permissions::from_mode(0o400));
        evict::make_room(&self.cache, self.id);
        Ok(file)
    }

    fn missing(&self) -> io::Error {
        let text = format!("only {} of {} chunks are there", self.next, self.outline.chunk_count());
        io::Error::new(io::ErrorKind::UnexpectedEof, text)
    }

    fn path(&self) -> PathBuf {
        self.cache.part_path(self.id)
    }
}

fn offset(chunk: u64) -> u64 {
    chunk * CHUNK_BYTES as u64
}
