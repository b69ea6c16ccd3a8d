//! The names of things. Each is a number of its own type, so that none is taken for another.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($number:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $number);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

id!(
    /// One call of a job. Unique within its client; grows in the order of the calls.
    TaskId(u64), "task-"
);
id!(
    /// One run of a task. The first is 1; 0 means that the task has not run.
    Attempt(u32), "attempt-"
);
id!(
    /// A client's connection to a master, numbered by the master.
    ClientId(u32), "client-"
);
id!(
    /// A worker's membership in a cluster, numbered by the master and never used again.
    WorkerId(u32), "worker-"
);
id!(
    /// A process (or thread) that runs tasks, numbered by its worker and never used again.
    ExecutorId(u64), "executor-"
);
id!(
    /// A job's place in the job table of its program. Says which job in every message about a task.
    JobIndex(u32), "job-"
);
id!(
    /// A client's number for one combination of job and options, declared before it is first used.
    SpecIndex(u32), "spec-"
);

id!(
    /// What a program's executors are started with: the hash of their working directory and environment.
    SettingId(u64), "setting-"
);

/// A value that tasks share: the BLAKE3 hash of its encoded form.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShareId(pub [u8; 32]);

impl fmt::Display for ShareId {
    /// The first 12 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ShareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ShareId({self})")
    }
}

/// One build of a user's binary: the first 16 bytes of the BLAKE3 hash of its executable.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProgramId(pub [u8; 16]);

impl fmt::Display for ProgramId {
    /// The first 12 hexadecimal digits: enough to tell builds apart, short enough to read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ProgramId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProgramId({self})")
    }
}
