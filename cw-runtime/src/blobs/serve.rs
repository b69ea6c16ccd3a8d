//! Giving a blob away, chunk by chunk, also while it is still on its way here.

use std::{fs::File, os::unix::fs::FileExt, sync::Arc};

use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

use super::{
    BlobId, Outline, on_disk,
    talk::{self, Answer, Start},
    tree::CHUNK_BYTES,
};

/// Streams of blobs wait for the lanes of tasks.
pub(super) const PRIORITY: i32 = -1;

/// Why a blob was not given away.
#[derive(Debug)]
pub(crate) enum Unserved {
    /// The other side is gone, or is stuck.
    Broken(String),
    /// What is here is not the blob.
    Damaged,
}

impl From<String> for Unserved {
    fn from(why: String) -> Self {
        Self::Broken(why)
    }
}

/// A blob that can be given away.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) id: BlobId,
    pub(crate) outline: Arc<Outline>,
    pub(crate) content: Content,
    /// How many of its chunks are there, if it is still on its way. Closed if no more will come.
    pub(crate) ready: Option<watch::Receiver<u64>>,
}

/// Where a blob's bytes are.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// In a file, which somebody may have damaged.
    File(Arc<File>),
    /// In this process's own memory.
    Memory(Bytes),
}

impl Source {
    /// A blob that is complete in a file.
    pub(crate) fn in_file(id: BlobId, outline: Arc<Outline>, file: File) -> Self {
        Self { id, outline, content: Content::File(Arc::new(file)), ready: None }
    }

    /// A blob that is complete in memory.
    pub(crate) fn in_memory(id: BlobId, outline: Arc<Outline>, bytes: Bytes) -> Self {
        Self { id, outline, content: Content::Memory(bytes), ready: None }
    }

    /// One of its chunks; none if what is here is not the blob.
    async fn chunk(&self, index: u64) -> Result<Option<Bytes>, String> {
        let length = self.outline.chunk_len(index);
        let file = match &self.content {
            Content::Memory(bytes) => {
                let from = usize::try_from(index).unwrap_or(usize::MAX).saturating_mul(CHUNK_BYTES);
                let fits = bytes.len() >= from.saturating_add(length);
                return Ok(fits.then(|| bytes.slice(from..from + length)));
            }
            Content::File(file) => Arc::clone(file),
        };
        let bytes = on_disk(move || Ok(read_chunk(&file, index, length))).await?;
        // Whoever gets it would see it too, but could not mend it.
        Ok(bytes.filter(|bytes| self.outline.fits(self.id, index, bytes)).map(Bytes::from))
    }
}

/// Offers a blob on a stream where it was asked for, and sends what is wanted of it.
///
/// # Errors
/// The stream broke, or the blob did.
pub(crate) async fn serve(
    mut source: Source,
    send: &mut quinn::SendStream,
    receive: &mut quinn::RecvStream,
) -> Result<(), Unserved> {
    talk::say(send, &Answer::Here((*source.outline).clone())).await?;
    let Start { chunk } = talk::hear(receive, &mut BytesMut::new()).await?;
    let _ = send.set_priority(PRIORITY);
    for index in chunk..source.outline.chunk_count() {
        if let Some(ready) = &mut source.ready {
            let comes = ready.wait_for(|chunks| *chunks > index);
            let comes =
                async { comes.await.map(drop).map_err(|_| "it did not come here as a whole".to_owned()) };
            talk::in_time(comes).await?;
        }
        let bytes = source.chunk(index).await?.ok_or(Unserved::Damaged)?;
        talk::in_time(async { send.write_chunk(bytes).await.map_err(|error| error.to_string()) }).await?;
    }
    Ok(wait_for_end(send).await?)
}

/// Ends a stream and waits until the other side has all of it, or wants none of it any more.
pub(super) async fn wait_for_end(send: &mut quinn::SendStream) -> Result<(), String> {
    send.finish().map_err(|error| error.to_string())?;
    let _ = tokio::time::timeout(talk::PATIENCE, send.stopped()).await;
    Ok(())
}

fn read_chunk(file: &File, index: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, index * CHUNK_BYTES as u64).ok()?;
    Some(bytes)
}
