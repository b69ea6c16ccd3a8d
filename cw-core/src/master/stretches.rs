//! Runs of plain tasks, kept as they came.
//!
//! Short tasks come in bursts, and nothing is to be said of one that is not true of those beside it: they are queued, sent
//! and done together. So a *stretch* of them is one entry, which is cut where it must be, and its bytes are passed on
//! as they came. As soon as something is said of one of its tasks, or something is about to walk over all tasks, it is
//! *spread*: what was a stretch is entries of the table from then on, just as if each of its tasks had come by itself.
//!
//! A stretch that waits stands in its queue under its first task.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    TASKS_END,
    clients::{Bounds, Client, USED_MAX},
    tasks::{State, Task},
};
use crate::{
    Payload,
    ids::{Attempt, SpecIndex, TaskId, WorkerId},
    wire::Stretch,
};

/// The first attempt, and the only one that a stretch has had.
pub(super) const FIRST: Attempt = Attempt(1);

/// A client's stretches, by their first tasks.
#[derive(Debug, Default)]
pub(super) struct Stretches {
    all: BTreeMap<TaskId, Kept>,
    /// Tasks in all of them.
    tasks: usize,
}

/// Consecutive tasks of one spec that wait, or were sent together and have not ended.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) spec: SpecIndex,
    pub(super) args: Stretch,
    /// Whether the length of each task's arguments takes a byte: then theirs need not be counted.
    is_short: bool,
    sent: Option<Sent>,
}

/// Where they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    worker: WorkerId,
    /// What each was charged, in microseconds.
    pub(super) charge: u32,
    /// Of the arguments of all.
    pub(super) bytes: u64,
}

impl Kept {
    /// What came and waits, and how many bytes the arguments are.
    fn waiting(spec: SpecIndex, args: Stretch) -> (Self, u64) {
        let bytes = args.bytes();
        let is_short = bytes + u64::from(args.tasks()) == args.body().len() as u64;
        (Self { spec, args, is_short, sent: None }, bytes)
    }

    /// How many bytes the arguments of such tasks are.
    fn bytes_of(&self, args: &Stretch) -> u64 {
        if self.is_short { args.body().len() as u64 - u64::from(args.tasks()) } else { args.bytes() }
    }

    /// Leaves so many tasks, and gives the others.
    fn split(&mut self, tasks: u32) -> Self {
        let front = self.args.cut(tasks);
        let args = std::mem::replace(&mut self.args, front);
        let bytes = self.sent.map_or(0, |_| self.bytes_of(&args));
        let sent = self.sent.map(|sent| Sent { bytes, ..sent });
        if let Some(front) = &mut self.sent {
            front.bytes -= bytes;
        }
        Self { args, sent, ..*self }
    }

    /// One of its tasks by itself.
    fn single(&self, args: Payload) -> Task {
        let task = Task::new(self.spec, args);
        let Some(Sent { worker, charge, .. }) = self.sent else { return task };
        Task { attempt: FIRST, latest: FIRST, state: State::Sent { worker }, charge, ..task }
    }
}

impl Stretches {
    /// How many tasks there are in all.
    pub(super) fn tasks(&self) -> usize {
        self.tasks
    }

    pub(super) fn has(&self, task: TaskId) -> bool {
        self.find(task).is_some()
    }

    /// What a task of a stretch is.
    pub(super) fn spec_at(&self, task: TaskId) -> Option<SpecIndex> {
        self.all.get(&self.find(task)?).map(|kept| kept.spec)
    }

    /// The first task of the stretch that has this one.
    fn find(&self, task: TaskId) -> Option<TaskId> {
        // Whoever has long tasks has none, and asks with each.
        if self.tasks == 0 {
            return None;
        }
        let (first, kept) = self.all.range(..=task).next_back()?;
        kept.args.has(task).then_some(*first)
    }

    fn insert(&mut self, kept: Kept) {
        self.tasks += kept.args.tasks() as usize;
        self.all.insert(kept.args.first(), kept);
    }

    fn remove(&mut self, first: TaskId) -> Option<Kept> {
        let kept = self.all.remove(&first)?;
        self.tasks -= kept.args.tasks() as usize;
        Some(kept)
    }

    /// Cuts a stretch in two, so that another begins with this task.
    fn cut_at(&mut self, at: TaskId) {
        let Some((first, kept)) = self.all.range_mut(..at).next_back() else { return };
        if kept.args.has(at) {
            let back = kept.split(u32::try_from(at.0 - first.0).expect("a stretch has no more"));
            self.all.insert(at, back);
        }
    }

    /// Takes out what a worker has from this task on, so many at most, and of one stretch.
    pub(super) fn take_sent(&mut self, first: TaskId, most: u32, worker: WorkerId) -> Option<(Kept, Sent)> {
        let (start, kept) = self.all.range(..=first).next_back()?;
        let is_whole = *start == first && kept.args.tasks() <= most;
        let sent = kept.sent.filter(|sent| sent.worker == worker && kept.args.has(first))?;
        if is_whole {
            return Some((self.remove(first)?, sent));
        }
        self.cut_at(first);
        self.cut_at(TaskId(first.0 + u64::from(most)));
        let kept = self.remove(first)?;
        let sent = kept.sent?;
        Some((kept, sent))
    }
}

impl Client {
    /// How many tasks it has.
    pub(super) fn count(&self) -> usize {
        self.tasks.len() + self.stretches.tasks()
    }

    /// Whether it has none.
    pub(super) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Whether a task is one of those that it has.
    pub(super) fn has(&self, task: TaskId) -> bool {
        self.tasks.contains(task) || self.stretches.has(task)
    }

    /// What it hands in, if that can be kept as it came: none of it is known, and all of it is plain.
    pub(super) fn plain_args(
        &self,
        (first, tasks): (TaskId, u32),
        (spec, body): (SpecIndex, &Payload),
        bounds: &Bounds,
    ) -> Option<Stretch> {
        let what = &self.specs.get(spec.0 as usize)?.what;
        let is_plain = what.rerun && !what.apart && !self.has_once && !self.resume.open;
        if !(is_plain && first >= self.newest && self.takes_plainly()) {
            return None;
        }
        let fits = self.count() - self.cancelling + tasks as usize <= bounds.tasks
            && self.bytes + body.len() as u64 <= bounds.bytes;
        let args = Stretch::of_args(first, tasks, body.clone()).filter(|_| fits)?;
        (args.end() <= TASKS_END).then_some(args)
    }

    pub(super) fn take_stretch(&mut self, spec: SpecIndex, args: Stretch) {
        self.newest = args.end();
        self.push_back(self.specs[spec.0 as usize].what.priority, args.first());
        self.queued += args.tasks() as usize - 1;
        self.specs[spec.0 as usize].tasks += args.tasks();
        let (kept, bytes) = Kept::waiting(spec, args);
        self.bytes += bytes;
        self.stretches.insert(kept);
    }

    /// The stretch that it has next, if one is next.
    pub(super) fn next_stretch(&self) -> Option<&Kept> {
        if self.stretches.tasks == 0 {
            return None;
        }
        self.stretches.all.get(&self.first()?)
    }

    /// So many of the first tasks that wait in a stretch are a worker's from now on; gives their arguments.
    pub(super) fn send_first(&mut self, tasks: u32, worker: WorkerId, charge: u32) -> (Stretch, u64) {
        let first = self.first().expect("a stretch is next");
        let kept = self.stretches.all.get_mut(&first).expect("a stretch is next");
        let rest = (tasks < kept.args.tasks()).then(|| kept.split(tasks));
        let bytes = kept.bytes_of(&kept.args);
        kept.sent = Some(Sent { worker, charge, bytes });
        let args = kept.args.clone();
        if let Some(rest) = rest {
            let queue = self.queue.first_entry().expect("it stands in there").into_mut();
            queue[0] = rest.args.first();
            self.queued -= tasks as usize;
            self.stretches.all.insert(rest.args.first(), rest);
        } else {
            self.pop();
            self.queued -= tasks as usize - 1;
        }
        (args, bytes)
    }

    /// Notes that these tasks have ended well, with what they took. Gives about what one of them took.
    pub(super) fn end_all(&mut self, kept: &Kept, sent: Sent, micros: impl Iterator<Item = u64>) -> u64 {
        let charged = u64::from(sent.charge) * u64::from(kept.args.tasks());
        let mut learned = self.specs[kept.spec.0 as usize].learned;
        let mut last = 0;
        let micros = micros.inspect(|micros| {
            learned.learn(*micros);
            last = *micros;
        });
        if self.advance == 0 && self.ran == 0 {
            let used = micros.fold(0, |used: u64, micros| used.saturating_add(micros.min(USED_MAX)));
            self.correct_all(charged, used);
        } else {
            micros.for_each(|micros| self.settle(sent.charge, micros));
        }
        let spec = &mut self.specs[kept.spec.0 as usize];
        (spec.learned, spec.tasks) = (learned, spec.tasks - kept.args.tasks());
        self.outstanding -= charged;
        self.bytes -= sent.bytes;
        if kept.args.tasks() == 1 { last } else { learned.expected().into() }
    }

    /// Something is to be said of this task that may not be true of those beside it.
    pub(super) fn spread(&mut self, task: TaskId) {
        let Some(kept) = self.stretches.find(task).and_then(|first| self.stretches.remove(first)) else {
            return;
        };
        if kept.sent.is_none() {
            self.spread_in_queue(&kept);
        }
        self.list_singly(&kept);
    }

    fn list_singly(&mut self, kept: &Kept) {
        for entry in kept.args.entries() {
            self.tasks.insert(entry.task, kept.single(entry.bytes));
        }
    }

    /// Has each of its tasks stand where the stretch stands.
    fn spread_in_queue(&mut self, kept: &Kept) {
        let priority = self.specs[kept.spec.0 as usize].what.priority;
        let queue = self.queue.get_mut(&Reverse(priority)).expect("it stands in there");
        let place = queue.iter().position(|first| *first == kept.args.first());
        let place = place.expect("it stands in there");
        queue.rotate_left(place);
        queue.pop_front();
        let ids = kept.args.first().0..kept.args.end().0;
        ids.rev().for_each(|task| queue.push_front(TaskId(task)));
        queue.rotate_right(place);
    }

    /// Something is about to be said of all its tasks.
    pub(super) fn spread_all(&mut self) {
        if self.stretches.all.is_empty() {
            return;
        }
        let Stretches { all, .. } = std::mem::take(&mut self.stretches);
        let ids_from = |first: &TaskId| {
            let end = all.get(first).map_or(first.0 + 1, |kept| kept.args.end().0);
            (first.0..end).map(TaskId)
        };
        for queue in self.queue.values_mut() {
            *queue = queue.iter().flat_map(ids_from).collect();
        }
        all.values().for_each(|kept| self.list_singly(kept));
    }

    /// Something is about to be said of all that a worker has.
    pub(super) fn spread_at(&mut self, worker: WorkerId) {
        let there = |kept: &Kept| kept.sent.is_some_and(|sent| sent.worker == worker);
        let of_worker = self.stretches.all.iter().filter(|(_, kept)| there(kept));
        for first in of_worker.map(|(first, _)| *first).collect::<Vec<_>>() {
            self.spread(first);
        }
    }
}

#[cfg(any(test, feature = "sim"))]
impl Stretches {
    /// How many tasks wait.
    pub(super) fn queued(&self) -> usize {
        self.all.values().filter(|kept| kept.sent.is_none()).map(|kept| kept.args.tasks() as usize).sum()
    }

    /// How many are at a worker.
    pub(super) fn at(&self, worker: WorkerId) -> usize {
        let there = |kept: &&Kept| kept.sent.is_some_and(|sent| sent.worker == worker);
        self.all.values().filter(there).map(|kept| kept.args.tasks() as usize).sum()
    }

    /// What those at workers are charged.
    pub(super) fn charged(&self) -> u64 {
        let charged =
            |kept: &Kept| kept.sent.map_or(0, |sent| u64::from(sent.charge) * u64::from(kept.args.tasks()));
        self.all.values().map(charged).sum()
    }

    /// How many are of a spec.
    pub(super) fn of_spec(&self, spec: usize) -> usize {
        let of = |kept: &&Kept| kept.spec.0 as usize == spec;
        self.all.values().filter(of).map(|kept| kept.args.tasks() as usize).sum()
    }

    /// The bytes of all arguments.
    pub(super) fn bytes(&self) -> u64 {
        self.all.values().map(|kept| kept.args.bytes()).sum()
    }

    /// Whether it is all as it should be.
    pub(super) fn check(&self, client: &Client) {
        let may_be = !client.has_once && !client.gone && client.detached.is_none() && !client.resume.open;
        assert!(may_be || self.all.is_empty(), "none of a client that is not plain");
        let tasks = self.all.values().map(|kept| kept.args.tasks() as usize).sum::<usize>();
        assert_eq!(self.tasks, tasks);
        let mut end = TaskId(0);
        for (first, kept) in &self.all {
            assert!(*first == kept.args.first() && *first >= end, "each task in one stretch");
            end = kept.args.end();
            let priority = client.specs[kept.spec.0 as usize].what.priority;
            let is_queued = client.queue.get(&Reverse(priority)).is_some_and(|it| it.contains(first));
            assert_eq!(is_queued, kept.sent.is_none(), "{first}: in the queue");
            let bytes = kept.sent.map_or_else(|| kept.bytes_of(&kept.args), |sent| sent.bytes);
            assert_eq!(bytes, kept.args.bytes(), "{first}: bytes");
        }
        assert!(client.tasks.sorted_keys(|_| true).into_iter().all(|task| !self.has(task)), "in one table");
        assert!(end <= client.newest);
    }
}
