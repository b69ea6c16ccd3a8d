//! A master, spoken to word by word.

use std::time::Duration;

use crate::{
    Payload, Time,
    ids::{Attempt, ClientId, ProgramId, SpecIndex, TaskId, WorkerId},
    master::{self, Action, Master},
    wire::{Class, Doing, FromClient, FromWorker, Programs, Spec, Stall, ToClient, ToWorker},
};

pub(super) const CLIENT: ClientId = ClientId(0);
pub(super) const TASK: TaskId = TaskId(0);

pub(super) fn ms(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

/// A master, and all that it wanted.
pub(super) struct Desk {
    pub(super) master: Master,
    pub(super) now: Time,
    pub(super) done: Vec<Action>,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self::with(master::Config::default())
    }

    pub(super) fn with(config: master::Config) -> Self {
        Self { master: Master::new(config), now: ms(0), done: Vec::new() }
    }

    pub(super) fn handle(&mut self, event: master::Event) {
        self.master.handle(self.now, event);
        self.drain();
    }

    pub(super) fn drain(&mut self) {
        self.done.extend(std::iter::from_fn(|| self.master.poll_action()));
        self.master.check();
    }

    /// Lets time pass, with everybody who is named heard all along.
    pub(super) fn pass(&mut self, until: Time, heard: &[u32]) {
        while let Some(due) = self.master.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            for worker in heard {
                self.handle(master::Event::WorkerHeard { worker: WorkerId(*worker) });
            }
            self.master.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    pub(super) fn worker(&mut self, number: u32, returned: bool) {
        self.worker_of(number, 1, returned);
    }

    pub(super) fn worker_of(&mut self, number: u32, slots: u32, returned: bool) {
        self.join(number, ProgramId::default(), slots, returned);
    }

    fn join(&mut self, number: u32, program: ProgramId, slots: u32, returned: bool) {
        self.handle(master::Event::WorkerJoined {
            worker: WorkerId(number),
            program,
            programs: Programs::Own,
            program_name: String::new(),
            name: format!("node{number}"),
            slots,
            returned,
        });
    }

    /// A worker that runs another build only.
    pub(super) fn worker_of_other(&mut self, number: u32) {
        self.join(number, ProgramId([9; 16]), 1, false);
    }

    pub(super) fn client(&mut self, returned: bool, what: Spec) {
        let program = ProgramId::default();
        self.handle(master::Event::ClientJoined { client: CLIENT, program, returned });
        self.client_says(FromClient::Declare { spec: SpecIndex(0), what: Box::new(what) });
    }

    pub(super) fn client_says(&mut self, message: FromClient) {
        self.handle(master::Event::ClientSaid { client: CLIENT, message, body: Payload::new() });
    }

    pub(super) fn worker_says(&mut self, number: u32, message: FromWorker) {
        self.handle(master::Event::WorkerSaid { worker: WorkerId(number), message, body: Payload::new() });
    }

    pub(super) fn finished(&mut self, number: u32, attempt: u32, class: Class) {
        self.ended(number, TASK.0, attempt, class);
    }

    /// The worker says how a task's attempt has ended.
    pub(super) fn ended(&mut self, number: u32, task: u64, attempt: u32, class: Class) {
        let (task, attempt) = (TaskId(task), Attempt(attempt));
        self.worker_says(
            number,
            FromWorker::Finished { client: CLIENT, task, attempt, class, micros: 1, output: 0 },
        );
    }

    pub(super) fn have(&mut self, number: u32, attempt: u32, doing: Doing) {
        let attempt = Attempt(attempt);
        self.worker_says(number, FromWorker::Have { client: CLIENT, task: TASK, attempt, doing });
    }

    pub(super) fn submit(&mut self, tasks: std::ops::Range<u64>) {
        for task in tasks {
            self.client_says(FromClient::Submit { task: TaskId(task), spec: SpecIndex(0) });
        }
    }

    /// The first attempts of these tasks have ended there, and wait for credit.
    pub(super) fn waiting(&mut self, number: u32, tasks: std::ops::Range<u64>) {
        for task in tasks {
            let (task, attempt) = (TaskId(task), Attempt(1));
            self.worker_says(number, FromWorker::Waiting { client: CLIENT, task, attempt });
        }
    }

    pub(super) fn started(&mut self, number: u32, attempt: u32) {
        let attempt = Attempt(attempt);
        self.worker_says(number, FromWorker::Started { client: CLIENT, task: TASK, attempt });
    }

    /// The last attempt that was sent out, and to whom.
    pub(super) fn sent(&self) -> Option<(u32, u32)> {
        self.done.iter().rev().find_map(|action| match action {
            Action::TellWorker { worker, message: ToWorker::Run { attempt, .. }, .. } => {
                Some((worker.0, attempt.0))
            }
            _ => None,
        })
    }

    /// How often which outcome was passed on, and with how many attempts.
    pub(super) fn passed(&self) -> Vec<(Class, u32)> {
        let finished = self.done.iter().filter_map(|action| match action {
            Action::TellClient { message: ToClient::Finished { class, attempts, .. }, .. } => {
                Some((*class, *attempts))
            }
            _ => None,
        });
        finished.collect()
    }

    pub(super) fn stalls(&self) -> Vec<Stall> {
        let told = self.done.iter().filter_map(|action| match action {
            Action::TellClient { message: ToClient::Stalled(why), .. } => Some((**why).clone()),
            _ => None,
        });
        told.collect()
    }

    /// The client's connection breaks, and it is back with the task at once.
    pub(super) fn client_comes_back(&mut self, what: Spec) {
        self.handle(master::Event::ClientLost { client: CLIENT });
        self.client(true, what);
        self.client_says(FromClient::Resubmit { task: TASK, spec: SpecIndex(0) });
        self.client_says(FromClient::Resubmitted { tasks: 1 });
    }

    /// How often the client was told that its tasks move again.
    pub(super) fn moves(&self) -> usize {
        let says_so =
            |action: &&Action| matches!(action, Action::TellClient { message: ToClient::Moving, .. });
        self.done.iter().filter(says_so).count()
    }
}
