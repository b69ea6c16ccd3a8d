//! The master's one loop.
//!
//! Shutdown, in this order:
//! 1. the loop ends when `shutdown` does; nobody is let in any more;
//! 2. every connection is closed with a reason, which clients and workers print;
//! 3. the endpoint waits, at most [`CLOSE_WAIT`], until the peers have heard it.

use std::{collections::HashMap, future::Future, hash::Hash, time::Duration};

use bytes::Bytes;
use cw_core::{
    IdHash, Time,
    ids::{ClientId, WorkerId},
    master::{Action, Config, Event, Master},
    wire::{self, FromClient, FromWorker, Head, Reply, Role, Welcome},
};
use tokio::sync::mpsc;

use super::greet::{self, Caller};
use crate::{
    access::MasterKeys,
    clock::Clock,
    net::{
        link::{Incoming, Link},
        tls::why_closed,
    },
};

/// How long the end of connections is waited for.
const CLOSE_WAIT: Duration = Duration::from_millis(500);

/// Batches of messages from all peers that may wait for the loop. A full channel leaves streams unread.
const INBOX_MAX: usize = 1_024;

/// Batches handled before anything is sent, so that a flood from one peer does not keep back the others.
const BATCHES_MAX: usize = 64;

/// Serves a bound endpoint until `shutdown` is done.
pub(crate) async fn run(endpoint: quinn::Endpoint, keys: &MasterKeys, shutdown: impl Future<Output = ()>) {
    let (callers, calls) = mpsc::channel(64);
    let (clients, workers) = (*keys.clients.certificate(), *keys.workers.certificate());
    let door = tokio::spawn(greet::answer(endpoint.clone(), clients, workers, callers));
    let mut shell = Shell::new(keys.epoch);
    shell.run(calls, shutdown).await;
    door.abort();
    endpoint.close(0u32.into(), b"the master was stopped");
    let _ = tokio::time::timeout(CLOSE_WAIT, endpoint.wait_idle()).await;
}

struct Shell {
    clock: Clock,
    machine: Master,
    epoch: u64,
    clients: Peers<ClientId>,
    workers: Peers<WorkerId>,
    from_clients: Inbox<ClientId, FromClient>,
    from_workers: Inbox<WorkerId, FromWorker>,
    next_id: u32,
}

/// The connected peers of one role.
struct Peers<Id> {
    all: HashMap<Id, Peer, IdHash>,
    /// Those who were sent something since the last flush.
    fresh: Vec<Id>,
}

struct Peer {
    link: Link,
    connection: quinn::Connection,
    name: String,
    is_fresh: bool,
}

/// Both ends of the channel all links of one role deliver into.
struct Inbox<Id, H> {
    deliver: mpsc::Sender<(Id, Incoming<H>)>,
    receive: mpsc::Receiver<(Id, Incoming<H>)>,
}

impl<Id, H> Inbox<Id, H> {
    fn new() -> Self {
        let (deliver, receive) = mpsc::channel(INBOX_MAX);
        Self { deliver, receive }
    }
}

impl Peer {
    /// Closes the connection of a peer that has said its last word, which tells it that it was heard.
    fn see_off(self, role: &str) {
        tracing::info!("{role} {} left", self.name);
        self.connection.close(0u32.into(), b"goodbye");
    }
}

impl<Id: Copy + Eq + Hash> Peers<Id> {
    fn new() -> Self {
        Self { all: HashMap::default(), fresh: Vec::new() }
    }

    fn send<H: Head>(&mut self, id: Id, head: &H, body: &[u8]) {
        if let Some(peer) = self.all.get_mut(&id) {
            peer.link.send(head, body);
            if !std::mem::replace(&mut peer.is_fresh, true) {
                self.fresh.push(id);
            }
        }
    }

    fn flush(&mut self) {
        for id in self.fresh.drain(..) {
            if let Some(peer) = self.all.get_mut(&id) {
                peer.is_fresh = false;
                peer.link.flush();
            }
        }
    }
}

impl Shell {
    fn new(epoch: u64) -> Self {
        Self {
            clock: Clock::start(),
            machine: Master::new(Config::default()),
            epoch,
            clients: Peers::new(),
            workers: Peers::new(),
            from_clients: Inbox::new(),
            from_workers: Inbox::new(),
            next_id: 0,
        }
    }

    async fn run(&mut self, mut calls: mpsc::Receiver<Caller>, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        loop {
            let due = self.machine.poll_timeout();
            // Receiving from a channel, the clock and the shutdown lose nothing when another comes first.
            tokio::select! {
                Some(caller) = calls.recv() => self.on_call(caller),
                Some((client, incoming)) = self.from_clients.receive.recv() => self.on_client(client, incoming),
                Some((worker, incoming)) = self.from_workers.receive.recv() => self.on_worker(worker, incoming),
                () = self.clock.sleep_until(due) => self.machine.handle_timeout(self.clock.now()),
                () = &mut shutdown => return,
            }
            self.take_waiting();
            self.act();
        }
    }

    /// Handles what has arrived meanwhile, so that all answers to it leave together.
    fn take_waiting(&mut self) {
        for _ in 0..BATCHES_MAX {
            let mut any = false;
            if let Ok((client, incoming)) = self.from_clients.receive.try_recv() {
                self.on_client(client, incoming);
                any = true;
            }
            if let Ok((worker, incoming)) = self.from_workers.receive.try_recv() {
                self.on_worker(worker, incoming);
                any = true;
            }
            if !any {
                return;
            }
        }
    }

    fn on_call(&mut self, caller: Caller) {
        let now = self.clock.now();
        let id = self.next_id;
        self.next_id += 1;
        let Caller { connection, lanes, read, hello } = caller;
        let name = hello.name.clone();
        match hello.role {
            Role::Client => {
                let client = ClientId(id);
                let (window, slots) = (self.machine.window(), self.machine.slots());
                let welcome = Welcome::Client { client, epoch: self.epoch, window, slots };
                let link = open(lanes, read, welcome, client, &self.from_clients.deliver);
                tracing::info!("client {name} joined: {}, build {}", hello.program_name, hello.program);
                self.clients.all.insert(client, Peer { link, connection, name, is_fresh: false });
                self.machine.handle(now, Event::ClientJoined { client, program: hello.program });
            }
            Role::Worker { slots } => {
                let worker = WorkerId(id);
                let welcome = Welcome::Worker { worker, epoch: self.epoch };
                let link = open(lanes, read, welcome, worker, &self.from_workers.deliver);
                tracing::info!(
                    "worker {name} joined with {slots} slots: {}, build {}",
                    hello.program_name,
                    hello.program
                );
                self.workers.all.insert(worker, Peer { link, connection, name, is_fresh: false });
                let (program, program_name) = (hello.program, hello.program_name);
                let event = Event::WorkerJoined { worker, program, program_name, name: hello.name, slots };
                self.machine.handle(now, event);
            }
        }
    }

    fn on_client(&mut self, client: ClientId, incoming: Incoming<FromClient>) {
        let now = self.clock.now();
        match incoming {
            Incoming::Messages(messages) => {
                for (message, body) in messages {
                    let is_last = message == FromClient::Leave;
                    self.machine.handle(now, Event::ClientSaid { client, message, body });
                    if is_last && let Some(peer) = self.clients.all.remove(&client) {
                        peer.see_off("client");
                    }
                }
            }
            Incoming::Ended(why) => {
                if let Some(peer) = self.clients.all.remove(&client) {
                    tracing::info!("client {} left: {}", peer.name, why_closed(&peer.connection, why));
                    self.machine.handle(now, Event::ClientLost { client });
                }
            }
        }
    }

    fn on_worker(&mut self, worker: WorkerId, incoming: Incoming<FromWorker>) {
        let now = self.clock.now();
        match incoming {
            Incoming::Messages(messages) => self.on_worker_messages(now, worker, messages),
            Incoming::Ended(why) => {
                if let Some(peer) = self.workers.all.remove(&worker) {
                    tracing::info!("worker {} left: {}", peer.name, why_closed(&peer.connection, why));
                    self.machine.handle(now, Event::WorkerLost { worker });
                }
            }
        }
    }

    fn on_worker_messages(&mut self, now: Time, worker: WorkerId, messages: Vec<(FromWorker, Bytes)>) {
        for (message, body) in messages {
            let is_last = message == FromWorker::Leaving;
            self.machine.handle(now, Event::WorkerSaid { worker, message, body });
            if is_last && let Some(peer) = self.workers.all.remove(&worker) {
                peer.see_off("worker");
            }
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::TellClient { client, message, body } => self.clients.send(client, &message, &body),
                Action::TellWorker { worker, message, body } => self.workers.send(worker, &message, &body),
                Action::Disconnect { client, why } => {
                    if let Some(peer) = self.clients.all.remove(&client) {
                        tracing::warn!("client {} was shown out: it {why}", peer.name);
                        peer.connection.close(1u32.into(), why.as_bytes());
                    }
                }
            }
        }
        self.clients.flush();
        self.workers.flush();
    }
}

/// A link over the lanes of a new peer, with the welcome on its way.
fn open<Id: Copy + Send + 'static, H: Head + Send + 'static>(
    lanes: [(quinn::SendStream, quinn::RecvStream); 2],
    read: bytes::BytesMut,
    welcome: Welcome,
    id: Id,
    deliver: &mpsc::Sender<(Id, Incoming<H>)>,
) -> Link {
    let mut link = Link::over(lanes, read, id, deliver);
    link.send_raw(0, &wire::encode_reply(&Reply::Welcome(welcome)));
    link.flush();
    link
}
