//! One job over many inputs: lazily read, bounded in flight, streamed or collected.

use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::BytesMut;
use cw_core::{
    Payload,
    wire::{Failure, is_burst_args},
};
use futures_core::Stream;

use super::{
    block::block_on,
    gather::{Gathering, Pace},
    options::{Caller, Reading, Way, refused, unencodable},
};
use crate::{
    client::{
        hub::{Command, Hub},
        progress::Progress,
        ready::{Answer, Came, Ready},
        sink::{Sink, StreamQueue},
    },
    error::TaskError,
    job::CodecError,
    shared::{self, Kept},
    store::{self, Call, Store, StoreAt, ToStore},
};

/// Tasks in flight unless said otherwise: enough to keep a thousand slots busy.
const IN_FLIGHT: usize = 4_096;

/// Bytes of arguments in flight, and of results expected or not yet read; a single task may exceed it.
const BYTES_MAX: usize = 64 << 20;

/// Arguments are encoded into pieces of this size, many to a piece.
const PIECE_BYTES: usize = 32 << 10;

/// Appends the next input's encoding, and what tells it from others where that is wanted; `None` at the end.
pub(super) type Source<'i> =
    Box<dyn FnMut(&mut Vec<u8>, Option<&mut Vec<u8>>) -> Option<Result<(), CodecError>> + Send + 'i>;

/// A job over many inputs, made by [`map`](super::map).
///
/// Awaited, it gives a `Vec` of all results in input order; the first error ends it and cancels the rest.
/// [`unordered`](Self::unordered) streams results as they come. Inputs are read only as room opens: at most
/// [`in_flight`](Self::in_flight) tasks, and 64 MiB of arguments and of results, are under way or unread, so
/// an endless iterator is fine. Of arguments above 1 MiB, which a cluster is sent apart, an eighth counts.
#[must_use = "a map does nothing until it is awaited, collected or streamed"]
pub struct Map<'i, R> {
    source: Source<'i>,
    caller: Caller,
    in_flight: usize,
    /// How many inputs there are, where their iterator knows.
    total: Option<u64>,
    label: Option<String>,
    reading: fn() -> Reading<R>,
}

impl<'i, R> Map<'i, R> {
    pub(super) fn new(
        source: Source<'i>,
        total: Option<u64>,
        caller: Caller,
        reading: fn() -> Reading<R>,
    ) -> Self {
        Self { source, caller, in_flight: IN_FLIGHT, total, label: None, reading }
    }

    /// Shows how far it is on stderr, under this label, from the first read of a result to the end.
    ///
    /// On a terminal it is a bar with the rate, the time that is left, and how many tasks run and failed and on how
    /// many workers. Elsewhere it is lines: the first after 2 s, each later one after twice the time, at most 5
    /// minutes apart. One line tells the end. The total, and so the bar and the time left, are known where the
    /// iterator knows its length; else once it has ended.
    ///
    /// What the program itself prints to the terminal meanwhile lands on the bar's line: send it to a file, or print it
    /// at the end.
    ///
    /// Jobs that call [`ctx().progress(..)`](crate::Ctx::progress) move the bar while they run.
    pub fn progress(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Keeps results in this file, each before it is handed out, and takes those that are there: a program that was ended,
    /// however, goes on where it stopped when it is run again. See [`Options::store`](super::Options::store).
    ///
    /// Inputs are compared with those of the run before, in order; where they have changed, results are found by their
    /// arguments. Equal inputs have a result each.
    pub fn store(mut self, path: impl AsRef<Path>) -> Self {
        self.caller.store = Some(Arc::new(StoreAt::new(path.as_ref())));
        self
    }

    /// How many tasks are under way or unread at most. Default 4,096; 0 is taken for 1.
    pub fn in_flight(mut self, tasks: usize) -> Self {
        self.in_flight = tasks.max(1);
        self
    }

    /// A stream of `(index, result)` in the order of completion, where `index` counts the inputs from 0. Errors
    /// are items and end nothing. Dropping the stream cancels what is under way.
    pub fn unordered(self) -> Unordered<'i, R> {
        Unordered {
            map: self,
            way: None,
            number: 0,
            canonical: Vec::new(),
            queue: Arc::default(),
            is_shown: false,
            ready: Ready::default(),
            scratch: Vec::new(),
            piece: BytesMut::new(),
            body: BytesMut::new(),
            next_index: 0,
            open: 0,
            args_bytes: 0,
            result_bytes: Average::default(),
            ready_bytes: 0,
            exhausted: false,
            kept: Vec::new(),
        }
    }

    /// All results in input order, in a collection of your choice. The first error ends it and cancels the rest.
    pub fn collect<C: FromIterator<R>>(self) -> Collect<'i, R, C> {
        Collect { runs: self.unordered(), results: Vec::new(), collection: PhantomData }
    }

    /// Blocks this thread until all results are there: for code that is not async.
    ///
    /// # Errors
    /// The first error of a task.
    pub fn wait(self) -> Result<Vec<R>, TaskError> {
        self.collect().wait()
    }
}

impl<'i, R> IntoFuture for Map<'i, R> {
    type Output = Result<Vec<R>, TaskError>;
    type IntoFuture = Collect<'i, R, Vec<R>>;

    fn into_future(self) -> Self::IntoFuture {
        self.collect()
    }
}

impl<R> fmt::Debug for Map<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Map(of job {})", (self.reading)().job)
    }
}

/// A moving average of sizes.
#[derive(Default)]
struct Average(usize);

impl Average {
    fn learn(&mut self, bytes: usize) {
        self.0 = if self.0 == 0 { bytes } else { (self.0 * 7 + bytes) / 8 };
    }
}

/// Results of a [`Map`] as they come.
///
/// A [`Stream`] with an inherent [`next`](Self::next); in code that is not async, an iterator:
/// `for (index, result) in runs`.
#[must_use = "a stream does nothing unless it is read"]
pub struct Unordered<'i, R> {
    map: Map<'i, R>,
    way: Option<Way>,
    /// Which map of its store it is.
    number: u32,
    canonical: Vec<u8>,
    queue: Arc<StreamQueue>,
    /// Whether the progress is shown, if it is asked for.
    is_shown: bool,
    ready: Ready,
    scratch: Vec<u8>,
    piece: BytesMut,
    /// Memory for the arguments of calls that go together.
    body: BytesMut,
    next_index: u64,
    /// Tasks under way or ready.
    open: usize,
    args_bytes: usize,
    result_bytes: Average,
    ready_bytes: usize,
    exhausted: bool,
    /// What its tasks share.
    kept: Vec<Arc<Kept>>,
}

impl<'i, R> Unordered<'i, R> {
    /// The next result; `None` after the last. May be dropped and called again without loss.
    #[expect(clippy::should_implement_trait, reason = "this is StreamExt::next, without the import")]
    pub fn next(&mut self) -> Next<'_, 'i, R> {
        Next(self)
    }

    fn poll(&mut self, waker: &Waker) -> Poll<Option<(usize, Result<R, TaskError>)>> {
        loop {
            if let Some(answer) = self.ready.pop_front() {
                return Poll::Ready(Some(self.hand_out(answer)));
            }
            self.fill();
            if !self.ready.is_empty() {
                continue;
            }
            if self.open == 0 {
                self.end_progress();
                return Poll::Ready(None);
            }
            self.queue.take(&mut self.ready, waker);
            if self.ready.is_empty() {
                return Poll::Pending;
            }
            self.ready_bytes = self.ready.bytes();
            // While these are read the next ones should be running.
            self.fill();
        }
    }

    fn hand_out(&mut self, answer: Answer) -> (usize, Result<R, TaskError>) {
        let Answer { index, args_bytes, task, completion } = answer;
        let bytes = completion.body.len();
        self.open -= 1;
        self.args_bytes -= args_bytes as usize;
        self.ready_bytes = self.ready_bytes.saturating_sub(bytes);
        self.result_bytes.learn(bytes);
        // A long batch is refilled while it is read, so that slots do not run dry meanwhile.
        if self.ready.len() % 256 == 255 {
            self.fill();
        }
        let index = usize::try_from(index).expect("an iterator has no more items than memory has addresses");
        (index, (self.map.reading)().open(task, completion))
    }

    fn has_room(&self) -> bool {
        let under_way = self.open - self.ready.len();
        let expected = self.ready_bytes + under_way * self.result_bytes.0;
        self.open < self.map.in_flight
            && (self.open == 0 || (self.args_bytes < BYTES_MAX && expected < BYTES_MAX))
    }

    /// Reads inputs while there is room, and hands them over in one piece; where they come slowly, as they come.
    fn fill(&mut self) {
        // A little room is left until there is more: a few calls at a time would wake everybody for each few.
        let is_little = self.map.in_flight - self.open.min(self.map.in_flight) < self.map.in_flight / 8;
        if self.exhausted || is_little || !self.has_room() {
            return;
        }
        let Way { hub, store } = match &self.way {
            Some(way) => way.clone(),
            None => match self.map.caller.way() {
                Ok(way) => self.begin(way),
                Err((hub, failure)) => return self.refuse_next(&hub, &failure),
            },
        };
        let job = self.map.caller.job();
        // Few tasks share something else than the one before.
        let (mut shares, mut spec) = (Vec::new(), self.map.caller.spec(&hub, Vec::new()));
        let watch = self.show_progress().map(Command::Watch);
        let (mut calls, body) = (Vec::new(), std::mem::take(&mut self.body));
        let mut gathering = Gathering::new(Arc::clone(&hub), Arc::clone(&self.queue), body);
        watch.into_iter().for_each(|watch| gathering.push(watch));
        let mut pace = Pace::new();
        while self.has_room() {
            if pace.is_slow() {
                gathering.hand_over();
                self.hand_to_store(store.as_deref(), &hub, &mut calls);
                // What has ended is not kept from whoever waits for it.
                if !self.ready.is_empty() || self.queue.has_answers() {
                    break;
                }
            }
            let Some(input) = self.next_input() else { break };
            if let Some(others) = shared::taken_unless(&shares) {
                (shares, spec) = (others.shares.clone(), self.map.caller.spec(&hub, others.shares));
                self.kept.extend(others.kept);
            }
            let index = self.next_index;
            self.next_index += 1;
            self.open += 1;
            if let Err(failure) = input {
                gathering.answer(index, refused(&failure));
                continue;
            }
            let bytes = hub.weight(self.scratch.len());
            self.args_bytes += bytes;
            if store.is_none() && is_burst_args(&self.scratch) {
                gathering.call(spec, index, &self.scratch);
                continue;
            }
            let args_bytes = u32::try_from(bytes).expect("arguments are limited far below 4 GiB");
            let args = self.cut_piece();
            if store.is_none() {
                gathering.call_alone(spec, index, args, args_bytes);
                continue;
            }
            let (hash, task) = (store::hash_of(&self.canonical), hub.new_task());
            let sink = Sink::Stream(Arc::clone(&self.queue), index, args_bytes);
            calls.push(Call { task, spec, job, hash, args, sink, input: Some(index) });
        }
        self.hand_to_store(store.as_deref(), &hub, &mut calls);
        self.body = gathering.finish();
    }

    fn hand_to_store(&self, store: Option<&Store>, hub: &Arc<Hub>, calls: &mut Vec<Call>) {
        if let Some(store) = store.filter(|_| !calls.is_empty()) {
            let calls = std::mem::take(calls);
            store.push(ToStore::Calls { hub: Arc::clone(hub), map: self.number, calls });
        }
    }

    fn begin(&mut self, way: Way) -> Way {
        self.number = way.store.as_ref().map_or(0, |store| store.new_map());
        self.way.insert(way).clone()
    }

    /// Begins to show the progress, if that is asked for and was not done.
    fn show_progress(&mut self) -> Option<Arc<Progress>> {
        if std::mem::replace(&mut self.is_shown, true) {
            return None;
        }
        let progress = Progress::start(self.map.label.as_deref()?, self.map.total);
        self.queue = Arc::new(StreamQueue::watched(Some(Arc::clone(&progress))));
        Some(progress)
    }

    fn end_progress(&self) {
        if let Some(progress) = self.queue.progress() {
            progress.end();
            // What the program prints next comes after the last line.
            crate::stderr::flush();
        }
    }

    /// Encodes the next input into `scratch`; `None` at the end of the iterator, which is not read again.
    fn next_input(&mut self) -> Option<Result<(), Failure>> {
        self.scratch.clear();
        self.canonical.clear();
        let canonical = self.map.caller.store.is_some().then_some(&mut self.canonical);
        let Some(encoded) = (self.map.source)(&mut self.scratch, canonical) else {
            self.exhausted = true;
            if let Some(progress) = self.queue.progress() {
                progress.settle_total(self.next_index);
            }
            return None;
        };
        let encoded = encoded.map_err(|error| unencodable(&error));
        Some(encoded.and_then(|()| self.map.caller.check_size(self.scratch.len())))
    }

    /// Moves the encoded arguments into a piece they share with others, so that few are allocated.
    fn cut_piece(&mut self) -> Payload {
        if self.scratch.len() > PIECE_BYTES / 8 {
            return std::mem::take(&mut self.scratch).into();
        }
        if let Some(short) = Payload::short(&self.scratch) {
            return short;
        }
        if self.piece.capacity() < self.scratch.len() {
            self.piece = BytesMut::with_capacity(PIECE_BYTES);
        }
        self.piece.extend_from_slice(&self.scratch);
        self.piece.split().freeze().into()
    }

    /// Where no call can be made, each input is answered with the reason, one at a time.
    fn refuse_next(&mut self, hub: &Hub, failure: &Failure) {
        if self.open > 0 || self.next_input().is_none() {
            return;
        }
        let (index, task, completion) = (self.next_index, hub.new_task(), refused(failure));
        self.next_index += 1;
        self.open += 1;
        self.ready.push(Came::One(Answer { index, args_bytes: 0, task, completion }));
    }
}

impl<R> Drop for Unordered<'_, R> {
    fn drop(&mut self) {
        if let Some(way) = &self.way
            && self.open > self.ready.len()
        {
            store::after_calls(&way.hub, || Command::CancelStream(Arc::clone(&self.queue)));
        }
        self.end_progress();
    }
}

impl<R> Unpin for Unordered<'_, R> {}

impl<R> Stream for Unordered<'_, R> {
    type Item = (usize, Result<R, TaskError>);

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(context.waker())
    }
}

impl<R> fmt::Debug for Unordered<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Unordered(of job {}, {} open)", (self.map.reading)().job, self.open)
    }
}

/// Code that is not async loops with `for`.
impl<'i, R> IntoIterator for Unordered<'i, R> {
    type Item = (usize, Result<R, TaskError>);
    type IntoIter = Blocking<'i, R>;

    fn into_iter(self) -> Blocking<'i, R> {
        Blocking(self)
    }
}

/// An iterator over the results of a [`Map`] that blocks this thread until the next comes.
#[derive(Debug)]
pub struct Blocking<'i, R>(Unordered<'i, R>);

impl<R> Iterator for Blocking<'_, R> {
    type Item = (usize, Result<R, TaskError>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().wait()
    }
}

/// A future of the next result, made by [`Unordered::next`].
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct Next<'s, 'i, R>(&'s mut Unordered<'i, R>);

impl<R> Next<'_, '_, R> {
    /// Blocks this thread until the next result is there: for code that is not async.
    pub fn wait(self) -> Option<(usize, Result<R, TaskError>)> {
        block_on(self)
    }
}

impl<R> Future for Next<'_, '_, R> {
    type Output = Option<(usize, Result<R, TaskError>)>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(context.waker())
    }
}

/// A future of all results in input order, made by [`Map::collect`].
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct Collect<'i, R, C> {
    runs: Unordered<'i, R>,
    results: Vec<Option<R>>,
    collection: PhantomData<fn() -> C>,
}

impl<R, C> Unpin for Collect<'_, R, C> {}

impl<R, C: FromIterator<R>> Collect<'_, R, C> {
    /// Blocks this thread until all results are there: for code that is not async.
    ///
    /// # Errors
    /// The first error of a task.
    pub fn wait(self) -> Result<C, TaskError> {
        block_on(self)
    }
}

impl<R, C: FromIterator<R>> Future for Collect<'_, R, C> {
    type Output = Result<C, TaskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.runs.poll(context.waker()) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => break,
                Poll::Ready(Some((_, Err(error)))) => return Poll::Ready(Err(error)),
                Poll::Ready(Some((index, Ok(value)))) => {
                    if self.results.len() <= index {
                        self.results.resize_with(index + 1, || None);
                    }
                    self.results[index] = Some(value);
                }
            }
        }
        // Each index came once, so none is missing.
        Poll::Ready(Ok(std::mem::take(&mut self.results).into_iter().flatten().collect()))
    }
}

impl<R, C> fmt::Debug for Collect<'_, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Collect(of job {}, {} open)", (self.runs.map.reading)().job, self.runs.open)
    }
}
