//! Between master and worker.

use serde::{Deserialize, Serialize};

use super::{
    Answer, Ask, Class, Head,
    client::{Output, Spec},
};
use crate::ids::{Attempt, ClientId, ProgramId, SettingId, SpecIndex, TaskId};

/// From the master to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Run this; the body is the arguments.
    Run {
        /// Whose task.
        client: ClientId,
        /// The task.
        task: TaskId,
        /// Which attempt this is.
        attempt: Attempt,
        /// What to run and how, declared before.
        spec: SpecIndex,
        /// Let nothing else share its executor's queue, so that a crash has one suspect.
        alone: bool,
    },
    /// The client has these results: forget them.
    Received {
        /// Whose tasks.
        client: ClientId,
        /// The first task.
        first: TaskId,
        /// How many, with consecutive ids; at least 1.
        tasks: u32,
        /// The attempt, of each.
        attempt: Attempt,
    },
    /// What a client's spec index means.
    Declare {
        /// Whose.
        client: ClientId,
        /// The index.
        spec: SpecIndex,
        /// Its meaning. Boxed, as all messages would be as big as the biggest.
        what: Box<Spec>,
    },
    /// How many bytes of this client's results may be on the way and not acknowledged.
    Credit {
        /// Whose.
        client: ClientId,
        /// Bytes; a single result may exceed it.
        bytes: u64,
    },
    /// Give this attempt up, killing it if it runs. Answered by `Returned` or, if too late, `Finished`.
    Cancel {
        /// Whose task.
        client: ClientId,
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
    },
    /// Hand back up to so many tasks that have not started, last first. Answered by `Recalled`.
    Recall {
        /// At most so many.
        tasks: u32,
    },
    /// The client is gone: forget its specs and results.
    Forget {
        /// Whose.
        client: ClientId,
    },
    /// As `Recall`, of one client's tasks, since others go before them.
    MakeWay {
        /// Whose.
        client: ClientId,
        /// Only those of a lower priority than this.
        below: Option<i32>,
        /// At most so many.
        tasks: u32,
    },
    /// A sign of life, which the worker's side of the connection acknowledges.
    Beat {
        /// For how long from here on the worker may begin tasks without another, in milliseconds.
        lease: u32,
    },
    /// Say what you have of this client's: `Have` for each task, then `Accounted`. Its results that were sent and not
    /// acknowledged are sent again.
    Account {
        /// Whose.
        client: ClientId,
    },
    /// Whose tasks will come; the body is what the client said of itself.
    Meet {
        /// The client.
        client: ClientId,
        /// Its program.
        program: ProgramId,
        /// What its executors are started with, by hash.
        setting: SettingId,
        /// What it wants of what its tasks print.
        output: Output,
    },
    /// As `Run`, of consecutive tasks, none of them alone; the body has their arguments as [`Entries`](super::Entries).
    Runs {
        /// Whose tasks.
        client: ClientId,
        /// The first task.
        first: TaskId,
        /// How many.
        tasks: u32,
        /// Which attempt this is, of each.
        attempt: Attempt,
        /// What to run and how, declared before.
        spec: SpecIndex,
    },
    /// Leave, as the whole cluster is to end: hand back what you have, and end. Answered by `Leaving`.
    Leave,
    /// A client's answer to what a task of it has asked; the body is what was asked for.
    Answers {
        /// Whose task.
        client: ClientId,
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
        /// Which question.
        number: u32,
        /// What came of it.
        answer: Answer,
    },
    /// Ask again what this attempt has asked and was not answered. If there is nothing of that kind, `AsksNothing`.
    AskAgain {
        /// Whose task.
        client: ClientId,
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
    },
}

/// From a worker to the master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromWorker {
    /// An attempt has ended; the body is its result or a [`Failure`](super::Failure).
    Finished {
        /// Whose task.
        client: ClientId,
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
        /// How it ended.
        class: Class,
        /// How long it ran, in microseconds.
        micros: u64,
        /// So many bytes at the body's end are what it printed.
        output: u32,
    },
    /// An attempt that ends without an outcome: the task may run elsewhere.
    Returned {
        /// Whose task.
        client: ClientId,
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
        /// Why it comes back.
        why: Returned,
    },
    /// All that a `Recall` brings has been returned.
    Recalled,
    /// The worker stops on purpose: nothing more comes from it.
    Leaving,
    /// An attempt has ended and its slot is free; its result follows when the client's credit allows.
    Waiting {
        /// Whose task.
        client: ClientId,
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
    },
    /// Too many of this client's results wait here for its credit, or no longer: send it no tasks, or do.
    Held {
        /// Whose.
        client: ClientId,
        /// Whether they wait.
        held: bool,
    },
    /// How far a running task has come, as it says itself.
    Progress {
        /// Whose task.
        client: ClientId,
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
        /// Thousandths of the whole, at most 1,000.
        thousandths: u16,
    },
    /// An attempt has been running for a while: it is to blame if its worker is lost.
    Started {
        /// Whose task.
        client: ClientId,
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
    },
    /// An attempt that the worker has, said after it came back or when asked by `Account`.
    Have {
        /// Whose task.
        client: ClientId,
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
        /// What has become of it.
        doing: Doing,
    },
    /// All of `Have` has been said.
    Accounted {
        /// Of this client; none means of all.
        client: Option<ClientId>,
    },
    /// A program cannot be run here: send no tasks of it.
    Unfit {
        /// Which.
        program: ProgramId,
        /// Why, in one line.
        why: Box<str>,
    },
    /// Something that a client's user should know.
    Remark {
        /// Whose.
        client: ClientId,
        /// What, in one line.
        what: Box<str>,
    },
    /// What a running task has printed just now; the body is that.
    Output {
        /// Whose task.
        client: ClientId,
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
        /// How many bytes it had printed before.
        from: u64,
    },
    /// As `Finished`, of consecutive tasks that succeeded and printed nothing; the body has their run times and results as
    /// [`Entries`](super::Entries).
    Finishes {
        /// Whose tasks.
        client: ClientId,
        /// The first task.
        first: TaskId,
        /// How many.
        tasks: u32,
        /// The attempt, of each.
        attempt: Attempt,
    },
    /// The worker's allocation ends, or the end has moved.
    Ends {
        /// In so many seconds; none if no end is known any more.
        left: Option<u32>,
    },
    /// An attempt has run for so long without an end, and comes back next: its job's tasks take longer than this.
    Ran {
        /// Whose task.
        client: ClientId,
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
        /// So many seconds.
        seconds: u32,
    },
    /// A running task wants something of its client, and waits for it; the body is what is to be kept, if anything is.
    Asks {
        /// Whose task.
        client: ClientId,
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
        /// Which question this is: grows within an attempt.
        number: u32,
        /// What it wants.
        ask: Ask,
    },
    /// An attempt that was to ask again has nothing to ask.
    AsksNothing {
        /// Whose task.
        client: ClientId,
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
    },
    /// How long the worker's allocation is in all; comes before `Ends`, where that says less.
    Lasts {
        /// Seconds.
        seconds: u32,
    },
    /// It has had nothing to do for long, and may leave. Answered with [`ToWorker::Leave`], unless a task is on its way.
    Idle,
}

/// What has become of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Doing {
    /// It waits for an executor, or is in one with others, and is not known to run.
    Waiting,
    /// It runs.
    Running,
    /// It has ended, and its result waits for the client's credit.
    Done,
}

/// Why an attempt came back without an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Returned {
    /// It was asked back and had not started.
    Recalled,
    /// It was cancelled.
    Cancelled,
    /// Its executor was killed because of another task before it started.
    NotStarted,
    /// Its executor died, and it is not known whether this or another task was to blame.
    Suspect,
    /// The worker leaves.
    Leaving,
    /// Too many of its client's results wait there.
    Held,
    /// It ran, and was killed as the worker leaves.
    Killed,
    /// It had not begun, and its worker ends before it would be done.
    NoTime,
}

impl Head for ToWorker {
    fn carries_body(&self) -> bool {
        matches!(self, Self::Run { .. } | Self::Meet { .. } | Self::Runs { .. } | Self::Answers { .. })
    }

    fn on_every_lane(&self) -> bool {
        matches!(self, Self::Declare { .. } | Self::Cancel { .. } | Self::Forget { .. } | Self::Meet { .. })
    }
}

impl Head for FromWorker {
    fn carries_body(&self) -> bool {
        matches!(
            self,
            Self::Finished { .. } | Self::Output { .. } | Self::Finishes { .. } | Self::Asks { .. }
        )
    }
}
