//! What a worker hears and what it does.

use std::time::Duration;

use bytes::BytesMut;

use super::NoShare;
use crate::{
    Payload,
    actions::Tells,
    ids::{Attempt, ExecutorId, ProgramId, ShareId, TaskId},
    wire::{Ask, Class, Ending, FromWorker, ToExecutor, ToWorker, join},
};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The master said something.
    MasterSaid {
        /// What.
        message: ToWorker,
        /// The message's body.
        body: Payload,
    },
    /// The connection to the master ended. What runs goes on.
    MasterLost,
    /// A master let the worker in.
    Joined {
        /// Whether it knows the worker: else all that is here is nobody's, and dropped.
        returned: bool,
    },
    /// An executor said something, or ended.
    ExecutorSaid {
        /// Which.
        executor: ExecutorId,
        /// What.
        said: ExecutorSaid,
    },
    /// A program that was to be fetched can be executed, or cannot be.
    Fetched {
        /// Which.
        program: ProgramId,
        /// Why not, in one line.
        result: Result<(), String>,
    },
    /// A shared value that was to be fetched is here, or cannot be had.
    Shared {
        /// Which.
        share: ShareId,
        /// Its path, or why not.
        result: Result<Payload, NoShare>,
    },
    /// The worker is to leave the cluster.
    Leave,
    /// The worker's allocation ends in so much time, or, if there is none, nobody knows of an end. It may move.
    Ends {
        /// That.
        left: Option<Duration>,
    },
}

/// Word from, or of, an executor.
#[derive(Clone, Debug, PartialEq)]
pub enum ExecutorSaid {
    /// It lives, and runs code of the program's before it is ready, which may take any time.
    Starting,
    /// It takes tasks.
    Ready,
    /// The first task of its batch has ended.
    Done {
        /// How.
        class: Class,
        /// How long it ran, in microseconds.
        micros: u64,
        /// So many bytes at the body's end are what it printed.
        output: u32,
        /// Result or failure, and that.
        body: Payload,
    },
    /// As `Done`, of the next tasks, which succeeded and printed nothing; the body has their run times and results as
    /// [`Entries`](crate::wire::Entries).
    Dones {
        /// How many.
        tasks: u32,
        /// Those.
        body: Payload,
    },
    /// The first task of its batch runs long; so many behind it, which it had not begun, it will not run.
    NotStarted {
        /// How many, next after the first.
        tasks: u32,
    },
    /// How far the first task of its batch has come, as the task says.
    Progress {
        /// Thousandths of the whole.
        thousandths: u16,
    },
    /// What the first task of its batch has printed just now.
    Output {
        /// How many bytes it had printed before.
        from: u64,
        /// What.
        body: Payload,
    },
    /// The first task of its batch wants something of its client, and waits for it.
    Asks {
        /// The task, as another may have begun.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
        /// Which question this is: grows within an executor.
        number: u32,
        /// What it wants.
        ask: Ask,
        /// What is to be kept, if anything is.
        body: Payload,
    },
    /// Its clients' users should know this.
    Remark {
        /// What, in one line.
        what: Box<str>,
    },
    /// The process has ended, or could not be started. Nothing comes from it any more.
    Ended {
        /// How.
        ending: Ending,
        /// What was seen beside it.
        hint: Option<String>,
        /// The last lines it wrote to stderr.
        stderr: String,
        /// What the first task of its batch had printed, as [`Printed`](crate::wire::Printed).
        output: Payload,
        /// The name of this worker, for the evidence.
        worker: String,
    },
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send the master a message.
    Tell {
        /// What.
        message: FromWorker,
        /// The message's body.
        body: Payload,
    },
    /// Start an executor.
    Start {
        /// Its number, new.
        executor: ExecutorId,
        /// Its program, which was fetched.
        program: ProgramId,
        /// What one of its clients said of itself; empty where none did.
        body: Payload,
    },
    /// Make a program ready to be executed, then say [`Event::Fetched`].
    Fetch {
        /// Which.
        program: ProgramId,
        /// What one of its clients said of itself.
        body: Payload,
    },
    /// Get a shared value, then say [`Event::Shared`].
    FetchShare {
        /// Which.
        share: ShareId,
        /// Of which program's clients it can be had.
        program: ProgramId,
        /// Whether it is only the arguments of tasks here, and goes with them.
        passing: bool,
    },
    /// Forget a shared value.
    DropShare {
        /// Which.
        share: ShareId,
        /// Whether a task that had it as its arguments has ended well: hardly anybody will want it again.
        spent: bool,
    },
    /// Forget a program that was fetched.
    Drop {
        /// Which.
        program: ProgramId,
    },
    /// Send an executor a task.
    Feed {
        /// Which.
        executor: ExecutorId,
        /// What to run.
        message: ToExecutor,
        /// The arguments.
        body: Payload,
    },
    /// Kill an executor and all its children at once. Its end is reported as any end is.
    Kill {
        /// Which.
        executor: ExecutorId,
    },
    /// No executor of the only program that is run here starts: the worker is leaving because of that, and `Left` follows.
    Broken {
        /// Why, in one line.
        why: String,
    },
    /// There was nothing to do for long: the worker is leaving because of that, and `Left` follows.
    Idle,
    /// The worker's time is over: it is leaving because of that, and `Left` follows.
    Over,
    /// All is handed back: the worker may end.
    Left,
}

impl Tells for Action {
    fn join(&mut self, next: &Self, open: &mut BytesMut) -> bool {
        match (self, next) {
            (Self::Tell { message, body }, Self::Tell { message: next, body: next_body }) => {
                join((message, body), (next, next_body), open)
            }
            (
                Self::Feed { executor, message, body },
                Self::Feed { executor: same, message: next, body: next_body },
            ) if executor == same => join((message, body), (next, next_body), open),
            _ => false,
        }
    }

    fn body(&mut self) -> Option<&mut Payload> {
        match self {
            Self::Tell { body, .. } | Self::Feed { body, .. } => Some(body),
            _ => None,
        }
    }
}
