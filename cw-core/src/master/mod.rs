//! The master: queues tasks, places them on workers, passes results on.
//!
//! It decodes nothing of the user's and keeps nothing that a restart must find again.
//!
//! # A task's states
//!
//! ```text
//!            Submit              assign                 Finished (Ok, or retries spent)
//!   (none) ---------> Queued ------------> Sent ------------------------------> (none)
//!                       ^                  |  |
//!                       | Returned, retry, |  | Cancel
//!                       | worker lost      |  v
//!                       +------------------+  Cancelling ---- any answer ------> (none)
//! ```
//!
//! While a client's credit is used up, a task that has run stays at its worker as `Held`: its slot is
//! free, its result is not here.
//!
//! A task leaves the table when its result is passed on: the worker keeps the result until the
//! client's acknowledgement, which names worker and attempt, comes through. Every message about an
//! attempt is compared with the task's current one; what is stale changes nothing, and is
//! acknowledged so that the worker forgets it. But a result of an attempt that was given up is taken while there is none,
//! and its failure is counted.
//!
//! Tasks with a wish of their own wait as `Parked` (`parked`). Connections end and come back: `liveness` says who lives,
//! `reattach` what becomes of the tasks meanwhile.
//!
//! Plain tasks that came in one burst are kept, sent and passed on together, as `stretches`, until something is said of one
//! of them.
//!
//! Events only mark work. One pass of `assign` places tasks when the actions are drained,
//! so a thousand submissions in one wake-up cost one pass.

mod assign;
mod backlog;
mod breaker;
mod burst;
#[cfg(any(test, feature = "sim"))]
mod check;
mod clients;
mod ending;
mod ends;
mod event;
mod fair;
mod finish;
mod habits;
mod liveness;
mod members;
mod once;
mod parked;
mod plain;
mod programs;
mod questions;
mod reasons;
mod reattach;
mod resume;
mod sessions;
mod shares;
mod stall;
mod standing;
mod stretches;
mod tally;
mod tasks;
mod watch;
mod workers;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    Payload, Time,
    actions::Actions,
    ids::{ClientId, ProgramId, SpecIndex, TaskId, WorkerId},
    wire::{
        Doing, FromClient, FromWorker, PARTICULARS_BYTES_MAX, PAYLOAD_BYTES_MAX, Spec, ToClient, ToWorker,
        Window,
    },
};
pub use backlog::Backlog;
use clients::{Client, Introduction};
pub use event::{Action, Event, Member, RosterLine};
use habits::{Habits, Place};
pub use members::Admitted;
use members::Members;
use tasks::{State, Task};
use workers::Worker;

/// No client numbers its tasks as high.
const TASKS_END: TaskId = TaskId(1 << 63);

/// What bounds a master.
#[derive(Clone, Debug)]
pub struct Config {
    /// What a client may have in flight while there are few slots.
    pub window: Window,
    /// Tasks sent ahead of a free slot, per slot, at most.
    pub prefetch_tasks: u32,
    /// Expected run time sent ahead of a free slot, per slot. One task is sent ahead whatever it takes.
    pub prefetch_time: Duration,
    /// Tasks go to one worker in a row until they are expected to run for this long.
    pub run_time: Duration,
    /// As many plain tasks that come in one burst are kept together.
    pub stretch_tasks: u32,
    /// Bytes of arguments at one worker; a single task may exceed it.
    pub prefetch_bytes: u64,
    /// Bytes of one client's results on the way from all workers together.
    pub result_bytes: u64,
    /// A client whose tasks do not move is told why after this long.
    pub stall_after: Duration,
    /// Tasks whose program no connected worker runs are refused after this long.
    pub refuse_after: Duration,
    /// Whether peers can fall silent and come back. Not in a cluster of one process.
    pub liveness: bool,
    /// A worker that was not heard for so long is sent nothing new, and what it has not begun goes elsewhere.
    pub suspect_after: Duration,
    /// One that was not heard for so long is given up, and what it ran runs elsewhere.
    pub lost_after: Duration,
    /// A client's session ends when it was away for so long.
    pub client_grace: Duration,
    /// What of its time a worker keeps for handing back what it has, but at most a tenth of all.
    pub end_grace: Duration,
    /// How long workers are waited for that may have what a client hands in again.
    pub recover_for: Duration,
    /// The peers of the master before.
    pub roster: Vec<Member>,
    /// Lower numbers were given to peers before.
    pub first_id: u32,
    /// When the master starts.
    pub now: Time,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window: Window { tasks: 16_384, bytes: 64 << 20 },
            prefetch_tasks: 4_096,
            prefetch_time: Duration::from_millis(4),
            run_time: Duration::from_micros(256),
            stretch_tasks: 8,
            prefetch_bytes: 32 << 20,
            result_bytes: 64 << 20,
            stall_after: Duration::from_secs(2),
            refuse_after: Duration::from_secs(10),
            liveness: true,
            suspect_after: Duration::from_secs(2),
            lost_after: Duration::from_secs(10),
            client_grace: Duration::from_secs(30),
            end_grace: Duration::from_secs(10),
            recover_for: Duration::from_secs(10),
            roster: Vec::new(),
            first_id: 0,
            now: Time::ZERO,
        }
    }
}

impl Config {
    /// Bytes of one client's results that may be on their way from one of so many workers.
    fn credit(&self, workers: usize) -> u64 {
        (self.result_bytes / workers.max(1) as u64).max(256 << 10)
    }
}

/// The master's state. See the [module](self) for the states of a task.
#[derive(Debug)]
pub struct Master {
    config: Config,
    now: Time,
    clients: BTreeMap<ClientId, Client>,
    workers: BTreeMap<WorkerId, Worker>,
    /// Clients with queued tasks, the one with least slot time used first.
    waiting: BTreeSet<(u64, ClientId)>,
    /// Workers with room for the tasks of a program, of each that clients are of, the least loaded first.
    room: BTreeMap<ProgramId, BTreeSet<(u64, WorkerId)>>,
    /// How many clients are of a program.
    programs: BTreeMap<ProgramId, u32>,
    /// Workers that run other programs than their own.
    open_workers: u32,
    /// The most tasks that any client was ever allowed: what is on its way may go by an older word.
    window_told: u32,
    /// Workers whose load has changed since they were listed.
    changed: Vec<WorkerId>,
    /// Where a worker's list of programs it has room for is made.
    listing: Vec<(ProgramId, u64)>,
    /// Workers with slots that are free, and workers where tasks wait for one.
    idle: BTreeSet<WorkerId>,
    laden: BTreeSet<WorkerId>,
    /// Workers that may be set aside, or not be able to run some program.
    troubled: BTreeSet<WorkerId>,
    actions: Actions<Action>,
    /// When idle slots are next to fetch what waits elsewhere, and when it was looked for that.
    recall_at: Option<Time>,
    recalled: Time,
    /// When nobody waits any longer for clients that have to answer (`once`).
    kept_until: Option<Time>,
    /// When it is next looked for tasks that should make way, and when it was.
    look_at: Option<Time>,
    looked: Time,
    /// Slot time that whoever of a program was served last had used then; never goes back.
    clocks: BTreeMap<ProgramId, u64>,
    /// Since when running tasks are to be paid for.
    accrued: Option<Time>,
    members: Members,
    /// For whom workers had worked that were given up: as many as are remembered at all.
    former: BTreeMap<WorkerId, (ClientId, BTreeSet<ClientId>)>,
    /// When workers are next told that this master lives.
    beat_at: Option<Time>,
    /// Parked tasks and when they are to be looked at.
    wakes: BTreeSet<(Time, ClientId, TaskId)>,
    /// Parked tasks that are to be placed with care.
    wishful: BTreeSet<(ClientId, TaskId)>,
    /// Workers that are kept for one task.
    exclusives: BTreeSet<WorkerId>,
    /// Workers of the master before that have not come back yet, and until when they are waited for.
    missing: BTreeSet<WorkerId>,
    recover_until: Option<Time>,
    /// Clients without a connection, those that may wait for workers to say what they have, those whose progress somebody looks
    /// at, and those with jobs that must not run twice: few, and asked for whenever time may have passed.
    away: BTreeSet<ClientId>,
    resuming: BTreeSet<ClientId>,
    watching: BTreeSet<ClientId>,
    once: BTreeSet<ClientId>,
    /// What tasks of each job take.
    habits: Habits,
    /// Jobs for which a worker had no time although they are thought to be done soon.
    declined_jobs: BTreeSet<Place>,
    /// Workers whose end is known, and from when on each is sent nothing more; and those for which that is yet to come.
    enders: BTreeMap<WorkerId, Time>,
    overs: BTreeSet<(Time, WorkerId)>,
    /// The most time that any worker had in all.
    longest: Duration,
    /// Clients with tasks that no worker with room had time for.
    untimely: BTreeSet<ClientId>,
    /// Before then no client has stood still for long enough to be told, and none has been.
    stalls_at: Time,
    /// Why there are no more workers than there are, as whoever starts them says.
    outlook: Option<String>,
    unplaced: bool,
    /// Whether the cluster is to end: workers leave, and whoever joins does too.
    is_ending: bool,
}

impl Master {
    /// A master without clients and workers.
    pub fn new(config: Config) -> Self {
        let members = Members::new(&config.roster, config.first_id);
        let recover_until =
            config.roster.iter().any(|it| it.is_worker).then(|| config.now + config.recover_for);
        let mut master = Self {
            now: config.now,
            config,
            clients: BTreeMap::new(),
            workers: BTreeMap::new(),
            waiting: BTreeSet::new(),
            room: BTreeMap::new(),
            programs: BTreeMap::new(),
            open_workers: 0,
            window_told: 0,
            changed: Vec::new(),
            listing: Vec::new(),
            idle: BTreeSet::new(),
            laden: BTreeSet::new(),
            troubled: BTreeSet::new(),
            actions: Actions::default(),
            recall_at: None,
            recalled: Time::ZERO,
            kept_until: None,
            look_at: None,
            looked: Time::ZERO,
            clocks: BTreeMap::new(),
            accrued: None,
            members,
            former: BTreeMap::new(),
            beat_at: None,
            wakes: BTreeSet::new(),
            wishful: BTreeSet::new(),
            exclusives: BTreeSet::new(),
            missing: BTreeSet::new(),
            recover_until,
            away: BTreeSet::new(),
            resuming: BTreeSet::new(),
            watching: BTreeSet::new(),
            once: BTreeSet::new(),
            habits: Habits::default(),
            declined_jobs: BTreeSet::new(),
            enders: BTreeMap::new(),
            overs: BTreeSet::new(),
            longest: Duration::ZERO,
            untimely: BTreeSet::new(),
            stalls_at: Time::ZERO,
            outlook: None,
            unplaced: false,
            is_ending: false,
        };
        master.expect_clients();
        master
    }

    /// Takes in what happened. Cannot fail: odd input from a peer becomes [`Action::Disconnect`].
    pub fn handle(&mut self, now: Time, event: Event) {
        self.now = now;
        match event {
            Event::ClientJoined { client, program, returned: false } => {
                self.on_client_joined(client, program)
            }
            Event::ClientJoined { client, program, returned: true } => self.on_client_back(client, program),
            Event::ClientSaid { client, message, body } => self.on_client_said(client, message, body),
            Event::ClientLost { client } => self.on_client_lost(client),
            Event::WorkerJoined { worker, program, programs, program_name, name, slots, returned } => {
                let of = workers::Of { program, programs, program_name };
                self.on_worker_joined(worker, Worker::new(of, name, slots), returned);
            }
            Event::WorkerHeard { worker } => self.on_worker_heard(worker),
            Event::WorkerSaid { worker, message, body } => self.on_worker_said(worker, message, body),
            Event::WorkerLost { worker } => self.on_worker_lost(worker),
            Event::Dismiss => self.dismiss(),
            Event::Outlook { why } => self.on_outlook(why),
        }
    }

    /// Lets time pass. Call it when [`poll_timeout`](Self::poll_timeout) says so.
    pub fn handle_timeout(&mut self, now: Time) {
        self.now = now;
        self.beat();
        self.end_sessions();
        self.stop_waiting();
        self.end_probation();
        self.try_unfit();
        self.wake_parked();
        self.end_times();
        self.look_at_stalls();
        // What is about to be placed, or can be from now on, does not stand still.
        if !self.unplaced {
            self.tell_stalled();
        }
        self.tell_counts();
        self.accrue();
        let due = [self.recall_at, self.look_at, self.kept_until].into_iter().flatten().min();
        self.unplaced |= due.is_some_and(|due| due <= now);
    }

    /// The next thing to do; drain it after every batch of events.
    pub fn poll_action(&mut self) -> Option<Action> {
        if self.actions.is_empty() && std::mem::take(&mut self.unplaced) {
            self.assign();
            self.watch_stalls();
        }
        self.actions.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next due.
    pub fn poll_timeout(&self) -> Option<Time> {
        let placing = [
            self.next_stall(),
            self.next_look(),
            self.next_counts(),
            self.next_wake(),
            self.recall_at,
            self.kept_until,
        ];
        let peers =
            [self.next_beat(), self.next_session_end(), self.next_stop_waiting(), self.next_probation()];
        placing.into_iter().chain(peers).chain([self.next_try(), self.next_end()]).flatten().min()
    }

    /// Slots of all workers.
    pub fn slots(&self) -> u32 {
        self.workers.values().fold(0, |slots, worker| slots.saturating_add(worker.slots))
    }

    /// The window a client is given, which grows with the slots there are to fill.
    pub fn window(&self) -> Window {
        let Window { tasks, bytes } = self.config.window;
        Window { tasks: tasks.max(self.slots().saturating_mul(8)), bytes }
    }

    fn on_client_said(&mut self, client: ClientId, message: FromClient, body: Payload) {
        if self.clients.get(&client).is_none_or(|client| client.gone) {
            return;
        }
        match message {
            FromClient::Submit { task, spec } => self.on_submit(client, task, Task::new(spec, body)),
            FromClient::Submits { first, tasks, spec } => {
                self.on_submits(client, (first, tasks), (spec, body))
            }
            FromClient::Received { first, tasks, attempt, worker } => {
                let known = self.clients.get_mut(&client).expect("just seen");
                known.note_received(first, tasks, attempt);
                self.tell_worker(worker, ToWorker::Received { client, first, tasks, attempt });
            }
            FromClient::Declare { spec, what } => self.on_declare(client, spec, *what),
            FromClient::Cancel { task } => self.on_cancel(client, task),
            FromClient::Leave => self.end_session(client),
            FromClient::Watch { on } => self.on_watch(client, on),
            FromClient::Resubmit { task, spec } => {
                self.on_resubmit(client, task, Task::new(spec, body));
                self.note_resubmitted(client, 1, None);
            }
            FromClient::Claim { task, spec } => {
                self.on_resubmit(client, task, Task::claimed(spec));
                self.note_resubmitted(client, 1, None);
            }
            FromClient::Keep { seconds } => self.on_keep(client, seconds),
            FromClient::Resubmitted { tasks } => self.note_resubmitted(client, 0, Some(tasks)),
            FromClient::Noted { spec, below } => self.on_noted(client, spec, below),
            FromClient::Learned { spec, p90, mean } => self.on_learned(client, spec, p90, mean),
            FromClient::Introduce { .. } if body.len() > PARTICULARS_BYTES_MAX => {
                self.disconnect_client(client, "said too much of itself");
            }
            FromClient::Introduce { setting, output } => {
                let known = self.clients.get_mut(&client).expect("just seen");
                known.introduction = Introduction { setting, output, body };
            }
            FromClient::Heard { bytes } => {
                self.clients.get_mut(&client).expect("just seen").prints.heard(bytes);
            }
            FromClient::Answers { task, attempt, number, answer } => {
                self.on_answers(client, (task, attempt), (number, answer), body);
            }
        }
    }

    fn on_worker_said(&mut self, worker: WorkerId, message: FromWorker, body: Payload) {
        self.spread_named(&message);
        match message {
            FromWorker::Finished { client, task, attempt, class, micros, output } => {
                let report = finish::Report { client, task, attempt, class, micros, output, body };
                if let Some(report) = self.pass_of_stretch(worker, report) {
                    self.on_finished(worker, report);
                }
            }
            FromWorker::Finishes { client, first, tasks, attempt } => {
                self.on_finishes(worker, client, (first, tasks), (attempt, body));
            }
            FromWorker::Returned { client, task, attempt, why } => {
                self.on_returned(worker, client, task, attempt, why);
            }
            FromWorker::Waiting { client, task, attempt } => self.on_waiting(worker, client, task, attempt),
            FromWorker::Recalled => self.on_recalled(worker),
            FromWorker::Held { client, held } => self.on_held(worker, client, held),
            FromWorker::Leaving => {
                self.drop_member(worker.0);
                self.drop_worker(worker, true);
            }
            FromWorker::Started { client, task, attempt } => self.on_started(worker, client, task, attempt),
            FromWorker::Have { client, task, attempt, doing } => {
                self.on_have(
                    client,
                    task,
                    resume::Claim { worker, attempt, doing, had_ended: doing == Doing::Done },
                );
            }
            FromWorker::Accounted { client } => self.on_accounted(worker, client),
            FromWorker::Progress { client, task, attempt, thousandths } => {
                self.on_progress(worker, client, task, attempt, thousandths);
            }
            FromWorker::Output { client, task, attempt, from } => {
                self.on_output(worker, client, (task, attempt, from), body);
            }
            FromWorker::Unfit { program, why } => self.on_unfit(worker, program, why),
            FromWorker::Remark { client, what } => self.on_remark(worker, client, what),
            FromWorker::Ends { left } => self.on_ends(worker, left),
            FromWorker::Lasts { seconds } => self.on_lasts(worker, seconds),
            FromWorker::Idle => self.on_idle(worker),
            FromWorker::Ran { client, task, attempt, seconds } => {
                self.on_ran(worker, client, (task, attempt), seconds);
            }
            FromWorker::Asks { client, task, attempt, number, ask } => {
                self.on_asks(worker, client, (task, attempt), (number, ask), body);
            }
            FromWorker::AsksNothing { client, task, attempt } => {
                self.on_asks_nothing(worker, client, (task, attempt));
            }
        }
    }

    fn on_client_joined(&mut self, client: ClientId, program: ProgramId) {
        self.note_window();
        self.clients.insert(client, Client::new(program));
        self.open_program(program);
        self.forgive(program);
    }

    /// The window that a client is told with its welcome.
    fn note_window(&mut self) {
        self.window_told = self.window_told.max(self.window().tasks);
    }

    fn on_declare(&mut self, client: ClientId, spec: SpecIndex, what: Spec) {
        let specs = &mut self.clients.get_mut(&client).expect("checked by on_client_said").specs;
        if specs.len() == spec.0 as usize {
            if !what.rerun {
                self.once.insert(client);
            }
            let program = self.clients[&client].program;
            let habit = self.habits.open(program, what.job);
            let learned = self.habits.learned(habit);
            self.clients.get_mut(&client).expect("just seen").declare(what, habit, learned);
        } else if specs.get(spec.0 as usize).is_none_or(|known| known.what != what) {
            self.disconnect_client(client, "declared its specs out of order");
        }
    }

    fn on_submit(&mut self, id: ClientId, task: TaskId, entry: Task) {
        self.take_tasks(id, [(task, entry)]);
    }

    fn on_cancel(&mut self, id: ClientId, task: TaskId) {
        self.spread(id, task);
        let client = self.clients.get_mut(&id).expect("checked by on_client_said");
        client.resume.note_cancelled(task);
        client.ends.pass_over(task);
        let Some(state) = client.tasks.get(task).map(|task| task.state) else { return };
        match state {
            State::Queued | State::Parked => self.drop_queued(id, task),
            State::Sent { worker } | State::Held { worker } => self.cancel_sent(id, task, worker),
            State::Cancelling { .. } => {}
        }
    }

    fn on_worker_joined(&mut self, id: WorkerId, worker: Worker, returned: bool) {
        let before = self.window();
        let is_new = !self.workers.contains_key(&id);
        if is_new && worker.is_open() {
            self.set_open_workers(self.open_workers + 1);
        }
        let worker = self.workers.entry(id).or_insert(worker);
        (worker.heard, worker.connected) = (self.now, true);
        self.set_suspect(id, false);
        let worker = self.workers.get_mut(&id).expect("it is here");
        if returned && is_new {
            let former = self.former.remove(&id);
            (worker.inherited, worker.worked_for) =
                former.unwrap_or_else(|| (self.members.first(), BTreeSet::new()));
        }
        if returned {
            worker.come_back(self.now);
            if is_new {
                // It may have run anything for the master before.
                worker.allotment.ran = worker.slots;
            }
            self.spread_at(id);
            self.forget_asked(id);
            self.forget_questions(id);
            self.forget_claims(id);
            self.await_again(id);
            for client in self.clients.keys().copied().collect::<Vec<_>>() {
                self.on_held(id, client, false);
            }
        }
        self.note_room(id);
        self.unplaced = true;
        self.begin_beats(id);
        self.dismiss_worker(id);
        self.announce_window(before);
    }

    fn announce_window(&mut self, before: Window) {
        let window = self.window();
        self.window_told = self.window_told.max(window.tasks);
        if window != before {
            let clients: Vec<ClientId> = self.clients.keys().copied().collect();
            clients
                .into_iter()
                .for_each(|client| self.tell_client(client, ToClient::Window(window), Payload::new()));
        }
    }

    fn state_of(&self, client: ClientId, task: TaskId) -> Option<State> {
        Some(self.clients.get(&client)?.tasks.get(task)?.state)
    }

    fn tell_worker(&mut self, worker: WorkerId, message: ToWorker) {
        if self.workers.get(&worker).is_some_and(|worker| worker.connected) {
            self.actions.push_back(Action::TellWorker { worker, message, body: Payload::new() });
        }
    }

    fn disconnect_client(&mut self, client: ClientId, why: &'static str) {
        self.actions.push_back(Action::Disconnect { client, why });
        self.end_session(client);
    }
}
