//! What is said about a blob, on a stream that the asking side opens:
//!
//! ```text
//! asks                          answers
//! Ask::Blob(wish)       ---->
//!                       <----   Answer::Here(outline)   or At(..), Gone(why), Away(why): the end
//! Start { chunk }       ---->
//!                       <----   the chunks from there on, bare, to the end of the stream
//! ```
//!
//! Words are frames as everywhere: a length and postcard. Each side may end the stream at any point; the asking one goes
//! on later, from the first chunk it lacks.

use std::{future::Future, net::SocketAddr, time::Duration};

use bytes::BytesMut;
use cw_core::ids::ProgramId;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::tree::{BlobId, Outline};
use crate::net::link::read_frame;

/// Whoever neither sends nor takes anything for so long is given up: others wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// Longest word taken: the outline of the greatest blob fits.
const WORD_BYTES_MAX: usize = 4 << 20;

/// The first word on a stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// A blob is wanted.
    Blob(Wish),
    /// This worker serves other workers.
    Serves {
        /// At this port of its address.
        port: u16,
    },
    /// This worker has a blob that it got from another.
    Has {
        /// Which.
        id: BlobId,
    },
}

/// A blob that is wanted.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Wish {
    pub(crate) id: BlobId,
    /// Of which program's clients it can be had.
    pub(crate) program: ProgramId,
    /// Whether other nodes were asked in vain.
    pub(crate) others_failed: bool,
    /// Whether it is only the arguments of a task, which nobody need keep.
    pub(crate) passing: bool,
}

impl Wish {
    /// For something that is kept wherever it comes through.
    pub(crate) fn of(id: BlobId, program: ProgramId) -> Self {
        Self { id, program, others_failed: false, passing: false }
    }
}

/// What follows when a blob was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It is here, or comes as it is read.
    Here(Outline),
    /// Ask one of those first, each of which has it.
    At(Vec<SocketAddr>),
    /// It cannot be had here.
    Gone(String),
    /// Nobody who could give it is here for now.
    Away(String),
}

/// Where to begin.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) chunk: u64,
}

/// Says a word.
///
/// # Errors
/// The stream has ended.
pub(crate) async fn say(send: &mut quinn::SendStream, word: &impl Serialize) -> Result<(), String> {
    let word = postcard::to_stdvec(word).expect("plain data, which postcard always encodes");
    let length = u32::try_from(word.len()).expect("outlines are short").to_le_bytes();
    let word = [&length[..], &word].concat();
    in_time(async { send.write_all(&word).await.map_err(|error| error.to_string()) }).await
}

/// Waits for a step of a transfer, but not for ever.
///
/// # Errors
/// The step's own, or nothing moved for [`PATIENCE`].
pub(crate) async fn in_time<T>(step: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let stuck = |_| Err(format!("nothing moved for {} s", PATIENCE.as_secs()));
    tokio::time::timeout(PATIENCE, step).await.unwrap_or_else(stuck)
}

/// Reads a word; `buffer` keeps what was read beyond it.
///
/// # Errors
/// The stream has ended, or this is no such word.
pub(crate) async fn hear<T: DeserializeOwned>(
    receive: &mut quinn::RecvStream,
    buffer: &mut BytesMut,
) -> Result<T, String> {
    let frame = in_time(read_frame(receive, buffer, WORD_BYTES_MAX)).await?;
    postcard::from_bytes(&frame).map_err(|_| "a word about a blob that cannot be decoded".to_owned())
}
