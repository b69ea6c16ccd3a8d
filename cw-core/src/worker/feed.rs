//! Which task goes to which executor, and when executors are started.

use std::collections::VecDeque;

use super::{Action, Executor, Pending, Running, Worker};
use crate::{
    ids::{ExecutorId, JobIndex},
    wire::ToExecutor,
};

impl Running {
    pub(super) fn of(pending: &Pending, expected: u32, timeout: Option<std::time::Duration>) -> Self {
        let Pending { client, task, attempt, spec, alone, .. } = *pending;
        Self { client, task, attempt, spec, alone, expected, timeout, cancelled: false }
    }
}

impl Worker {
    /// Gives every idle executor a task, then lets busy ones have short tasks ahead, then starts
    /// executors for what is left.
    pub(super) fn feed(&mut self) {
        if self.leaving {
            return;
        }
        if !self.may_begin() {
            return self.start_executors();
        }
        for slot in 0..self.slots.len() {
            if matches!(self.slots[slot].executor, Executor::Idle)
                && let Some(pending) = self.next_pending()
            {
                self.feed_slot(slot, pending);
            }
        }
        for slot in 0..self.slots.len() {
            // Topped up in halves: a few tasks at a time would wake the executor for each few.
            if self.slots[slot].batch().len() > self.config.batch_tasks / 2 {
                continue;
            }
            while self.takes_more(slot)
                && let Some(pending) = self.next_pending()
            {
                self.feed_slot(slot, pending);
            }
        }
        self.start_executors();
    }

    /// The next task to feed.
    fn next_pending(&mut self) -> Option<Pending> {
        loop {
            let pending = self.queue.pop_front()?;
            // If its client was forgotten, the master no longer knows the task.
            if self.clients.contains_key(&pending.client) {
                return Some(pending);
            }
        }
    }

    /// Whether the slot's executor may be fed the next task beside what it has: all of them are known
    /// to be short, and together too.
    fn takes_more(&self, slot: usize) -> bool {
        let Executor::Busy { batch, expected, stuck: false, .. } = &self.slots[slot].executor else {
            return false;
        };
        let Some(next) = self.queue.front() else { return false };
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
        let slot = &mut self.slots[slot];
        let executor = slot.id.expect("an executor that takes tasks has a number");
        match &mut slot.executor {
            Executor::Busy { batch, expected, .. } => {
                *expected += u64::from(running.expected);
                batch.push_back(running);
            }
            idle => {
                *idle = Executor::Busy {
                    expected: u64::from(running.expected),
                    batch: VecDeque::from([running]),
                    since: self.now,
                    stuck: false,
                    reported: false,
                }
            }
        }
        let message = ToExecutor::Run { job, task: pending.task, attempt: pending.attempt };
        self.actions.push_back(Action::Feed { executor, message, body: pending.args });
    }

    /// Whether another executor is of use.
    pub(super) fn wants_executor(&self) -> bool {
        let starting = self.slots.iter().filter(|slot| slot.is_starting()).count();
        let wanted = if self.config.start_early { self.slots.len() } else { self.queue.len() };
        !self.leaving && starting < wanted && self.slots.iter().any(super::Slot::is_down)
    }

    fn start_executors(&mut self) {
        while self.now >= self.start_after && self.wants_executor() {
            let executor = ExecutorId(self.next_executor);
            self.next_executor += 1;
            let place = self.slots.iter().position(super::Slot::is_down).expect("wants_executor saw one");
            self.executors.insert(executor, place);
            let slot = &mut self.slots[place];
            slot.id = Some(executor);
            slot.executor = Executor::Starting { deadline: Some(self.now + self.config.start_time) };
            self.actions.push_back(Action::Start { executor });
        }
    }
}
