//! `cw` turns a Rust function into something a thousand cores run.
//!
//! Annotate a function with [`job`], call it with [`spawn`] or [`map`], and start the same binary as master and
//! workers by its flags; or start it alone, and it uses all cores of the machine.

pub use cw_macros::{job, main};
pub use cw_runtime::{
    Blocking, Collect, Error, IntoArgs, Job, JobInfo, Map, Next, Options, Result, TaskError, TaskErrorKind,
    TaskHandle, TaskId, Unordered, WaitAll, init, jobs, map, options, spawn, submit, wait_all,
};

#[doc(hidden)]
pub use cw_runtime::private as __private;
