//! Between a worker and its executors, over a socket of their own. They may be of different builds, but not of different
//! [versions](super::EXECUTOR_PROTOCOL) of this.

use serde::{Deserialize, Serialize};

use super::{Answer, Ask, Class, Head};
use crate::ids::{Attempt, JobIndex, ShareId, TaskId};

/// From a worker to an executor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToExecutor {
    /// Run this after all that was sent before; the body is the arguments.
    Run {
        /// The job.
        job: JobIndex,
        /// The task, for the job's own eyes.
        task: TaskId,
        /// The attempt, for the job's own eyes.
        attempt: Attempt,
    },
    /// A value that tasks after this share; the body is the path of its encoded form.
    Share {
        /// Which.
        share: ShareId,
    },
    /// As `Run`; the body is the path of the arguments, which lie apart.
    RunApart {
        /// The job.
        job: JobIndex,
        /// The task, for the job's own eyes.
        task: TaskId,
        /// The attempt, for the job's own eyes.
        attempt: Attempt,
    },
    /// As `Run`, of consecutive tasks; the body has their arguments as [`Entries`](super::Entries).
    Runs {
        /// The job.
        job: JobIndex,
        /// The first task, for the job's own eyes.
        first: TaskId,
        /// How many.
        tasks: u32,
        /// The attempt, of each, for the job's own eyes.
        attempt: Attempt,
    },
    /// The answer to the question of this number; the body is what was asked for.
    Answers {
        /// Which.
        number: u32,
        /// What came of it.
        answer: Answer,
    },
}

/// From an executor to its worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromExecutor {
    /// The next task in the order they were sent has ended; the body is its result or failure.
    Done {
        /// How it ended.
        class: Class,
        /// How long it ran, in microseconds.
        micros: u64,
        /// So many bytes at the body's end are what it printed, as [`Printed`](super::Printed).
        output: u32,
    },
    /// The executor is up.
    Ready {
        /// How many jobs it knows.
        jobs: u32,
    },
    /// The task that runs takes long, and so many behind it, which were read and not begun, will not be run.
    NotStarted {
        /// How many, next after the one that runs.
        tasks: u32,
    },
    /// How far the task that runs has come, as it says itself.
    Progress {
        /// Thousandths of the whole, at most 1,000.
        thousandths: u16,
    },
    /// The executor lives, and runs code of the program's before it is ready, which may take any time.
    Starting,
    /// What the task that runs has printed since; the body is that. Some of it may be left out.
    Output {
        /// How many bytes it had printed before.
        from: u64,
    },
    /// As `Done`, of the next tasks in the order they were sent, which succeeded and printed nothing; the body has their run
    /// times and results as [`Entries`](super::Entries).
    Dones {
        /// How many.
        tasks: u32,
    },
    /// The task that runs wants something of its client, and waits for it; the body is what is to be kept, if anything is.
    Asks {
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
        /// Which question this is: grows within an executor.
        number: u32,
        /// What it wants.
        ask: Ask,
    },
}

impl Head for ToExecutor {
    fn carries_body(&self) -> bool {
        true
    }
}

impl Head for FromExecutor {
    fn carries_body(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Output { .. } | Self::Dones { .. } | Self::Asks { .. })
    }
}
