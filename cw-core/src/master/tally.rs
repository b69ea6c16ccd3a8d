//! Tasks counted by the worker that they are at.

use std::collections::BTreeMap;

use crate::ids::WorkerId;

/// How many tasks of one kind are at which worker.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// No worker in it has none.
    at: BTreeMap<WorkerId, u32>,
    total: u32,
}

impl Tally {
    pub(super) fn add(&mut self, worker: WorkerId) {
        *self.at.entry(worker).or_default() += 1;
        self.total += 1;
    }

    pub(super) fn drop_one(&mut self, worker: WorkerId) {
        let Some(tasks) = self.at.get_mut(&worker) else { return };
        *tasks -= 1;
        self.total -= 1;
        if *tasks == 0 {
            self.at.remove(&worker);
        }
    }

    pub(super) fn total(&self) -> u32 {
        self.total
    }

    pub(super) fn at(&self, worker: WorkerId) -> u32 {
        self.at.get(&worker).copied().unwrap_or_default()
    }

    /// The workers that have some.
    pub(super) fn workers(&self) -> impl Iterator<Item = &WorkerId> {
        self.at.keys()
    }
}
