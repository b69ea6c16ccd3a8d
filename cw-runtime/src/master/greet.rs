//! The door of the master: TLS, then a greeting, each with a deadline. Nothing a stranger sends gets past it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::BytesMut;
use cw_core::wire::{self, Hello, HelloError, PROTOCOL_MAX, PROTOCOL_MIN, Refusal, Reply, Role};
use tokio::sync::mpsc;

use crate::{
    net::{
        connect::GREETING_BYTES_MAX,
        link::read_frame,
        tls::{self, Peer, Pin},
    },
    program::VERSION,
};

/// A peer must have said who it is within this.
const DEADLINE: Duration = Duration::from_secs(5);

/// Above so many unfinished handshakes a caller must first prove that its address is its own.
const PROVE_ADDRESS_ABOVE: usize = 128;

/// A peer that passed the door.
pub(super) struct Caller {
    pub(super) connection: quinn::Connection,
    /// The lanes; with the first comes what was read beyond the greeting.
    pub(super) lanes: [(quinn::SendStream, quinn::RecvStream); 2],
    pub(super) read: BytesMut,
    pub(super) hello: Hello,
}

/// Answers calls until the endpoint is closed; whoever passes goes into `callers`.
pub(super) async fn answer(
    endpoint: quinn::Endpoint,
    clients: Pin,
    workers: Pin,
    callers: mpsc::Sender<Caller>,
) {
    let pending = Arc::new(AtomicUsize::new(0));
    let mut complaints = Complaints::new();
    let (complain, mut heard) = mpsc::channel::<String>(64);
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            Some(line) = heard.recv() => { complaints.log(&line); continue }
        };
        let Some(incoming) = incoming else { return };
        if pending.load(Ordering::Relaxed) > PROVE_ADDRESS_ABOVE && !incoming.remote_address_validated() {
            // Fails only if the address is validated, which was just seen not to be.
            let _ = incoming.retry();
            continue;
        }
        let from = incoming.remote_address();
        let (callers, complain, pending) = (callers.clone(), complain.clone(), Arc::clone(&pending));
        let (clients, workers) = (clients, workers);
        let pending = Pending::new(pending);
        tokio::spawn(async move {
            let passed = tokio::time::timeout(DEADLINE, pass(incoming, &clients, &workers)).await;
            drop(pending);
            let why = match passed {
                Ok(Ok(caller)) => return drop(callers.send(caller).await),
                Ok(Err(NotIn::Left)) => return,
                Ok(Err(NotIn::Refused(why))) => why,
                Err(_) => format!("it did not say who it is within {} s", DEADLINE.as_secs()),
            };
            let _ = complain.try_send(format!("refused {from}: {why}"));
        });
    }
}

/// A handshake that is not finished: counted until it is, however it ends.
struct Pending(Arc<AtomicUsize>);

impl Pending {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Logs refusals, at most one line a second: a scanner must not fill the disk.
struct Complaints {
    last: Option<Instant>,
    suppressed: u64,
}

impl Complaints {
    fn new() -> Self {
        Self { last: None, suppressed: 0 }
    }

    fn log(&mut self, line: &str) {
        if self.last.is_some_and(|last| last.elapsed() < Duration::from_secs(1)) {
            self.suppressed += 1;
            return;
        }
        match std::mem::take(&mut self.suppressed) {
            0 => tracing::warn!("{line}"),
            more => tracing::warn!("{line} ({more} more like it before)"),
        }
        self.last = Some(Instant::now());
    }
}

/// Why a caller is not in.
enum NotIn {
    /// It changed its mind: it had found the master at another address.
    Left,
    Refused(String),
}

impl From<String> for NotIn {
    fn from(why: String) -> Self {
        Self::Refused(why)
    }
}

async fn pass(incoming: quinn::Incoming, clients: &Pin, workers: &Pin) -> Result<Caller, NotIn> {
    let broken = |error: quinn::ConnectionError| match tls::explain(&error) {
        tls::Refusal::ClosedByPeer { .. } => NotIn::Left,
        other => NotIn::Refused(other.to_string()),
    };
    let connection = incoming.await.map_err(broken)?;
    let peer = tls::peer_of(&connection, clients, workers).ok_or("its key is of no role".to_owned())?;
    let (mut send, mut receive) = connection.accept_bi().await.map_err(broken)?;
    let (send_long, receive_long) = connection.accept_bi().await.map_err(broken)?;
    let mut read = BytesMut::new();
    let frame = read_frame(&mut receive, &mut read, GREETING_BYTES_MAX).await?;
    let hello = match check(wire::decode_hello(&frame), peer) {
        Ok(hello) => hello,
        Err((refusal, why)) => {
            refuse(&mut send, refusal).await;
            return Err(NotIn::Refused(why));
        }
    };
    // Short messages go before long ones.
    let _ = send.set_priority(1);
    Ok(Caller { connection, lanes: [(send, receive), (send_long, receive_long)], read, hello })
}

/// The greeting, if it fits the key; else what to answer and what to log.
fn check(hello: Result<Hello, HelloError>, peer: Peer) -> Result<Hello, (Refusal, String)> {
    let hello = hello.map_err(|error| {
        let why = error.to_string();
        let refusal = match error {
            HelloError::Protocol { .. } => Refusal::Protocol {
                master: format!("cw {VERSION}, protocol {PROTOCOL_MIN} to {PROTOCOL_MAX}"),
            },
            _ => Refusal::Malformed { why: why.clone() },
        };
        (refusal, why)
    })?;
    let hello = tamed(hello);
    let asked = match hello.role {
        // Whoever may hand in tasks may see who else does.
        Role::Client | Role::Observer => Peer::Client,
        Role::Worker { .. } => Peer::Worker,
    };
    if asked != peer {
        let (key, asked) = (peer.name().to_owned(), asked.name().to_owned());
        let why = format!("{} wants to be a {asked} with the key of a {key}", hello.name);
        return Err((Refusal::Role { key, asked }, why));
    }
    Ok(hello)
}

/// The greeting with its texts fit to be shown to others, and its number of slots one that can be counted.
fn tamed(mut hello: Hello) -> Hello {
    let texts = [&mut hello.name, &mut hello.program_name, &mut hello.version, &mut hello.target];
    for text in texts.into_iter().chain(&mut hello.launched) {
        *text = text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect();
    }
    if let Role::Worker { slots, .. } = &mut hello.role {
        *slots = (*slots).clamp(1, SLOTS_MAX);
    }
    hello
}

/// Longest name that is shown.
const TEXT_CHARS_MAX: usize = 200;

/// Most slots of a worker.
const SLOTS_MAX: u32 = 65_536;

/// Tells a peer why it is not let in, and waits until it has read that.
async fn refuse(send: &mut quinn::SendStream, refusal: Refusal) {
    let reply = wire::encode_reply(&Reply::Refused(refusal));
    let length = u32::try_from(reply.len()).expect("greetings are short").to_le_bytes();
    if send.write_all(&[&length[..], &reply].concat()).await.is_ok() && send.finish().is_ok() {
        let _ = send.stopped().await;
    }
}
