//! The frames of the reference: as many bytes as `cw` sends for the same task, and nothing in them but an id.
//!
//! A frame is its length (u32, little endian, of what follows), a head, a payload. The head's first four bytes are
//! the kind and a 24-bit id; the rest is zeros that stand for what `cw` says there.

use std::{
    io, mem,
    sync::{Mutex, PoisonError},
};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::Notify,
};

pub(super) const LENGTH_BYTES: usize = 4;
const KIND_AND_ID_BYTES: usize = 4;

// The sizes of `cw`'s frames, without the length before them. Keep in step with its `wire` module.
const TASK_HEAD_BYTES: usize = 8;
const RESULT_HEAD_BYTES: usize = TASK_HEAD_BYTES + 4;
const ACKNOWLEDGEMENT_BYTES: usize = 4;

/// The argument and the result of a no-op: one small integer, a varint of one byte.
pub(super) const NOOP_PAYLOAD: [u8; 1] = [7];

/// Tasks a client has on the way at most.
pub(super) const CLIENT_WINDOW: usize = 4096;

/// Tasks a server has unanswered at most.
pub(super) const SERVER_WINDOW: usize = 1024;

/// Said once by a peer that opens its stream, and by the relay in return; to a client with its number.
pub(super) const HELLO_CLIENT: u8 = b'c';
pub(super) const HELLO_SERVER: u8 = b's';
pub(super) const WELCOME: u8 = b'w';

/// Room for one wake-up's worth of frames; an inbox grows beyond it only for a larger frame.
const INBOX_BYTES: usize = 256 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Task,
    Result,
    Acknowledgement,
}

impl Kind {
    pub(super) fn head_bytes(self) -> usize {
        match self {
            Self::Task => TASK_HEAD_BYTES,
            Self::Result => RESULT_HEAD_BYTES,
            Self::Acknowledgement => ACKNOWLEDGEMENT_BYTES,
        }
    }

    fn of(byte: u8) -> Self {
        match byte {
            0 => Self::Task,
            1 => Self::Result,
            2 => Self::Acknowledgement,
            _ => panic!("a frame of kind {byte}"),
        }
    }
}

/// A frame where it lies in an inbox; `bytes` is all of it, to pass on unchanged.
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    pub(super) id: u32,
    pub(super) payload: &'a [u8],
    pub(super) bytes: &'a [u8],
}

pub(super) fn put(out: &mut Vec<u8>, kind: Kind, id: u32, payload: &[u8]) {
    let body = kind.head_bytes() + payload.len();
    out.extend_from_slice(&(body as u32).to_le_bytes());
    out.extend_from_slice(&(id << 8 | kind as u32).to_le_bytes());
    out.resize(out.len() + kind.head_bytes() - KIND_AND_ID_BYTES, 0);
    out.extend_from_slice(payload);
}

/// What a whole frame is and whose.
pub(super) fn kind_and_id(frame: &[u8]) -> (Kind, u32) {
    let head = frame[LENGTH_BYTES..].first_chunk::<KIND_AND_ID_BYTES>();
    let head = head.expect("a frame holds a kind and an id");
    (Kind::of(head[0]), u32::from_le_bytes(*head) >> 8)
}

/// What was read and not yet handled. Frames may end anywhere in a read.
pub(super) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; INBOX_BYTES], start: 0, end: 0 }
    }

    /// Where the next read goes; tell `filled` how much of it was used.
    pub(super) fn room(&mut self) -> &mut [u8] {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= mem::take(&mut self.start);
        if self.end == self.bytes.len() {
            self.bytes.resize(2 * self.end, 0);
        }
        &mut self.bytes[self.end..]
    }

    pub(super) fn filled(&mut self, bytes: usize) {
        self.end += bytes;
    }

    pub(super) fn push(&mut self, frame: &[u8]) {
        if self.bytes.len() - self.end < frame.len() {
            while self.room().len() < frame.len() {
                self.bytes.resize(2 * self.bytes.len(), 0);
            }
        }
        self.bytes[self.end..self.end + frame.len()].copy_from_slice(frame);
        self.end += frame.len();
    }

    pub(super) fn next(&mut self) -> Option<Frame<'_>> {
        let (length, rest) = self.bytes[self.start..self.end].split_first_chunk::<LENGTH_BYTES>()?;
        let body = rest.get(..u32::from_le_bytes(*length) as usize)?;
        let head = body.first_chunk::<KIND_AND_ID_BYTES>().expect("a frame holds a kind and an id");
        let kind = Kind::of(head[0]);
        let frame = self.start..self.start + LENGTH_BYTES + body.len();
        self.start = frame.end;
        Some(Frame {
            kind,
            id: u32::from_le_bytes(*head) >> 8,
            payload: &body[kind.head_bytes()..],
            bytes: &self.bytes[frame],
        })
    }
}

/// Bytes on their way to one writer: whatever gathers while it writes goes out in its next write.
#[derive(Default)]
pub(super) struct Outbox {
    bytes: Mutex<Vec<u8>>,
    ready: Notify,
}

impl Outbox {
    /// Takes all of `bytes`.
    pub(super) fn send(&self, bytes: &mut Vec<u8>) {
        if !bytes.is_empty() {
            self.bytes.lock().unwrap_or_else(PoisonError::into_inner).append(bytes);
            self.ready.notify_one();
        }
    }

    /// Writes until the writer fails.
    pub(super) async fn drain(&self, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut batch = Vec::new();
        loop {
            self.ready.notified().await;
            batch.clear();
            mem::swap(&mut batch, &mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner));
            to.write_all(&batch).await?;
        }
    }
}
