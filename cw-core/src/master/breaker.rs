//! Bad nodes: a worker that fails one task after the other, fast, while others do well, is sent no more for a while.
//!
//! There are two signs. Tasks that failed there, one after the other, and then succeeded elsewhere: three of them are
//! enough. Or a long row of failures, each over sooner than the job's tasks usually are, while nearly all succeed
//! elsewhere. Tasks of the row that are still to run are not charged for it. A worker is never set aside if it is the
//! only one, since a job that fails everywhere looks the same there.

use std::time::Duration;

use super::Master;
use crate::{
    Payload, Time,
    ids::{ClientId, TaskId, WorkerId},
    wire::{Class, ToClient, ToWorker},
};

/// So many tasks of a row that succeed elsewhere are proof.
const PROOFS: u32 = 3;

/// So many failures in a row are proof where others do well.
const ROW: usize = 20;

/// How long a worker is set aside at first; twice as long each time.
const ASIDE: Duration = Duration::from_secs(60);

/// Outcomes that are remembered weigh half after so many more.
const WINDOW: u32 = 128;

/// What became of a worker's tasks lately.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// Tasks that failed there since the last one that did not, and how.
    row: Vec<(ClientId, TaskId, Class)>,
    /// How many of the row were over sooner than usual.
    fast: usize,
    /// Tasks of the row that succeeded elsewhere.
    proofs: u32,
    ok: u32,
    bad: u32,
    /// How often it was set aside.
    times: u32,
    aside: Option<(Time, String)>,
}

impl Record {
    pub(super) fn is_set_aside(&self) -> bool {
        self.aside.is_some()
    }

    /// Until when, and why.
    pub(super) fn aside(&self) -> Option<&(Time, String)> {
        self.aside.as_ref()
    }

    #[cfg(any(test, feature = "sim"))]
    pub(super) fn was_set_aside(&self) -> bool {
        self.times > 0
    }

    /// Whether tasks have ended well there lately.
    pub(super) fn has_done_well(&self) -> bool {
        self.ok > 0
    }

    /// Tasks have ended well.
    pub(super) fn note_ok(&mut self, mut tasks: u32) {
        if !self.row.is_empty() {
            self.row.clear();
            (self.fast, self.proofs) = (0, 0);
        }
        while tasks > 0 {
            let until_old = WINDOW.saturating_sub(self.ok + self.bad).clamp(1, tasks);
            self.ok += until_old;
            tasks -= until_old;
            self.age();
        }
    }

    fn note_bad(&mut self, client: ClientId, task: TaskId, class: Class, is_fast: bool) {
        if self.row.len() < 4 * ROW {
            self.row.push((client, task, class));
        }
        self.fast += usize::from(is_fast);
        self.bad += 1;
        self.age();
    }

    fn age(&mut self) {
        if self.ok + self.bad >= WINDOW {
            (self.ok, self.bad) = (self.ok / 2, self.bad / 2);
        }
    }
}

impl Master {
    /// An attempt has ended in an error, a panic or a crash.
    pub(super) fn note_bad_end(
        &mut self,
        id: WorkerId,
        client: ClientId,
        task: TaskId,
        class: Class,
        micros: u64,
    ) {
        if !matches!(class, Class::Failed | Class::Panicked | Class::Crashed) {
            return;
        }
        let expected = self.clients.get(&client).and_then(|client| {
            let learned = client.spec_of(client.tasks.get(task)?).learned;
            learned.is_known().then(|| u64::from(learned.expected()))
        });
        let is_fast = expected.is_some_and(|expected| class == Class::Crashed || micros <= expected / 2);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.record.note_bad(client, task, class, is_fast);
        let row = worker.record.fast;
        if row >= ROW && self.others_do_well(id) {
            self.set_aside(id);
        }
    }

    fn others_do_well(&self, than: WorkerId) -> bool {
        let others = self.workers.iter().filter(|(id, _)| **id != than && self.are_alike(**id, than));
        let sum =
            others.fold((0, 0), |(ok, bad), (_, worker)| (ok + worker.record.ok, bad + worker.record.bad));
        sum.0 as usize >= ROW && sum.1 * ROW as u32 <= sum.0
    }

    /// A task that had failed before has succeeded: that tells against the workers where it failed.
    pub(super) fn note_mended(&mut self, at: WorkerId, client: ClientId, task: TaskId) {
        let failed_there = |record: &Record| record.row.iter().any(|it| (it.0, it.1) == (client, task));
        let mut proven = Vec::new();
        for (id, worker) in self.workers.iter_mut().filter(|(id, _)| **id != at) {
            if failed_there(&worker.record) {
                worker.record.proofs += 1;
                proven.extend((worker.record.proofs == PROOFS).then_some(*id));
            }
        }
        proven.into_iter().for_each(|id| self.set_aside(id));
    }

    fn set_aside(&mut self, id: WorkerId) {
        if self.workers.get(&id).is_none_or(|worker| worker.record.is_set_aside()) {
            return;
        }
        let is_other = |other: &WorkerId| *other != id && self.are_alike(*other, id);
        if !self.workers.iter().any(|(other, it)| is_other(other) && it.is_well()) {
            return;
        }
        let worker = self.workers.get_mut(&id).expect("just seen");
        let row = std::mem::take(&mut worker.record.row);
        let last = row.last().map_or("failed", |(_, _, class)| match class {
            Class::Crashed => "its executor crashed",
            Class::Panicked => "it panicked",
            _ => "it returned an error",
        });
        let why = format!("{} tasks in a row failed there and not elsewhere; of the last: {last}", row.len());
        let until = self.now + ASIDE * 2u32.pow(worker.record.times.min(6));
        (worker.record.fast, worker.record.proofs) = (0, 0);
        worker.record.times += 1;
        worker.record.aside = Some((until, why.clone()));
        self.troubled.insert(id);
        let (name, tasks) = (worker.name.clone(), worker.ahead());
        if tasks > 0 && !std::mem::replace(&mut worker.recalling, true) {
            self.tell_worker(id, ToWorker::Recall { tasks });
        }
        for (client, task, class) in row {
            self.refund(client, task, class);
        }
        let serves = |client: &super::Client| self.workers[&id].serves(client.program);
        let concerned = self.clients.iter().filter(|(_, client)| serves(client)).map(|(id, _)| *id);
        for client in concerned.collect::<Vec<_>>() {
            let message = ToClient::SetAside { worker: name.clone(), why: why.clone() };
            self.tell_client(client, message, Payload::new());
        }
        self.note_load(id);
    }

    /// What a bad worker did is not counted against a task that is still to run.
    fn refund(&mut self, client: ClientId, task: TaskId, class: Class) {
        let Some(task) = self.clients.get_mut(&client).and_then(|client| client.tasks.get_mut(task)) else {
            return;
        };
        match class {
            Class::Crashed => task.crashes = task.crashes.saturating_sub(1),
            _ => task.failures = task.failures.saturating_sub(1),
        }
    }

    /// Tries workers again that were set aside for long enough.
    pub(super) fn end_probation(&mut self) {
        let is_over = |record: &Record| record.aside.as_ref().is_some_and(|(until, _)| *until <= self.now);
        let is_due = |id: &&WorkerId| self.workers.get(id).is_some_and(|worker| is_over(&worker.record));
        for id in self.troubled.iter().filter(is_due).copied().collect::<Vec<_>>() {
            self.workers.get_mut(&id).expect("just listed").record.aside = None;
            self.note_load(id);
        }
        self.tidy_troubled();
    }

    /// Forgets who is well again.
    pub(super) fn tidy_troubled(&mut self) {
        let workers = &self.workers;
        let is_troubled = |worker: &super::Worker| worker.record.is_set_aside() || !worker.unfit.is_empty();
        self.troubled.retain(|id| workers.get(id).is_some_and(is_troubled));
    }

    pub(super) fn troubled(&self) -> impl Iterator<Item = &super::Worker> {
        self.troubled.iter().filter_map(|id| self.workers.get(id))
    }

    pub(super) fn next_probation(&self) -> Option<Time> {
        self.troubled().filter_map(|worker| worker.record.aside.as_ref().map(|(until, _)| *until)).min()
    }
}
