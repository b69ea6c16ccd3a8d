//! The client: hands tasks to the master within its window, takes results once, acknowledges them.
//!
//! # A task's states
//!
//! ```text
//!           Submit              window            Finished              Recorded
//!  (none) ---------> Waiting ----------> Sent -------------> Recording ----------> (none): Complete, acknowledge
//!                       ^                 |                      (only if durable)
//!                       +-- master lost --+
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
//! is handed in again.

mod event;
mod window;

use std::collections::VecDeque;

use bytes::Bytes;

pub use event::{Action, Completion, Event};

use crate::{
    TaskMap, Time,
    ids::{Attempt, SpecIndex, TaskId, WorkerId},
    wire::{Class, Failure, FromClient, Spec, ToClient, Window},
};
use window::{InFlight, Waiting};

/// The client's state. See the [module](self) for the states of a task.
#[derive(Debug)]
pub struct Client {
    connected: bool,
    in_flight: InFlight,
    specs: Vec<Spec>,
    tasks: TaskMap<Task>,
    /// What is on its way to the disk. Apart, as many tasks wait and few are here.
    recording: TaskMap<Completion>,
    waiting: Waiting,
    /// Whether somebody looks at the progress.
    watched: bool,
    /// Acknowledgements of consecutive tasks, which are said in one word.
    received: Option<Received>,
    actions: VecDeque<Action>,
}

/// Results of consecutive tasks that one worker may forget.
#[derive(Debug)]
struct Received {
    worker: WorkerId,
    attempt: Attempt,
    first: TaskId,
    tasks: u32,
}

#[derive(Debug)]
struct Task {
    spec: SpecIndex,
    durable: bool,
    args: Bytes,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Waiting,
    Sent,
    /// Its completion is in `recording`.
    Recording,
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// A client that is not connected.
    pub fn new() -> Self {
        Self {
            connected: false,
            in_flight: InFlight::default(),
            specs: Vec::new(),
            tasks: TaskMap::default(),
            recording: TaskMap::default(),
            waiting: Waiting::default(),
            watched: false,
            received: None,
            actions: VecDeque::new(),
        }
    }

    /// Takes in what happened. The client has no timers, so `now` decides nothing yet.
    pub fn handle(&mut self, _now: Time, event: Event) {
        match event {
            Event::Submit { task, spec, durable, args } => self.on_submit(task, spec, durable, args),
            Event::MasterSaid { message, body } => self.on_master_said(message, body),
            Event::Recorded { task } => self.on_recorded(task),
            Event::Declare { what } => self.on_declare(what),
            Event::Cancel { task } => self.on_cancel(task),
            Event::Connected { window } => self.on_connected(window),
            Event::MasterLost => self.on_master_lost(),
            Event::Watch { on } => self.on_watch(on),
            Event::GiveUp { why } => self.on_give_up(why),
        }
    }

    /// The next thing to do; drain it after every batch of events.
    pub fn poll_action(&mut self) -> Option<Action> {
        if self.actions.is_empty() {
            self.say_received();
            self.send_waiting();
        }
        self.actions.pop_front()
    }

    /// Tasks that have not ended.
    pub fn open_tasks(&self) -> usize {
        self.tasks.len()
    }

    /// Tasks that wait for room in the window, and the bytes of their arguments.
    pub fn waiting(&self) -> (usize, u64) {
        (self.waiting.tasks(), self.waiting.bytes())
    }

    fn on_declare(&mut self, what: Spec) {
        let spec = SpecIndex(u32::try_from(self.specs.len()).expect("a program has far fewer specs"));
        if self.connected {
            self.tell(FromClient::Declare { spec, what: Box::new(what.clone()) }, Bytes::new());
        }
        self.specs.push(what);
    }

    fn on_submit(&mut self, task: TaskId, spec: SpecIndex, durable: bool, args: Bytes) {
        self.waiting.push_back(self.priority(spec), task, args.len() as u64);
        self.tasks.insert(task, Task { spec, durable, args, state: State::Waiting });
    }

    fn priority(&self, spec: SpecIndex) -> i32 {
        self.specs.get(spec.0 as usize).map_or(0, |spec| spec.priority)
    }

    fn send_waiting(&mut self) {
        while self.connected
            && let Some((priority, task)) = self.waiting.first()
        {
            let Some(entry) = self.tasks.get_mut(task).filter(|entry| matches!(entry.state, State::Waiting))
            else {
                // Cancelled while it waited.
                self.waiting.drop_first();
                continue;
            };
            let bytes = entry.args.len() as u64;
            if !self.in_flight.has_room(priority, bytes) {
                return;
            }
            self.waiting.pop_first(bytes);
            self.in_flight.add(priority, bytes);
            entry.state = State::Sent;
            let message = FromClient::Submit { task, spec: entry.spec };
            let body = entry.args.clone();
            self.tell(message, body);
        }
    }

    /// Takes a task out of what is with the master.
    fn settle(&mut self, spec: SpecIndex, bytes: usize) {
        self.in_flight.remove(self.priority(spec), bytes as u64);
    }

    fn on_watch(&mut self, on: bool) {
        self.watched = on;
        if self.connected {
            self.tell(FromClient::Watch { on }, Bytes::new());
        }
    }

    fn on_master_said(&mut self, message: ToClient, body: Bytes) {
        match message {
            ToClient::Finished { task, attempt, attempts, worker, class, micros } => {
                self.on_finished(task, Completion { class, attempt, attempts, worker, micros, body });
            }
            ToClient::Window(window) => self.in_flight.window = window,
            ToClient::Stalled(why) => self.actions.push_back(Action::Stalled(*why)),
            ToClient::Moving => self.actions.push_back(Action::Moving),
            ToClient::Counts(counts) => self.actions.push_back(Action::Counts(counts)),
            ToClient::Progress { task, thousandths } => {
                self.actions.push_back(Action::Progress { task, thousandths });
            }
        }
    }

    fn on_finished(&mut self, task: TaskId, completion: Completion) {
        let Some(entry) = self.tasks.get_mut(task) else {
            return self.acknowledge(task, completion.attempt, completion.worker);
        };
        if !matches!(entry.state, State::Sent) {
            return;
        }
        let (spec, bytes, durable) = (entry.spec, entry.args.len(), entry.durable);
        self.settle(spec, bytes);
        if durable {
            let entry = self.tasks.get_mut(task).expect("just seen");
            self.actions.push_back(Action::Record {
                task,
                class: completion.class,
                body: completion.body.clone(),
            });
            entry.state = State::Recording;
            self.recording.insert(task, completion);
            return;
        }
        self.tasks.remove(task);
        self.complete(task, completion);
    }

    fn on_recorded(&mut self, task: TaskId) {
        if let Some(completion) = self.recording.remove(task) {
            self.tasks.remove(task);
            self.complete(task, completion);
        }
    }

    fn complete(&mut self, task: TaskId, completion: Completion) {
        let (attempt, worker) = (completion.attempt, completion.worker);
        self.actions.push_back(Action::Complete { task, completion });
        self.acknowledge(task, attempt, worker);
    }

    fn acknowledge(&mut self, task: TaskId, attempt: Attempt, worker: Option<WorkerId>) {
        let Some(worker) = worker.filter(|_| self.connected) else { return };
        match &mut self.received {
            Some(received)
                if received.worker == worker
                    && received.attempt == attempt
                    && received.first.0 + u64::from(received.tasks) == task.0 =>
            {
                received.tasks += 1;
            }
            _ => {
                self.say_received();
                self.received = Some(Received { worker, attempt, first: task, tasks: 1 });
            }
        }
    }

    fn say_received(&mut self) {
        if let Some(Received { worker, attempt, first, tasks }) = self.received.take() {
            self.tell(FromClient::Received { first, tasks, attempt, worker }, Bytes::new());
        }
    }

    /// The caller does not want the result: it gets its answer now, and the master is told.
    fn on_cancel(&mut self, task: TaskId) {
        let Some(entry) = self.tasks.get(task) else { return };
        let (spec, bytes) = (entry.spec, entry.args.len());
        match entry.state {
            State::Recording => return,
            State::Sent => {
                self.settle(spec, bytes);
                if self.connected {
                    self.tell(FromClient::Cancel { task }, Bytes::new());
                }
            }
            State::Waiting => self.waiting.forget(bytes as u64),
        }
        self.tasks.remove(task);
        self.actions.push_back(Action::Complete { task, completion: Completion::local(&Failure::Cancelled) });
    }

    fn on_connected(&mut self, window: Window) {
        self.connected = true;
        self.in_flight.window = window;
        for (index, what) in self.specs.clone().into_iter().enumerate() {
            let spec = SpecIndex(u32::try_from(index).expect("declared under this index"));
            self.tell(FromClient::Declare { spec, what: Box::new(what) }, Bytes::new());
        }
        if self.watched {
            self.tell(FromClient::Watch { on: true }, Bytes::new());
        }
    }

    /// What had been handed in is handed in again, in order, when there is a master again.
    fn on_master_lost(&mut self) {
        self.connected = false;
        self.in_flight.clear();
        self.received = None;
        self.actions.retain(|action| !matches!(action, Action::Tell { .. }));
        for task in self.tasks.sorted_keys(|task| matches!(task.state, State::Sent)).into_iter().rev() {
            let entry = self.tasks.get_mut(task).expect("just listed");
            entry.state = State::Waiting;
            let (spec, bytes) = (entry.spec, entry.args.len() as u64);
            self.waiting.push_front(self.priority(spec), task, bytes);
        }
    }

    /// There will be no master: all that is open ends.
    fn on_give_up(&mut self, why: String) {
        self.connected = false;
        self.waiting = Waiting::default();
        self.in_flight.clear();
        let failure = Failure::Disconnected { why };
        for task in self.tasks.sorted_keys(|_| true) {
            self.tasks.remove(task);
            self.recording.remove(task);
            self.actions.push_back(Action::Complete { task, completion: Completion::local(&failure) });
        }
    }

    fn tell(&mut self, message: FromClient, body: Bytes) {
        self.actions.push_back(Action::Tell { message, body });
    }
}

impl Completion {
    /// An end that no worker knows of.
    fn local(failure: &Failure) -> Self {
        let class: Class = failure.class();
        Self { class, attempt: Attempt(0), attempts: 0, worker: None, micros: 0, body: failure.encode() }
    }
}
