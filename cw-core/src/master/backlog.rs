//! How much there is to do, for whoever decides how many workers there should be.
//!
//! Asked for every second or so: it costs a look at each client and its specs, and none at tasks.

use std::time::Duration;

use super::{Client, Master, Worker, habits::Habits};
use crate::ids::WorkerId;

/// What the clients wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Tasks that have not ended, of clients that are here; those that run are among them.
    pub tasks: u64,
    /// Slot time that those of them are expected to take whose jobs have run before.
    pub learned: Duration,
    /// How many of them are of jobs that have not.
    pub unlearned: u64,
    /// How many of them are known to run.
    pub running: u32,
    /// Tasks that have not ended, of clients that are away, whose sessions are kept: none of the others.
    pub away: u64,
}

impl Backlog {
    fn add(&mut self, other: Self) {
        self.tasks = self.tasks.saturating_add(other.tasks);
        self.learned = self.learned.saturating_add(other.learned);
        self.unlearned = self.unlearned.saturating_add(other.unlearned);
        self.running = self.running.saturating_add(other.running);
        self.away = self.away.saturating_add(other.away);
    }
}

impl Master {
    /// The workers that are here, with their slots, and whether a task has ended well there. Who is about to leave has none;
    /// and where tasks wait as nobody has time for them, slots that stand empty are none.
    pub fn workforce(&self) -> impl Iterator<Item = (WorkerId, u32, bool)> {
        let is_short = !self.untimely.is_empty();
        let slots = move |worker: &Worker| match worker.slots {
            _ if worker.leaving || worker.allotment.is_over => 0,
            slots if is_short => slots.min(worker.sent),
            slots => slots,
        };
        self.workers.iter().map(move |(id, worker)| (*id, slots(worker), worker.record.has_done_well()))
    }

    /// What the clients wait for. Of a client whose build the workers that are here do not run nothing counts: more workers
    /// would be of no use to it. One that is away has its tasks counted apart: they are given to nobody before it is back.
    pub fn backlog(&self) -> Backlog {
        let mut all = Backlog::default();
        let is_served = |client: &Client| {
            self.workers.is_empty() || self.workers.values().any(|worker| worker.serves(client.program))
        };
        let here = |client: &&Client| !client.gone && client.detached.is_none() && is_served(client);
        let half = (self.window_told / 2).max(1) as usize;
        self.clients.values().filter(here).for_each(|client| all.add(client.backlog(half, &self.habits)));
        let away = self.clients.values().filter(|client| !client.gone && client.detached.is_some());
        away.for_each(|client| all.add(Backlog { away: client.waits() as u64, ..Backlog::default() }));
        all
    }
}

impl Client {
    /// Its tasks that have not ended.
    fn waits(&self) -> usize {
        (self.count() - self.cancelling).saturating_sub(self.held.total() as usize)
    }

    /// What it waits for. If it has more than `many` tasks here it keeps its window full and has others behind: then it is
    /// taken to be half through, as nobody knows better.
    ///
    /// What a spec has not learned itself another of its job may have, also after this one was declared.
    fn backlog(&self, many: usize, habits: &Habits) -> Backlog {
        let waits = self.waits();
        let mut backlog = Backlog { tasks: waits as u64, running: self.running, ..Backlog::default() };
        let mut known = 0;
        for spec in self.specs.iter().filter(|spec| spec.tasks > 0) {
            let tasks = u64::from(spec.tasks);
            if let Some(mean) = spec.learned.mean().or_else(|| habits.learned(spec.habit).mean()) {
                let micros = mean.max(1).saturating_mul(tasks);
                backlog.learned = backlog.learned.saturating_add(Duration::from_micros(micros));
                known += tasks;
            } else {
                backlog.unlearned += tasks;
            }
        }
        // Those that were called back, or have ended, are among the tasks of their specs.
        backlog.unlearned = backlog.unlearned.min(backlog.tasks);
        if waits > many && known > 0 {
            let each = backlog.learned.as_micros() / u128::from(known);
            let behind = each.saturating_mul(u128::from(self.newest.0));
            let behind = Duration::from_micros(u64::try_from(behind).unwrap_or(u64::MAX));
            backlog.learned = backlog.learned.saturating_add(behind);
        }
        backlog
    }
}
