//! What the processes say to each other.
//!
//! A frame is a length (u32, little endian) and so many bytes: a *head*, encoded by postcard, and a
//! *body*, the rest. The head is a message of ours; the body is the user's arguments or result, which
//! nobody but client and executor decodes, or a [`Failure`]. Enums are append-only: a variant's
//! number is its place.
//!
//! Wire types are not recursive and hold no zero-sized elements, so hostile bytes cost a refusal and
//! nothing else.

mod apart;
mod burst;
mod checkpoint;
mod client;
mod executor;
mod failure;
mod frame;
mod hello;
mod observe;
mod particulars;
mod printed;
mod stretch;
mod worker;

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

use crate::Payload;

pub use apart::{APART_WEIGHT, Apart};
pub(crate) use burst::join;
#[cfg(any(test, feature = "sim"))]
pub(crate) use burst::singles;
pub use burst::{BURST_BYTES_MAX, Entries, Entry, is_burst_args, is_burst_done, put_args, put_done};
pub use checkpoint::{Answer, Ask, STATE_BYTES_MAX};
pub use client::{Counts, FromClient, Output, Seconds, Spec, Stall, ToClient, Window};
pub use executor::{FromExecutor, ToExecutor};
pub use failure::{Class, Ending, Failure};
pub use frame::{
    FRAME_BYTES_MAX, FrameTooLong, Frames, PAYLOAD_BYTES_DEFAULT, PAYLOAD_BYTES_MAX, next_frame, whole_frames,
};
pub use hello::{
    Hello, HelloError, JobLine, PROTOCOL_MAX, PROTOCOL_MIN, Programs, Refusal, Reply, Role, Session, Token,
    Welcome, decode_hello, decode_reply, encode_hello, encode_reply,
};
pub use observe::{ClientStanding, FromObserver, Standing, ToObserver, WorkerStanding, WorkerState};
pub use particulars::{EXECUTOR_PROTOCOL, PARTICULARS_BYTES_MAX, Particulars};
pub use printed::{Printed, split_output};
pub use stretch::Stretch;
pub use worker::{Doing, FromWorker, Returned, ToWorker};

/// The head of a message: all of it that is ours.
pub trait Head: Serialize + DeserializeOwned {
    /// Whether bytes may follow the head.
    fn carries_body(&self) -> bool;

    /// Whether the message must not be overtaken, so that it is sent on every lane of a connection.
    /// Whoever receives it takes it twice without harm.
    fn on_every_lane(&self) -> bool {
        false
    }
}

/// A frame that is not a message. The peer that sent it is broken or hostile: its connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The head is cut short or names an unknown message.
    #[error("a message that cannot be decoded")]
    Head,
    /// A message without a body is followed by bytes.
    #[error("{0} bytes after a message")]
    Trailing(usize),
}

/// Appends one frame.
pub fn encode<H: Head>(head: &H, body: &[u8], out: &mut BytesMut) {
    encode_before(head, body.len(), out);
    out.put_slice(body);
}

/// Appends one frame but for its body of so many bytes, which is to follow. Heads of the hot path fit the buffer on the
/// stack; longer ones take the heap.
pub fn encode_before<H: Head>(head: &H, body_bytes: usize, out: &mut BytesMut) {
    let mut buffer = [0; 96];
    let mut put = |head: &[u8]| {
        let length = head.len() + body_bytes;
        out.reserve(4 + head.len());
        out.put_u32_le(u32::try_from(length).expect("payloads are at most 2 GiB"));
        out.put_slice(head);
    };
    match postcard::to_slice(head, &mut buffer) {
        Ok(head) => put(head),
        Err(_) => {
            put(&postcard::to_stdvec(head).expect("wire types are plain data, which postcard always encodes"));
        }
    }
}

/// Takes a frame's contents apart. The body shares the frame's memory.
///
/// # Errors
/// [`WireError`] if this is no message of the kind; a retry cannot help.
pub fn decode<H: Head>(frame: &Bytes) -> Result<(H, Payload), WireError> {
    decode_part(frame, 0..frame.len())
}

/// As [`decode`], of a frame's contents that lie among others.
///
/// # Errors
/// As there.
pub fn decode_part<H: Head>(frames: &Bytes, frame: Range<usize>) -> Result<(H, Payload), WireError> {
    let (head, rest): (H, &[u8]) =
        postcard::take_from_bytes(&frames[frame.clone()]).map_err(|_| WireError::Head)?;
    let rest = rest.len();
    if rest > 0 && !head.carries_body() {
        return Err(WireError::Trailing(rest));
    }
    Ok((head, Payload::part_of(frames, frame.end - rest..frame.end)))
}
