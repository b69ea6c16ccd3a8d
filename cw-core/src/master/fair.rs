//! Whose turn it is: slot time used, and un-started tasks that make way.
//!
//! A client's *usage* is the slot time its tasks took, in microseconds, and for those that are with a worker what
//! they are expected to take. The next room goes to the waiting client with the least usage. Two things would still
//! be unfair:
//!
//! - Tasks sent ahead of a free slot start before those of a client that came later and has used less. They are
//!   asked back for it ([`ToWorker::MakeWay`]), once what waits in front is expected to take longer than
//!   [`LONG_WAIT`]: shorter waits cost less than the asking. A worker that had nothing to give is not asked again
//!   until it was sent something.
//! - A task that runs longer than expected would be paid for at its end. Every [`ACCRUE_EVERY`], while another client
//!   has tasks too, clients of long or unknown jobs pay in advance for the slots they hold.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;

use super::{Action, Master, clients::Client, workers::Worker};
use crate::{
    ids::{ClientId, WorkerId},
    wire::ToWorker,
};

/// A shorter wait is not worth asking for.
const LONG_WAIT: u64 = 20_000;

/// How often clients that wait are looked at for others to make way.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How often running tasks are paid for.
const ACCRUE_EVERY: Duration = Duration::from_secs(1);

/// A job whose tasks take longer is paid for while they run.
const LONG_TASK: u32 = 1_000_000;

impl Master {
    /// Asks workers for what waits there in front of clients that have used less, or of tasks of higher priority.
    pub(super) fn make_way(&mut self) {
        if !self.someone_may_make_way() {
            self.look_at = None;
            return;
        }
        if self.look_at.is_some_and(|due| self.now < due) {
            return;
        }
        self.look_at = Some(self.now + LOOK_EVERY);
        let mut programs = BTreeSet::new();
        let first_of_each = |id: &ClientId| programs.insert(self.clients[id].program);
        let first: Vec<ClientId> = self.waiting.iter().map(|(_, id)| *id).filter(first_of_each).collect();
        first.into_iter().for_each(|client| self.make_way_for(client));
    }

    fn someone_may_make_way(&self) -> bool {
        !self.waiting.is_empty() && (self.busy_clients() > 1 || self.clients.values().any(Client::has_urgent))
    }

    fn busy_clients(&self) -> usize {
        self.clients.values().filter(|client| !client.tasks.is_empty()).count()
    }

    fn make_way_for(&mut self, id: ClientId) {
        let client = &self.clients[&id];
        let (program, mut wanted) = (client.program, u32::try_from(client.queued).unwrap_or(u32::MAX));
        let Some(priority) = client.top_priority() else { return };
        let behind = self.behind(id);
        let may_give = |(worker, state): &(&WorkerId, &mut Worker)| {
            let may = state.program == program && !client.held_by.contains(worker);
            may && state.may_be_asked_for(id, priority) && state.backlog() >= LONG_WAIT
        };
        for (worker, state) in self.workers.iter_mut().filter(may_give) {
            let in_front = behind.iter().map(|other| state.shares.ahead_of(*other)).sum::<u32>();
            let tasks = in_front.min(wanted);
            if tasks > 0 {
                wanted -= tasks;
                state.ask_for(id, priority);
                let message = ToWorker::MakeWay { client: id, priority, tasks };
                self.actions.push_back(Action::TellWorker { worker: *worker, message, body: Bytes::new() });
            }
        }
    }

    /// Whose un-started tasks this client's go before: those who have started more than it has used, and its own
    /// if they may be of a lower priority.
    fn behind(&self, id: ClientId) -> Vec<ClientId> {
        let client = &self.clients[&id];
        let is_behind = |(other, state): &(&ClientId, &Client)| {
            if **other == id {
                return state.has_urgent();
            }
            let unstarted: u64 =
                self.workers.values().map(|worker| worker.shares.charge_ahead_of(**other)).sum();
            state.program == client.program && state.usage.saturating_sub(unstarted) > client.usage
        };
        self.clients.iter().filter(is_behind).map(|(other, _)| *other).collect()
    }

    /// A client that wanted nothing for a time has earned no turns by that: it goes on level with the least
    /// served of those who want something. What they have at workers and did not run counts for nobody yet.
    pub(super) fn level(&mut self, id: ClientId) {
        let busy = self.clients.values().filter(|client| !client.tasks.is_empty());
        let least = busy.map(Client::used).min().unwrap_or(0);
        let client = self.clients.get_mut(&id).expect("the caller looked it up");
        client.usage = client.usage.max(least);
    }

    /// Has running tasks of long jobs paid for, where somebody else could have the slots.
    pub(super) fn accrue(&mut self) {
        let Some(since) = self.accrued else {
            if self.busy_clients() > 1 && self.clients.values().any(|client| client.is_long(LONG_TASK)) {
                self.accrued = Some(self.now);
            }
            return;
        };
        if self.now < since + ACCRUE_EVERY {
            return;
        }
        self.accrued = None;
        let micros = u64::try_from(self.now.since(since).as_micros()).unwrap_or(u64::MAX);
        for id in self.clients.keys().copied().collect::<Vec<_>>() {
            self.accrue_for(id, micros);
        }
        self.accrue();
    }

    fn accrue_for(&mut self, id: ClientId, micros: u64) {
        let (running, expected) = self.running(id);
        let client = self.clients.get_mut(&id).expect("listed by the caller");
        if !client.is_long(LONG_TASK) {
            (client.ran, client.advance) = (0, 0);
            return;
        }
        client.ran = client.ran.saturating_add(u64::from(running).saturating_mul(micros));
        let more = client.ran.saturating_sub(expected).saturating_sub(client.advance);
        client.advance += more;
        self.charge(id, 0, more);
    }

    /// A client's tasks in slots, and what they are charged.
    pub(super) fn running(&self, id: ClientId) -> (u32, u64) {
        let shares = self.workers.values().map(|worker| worker.shares.running(id));
        shares.fold((0, 0), |(tasks, charge), more| (tasks + more.0, charge + more.1))
    }

    /// Corrects what a client has used by a task that has ended: it was charged so much, and took so much.
    pub(super) fn settle(&mut self, id: ClientId, charged: u32, micros: u64) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let prepaid = client.advance.min(micros.saturating_sub(u64::from(charged)));
        client.advance -= prepaid;
        client.ran = client.ran.saturating_sub(micros);
        self.charge(id, charged, micros - prepaid);
    }

    pub(super) fn next_look(&self) -> Option<crate::Time> {
        [self.look_at, self.accrued.map(|since| since + ACCRUE_EVERY)].into_iter().flatten().min()
    }
}
