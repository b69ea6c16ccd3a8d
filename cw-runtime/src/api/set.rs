//! A set of calls, joined in the order in which they end.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use cw_core::{IdHash, ids::TaskId, wire::Failure};

use super::{
    block::block_on,
    options::{Encoded, Options, Reading, options},
    ready::poll_ready,
};
use crate::{
    client::{
        hub::{Command, Hub},
        ready::{Answer, Ready},
        session,
        sink::{Sink, StreamQueue},
    },
    error::TaskError,
    job::{IntoArgs, Job},
    store,
};

/// Calls of any jobs with one type of result, joined as they end; as tokio's `JoinSet`.
///
/// Dropping the set cancels what has not ended.
///
pub struct TaskSet<R> {
    /// Where its calls went; none before the first that could be made.
    hub: Option<Arc<Hub>>,
    queue: Arc<StreamQueue>,
    /// Answers that were taken off the queue and not joined.
    ready: Ready,
    open: HashMap<TaskId, fn() -> Reading<R>, IdHash>,
}

impl<R> TaskSet<R> {
    /// An empty set.
    pub fn new() -> Self {
        Self { hub: None, queue: Arc::default(), ready: Ready::default(), open: HashMap::default() }
    }

    /// Calls a job, as [`spawn`](super::spawn) does; its result comes from [`join_next`](Self::join_next).
    pub fn spawn<'a, J: Job<Output = R>, A: IntoArgs<J::Args<'a>>>(&mut self, job: J, args: A) -> TaskId {
        self.spawn_with(&options(), job, args)
    }

    /// As [`spawn`](Self::spawn), with options.
    pub fn spawn_with<'a, J: Job<Output = R>, A: IntoArgs<J::Args<'a>>>(
        &mut self,
        options: &Options,
        _job: J,
        args: A,
    ) -> TaskId {
        self.add::<J>(options, options.encode::<J>(&args.into_args()))
    }

    /// As [`spawn`](Self::spawn), once there is room: see [`ready`](super::ready). The arguments are encoded at
    /// once, so borrows end here; the call is made when the future is awaited.
    pub fn spawn_when_ready<'a, J: Job<Output = R>, A: IntoArgs<J::Args<'a>>>(
        &mut self,
        _job: J,
        args: A,
    ) -> SpawnWhenReady<'_, R> {
        let args = Some(options().encode::<J>(&args.into_args()));
        SpawnWhenReady { set: self, args, add: |set, args| set.add::<J>(&options(), args) }
    }

    fn add<J: Job<Output = R>>(&mut self, options: &Options, args: Result<Encoded, Failure>) -> TaskId {
        let queue = &self.queue;
        let task = options.call::<J>(args, |_| Sink::Stream(Arc::clone(queue), 0, 0));
        if self.hub.is_none() {
            self.hub = session::hub_for_call().ok().map(Arc::clone);
        }
        self.open.insert(task, Reading::of::<J>);
        task
    }

    /// Waits for the next call to end and gives its result; `None` if the set is empty. May be dropped and called
    /// again without loss.
    ///
    /// # Errors
    /// The [`TaskError`] of the call; it names its task. The others go on.
    pub fn join_next(&mut self) -> JoinNext<'_, R> {
        JoinNext(self)
    }

    /// As [`join_next`](Self::join_next), without waiting: `None` also if nothing has ended.
    pub fn try_join_next(&mut self) -> Option<Result<R, TaskError>> {
        match self.poll_next(Waker::noop()) {
            Poll::Ready(next) => next.map(|(_, result)| result),
            Poll::Pending => None,
        }
    }

    /// As [`join_next`](Self::join_next), with the call's id.
    pub fn join_next_with_id(&mut self) -> JoinNextWithId<'_, R> {
        JoinNextWithId(self)
    }

    /// How many calls have not been joined.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether all calls have been joined.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Cancels all calls that have not ended. They stay in the set, and are joined as `Cancelled`.
    pub fn abort_all(&mut self) {
        if let Some(hub) = &self.hub {
            let each = self.open.keys();
            each.for_each(|task| store::after_calls(hub, || Command::Cancel(*task)));
        }
    }

    /// Empties the set and lets the calls run on; their results are dropped.
    pub fn detach_all(&mut self) {
        // The answers still come to the old queue, which drops them.
        std::mem::take(&mut self.queue).close();
        self.ready.clear();
        self.open.clear();
    }

    fn poll_next(&mut self, waker: &Waker) -> Poll<Option<(TaskId, Result<R, TaskError>)>> {
        loop {
            if self.open.is_empty() {
                return Poll::Ready(None);
            }
            if self.ready.is_empty() {
                self.queue.take(&mut self.ready, waker);
            }
            let Some(Answer { task, completion, .. }) = self.ready.pop_front() else { return Poll::Pending };
            if let Some(reading) = self.open.remove(&task) {
                return Poll::Ready(Some((task, reading().open(task, completion))));
            }
        }
    }
}

impl<R> Default for TaskSet<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> Drop for TaskSet<R> {
    fn drop(&mut self) {
        if self.open.len() > self.ready.len()
            && let Some(hub) = &self.hub
        {
            store::after_calls(hub, || Command::CancelStream(Arc::clone(&self.queue)));
        }
    }
}

impl<R> Unpin for TaskSet<R> {}

impl<R> fmt::Debug for TaskSet<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskSet({} calls)", self.open.len())
    }
}

/// A future of the next result of a set, made by [`TaskSet::join_next`].
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct JoinNext<'s, R>(&'s mut TaskSet<R>);

impl<R> JoinNext<'_, R> {
    /// Blocks this thread until a call has ended: for code that is not async.
    pub fn wait(self) -> Option<Result<R, TaskError>> {
        block_on(self)
    }
}

impl<R> Future for JoinNext<'_, R> {
    type Output = Option<Result<R, TaskError>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_next(context.waker()).map(|next| next.map(|(_, result)| result))
    }
}

/// A future of the next result of a set and its call, made by [`TaskSet::join_next_with_id`].
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct JoinNextWithId<'s, R>(&'s mut TaskSet<R>);

impl<R> JoinNextWithId<'_, R> {
    /// Blocks this thread until a call has ended: for code that is not async.
    pub fn wait(self) -> Option<(TaskId, Result<R, TaskError>)> {
        block_on(self)
    }
}

impl<R> Future for JoinNextWithId<'_, R> {
    type Output = Option<(TaskId, Result<R, TaskError>)>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_next(context.waker())
    }
}

/// A future of a call that waits for room, made by [`TaskSet::spawn_when_ready`].
#[must_use = "nothing is called unless this is awaited"]
pub struct SpawnWhenReady<'s, R> {
    set: &'s mut TaskSet<R>,
    args: Option<Result<Encoded, Failure>>,
    add: fn(&mut TaskSet<R>, Result<Encoded, Failure>) -> TaskId,
}

impl<R> SpawnWhenReady<'_, R> {
    /// Blocks this thread until there is room and the call is made: for code that is not async.
    pub fn wait(self) -> TaskId {
        block_on(self)
    }
}

impl<R> Future for SpawnWhenReady<'_, R> {
    type Output = TaskId;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<TaskId> {
        if poll_ready(context).is_pending() {
            return Poll::Pending;
        }
        let args = self.args.take().expect("a future is not polled after its end");
        let add = self.add;
        Poll::Ready(add(self.set, args))
    }
}

impl<R> fmt::Debug for SpawnWhenReady<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpawnWhenReady({:?})", self.set)
    }
}
