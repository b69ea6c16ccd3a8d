//! Values that tasks share: fetched once, told to each executor once, before the first task that has it.
//!
//! ```text
//!           Declare, Run            Shared (Ok)
//!   (none) --------------> Fetching -----------> Here -----> executors are told where it lies
//!     ^                        |                   |
//!     +--- Shared (Err): its tasks go back --------+--- no client and no executor is left that has it
//! ```

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Action, Worker, queue::Pending};
use crate::{
    ids::{ClientId, ProgramId, ShareId},
    wire::{Spec, ToExecutor},
};

/// A shared value as its worker knows it.
#[derive(Debug)]
pub(super) enum Share {
    /// Of which program's clients it can be had.
    Fetching(ProgramId),
    /// The path of its encoded form.
    Here(Bytes),
}

impl Worker {
    /// Has what the tasks of a spec share fetched, unless it is here or on its way.
    pub(super) fn want_shares(&mut self, client: ClientId, what: &Spec) {
        let program = self.origin_of(client).program;
        for share in &what.shares {
            if !self.shares.contains_key(share) {
                self.shares.insert(*share, Share::Fetching(program));
                self.actions.push_back(Action::FetchShare { share: *share, program });
            }
        }
    }

    pub(super) fn on_shared(&mut self, share: ShareId, result: Result<Bytes, String>) {
        let Some(Share::Fetching(program)) = self.shares.get(&share) else { return };
        let program = *program;
        match result {
            Ok(path) => {
                self.shares.insert(share, Share::Here(path));
                self.release_shared();
            }
            Err(why) => {
                self.shares.remove(&share);
                self.give_up(program, format!("a value that its tasks share cannot be had: {why}"));
            }
        }
        self.tidy();
    }

    /// Lets the tasks go on of which all is here that they share.
    fn release_shared(&mut self) {
        let (clients, shares) = (&self.clients, &self.shares);
        let is_here = |share: &ShareId| matches!(shares.get(share), Some(Share::Here(_)));
        let is_free = |pending: &Pending| {
            let spec = clients.get(&pending.client).and_then(|client| client.spec(pending.spec));
            spec.is_none_or(|spec| spec.what.shares.iter().all(is_here))
        };
        for (origin, pending) in self.queue.release(is_free) {
            self.enqueue(origin, pending);
        }
    }

    /// Whether all is here that a task shares with others; what is not is fetched.
    pub(super) fn has_shares(&mut self, pending: &Pending) -> bool {
        let spec = self.clients.get(&pending.client).and_then(|client| client.spec(pending.spec));
        let Some(what) = spec.map(|spec| &spec.what).filter(|what| !what.shares.is_empty()) else {
            return true;
        };
        let what = what.clone();
        self.want_shares(pending.client, &what);
        if planted!(SkipShares) {
            return true;
        }
        what.shares.iter().all(|share| matches!(self.shares.get(share), Some(Share::Here(_))))
    }

    /// Tells the executor of a slot where what a task shares lies, if it does not know.
    pub(super) fn tell_shares(&mut self, slot: usize, shares: &[ShareId]) {
        for share in shares {
            let slot = &mut self.slots[slot];
            let executor = slot.id.expect("an executor that takes tasks has a number");
            if let Some(Share::Here(path)) = self.shares.get(share)
                && slot.told.insert(*share)
            {
                let message = ToExecutor::Share { share: *share };
                self.actions.push_back(Action::Feed { executor, message, body: path.clone() });
            }
        }
    }

    /// Forgets what no client's tasks share any more, and no executor was told of.
    pub(super) fn tidy_shares(&mut self) {
        let of_clients = self.clients.values().flat_map(|client| client.shares());
        let of_slots = self.slots.iter().filter(|slot| slot.id.is_some()).flat_map(|slot| &slot.told);
        let used: BTreeSet<ShareId> = of_clients.chain(of_slots).copied().collect();
        let gone = |(share, state): (&ShareId, &Share)| {
            (matches!(state, Share::Here(_)) && !used.contains(share)).then_some(*share)
        };
        for share in self.shares.iter().filter_map(gone).collect::<Vec<_>>() {
            self.shares.remove(&share);
            self.actions.push_back(Action::DropShare { share });
        }
    }
}
