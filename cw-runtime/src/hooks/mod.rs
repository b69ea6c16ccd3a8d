//! What a program has run beside its jobs: functions at an executor's start, and functions whose values are
//! kept.
//!
//! The macros in `cw-macros` write code against [`private`]. Statics belong to a process, and so does all of this:
//! executors that are threads share it.

mod cache;
mod start;

pub(crate) use start::{are_left, run_all, run_at_start};

/// Everything the generated code names. Not for users: it changes without notice, together with the macros.
#[allow(unreachable_pub, reason = "whether its name is reachable depends on how the crate re-exports it")]
pub mod private {
    pub use super::cache::{Cache, CacheArg, CacheKey, Cached};
    pub use super::start::{Hook, ON_START};
    pub use linkme;
}
