//! Deliberate faults in the machines. What proves a simulator is that it finds those.
//!
//! They exist in tests and in the feature `sim` only; which is on is a matter of each thread.

use std::cell::Cell;

/// A deliberate fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Bug {
    None,
}

/// All of them.
pub const ALL: &[Bug] = &[];

thread_local! {
    static PLANTED: Cell<Bug> = const { Cell::new(Bug::None) };
}

/// Whether this one is on.
pub(crate) fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == bug
}

/// Switches one on, and all others off.
pub(super) fn plant(bug: Bug) {
    PLANTED.set(bug);
}
