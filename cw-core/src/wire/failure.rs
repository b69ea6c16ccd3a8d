//! How an attempt ended, and the evidence when it ended badly.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How an attempt ended, as far as scheduling must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// The body is the encoded result.
    Ok,
    /// The job returned an error. This and all below: the body is an encoded [`Failure`].
    Failed,
    /// The job panicked.
    Panicked,
    /// The job ran longer than its timeout and was killed.
    TimedOut,
    /// The executor died while it ran this task and no other.
    Crashed,
    /// The task was aborted, or its client left.
    Cancelled,
    /// The attempts were lost with their workers.
    Lost,
    /// The task cannot run here; running it again cannot help.
    Refused,
    /// Arguments or result are over the size limit.
    TooLarge,
    /// The client lost its cluster.
    Disconnected,
}

/// Why a task has no result. Plain data: it crosses the wire as the body of a `Finished` message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// The job returned an error.
    Failed {
        /// The error's own text.
        message: String,
        /// The texts of its sources, outermost first.
        chain: Vec<String>,
        /// Type hash and postcard bytes of the error itself, where its type is serde.
        value: Option<(u64, Vec<u8>)>,
    },
    /// The job panicked.
    Panicked {
        /// The panic's message.
        message: String,
        /// `file:line:column`.
        location: String,
        /// The backtrace, where the environment asks for one.
        backtrace: Option<String>,
    },
    /// The executor died under the task.
    Crashed {
        /// How the process ended.
        ending: Ending,
        /// What the worker saw beside it, such as the kernel's out-of-memory killer at work.
        hint: Option<String>,
        /// The last lines the process wrote to stderr.
        stderr: String,
        /// The worker it ran on.
        worker: String,
    },
    /// The task ran longer than its timeout.
    TimedOut {
        /// The timeout.
        after: Duration,
    },
    /// The task was aborted.
    Cancelled,
    /// The attempts were lost with their workers.
    Lost {
        /// The workers, with their last words.
        workers: Vec<String>,
    },
    /// The task cannot run.
    Refused {
        /// Why, naming both sides.
        why: String,
    },
    /// Arguments or result are over the limit.
    TooLarge {
        /// `arguments` or `result`.
        what: String,
        /// Their size in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The client lost its cluster.
    Disconnected {
        /// What happened to the connection.
        why: String,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// By itself, with this code.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// It went silent and its end could not be observed.
    Unknown,
}

impl Failure {
    /// The class a `Finished` message about this failure carries.
    pub fn class(&self) -> Class {
        match self {
            Self::Failed { .. } => Class::Failed,
            Self::Panicked { .. } => Class::Panicked,
            Self::Crashed { .. } => Class::Crashed,
            Self::TimedOut { .. } => Class::TimedOut,
            Self::Cancelled => Class::Cancelled,
            Self::Lost { .. } => Class::Lost,
            Self::Refused { .. } => Class::Refused,
            Self::TooLarge { .. } => Class::TooLarge,
            Self::Disconnected { .. } => Class::Disconnected,
        }
    }

    /// As the body of a message.
    pub fn encode(&self) -> crate::Payload {
        postcard::to_stdvec(self).expect("a failure is plain data, which postcard always encodes").into()
    }

    /// From the body of a message; a body that is none says so instead.
    pub fn decode(body: &[u8]) -> Self {
        match postcard::take_from_bytes(body) {
            Ok((failure, [])) => failure,
            _ => Self::Refused { why: "the failure's own description cannot be decoded".to_owned() },
        }
    }
}
