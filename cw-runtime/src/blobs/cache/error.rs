//! Why a blob cannot be kept here, each on one line with the path and the cause.

use std::io;
use std::path::{Path, PathBuf};

/// A blob, or the folder of them, that cannot be used.
///
/// `Display` says all of it, so there is no `source()`. Trying again helps with [`Full`](Self::Full), once there
/// is room, and maybe with [`Io`](Self::Io); after a [`Mismatch`](Self::Mismatch) with the chunk from elsewhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    /// Others could read or replace what we keep there.
    #[error("keep blobs in {}: {cause}", path.display())]
    NotPrivate {
        /// The folder, or the one it lies in.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The blob alone is over the limit of this cache.
    #[error("keep a blob of {bytes} bytes in {}: the limit there is {limit_bytes} bytes", folder.display())]
    TooBig {
        /// The cache's folder.
        folder: PathBuf,
        /// The size of the blob.
        bytes: u64,
        /// The limit for all blobs together.
        limit_bytes: u64,
    },
    /// The disk, or the user's quota on it, is used up.
    #[error("write to {}: it is full ({cause})", folder.display())]
    Full {
        /// The cache's folder.
        folder: PathBuf,
        /// What the system said: a full disk and a full quota have different remedies.
        cause: io::Error,
    },
    /// These bytes are not the next chunk of the blob: whoever sent them is at fault, not this node.
    #[error("put chunk {chunk} into {}: it is not of this blob", path.display())]
    Mismatch {
        /// The unfinished file; nothing was written to it.
        path: PathBuf,
        /// The chunk, counted from 0.
        chunk: u64,
    },
    /// The outline does not merge to the id: whoever sent it is at fault, not this node.
    #[error("fetch {}: the outline is not of this blob", path.display())]
    BadOutline {
        /// Where the blob would have been put.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{doing} {}: {cause}", path.display())]
    Io {
        /// What was tried, as in "create".
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
}

impl CacheError {
    /// For use in `map_err`: a step with a file of a cache's folder that the file system refused.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { folder: path.parent().unwrap_or(path).to_owned(), cause }
            }
            _ => Self::Io { doing, path: path.to_owned(), cause },
        }
    }
}
