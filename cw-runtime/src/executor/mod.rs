//! What runs user code: a process (or, weaker, a thread) that takes tasks one after the other.

mod checkpoint;
pub(crate) mod context;
mod line;
pub(crate) mod nonce;
pub(crate) mod prints;
pub(crate) mod process;
pub(crate) mod run;
pub(crate) mod scratch;
pub(crate) mod thread;

use std::cell::Cell;

thread_local! {
    /// Whether this thread is running a job, so that calls of `cw` from within can be told.
    static IN_JOB: Cell<bool> = const { Cell::new(false) };
}

/// Whether the caller is a job: in an executor's process everything is.
pub(crate) fn in_job() -> bool {
    nonce::is_executor() || IN_JOB.get()
}

/// Marks this thread as running a job until the guard is dropped.
pub(crate) struct JobScope(());

impl JobScope {
    pub(crate) fn enter() -> Self {
        IN_JOB.set(true);
        Self(())
    }
}

impl Drop for JobScope {
    fn drop(&mut self) {
        IN_JOB.set(false);
    }
}
