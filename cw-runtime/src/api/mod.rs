//! The calls of a program: [`spawn`], [`map`], [`submit`], [`wait_all`] and [`options`].

mod block;
mod cluster;
mod gather;
mod handle;
mod map;
mod options;
mod ready;
mod set;
mod submit;

pub use cluster::{Cluster, Connect};
pub use handle::TaskHandle;
pub use map::{Blocking, Collect, Map, Next, Unordered};
pub(crate) use options::refused;
pub use options::{Options, options};
pub use ready::{Ready, ready};
pub use set::{JoinNext, JoinNextWithId, SpawnWhenReady, TaskSet};
pub use submit::{WaitAll, wait_all};

use crate::{
    error::TaskError,
    job::{IntoArgs, Job},
};
use cw_core::ids::TaskId;

/// Calls a job: it is sent off at once and runs from here on, whether the handle is awaited or dropped.
///
/// `args` is the job's arguments as a tuple, a single argument bare, or `()`. They are encoded before this
/// returns, so borrows end here. See [`TaskHandle`] for what comes back.
///
/// # Errors
/// None here: whatever goes wrong is the [`TaskError`] of the handle.
///
/// # Panics
/// Never, not even without a cluster.
// `R` is `J::Output`, which written in the result's type makes the compiler say twice that something is no job.
pub fn spawn<'a, J: Job<Output = R>, A: IntoArgs<J::Args<'a>>, R>(job: J, args: A) -> TaskHandle<R> {
    options().spawn(job, args)
}

/// Calls a job once for each input. Await it for all results, or stream them; see [`Map`].
// For `R` see `spawn`.
pub fn map<'i, 'a, J: Job<Output = R>, I, R>(job: J, inputs: I) -> Map<'i, R>
where
    I: IntoIterator<Item: IntoArgs<J::Args<'a>>, IntoIter: Send + 'i>,
{
    options().map(job, inputs)
}

/// Calls a job and has `done` called with its result, on a thread for callbacks, in the order of completion.
///
/// A panic in a callback is reported on stderr and stops nothing. A callback may submit.
/// [`wait_all`] waits for all of them.
pub fn submit<'a, J: Job, A: IntoArgs<J::Args<'a>>>(
    job: J,
    args: A,
    done: impl FnOnce(TaskId, Result<J::Output, TaskError>) + Send + 'static,
) -> TaskId {
    options().submit(job, args, done)
}
