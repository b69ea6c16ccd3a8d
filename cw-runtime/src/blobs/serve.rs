//! Giving a blob away, chunk by chunk, also while it is still on its way here.

use std::{fs::File, os::unix::fs::FileExt, sync::Arc};

use bytes::BytesMut;
use tokio::sync::watch;

use super::{
    Outline, on_disk,
    talk::{self, Answer, From},
    tree::CHUNK_BYTES,
};

/// Streams of blobs wait for the lanes of tasks.
const PRIORITY: i32 = -1;

/// A blob that can be given away.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) outline: Arc<Outline>,
    pub(crate) file: Arc<File>,
    /// How many of its chunks are there, if it is still on its way. Closed if no more will come.
    pub(crate) ready: Option<watch::Receiver<u64>>,
}

/// Offers a blob on a stream where it was asked for, and sends what is wanted of it.
///
/// # Errors
/// The stream broke, or the blob did.
pub(crate) async fn serve(
    mut source: Source,
    send: &mut quinn::SendStream,
    receive: &mut quinn::RecvStream,
) -> Result<(), String> {
    talk::say(send, &Answer::Here((*source.outline).clone())).await?;
    let From { chunk } = talk::hear(receive, &mut BytesMut::new()).await?;
    let _ = send.set_priority(PRIORITY);
    for index in chunk..source.outline.chunk_count() {
        if let Some(ready) = &mut source.ready {
            let comes = ready.wait_for(|chunks| *chunks > index).await;
            comes.map_err(|_| "it did not come here as a whole".to_owned())?;
        }
        let (file, length) = (Arc::clone(&source.file), source.outline.chunk_len(index));
        let bytes = on_disk(move || read_chunk(&file, index, length)).await?;
        send.write_all(&bytes).await.map_err(|error| error.to_string())?;
    }
    send.finish().map_err(|error| error.to_string())?;
    // Until the other side has all of it, or none of it any more.
    let _ = send.stopped().await;
    Ok(())
}

fn read_chunk(file: &File, index: u64, length: usize) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; length];
    let read = file.read_exact_at(&mut bytes, index * CHUNK_BYTES as u64);
    read.map(|()| bytes).map_err(|error| format!("cannot read it: {error}"))
}
