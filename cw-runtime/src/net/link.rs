//! Messages over byte streams: frames out, coalesced; frames in, in batches.
//!
//! A link has one or two *lanes*, each a stream in both directions. Short messages take the first, long
//! ones the last, so that a big result does not keep small ones waiting. Order holds within a lane only;
//! a message that must not be overtaken ([`Head::on_every_lane`]) is sent on each, and its receiver takes
//! it twice without harm.
//!
//! A fault in what serves a lane (a panic) is the end of that lane, as if its stream had broken: the peer is told apart
//! from all others, and none is waited for in vain.
//!
//! Per lane there is a task that reads and one that writes. Neither `read` nor `write` of a stream is safe
//! to cancel half-way, so no `select!` holds them; they end with their stream, or are aborted with the link.

use std::{
    future::Future,
    io,
    sync::{Arc, Mutex},
};

use bytes::{Bytes, BytesMut};
use cw_core::{
    Payload,
    wire::{self, Head},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    sync::{Notify, mpsc},
    task::JoinSet,
};

use super::unix;
use crate::caught::caught;

/// Bodies from this size on travel on the last lane.
const LONG_BODY: usize = 64 << 10;

/// Room for what goes before a long body.
const HEAD_ROOM: usize = 64;

/// Room made for each read. A frame that is known to be longer gets more.
const READ_ROOM: usize = 64 << 10;

/// Most room made for a frame before its bytes are there.
const READ_ROOM_MAX: usize = 1 << 20;

/// What a link brings: messages with their bodies, or its end.
#[derive(Debug)]
pub(crate) enum Incoming<H> {
    /// Messages of one lane, in order, at least one.
    Messages(Vec<(H, Payload)>),
    /// The stream ended or cannot be read any further. Comes once for each lane.
    Ended(String),
}

/// The sending side of a link, and the owner of its tasks: they are aborted when it is dropped.
pub(crate) struct Link {
    lanes: Vec<Lane>,
    tasks: JoinSet<()>,
}

struct Lane {
    /// Frames since the last flush. Belongs to the loop alone, so a message costs no lock.
    fresh: BytesMut,
    /// What goes before those: long bodies, which are not copied, and what came before them.
    ready: Vec<Bytes>,
    shared: Arc<Outgoing>,
}

/// What a writer task has to write.
#[derive(Default)]
struct Outgoing {
    // A std mutex: it is held for a move of one pointer, and never across an await.
    chunks: Mutex<Vec<Bytes>>,
    more: Notify,
}

impl Link {
    /// A link without lanes; must be given one before use.
    pub(crate) fn new() -> Self {
        Self { lanes: Vec::new(), tasks: JoinSet::new() }
    }

    /// A link over the lanes of a connection. `read` holds what was already read off the first.
    pub(crate) fn over<K, H, W, R>(
        lanes: [(W, R); 2],
        read: BytesMut,
        key: K,
        deliver: &mpsc::Sender<(K, Incoming<H>)>,
    ) -> Self
    where
        K: Copy + Send + 'static,
        H: Head + Send + 'static,
        W: Write,
        R: AsyncRead + Unpin + Send + 'static,
    {
        let mut link = Self::new();
        let mut read = Some(read);
        for (writer, reader) in lanes {
            link.add_lane((reader, read.take().unwrap_or_default()), writer, key, deliver.clone());
        }
        link
    }

    /// Adds a lane. `read` holds what was already read off the stream. What arrives goes into `deliver`
    /// under `key`; while that is full the stream is not read, which the sender feels in time.
    pub(crate) fn add_lane<K, H>(
        &mut self,
        (reader, read): (impl AsyncRead + Unpin + Send + 'static, BytesMut),
        writer: impl Write,
        key: K,
        deliver: mpsc::Sender<(K, Incoming<H>)>,
    ) where
        K: Copy + Send + 'static,
        H: Head + Send + 'static,
    {
        let shared = Arc::new(Outgoing::default());
        let (writing, ended) = (write_all(writer, Arc::clone(&shared)), deliver.clone());
        self.tasks.spawn(async move {
            // The reader of the same stream reports its end; but not that nobody writes.
            if let Err(why) = caught(writing).await {
                let _ = ended.send((key, Incoming::Ended(why))).await;
            }
        });
        self.tasks.spawn(async move {
            let why = caught(read_all(reader, read, key, &deliver)).await.unwrap_or_else(|why| why);
            // If nobody listens any more, nobody wants to know.
            let _ = deliver.send((key, Incoming::Ended(why))).await;
        });
        self.lanes.push(Lane { fresh: BytesMut::new(), ready: Vec::new(), shared });
    }

    /// Whether it has a lane to send on.
    pub(crate) fn is_open(&self) -> bool {
        !self.lanes.is_empty()
    }

    /// Queues a message; it leaves with the next [`flush`](Self::flush).
    pub(crate) fn send<H: Head>(&mut self, head: &H, body: &Payload) {
        if head.on_every_lane() {
            self.lanes.iter_mut().for_each(|lane| wire::encode(head, body, &mut lane.fresh));
        } else if body.len() < LONG_BODY {
            wire::encode(head, body, &mut self.lanes[0].fresh);
        } else if let Some(lane) = self.lanes.last_mut() {
            lane.fresh.reserve(HEAD_ROOM);
            wire::encode_before(head, body.len(), &mut lane.fresh);
            lane.ready.extend([lane.fresh.split().freeze(), body.clone().into()]);
        }
    }

    /// Queues a frame that is no message: a greeting, or padding if empty.
    pub(crate) fn send_raw(&mut self, lane: usize, frame: &[u8]) {
        let fresh = &mut self.lanes[lane].fresh;
        let length = u32::try_from(frame.len()).expect("greetings are short");
        fresh.extend_from_slice(&length.to_le_bytes());
        fresh.extend_from_slice(frame);
    }

    /// Hands all queued messages to the writers, each lane's in one piece.
    pub(crate) fn flush(&mut self) {
        for lane in &mut self.lanes {
            if !lane.fresh.is_empty() {
                lane.ready.push(lane.fresh.split().freeze());
            }
            if !lane.ready.is_empty() {
                lane.shared.chunks.lock().expect("no holder panics").append(&mut lane.ready);
                lane.shared.more.notify_one();
            }
        }
    }
}

/// Writes what is flushed until the stream fails. The reader of the same stream reports its end.
async fn write_all(mut writer: impl Write, shared: Arc<Outgoing>) {
    loop {
        let chunks = std::mem::take(&mut *shared.chunks.lock().expect("no holder panics"));
        if chunks.is_empty() {
            shared.more.notified().await;
            continue;
        }
        for chunk in chunks {
            if writer.write(chunk).await.is_err() {
                return;
            }
        }
    }
}

/// Where chunks go.
pub(crate) trait Write: Send + 'static {
    /// Writes all of it. Where the writer keeps it until it is acknowledged, it keeps the chunk and not a copy.
    ///
    /// # Errors
    /// The stream has failed.
    fn write(&mut self, chunk: Bytes) -> impl Future<Output = io::Result<()>> + Send;
}

impl Write for quinn::SendStream {
    async fn write(&mut self, chunk: Bytes) -> io::Result<()> {
        Ok(self.write_chunk(chunk).await?)
    }
}

impl Write for unix::Writer {
    async fn write(&mut self, chunk: Bytes) -> io::Result<()> {
        self.write_all(&chunk).await
    }
}

/// Reads frames until the stream ends; says why it did.
async fn read_all<K: Copy, H: Head>(
    mut reader: impl AsyncRead + Unpin,
    mut buffer: BytesMut,
    key: K,
    deliver: &mpsc::Sender<(K, Incoming<H>)>,
) -> String {
    loop {
        match take_messages(&mut buffer) {
            Ok(messages) if messages.is_empty() => {}
            Ok(messages) => {
                if deliver.send((key, Incoming::Messages(messages))).await.is_err() {
                    return "nobody listens".to_owned();
                }
            }
            Err(why) => return why,
        }
        buffer.reserve(room_wanted(&buffer));
        match reader.read_buf(&mut buffer).await {
            Ok(0) => return "the connection was closed".to_owned(),
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    }
}

/// Room to make before the next read: the rest of the frame that has begun, within limits.
fn room_wanted(buffer: &BytesMut) -> usize {
    let Some(length) = buffer.first_chunk::<4>() else { return READ_ROOM };
    let missing = (u32::from_le_bytes(*length) as usize + 4).saturating_sub(buffer.len());
    missing.clamp(READ_ROOM, READ_ROOM_MAX)
}

fn take_messages<H: Head>(buffer: &mut BytesMut) -> Result<Vec<(H, Payload)>, String> {
    let Some(mut frames) = wire::whole_frames(buffer).map_err(|error| error.to_string())? else {
        return Ok(Vec::new());
    };
    let bytes = frames.bytes().clone();
    let mut messages = Vec::new();
    // An empty frame is padding: it makes a new stream known to the other side.
    for frame in frames.by_ref().filter(|frame| !frame.is_empty()) {
        messages.push(wire::decode_part(&bytes, frame).map_err(|error| error.to_string())?);
    }
    Ok(messages)
}

/// Reads a single frame, as greetings are.
///
/// # Errors
/// One line on why there is none.
pub(crate) async fn read_frame(
    reader: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    bytes_max: usize,
) -> Result<Bytes, String> {
    loop {
        if let Some(frame) = wire::next_frame(buffer).map_err(|error| error.to_string())? {
            return Ok(frame);
        }
        if buffer.len() > bytes_max {
            return Err(format!("a greeting of more than {bytes_max} bytes"));
        }
        buffer.reserve(READ_ROOM);
        match reader.read_buf(buffer).await {
            Ok(0) => return Err("the connection was closed during the greeting".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use cw_core::wire::{FromClient, ToClient};
    use tokio::io::ReadBuf;

    use super::*;

    /// A stream with a fault.
    struct Faulty;

    impl AsyncRead for Faulty {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            panic!("a fault that a test made")
        }
    }

    impl Write for Faulty {
        async fn write(&mut self, _: Bytes) -> io::Result<()> {
            panic!("a fault that a test made")
        }
    }

    /// Where a test listens, or nobody.
    struct There(Option<tokio::io::WriteHalf<tokio::io::DuplexStream>>);

    impl Write for There {
        async fn write(&mut self, chunk: Bytes) -> io::Result<()> {
            let Some(there) = &mut self.0 else { return Ok(()) };
            there.write_all(&chunk).await
        }
    }

    type Words<K> = mpsc::Receiver<(K, Incoming<FromClient>)>;

    async fn end_of(heard: &mut Words<u8>) -> (u8, String) {
        match heard.recv().await {
            Some((key, Incoming::Ended(why))) => (key, why),
            other => panic!("not an end: {other:?}"),
        }
    }

    #[tokio::test]
    async fn a_fault_in_a_reader_or_writer_ends_that_peer_and_no_other() {
        let (deliver, mut heard) = mpsc::channel(8);
        let (well, other_side) = tokio::io::duplex(1 << 10);
        let mut healthy = Link::new();
        let (reader, writer) = tokio::io::split(well);
        healthy.add_lane((reader, BytesMut::new()), There(Some(writer)), 0, deliver.clone());

        let mut reading = Link::new();
        reading.add_lane((Faulty, BytesMut::new()), There(None), 1, deliver.clone());
        let (key, why) = end_of(&mut heard).await;
        assert!(key == 1 && why.contains("panicked"), "{key}: {why}");

        let mut writing = Link::new();
        let (silent, _held) = tokio::io::duplex(1);
        writing.add_lane((silent, BytesMut::new()), Faulty, 2, deliver.clone());
        writing.send(&ToClient::Moving, &Payload::new());
        writing.flush();
        let (key, why) = end_of(&mut heard).await;
        assert!(key == 2 && why.contains("panicked"), "{key}: {why}");

        let mut frame = BytesMut::new();
        wire::encode(&FromClient::Leave, &[], &mut frame);
        let (mut reader, mut writer) = tokio::io::split(other_side);
        writer.write_all(&frame).await.unwrap();
        assert!(matches!(heard.recv().await, Some((0, Incoming::Messages(said))) if said.len() == 1));
        healthy.send(&ToClient::Moving, &Payload::new());
        healthy.flush();
        let frame = read_frame(&mut reader, &mut BytesMut::new(), 64).await.unwrap();
        assert_eq!(wire::decode::<ToClient>(&frame).unwrap().0, ToClient::Moving);
    }
}
