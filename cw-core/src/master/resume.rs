//! A client that came back: what it has handed in again, and what workers say that they have of it.

use std::collections::{BTreeMap, BTreeSet};

use super::{clients::KEPT_MAX, finish::Report};
use crate::{
    Time,
    ids::{Attempt, TaskId, WorkerId},
    wire::Doing,
};

/// Tasks of one client of which claims are kept until it is back. Far more than its window.
pub(super) const CLAIMS_MAX: usize = 1 << 20;

/// Attempts of one task that a worker is taken to have: it was given the next as the one before was thought to be lost.
const CLAIMS_PER_TASK: usize = 8;

/// Bytes of failures that are kept until their client is heard.
const EARLY_BYTES_MAX: usize = 64 << 20;

/// A client that came back hands in again what it had handed in, and workers say what they have of it.
#[derive(Debug, Default)]
pub(super) struct Resume {
    /// Whether there is more to come from the client.
    pub(super) open: bool,
    /// Whether it was a client of the master before.
    pub(super) restored: bool,
    /// Workers that have not said yet what they have.
    pub(super) awaited: BTreeSet<WorkerId>,
    /// How often workers were asked on their present connection and have not answered: the answer to an earlier question
    /// is none to a later one.
    pub(super) asked: BTreeMap<WorkerId, u32>,
    /// When they are not waited for any longer.
    pub(super) until: Time,
    /// How many tasks the client has handed in again, and how many it says there are.
    pub(super) arrived: u64,
    pub(super) announced: Option<u64>,
    /// What the client has handed in since it is back.
    pub(super) seen: BTreeSet<TaskId>,
    /// What it has cancelled since then and not handed in: that may be on its way yet, on the other lane.
    pub(super) cancelled: BTreeSet<TaskId>,
    /// Results that it was sent since then: it may have handed in those tasks before they arrived.
    pub(super) passed: BTreeSet<TaskId>,
    /// Failures of tasks that the client of a former master has not handed in again: they may be tried again, which
    /// only its word says.
    pub(super) early: BTreeMap<TaskId, (WorkerId, Report)>,
    /// The bytes of those.
    pub(super) early_bytes: usize,
    /// What workers have of tasks that the client has not handed in again.
    pub(super) unclaimed: BTreeMap<TaskId, Vec<Claim>>,
}

impl Resume {
    /// Keeps a failure until its client is heard. Of several attempts the newest counts: gives back the one that does not,
    /// or that is too much to be kept: its task is tried again.
    pub(super) fn keep_early(&mut self, worker: WorkerId, report: Report) -> Option<(WorkerId, Report)> {
        let (task, attempt) = (report.task, report.attempt);
        let is_old = |(_, kept): &(WorkerId, Report)| attempt < kept.attempt;
        let is_full = self.early.len() >= KEPT_MAX || self.early_bytes + report.body.len() > EARLY_BYTES_MAX;
        if is_full || self.early.get(&task).is_some_and(is_old) {
            return Some((worker, report));
        }
        self.early_bytes += report.body.len();
        let before = self.early.insert(task, (worker, report));
        self.early_bytes -= before.as_ref().map_or(0, |(_, kept)| kept.body.len());
        // The same may come twice.
        before.filter(|(other, kept)| (*other, kept.attempt) != (worker, attempt))
    }

    /// What was kept of a task.
    pub(super) fn take_early(&mut self, task: TaskId) -> Option<(WorkerId, Report)> {
        let kept = self.early.remove(&task)?;
        self.early_bytes -= kept.1.body.len();
        Some(kept)
    }

    /// All that was kept.
    pub(super) fn take_all_early(&mut self) -> BTreeMap<TaskId, (WorkerId, Report)> {
        self.early_bytes = 0;
        std::mem::take(&mut self.early)
    }

    /// The client does not want a task any more, which it may have handed in before it said so.
    pub(super) fn note_cancelled(&mut self, task: TaskId) {
        if self.open && !self.seen.contains(&task) && self.cancelled.len() < CLAIMS_MAX {
            self.cancelled.insert(task);
        }
    }

    /// A result is sent to a client that may have handed its task in before that arrives.
    pub(super) fn note_passed(&mut self, task: TaskId) {
        if self.open && self.passed.len() < CLAIMS_MAX {
            self.passed.insert(task);
        }
    }

    /// Keeps a worker's word about a task. Of too many that it has of one task, the oldest is given back.
    pub(super) fn note_claim(&mut self, task: TaskId, claim: Claim) -> Option<Claim> {
        let claims = self.unclaimed.entry(task).or_default();
        claims.retain(|other| (other.worker, other.attempt) != (claim.worker, claim.attempt));
        claims.push(claim);
        let theirs = || claims.iter().filter(|it| it.worker == claim.worker);
        if theirs().count() <= CLAIMS_PER_TASK {
            return None;
        }
        let oldest = *theirs().min_by_key(|it| it.attempt)?;
        claims.retain(|it| (it.worker, it.attempt) != (oldest.worker, oldest.attempt));
        Some(oldest)
    }

    /// A worker that was asked has said all that it has.
    pub(super) fn note_answer(&mut self, worker: WorkerId) {
        let left = self.asked.remove(&worker).unwrap_or_default().saturating_sub(1);
        if left > 0 {
            self.asked.insert(worker, left);
        } else {
            self.awaited.remove(&worker);
        }
    }
}

/// A worker's word that it has an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) worker: WorkerId,
    pub(super) attempt: Attempt,
    pub(super) doing: Doing,
    /// Whether it had ended when the worker came back: a master before may have been told.
    pub(super) had_ended: bool,
}
