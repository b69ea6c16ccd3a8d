//! The client: hands tasks to the master within its window, takes results once, acknowledges them.
//!
//! # A task's states
//!
//! ```text
//!           Submit              window            Finished              Recorded
//!  (none) ---------> Waiting ----------> Sent -------------> Recording ----------> (none): Complete, acknowledge
//!                                        ^  |                    (only if durable)
//!                                        |  | master lost
//!                                        |  v
//!                                        Again  (waits as Waiting does, and is handed in as Resubmit)
//! ```
//!
//! The order at the end is the promise: first the result is recorded, where the call asks for it, then
//! the caller has it, then it is acknowledged and the worker may forget it. A result that comes twice
//! is acknowledged twice and reported once.
//!
//! Within the window tasks go in the order of their priority, equals in the order of the calls. A full window does not
//! stop a task of a higher priority than any in it leaves room for: only what is as urgent counts against it, up to
//! one and a half windows in all.
//!
//! The machine keeps each task's arguments until its end: when the master is lost, what has no result
//! is handed in again. What had been handed in may have run, so the master looks for it at the workers first; except
//! where the master that died had said that it had sent out nothing from a certain task on ([`ToClient::Dispatched`], [`ToClient::DispatchedOnce`]):
//! what lies above starts at once. A result of such a task is taken whenever it comes.
//!
//! A process that goes on with the session of one that has died *claims* that one's tasks: it begins with them in `Again`,
//! without their arguments, and says `Claim` for each. What neither the master nor a worker has ends as lost.
//!
//! Tasks that were called together stay together (`stretches.rs`) while they wait, and while they are with the master, until
//! something befalls one of them alone.
//!
//! Where the user set a limit, tasks of which none has moved for so long end with the reason.

mod dispatched;
mod event;
mod learned;
mod patience;
mod questions;
mod received;
mod stretches;
#[cfg(test)]
mod tests;
mod window;

use std::{collections::BTreeMap, time::Duration};

pub use event::{Action, Common, Completion, Event, Resumed};

use crate::{
    Payload, TaskMap, Time,
    actions::Actions,
    ids::{Attempt, SettingId, SpecIndex, TaskId, WorkerId},
    wire::{Failure, FromClient, Output, Spec, ToClient, Window, split_output},
};
use learned::Lore;
use patience::Patience;
use questions::Asked;
use received::Received;
use stretches::Stretches;
use window::{InFlight, Waiting};

/// What the user wants of a client.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Tasks of which none has moved for so long are given up; none means never.
    pub give_up_after: Option<Duration>,
    /// For how long the master is asked to keep the session of a client whose results are recorded, should its connection
    /// end: another process may go on with it. None means as long as any client's.
    pub keep_for: Option<Duration>,
    /// What workers have to know to run its tasks; none where they all are of its own process.
    pub introduction: Option<Introduction>,
}

/// What a client says of itself to the workers that run its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// What its executors are started with, by hash.
    pub setting: SettingId,
    /// What it wants of what its tasks print.
    pub output: Output,
    /// What a worker needs to start executors.
    pub body: Payload,
}

/// The client's state. See the [module](self) for the states of a task.
#[derive(Debug)]
pub struct Client {
    connected: bool,
    in_flight: InFlight,
    specs: Vec<Spec>,
    tasks: TaskMap<Task>,
    /// Tasks that are not among those yet: nothing has to be known of each.
    plain: Stretches,
    /// What is on its way to the disk. Apart, as many tasks wait and few are here.
    recording: TaskMap<Completion>,
    /// Results of other attempts of those.
    others: Vec<(TaskId, Attempt, Option<WorkerId>)>,
    asked: Asked,
    waiting: Waiting,
    /// Whether somebody looks at the progress.
    watched: bool,
    /// Acknowledgements of consecutive tasks, which are said in one word.
    received: Option<Received>,
    /// Tasks that were handed in to a master that was lost, and have to be again.
    again: usize,
    /// Whether the master waits to hear that all of those were, and how many were on this connection.
    resuming: bool,
    resubmitted: u64,
    /// No task from this one on had been sent to a worker when the master last said so.
    dispatched: TaskId,
    /// The same of each spec whose tasks must not run twice.
    dispatched_once: BTreeMap<SpecIndex, TaskId>,
    lore: Lore,
    /// Whether any task is durable.
    any_durable: bool,
    config: Config,
    patience: Patience,
    actions: Actions<Action>,
}

#[derive(Debug)]
struct Task {
    spec: SpecIndex,
    durable: bool,
    /// Only what there is of it is wanted.
    claimed: bool,
    args: Payload,
    state: State,
}

impl Task {
    fn new(spec: SpecIndex, durable: bool, args: Payload) -> Self {
        Self { spec, durable, claimed: false, args, state: State::Waiting }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Waiting,
    Sent,
    /// As `Waiting`, after it was sent to a master that was lost.
    Again,
    /// Its completion is in `recording`.
    Recording,
}

impl Default for Client {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl Client {
    /// A client that is not connected.
    pub fn new(config: Config) -> Self {
        Self {
            connected: false,
            in_flight: InFlight::default(),
            specs: Vec::new(),
            tasks: TaskMap::default(),
            plain: Stretches::default(),
            recording: TaskMap::default(),
            others: Vec::new(),
            asked: Asked::new(),
            waiting: Waiting::default(),
            watched: false,
            received: None,
            again: 0,
            resuming: false,
            resubmitted: 0,
            dispatched: TaskId(0),
            dispatched_once: BTreeMap::new(),
            lore: Lore::default(),
            any_durable: false,
            patience: Patience::new(config.give_up_after),
            config,
            actions: Actions::default(),
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::Submit { task, spec, durable, args } => self.on_submit(task, spec, durable, args),
            Event::Submits { spec, args } => self.on_submits(spec, args),
            Event::Claim { task, spec } => self.on_claim(task, spec),
            Event::MasterSaid { message, body } => self.on_master_said(now, message, body),
            Event::Recorded { task } => self.on_recorded(task),
            Event::Declare { what } => self.on_declare(what),
            Event::Cancel { task } => self.on_cancel(task),
            Event::Connected { window, session } => self.on_connected(window, session),
            Event::MasterLost => self.on_master_lost(now),
            Event::Watch { on } => self.on_watch(on),
            Event::GiveUp { why } => self.on_give_up(why),
            Event::Answered { task, attempt, number, answer, body } => {
                self.say_answer((task, attempt, number), answer, body);
            }
        }
    }

    /// Lets time pass: gives up what nobody moves, where the user set a limit.
    pub fn handle_timeout(&mut self, now: Time) {
        if let Some(why) = self.patience.lost(now) {
            self.end_all(&Failure::Refused { why });
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.patience.due().filter(|_| self.open_tasks() > 0)
    }

    /// The next thing to do; drain it after every batch of events.
    pub fn poll_action(&mut self) -> Option<Action> {
        if self.actions.is_empty() {
            self.say_received();
            self.send_waiting();
            self.say_resubmitted();
        }
        self.actions.pop_front()
    }

    /// Tasks that have not ended.
    pub fn open_tasks(&self) -> usize {
        self.tasks.len() + self.plain.tasks()
    }

    fn size(&self, spec: SpecIndex, args: &[u8]) -> Size {
        size(&self.specs, spec, args)
    }

    /// Tasks that wait for room in the window, and the bytes of their arguments, wherever they lie.
    pub fn waiting(&self) -> (usize, u64) {
        (self.waiting.tasks(), self.waiting.bytes())
    }

    fn on_declare(&mut self, what: Spec) {
        let spec = SpecIndex(u32::try_from(self.specs.len()).expect("a program has far fewer specs"));
        if self.connected {
            self.tell(FromClient::Declare { spec, what: Box::new(what.clone()) }, Payload::new());
        }
        self.specs.push(what);
    }

    fn on_submit(&mut self, task: TaskId, spec: SpecIndex, durable: bool, args: Payload) {
        if durable && !std::mem::replace(&mut self.any_durable, true) {
            self.say_keep();
        }
        self.waiting.push_back(self.priority(spec), task, (1, self.size(spec, &args).bytes));
        self.tasks.insert(task, Task::new(spec, durable, args));
    }

    fn on_claim(&mut self, task: TaskId, spec: SpecIndex) {
        self.any_durable = true;
        self.again += 1;
        self.waiting.push_again(self.priority(spec), task, 0);
        let claimed = Task::new(spec, !planted!(AckClaims), Payload::new());
        self.tasks.insert(task, Task { claimed: true, state: State::Again, ..claimed });
    }

    fn introduce(&mut self) {
        if let Some(Introduction { setting, output, body }) = self.config.introduction.clone() {
            self.tell(FromClient::Introduce { setting, output }, body);
        }
    }

    /// Asks for a longer life of the session than that of one whose results nobody keeps.
    fn say_keep(&mut self) {
        if let Some(keep_for) = self.config.keep_for.filter(|_| self.connected && self.any_durable) {
            let seconds = u32::try_from(keep_for.as_secs()).unwrap_or(u32::MAX);
            self.tell(FromClient::Keep { seconds }, Payload::new());
        }
    }

    fn priority(&self, spec: SpecIndex) -> i32 {
        self.specs.get(spec.0 as usize).map_or(0, |spec| spec.priority)
    }

    fn send_waiting(&mut self) {
        while self.connected
            && let Some((priority, task)) = self.waiting.first()
        {
            if self.plain.has(task) {
                if !self.send_plain(priority, task) {
                    return;
                }
                continue;
            }
            let waits = |entry: &&mut Task| matches!(entry.state, State::Waiting | State::Again);
            let Some(entry) = self.tasks.get_mut(task).filter(waits) else {
                // Cancelled while it waited.
                self.waiting.drop_first(1);
                continue;
            };
            let Size { bytes, weight } = size(&self.specs, entry.spec, &entry.args);
            // What a master had before has its room.
            let urgency = if matches!(entry.state, State::Again) { i32::MAX } else { priority };
            if !self.in_flight.has_room(urgency, weight) {
                return;
            }
            self.waiting.pop_first((1, bytes));
            self.in_flight.add(priority, (1, weight));
            let (spec, claimed) = (entry.spec, entry.claimed);
            let message = match std::mem::replace(&mut entry.state, State::Sent) {
                State::Again => {
                    self.again -= 1;
                    self.resubmitted += 1;
                    if claimed {
                        FromClient::Claim { task, spec }
                    } else {
                        FromClient::Resubmit { task, spec }
                    }
                }
                _ => FromClient::Submit { task, spec },
            };
            let body = entry.args.clone();
            self.tell(message, body);
        }
    }

    /// Says so once all that a lost master had was handed in again, or has ended.
    fn say_resubmitted(&mut self) {
        if self.connected && self.again == 0 && std::mem::take(&mut self.resuming) {
            self.tell(FromClient::Resubmitted { tasks: self.resubmitted }, Payload::new());
        }
    }

    /// Takes a task out of what is with the master.
    fn settle(&mut self, spec: SpecIndex, weight: u64) {
        self.in_flight.remove(self.priority(spec), (1, weight));
    }

    fn on_watch(&mut self, on: bool) {
        self.watched = on;
        if self.connected {
            self.tell(FromClient::Watch { on }, Payload::new());
        }
    }

    fn on_master_said(&mut self, now: Time, message: ToClient, body: Payload) {
        match message {
            ToClient::Finished { task, attempt, attempts, worker, class, micros, output } => {
                let (body, output) = split_output(&body, output);
                self.on_finished(task, Completion { class, attempt, attempts, worker, micros, output, body });
            }
            ToClient::Finishes { first, tasks, attempt, attempts, worker } => {
                self.on_finishes(Common { attempt, attempts, worker }, first, tasks, body);
            }
            ToClient::Window(window) => self.in_flight.window = window,
            ToClient::Stalled(why) => {
                self.patience.begin(now, &why.to_string());
                self.actions.push_back(Action::Stalled(*why));
            }
            ToClient::Moving => {
                self.patience.end();
                self.actions.push_back(Action::Moving);
            }
            ToClient::Dispatched { below } => self.on_dispatched(below),
            ToClient::DispatchedOnce { spec, below } => self.on_dispatched_once(spec, below),
            ToClient::SetAside { worker, why } => self.actions.push_back(Action::SetAside { worker, why }),
            ToClient::TooLong { spec, p90_seconds, longest_seconds } => {
                self.on_too_long(spec, p90_seconds, longest_seconds);
            }
            ToClient::Learned { spec, p90, mean } => self.on_learned(spec, p90, mean),
            ToClient::Remark { worker, what } => self.actions.push_back(Action::Remark { worker, what }),
            ToClient::Output { task, from } => self.on_output(task, from, body),
            ToClient::Counts(counts) => self.actions.push_back(Action::Counts(counts)),
            ToClient::Progress { task, thousandths } => {
                self.actions.push_back(Action::Progress { task, thousandths });
            }
            ToClient::Asks { task, attempt, number, ask } => self.on_asks((task, attempt, number), ask, body),
        }
    }

    /// A running task prints. It is acknowledged whatever becomes of it, as more is sent only then.
    fn on_output(&mut self, task: TaskId, from: u64, body: Payload) {
        let bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
        self.tell(FromClient::Heard { bytes }, Payload::new());
        let is_sent = self.tasks.get(task).is_some_and(|task| matches!(task.state, State::Sent));
        if is_sent || self.plain.is_sent(task) {
            self.actions.push_back(Action::Output { task, from, body });
        }
    }

    fn on_finished(&mut self, task: TaskId, completion: Completion) {
        self.set_apart(task);
        let Some(entry) = self.tasks.get_mut(task) else {
            if planted!(AckNothingUnknown) {
                return;
            }
            return self.acknowledge((task, 1), completion.attempt, completion.worker);
        };
        let (spec, durable) = (entry.spec, entry.durable);
        let Size { bytes, weight } = size(&self.specs, spec, &entry.args);
        match entry.state {
            State::Sent => self.settle(spec, weight),
            State::Again => self.drop_again(bytes),
            // It was handed in to a master before, which had not said so.
            State::Waiting => self.waiting.forget(bytes),
            State::Recording => return self.note_another(task, &completion),
        }
        self.conclude(task, durable, completion);
    }

    /// The task has ended: first that is recorded, where the call asks for it, then the caller has it.
    fn conclude(&mut self, task: TaskId, durable: bool, completion: Completion) {
        self.asked.remove(&task);
        if !durable {
            self.tasks.remove(task);
            return self.complete(task, completion);
        }
        let Some(entry) = self.tasks.get_mut(task) else { return };
        entry.state = State::Recording;
        self.actions.push_back(Action::Record { task, completion: completion.clone() });
        if planted!(AckBeforeRecorded) {
            self.acknowledge((task, 1), completion.attempt, completion.worker);
        }
        self.recording.insert(task, completion);
    }

    /// Another attempt of a task whose result is on its way to the disk: it is acknowledged when that is there.
    fn note_another(&mut self, task: TaskId, completion: &Completion) {
        let source = (completion.attempt, completion.worker);
        if self.recording.get(task).is_some_and(|first| (first.attempt, first.worker) != source) {
            self.others.push((task, completion.attempt, completion.worker));
        }
    }

    fn on_recorded(&mut self, task: TaskId) {
        let Some(completion) = self.recording.remove(task) else { return };
        self.tasks.remove(task);
        self.complete(task, completion);
        let (done, others) = std::mem::take(&mut self.others).into_iter().partition(|other| other.0 == task);
        self.others = others;
        let done: Vec<(TaskId, Attempt, Option<WorkerId>)> = done;
        done.into_iter().for_each(|(task, attempt, worker)| self.acknowledge((task, 1), attempt, worker));
    }

    fn complete(&mut self, task: TaskId, completion: Completion) {
        let (attempt, worker) = (completion.attempt, completion.worker);
        self.actions.push_back(Action::Complete { task, completion });
        self.acknowledge((task, 1), attempt, worker);
    }

    /// The caller does not want the result: it gets its answer now, and the master is told.
    fn on_cancel(&mut self, task: TaskId) {
        self.set_apart(task);
        let Some(entry) = self.tasks.get(task) else { return };
        let (spec, Size { bytes, weight }) = (entry.spec, self.size(entry.spec, &entry.args));
        match entry.state {
            State::Recording => return,
            State::Sent => {
                self.settle(spec, weight);
                if self.connected {
                    self.tell(FromClient::Cancel { task }, Payload::new());
                }
            }
            // A worker may have it, which the master learns from its missing.
            State::Again => self.drop_again(bytes),
            State::Waiting => self.waiting.forget(bytes),
        }
        self.tasks.remove(task);
        self.asked.remove(&task);
        self.actions.push_back(Action::Complete { task, completion: Completion::local(&Failure::Cancelled) });
    }

    /// A task that waits to be handed in again has ended.
    fn drop_again(&mut self, bytes: u64) {
        self.again -= 1;
        self.waiting.forget(bytes);
    }

    fn on_connected(&mut self, window: Window, session: Resumed) {
        self.connected = true;
        self.introduce();
        self.in_flight.window = window;
        self.patience.end();
        self.resuming = session != Resumed::No;
        self.resubmitted = 0;
        let is_new = session != Resumed::SameMaster;
        for task in self.tasks.sorted_keys(|task| matches!(task.state, State::Again)) {
            let claimed = self.tasks.get(task).is_some_and(|task| task.claimed);
            if session == Resumed::No && (claimed || self.may_have_begun_once(task)) {
                self.lose(task);
            } else if !claimed && self.is_new_to(session, task) {
                self.again -= 1;
                self.tasks.get_mut(task).expect("just listed").state = State::Waiting;
            }
        }
        // Another one may give the numbers of its attempts anew.
        if is_new {
            self.asked.clear();
        }
        // What one master has sent out may run under the next, and the one after that.
        if session == Resumed::No {
            self.forget_dispatched();
        }
        for (index, what) in self.specs.clone().into_iter().enumerate() {
            let spec = SpecIndex(u32::try_from(index).expect("declared under this index"));
            self.tell(FromClient::Declare { spec, what: Box::new(what) }, Payload::new());
        }
        if is_new {
            self.say_learned();
        }
        self.say_keep();
        if self.watched {
            self.tell(FromClient::Watch { on: true }, Payload::new());
        }
    }

    /// Whether a master knows nothing of a task that was handed in, nor does any worker.
    fn is_new_to(&self, session: Resumed, task: TaskId) -> bool {
        match session {
            Resumed::No => true,
            Resumed::SameMaster => false,
            Resumed::NextMaster => planted!(ForgetDispatched) || !self.may_have_begun(task),
        }
    }

    /// What had been handed in is handed in again, in order, when there is a master again.
    fn on_master_lost(&mut self, now: Time) {
        self.connected = false;
        self.patience.begin(now, "the master is lost");
        self.in_flight.clear();
        self.received = None;
        self.actions.retain(|action| !matches!(action, Action::Tell { .. }));
        self.spread(|plain| plain.is_sent);
        for task in self.tasks.sorted_keys(|task| matches!(task.state, State::Sent)).into_iter().rev() {
            let entry = self.tasks.get_mut(task).expect("just listed");
            entry.state = State::Again;
            self.again += 1;
            let (spec, bytes) = (entry.spec, size(&self.specs, entry.spec, &entry.args).bytes);
            if planted!(ForgetSent) {
                continue;
            }
            self.waiting.push_again_first(self.priority(spec), task, bytes);
        }
    }

    /// There will be no master: all that is open ends.
    fn on_give_up(&mut self, why: String) {
        self.connected = false;
        self.end_all(&Failure::Disconnected { why });
    }

    /// Ends all that is open and not on its way to the disk.
    fn end_all(&mut self, failure: &Failure) {
        self.spread(|_| true);
        let is_open = |task: &Task| !matches!(task.state, State::Recording);
        for task in self.tasks.sorted_keys(is_open) {
            let entry = self.tasks.remove(task).expect("just listed");
            if self.connected && matches!(entry.state, State::Sent) {
                self.tell(FromClient::Cancel { task }, Payload::new());
            }
            self.actions.push_back(Action::Complete { task, completion: Completion::local(failure) });
        }
        self.asked.clear();
        self.waiting = Waiting::default();
        self.in_flight.clear();
        self.again = 0;
    }

    fn tell(&mut self, message: FromClient, body: Payload) {
        self.actions.push_back(Action::Tell { message, body });
    }
}

/// How big a task's arguments are.
struct Size {
    /// In bytes, wherever they lie.
    bytes: u64,
    /// What they count against the window.
    weight: u64,
}

fn size(specs: &[Spec], spec: SpecIndex, args: &[u8]) -> Size {
    let plain = args.len() as u64;
    let what = specs.get(spec.0 as usize);
    what.map_or(Size { bytes: plain, weight: plain }, |what| Size {
        bytes: what.args_bytes(args),
        weight: what.weight(args),
    })
}
