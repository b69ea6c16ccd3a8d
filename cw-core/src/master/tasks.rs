//! A task as the master knows it.

use crate::{
    Payload,
    ids::{Attempt, SpecIndex, WorkerId},
    wire::Spec,
};

/// A task from its submission until its result is passed on.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) spec: SpecIndex,
    /// Kept until the end, since a retry needs them.
    pub(super) args: Payload,
    /// The current attempt; 0 before the first.
    pub(super) attempt: Attempt,
    /// The newest attempt: another may be the current one, where a worker came back with it.
    pub(super) latest: Attempt,
    pub(super) state: State,
    /// What it was charged to its client and worker when it was sent, in microseconds.
    pub(super) charge: u32,
    /// Attempts that ended in an error, a panic or a timeout.
    pub(super) failures: u32,
    /// Attempts whose executor died under them.
    pub(super) crashes: u16,
    /// Attempts that ran when their worker was lost.
    pub(super) losses: u8,
    /// Attempts that may have run when their worker was lost.
    pub(super) exposures: u8,
    /// How often it was moved away from a worker that had fallen silent.
    pub(super) moves: u8,
    /// Whether its executor must not queue anything beside it.
    pub(super) alone: bool,
    /// Whether its worker has said that it runs.
    pub(super) started: bool,
    /// Whether its worker has said how long the current attempt had run when it was cut off.
    pub(super) was_cut: bool,
    /// Whether its client has not handed in its arguments: it cannot be tried again.
    pub(super) is_claim: bool,
    /// Whether its outcome, which is at a worker, was passed on before and may not have arrived: it is not tried again.
    pub(super) settled: bool,
    /// Whether it was with the master before, and this one has not sent it yet: another attempt may have begun.
    pub(super) inherited: bool,
    /// Whether its outcome is the last, as another attempt may have begun and it must not begin twice.
    pub(super) is_last: bool,
}

/// Where a task is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum State {
    /// In its client's queue.
    Queued,
    /// Kept out of the queue for a reason of its own, see `parked`.
    Parked,
    /// With a worker.
    Sent { worker: WorkerId },
    /// Run by a worker that keeps the result until the client's credit allows it to be sent.
    Held { worker: WorkerId },
    /// With a worker that was told to give it up; its client has its answer. `held` as above.
    Cancelling { worker: WorkerId, held: bool },
}

impl Task {
    pub(super) fn new(spec: SpecIndex, args: Payload) -> Self {
        Self {
            spec,
            args,
            attempt: Attempt(0),
            latest: Attempt(0),
            state: State::Queued,
            charge: 0,
            failures: 0,
            crashes: 0,
            losses: 0,
            exposures: 0,
            moves: 0,
            alone: false,
            started: false,
            was_cut: false,
            is_claim: false,
            settled: false,
            inherited: false,
            is_last: false,
        }
    }

    /// One whose client wants only what there is of it.
    pub(super) fn claimed(spec: SpecIndex) -> Self {
        Self { is_claim: true, ..Self::new(spec, Payload::new()) }
    }

    /// Whether this attempt is the current one, and there.
    pub(super) fn is_with(&self, worker: WorkerId, attempt: Attempt) -> bool {
        self.state.worker() == Some(worker) && self.attempt == attempt
    }

    /// Whether it is here only until a worker has given it up.
    pub(super) fn is_called_back(&self) -> bool {
        matches!(self.state, State::Cancelling { .. })
    }

    /// Whether a failure or a crash may be followed by another attempt. Those of attempts that were given up count, so
    /// the current one may be the last.
    pub(super) fn has_tries(&self, spec: &Spec) -> bool {
        self.failures <= spec.retries && u32::from(self.crashes) < spec.crash_limit.max(1)
    }

    /// Attempts that ended badly. An attempt that came back without an outcome is not among them.
    pub(super) fn ended(&self) -> u32 {
        self.failures + u32::from(self.crashes) + u32::from(self.losses)
    }
}

impl State {
    pub(super) fn worker(self) -> Option<WorkerId> {
        match self {
            Self::Queued | Self::Parked => None,
            Self::Sent { worker } | Self::Held { worker } | Self::Cancelling { worker, .. } => Some(worker),
        }
    }

    /// Whether it takes up room at its worker.
    pub(super) fn takes_room(self) -> bool {
        matches!(self, Self::Sent { .. } | Self::Cancelling { held: false, .. })
    }
}
