//! How calls are made: retries, timeout, priority; and what all calls share.

use std::{cell::Cell, path::Path, sync::Arc, time::Duration};

use cw_core::{
    Payload,
    client::Completion,
    ids::{Attempt, JobIndex, ShareId, SpecIndex, TaskId},
    wire::{Class, Failure, Spec},
};

use super::{Map, TaskHandle, map::Source};
use crate::{
    client::{
        hub::{Command, Hub},
        ready::{Answer, Came},
        session,
        sink::{Sink, Slot},
    },
    error::TaskError,
    executor::{self, run::check_size},
    job::{CodecError, IntoArgs, Job, Registry},
    shared,
    store::{self, Call, Hash, Store, StoreAt, ToStore},
};

/// How often an executor may die under a task before the task is given up.
const CRASH_LIMIT: u32 = 3;

/// How often a worker may be lost under a task before the task is given up.
const LOSS_LIMIT: u32 = 3;

/// Options for calls. Made by [`options`]; may be kept and used for many calls.
///
/// What is set here wins over what the job's attribute says, and that over the default.
#[derive(Clone, Debug, Default)]
pub struct Options {
    retries: Option<u32>,
    timeout: Option<Duration>,
    priority: i32,
    store: Option<Arc<StoreAt>>,
}

/// Options to make calls with: `cw::options().retries(3).spawn(job, args)`.
pub fn options() -> Options {
    Options::default()
}

impl Options {
    /// How often an attempt that ended in an error, a panic or a timeout is followed by another. Default 0.
    ///
    /// Crashes of the executor are counted apart: the third ends the task, whatever is set here.
    #[must_use]
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = Some(retries);
        self
    }

    /// How long one attempt may run; then its process is killed. Default: for ever.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Among the tasks of this program that wait, the higher goes first; equals go in order. Default 0.
    #[must_use]
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Keeps results in this file, each before the caller has it, and takes those that are there: a program that was
    /// ended, however, goes on where it stopped when it is run again.
    ///
    /// A result counts for a call of the same job with the same arguments, as long as the job's text, types and `version`
    /// are the same; what failed runs again. Single calls are taken in the order in which they are made; where that, or
    /// their arguments, have changed, they are found by their arguments. `--fresh` computes all anew.
    ///
    /// The file is an SQLite database with a view `results` for people; `cw results FILE` shows it. Its folder is made if
    /// there is none.
    ///
    /// # Errors
    /// A file that is no store, is in use, or cannot be opened: each call is refused with the reason.
    #[must_use]
    pub fn store(mut self, path: impl AsRef<Path>) -> Self {
        self.store = Some(Arc::new(StoreAt::new(path.as_ref())));
        self
    }

    /// As [`spawn`](super::spawn), with these options.
    pub fn spawn<'a, J: Job, A: IntoArgs<J::Args<'a>>>(&self, _job: J, args: A) -> TaskHandle<J::Output> {
        let slot = Arc::new(Slot::default());
        let task = self.call::<J>(self.encode::<J>(&args.into_args()), |_| Sink::Slot(Arc::clone(&slot)));
        TaskHandle::new(Reading::of::<J>, task, slot)
    }

    /// As [`map`](super::map), with these options.
    pub fn map<'i, 'a, J: Job, I>(&self, _job: J, inputs: I) -> Map<'i, J::Output>
    where
        I: IntoIterator<Item: IntoArgs<J::Args<'a>>, IntoIter: Send + 'i>,
    {
        let mut inputs = inputs.into_iter();
        let (least, most) = inputs.size_hint();
        let total = u64::try_from(least).ok().filter(|_| Some(least) == most);
        let source: Source<'i> = Box::new(move |out, canonical| {
            let args = inputs.next()?.into_args();
            shared::begin();
            let encoded = J::encode(&args, out);
            let Some(canonical) = canonical else { return Some(encoded) };
            Some(encoded.and_then(|()| shared::aside(|| J::canonical(&args, canonical))))
        });
        Map::new(source, total, Caller::of::<J>(self), Reading::of::<J>)
    }

    /// Encodes arguments, with what tells them from others where a store wants that.
    pub(super) fn encode<J: Job>(&self, args: &J::Args<'_>) -> Result<Encoded, Failure> {
        let mut out = SCRATCH.take();
        out.clear();
        let unencodable = |error: CodecError| unencodable(&error);
        shared::begin();
        J::encode(args, &mut out).map_err(unencodable)?;
        let taken = shared::taken();
        check_size("arguments", out.len(), J::MAX_BYTES)?;
        let mut hash = Hash::default();
        if self.store.is_some() {
            let mut canonical = Vec::new();
            shared::aside(|| J::canonical(args, &mut canonical)).map_err(unencodable)?;
            hash = store::hash_of(&canonical);
        }
        let shares = taken.shares.clone();
        if shares.is_empty()
            && let Some(args) = Payload::short(&out)
        {
            SCRATCH.set(out);
            return Ok(Encoded { args, hash, shares });
        }
        // Without spare room the bytes need no second allocation while the call waits.
        Ok(Encoded { args: Payload::shared(taken.held_by(out.into_boxed_slice().into())), hash, shares })
    }

    /// As [`submit`](super::submit), with these options.
    pub fn submit<'a, J: Job, A: IntoArgs<J::Args<'a>>>(
        &self,
        _job: J,
        args: A,
        done: impl FnOnce(TaskId, Result<J::Output, TaskError>) + Send + 'static,
    ) -> TaskId {
        self.call::<J>(self.encode::<J>(&args.into_args()), |hub| {
            hub.submitted();
            Sink::Callback(Box::new(move |task, completion| {
                done(task, Reading::of::<J>().open(task, completion));
            }))
        })
    }

    /// Hands one call over, or answers it at once where it cannot be made.
    pub(super) fn call<J: Job>(
        &self,
        args: Result<Encoded, Failure>,
        sink: impl FnOnce(&Hub) -> Sink,
    ) -> TaskId {
        let caller = Caller::of::<J>(self);
        let Way { hub, store } = match caller.way() {
            Ok(way) => way,
            Err((hub, failure)) => {
                let task = hub.new_task();
                let completion = refused(&failure);
                answer_without_client(task, sink(&hub), completion);
                return task;
            }
        };
        let (task, sink) = (hub.new_task(), sink(&hub));
        match args {
            Ok(Encoded { args, hash, shares }) => {
                let (spec, job) = (caller.spec(&hub, shares), caller.job());
                let call = Call { task, spec, job, hash, args, sink, input: None };
                match store {
                    None => hub.push([call.unkept(&hub)]),
                    Some(store) => store.push(ToStore::Calls { hub, map: 0, calls: vec![call] }),
                }
            }
            Err(failure) => hub.push([Command::Answer { task, sink, completion: refused(&failure) }]),
        }
        task
    }
}

thread_local! {
    /// Where short arguments are encoded.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The arguments of a call as bytes, and their hash where a store wants it.
pub(super) struct Encoded {
    pub(super) args: Payload,
    pub(super) hash: Hash,
    /// What its task shares with others.
    pub(super) shares: Vec<ShareId>,
}

/// Where calls go.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) hub: Arc<Hub>,
    pub(super) store: Option<Arc<Store>>,
}

/// A job and options, ready to be handed over.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    id: u64,
    retries: u32,
    timeout: Option<Duration>,
    priority: i32,
    max_bytes: usize,
    speculate: bool,
    rerun: bool,
    is_in_place: bool,
    pub(super) store: Option<Arc<StoreAt>>,
}

impl Caller {
    fn of<J: Job>(options: &Options) -> Self {
        Self {
            id: J::ID,
            retries: options.retries.or(J::RETRIES).unwrap_or(0),
            timeout: options.timeout.or(J::TIMEOUT),
            priority: options.priority,
            max_bytes: J::MAX_BYTES,
            speculate: J::SPECULATE,
            rerun: J::RERUN,
            // As `cw::job_fn!` names it.
            is_in_place: J::PATH.contains("::closure@"),
            store: options.store.clone(),
        }
    }

    /// Refuses encoded arguments over the job's limit.
    pub(super) fn check_size(&self, bytes: usize) -> Result<(), Failure> {
        check_size("arguments", bytes, self.max_bytes)
    }

    /// The hub of this process; or, where no call can be made, a hub that leads nowhere and the reason.
    pub(super) fn hub(&self) -> Result<Arc<Hub>, (Arc<Hub>, Failure)> {
        let why = if executor::in_job() {
            executor::process::exit_if_stray();
            "a job cannot call jobs yet: call them from the program's `main`, and pass on what they return"
                .to_owned()
        } else {
            match session::hub() {
                Ok(hub) => return Ok(Arc::clone(hub)),
                Err(trouble) => trouble.to_string(),
            }
        };
        Err((Arc::new(Hub::new()), Failure::Refused { why }))
    }

    /// Where calls go; or, where none can be made, a hub that leads nowhere and the reason.
    pub(super) fn way(&self) -> Result<Way, (Arc<Hub>, Failure)> {
        let hub = self.hub()?;
        let refused = |why: &str| (Arc::new(Hub::new()), Failure::Refused { why: why.to_owned() });
        let store = match &self.store {
            None => None,
            Some(_) if self.is_in_place => {
                return Err(refused(
                    "a job in place is named by its line, under which no later run would find its results: write a \
                     function with `#[cw::job]` for a store",
                ));
            }
            Some(at) => Some(Arc::clone(at.get().map_err(|why| refused(why))?)),
        };
        Ok(Way { hub, store })
    }

    /// The job's index in this program.
    pub(super) fn job(&self) -> u32 {
        let registry = Registry::global().expect("the session did not start with two jobs of one name");
        registry.index_of(self.id).expect("a job's handle is only made beside its registration")
    }

    /// The index of this job and options, for calls that share these values.
    pub(super) fn spec(&self, hub: &Hub, shares: Vec<ShareId>) -> SpecIndex {
        hub.spec(&self.spec_of(JobIndex(self.job()), shares))
    }

    fn spec_of(&self, job: JobIndex, shares: Vec<ShareId>) -> Spec {
        // A process that died may have done half of what must not be done twice, as a lost worker may.
        let limit = |limit| if self.rerun { limit } else { 1 };
        Spec {
            job,
            retries: self.retries,
            crash_limit: limit(CRASH_LIMIT),
            timeout: self.timeout,
            priority: self.priority,
            loss_limit: limit(LOSS_LIMIT),
            speculate: self.speculate,
            rerun: self.rerun,
            shares,
            apart: false,
        }
    }
}

pub(super) fn unencodable(error: &CodecError) -> Failure {
    Failure::Refused { why: error.to_string() }
}

/// The answer of a task that was never sent.
pub(crate) fn refused(failure: &Failure) -> Completion {
    let class = failure.class();
    let (output, body) = (Payload::new(), failure.encode());
    Completion { class, attempt: Attempt(0), attempts: 0, worker: None, micros: 0, output, body }
}

fn answer_without_client(task: TaskId, sink: Sink, completion: Completion) {
    match sink {
        Sink::Slot(slot) => slot.put(completion),
        // Not on the caller's thread, which may hold what the callback wants.
        Sink::Callback(callback) => drop(std::thread::spawn(move || callback(task, completion))),
        Sink::Stream(stream, index, args_bytes) => {
            stream.put(&mut vec![Came::One(Answer { index, args_bytes, task, completion })]);
        }
    }
}

/// What it takes to read a job's answers.
pub(super) struct Reading<R> {
    pub(super) job: &'static str,
    decode: fn(&[u8]) -> Result<R, CodecError>,
}

impl<R> Reading<R> {
    /// That of a job. Calls keep this function and not what it returns, as every call that waits has one.
    pub(super) fn of<J: Job<Output = R>>() -> Self {
        Self { job: J::PATH, decode: J::decode }
    }

    /// What the caller gets out of an answer.
    pub(super) fn open(&self, task: TaskId, completion: Completion) -> Result<R, TaskError> {
        let failure = if completion.class == Class::Ok {
            match (self.decode)(&completion.body) {
                Ok(value) => return Ok(value),
                Err(error) => Failure::Refused { why: error.to_string() },
            }
        } else {
            Failure::decode(&completion.body)
        };
        let error = TaskError::new(self.job, task, completion.attempts, failure);
        Err(error.with_output(&completion.output))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A job of which only the options matter.
    #[derive(Clone, Copy)]
    struct Once;

    impl Job for Once {
        type Args<'a> = ();
        type Output = ();
        const PATH: &'static str = "once";
        const SIGNATURE: &'static str = "()->()";
        const RERUN: bool = false;

        fn encode((): &(), _: &mut Vec<u8>) -> Result<(), CodecError> {
            Ok(())
        }

        fn decode(_: &[u8]) -> Result<(), CodecError> {
            Ok(())
        }
    }

    #[test]
    fn what_must_not_run_again_is_given_up_after_one_crash_or_loss() {
        let mut caller = Caller::of::<Once>(&options().retries(2));
        let spec = caller.spec_of(JobIndex(0), Vec::new());
        assert_eq!((spec.rerun, spec.crash_limit, spec.loss_limit), (false, 1, 1));
        assert_eq!((spec.speculate, spec.retries), (false, 2));
        caller.rerun = true;
        let spec = caller.spec_of(JobIndex(0), Vec::new());
        assert_eq!((spec.rerun, spec.crash_limit, spec.loss_limit), (true, CRASH_LIMIT, LOSS_LIMIT));
    }
}
