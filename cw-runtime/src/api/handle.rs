//! The handle of one call.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use cw_core::ids::TaskId;

use super::{block::block_on, options::Reading};
use crate::{
    client::{hub::Command, session, sink::Slot},
    error::TaskError,
    store,
};

/// A call that is under way: a future of its result.
///
/// Dropping it detaches: the task runs on, its result is dropped. Awaiting it may be cancelled and resumed.
///
/// # Errors
/// The future gives a [`TaskError`] that says how the task ended.
pub struct TaskHandle<R> {
    reading: fn() -> Reading<R>,
    task: TaskId,
    slot: Arc<Slot>,
}

impl<R> TaskHandle<R> {
    pub(super) fn new(reading: fn() -> Reading<R>, task: TaskId, slot: Arc<Slot>) -> Self {
        Self { reading, task, slot }
    }

    /// The task's name, unique within this run of the program.
    pub fn id(&self) -> TaskId {
        self.task
    }

    /// Gives the task up: its process is killed if it runs, and awaiting it gives `Cancelled`. A task that has
    /// ended keeps its result. With `--threads` a running task cannot be killed and is left behind.
    pub fn abort(&self) {
        // A call that was refused has its answer, and a name that may be another's.
        if !self.is_finished()
            && let Ok(hub) = session::hub()
        {
            store::after_calls(hub, || Command::Cancel(self.task));
        }
    }

    /// Whether the task has ended, so that awaiting it returns at once.
    pub fn is_finished(&self) -> bool {
        self.slot.is_finished()
    }

    /// Blocks this thread until the task has ended: for code that is not async.
    ///
    /// # Errors
    /// As awaiting it.
    pub fn wait(self) -> Result<R, TaskError> {
        block_on(self)
    }
}

impl<R> Future for TaskHandle<R> {
    type Output = Result<R, TaskError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.slot.poll(context.waker()) {
            Some(completion) => Poll::Ready((self.reading)().open(self.task, completion)),
            None => Poll::Pending,
        }
    }
}

impl<R> fmt::Debug for TaskHandle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskHandle({} of job {})", self.task, (self.reading)().job)
    }
}
