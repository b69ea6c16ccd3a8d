//! What a job is: the trait behind `#[cw::job]`, its registry, and how its arguments and result become bytes.
//!
//! The macro in `cw-macros` writes code against [`private`] and nothing else, so the two crates change together.
//! This folder knows no cluster: it neither runs, sends nor retries anything.

mod args;
mod canonical;
mod codec;
mod dummies;
mod fitness;
mod json;
mod outcome;
mod quiet;
mod recorder;
mod registry;
mod schema;
mod strict;

use std::pin::Pin;
use std::time::Duration;

use cw_core::wire::PAYLOAD_BYTES_DEFAULT;

pub use codec::CodecError;
pub(crate) use codec::{put_argument, put_state, whole_state};
pub(crate) use json::Json;
pub use outcome::{Fail, FailKind, type_hash};
pub use registry::{DuplicateJob, JobEntry, JobInfo, Registry, Run, Shows, jobs};
pub(crate) use registry::{problems, schema_hash};
pub use schema::Schema;

/// Longer texts are not kept as JSON unless a job says so.
const JSON_BYTES_DEFAULT: u32 = 4_096;

/// A function registered with `#[cw::job]`, which a worker can run.
///
/// The attribute implements it for a unit struct of the function's name; nobody implements it by hand. Use it as a
/// bound to write code over any job: `fn twice<J: cw::Job<Output = u64>>(job: J, ..)`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a cw job",
    label = "this is not a job",
    note = "put `#[cw::job]` on the function: only registered functions can run on a worker",
    note = "a closure becomes a job with `cw::job_fn!(|x: u64| -> u64 {{ x + 1 }})`; what it captures becomes an argument"
)]
pub trait Job: Copy + Send + Sync + 'static {
    /// The arguments as a tuple, in the function's order; `()` when there are none.
    ///
    /// Borrowed arguments borrow for `'a`: a call is encoded at once, so nothing has to outlive it.
    type Args<'a>;

    /// What a call gives back: the function's result, or the `Ok` of one that returns a `Result`.
    // No serde bound here: rustc would report serde's text instead of ours, which names the remedy.
    type Output: Send + 'static;

    /// Where the function is, like `app::physics::simulate`, or the `name` given to the attribute.
    const PATH: &'static str;

    /// The types as they are written, like `(u64,&str)->anyhow::Result<Stats>`.
    const SIGNATURE: &'static str;

    /// The job's identity: FNV-1a of [`PATH`](Job::PATH), so it survives rebuilds and changed signatures.
    const ID: u64 = fnv1a64(Self::PATH);

    /// Further attempts after a failure, a panic or a timeout; `None` leaves it to the call.
    const RETRIES: Option<u32> = None;

    /// How long one attempt may run; `None` leaves it to the call.
    const TIMEOUT: Option<Duration> = None;

    /// Whether a task may run a second time elsewhere while its worker is merely silent.
    const SPECULATE: bool = false;

    /// Whether a task whose attempt was lost, with its worker or its process, may run again.
    const RERUN: bool = true;

    /// Raised by hand when the meaning changes, so that stored results of the old one are not taken for new.
    const VERSION: u32 = 0;

    /// A hash of the function's text, so that stored results of another are not taken for its own.
    const BODY: u64 = 0;

    /// Bytes up to which a store keeps arguments and result as JSON too; 0 is never.
    const JSON_BYTES: u32 = JSON_BYTES_DEFAULT;

    /// Most bytes of the encoded arguments, and of the encoded result. Default 64 MiB; at most 2 GiB.
    const MAX_BYTES: usize = PAYLOAD_BYTES_DEFAULT;

    /// Appends the encoded arguments to `out`.
    ///
    /// # Errors
    ///
    /// When a `Serialize` implementation refuses its value. `out` then holds the arguments before that one.
    fn encode(args: &Self::Args<'_>, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Appends what tells calls apart to `out`, the same in each run of the program: the arguments with the entries of
    /// maps in order, or what the job's `key` makes of them.
    ///
    /// # Errors
    ///
    /// As [`encode`](Job::encode).
    fn canonical(args: &Self::Args<'_>, out: &mut Vec<u8>) -> Result<(), CodecError> {
        Self::encode(args, out)
    }

    /// Reads what the job's run wrote.
    ///
    /// # Errors
    ///
    /// When the bytes are not exactly one encoded [`Output`](Job::Output).
    fn decode(result: &[u8]) -> Result<Self::Output, CodecError>;
}

/// What may stand for the arguments `A` of a call: the tuple itself, or a single argument bare.
///
/// The two implementations never overlap (no type contains itself), so both `spawn(square, 3)` and
/// `spawn(square, (3,))` infer.
#[diagnostic::on_unimplemented(
    message = "job arguments do not match: expected `{A}`, found `{Self}`",
    label = "expected `{A}`",
    note = "one argument goes bare, several as a tuple in the job's order, none as `()`: `cw::spawn(job, (a, b))`",
    note = "the types must match exactly: pass `&s[..]` for a `&str` or `&[u8]`, `s.to_string()` for a `String`, `*x` or `x.clone()` for a value",
    note = "or have them converted as in a plain call, `&String` to `&str`: `cw::spawn(job, job.args(a, b))`"
)]
pub trait IntoArgs<A> {
    /// The arguments as the job takes them.
    fn into_args(self) -> A;
}

impl<A> IntoArgs<A> for A {
    fn into_args(self) -> A {
        self
    }
}

impl<T> IntoArgs<(T,)> for T {
    fn into_args(self) -> (T,) {
        (self,)
    }
}

/// The future of an async job, boxed because a registry of function pointers cannot name each one's type.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// FNV-1a, 64 bit: simple enough to be a `const fn`, and the same in every build, which `std`'s hashers do not promise.
pub(crate) const fn fnv1a64(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut i = 0;
    while i < bytes.len() {
        hash ^= bytes[i] as u64;
        hash = u64::wrapping_mul(hash, 0x0100_0000_01b3);
        i += 1;
    }
    hash
}

/// Everything the generated code names. Not for users: it changes without notice, together with the macros.
#[allow(unreachable_pub, reason = "whether its name is reachable depends on how the crate re-exports it")]
pub mod private {
    pub use super::BoxFuture;
    pub use super::args::{Arg, BorrowedArg, BytesArg, Lend, OwnedArg, TextArg};
    pub use super::canonical::put_key;
    pub use super::codec::{CodecError, Reader};
    pub use super::json::Json;
    pub use super::outcome::{
        ByDebug, ByDisplay, ByDynError, ByDynErrorSync, ByError, ByName, ByNothing, BySerde, Fail, Fallible,
        Out, Probe, ResultCode, Texts,
    };
    pub use super::registry::{JobEntry, Run, Shows};
    pub use super::schema::{Schema, SchemaBuilder};
    /// The most that `max_bytes` may say.
    pub use cw_core::wire::PAYLOAD_BYTES_MAX;
    pub use inventory;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fnv_matches_the_published_vectors() {
        assert_eq!(fnv1a64(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a64("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a64("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn one_argument_goes_bare_or_as_a_tuple() {
        let bare: (u64,) = 3.into_args();
        let tuple: (u64,) = (3,).into_args();
        assert_eq!(bare, tuple);
        let pair: ((u8, u8),) = (1, 2).into_args();
        assert_eq!(pair, ((1, 2),));
    }
}
