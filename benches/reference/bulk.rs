//! The reference with large payloads: the same four kinds of processes, and frames of some MiB that each of them takes in
//! whole and passes on whole.
//!
//! A frame has the layout of `wire`. It is read into memory of its own and that is handed on, so a process copies a payload
//! once, when it leaves the connection. What a server has not answered is bounded, so that both servers have work.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::SocketAddr,
    os::{fd::AsFd, unix::net::UnixStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use super::{
    role::{self, Role},
    server::start_echo,
    tls::{self, Identity},
    wire::{self, HELLO_CLIENT, HELLO_SERVER, Kind, WELCOME},
};

/// Payloads a server has unanswered at most: one that its echo process has, and as many again.
const SERVER_WINDOW: usize = 2;

/// A frame and what stands at its beginning.
struct Frame {
    kind: Kind,
    id: u32,
    bytes: Bytes,
}

/// The next frame, or nothing at the end.
async fn next(from: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<Option<Frame>> {
    let mut length = [0; wire::LENGTH_BYTES];
    match from.read_exact(&mut length).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    };
    let mut bytes = vec![0; wire::LENGTH_BYTES + u32::from_le_bytes(length) as usize];
    bytes[..wire::LENGTH_BYTES].copy_from_slice(&length);
    from.read_exact(&mut bytes[wire::LENGTH_BYTES..]).await?;
    let (kind, id) = wire::kind_and_id(&bytes);
    Ok(Some(Frame { kind, id, bytes: bytes.into() }))
}

async fn send_all(to: &mut SendStream, frames: &mut UnboundedReceiver<Bytes>) -> anyhow::Result<()> {
    while let Some(frame) = frames.recv().await {
        to.write_chunk(frame).await?;
    }
    Ok(())
}

/// Connects and says what this is.
async fn join(
    identity: &Identity,
    relay: SocketAddr,
    hello: u8,
) -> anyhow::Result<(quinn::Endpoint, SendStream, RecvStream)> {
    let (endpoint, connection) = tls::connect(identity, relay).await?;
    let (mut to_relay, mut from_relay) = connection.open_bi().await?;
    to_relay.write_all(&[hello]).await?;
    ensure!(from_relay.read_u8().await? == WELCOME, "no welcome from the relay");
    Ok((endpoint, to_relay, from_relay))
}

/// The client: hands all payloads in at once, and says how long it took until all were back.
pub(super) async fn client(
    identity: &Identity,
    relay: SocketAddr,
    payloads: Vec<Vec<u8>>,
) -> anyhow::Result<Duration> {
    let (endpoint, mut to_relay, mut from_relay) = join(identity, relay, HELLO_CLIENT).await?;
    let start = Instant::now();
    let (out, mut frames) = unbounded_channel();
    for (id, payload) in payloads.iter().enumerate() {
        out.send(framed(Kind::Task, id as u32, payload))?;
    }
    let receive = async {
        let mut results = Vec::new();
        for _ in 0..payloads.len() {
            let result = next(&mut from_relay).await?.context("the relay has ended the stream")?;
            out.send(framed(Kind::Acknowledgement, result.id, &[]))?;
            results.push(result);
        }
        let elapsed = start.elapsed();
        drop(out);
        Ok((elapsed, results))
    };
    let ((elapsed, results), ()) = tokio::try_join!(receive, send_all(&mut to_relay, &mut frames))?;
    let head = wire::LENGTH_BYTES + Kind::Result.head_bytes();
    let is_right = |result: &Frame| result.bytes[head..] == payloads[result.id as usize];
    ensure!(results.iter().all(is_right), "a wrong result");
    to_relay.finish()?;
    to_relay.stopped().await?;
    endpoint.close(0u32.into(), b"done");
    endpoint.wait_idle().await;
    Ok(elapsed)
}

fn framed(kind: Kind, id: u32, payload: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(wire::LENGTH_BYTES + kind.head_bytes() + payload.len());
    wire::put(&mut frame, kind, id, payload);
    frame.into()
}

/// The worker: acknowledgements end here.
pub(super) async fn server(identity: Identity, relay: SocketAddr) -> anyhow::Result<()> {
    let (mut from_echo, mut to_echo) = start_echo(Role::BulkEcho)?.into_split();
    let (_endpoint, mut to_relay, mut from_relay) = join(&identity, relay, HELLO_SERVER).await?;
    role::say(&"ready")?;
    let tasks = async {
        while let Some(frame) = next(&mut from_relay).await? {
            if frame.kind == Kind::Task {
                to_echo.write_all(&frame.bytes).await?;
            }
        }
        anyhow::Ok(())
    };
    let results = async {
        while let Some(frame) = next(&mut from_echo).await? {
            to_relay.write_chunk(frame.bytes).await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(tasks, results)?;
    Ok(())
}

/// The executor: reads a payload whole, and gives it back.
pub(super) fn echo() -> anyhow::Result<()> {
    let mut server = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut result = Vec::new();
    loop {
        let mut length = [0; wire::LENGTH_BYTES];
        if server.read_exact(&mut length).is_err() {
            return Ok(());
        }
        let mut task = vec![0; wire::LENGTH_BYTES + u32::from_le_bytes(length) as usize];
        server.read_exact(&mut task[wire::LENGTH_BYTES..])?;
        let (_, id) = wire::kind_and_id(&task);
        result.clear();
        wire::put(&mut result, Kind::Result, id, &task[wire::LENGTH_BYTES + Kind::Task.head_bytes()..]);
        server.write_all(&result)?;
    }
}

/// The master: runs until the process ends; clients come and go.
pub(super) async fn relay(identity: Identity) -> anyhow::Result<()> {
    let endpoint = tls::listen(&identity)?;
    role::say(&endpoint.local_addr()?.to_string())?;
    let relay = Arc::new(Mutex::new(Relay::default()));
    while let Some(incoming) = endpoint.accept().await {
        let relay = Arc::clone(&relay);
        tokio::spawn(async move {
            // A client that closes its connection is the usual end of a leg.
            let _ = serve(incoming.await?, &relay).await;
            anyhow::Ok(())
        });
    }
    Ok(())
}

async fn serve(connection: Connection, relay: &Mutex<Relay>) -> anyhow::Result<()> {
    let (mut send, mut recv) = connection.accept_bi().await?;
    let hello = recv.read_u8().await?;
    send.write_all(&[WELCOME]).await?;
    let (out, mut frames) = unbounded_channel();
    tokio::spawn(async move { send_all(&mut send, &mut frames).await });
    match hello {
        HELLO_CLIENT => {
            lock(relay).client = Some(out);
            while let Some(frame) = next(&mut recv).await? {
                lock(relay).on_client_frame(frame);
            }
        }
        HELLO_SERVER => {
            let server = lock(relay).on_server(out);
            while let Some(frame) = next(&mut recv).await? {
                lock(relay).on_result(server, frame);
            }
        }
        other => bail!("a stranger said {other}"),
    }
    Ok(())
}

/// All the relay's tasks run on one thread: the lock is never waited for.
fn lock(relay: &Mutex<Relay>) -> MutexGuard<'_, Relay> {
    relay.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Relay {
    client: Option<UnboundedSender<Bytes>>,
    servers: Vec<Server>,
    waiting: VecDeque<Frame>,
    /// The server of each task, by its id.
    server_of: Vec<usize>,
}

struct Server {
    out: UnboundedSender<Bytes>,
    unanswered: usize,
}

impl Relay {
    fn on_server(&mut self, out: UnboundedSender<Bytes>) -> usize {
        self.servers.push(Server { out, unanswered: 0 });
        self.servers.len() - 1
    }

    fn on_client_frame(&mut self, frame: Frame) {
        if frame.kind == Kind::Task {
            self.waiting.push_back(frame);
            self.place();
        } else {
            self.send(self.server_of[frame.id as usize], frame.bytes);
        }
    }

    fn on_result(&mut self, server: usize, frame: Frame) {
        self.servers[server].unanswered -= 1;
        if let Some(client) = &self.client {
            let _ = client.send(frame.bytes);
        }
        self.place();
    }

    /// Hands waiting tasks to the server that has least, while it has room.
    fn place(&mut self) {
        let least = |servers: &[Server]| {
            let all = servers.iter().enumerate().filter(|(_, server)| server.unanswered < SERVER_WINDOW);
            all.min_by_key(|(_, server)| server.unanswered).map(|(index, _)| index)
        };
        while let Some(server) = least(&self.servers) {
            let Some(task) = self.waiting.pop_front() else { return };
            let id = task.id as usize;
            self.server_of.resize(self.server_of.len().max(id + 1), 0);
            self.server_of[id] = server;
            self.servers[server].unanswered += 1;
            self.send(server, task.bytes);
        }
    }

    /// A server that is gone is the end of the leg, which has a deadline.
    fn send(&self, server: usize, frame: Bytes) {
        let _ = self.servers[server].out.send(frame);
    }
}
