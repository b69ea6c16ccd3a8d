//! What a client hears and what it does.

use bytes::BytesMut;

use crate::{
    Payload,
    actions::Tells,
    ids::{Attempt, JobIndex, SpecIndex, TaskId, WorkerId},
    wire::{Answer, Ask, Class, Counts, Failure, FromClient, Spec, Stall, Stretch, ToClient, Window, join},
};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The program calls a job.
    Submit {
        /// The task's name, new.
        task: TaskId,
        /// Job and options, declared before.
        spec: SpecIndex,
        /// Whether its result is recorded before the caller has it.
        durable: bool,
        /// The encoded arguments.
        args: Payload,
    },
    /// The program calls a job with many arguments. None of their results is recorded.
    Submits {
        /// Job and options, declared before.
        spec: SpecIndex,
        /// The tasks' names, new, and the encoded arguments.
        args: Stretch,
    },
    /// Another process of this program called a job in this client's session, and has ended. What there is of the task
    /// is wanted, and recorded; if there is nothing, it ends as lost. Comes before the first master.
    Claim {
        /// The task's name.
        task: TaskId,
        /// Job and options, declared before.
        spec: SpecIndex,
    },
    /// The master said something.
    MasterSaid {
        /// What.
        message: ToClient,
        /// The message's body.
        body: Payload,
    },
    /// A result is on disk.
    Recorded {
        /// Whose.
        task: TaskId,
    },
    /// The program uses a new combination of job and options; it takes the next spec index.
    Declare {
        /// The combination.
        what: Spec,
    },
    /// The program does not want a task's result any more.
    Cancel {
        /// The task.
        task: TaskId,
    },
    /// A master welcomed the client.
    Connected {
        /// What may be in flight.
        window: Window,
        /// What it knows of this client.
        session: Resumed,
    },
    /// The connection to the master ended; another may come.
    MasterLost,
    /// Whether somebody looks at the progress of this client's tasks.
    Watch {
        /// Whether.
        on: bool,
    },
    /// What a task had asked ([`Action::Ask`]) is done, or cannot be.
    Answered {
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
        /// Which question.
        number: u32,
        /// What came of it.
        answer: Answer,
        /// What was asked for, or why it cannot be done.
        body: Payload,
    },
    /// No other will come.
    GiveUp {
        /// Why.
        why: String,
    },
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send the master a message.
    Tell {
        /// What.
        message: FromClient,
        /// The message's body.
        body: Payload,
    },
    /// Give the caller its answer. This or the next comes once for every task.
    Complete {
        /// The task.
        task: TaskId,
        /// The answer.
        completion: Completion,
    },
    /// Give the callers their answers: consecutive tasks ended well, and printed nothing.
    Completes {
        /// What they have in common.
        of: Common,
        /// Their run times and results.
        ends: Stretch,
        /// How many bytes their arguments were.
        args_bytes: u64,
    },
    /// Write a result to disk, then say [`Event::Recorded`].
    Record {
        /// The task.
        task: TaskId,
        /// How it ended.
        completion: Completion,
    },
    /// Tell the user that nothing moves, and why.
    Stalled(Stall),
    /// Tell the user that things move again.
    Moving,
    /// Show where the tasks are.
    Counts(Counts),
    /// Show how far a task has come.
    Progress {
        /// The task.
        task: TaskId,
        /// Thousandths of the whole.
        thousandths: u16,
    },
    /// Show what a running task prints.
    Output {
        /// The task.
        task: TaskId,
        /// How many bytes it had printed before.
        from: u64,
        /// What.
        body: Payload,
    },
    /// Do what a running task asks, in the order of these, then say [`Event::Answered`].
    Ask {
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
        /// Which question.
        number: u32,
        /// What it wants.
        ask: Ask,
        /// What is to be kept.
        body: Payload,
    },
    /// Tell the user what a worker has to say.
    Remark {
        /// The worker's name.
        worker: String,
        /// What, in one line.
        what: Box<str>,
    },
    /// Tell the user that a worker is sent no more tasks.
    SetAside {
        /// Its name.
        worker: String,
        /// Why, in words.
        why: String,
    },
    /// Tell the user that a job's tasks take longer than any worker has time.
    TooLong {
        /// The job.
        job: JobIndex,
        /// Nine of ten tasks are done in so many seconds.
        p90_seconds: u32,
        /// The longest that any worker had when it joined.
        longest_seconds: u32,
    },
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// How.
    pub class: Class,
    /// The last attempt, as its worker knows it; 0 if it was never sent to one.
    pub attempt: Attempt,
    /// How many attempts ended with an outcome; 0 if it never ran.
    pub attempts: u32,
    /// The worker that keeps the result until it is acknowledged, if one does.
    pub worker: Option<WorkerId>,
    /// How long it ran, in microseconds.
    pub micros: u64,
    /// What it printed, as [`Printed`](crate::wire::Printed); empty if nothing.
    pub output: Payload,
    /// Result, or encoded failure.
    pub body: Payload,
}

impl Completion {
    /// An end that no worker knows of.
    pub(super) fn local(failure: &Failure) -> Self {
        let class: Class = failure.class();
        let (output, body) = (Payload::new(), failure.encode());
        Self { class, attempt: Attempt(0), attempts: 0, worker: None, micros: 0, output, body }
    }
}

/// What the ends of consecutive tasks have in common that are told together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Common {
    /// The last attempt of each, as their worker knows it.
    pub attempt: Attempt,
    /// How many attempts of each ended with an outcome.
    pub attempts: u32,
    /// The worker that keeps the results until they are acknowledged.
    pub worker: WorkerId,
}

impl Common {
    /// How one of the tasks ended.
    #[inline]
    pub fn completion(self, micros: u64, body: Payload) -> Completion {
        let Self { attempt, attempts, worker } = self;
        let (class, worker, output) = (Class::Ok, Some(worker), Payload::new());
        Completion { class, attempt, attempts, worker, micros, output, body }
    }
}

/// What a master that welcomed a client knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// Nothing: all that has no result is handed in as new.
    No,
    /// All: only the connection broke.
    SameMaster,
    /// That it was a client of the master before; workers may have its tasks.
    NextMaster,
}

impl Tells for Action {
    fn join(&mut self, next: &Self, open: &mut BytesMut) -> bool {
        match (self, next) {
            (Self::Tell { message, body }, Self::Tell { message: next, body: next_body }) => {
                join((message, body), (next, next_body), open)
            }
            _ => false,
        }
    }

    fn body(&mut self) -> Option<&mut Payload> {
        if let Self::Tell { body, .. } = self { Some(body) } else { None }
    }
}
