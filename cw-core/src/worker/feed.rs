//! Which task goes to which executor, when executors are started, and of which program.
//!
//! An executor takes tasks of its own program and setting only. One that has had nothing to do for [`REST`] makes room for
//! what waits without an executor; a shorter rest may be the way of the next tasks. One that has tasks goes on with them;
//! but once it has had its slot for a [quantum](super::Config::quantum), a line whose first task came before its own may
//! have the slot, if it has none, or would have no more of them for each of its clients than the one it takes it from has
//! left.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Action, Executor, Origin, Pending, Running, Slot, Worker, batch::Batch, executors::Death, line::Line,
};
use crate::{
    Time, gathered,
    ids::{ClientId, ExecutorId, JobIndex},
    wire::{Returned, ToExecutor},
};

/// An executor that had no task for so long has nothing to do.
const REST: Duration = Duration::from_millis(10);

/// Tasks of a line that are looked at to see whose they are.
const LOOKED_AT: usize = 64;

impl Running {
    pub(super) fn of(pending: &Pending, expected: u32, timeout: Option<Duration>) -> Self {
        let Pending { client, task, attempt, spec, alone, .. } = *pending;
        let apart = pending.apart.clone().filter(|_| !planted!(DropApart));
        Self { client, task, attempt, spec, alone, expected, timeout, cancelled: false, apart }
    }
}

impl Worker {
    /// Gives every idle executor a task, then lets busy ones have short tasks ahead, then starts
    /// executors for what is left.
    pub(super) fn feed(&mut self) {
        if self.leaving {
            return;
        }
        if self.may_begin() {
            self.feed_idle();
            self.top_up();
        }
        self.start_executors();
    }

    fn feed_idle(&mut self) {
        for slot in 0..self.slots.len() {
            if !matches!(self.slots[slot].executor, Executor::Idle { .. }) {
                continue;
            }
            if self.makes_way(slot) {
                let executor = self.slots[slot].id.expect("an executor that is idle has a number");
                self.kill(executor, Death::Replaced);
            } else if let Some(pending) = self.next_pending(self.slots[slot].origin) {
                self.feed_slot(slot, pending);
            }
        }
    }

    /// Topped up in halves: a few tasks at a time would wake the executor for each few.
    fn top_up(&mut self) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].batch().len() > self.config.batch_tasks / 2 {
                continue;
            }
            while self.takes_more(slot) && !self.makes_way(slot) {
                if self.feed_alike(slot) {
                    continue;
                }
                let Some(pending) = self.next_pending(self.slots[slot].origin) else { break };
                self.feed_slot(slot, pending);
            }
        }
    }

    /// The next task to feed to an executor of this kind.
    fn next_pending(&mut self, mut origin: Origin) -> Option<Pending> {
        if planted!(AnyExecutor) {
            origin = self.queue.lines().next()?.0;
        }
        loop {
            let pending = self.queue.pop_front(origin)?;
            // If its client was forgotten, the master no longer knows the task.
            if !self.clients.contains_key(&pending.client) {
                continue;
            }
            if self.has_time(pending.client, pending.spec) {
                return Some(pending);
            }
            self.give_back(&pending, Returned::NoTime);
        }
    }

    /// Whether a slot, once its executor has nothing to do, is to be another program's.
    fn makes_way(&self, slot: usize) -> bool {
        if planted!(KeepSlot) {
            return false;
        }
        let own = self.slots[slot].origin;
        let mut lacking = 0;
        for (other, line) in self.queue.lines().filter(|(other, _)| *other != own) {
            let unserved = self.unserved(other, line);
            if unserved == 0 || !self.can_start(other) {
                continue;
            }
            lacking += match self.queue.front(own) {
                None if self.has_rested(slot) => unserved,
                Some(first) if line.first_at() > Some(first.at) => 0,
                _ => usize::from(self.deserves(other, slot)),
            };
        }
        lacking > self.slots.iter().filter(|slot| slot.is_vacant()).count()
    }

    /// Whether a slot's executor has nothing to do, and not only until its next tasks are here.
    fn has_rested(&self, slot: usize) -> bool {
        let slot = &self.slots[slot];
        let is_wanted =
            || self.clients.values().any(|it| it.origin.unwrap_or(self.config.own) == slot.origin);
        slot.idle_since().is_some_and(|since| since + REST <= self.now || !is_wanted())
    }

    /// When a slot is next to be looked at that may make way.
    pub(super) fn next_rest(&self) -> Option<Time> {
        self.queue.lines().next()?;
        let rests = |slot: &Slot| slot.idle_since().map(|since| since + REST);
        self.slots.iter().filter_map(rests).filter(|end| *end > self.now).min()
    }

    /// How many tasks of a line have no executor that is about to take them.
    fn unserved(&self, origin: Origin, line: &Line) -> usize {
        let takes = |slot: &&Slot| {
            slot.origin == origin
                && matches!(slot.executor, Executor::Idle { .. } | Executor::Starting { .. })
        };
        line.len().saturating_sub(self.slots.iter().filter(takes).count())
    }

    /// Whether a line of tasks is to have this slot, which has tasks of its own.
    fn deserves(&self, other: Origin, slot: usize) -> bool {
        let (own, started) = (self.slots[slot].origin, self.slots[slot].started);
        if self.now < started + self.config.quantum {
            return false;
        }
        let slots = |origin| self.slots.iter().filter(|it| !it.is_vacant() && it.origin == origin).count();
        let theirs = slots(other);
        theirs == 0 || (theirs + 1) * self.clients_of(own) <= slots(own) * self.clients_of(other)
    }

    /// How many clients have tasks for executors of this kind.
    fn clients_of(&self, origin: Origin) -> usize {
        let waiting = self.queue.lines().filter(|(of, _)| *of == origin);
        let waiting = waiting.flat_map(|(_, line)| line.among_first(LOOKED_AT));
        let running = self.slots.iter().filter(|slot| slot.origin == origin);
        let running = running.flat_map(|slot| slot.batch().kinds());
        let clients: BTreeSet<ClientId> =
            gathered(waiting.map(|pending| pending.client).chain(running.map(|running| running.client)));
        clients.len().max(1)
    }

    /// Whether the slot's executor may be fed the next task beside what it has: all of them are known
    /// to be short, and together too.
    fn takes_more(&self, slot: usize) -> bool {
        let Executor::Busy { batch, expected, stuck: false, .. } = &self.slots[slot].executor else {
            return false;
        };
        let Some(next) = self.queue.front(self.slots[slot].origin) else { return false };
        let Some(spec) = self.clients.get(&next.client).and_then(|client| client.spec(next.spec)) else {
            return true;
        };
        let first = batch.front().expect("a busy executor has a batch");
        let first_is_short = self
            .clients
            .get(&first.client)
            .and_then(|client| client.spec(first.spec))
            .is_some_and(|spec| spec.learned.is_known());
        batch.len() < self.config.batch_tasks
            && first_is_short
            // Nobody waits for another client's task, should it run longer than those before it.
            && first.client == next.client
            && !first.alone
            && !next.alone
            && spec.learned.is_known()
            && u128::from(expected + u64::from(spec.learned.expected())) <= self.config.batch_time.as_micros()
    }

    fn feed_slot(&mut self, slot: usize, pending: Pending) {
        let Some(spec) = self.clients.get(&pending.client).and_then(|client| client.spec(pending.spec))
        else {
            return;
        };
        let (job, expected): (JobIndex, u32) = (spec.what.job, spec.learned.expected());
        let running = Running::of(&pending, expected, spec.what.timeout);
        let told = &self.slots[slot].told;
        if !spec.what.shares.iter().all(|share| told.contains(share)) {
            let shares = spec.what.shares.clone();
            self.tell_shares(slot, &shares);
        }
        let slot = &mut self.slots[slot];
        let executor = slot.id.expect("an executor that takes tasks has a number");
        match &mut slot.executor {
            Executor::Busy { batch, expected, .. } => {
                *expected += u64::from(running.expected);
                batch.push(running, 1);
            }
            idle => {
                let (expected, mut batch) = (u64::from(running.expected), Batch::new());
                batch.push(running, 1);
                let (since, stuck, reported) = (self.now, false, false);
                *idle = Executor::Busy { batch, since, expected, stuck, reported };
            }
        }
        self.ending.begun = self.ending.begun.saturating_add(1);
        let Pending { task, attempt, .. } = pending;
        let (message, body) = match pending.apart.as_deref() {
            // It is here, or the task would not be.
            Some(share) => (ToExecutor::RunApart { job, task, attempt }, self.place_of(share)),
            None => (ToExecutor::Run { job, task, attempt }, pending.args),
        };
        self.actions.push_back(Action::Feed { executor, message, body });
    }

    /// Of what the next executor is to be, and whether only since those of its own program are started early.
    fn next_origin(&self, may_start: impl Fn(&Self, Origin) -> bool) -> Option<Origin> {
        if self.leaving || !self.slots.iter().any(Slot::is_down) {
            return None;
        }
        let own = self.config.own;
        let waits =
            |(origin, line): &(Origin, &Line)| may_start(self, *origin) && self.unserved(*origin, line) > 0;
        let first = self.queue.lines().filter(waits).min_by_key(|(_, line)| line.first_at());
        first.map(|(origin, _)| origin).or((self.early > 0 && may_start(self, own)).then_some(own))
    }

    /// When an executor is next to be started that was put off.
    pub(super) fn next_start(&self) -> Option<Time> {
        let next = self.starts.values().map(|starts| starts.after).filter(|after| *after > self.now).min()?;
        self.next_origin(|worker, origin| worker.is_put_off(origin)).map(|_| next)
    }

    fn start_executors(&mut self) {
        while let Some(origin) = self.next_origin(Self::can_start) {
            let executor = ExecutorId(self.next_executor);
            self.next_executor += 1;
            let place = self.slots.iter().position(Slot::is_down).expect("next_origin saw one");
            self.executors.insert(executor, place);
            if origin == self.config.own {
                self.early = self.early.saturating_sub(1);
            }
            let executor_of = Executor::Starting { deadline: Some(self.now + self.config.start_time) };
            let started = self.now;
            let (id, told) = (Some(executor), BTreeSet::new());
            self.slots[place] = Slot { id, origin, started, told, executor: executor_of, question: None };
            let body = self.bodies.get(&origin).cloned().unwrap_or_default();
            self.actions.push_back(Action::Start { executor, program: origin.program, body });
        }
    }
}
