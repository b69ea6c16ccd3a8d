//! The master's one loop.
//!
//! Shutdown, in this order:
//! 1. the loop ends when `shutdown` does, or another master has taken over; nobody is let in any more. If the cluster was
//!    stopped, it ends once all workers have left, or a while later;
//! 2. every connection is closed with a reason, which clients and workers print;
//! 3. the endpoint waits, at most [`CLOSE_WAIT`], until the peers have heard it.
//!
//! An endpoint that ends by itself (its socket failed, or there is a fault in what serves it) is made anew on the same
//! port with the same keys. The machine knows all its peers as before, and they come back by themselves.

mod keeps;
mod looks;

use std::{collections::HashMap, future::Future, hash::Hash, pin::Pin, sync::Arc, time::Duration};

use cw_core::{
    IdHash, Payload, Time,
    ids::{ClientId, WorkerId},
    master::{Action, Admitted, Config, Event, Master},
    wire::{self, FromClient, FromWorker, Head, Programs, Reply, Role, ToWorker, Welcome},
};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    blobs::Blobs,
    greet::{self, Caller},
    observers::Observers,
};
use crate::{
    access::{MasterKeys, roster::Roster},
    clock::Clock,
    exit::{self, Trouble},
    launch::keeper::KeeperLink,
    net::{
        endpoint::Opening,
        link::{Incoming, Link},
        tls::why_closed,
    },
};

use looks::Names;

/// How long the end of connections is waited for.
const CLOSE_WAIT: Duration = Duration::from_millis(500);

/// Batches of messages from all peers that may wait for the loop. A full channel leaves streams unread.
const INBOX_MAX: usize = 1_024;

/// Batches handled before anything is sent, so that a flood from one peer does not keep back the others.
const BATCHES_MAX: usize = 64;

/// Pause between two tries to listen again. What is left of the former endpoint may still hold the port.
const REOPEN_PAUSE: Duration = Duration::from_millis(20);

/// What a master serves with.
pub(crate) struct Setup {
    /// Where it listens.
    pub(crate) endpoint: quinn::Endpoint,
    /// How the endpoint is made anew.
    pub(crate) opening: Opening,
    pub(crate) keys: MasterKeys,
    pub(crate) config: Config,
    /// Of a master that others will follow.
    pub(crate) roster: Option<Roster>,
    /// What the blobs of its node may take up.
    pub(crate) cache_bytes: u64,
    /// Who starts workers for it.
    pub(crate) keeper: Option<KeeperLink>,
}

/// What peers are told when an observer has stopped the cluster.
pub(crate) const CLUSTER_STOPPED: &str = "the cluster was stopped";

/// Why the loop ended.
enum Ended {
    /// The process was asked to end, or the cluster is to.
    Stopped(&'static str),
    /// A master of this epoch has followed.
    Followed(u64),
    /// Nobody answers calls any more.
    DoorLost,
}

/// Serves a bound endpoint until `shutdown` is done.
///
/// # Errors
/// `successor` gave the epoch of another master.
pub(crate) async fn run(
    setup: Setup,
    shutdown: impl Future<Output = ()>,
    successor: impl Future<Output = u64>,
) -> Result<(), Trouble> {
    let Setup { mut endpoint, opening, keys, config, roster, cache_bytes, keeper } = setup;
    let mut shell = Shell::new(keys.epoch, config, roster, Blobs::new(cache_bytes));
    shell.keeper = keeper;
    tokio::pin!(shutdown, successor);
    let (why, result) = loop {
        let mut door = Door::open(&endpoint, &keys);
        match shell.run(&mut door, shutdown.as_mut(), successor.as_mut()).await {
            Ended::Stopped(why) => break (why.to_owned(), Ok(())),
            Ended::Followed(epoch) => {
                let why = format!("another master took the cluster over (epoch {epoch})");
                break (why.clone(), Err(Trouble::new(exit::REFUSED, why)));
            }
            Ended::DoorLost => {}
        }
        tracing::error!("the endpoint has ended by itself; it is made anew");
        shell.lose_all();
        endpoint.close(0u32.into(), b"the master makes its endpoint anew");
        drop((endpoint, door));
        endpoint = tokio::select! {
            endpoint = reopened(&opening) => endpoint,
            () = &mut shutdown => return Ok(()),
        };
    };
    endpoint.close(0u32.into(), why.as_bytes());
    let _ = tokio::time::timeout(CLOSE_WAIT, endpoint.wait_idle()).await;
    result
}

/// The endpoint made anew, as soon as that is possible.
async fn reopened(opening: &Opening) -> quinn::Endpoint {
    let mut said = false;
    loop {
        match opening.open() {
            Ok(endpoint) => return endpoint,
            Err(trouble) if !said => tracing::warn!("{trouble}; trying again"),
            Err(_) => {}
        }
        said = true;
        tokio::time::sleep(REOPEN_PAUSE).await;
    }
}

/// What answers calls, and those who passed.
struct Door {
    task: JoinHandle<()>,
    calls: mpsc::Receiver<Caller>,
}

impl Door {
    fn open(endpoint: &quinn::Endpoint, keys: &MasterKeys) -> Self {
        let (callers, calls) = mpsc::channel(64);
        let (clients, workers) = (*keys.clients.certificate(), *keys.workers.certificate());
        let task = tokio::spawn(greet::answer(endpoint.clone(), clients, workers, callers));
        Self { task, calls }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shell {
    clock: Clock,
    machine: Master,
    epoch: u64,
    clients: Peers<ClientId>,
    workers: Peers<WorkerId>,
    from_clients: Inbox<ClientId, FromClient>,
    from_workers: Inbox<WorkerId, FromWorker>,
    roster: Option<Roster>,
    blobs: Arc<Blobs>,
    observers: Observers,
    /// What clients that are here or may come back have said of themselves.
    names: HashMap<ClientId, Names, IdHash>,
    /// By when this master ends, if the cluster was stopped.
    ends_by: Option<Time>,
    /// What workers are called by the engine that started them.
    launched: HashMap<WorkerId, String, IdHash>,
    keeper: Option<KeeperLink>,
}

/// The connected peers of one role.
struct Peers<Id> {
    all: HashMap<Id, Peer, IdHash>,
    /// Those who were sent something since the last flush.
    fresh: Vec<Id>,
    /// The number of the latest link.
    links: u64,
}

struct Peer {
    link: Link,
    /// Of which link, as a peer that came back on another leaves words of the former behind.
    number: u64,
    connection: quinn::Connection,
    name: String,
    is_fresh: bool,
    /// How many acknowledgements had arrived when it was last looked.
    acks: u64,
}

/// A peer's number and that of its link.
type Key<Id> = (Id, u64);

/// Both ends of the channel all links of one role deliver into.
struct Inbox<Id, H> {
    deliver: mpsc::Sender<(Key<Id>, Incoming<H>)>,
    receive: mpsc::Receiver<(Key<Id>, Incoming<H>)>,
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

    /// Whether it has acknowledged anything since this was last asked.
    ///
    /// An ACK frame proves that both directions carry and that the peer's network thread runs, which in a worker is the
    /// one that serves it. A word of the peer's would prove no more, and would wait behind whatever else it has to say.
    /// The beat that is sent whenever this is asked makes sure that there is something to acknowledge by the next time.
    fn has_acknowledged(&mut self) -> bool {
        let acks = self.connection.stats().frame_rx.acks;
        std::mem::replace(&mut self.acks, acks) < acks
    }
}

impl<Id: Copy + Eq + Hash + Send + 'static> Peers<Id> {
    fn new() -> Self {
        Self { all: HashMap::default(), fresh: Vec::new(), links: 0 }
    }

    /// Takes in a caller, with its welcome on the way. A connection that it had before is closed: its end would have
    /// come, but later.
    fn take_in<H: Head + Send + 'static>(
        &mut self,
        id: Id,
        caller: Caller,
        welcome: Welcome,
        inbox: &Inbox<Id, H>,
    ) {
        self.links += 1;
        let number = self.links;
        let Caller { connection, lanes, read, hello } = caller;
        let mut link = Link::over(lanes, read, (id, number), &inbox.deliver);
        link.send_raw(0, &wire::encode_reply(&Reply::Welcome(welcome)));
        link.flush();
        let peer = Peer { link, number, connection, name: hello.name, is_fresh: false, acks: 0 };
        if let Some(former) = self.all.insert(id, peer) {
            former.connection.close(0u32.into(), b"it came back on another connection");
        }
    }

    /// Whether this is the number of the peer's own link, and not of one it had before.
    fn is_current(&self, (id, number): Key<Id>) -> bool {
        self.all.get(&id).is_some_and(|peer| peer.number == number)
    }

    fn send<H: Head>(&mut self, id: Id, head: &H, body: &Payload) {
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
    fn new(epoch: u64, config: Config, roster: Option<Roster>, blobs: Blobs) -> Self {
        Self {
            clock: Clock::start(),
            machine: Master::new(config),
            epoch,
            clients: Peers::new(),
            workers: Peers::new(),
            from_clients: Inbox::new(),
            from_workers: Inbox::new(),
            roster,
            blobs: Arc::new(blobs),
            observers: Observers::new(),
            names: HashMap::default(),
            ends_by: None,
            launched: HashMap::default(),
            keeper: None,
        }
    }

    async fn run(
        &mut self,
        door: &mut Door,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
        mut successor: Pin<&mut impl Future<Output = u64>>,
    ) -> Ended {
        loop {
            let (due, ends_by) = (self.machine.poll_timeout(), self.ends_by);
            // Receiving from a channel, the clock and what ends the loop lose nothing when another comes first.
            tokio::select! {
                Some(caller) = door.calls.recv() => self.on_call(caller),
                Some((key, incoming)) = self.from_clients.receive.recv() => self.on_client(key, incoming),
                Some((key, incoming)) = self.from_workers.receive.recv() => self.on_worker(key, incoming),
                () = self.clock.sleep_until(due) => self.machine.handle_timeout(self.clock.now()),
                Some(question) = self.observers.questions.recv() => self.on_question(question),
                Some(word) = keeps::next_word(&mut self.keeper) => self.on_word(word),
                () = self.clock.sleep_until(ends_by) => return Ended::Stopped(CLUSTER_STOPPED),
                () = &mut shutdown => return Ended::Stopped("the master was stopped"),
                epoch = &mut successor => return Ended::Followed(epoch),
                // Whether it returned or panicked.
                _ = &mut door.task => return Ended::DoorLost,
            }
            self.take_waiting();
            self.act();
            self.note_workers();
            if self.ends_by.is_some() && self.workers.all.is_empty() {
                return Ended::Stopped(CLUSTER_STOPPED);
            }
        }
    }

    /// Handles what has arrived meanwhile, so that all answers to it leave together.
    fn take_waiting(&mut self) {
        for _ in 0..BATCHES_MAX {
            let mut any = false;
            if let Ok((key, incoming)) = self.from_clients.receive.try_recv() {
                self.on_client(key, incoming);
                any = true;
            }
            if let Ok((key, incoming)) = self.from_workers.receive.try_recv() {
                self.on_worker(key, incoming);
                any = true;
            }
            if !any {
                return;
            }
        }
    }

    fn on_call(&mut self, caller: Caller) {
        let now = self.clock.now();
        let session = &caller.hello.session;
        match caller.hello.role {
            Role::Client => {
                let admitted = self.machine.admit(now, false, session);
                self.let_client_in(now, admitted, caller);
            }
            Role::Worker { slots, programs, left } => {
                let admitted = self.machine.admit(now, true, session);
                self.let_worker_in(now, admitted, (slots, programs), caller);
                if left.is_some() {
                    let worker = WorkerId(admitted.id);
                    let (message, body) = (FromWorker::Ends { left }, Payload::new());
                    self.machine.handle(now, Event::WorkerSaid { worker, message, body });
                }
            }
            Role::Observer => self.observers.let_in(caller, self.epoch),
        }
    }

    fn let_client_in(&mut self, now: Time, Admitted { id, returned }: Admitted, caller: Caller) {
        let (client, program) = (ClientId(id), caller.hello.program);
        let (name, program_name) = (&caller.hello.name, &caller.hello.program_name);
        tracing::info!("client {name} {}: {program_name}, build {program}", came(returned));
        let (window, slots) = (self.machine.window(), self.machine.slots());
        let welcome = Welcome::Client { client, epoch: self.epoch, window, slots, resumed: returned };
        self.blobs.client_joined(program, caller.connection.clone());
        self.note_names(client, Names { name: name.clone(), program_name: program_name.clone() });
        self.clients.take_in(client, caller, welcome, &self.from_clients);
        self.machine.handle(now, Event::ClientJoined { client, program, returned });
    }

    fn let_worker_in(
        &mut self,
        now: Time,
        Admitted { id, returned }: Admitted,
        (slots, programs): (u32, Programs),
        caller: Caller,
    ) {
        let (worker, program) = (WorkerId(id), caller.hello.program);
        let (name, program_name) = (caller.hello.name.clone(), caller.hello.program_name.clone());
        tracing::info!(
            "worker {name} {} with {slots} slots: {program_name}, build {program}",
            came(returned)
        );
        let welcome = Welcome::Worker { worker, epoch: self.epoch, returned };
        self.note_launched(worker, caller.hello.launched.clone());
        self.blobs.worker_joined(caller.connection.clone());
        self.workers.take_in(worker, caller, welcome, &self.from_workers);
        self.machine.handle(
            now,
            Event::WorkerJoined { worker, program, programs, program_name, name, slots, returned },
        );
    }

    fn on_client(&mut self, key: Key<ClientId>, incoming: Incoming<FromClient>) {
        if !self.clients.is_current(key) {
            return;
        }
        let (now, (client, _)) = (self.clock.now(), key);
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
                    tracing::info!("client {} is cut off: {}", peer.name, why_closed(&peer.connection, why));
                    // If it still stands, what came over it cannot be read.
                    peer.connection.close(1u32.into(), b"what it said cannot be read");
                    self.machine.handle(now, Event::ClientLost { client });
                }
            }
        }
    }

    fn on_worker(&mut self, key: Key<WorkerId>, incoming: Incoming<FromWorker>) {
        if !self.workers.is_current(key) {
            return;
        }
        let (now, (worker, _)) = (self.clock.now(), key);
        match incoming {
            Incoming::Messages(messages) => self.on_worker_messages(now, worker, messages),
            Incoming::Ended(why) => {
                if let Some(peer) = self.workers.all.remove(&worker) {
                    tracing::info!("worker {} is cut off: {}", peer.name, why_closed(&peer.connection, why));
                    peer.connection.close(1u32.into(), b"what it said cannot be read");
                    self.machine.handle(now, Event::WorkerLost { worker });
                }
            }
        }
    }

    fn on_worker_messages(&mut self, now: Time, worker: WorkerId, messages: Vec<(FromWorker, Payload)>) {
        for (message, body) in messages {
            let is_last = message == FromWorker::Leaving;
            self.machine.handle(now, Event::WorkerSaid { worker, message, body });
            if is_last && let Some(peer) = self.workers.all.remove(&worker) {
                peer.see_off("worker");
            }
        }
    }

    /// All connections have ended with the endpoint.
    fn lose_all(&mut self) {
        let now = self.clock.now();
        for client in lost(&mut self.clients) {
            self.machine.handle(now, Event::ClientLost { client });
        }
        for worker in lost(&mut self.workers) {
            self.machine.handle(now, Event::WorkerLost { worker });
        }
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::TellClient { client, message, body } => self.clients.send(client, &message, &body),
                Action::TellWorker { worker, message: beat @ ToWorker::Beat { .. }, .. } => {
                    self.beat(worker, &beat);
                }
                Action::TellWorker { worker, message, body } => self.workers.send(worker, &message, &body),
                Action::Disconnect { client, why } => {
                    if let Some(peer) = self.clients.all.remove(&client) {
                        tracing::warn!("client {} was shown out: it {why}", peer.name);
                        peer.connection.close(1u32.into(), why.as_bytes());
                    }
                }
                Action::DisconnectWorker { worker, name, why } => {
                    tracing::warn!("worker {name} is given up: {why}");
                    if let Some(peer) = self.workers.all.remove(&worker) {
                        peer.connection.close(1u32.into(), why.as_bytes());
                    }
                }
                Action::Note(line) => {
                    if let Some(roster) = &self.roster {
                        roster.note(line);
                    }
                }
            }
        }
        self.clients.flush();
        self.workers.flush();
    }

    /// Sends a sign of life, and looks whether the former ones were acknowledged.
    fn beat(&mut self, worker: WorkerId, beat: &ToWorker) {
        self.workers.send(worker, beat, &Payload::new());
        if self.workers.all.get_mut(&worker).is_some_and(Peer::has_acknowledged) {
            self.machine.handle(self.clock.now(), Event::WorkerHeard { worker });
        }
    }
}

/// The peers of a role, in order, whose connections are dropped.
fn lost<Id: Copy + Ord>(peers: &mut Peers<Id>) -> Vec<Id> {
    peers.fresh.clear();
    let mut lost: Vec<(Id, Peer)> = peers.all.drain().collect();
    lost.sort_unstable_by_key(|(id, _)| *id);
    lost.into_iter().map(|(id, _)| id).collect()
}

fn came(returned: bool) -> &'static str {
    if returned { "came back" } else { "joined" }
}
