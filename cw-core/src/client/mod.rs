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
//! The machine keeps each task's arguments until its end: when the master is lost, what has no result
//! is handed in again.

mod event;

use std::collections::VecDeque;

use bytes::Bytes;

pub use event::{Action, Completion, Event};

use crate::{
    TaskMap, Time,
    ids::{Attempt, SpecIndex, TaskId, WorkerId},
    wire::{Class, Failure, FromClient, Spec, ToClient, Window},
};

/// The client's state. See the [module](self) for the states of a task.
#[derive(Debug)]
pub struct Client {
    connected: bool,
    window: Window,
    /// Tasks and bytes of arguments with the master.
    in_flight: (u32, u64),
    specs: Vec<Spec>,
    tasks: TaskMap<Task>,
    /// Tasks that wait for room in the window, in order. May name tasks that were cancelled.
    waiting: VecDeque<TaskId>,
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

#[derive(Debug)]
enum State {
    Waiting,
    Sent,
    /// Boxed, as it is rare, and would make every task three times as big.
    Recording(Box<Completion>),
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
            window: Window { tasks: 1, bytes: 0 },
            in_flight: (0, 0),
            specs: Vec::new(),
            tasks: TaskMap::default(),
            waiting: VecDeque::new(),
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

    fn on_declare(&mut self, what: Spec) {
        let spec = SpecIndex(u32::try_from(self.specs.len()).expect("a program has far fewer specs"));
        if self.connected {
            self.tell(FromClient::Declare { spec, what: Box::new(what.clone()) }, Bytes::new());
        }
        self.specs.push(what);
    }

    fn on_submit(&mut self, task: TaskId, spec: SpecIndex, durable: bool, args: Bytes) {
        self.tasks.insert(task, Task { spec, durable, args, state: State::Waiting });
        self.waiting.push_back(task);
    }

    fn send_waiting(&mut self) {
        while self.connected
            && let Some(task) = self.waiting.front().copied()
        {
            let Some(entry) = self.tasks.get_mut(task) else {
                // Cancelled while it waited.
                self.waiting.pop_front();
                continue;
            };
            let bytes = entry.args.len() as u64;
            let (tasks, in_flight) = self.in_flight;
            let fits = tasks < self.window.tasks && (tasks == 0 || in_flight + bytes <= self.window.bytes);
            if !fits {
                return;
            }
            self.waiting.pop_front();
            entry.state = State::Sent;
            self.in_flight = (tasks + 1, in_flight + bytes);
            let message = FromClient::Submit { task, spec: entry.spec };
            let body = entry.args.clone();
            self.tell(message, body);
        }
    }

    fn on_master_said(&mut self, message: ToClient, body: Bytes) {
        match message {
            ToClient::Finished { task, attempt, attempts, worker, class, micros } => {
                self.on_finished(task, Completion { class, attempt, attempts, worker, micros, body });
            }
            ToClient::Window(window) => self.window = window,
            ToClient::Stalled(why) => self.actions.push_back(Action::Stalled(*why)),
            ToClient::Moving => self.actions.push_back(Action::Moving),
        }
    }

    fn on_finished(&mut self, task: TaskId, completion: Completion) {
        let Some(entry) = self.tasks.get_mut(task) else {
            return self.acknowledge(task, completion.attempt, completion.worker);
        };
        if !matches!(entry.state, State::Sent) {
            return;
        }
        let bytes = entry.args.len() as u64;
        self.in_flight = (self.in_flight.0 - 1, self.in_flight.1 - bytes);
        if entry.durable {
            self.actions.push_back(Action::Record {
                task,
                class: completion.class,
                body: completion.body.clone(),
            });
            entry.state = State::Recording(Box::new(completion));
            return;
        }
        self.tasks.remove(task);
        self.complete(task, completion);
    }

    fn on_recorded(&mut self, task: TaskId) {
        if !self.tasks.get(task).is_some_and(|task| matches!(task.state, State::Recording(_))) {
            return;
        }
        if let Some(Task { state: State::Recording(completion), .. }) = self.tasks.remove(task) {
            self.complete(task, *completion);
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
        match entry.state {
            State::Recording(_) => return,
            State::Sent => {
                self.in_flight = (self.in_flight.0 - 1, self.in_flight.1 - entry.args.len() as u64);
                if self.connected {
                    self.tell(FromClient::Cancel { task }, Bytes::new());
                }
            }
            State::Waiting => {}
        }
        self.tasks.remove(task);
        self.actions.push_back(Action::Complete { task, completion: Completion::local(&Failure::Cancelled) });
    }

    fn on_connected(&mut self, window: Window) {
        self.connected = true;
        self.window = window;
        for (index, what) in self.specs.clone().into_iter().enumerate() {
            let spec = SpecIndex(u32::try_from(index).expect("declared under this index"));
            self.tell(FromClient::Declare { spec, what: Box::new(what) }, Bytes::new());
        }
    }

    /// What had been handed in is handed in again, in order, when there is a master again.
    fn on_master_lost(&mut self) {
        self.connected = false;
        self.in_flight = (0, 0);
        self.received = None;
        self.actions.retain(|action| !matches!(action, Action::Tell { .. }));
        for task in self.tasks.sorted_keys(|task| matches!(task.state, State::Sent)).into_iter().rev() {
            self.tasks.get_mut(task).expect("just listed").state = State::Waiting;
            self.waiting.push_front(task);
        }
    }

    /// There will be no master: all that is open ends.
    fn on_give_up(&mut self, why: String) {
        self.connected = false;
        self.waiting.clear();
        let failure = Failure::Disconnected { why };
        for task in self.tasks.sorted_keys(|_| true) {
            self.tasks.remove(task);
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
