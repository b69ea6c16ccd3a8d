//! `cw` turns a Rust function into something a thousand cores run.
//!
//! Annotate a function with [`job`](macro@job), call it with [`spawn`] or [`map`], and start the same binary as
//! master and workers by its flags; or start it alone, and it uses all cores of the machine.
//!
//! - [Your first job](#your-first-job)
//! - [Calls](#calls)
//! - [Arguments and results](#arguments-and-results)
//! - [When something goes wrong](#when-something-goes-wrong)
//! - [Where jobs run](#where-jobs-run)
//! - [Your first cluster](#your-first-cluster)
//! - [Tests](#tests)
//! - [Limits](#limits)
//! - [What is not promised](#what-is-not-promised)
//!
//! # Your first job
//!
//! ```no_run
//! #[cw::job]
//! fn square(n: u64) -> u64 {
//!     n * n
//! }
//!
//! #[cw::main]
//! async fn main() -> cw::Result<()> {
//!     let nine: u64 = cw::spawn(square, 3).await?;
//!     let squares: Vec<u64> = cw::map(square, 0..1000).await?;
//!     println!("{nine} {}", squares.len());
//!     Ok(())
//! }
//! ```
//!
//! `cargo run --release` runs it on all cores, each task in a process of its own slot. `square(3)` is still a plain
//! call. `main` may be sync: then `.wait()` stands for `.await` on every future of `cw`.
//!
//! # Calls
//!
//! | call | gives | room |
//! | --- | --- | --- |
//! | [`spawn`]`(job, args)` | a [`TaskHandle`], to await, abort, or drop (the task runs on) | returns at once, see [`ready`] |
//! | [`map`]`(job, inputs)` | all results in input order, or a stream of them as they come | bounded, inputs are read lazily |
//! | [`submit`]`(job, args, callback)` | the task's id; [`wait_all`] waits for the callbacks | returns at once |
//! | [`TaskSet`] | calls of one type of result, joined as they end | [`spawn_when_ready`](TaskSet::spawn_when_ready) |
//!
//! [`options`] makes any of them with retries, a timeout or a priority.
//!
//! ```
//! use std::time::Duration;
//!
//! #[cw::job]
//! fn simulate(seed: u64, model: &str) -> Result<f64, String> {
//!     if model == "ising" { Ok(seed as f64 / 2.0) } else { Err(format!("no model {model}")) }
//! }
//!
//! fn main() -> cw::Result<()> {
//!     // Streamed: errors are items, and end nothing.
//!     for (index, result) in cw::map(simulate, (0..10).map(|seed| (seed, "ising"))).unordered() {
//!         assert_eq!(result?, index as f64 / 2.0);
//!     }
//!     // A callback runs on a thread for callbacks, in the order of completion.
//!     cw::submit(simulate, (8, "ising"), |task, result| println!("{task} gave {result:?}"));
//!     cw::wait_all().wait();
//!     // With options, which may be kept and used again.
//!     let patient = cw::options().retries(5).timeout(Duration::from_secs(60)).priority(10);
//!     assert_eq!(patient.spawn(simulate, (3, "ising")).wait()?, 1.5);
//!     Ok(())
//! }
//! ```
//!
//! A long map shows how far it is with [`progress`](Map::progress), and keeps its results on disk with
//! [`store`](Map::store): run again, the program goes on where it stopped.
//!
//! # Arguments and results
//!
//! Anything with serde's `Serialize` and `Deserialize`; they cross as [postcard](https://docs.rs/postcard), which
//! writes no names. Arguments may be borrowed as a whole (`&str`, `&[u8]`, `&[T]`, `&Path`, `&T`): they are encoded
//! before the call returns. Types have to match exactly; `job.args(..)` takes what a plain call takes.
//!
//! Types that need a self-describing format (`#[serde(flatten)]`, `untagged`, `tag = ..`, a JSON value), or leave
//! fields out (`skip_serializing_if`), cannot cross. A program with such a job says so at its start.
//!
//! A large input of many tasks is [shared](share): sent once, kept once on each machine. Bytes and numbers by
//! [`share_slice`], which executors neither decode nor copy. Arguments above 1 MiB are sent to a machine once, however often
//! their task is tried there.
//!
//! ```
//! #[cw::job]
//! fn weigh(factor: f64, data: cw::Shared<Vec<f64>>) -> f64 {
//!     data.iter().sum::<f64>() * factor
//! }
//!
//! fn main() -> cw::Result<()> {
//!     let data = cw::share(vec![1.0, 2.0, 3.0]);
//!     let sums = cw::map(weigh, (0..3).map(|n| (f64::from(n), data.clone()))).wait()?;
//!     assert_eq!(sums, [0.0, 6.0, 12.0]);
//!     Ok(())
//! }
//! ```
//!
//! ```
//! #[cw::job]
//! fn mean(from: u64, to: u64, samples: cw::Shared<[f64]>) -> f64 {
//!     let part = &samples[from as usize..to as usize];
//!     part.iter().sum::<f64>() / part.len() as f64
//! }
//!
//! fn main() -> cw::Result<()> {
//!     let samples = cw::share_slice(vec![1.0, 2.0, 6.0]);
//!     assert_eq!(cw::spawn(mean, (0, 3, samples.clone())).wait()?, 3.0);
//!     Ok(())
//! }
//! ```
//!
//! # When something goes wrong
//!
//! A job that returns a `Result` fails with its error. Whatever else happens to it also ends its task and nothing
//! else: the caller gets a [`TaskError`], whose [`kind`](TaskError::kind) says what happened.
//!
//! | [`TaskErrorKind`] | what happened | whether another try helps |
//! | --- | --- | --- |
//! | `Failed` | the job returned an error; [`downcast`](TaskError::downcast) gives it back if its type is serde | if the cause passes: `retries` |
//! | `Panicked` | it panicked: message, place, backtrace where `RUST_BACKTRACE` asks for one | seldom; mend the line named |
//! | `Crashed` | its process ended: exit code or signal, last lines of stderr. Was tried three times | seldom; on another machine, if memory ran out |
//! | `TimedOut` | it ran longer than its timeout, and was killed | with more time |
//! | `Cancelled` | it was aborted, or its map was dropped | it was asked for |
//! | `Lost` | its workers were lost | yes |
//! | `Refused` | it cannot run here; the text says why, naming both sides | no; change what it names |
//! | `TooLarge` | arguments or result are over the limit | no; raise `max_bytes`, or pass a path |
//! | `Disconnected` | the client lost its cluster for good | yes, once there is a master |
//!
//! ```
//! use cw::TaskErrorKind;
//!
//! #[cw::job]
//! fn root(n: f64) -> Result<f64, String> {
//!     if n < 0.0 { Err(format!("{n} has none")) } else { Ok(n.sqrt()) }
//! }
//!
//! let error = cw::spawn(root, -1.0).wait().unwrap_err();
//! assert!(matches!(error.kind(), TaskErrorKind::Failed { message, .. } if message == "-1 has none"));
//! assert_eq!(error.downcast::<String>().as_deref(), Some("-1 has none"));
//! ```
//!
//! `{}` of an error is one line that names job and task, `{:#}` adds its causes. Errors, panics and timeouts are retried
//! as often as `retries` says; crashes are counted apart.
//!
//! # Where jobs run
//!
//! In an *executor*: a process of the same program, one for each slot, that takes tasks one after the other. It has
//! not run `main`, so a static set there is not set in a job. What a job needs it takes as arguments, or makes in a
//! hook: [`on_start`](macro@on_start) runs before an executor's first task, and what a function marked
//! [`cache`](macro@cache) computes is shared by its tasks.
//!
//! [`ctx`] tells a job its task, attempt and worker, gives it a folder that goes with it, and takes word of how far it
//! is. What takes longer than its node may live [saves](Ctx::save) where it is, or leaves files in a
//! [folder](Ctx::checkpoint_dir) that its next attempt finds. A timeout and an abort kill the process with all it has
//! started. A job cannot call jobs.
//!
//! With `--threads`, and in a program that neither uses `#[cw::main]` nor calls [`init`], executors are threads: they
//! start faster, statics are shared, a crash ends the program, and what runs cannot be killed, only
//! [told](Ctx::is_cancelled).
//!
//! # Your first cluster
//!
//! ```text
//! ./sim --role master                      # prints how to join
//! ./sim --role worker                      # as many as you like, on any machine
//! ./sim --cluster default                  # the program, on the cluster
//! ```
//!
//! In any order. Keys and addresses are in `~/.cw/default/`, readable by their owner alone; where the home is not
//! shared copy `worker.json` or `client.json` and name it with `--access`. Master and workers stay up while program after
//! program uses them, several at once: slots go to whoever has used least. `--help` lists all flags.
//!
//! A program without `#[cw::main]` calls [`init`] first thing in `main`, and may say in code where it runs:
//!
//! ```no_run
//! #[cw::job]
//! fn square(n: u64) -> u64 {
//!     n * n
//! }
//!
//! fn main() -> cw::Result<()> {
//!     cw::init()?;
//!     let cluster = cw::Cluster::connect("default").wait()?; // or Cluster::local()?
//!     println!("on {cluster}: {}", cw::spawn(square, 3).wait()?);
//!     Ok(())
//! }
//! ```
//!
//! Ctrl-C, TERM and HUP cancel what runs and end the program with 130, 143 or 129; a second one ends it at once.
//!
//! They need not be of this program: those of the installed `cw` (`cw master`, `cw worker`), or of another build, run it
//! too. Its executable comes to them by itself, and its tasks run in its working directory. What tasks print is shown by the
//! program, each line with its task's name (`--output`).
//!
//! # Tests
//!
//! `square(3)` needs nothing. In a test `cw::spawn(square, 3).wait()` runs in a thread, through the same encoding as on
//! a cluster. [`testing`] has more.
//!
//! # Limits
//!
//! | what | how much | then |
//! | --- | --- | --- |
//! | arguments, and a result | 64 MiB each, or the job's `max_bytes` up to 2 GiB | [`TooLarge`](TaskErrorKind::TooLarge) |
//! | a map's tasks under way or unread | 4,096, or [`in_flight`](Map::in_flight); 64 MiB of arguments and of results | its inputs are not read |
//! | calls by `spawn` and `submit` | none: what the cluster has no room for waits here, with at most 200 B a call beside its arguments | a word at 1 GiB; [`ready`] bounds it |
//! | a program's tasks with the master | 16,384 or eight per slot, 64 MiB of arguments | the rest waits here |
//!
//! # What is not promised
//!
//! - A task may *run* more than once: after a crash, a lost worker, a retry. It is reported once. So let jobs write to a
//!   new name and rename, and not append; or say `#[cw::job(rerun = "never")]`.
//! - Tasks start in order, but end as they will. `priority` orders one program's tasks, never those of others.
//! - What no store keeps is gone with the program.
//! - Linux is what it is tested on.

/// Registers a function as a job: it can be called by [`spawn`], [`map`] and [`submit`], and still be called plainly.
///
/// Sync and async free functions. Arguments are owned types with serde's `Serialize` and `Deserialize`, or borrow as a
/// whole: `&str`, `&[u8]`, `&[T]`, `&Path`, `&T`. A return type written `Result<..>` is fallible: its `Ok` is the
/// result, its error (any error) becomes [`TaskErrorKind::Failed`].
///
/// | option | default | meaning |
/// | --- | --- | --- |
/// | `name = ".."` | module path and function name | the job's identity; no two jobs of a program may share it |
/// | `handle = Name` | the function's name | names the job apart from the function |
/// | `version = 1` | 0 | raised by hand when the meaning changes, so that results in a store are computed anew |
/// | `retries = 2` | 0 | further attempts after an error, a panic or a timeout |
/// | `timeout = "10m"` | none | how long an attempt may run; then its process is killed |
/// | `max_bytes = "256 MiB"` | 64 MiB | most bytes of the encoded arguments, and of the result; or a number, like `256 << 20`; at most 2 GiB |
/// | `speculate = true` | `false` | a task may run twice while its worker is merely silent |
/// | `rerun = "never"` | `"always"` | a task whose attempt was lost does not run again |
/// | `json = 65536` | 4,096 | bytes of arguments and of the result that a store keeps as JSON too; `false` for none |
/// | `key = function` | the arguments | what tells calls apart in a store: a function of references to the arguments, whose result has serde's `Serialize` |
///
/// A worker that is not heard may be dead, or its network slow. With `speculate = true` what runs there runs elsewhere as
/// well once the master has missed it for 2 s (`--suspect-after`); the first result counts, and the other attempt is
/// ended. Without it a task runs again only once its worker is given up, after 10 s (`--lost-after`).
///
/// `rerun = "never"` is for effects that must not happen twice: if the worker that has the task is given up, so that nobody
/// knows how far it came, it ends as [`TaskErrorKind::Lost`], and the first crash of its process ends it as
/// [`TaskErrorKind::Crashed`]. `retries` hold all the same: an error is an answer. Such tasks run one at a time in their
/// processes, which costs very short ones some speed.
///
/// The job takes the function's name, so where it is in scope no local variable can have that name; `*square` is the
/// function as a value; `square.args(..)` makes the arguments with the function's own parameter list.
///
/// What cannot be a job is refused in a sentence that says what to write instead. Three things the attribute cannot
/// see, and the words are the compiler's:
///
/// - A function inside an `impl` that has no `self` ("struct is not supported in `trait`s or `impl`s"): write a free
///   function beside the `impl`.
/// - A `pub` job that takes or gives a private type (E0446): give the job or the type the other's visibility.
/// - An async job that holds something over an `.await` that is not `Send`: the compiler points to it. Drop it before.
///
/// ```
/// #[cw::job(retries = 2, timeout = "90s")]
/// fn mean(values: &[f64]) -> Result<f64, String> {
///     if values.is_empty() {
///         return Err("no values".to_owned());
///     }
///     Ok(values.iter().sum::<f64>() / values.len() as f64)
/// }
///
/// // Without `#[cw::main]` or `cw::init`, as here, jobs run in threads of this process.
/// assert_eq!(cw::spawn(mean, &[1.0, 3.0][..]).wait().unwrap(), 2.0);
/// assert!(cw::spawn(mean, &[][..]).wait().unwrap_err().is_failed());
/// assert_eq!(mean(&[4.0]), Ok(4.0));
/// ```
pub use cw_macros::job;

/// Computes a function once for each set of arguments, and shares the value: for what many tasks need and few inputs
/// decide, such as a model that is read from a file.
///
/// `fn model(path: &str) -> Model` becomes `fn model(path: &str) -> Arc<Model>`. Where the return type is written
/// `Result<T, E>`, in any spelling, it becomes `Result<Arc<T>, E>`, and errors are not kept. The values belong to the
/// process: each executor computes its own, with `--threads` all of them share one; outside of jobs it is the same.
///
/// Arguments are those a job can have, with serde's `Serialize`; calls are the same if their arguments have the same
/// bytes (two `HashMap`s that are equal may not). The value has to be `Send + Sync`. The last 16 sets of arguments are
/// kept, `#[cw::cache(entries = 64)]` keeps more or fewer, and the least recently used go first.
///
/// Callers with equal arguments wait for one of them, others do not wait. After a panic the next caller computes again.
/// The function may call itself with other arguments.
///
/// # Panics
/// The function does if an argument's `Serialize` refuses its value, as that of a path that is not UTF-8 does, or if
/// it calls itself with the same arguments.
///
/// ```
/// #[cw::cache]
/// fn primes(below: u64) -> Vec<u64> {
///     (2..below).filter(|n| (2..*n).all(|d| n % d != 0)).collect()
/// }
///
/// #[cw::job]
/// fn factor(n: u64) -> Option<u64> {
///     primes(1000).iter().copied().find(|p| n % p == 0)
/// }
///
/// // Without `#[cw::main]` or `cw::init`, as here, jobs run in threads of this process.
/// assert_eq!(cw::map(factor, [91, 77]).wait().unwrap(), [Some(7), Some(7)]);
/// assert!(std::sync::Arc::ptr_eq(&primes(1000), &primes(1000)));
/// ```
pub use cw_macros::cache;

/// Runs a function in each executor before its first task: to load a model, set up a library, check the machine.
///
/// A free function without arguments that is not async, and returns nothing or a `Result<(), E>` with any error. It
/// runs once in each process that runs jobs, however long it takes: no task's timeout counts it. With `--threads` all
/// executors are one process. In the program's own `main` it does not run by itself; it can be called like any function.
///
/// Of several hooks the one with the lower `order` goes first: `#[cw::on_start(order = 10)]`, or `(10)` for short; an
/// `i32`, by default 0. Equals go by their paths.
///
/// If a hook returns an error or panics, the tasks of its executor end with that error, [`TaskErrorKind::Failed`] or
/// [`TaskErrorKind::Panicked`], which names the hook; so a job's `retries` apply. The hook is tried again before the
/// next task, and those that are done are not run again. A hook cannot call jobs.
///
/// ```
/// use std::sync::OnceLock;
///
/// static UNIT: OnceLock<u64> = OnceLock::new();
///
/// #[cw::on_start]
/// fn set_unit() -> Result<(), std::num::ParseIntError> {
///     let unit = "7".parse()?;
///     UNIT.get_or_init(|| unit);
///     Ok(())
/// }
///
/// #[cw::job]
/// fn scale(n: u64) -> u64 {
///     n * UNIT.get().expect("the hook has set it")
/// }
///
/// // Without `#[cw::main]` or `cw::init`, as here, jobs run in threads of this process.
/// assert_eq!(cw::spawn(scale, 6).wait().unwrap(), 42);
/// ```
pub use cw_macros::on_start;

/// Lets a program be master, worker or executor by its flags and environment, and runs `main` in a client only.
///
/// `main` may be async (on a multi-threaded tokio runtime) or not, take no parameter or one, a struct that derives
/// `clap::Args`, and return what a `main` may. The cluster's flags stand beside its own in `--help`; with `--role
/// master` or `worker` its own are neither required nor read.
///
/// `#[cw::main(prefix = "cw-")]` puts a prefix before the names of the cluster's flags, `--cw-role` for `--role`, so that
/// the program may use these names itself. The environment variables (`CW_ROLE`, ..) keep theirs.
///
/// ```no_run
/// #[derive(clap::Args)]
/// struct Opts {
///     #[arg(long, default_value_t = 1000)]
///     runs: u64,
/// }
///
/// #[cw::main]
/// fn main(opts: Opts) {
///     println!("{}", opts.runs);
/// }
/// ```
pub use cw_macros::main;

pub use cw_runtime::{
    Blocking, Cluster, Collect, Connect, Ctx, Error, IntoArgs, Job, JobInfo, JoinNext, JoinNextWithId, Map,
    Next, Options, Ready, Result, Shareable, Shared, SpawnWhenReady, TaskError, TaskErrorKind, TaskHandle,
    TaskId, TaskSet, Unordered, WaitAll, ctx, init, jobs, map, options, ready, share, share_slice, spawn,
    submit, wait_all,
};

pub mod testing;

#[doc(hidden)]
pub use cw_runtime::private as __private;

/// A job in place, from something that looks like a closure: it captures nothing, and every type is written.
///
/// It is named by its place in the file, so it is another job when a line is added above it.
///
/// ```
/// let sums = cw::map(cw::job_fn!(|a: u64, b: u64| -> u64 { a + b }), [(1, 2), (3, 4)]);
/// assert_eq!(sums.wait().unwrap(), [3, 7]);
/// ```
#[macro_export]
macro_rules! job_fn {
    (|$($argument:ident : $type:ty),* $(,)?| $(-> $result:ty)? $body:block) => {{
        #[$crate::job(
            name = ::core::concat!(::core::module_path!(), "::closure@", ::core::line!(), ":", ::core::column!()),
            handle = __CwClosure
        )]
        fn __cw_closure($($argument: $type),*) $(-> $result)? $body
        __CwClosure
    }};
    ($($other:tt)*) => {
        ::core::compile_error!(
            "cw::job_fn! needs every type written and a block: `cw::job_fn!(|x: u64, y: u64| -> u64 { x * y })`"
        )
    };
}
