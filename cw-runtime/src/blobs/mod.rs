//! Blobs: content by its hash, from wherever it is to the nodes that want it.
//!
//! `tree` names content and checks it piece by piece; `cache` keeps it on a node for all processes of one user there;
//! `talk` is what two processes say about one, over a stream of its own; `fetch` gets one into the cache, `serve` gives
//! one away, also while it is still on its way, `pass` passes one on that nobody on its way need keep.
//!
//! Nothing here is trusted but hashes: whoever serves a blob can be anybody who was let in.

pub(crate) mod cache;
pub(crate) mod fetch;
pub(crate) mod pass;
pub(crate) mod rooms;
pub(crate) mod serve;
pub(crate) mod talk;
pub(crate) mod tree;

pub(crate) use tree::{BlobId, Outline};

use std::path::PathBuf;

use crate::executor::scratch;

/// Where a node's blobs are: `$TMPDIR/cw-UID/blobs`.
pub(crate) fn folder() -> PathBuf {
    scratch::root().join("blobs")
}

/// Runs what may wait for a disk where nobody else has to wait for it.
pub(crate) async fn on_disk<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(call).await.unwrap_or_else(|error| Err(format!("a fault in cw: {error}")))
}
