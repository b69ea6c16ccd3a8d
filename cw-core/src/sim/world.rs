//! The loop: what happens next, and which process handles it.

use std::{collections::BTreeMap, time::Duration};

use bytes::BytesMut;

use super::{
    checks::Ledger,
    endings::Endings,
    hosts::{Clock, Host, Input, MasterHost, Node, Role, micros},
    keeper::Keeper,
    knobs::Knobs,
    net::Word,
    plan::{self, Act},
    rng::Rng,
    saves::AllKept,
};
use crate::{
    Payload, Time, client,
    ids::{ClientId, ExecutorId, ProgramId, WorkerId},
    master::{self, Admitted, Master},
    wire::singles,
    wire::{Ending, FromClient, Session, ToWorker},
    worker,
};

/// Something that is to happen at a certain time.
#[derive(Debug)]
pub(super) enum Happening {
    Input {
        who: Option<usize>,
        input: Input,
    },
    Act(usize),
    TryJoin {
        peer: usize,
    },
    JoinTimeout {
        peer: usize,
        conn: u32,
    },
    Silence {
        peer: usize,
        to_master: bool,
        since: Time,
    },
    Uncut {
        peer: usize,
        to_master: bool,
        to_peer: bool,
    },
    Resume {
        who: Option<usize>,
        since: Time,
    },
    StartMaster,
    StartWorker {
        program: ProgramId,
        slots: u32,
    },
    Executor {
        host: usize,
        executor: ExecutorId,
        what: Doing,
    },
    /// A program's disk has taken a batch.
    Written {
        keeper: usize,
        life: u32,
    },
    SessionsEnd {
        keeper: usize,
        life: u32,
    },
    StartProcess {
        keeper: usize,
    },
}

/// What becomes of an executor.
#[derive(Clone, Copy, Debug)]
pub(super) enum Doing {
    Ready,
    Ends { run: u64 },
    Asks { run: u64 },
    IsLong { run: u64 },
    TakesNode { run: u64 },
    Flushes,
    Dies(Ending),
}

/// A cluster, and all that is to happen to it.
pub(super) struct World {
    pub(super) now: Time,
    pub(super) knobs: Knobs,
    pub(super) chance: Rng,
    pub(super) master: MasterHost,
    pub(super) hosts: Vec<Host>,
    /// Programs with a store.
    pub(super) keepers: Vec<Keeper>,
    /// What clients keep of what their tasks save.
    pub(super) kept: AllKept,
    /// When the master heard that a worker cannot run a program.
    pub(super) unfit: BTreeMap<(WorkerId, ProgramId), Time>,
    /// When workers end, if the seed has that.
    pub(super) endings: Option<Endings>,
    pub(super) acts: Vec<(Duration, Act)>,
    pub(super) arrivals: BTreeMap<(Time, u64), Happening>,
    pub(super) sequence: u64,
    pub(super) ledger: Ledger,
    pub(super) healed: bool,
    pub(super) buffer: BytesMut,
    pub(super) hash: u64,
    pub(super) steps: u64,
    /// What happened, in words, if anybody wants to know.
    pub(super) trace: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, traced: bool) -> Self {
        let mut chance = Rng::new(seed);
        let knobs = Knobs::draw(seed, &mut chance.fork());
        let mut plan = plan::draw(&knobs, &mut chance.fork());
        let mut endings = Endings::draw(seed);
        if let Some(endings) = &mut endings {
            endings.settle(&mut plan);
        }
        let node = Node::new(Clock::new(Time::ZERO, 1_000));
        let mut world = Self {
            now: Time::ZERO,
            chance: chance.fork(),
            master: MasterHost {
                node,
                machine: None,
                epoch: 0,
                roster: BTreeMap::new(),
                first_id: 0,
                peers: BTreeMap::new(),
                heard: BTreeMap::new(),
                attempts: BTreeMap::new(),
            },
            hosts: Vec::new(),
            keepers: Vec::new(),
            kept: AllKept::new(),
            unfit: BTreeMap::new(),
            endings,
            acts: plan.acts,
            arrivals: BTreeMap::new(),
            sequence: 0,
            ledger: Ledger::new(&knobs),
            healed: false,
            buffer: BytesMut::new(),
            hash: 0,
            steps: 0,
            trace: traced.then(Vec::new),
            knobs,
        };
        world.start_master();
        for specs in plan.specs {
            world.start_client(specs);
        }
        world.start_first_workers();
        for index in 0..world.acts.len() {
            let at = Time::from_start(world.acts[index].0);
            world.at(at, Happening::Act(index));
        }
        world
    }

    pub(super) fn at(&mut self, time: Time, happening: Happening) {
        self.arrivals.insert((time.max(self.now), self.sequence), happening);
        self.sequence += 1;
    }

    pub(super) fn after(&mut self, delay: Duration, happening: Happening) {
        self.at(self.now + delay, happening);
    }

    /// Takes numbers into the sum over all that happened.
    pub(super) fn mix(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.hash = (self.hash.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    pub(super) fn say(&mut self, words: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{} {}", self.now, words()));
        }
    }

    /// Runs to a point in time, or until a rule is broken.
    pub(super) fn run_until(&mut self, limit: Time) {
        while self.ledger.broken.is_none() {
            let Some((time, timer)) = self.next().filter(|(time, _)| *time <= limit) else { break };
            self.now = self.now.max(time);
            self.ledger.time = self.now;
            self.steps += 1;
            match timer {
                Some(who) => self.timer(who),
                None => {
                    let (_, happening) = self.arrivals.pop_first().expect("it was seen");
                    self.happen(happening);
                }
            }
            self.look_for_silence();
            if self.steps.is_multiple_of(256) {
                self.check_machines();
            }
        }
        if self.ledger.broken.is_none() {
            self.now = self.now.max(limit);
            self.ledger.time = self.now;
        }
    }

    /// The next arrival or timer: whose, with the master's as none in it.
    fn next(&self) -> Option<(Time, Option<Option<usize>>)> {
        let mut best = self.arrivals.first_key_value().map(|((time, _), _)| (*time, None));
        let nodes = self.hosts.iter().enumerate().map(|(index, host)| (Some(index), &host.node));
        for (who, node) in nodes.chain([(None, &self.master.node)]) {
            if let Some(due) = node.due.filter(|_| node.runs())
                && best.is_none_or(|(time, _)| due < time)
            {
                best = Some((due, Some(who)));
            }
        }
        best
    }

    /// What the machines keep twice agrees.
    pub(super) fn check_machines(&mut self) {
        if let Some(machine) = &self.master.machine {
            machine.check();
        }
        for host in &self.hosts {
            if let Role::Worker(worker) = &host.role {
                worker.machine.check();
            }
        }
    }

    fn timer(&mut self, who: Option<usize>) {
        self.mix(&[micros(self.now), who.map_or(u64::MAX, |who| who as u64)]);
        let node = who.map_or(&self.master.node, |who| &self.hosts[who].node);
        let (local, before) = (node.clock.local(self.now), node.due);
        match who {
            None => {
                if let Some(machine) = &mut self.master.machine {
                    machine.handle_timeout(local);
                }
            }
            Some(who) => match &mut self.hosts[who].role {
                Role::Worker(worker) => worker.machine.handle_timeout(local),
                Role::Client(client) => client.machine.handle_timeout(local),
                Role::Rogue { .. } => {}
            },
        }
        self.settle(who);
        let due = who.map_or(&self.master.node, |who| &self.hosts[who].node).due;
        self.ledger.note_timer(due == before && due.is_some_and(|due| due <= self.now));
    }

    /// Carries out what a process's machine wants, and notes when it is to be woken.
    pub(super) fn settle(&mut self, who: Option<usize>) {
        let Some(who) = who else {
            self.drain_master();
            let node = &self.master.node;
            let due = self.master.machine.as_ref().and_then(Master::poll_timeout);
            self.master.node.due = due.map(|due| node.clock.world(due));
            return;
        };
        match &self.hosts[who].role {
            Role::Worker(_) => self.drain_worker(who),
            Role::Client(_) => self.drain_client(who),
            Role::Rogue { .. } => return,
        }
        let host = &mut self.hosts[who];
        let due = match &host.role {
            Role::Worker(worker) if !worker.left => worker.machine.poll_timeout(),
            Role::Client(client) => client.machine.poll_timeout(),
            _ => None,
        };
        host.node.due = due.map(|due| host.node.clock.world(due));
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Input { who, input } => self.input(who, input),
            Happening::Act(index) => self.act(index),
            Happening::TryJoin { peer } => self.try_join(peer),
            Happening::JoinTimeout { peer, conn } => self.on_join_timeout(peer, conn),
            Happening::Silence { peer, to_master, since } => self.on_silence(peer, to_master, since),
            Happening::Uncut { peer, to_master, to_peer } => self.uncut(peer, to_master, to_peer),
            Happening::Resume { who, since } => self.resume(who, since),
            Happening::StartMaster => {
                if !self.master.node.up {
                    self.start_master();
                }
            }
            Happening::StartWorker { program, slots } => self.start_worker(program, slots, None),
            Happening::Executor { host, executor, what } => self.executor(host, executor, what),
            Happening::Written { keeper, life } => self.written(keeper, life),
            Happening::SessionsEnd { keeper, life } => self.sessions_end(keeper, life),
            Happening::StartProcess { keeper } => self.start_process(keeper),
        }
    }

    /// Something for a process to handle: at once, or when it goes on.
    pub(super) fn input(&mut self, who: Option<usize>, input: Input) {
        let node = who.map_or(&mut self.master.node, |who| &mut self.hosts[who].node);
        if !node.up {
            return;
        }
        if node.paused.is_some() {
            let is_beat =
                matches!(input, Input::FromMaster { word: Word::ToWorker(ToWorker::Beat { .. }, _), .. });
            let is_dazed = node.is_dazed;
            node.inbox.push_back(input);
            if let Some(peer) = who.filter(|_| is_beat && is_dazed) {
                // The network's own thread acknowledges it.
                self.send(peer, true, Word::Heard);
            }
            return;
        }
        self.handle(who, input);
        self.settle(who);
    }

    /// A process handles something.
    pub(super) fn handle(&mut self, who: Option<usize>, input: Input) {
        self.mix(&[micros(self.now), who.map_or(u64::MAX, |who| who as u64)]);
        match (who, input) {
            (None, Input::Hello { peer, conn, session }) => self.on_hello(peer, conn, session),
            (None, Input::FromPeer { peer, conn, word }) => self.master_hears(peer, conn, word),
            (None, Input::PeerEnds { peer, conn }) => self.peer_ends(peer, conn),
            (Some(peer), Input::Welcome { conn, id, returned, window, epoch }) => {
                self.on_welcome(peer, conn, id, returned, window, epoch);
            }
            (Some(peer), Input::FromMaster { conn, word, sent }) => self.peer_hears(peer, conn, word, sent),
            (Some(peer), Input::MasterEnds { conn }) => self.master_ends(peer, conn),
            (Some(peer), other) => self.own_business(peer, other),
            (None, _) => {}
        }
    }

    fn on_hello(&mut self, peer: usize, conn: u32, session: Session) {
        let host = &self.hosts[peer];
        let is_fresh = host.link.joining && host.link.conn == conn && host.node.up;
        if !is_fresh || !host.link.is_whole() {
            return;
        }
        let old = self.hosts[peer].link.at_master;
        if let Some(old) = old.filter(|_| !self.knobs.replaces_silently) {
            self.peer_ends(peer, old);
        }
        let is_worker = self.hosts[peer].is_worker();
        let local = self.master.node.clock.local(self.now);
        let was = self.master.peers.iter().find(|(_, other)| **other == peer).map(|(id, _)| *id);
        let Some(machine) = &mut self.master.machine else { return };
        let Admitted { id, returned } = machine.admit(local, is_worker, &session);
        match old.filter(|_| self.knobs.replaces_silently) {
            Some(_) if returned && was == Some(id) => self.forget_connection(peer),
            // It is another peer to the master, and the connection it had ends by itself.
            Some(old) => self.peer_ends(peer, old),
            None => {}
        }
        let Some(machine) = &mut self.master.machine else { return };
        let window = machine.window();
        let (program, programs) = (self.hosts[peer].program, self.programs_of(peer));
        let slots = self.slots_of(peer);
        self.say(|| format!("host {peer} joins as {id}, returned: {returned}"));
        let comes_back = session.known.filter(|_| !self.hosts[peer].is_rogue());
        self.ledger.note_admitted(id, peer, returned, comes_back, self.master.epoch);
        self.renew_ways(peer);
        self.hosts[peer].link.at_master = Some(conn);
        self.master.peers.insert(id, peer);
        // The welcome is the first to arrive on a connection.
        let delay = self.delay();
        let arrival = self.now + delay;
        self.hold_lanes_until(peer, arrival);
        let epoch = self.master.epoch;
        let welcome = Input::Welcome { conn, id, returned, window, epoch };
        self.at(arrival, Happening::Input { who: Some(peer), input: welcome });
        // What a client hands in again begins to count anew.
        self.master.attempts.retain(|(client, ..), _| *client != id);
        let event = if is_worker {
            self.master.heard.insert(id, local);
            let (program_name, name) = ("sim".to_owned(), format!("node{peer}:1"));
            let worker = WorkerId(id);
            master::Event::WorkerJoined { worker, program, programs, program_name, name, slots, returned }
        } else {
            self.unfit.retain(|(_, of), _| *of != program);
            master::Event::ClientJoined { client: ClientId(id), program, returned }
        };
        self.master_event(event);
    }

    fn slots_of(&self, peer: usize) -> u32 {
        match &self.hosts[peer].role {
            Role::Worker(worker) => worker.slots,
            _ => 1,
        }
    }

    fn forget_connection(&mut self, peer: usize) {
        self.hosts[peer].link.at_master = None;
        self.master.peers.retain(|_, other| *other != peer);
    }

    fn peer_ends(&mut self, peer: usize, conn: u32) {
        if self.hosts[peer].link.at_master != Some(conn) {
            return;
        }
        let id = self.master.peers.iter().find(|(_, other)| **other == peer).map(|(id, _)| *id);
        self.forget_connection(peer);
        if let Some(id) = id {
            self.ledger.note_heard(peer, false);
            self.say(|| format!("the master loses its connection to host {peer}, {id}"));
            self.master_event(if self.hosts[peer].is_worker() {
                master::Event::WorkerLost { worker: WorkerId(id) }
            } else {
                master::Event::ClientLost { client: ClientId(id) }
            });
        }
        self.on_half_ended(peer);
    }

    fn master_hears(&mut self, peer: usize, conn: u32, word: Word) {
        if self.hosts[peer].link.at_master != Some(conn) {
            return;
        }
        let Some(id) = self.master.peers.iter().find(|(_, other)| **other == peer).map(|(id, _)| *id) else {
            return;
        };
        let (worker, client) = (WorkerId(id), ClientId(id));
        let event = match word {
            Word::Heard => {
                self.master.heard.insert(id, self.master.node.clock.local(self.now));
                self.ledger.note_heard(peer, true);
                master::Event::WorkerHeard { worker }
            }
            Word::FromWorker(message, body) => {
                self.say(|| format!("the master hears from {worker} {}", short(&message, &body)));
                for (message, _) in singles(&message, &body) {
                    self.ledger.note_worker_said(peer, &message);
                    self.note_end_heard(worker, &message);
                }
                self.note_unfit(worker, &message);
                master::Event::WorkerSaid { worker, message, body }
            }
            Word::FromClient(message, body) => {
                self.say(|| format!("the master hears from {client} {}", short(&message, &body)));
                if message == FromClient::Leave {
                    self.ledger.note_left(peer);
                }
                master::Event::ClientSaid { client, message, body }
            }
            Word::ToWorker(..) | Word::ToClient(..) => return,
        };
        self.master_event(event);
    }

    pub(super) fn master_event(&mut self, event: master::Event) {
        let local = self.master.node.clock.local(self.now);
        if let Some(machine) = &mut self.master.machine {
            machine.handle(local, event);
        }
    }

    fn peer_hears(&mut self, peer: usize, conn: u32, word: Word, sent: Time) {
        if self.hosts[peer].link.at_peer != Some(conn) {
            return;
        }
        if matches!(word, Word::ToWorker(ToWorker::Beat { .. }, _)) && !self.hosts[peer].node.is_dazed {
            self.send(peer, true, Word::Heard);
        }
        match word {
            Word::ToWorker(message, body) => {
                if !matches!(message, ToWorker::Beat { .. }) {
                    self.say(|| format!("worker host {peer} hears {}", short(&message, &body)));
                }
                self.worker_hears(peer, message, body, sent);
            }
            Word::ToClient(message, body) => {
                self.say(|| format!("client host {peer} hears {}", short(&message, &body)));
                self.client_hears(peer, message, body);
            }
            _ => {}
        }
    }

    fn master_ends(&mut self, peer: usize, conn: u32) {
        let host = &mut self.hosts[peer];
        if host.link.at_peer != Some(conn) {
            return;
        }
        host.link.at_peer = None;
        self.say(|| format!("host {peer} loses the master"));
        let host = &mut self.hosts[peer];
        let local = host.node.clock.local(self.now);
        match &mut host.role {
            Role::Worker(worker) => {
                worker.unacknowledged.clear();
                worker.machine.handle(local, worker::Event::MasterLost);
            }
            Role::Client(client) => client.machine.handle(local, client::Event::MasterLost),
            Role::Rogue { .. } => {}
        }
        self.on_half_ended(peer);
        let longest = u64::try_from(self.knobs.rejoins_within.as_millis()).expect("seconds");
        let pause = Duration::from_millis(self.chance.spread(1, longest));
        self.after(pause, Happening::TryJoin { peer });
    }

    fn own_business(&mut self, peer: usize, input: Input) {
        let healed = self.healed;
        let local = self.hosts[peer].node.clock.local(self.now);
        match (&mut self.hosts[peer].role, input) {
            (Role::Worker(worker), Input::Executor { executor, said }) => {
                worker.machine.handle(local, worker::Event::ExecutorSaid { executor, said });
            }
            (Role::Worker(worker), Input::Fetched { program, result }) => {
                if result.is_ok() {
                    worker.fetched.insert(program);
                }
                worker.machine.handle(local, worker::Event::Fetched { program, result });
            }
            (Role::Worker(worker), Input::Shared { share, result }) => {
                worker.machine.handle(local, worker::Event::Shared { share, result });
            }
            (Role::Worker(worker), Input::Ends { left }) => {
                let enough = self.endings.as_ref().and_then(|endings| endings.healed_to);
                let left = if healed { enough } else { left };
                worker.machine.handle(local, worker::Event::Ends { left });
                self.note_end(peer, local, left);
            }
            (Role::Worker(worker), Input::Leave) => worker.machine.handle(local, worker::Event::Leave),
            (Role::Client(client), Input::Recorded { task }) => {
                client.recorded.insert(task);
                client.machine.handle(local, client::Event::Recorded { task });
            }
            (Role::Client(client), Input::Answered(event)) => client.machine.handle(local, *event),
            (Role::Client(client), Input::Declare { what }) => {
                client.specs.push(what.clone());
                client.machine.handle(local, client::Event::Declare { what });
            }
            (Role::Client(client), Input::Cancel { task }) => {
                client.machine.handle(local, client::Event::Cancel { task });
            }
            (Role::Client(client), Input::Watch) => {
                client.machine.handle(local, client::Event::Watch { on: true });
            }
            (Role::Client(_), Input::Submit { first, tasks }) => self.submit(peer, first, tasks),
            _ => {}
        }
    }
}

/// A message without its body.
pub(super) fn short(message: &impl std::fmt::Debug, body: &Payload) -> String {
    if body.is_empty() { format!("{message:?}") } else { format!("{message:?} + {} bytes", body.len()) }
}
