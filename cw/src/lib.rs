//! `cw` turns a Rust function into something a thousand cores run.
//!
//! Annotate a function with [`job`](macro@job), call it with [`spawn`] or [`map`], and start the same binary as
//! master and workers by its flags; or start it alone, and it uses all cores of the machine.
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
//! A job runs in an *executor*, a process of its own slot: what it panics, exits or crashes of reaches its caller as a
//! [`TaskError`] and nobody else. A task may run more than once (after a crash, a lost worker, a retry); its result is
//! reported once. What a job needs it takes as arguments: an executor has not run `main`, so a static set there is not
//! set in a job.
//!
//! Without `#[cw::main]` call [`init`] first thing in `main`. A program that does neither runs its jobs in threads.

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
/// | `version = 1` | 0 | raised by hand when the meaning changes |
/// | `retries = 2` | 0 | further attempts after an error, a panic or a timeout |
/// | `timeout = "10m"` | none | how long an attempt may run; then its process is killed |
/// | `max_bytes = "256 MiB"` | 64 MiB | most bytes of the encoded arguments, and of the result; or a number, like `256 << 20`; at most 2 GiB |
///
/// The job takes the function's name, so where it is in scope no local variable can have that name; `*square` is the
/// function as a value; `square.args(..)` makes the arguments with the function's own parameter list.
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
    Next, Options, Ready, Result, SpawnWhenReady, TaskError, TaskErrorKind, TaskHandle, TaskId, TaskSet,
    Unordered, WaitAll, ctx, init, jobs, map, options, ready, spawn, submit, wait_all,
};

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
