//! What comes of many tasks at once. Bursts are of short tasks, of which there are many: whatever is the same for all of a
//! burst is looked up, or noted, once.

use super::{
    Action, Config, Worker,
    batch::{Batch, RUN_MIN},
    executors::{Executor, Running},
    held::End,
    queue::Pending,
};
use crate::{
    Payload,
    ids::{Attempt, ClientId, ExecutorId, SpecIndex, TaskId},
    wire::{Class, Entries, Entry, Stretch, ToExecutor},
};

impl Worker {
    pub(super) fn on_runs(
        &mut self,
        client: ClientId,
        (first, tasks): (TaskId, u32),
        (attempt, spec): (Attempt, SpecIndex),
        body: Payload,
    ) {
        self.note_work();
        let single = |task, args, all| {
            let (alone, apart, at) = (false, None, 0);
            Pending { client, task, attempt, spec, alone, args, all, apart, at }
        };
        if tasks >= RUN_MIN
            && self.takes_plainly(client, spec)
            && let Some(all) = Stretch::of_args(first, tasks, body.clone())
        {
            let origin = self.origin_of(client);
            self.queue.push(origin, single(first, Payload::new(), Some(Box::new(all))));
            return self.want(origin);
        }
        let entries = Entries::of_args(first, tasks, body);
        entries.for_each(|Entry { task, bytes, .. }| self.on_run(single(task, bytes, None)));
    }

    /// Whether tasks of a spec go to the end of their line, whatever they are. What they share is noted as used then.
    fn takes_plainly(&mut self, client: ClientId, spec: SpecIndex) -> bool {
        let Some(known) = self.clients.get(&client).filter(|client| !client.blocked) else { return false };
        let is_plain = known.spec(spec).is_some_and(|it| !it.what.apart);
        is_plain && !self.leaving && !known.has_lower_than(spec) && self.has_shares_of(client, spec)
    }

    /// As many tasks as there are ends, the next of an executor, have succeeded.
    pub(super) fn on_dones(&mut self, executor: ExecutorId, tasks: u32, body: Payload) {
        let mut rest = Stretch::of_ends(TaskId(0), tasks, body.clone()).filter(|_| tasks >= RUN_MIN);
        if rest.is_none() {
            return self.on_each_done(executor, Entries::of_ends(TaskId(0), tasks, body));
        }
        while let Some(ends) = rest.take() {
            let (tasks, are_alike) = self.next_ends(executor);
            let (ends, behind) = split(ends, tasks.max(1));
            rest = behind;
            if are_alike && ends.tasks() >= RUN_MIN {
                self.on_alike_done(executor, ends);
            } else {
                self.on_each_done(executor, ends.entries());
            }
        }
    }

    fn on_each_done(&mut self, executor: ExecutorId, ends: Entries) {
        for Entry { micros, bytes: body, .. } in ends {
            self.on_done(executor, End { class: Class::Ok, micros, output: 0, body });
        }
    }

    fn on_alike_done(&mut self, executor: ExecutorId, ends: Stretch) {
        let Some(first) = self.take_done(executor, ends.tasks()) else { return };
        let ends = ends.named(first.task).expect("tasks that are alike are not the last there can be");
        self.finish_all(&first, ends);
    }

    /// How many of an executor's next tasks are alike, or else come before some that are.
    fn next_ends(&mut self, executor: ExecutorId) -> (u32, bool) {
        let Some(Executor::Busy { batch, .. }) = self.slot_of(executor).map(|slot| &slot.executor) else {
            return (u32::MAX, false);
        };
        match batch.singles() {
            0 => (batch.alike(), true),
            singles => (singles, false),
        }
    }

    /// Feeds a busy executor what is like the last task that it was fed, as far as all of it is short; says whether anything
    /// is. Only where nothing else waits, whose turn might come between.
    pub(super) fn feed_alike(&mut self, slot: usize) -> bool {
        if self.queue.lines().nth(1).is_some() {
            return false;
        }
        let Self { clients, queue, slots, actions, config, ending, .. } = self;
        let state = &mut slots[slot];
        let (Some(line), Some(executor)) = (queue.line_of(state.origin), state.id) else { return false };
        let Executor::Busy { batch, expected, .. } = &mut state.executor else { return false };
        let Some((client, spec)) = batch.like_last().map(|last| (last.client, last.spec)) else {
            return false;
        };
        let Some(known) = clients.get(&client).and_then(|client| client.spec(spec)) else { return false };
        // It was told what they share with the last one, and nothing is dropped that a task which was fed shares.
        if known.what.apart {
            return false;
        }
        let (each, timeout, job) = (known.learned.expected(), known.what.timeout, known.what.job);
        let before = batch.len();
        while let Some(pending) = line.pop_like(client, spec, room(batch, config, *expected, each)) {
            let tasks = pending.tasks();
            *expected += u64::from(each) * u64::from(tasks);
            batch.push(Running::of(&pending, each, timeout), tasks);
            let Pending { task, attempt, args, all, .. } = pending;
            let (message, body) = match all {
                Some(all) => (ToExecutor::Runs { first: task, tasks, job, attempt }, all.body().clone()),
                None => (ToExecutor::Run { job, task, attempt }, args),
            };
            actions.push_back(Action::Feed { executor, message, body });
        }
        let fed = batch.len() - before;
        ending.begun = ending.begun.saturating_add(u32::try_from(fed).unwrap_or(u32::MAX));
        fed > 0
    }
}

/// How many more tasks that take so long a batch may have.
fn room(batch: &Batch, config: &Config, expected: u64, each: u32) -> u32 {
    let most = u64::try_from(config.batch_time.as_micros()).unwrap_or(u64::MAX);
    let in_time = most.saturating_sub(expected) / u64::from(each);
    let tasks = config.batch_tasks.saturating_sub(batch.len());
    u32::try_from(in_time).unwrap_or(u32::MAX).min(u32::try_from(tasks).unwrap_or(u32::MAX))
}

/// The first so many of a burst's tasks, or all, and what is left of it.
fn split(mut all: Stretch, tasks: u32) -> (Stretch, Option<Stretch>) {
    if tasks >= all.tasks() {
        return (all, None);
    }
    let front = all.cut(tasks);
    (front, Some(all))
}
