//! What the master has learned of the client's jobs: the next master, which knows nothing, hears it from here.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Client};
use crate::{
    Payload,
    ids::{JobIndex, SpecIndex},
    wire::FromClient,
};

#[derive(Debug, Default)]
pub(super) struct Lore {
    /// For each job one of its specs, and what nine of ten of its tasks take, and all on average; in microseconds.
    jobs: BTreeMap<JobIndex, (SpecIndex, u64, u64)>,
    /// Jobs of which the user knows that no allocation is long enough: that is said once, however many masters there are.
    too_long: BTreeSet<JobIndex>,
}

impl Client {
    pub(super) fn on_learned(&mut self, spec: SpecIndex, p90: u64, mean: u64) {
        if let Some(what) = self.specs.get(spec.0 as usize) {
            self.lore.jobs.insert(what.job, (spec, p90, mean));
        }
    }

    pub(super) fn on_too_long(&mut self, spec: SpecIndex, p90_seconds: u32, longest_seconds: u32) {
        if let Some(what) = self.specs.get(spec.0 as usize)
            && self.lore.too_long.insert(what.job)
        {
            let job = what.job;
            self.actions.push_back(Action::TooLong { job, p90_seconds, longest_seconds });
        }
    }

    /// Tells another master what the one before has learned.
    pub(super) fn say_learned(&mut self) {
        let jobs: Vec<_> = self.lore.jobs.values().copied().collect();
        for (spec, p90, mean) in jobs {
            self.tell(FromClient::Learned { spec, p90, mean }, Payload::new());
        }
    }
}
