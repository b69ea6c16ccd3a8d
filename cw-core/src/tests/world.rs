//! A cluster in one thread: real machines, a clock that jumps, links that delay and keep order (as a
//! QUIC stream does), executors that behave as each task's arguments say.
//!
//! Every message is encoded and decoded on its way. After every step the machines' invariants are
//! checked, and every completion is compared with what the task must come to.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::{Bytes, BytesMut};

use crate::{
    Payload, Time,
    client::{self, Client, Completion, Resumed},
    ids::{
        Attempt, ClientId, ExecutorId, JobIndex, ProgramId, SettingId, ShareId, SpecIndex, TaskId, WorkerId,
    },
    master::{self, Admitted, Master, Member, RosterLine},
    wire::singles,
    wire::{
        self, Answer, Ask, Class, Counts, Ending, Entry, Failure, FromClient, FromWorker, Head, Programs,
        Session, Spec, Stall, ToClient, ToExecutor, ToWorker, Token,
    },
    worker::{self, ExecutorSaid, Worker},
};

pub(super) const PROGRAM: ProgramId = ProgramId([7; 16]);
const LINK_DELAY: Duration = Duration::from_micros(100);

/// What a task does, encoded as its arguments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Do {
    Return,
    Fail,
    Crash,
    /// Never returns.
    Hang,
    /// Crashes in the first attempts, then returns.
    CrashTimes(u8),
    FailTimes(u8),
    /// Goes on from the state that it finds, saves so many, the first attempt crashes half way.
    Saves(u8),
}

impl Do {
    pub(super) fn args(self, millis: u16) -> Payload {
        let (kind, times) = match self {
            Self::Return => (0, 0),
            Self::Fail => (1, 0),
            Self::Crash => (2, 0),
            Self::Hang => (3, 0),
            Self::CrashTimes(times) => (4, times),
            Self::FailTimes(times) => (5, times),
            Self::Saves(times) => (6, times),
        };
        let [low, high] = millis.to_le_bytes();
        Payload::copy_from_slice(&[kind, times, low, high])
    }
}

enum Arrival {
    AtMasterFromClient(usize, u32, Bytes),
    AtMasterFromWorker(usize, u32, Bytes),
    AtClient(usize, u32, Bytes),
    AtWorker(usize, u32, Bytes),
    ExecutorReady(usize, ExecutorId),
    TaskEnds(usize, ExecutorId, u64),
    TaskSaves(usize, ExecutorId, u64),
    /// A task has run for long, if it still does: what was read behind it goes back.
    TaskIsLong(usize, ExecutorId, u64),
    ExecutorEnded(usize, ExecutorId, Ending),
    /// A worker has acknowledged a beat.
    Heard(usize, u32),
    /// A program has come to a worker.
    Fetched(usize, ProgramId),
    Shared(usize, ShareId),
}

/// A simulated process that runs tasks one after the other.
#[derive(Default)]
struct Process {
    queue: VecDeque<(TaskId, u32, Payload)>,
    /// Results that were not flushed yet.
    unflushed: Vec<(Class, u64, Payload)>,
    started: Time,
    run: u64,
    dying: bool,
    /// How many questions it has asked, and the state it has come to.
    asked: u32,
    state: u8,
}

pub(super) struct WorkerHost {
    pub(super) machine: Worker,
    program: ProgramId,
    programs: Programs,
    slots: u32,
    /// Why no program can be fetched there, if so.
    pub(super) unfit: Option<String>,
    /// Programs it has forgotten.
    pub(super) dropped: Vec<ProgramId>,
    /// How many executors were started, by program.
    pub(super) started: BTreeMap<ProgramId, usize>,
    /// Whether nothing gets through, in either direction.
    cut: bool,
    /// Whether all tasks crash here.
    bad: bool,
    /// Grows when the connection is cut, so that what was on its way is lost.
    link: u32,
    id: Option<WorkerId>,
    processes: BTreeMap<ExecutorId, Process>,
    pub(super) left: bool,
    pub(super) broken: Option<String>,
    /// Tasks in the order they began to run.
    pub(super) began: Vec<(Time, TaskId)>,
    pub(super) killed: usize,
    pub(super) dropped_shares: Vec<ShareId>,
}

pub(super) struct ClientHost {
    pub(super) machine: Client,
    link: u32,
    id: Option<ClientId>,
    program: ProgramId,
    /// The how-manieth master it was connected to last.
    master: u32,
    pub(super) done: BTreeMap<TaskId, (Time, Completion)>,
    pub(super) recorded: Vec<TaskId>,
    pub(super) stalls: Vec<(Time, Stall)>,
    pub(super) counts: Vec<(Time, Counts)>,
    /// Jobs of which it was told that they take longer than any worker has, with what both are in seconds.
    pub(super) too_long: Vec<(JobIndex, u32, u32)>,
    /// While set the client reads nothing; what arrives waits here.
    pub(super) deaf: bool,
    /// What its tasks have saved, and whether it does nothing of what they ask.
    pub(super) states: BTreeMap<TaskId, Payload>,
    pub(super) idle: bool,
    pub(super) unread: VecDeque<Bytes>,
    pub(super) next_task: u64,
}

pub(super) struct World {
    pub(super) now: Time,
    pub(super) master: Master,
    pub(super) workers: Vec<WorkerHost>,
    pub(super) clients: Vec<ClientHost>,
    arrivals: BTreeMap<(Time, u64), Arrival>,
    sequence: u64,
    /// Peers that the next master would be told of, and a number above all of theirs.
    roster: BTreeMap<u32, Member>,
    roster_end: u32,
    masters: u32,
    /// Executors keep up to so many results back, as real ones do under load.
    pub(super) bundle: usize,
    /// For how long the sessions of new clients are to be kept.
    pub(super) keep_for: Option<Duration>,
    pub(super) disconnected: Vec<(ClientId, &'static str)>,
    /// Workers that clients were told are sent no more.
    pub(super) set_aside: Vec<String>,
    /// The states that attempts began with.
    pub(super) loaded: Vec<(TaskId, u32, u8)>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            now: Time::ZERO,
            master: Master::new(master::Config::default()),
            workers: Vec::new(),
            clients: Vec::new(),
            arrivals: BTreeMap::new(),
            sequence: 0,
            roster: BTreeMap::new(),
            roster_end: 0,
            masters: 0,
            bundle: 1,
            keep_for: None,
            disconnected: Vec::new(),
            set_aside: Vec::new(),
            loaded: Vec::new(),
        }
    }

    pub(super) fn worker(&mut self, slots: u32) -> usize {
        self.worker_with(
            PROGRAM,
            worker::Config { slots, programs: Programs::Own, ..worker::Config::default() },
        )
    }

    pub(super) fn worker_with(&mut self, program: ProgramId, config: worker::Config) -> usize {
        let (slots, programs) = (config.slots, config.programs);
        let own = worker::Origin { program, setting: SettingId::default() };
        self.workers.push(WorkerHost {
            machine: Worker::new(worker::Config { own, ..config }),
            unfit: None,
            dropped: Vec::new(),
            started: BTreeMap::new(),
            cut: false,
            bad: false,
            link: 0,
            id: None,
            program,
            programs,
            slots,
            processes: BTreeMap::new(),
            left: false,
            broken: None,
            began: Vec::new(),
            killed: 0,
            dropped_shares: Vec::new(),
        });
        let index = self.workers.len() - 1;
        self.join_worker(index);
        index
    }

    fn join_worker(&mut self, index: usize) {
        let session = session(index, true, self.workers[index].id.map(|id| id.0));
        let Admitted { id, returned } = self.master.admit(self.now, true, &session);
        let worker = WorkerId(id);
        let host = &mut self.workers[index];
        host.id = Some(worker);
        host.cut = false;
        let (program, programs, slots) = (host.program, host.programs, host.slots);
        let (program_name, name) = ("sim".to_owned(), format!("node{index}:1"));
        let joined =
            master::Event::WorkerJoined { worker, program, programs, program_name, name, slots, returned };
        self.master.handle(self.now, joined);
        self.workers[index].machine.handle(self.now, worker::Event::Joined { returned });
        self.settle();
    }

    pub(super) fn client(&mut self) -> usize {
        self.client_of(PROGRAM)
    }

    pub(super) fn client_of(&mut self, program: ProgramId) -> usize {
        self.clients.push(ClientHost {
            machine: Client::new(client::Config { keep_for: self.keep_for, ..client::Config::default() }),
            link: 0,
            id: None,
            program,
            master: 0,
            done: BTreeMap::new(),
            recorded: Vec::new(),
            stalls: Vec::new(),
            counts: Vec::new(),
            too_long: Vec::new(),
            deaf: false,
            states: BTreeMap::new(),
            idle: false,
            unread: VecDeque::new(),
            next_task: 0,
        });
        let index = self.clients.len() - 1;
        self.connect_client(index);
        index
    }

    fn connect_client(&mut self, index: usize) {
        let session = session(index, false, self.clients[index].id.map(|id| id.0));
        let Admitted { id, returned } = self.master.admit(self.now, false, &session);
        let client = ClientId(id);
        let host = &mut self.clients[index];
        host.id = Some(client);
        let resumed = match (returned, host.master == self.masters) {
            (false, _) => Resumed::No,
            (true, true) => Resumed::SameMaster,
            (true, false) => Resumed::NextMaster,
        };
        host.master = self.masters;
        let program = host.program;
        self.master.handle(self.now, master::Event::ClientJoined { client, program, returned });
        let window = self.master.window();
        self.client_event(index, client::Event::Connected { window, session: resumed });
    }

    /// Declares the next spec of a client; specs are numbered from 0 in the order of these calls.
    pub(super) fn declare(&mut self, client: usize, what: Spec) {
        self.client_event(client, client::Event::Declare { what });
    }

    pub(super) fn submit(&mut self, client: usize, spec: u32, args: Payload) -> TaskId {
        self.submit_as(client, spec, args, false)
    }

    pub(super) fn submit_as(&mut self, client: usize, spec: u32, args: Payload, durable: bool) -> TaskId {
        let host = &mut self.clients[client];
        let task = TaskId(host.next_task);
        host.next_task += 1;
        host.machine.handle(self.now, client::Event::Submit { task, spec: SpecIndex(spec), durable, args });
        self.settle();
        task
    }

    pub(super) fn cancel(&mut self, client: usize, task: TaskId) {
        self.client_event(client, client::Event::Cancel { task });
    }

    pub(super) fn client_event(&mut self, client: usize, event: client::Event) {
        self.clients[client].machine.handle(self.now, event);
        self.settle();
    }

    /// A worker learns how long it has left.
    pub(super) fn ends(&mut self, worker: usize, left: Option<Duration>) {
        self.workers[worker].machine.handle(self.now, worker::Event::Ends { left });
        self.settle();
    }

    /// The worker's node dies.
    pub(super) fn kill_worker(&mut self, index: usize) {
        let host = &mut self.workers[index];
        host.link += 1;
        host.processes.clear();
        host.left = true;
        let worker = host.id.take().expect("killed once");
        host.machine.handle(self.now, worker::Event::MasterLost);
        while host.machine.poll_action().is_some() {}
        self.master.handle(self.now, master::Event::WorkerLost { worker });
        self.settle();
    }

    /// What a worker and the master say does not reach the other; neither learns of it but by the silence.
    pub(super) fn cut_worker(&mut self, index: usize) {
        self.workers[index].link += 1;
        self.workers[index].cut = true;
    }

    /// A connection that was cut carries again, before either side has given it up.
    pub(super) fn mend_worker(&mut self, index: usize) {
        self.workers[index].cut = false;
    }

    /// A worker that was cut off is on a new connection.
    pub(super) fn rejoin_worker(&mut self, index: usize) {
        self.workers[index].link += 1;
        self.workers[index].machine.handle(self.now, worker::Event::MasterLost);
        self.join_worker(index);
    }

    /// A client's connection breaks, and it makes another.
    pub(super) fn reconnect_client(&mut self, index: usize) {
        self.disconnect_client(index);
        self.connect_client(index);
    }

    pub(super) fn disconnect_client(&mut self, index: usize) {
        self.clients[index].link += 1;
        let client = self.clients[index].id.expect("it was connected");
        self.master.handle(self.now, master::Event::ClientLost { client });
        self.settle();
        self.client_event(index, client::Event::MasterLost);
    }

    /// A client's process is dead; another goes on with its session and claims these tasks, of the first spec.
    pub(super) fn succeed_client(&mut self, index: usize, spec: Spec, claims: &[TaskId]) {
        let host = &mut self.clients[index];
        host.machine = Client::default();
        // It has seen no master yet.
        host.master = u32::MAX;
        host.done.clear();
        host.machine.handle(self.now, client::Event::Declare { what: spec });
        for task in claims {
            host.machine.handle(self.now, client::Event::Claim { task: *task, spec: SpecIndex(0) });
        }
        self.connect_client(index);
    }

    /// A client dies while there is no connection that could break.
    pub(super) fn forget_client(&mut self, index: usize) {
        self.clients[index].id = None;
    }

    /// From now on each executor of a worker dies of its first task.
    pub(super) fn break_worker(&mut self, index: usize) {
        self.workers[index].bad = true;
    }

    pub(super) fn stop_worker(&mut self, index: usize) {
        self.workers[index].machine.handle(self.now, worker::Event::Leave);
        self.settle();
    }

    pub(super) fn kill_client(&mut self, index: usize) {
        let host = &mut self.clients[index];
        host.link += 1;
        let client = host.id.take().expect("killed once");
        self.master.handle(self.now, master::Event::ClientLost { client });
        self.settle();
    }

    /// The master dies with all it knows; another starts; all come back to it.
    pub(super) fn restart_master(&mut self) {
        self.kill_master();
        for index in 0..self.clients.len() {
            self.connect_client(index);
        }
        for index in 0..self.workers.len() {
            if !self.workers[index].left {
                self.join_worker(index);
            }
        }
    }

    /// Another master takes the place of the one there was; nobody has come back to it yet.
    pub(super) fn kill_master(&mut self) {
        let first_id = self.roster_end;
        let config = master::Config {
            roster: self.roster.values().copied().collect(),
            first_id,
            now: self.now,
            ..master::Config::default()
        };
        self.master = Master::new(config);
        self.masters += 1;
        for index in 0..self.clients.len() {
            self.clients[index].link += 1;
            self.client_event(index, client::Event::MasterLost);
        }
        for host in &mut self.workers {
            host.link += 1;
            host.machine.handle(self.now, worker::Event::MasterLost);
        }
    }

    pub(super) fn join_again(&mut self, worker: usize) {
        self.join_worker(worker);
    }

    pub(super) fn connect_again(&mut self, client: usize) {
        self.connect_client(client);
    }

    pub(super) fn hear_again(&mut self, client: usize) {
        self.clients[client].deaf = false;
        for frame in std::mem::take(&mut self.clients[client].unread) {
            self.client_hears(client, frame);
        }
        self.settle();
    }

    /// Runs until nothing is on its way and no timer is due before `limit`.
    pub(super) fn run_until(&mut self, limit: Time) {
        while let Some(next) = self.next_time()
            && next <= limit
        {
            self.now = self.now.max(next);
            self.step();
        }
        self.now = limit;
    }

    /// Runs until every task of every client has its answer.
    pub(super) fn run(&mut self) {
        let limit = self.now + Duration::from_secs(100_000);
        while self.clients.iter().any(|client| client.id.is_some() && client.machine.open_tasks() > 0) {
            let next = self.next_time().expect("tasks are open and nothing will ever happen");
            assert!(next <= limit, "tasks are open after 100,000 seconds");
            self.now = self.now.max(next);
            self.step();
        }
    }

    /// Lets acknowledgements arrive, then demands that nobody holds anything any more.
    pub(super) fn assert_quiet(&mut self) {
        self.run_until(self.now + Duration::from_secs(5));
        assert!(self.master.is_quiet(), "the master holds something");
        for (index, host) in self.workers.iter().enumerate() {
            assert!(
                host.left || host.machine.is_quiet(),
                "worker {index} holds something: {:?}",
                host.machine
            );
        }
    }

    fn next_time(&self) -> Option<Time> {
        let arrival = self.arrivals.keys().next().map(|(time, _)| *time);
        let timers =
            self.workers.iter().filter(|host| !host.left).filter_map(|host| host.machine.poll_timeout());
        timers.chain(arrival).chain(self.master.poll_timeout()).min()
    }

    fn step(&mut self) {
        while let Some(entry) = self.arrivals.first_entry()
            && entry.key().0 <= self.now
        {
            let arrival = entry.remove();
            self.arrive(arrival);
        }
        if self.master.poll_timeout().is_some_and(|due| due <= self.now) {
            self.master.handle_timeout(self.now);
        }
        for host in &mut self.workers {
            if !host.left && host.machine.poll_timeout().is_some_and(|due| due <= self.now) {
                host.machine.handle_timeout(self.now);
            }
        }
        self.settle();
        self.master.check();
        self.workers.iter().for_each(|host| host.machine.check());
    }

    fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::AtMasterFromClient(index, link, frame) => {
                if let Some(client) = self.clients[index].id.filter(|_| self.clients[index].link == link) {
                    let (message, body) = wire::decode::<FromClient>(&frame).unwrap();
                    self.master.handle(self.now, master::Event::ClientSaid { client, message, body });
                }
            }
            Arrival::AtMasterFromWorker(index, link, frame) => {
                if let Some(worker) = self.workers[index].id.filter(|_| self.workers[index].link == link) {
                    let (message, body) = wire::decode::<FromWorker>(&frame).unwrap();
                    self.master.handle(self.now, master::Event::WorkerSaid { worker, message, body });
                }
            }
            Arrival::AtClient(index, link, frame) if self.clients[index].link == link => {
                if self.clients[index].deaf {
                    self.clients[index].unread.push_back(frame);
                } else {
                    self.client_hears(index, frame);
                }
            }
            Arrival::AtWorker(index, link, frame) if self.workers[index].link == link => {
                let (message, body) = wire::decode::<ToWorker>(&frame).unwrap();
                if matches!(message, ToWorker::Beat { .. }) {
                    self.after(LINK_DELAY, Arrival::Heard(index, link));
                }
                self.workers[index].machine.handle(self.now, worker::Event::MasterSaid { message, body });
            }
            Arrival::ExecutorReady(index, executor) => {
                if self.workers[index].processes.contains_key(&executor) {
                    self.executor_says(index, executor, ExecutorSaid::Ready);
                }
            }
            Arrival::TaskEnds(index, executor, run) => self.task_ends(index, executor, run),
            Arrival::TaskSaves(index, executor, run) => self.task_saves(index, executor, run),
            Arrival::TaskIsLong(index, executor, run) => self.task_is_long(index, executor, run),
            Arrival::ExecutorEnded(index, executor, ending) => self.executor_ended(index, executor, ending),
            Arrival::Heard(index, link) => {
                if let Some(worker) = self.workers[index].id.filter(|_| self.workers[index].link == link) {
                    self.master.handle(self.now, master::Event::WorkerHeard { worker });
                }
            }
            Arrival::Fetched(index, program) => {
                let host = &mut self.workers[index];
                let result = host.unfit.clone().map_or(Ok(()), Err);
                host.machine.handle(self.now, worker::Event::Fetched { program, result });
            }
            Arrival::Shared(index, share) => {
                let host = &mut self.workers[index];
                let no_share = host.unfit.clone().map(worker::NoShare::There);
                let result = no_share.map_or(Ok(Payload::new()), Err);
                host.machine.handle(self.now, worker::Event::Shared { share, result });
            }
            Arrival::AtClient(..) | Arrival::AtWorker(..) => {}
        }
    }

    fn client_hears(&mut self, index: usize, frame: Bytes) {
        let (message, body) = wire::decode::<ToClient>(&frame).unwrap();
        self.clients[index].machine.handle(self.now, client::Event::MasterSaid { message, body });
    }

    fn executor_says(&mut self, index: usize, executor: ExecutorId, said: ExecutorSaid) {
        self.workers[index].machine.handle(self.now, worker::Event::ExecutorSaid { executor, said });
    }

    fn task_ends(&mut self, index: usize, executor: ExecutorId, run: u64) {
        let (now, bundle) = (self.now, self.bundle);
        let bad = self.workers[index].bad;
        let Some(process) = self.workers[index].processes.get_mut(&executor) else { return };
        if process.run != run || process.dying {
            return;
        }
        let (task, attempt, args) = process.queue.pop_front().expect("it ran");
        let micros = u64::try_from(now.since(process.started).as_micros()).unwrap();
        let times = u32::from(args[1]);
        let failure = || Failure::Failed { message: "no".to_owned(), chain: vec![], value: None };
        let outcome = match args[0] {
            0 if !bad => (Class::Ok, Payload::from(task.0.to_le_bytes().to_vec())),
            1 => (Class::Failed, failure().encode()),
            5 if attempt <= times => (Class::Failed, failure().encode()),
            4 if attempt > times => (Class::Ok, Payload::from(task.0.to_le_bytes().to_vec())),
            5 | 6 => (Class::Ok, Payload::from(task.0.to_le_bytes().to_vec())),
            _ => {
                process.dying = true;
                return self.after(
                    Duration::from_micros(50),
                    Arrival::ExecutorEnded(index, executor, Ending::Signal(11)),
                );
            }
        };
        process.unflushed.push((outcome.0, micros, outcome.1));
        let flush = process.queue.is_empty() || process.unflushed.len() >= bundle;
        let said = if flush { std::mem::take(&mut process.unflushed) } else { Vec::new() };
        for (class, micros, body) in said {
            self.executor_says(index, executor, ExecutorSaid::Done { class, micros, output: 0, body });
        }
        self.begin_next(index, executor);
    }

    fn task_is_long(&mut self, index: usize, executor: ExecutorId, run: u64) {
        let Some(process) = self.workers[index].processes.get_mut(&executor) else { return };
        if process.run != run || process.dying || process.queue.len() < 2 {
            return;
        }
        let tasks = u32::try_from(process.queue.len() - 1).unwrap();
        process.queue.truncate(1);
        for (class, micros, body) in std::mem::take(&mut process.unflushed) {
            self.executor_says(index, executor, ExecutorSaid::Done { class, micros, output: 0, body });
        }
        self.executor_says(index, executor, ExecutorSaid::NotStarted { tasks });
    }

    fn begin_next(&mut self, index: usize, executor: ExecutorId) {
        let host = &mut self.workers[index];
        let Some(process) = host.processes.get_mut(&executor) else { return };
        let Some((task, _, args)) = process.queue.front() else { return };
        host.began.push((self.now, *task));
        process.started = self.now;
        process.run = self.sequence;
        (process.state, process.asked) = (0, 0);
        let run = self.sequence;
        let (is_hung, saves) = (args[0] == 3, args[0] == 6);
        let millis = u64::from(u16::from_le_bytes([args[2], args[3]]));
        if is_hung || millis > 10 {
            self.after(Duration::from_millis(10), Arrival::TaskIsLong(index, executor, run));
        }
        if saves {
            self.ask(index, executor, Ask::Load, Payload::new());
        } else if !is_hung {
            self.after(Duration::from_millis(millis), Arrival::TaskEnds(index, executor, run));
        }
        self.sequence += 1;
    }

    fn ask(&mut self, index: usize, executor: ExecutorId, ask: Ask, body: Payload) {
        let process = self.workers[index].processes.get_mut(&executor).expect("it runs");
        process.asked += 1;
        let (task, attempt, _) = process.queue.front().cloned().expect("it runs");
        let (attempt, number) = (Attempt(attempt), process.asked);
        self.executor_says(index, executor, ExecutorSaid::Asks { task, attempt, number, ask, body });
    }

    fn task_saves(&mut self, index: usize, executor: ExecutorId, run: u64) {
        let process = self.workers[index].processes.get(&executor);
        if let Some(process) = process.filter(|process| process.run == run && !process.dying) {
            self.ask(index, executor, Ask::Save, Payload::from(vec![process.state + 1]));
        }
    }

    /// A task that saves has its answer: it goes on, crashes, or ends.
    fn answered(&mut self, index: usize, executor: ExecutorId, number: u32, body: &[u8]) {
        let Some(process) = self.workers[index].processes.get_mut(&executor) else { return };
        if process.dying {
            return;
        }
        assert_eq!(number, process.asked, "the answer to another question");
        let (task, attempt, args) = process.queue.front().cloned().expect("it waits for this");
        if number == 1 {
            process.state = body.first().copied().unwrap_or_default();
            self.loaded.push((task, attempt, process.state));
        } else {
            process.state += 1;
        }
        let (state, times, run) = (process.state, args[1], process.run);
        let pause = Duration::from_millis(u64::from(u16::from_le_bytes([args[2], args[3]])));
        if attempt == 1 && number > 1 && state == times / 2 {
            process.dying = true;
            return self.after(pause, Arrival::ExecutorEnded(index, executor, Ending::Signal(11)));
        }
        let ends = state >= times;
        self.after(
            pause,
            match ends {
                true => Arrival::TaskEnds(index, executor, run),
                false => Arrival::TaskSaves(index, executor, run),
            },
        );
    }

    fn executor_ended(&mut self, index: usize, executor: ExecutorId, ending: Ending) {
        if self.workers[index].processes.remove(&executor).is_some() {
            let (hint, stderr, worker) = (None, "last words".to_owned(), format!("node{index}:1"));
            self.executor_says(
                index,
                executor,
                ExecutorSaid::Ended { ending, hint, stderr, output: Payload::new(), worker },
            );
        }
    }

    fn after(&mut self, delay: Duration, arrival: Arrival) {
        self.arrivals.insert((self.now + delay, self.sequence), arrival);
        self.sequence += 1;
    }

    /// Carries out actions until no machine has any.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            while let Some(action) = self.master.poll_action() {
                moved = true;
                self.master_does(action);
            }
            for index in 0..self.workers.len() {
                while let Some(action) = self.workers[index].machine.poll_action() {
                    moved = true;
                    self.worker_does(index, action);
                }
            }
            for index in 0..self.clients.len() {
                while let Some(action) = self.clients[index].machine.poll_action() {
                    moved = true;
                    self.client_does(index, action);
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn master_does(&mut self, action: master::Action) {
        match action {
            master::Action::TellClient { client, message, body } => {
                let Some(index) = self.clients.iter().position(|host| host.id == Some(client)) else {
                    return;
                };
                let link = self.clients[index].link;
                self.after(LINK_DELAY, Arrival::AtClient(index, link, frame(&message, &body)));
            }
            master::Action::TellWorker { worker, message, body } => {
                let Some(index) = self.workers.iter().position(|host| host.id == Some(worker)) else {
                    return;
                };
                let link = self.workers[index].link;
                if self.workers[index].cut {
                    return;
                }
                self.after(LINK_DELAY, Arrival::AtWorker(index, link, frame(&message, &body)));
            }
            master::Action::Disconnect { client, why } => self.disconnected.push((client, why)),
            master::Action::DisconnectWorker { .. } => {}
            master::Action::Note(RosterLine::Joined(member)) => {
                self.roster_end = self.roster_end.max(member.id + 1);
                self.roster.insert(member.id, member);
            }
            master::Action::Note(RosterLine::Left { id }) => drop(self.roster.remove(&id)),
        }
    }

    fn worker_does(&mut self, index: usize, action: worker::Action) {
        let link = self.workers[index].link;
        match action {
            worker::Action::Tell { .. } if self.workers[index].cut => {}
            worker::Action::Tell { message, body } => {
                self.after(LINK_DELAY, Arrival::AtMasterFromWorker(index, link, frame(&message, &body)));
            }
            worker::Action::Start { executor, program, .. } => {
                let host = &mut self.workers[index];
                host.processes.insert(executor, Process::default());
                *host.started.entry(program).or_default() += 1;
                assert!(host.processes.len() as u32 <= 1024, "executors pile up");
                self.after(Duration::from_millis(3), Arrival::ExecutorReady(index, executor));
            }
            worker::Action::Feed { executor, message, body } => {
                singles(&message, &body).into_iter().for_each(|fed| self.feed(index, executor, fed));
            }
            worker::Action::Kill { executor } => {
                let host = &mut self.workers[index];
                host.killed += 1;
                if let Some(process) = host.processes.get_mut(&executor) {
                    process.dying = true;
                }
                self.after(
                    Duration::from_millis(1),
                    Arrival::ExecutorEnded(index, executor, Ending::Signal(9)),
                );
            }
            worker::Action::Fetch { program, .. } => {
                self.after(Duration::from_millis(50), Arrival::Fetched(index, program));
            }
            worker::Action::FetchShare { share, .. } => {
                self.after(Duration::from_millis(50), Arrival::Shared(index, share));
            }
            worker::Action::DropShare { share, .. } => self.workers[index].dropped_shares.push(share),
            worker::Action::Drop { program } => self.workers[index].dropped.push(program),
            worker::Action::Broken { why } => self.workers[index].broken = Some(why),
            worker::Action::Idle => {}
            worker::Action::Over => {}
            worker::Action::Left => {
                self.workers[index].left = true;
                // What it said before it left still arrives.
            }
        }
    }

    fn feed(&mut self, index: usize, executor: ExecutorId, (message, body): (ToExecutor, Payload)) {
        if let ToExecutor::Answers { number, .. } = message {
            return self.answered(index, executor, number, &body);
        }
        let (ToExecutor::Run { task, attempt, .. } | ToExecutor::RunApart { task, attempt, .. }) = message
        else {
            return;
        };
        let process = self.workers[index].processes.get_mut(&executor).expect("fed a dead executor");
        process.queue.push_back((task, attempt.0, body));
        if process.queue.len() == 1 && !process.dying {
            self.begin_next(index, executor);
        }
    }

    fn client_does(&mut self, index: usize, action: client::Action) {
        match action {
            client::Action::Tell { message, body } => {
                let link = self.clients[index].link;
                self.after(LINK_DELAY, Arrival::AtMasterFromClient(index, link, frame(&message, &body)));
            }
            client::Action::Complete { task, completion } => {
                let now = self.now;
                let before = self.clients[index].done.insert(task, (now, completion));
                assert!(before.is_none(), "{task} was completed twice");
            }
            client::Action::Completes { of, ends, .. } => {
                for Entry { task, micros, bytes: body } in ends.entries() {
                    let completion = of.completion(micros, body);
                    self.client_does(index, client::Action::Complete { task, completion });
                }
            }
            client::Action::Record { task, .. } => {
                self.clients[index].recorded.push(task);
                let now = self.now;
                self.clients[index].machine.handle(now, client::Event::Recorded { task });
            }
            client::Action::Stalled(why) => {
                let now = self.now;
                self.clients[index].stalls.push((now, why));
            }
            client::Action::Ask { task, attempt, number, ask, body } if !self.clients[index].idle => {
                let host = &mut self.clients[index];
                let (answer, body) = match ask {
                    Ask::Save => {
                        host.states.insert(task, body);
                        (Answer::Done, Payload::new())
                    }
                    Ask::Load => match host.states.get(&task) {
                        Some(state) => (Answer::Done, state.clone()),
                        None => (Answer::Nothing, Payload::new()),
                    },
                    Ask::Folder => (Answer::Failed, Payload::new()),
                };
                let answered = client::Event::Answered { task, attempt, number, answer, body };
                host.machine.handle(self.now, answered);
            }
            client::Action::Ask { .. } => {}
            client::Action::Moving | client::Action::Progress { .. } => {}
            client::Action::SetAside { worker, .. } => self.set_aside.push(worker),
            client::Action::TooLong { job, p90_seconds, longest_seconds } => {
                self.clients[index].too_long.push((job, p90_seconds, longest_seconds));
            }
            client::Action::Remark { .. } | client::Action::Output { .. } => {}
            client::Action::Counts(counts) => {
                let now = self.now;
                self.clients[index].counts.push((now, counts));
            }
        }
    }

    /// The master's number for a client.
    pub(super) fn id(&self, client: usize) -> ClientId {
        self.clients[client].id.expect("it is connected")
    }

    pub(super) fn last_attempt(&self, client: usize, task: TaskId) -> u32 {
        self.clients[client].done[&task].1.attempt.0
    }

    pub(super) fn class(&self, client: usize, task: TaskId) -> Class {
        self.clients[client].done[&task].1.class
    }

    pub(super) fn attempts(&self, client: usize, task: TaskId) -> u32 {
        self.clients[client].done[&task].1.attempts
    }
}

/// The session of a host.
fn session(index: usize, is_worker: bool, known: Option<u32>) -> Session {
    let mut token = [u8::from(is_worker); 16];
    token[0] = u8::try_from(index).expect("worlds are small");
    Session { token: Token(token), known }
}

fn frame<H: Head>(message: &H, body: &[u8]) -> Bytes {
    let mut buffer = BytesMut::new();
    wire::encode(message, body, &mut buffer);
    wire::next_frame(&mut buffer).unwrap().expect("a whole frame was written")
}

/// Job 0 with no options.
pub(crate) fn plain() -> Spec {
    Spec {
        job: JobIndex(0),
        retries: 0,
        crash_limit: 3,
        timeout: None,
        priority: 0,
        loss_limit: 3,
        speculate: false,
        rerun: true,
        shares: Vec::new(),
        apart: false,
    }
}
