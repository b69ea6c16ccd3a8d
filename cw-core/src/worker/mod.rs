//! The worker: queues what the master sent, feeds executors, watches them, holds results.
//!
//! # An executor's states
//!
//! ```text
//!          Start               Ready            feed              Kill
//!   Down --------> Starting ---------> Idle <---------> Busy -------------> Dying
//!     ^               |                 |     all Done    |                   |
//!     +---------------+-----------------+-----------------+---- Ended --------+
//! ```
//!
//! A busy executor has a *batch*: the tasks it was fed and has not answered, in order. The first is
//! the one that runs, as far as the worker can know: an executor sends results in bundles, so when it
//! dies with more than one task in its batch, several could be to blame. They go back to the master
//! as suspects and run again alone. Only tasks of one client and of jobs known to be short share a
//! batch. Where the first nevertheless runs long, the executor hands back those it has not begun, so
//! nothing waits behind it, and a task whose timeout or cancellation kills the executor is alone in it.
//!
//! An attempt is fed to an executor at most once: whatever an executor took with it goes back to the
//! master, and comes again as a new attempt.
//!
//! # Results
//!
//! A result is sent if the client's credit allows, else held. It is kept until the client's
//! acknowledgement. A client with too much held starts no further task here: what it had queued goes back,
//! and the master sends it no more until half of that is gone (`held`).
//!
//! # The worker's own end
//!
//! An allocation ends, and may end later than it was said to: `ending`.
//!
//! # Without a master
//!
//! The end of the connection ends nothing: what runs goes on, and results are kept. A master that knows the worker is
//! told all that it has (`account`); one that does not gets a worker that starts afresh. Whoever sends nothing for long
//! gives tasks that have not begun to others, so none is begun once the *lease* of the last beat is over.

mod account;
mod batch;
mod burst;
mod ending;
mod event;
mod executors;
mod feed;
mod held;
mod idle;
mod line;
mod programs;
mod questions;
mod queue;
mod sent;
mod shares;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    Payload, Time,
    actions::Actions,
    idmap::IdMap,
    ids::{Attempt, ClientId, ExecutorId, ProgramId, ShareId, SpecIndex, TaskId},
    wire::{FromWorker, Programs, Returned, Spec, ToWorker},
};
use ending::Ending;
pub use event::{Action, Event, ExecutorSaid};
use executors::{Executor, Running, Slot};
use held::Client;
pub use programs::Origin;
use programs::{Program, Starts};
use queue::{Pending, Queue};
pub use shares::NoShare;
use shares::Share;

/// What bounds a worker.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many tasks run at once, at least 1.
    pub slots: u32,
    /// Its own program, and what its executors are started with if nobody says anything else.
    pub own: Origin,
    /// Which programs it runs.
    pub programs: Programs,
    /// Whether executors of its own program are started before there are tasks for them.
    pub start_early: bool,
    /// How long a slot goes on with one program while tasks of another wait.
    pub quantum: Duration,
    /// An executor without a task for so long is ended.
    pub idle_time: Option<Duration>,
    /// A shared value that no task has shared for so long, or for up to twice as long, is forgotten.
    pub share_time: Duration,
    /// How many programs are kept ready whose clients are all gone.
    pub spare_programs: usize,
    /// Most tasks fed to one executor at once.
    pub batch_tasks: usize,
    /// Most expected run time fed to one executor at once, beyond the first task.
    pub batch_time: Duration,
    /// A client with more bytes of results held here starts no further task.
    pub held_bytes: u64,
    /// Executors of a program that die before they are ready, in a row and with none alive, until it is given up here.
    pub start_failures: u32,
    /// A task that has run for so long is told of, as it would be to blame for the loss of this worker.
    pub started_after: Duration,
    /// How long an executor may take to get ready, or to say that it runs the program's hooks before.
    pub start_time: Duration,
    /// Whether there is no other worker to leave the tasks to: those that cannot start are refused.
    pub alone: bool,
    /// Pause after the first such death; doubles with each.
    pub start_pause: Duration,
    /// A worker that had nothing to do for so long, since it joined or since its last task, leaves.
    pub idle_end: Option<Duration>,
    /// So long before its end the worker leaves, but at most a tenth of all its time before.
    pub end_grace: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            slots: 1,
            own: Origin::default(),
            programs: Programs::Any,
            start_early: true,
            quantum: Duration::from_secs(1),
            idle_time: Some(Duration::from_secs(60)),
            share_time: Duration::from_secs(60),
            spare_programs: 4,
            batch_tasks: 1_024,
            batch_time: Duration::from_micros(1_000),
            held_bytes: 64 << 20,
            start_failures: 3,
            started_after: Duration::from_millis(20),
            start_time: Duration::from_secs(30),
            alone: false,
            start_pause: Duration::from_millis(100),
            idle_end: None,
            end_grace: Duration::from_secs(10),
        }
    }
}

/// The worker's state. See the [module](self) for the states of an executor.
#[derive(Debug)]
pub struct Worker {
    config: Config,
    now: Time,
    slots: Vec<Slot>,
    next_executor: u64,
    /// The slot of each executor whose end was not reported.
    executors: IdMap<ExecutorId, usize>,
    queue: Queue,
    /// The programs of its clients, its own, and some that it had before.
    programs: BTreeMap<ProgramId, Program>,
    /// Kinds of executors that did not start lately.
    starts: BTreeMap<Origin, Starts>,
    /// What clients said of themselves, by what their executors are started with.
    bodies: BTreeMap<Origin, Payload>,
    /// Values that tasks of its clients share.
    shares: BTreeMap<ShareId, Share>,
    /// When it is next looked for those that are not used any more.
    look_at_shares: Option<Time>,
    /// Those of them that are the arguments of tasks here.
    apart: BTreeMap<ShareId, Arc<ShareId>>,
    /// Those of which one has ended well.
    spent: BTreeSet<ShareId>,
    /// How many executors of its own program are to be started before there are tasks for them.
    early: usize,
    clients: BTreeMap<ClientId, Client>,
    /// Whether there is a master that hears.
    attached: bool,
    /// No task is begun from then on, unless the master is heard again; none if it set no such time.
    lease: Option<Time>,
    /// What must be told to the master once there is one: it does not follow from what is here.
    unsaid: Vec<FromWorker>,
    /// When it last had something to do, as far as that was noted, and when it is next looked whether it is idle.
    worked: Time,
    look_idle: Option<Time>,
    /// When it last told its master that it has had nothing to do for long.
    said_idle: Option<Time>,
    leaving: bool,
    ending: Ending,
    actions: Actions<Action>,
    unfed: bool,
}

impl Worker {
    /// A worker with nothing to do.
    pub fn new(config: Config) -> Self {
        let slots = (0..config.slots.max(1)).map(|_| Slot::default()).collect();
        Self {
            now: Time::ZERO,
            slots,
            next_executor: 0,
            executors: IdMap::default(),
            queue: Queue::default(),
            programs: BTreeMap::from([(config.own.program, Program::here())]),
            starts: BTreeMap::new(),
            shares: BTreeMap::new(),
            look_at_shares: None,
            apart: BTreeMap::new(),
            spent: BTreeSet::new(),
            bodies: BTreeMap::new(),
            early: if config.start_early { config.slots as usize } else { 0 },
            clients: BTreeMap::new(),
            attached: false,
            lease: None,
            unsaid: Vec::new(),
            worked: Time::ZERO,
            look_idle: None,
            said_idle: None,
            leaving: false,
            ending: Ending::default(),
            actions: Actions::default(),
            unfed: true,
            config,
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Time, event: Event) {
        self.now = now;
        self.unfed = true;
        match event {
            Event::MasterSaid { message, body } => self.on_master_said(message, body),
            Event::MasterLost => self.on_master_lost(),
            Event::Joined { returned } => self.on_joined(returned),
            Event::Fetched { program, result } => self.on_fetched(program, result),
            Event::Shared { share, result } => self.on_shared(share, result),
            Event::ExecutorSaid { executor, said } => self.on_executor_said(executor, said),
            Event::Leave => self.on_leave(),
            Event::Ends { left } => self.on_ends(left),
        }
    }

    /// Lets time pass: kills what is over its timeout.
    pub fn handle_timeout(&mut self, now: Time) {
        self.now = now;
        self.unfed = true;
        self.tell_started();
        self.kill_overdue();
        self.end_idle();
        self.try_shares();
        self.drop_unused();
        self.leave_if_idle();
        self.end_in_time();
    }

    /// The next thing to do; drain it after every batch of events.
    pub fn poll_action(&mut self) -> Option<Action> {
        if self.actions.is_empty() && std::mem::take(&mut self.unfed) {
            self.feed();
            self.drop_apart();
        }
        self.actions.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next due.
    pub fn poll_timeout(&self) -> Option<Time> {
        let timeouts = self.slots.iter().filter_map(Slot::deadline);
        let restart = self
            .next_start()
            .into_iter()
            .chain(self.next_rest())
            .chain(self.next_share())
            .chain(self.next_end());
        let idle = self.config.idle_time;
        let ends = self.slots.iter().filter_map(|slot| Some(slot.idle_since()? + idle?));
        let reports = self.slots.iter().filter_map(|slot| slot.unreported(self.config.started_after));
        let looks = restart.chain(self.next_idle_look());
        timeouts.chain(looks).chain(ends).chain(reports.filter(|_| self.attached)).min()
    }

    fn on_master_said(&mut self, message: ToWorker, body: Payload) {
        match message {
            ToWorker::Run { client, task, attempt, spec, alone } => {
                let (args, all, apart, at) = (body, None, None, 0);
                self.on_run(Pending { client, task, attempt, spec, alone, args, all, apart, at });
            }
            ToWorker::Runs { client, first, tasks, attempt, spec } => {
                self.on_runs(client, (first, tasks), (attempt, spec), body);
            }
            ToWorker::Received { client, first, tasks, attempt } => {
                self.on_received(client, first, tasks, attempt);
            }
            ToWorker::Declare { client, spec, what } => self.on_declare(client, spec, *what),
            ToWorker::Credit { client, bytes } => self.on_credit(client, bytes),
            ToWorker::Cancel { client, task, attempt } => self.on_cancel(client, task, attempt),
            ToWorker::Recall { tasks } => self.on_recall(tasks),
            ToWorker::Forget { client } => self.on_forget(client),
            ToWorker::MakeWay { client, below, tasks } => self.on_make_way(client, below, tasks),
            ToWorker::Beat { lease } => {
                self.lease = Some(self.now + Duration::from_millis(u64::from(lease)));
            }
            ToWorker::Account { client } => self.on_account(client),
            ToWorker::Leave => self.on_dismissed(),
            ToWorker::Meet { client, program, setting, output } => {
                self.on_meet(client, Origin { program, setting }, output, body);
            }
            ToWorker::Answers { client, task, attempt, number, answer } => {
                self.on_answers((client, task, attempt), (number, answer), body);
            }
            ToWorker::AskAgain { client, task, attempt } => self.on_ask_again(client, task, attempt),
        }
    }

    fn on_run(&mut self, mut pending: Pending) {
        self.note_work();
        let known = self.clients.get(&pending.client).is_some_and(|client| client.knows(pending.spec));
        if self.leaving || !known {
            let why = if self.leaving { Returned::Leaving } else { Returned::NotStarted };
            return self.give_back(&pending, why);
        }
        if self.clients[&pending.client].blocked && !planted!(FeedBlocked) {
            return self.give_back(&pending, Returned::Held);
        }
        let origin = self.origin_of(pending.client);
        if !self.take_apart(&mut pending) {
            return;
        }
        if self.has_shares(&pending) {
            self.enqueue(origin, pending);
        } else {
            self.queue.hold(origin, pending);
        }
        self.want(origin);
    }

    /// Puts a task last; but before those of its client that have a lower priority.
    fn enqueue(&mut self, origin: Origin, new: Pending) {
        let (id, client) = (new.client, &self.clients[&new.client]);
        if !client.has_lower_than(new.spec) {
            return self.queue.push(origin, new);
        }
        let priority = |pending: &Pending| client.spec(pending.spec).map_or(0, |spec| spec.what.priority);
        let own = priority(&new);
        self.queue.push_before(origin, new, |other| other.client == id && priority(other) < own);
    }

    fn on_declare(&mut self, client: ClientId, spec: SpecIndex, what: Spec) {
        self.want_shares(client, &what);
        self.clients.entry(client).or_default().declare(spec, what);
    }

    fn on_cancel(&mut self, client: ClientId, task: TaskId, attempt: Attempt) {
        let is_it = |p: &Pending| (p.client, p.task, p.attempt) == (client, task, attempt);
        if let Some(pending) = self.queue.take_first(self.origin_of(client), is_it) {
            // It never ran, which the master counts.
            return self.give_back(&pending, Returned::NotStarted);
        }
        if self.drop_waiting(client, task, attempt) {
            let why = Returned::Cancelled;
            return self.tell(FromWorker::Returned { client, task, attempt, why }, Payload::new());
        }
        self.cancel_fed(client, task, attempt);
    }

    /// Hands back what has not started, the last first: what came first is nearest to its turn.
    fn on_recall(&mut self, tasks: u32) {
        for _ in 0..tasks {
            let Some(pending) = self.queue.pop_last() else { break };
            self.give_back(&pending, Returned::Recalled);
        }
        self.tell(FromWorker::Recalled, Payload::new());
    }

    /// As a recall, of one client's tasks, perhaps only those of a lower priority.
    fn on_make_way(&mut self, client: ClientId, below: Option<i32>, tasks: u32) {
        let priority =
            |spec| self.clients.get(&client).and_then(|it| it.spec(spec)).map_or(0, |it| it.what.priority);
        let is_victim = |pending: &Pending| {
            pending.client == client && below.is_none_or(|below| priority(pending.spec) < below)
        };
        let victims = self.queue.take_last(self.origin_of(client), tasks as usize, is_victim);
        victims.iter().for_each(|pending| self.give_back(pending, Returned::Recalled));
        self.tell(FromWorker::Recalled, Payload::new());
    }

    /// Whatever the master knew of it was cancelled before; a master that was started anew does not know all.
    fn on_forget(&mut self, client: ClientId) {
        self.note_work();
        if planted!(KeepForgotten) {
            return;
        }
        drop(self.queue.take_all(self.origin_of(client), |pending| pending.client == client));
        self.clients.remove(&client);
        self.cancel_all_fed(client);
        self.end_unwanted();
        self.tidy();
    }

    /// Leaves on purpose: hands back what it has, kills what runs.
    fn on_leave(&mut self) {
        if std::mem::replace(&mut self.leaving, true) {
            return;
        }
        while let Some(pending) = self.queue.pop_last() {
            self.give_back(&pending, Returned::Leaving);
        }
        self.leave_executors();
        self.leave_if_done();
    }

    fn leave_if_done(&mut self) {
        if self.leaving && self.slots.iter().all(Slot::is_down) {
            self.tell(FromWorker::Leaving, Payload::new());
            self.actions.push_back(Action::Left);
        }
    }

    fn give_back(&mut self, pending: &Pending, why: Returned) {
        let Pending { client, task, attempt, .. } = *pending;
        self.tell(FromWorker::Returned { client, task, attempt, why }, Payload::new());
    }

    /// Without a master nobody hears; one that comes is told what is here, and what does not follow from that.
    fn tell(&mut self, message: FromWorker, body: Payload) {
        // These began, and are not here any more.
        let has_begun =
            matches!(message, FromWorker::Returned { why: Returned::Suspect | Returned::Killed, .. });
        if self.attached {
            self.actions.push_back(Action::Tell { message, body });
        } else if has_begun {
            self.unsaid.push(message);
        }
    }

    fn slot_of(&mut self, executor: ExecutorId) -> Option<&mut Slot> {
        self.executors.get(executor).map(|slot| &mut self.slots[*slot])
    }
}

#[cfg(any(test, feature = "sim"))]
impl Worker {
    /// Whether a client is to start no task here, as its results pile up.
    pub(crate) fn is_blocked(&self, client: ClientId) -> bool {
        self.clients.get(&client).is_some_and(|client| client.blocked)
    }

    /// Tasks fed to executors: never more executors than slots, so at most one runs per slot.
    pub(crate) fn check(&self) {
        assert_eq!(self.slots.len(), self.config.slots as usize);
        for slot in &self.slots {
            let batch = slot.batch();
            assert!(batch.len() <= self.config.batch_tasks, "a batch over the limit");
            assert!(
                batch.len() <= 1 || batch.iter().all(|running| !running.alone),
                "a lone task has company"
            );
        }
    }
}
