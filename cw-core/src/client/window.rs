//! What is with the master, and what waits for room there.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
};

use crate::{
    ids::TaskId,
    wire::{Stretch, Window},
};

/// Tasks with the master, counted by priority.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) window: Window,
    /// Priority, tasks and bytes of arguments. A program has few priorities.
    by_priority: Vec<(i32, u32, u64)>,
}

impl Default for InFlight {
    /// One task, until the master says more.
    fn default() -> Self {
        Self { window: Window { tasks: 1, bytes: 0 }, by_priority: Vec::new() }
    }
}

impl InFlight {
    /// Whether a task of so many bytes may be sent. What is less urgent does not keep it back, except that all
    /// together are at most one and a half windows.
    pub(super) fn has_room(&self, priority: i32, bytes: u64) -> bool {
        let Window { tasks: most, bytes: most_bytes } = self.window;
        let fits = |(tasks, held): (u32, u64), most: u32, most_bytes: u64| {
            tasks < most && (tasks == 0 || held + bytes <= most_bytes)
        };
        fits(self.sum(priority), most, most_bytes)
            && fits(self.sum(i32::MIN), most.saturating_add(most / 2), most_bytes.saturating_mul(3) / 2)
    }

    /// How many of these may be sent, one after the other.
    pub(super) fn fitting(&self, priority: i32, args: &Stretch) -> u32 {
        let (tasks, mut bytes) = self.room(priority).unwrap_or_default();
        let tasks = tasks.min(args.tasks());
        if args.body().len() as u64 <= bytes {
            return tasks;
        }
        let mut takes = |more: u64| bytes.checked_sub(more).map(|left| bytes = left).is_some();
        let lengths = || args.entries().map(|entry| entry.bytes.len() as u64);
        let fitting = lengths().take(tasks as usize).take_while(|more| takes(*more)).count() as u32;
        // One that is too big for any window goes alone.
        fitting.max(u32::from(lengths().next().is_some_and(|first| self.has_room(priority, first))))
    }

    /// Room for tasks and their bytes; none if there are too many bytes already.
    fn room(&self, priority: i32) -> Option<(u32, u64)> {
        let Window { tasks: most, bytes: most_bytes } = self.window;
        let left = |(tasks, held): (u32, u64), most: u32, most_bytes: u64| {
            Some((most.saturating_sub(tasks), most_bytes.checked_sub(held)?))
        };
        let ours = left(self.sum(priority), most, most_bytes)?;
        let all = left(self.sum(i32::MIN), most.saturating_add(most / 2), most_bytes.saturating_mul(3) / 2)?;
        Some((ours.0.min(all.0), ours.1.min(all.1)))
    }

    /// Tasks and bytes of this priority or a higher one.
    fn sum(&self, least: i32) -> (u32, u64) {
        let counted = self.by_priority.iter().filter(|(priority, ..)| *priority >= least);
        counted.fold((0, 0), |(tasks, bytes), more| (tasks + more.1, bytes + more.2))
    }

    /// So many tasks are sent, of so many bytes in all.
    pub(super) fn add(&mut self, priority: i32, (more, bytes): (u32, u64)) {
        let place = self.place(priority);
        let (_, tasks, held) = &mut self.by_priority[place];
        (*tasks, *held) = (*tasks + more, *held + bytes);
    }

    pub(super) fn remove(&mut self, priority: i32, (fewer, bytes): (u32, u64)) {
        let place = self.place(priority);
        let (_, tasks, held) = &mut self.by_priority[place];
        (*tasks, *held) = (*tasks - fewer, *held - bytes);
        // A program may use a priority of its own for each task.
        if *tasks == 0 {
            self.by_priority.swap_remove(place);
        }
    }

    fn place(&mut self, priority: i32) -> usize {
        let known = self.by_priority.iter().position(|(known, ..)| *known == priority);
        known.unwrap_or_else(|| {
            self.by_priority.push((priority, 0, 0));
            self.by_priority.len() - 1
        })
    }

    pub(super) fn clear(&mut self) {
        self.by_priority.clear();
    }
}

/// The first of consecutive tasks, and how many there are.
type Row = (TaskId, u32);

/// Tasks that wait for room: first those that a master had before, highest priority first, then in order. Its queues may
/// name tasks that were cancelled; the counts leave those out.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// No queue in it is empty.
    queues: BTreeMap<Reverse<(bool, i32)>, VecDeque<Row>>,
    /// An empty queue, whose memory the next one has.
    spare: VecDeque<Row>,
    tasks: usize,
    bytes: u64,
}

impl Waiting {
    pub(super) fn tasks(&self) -> usize {
        self.tasks
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// So many consecutive tasks, of so many bytes in all.
    pub(super) fn push_back(&mut self, priority: i32, first: TaskId, (tasks, bytes): (u32, u64)) {
        let spare = &mut self.spare;
        let queue = self.queues.entry(Reverse((false, priority))).or_insert_with(|| std::mem::take(spare));
        queue.push_back((first, tasks));
        self.count(tasks, bytes);
    }

    /// A task that a master had before, after others of that kind. That master may still have it, so nothing new may have
    /// its room.
    pub(super) fn push_again(&mut self, priority: i32, task: TaskId, bytes: u64) {
        self.queues.entry(Reverse((true, priority))).or_default().push_back((task, 1));
        self.count(1, bytes);
    }

    /// The same before those: what was sent before they were.
    pub(super) fn push_again_first(&mut self, priority: i32, task: TaskId, bytes: u64) {
        self.queues.entry(Reverse((true, priority))).or_default().push_front((task, 1));
        self.count(1, bytes);
    }

    fn count(&mut self, tasks: u32, bytes: u64) {
        (self.tasks, self.bytes) = (self.tasks + tasks as usize, self.bytes + bytes);
    }

    /// The next task and its priority.
    pub(super) fn first(&self) -> Option<(i32, TaskId)> {
        let (Reverse((_, priority)), queue) = self.queues.first_key_value()?;
        queue.front().map(|(task, _)| (*priority, *task))
    }

    /// Takes the first so many out, which are sent and were called together.
    pub(super) fn pop_first(&mut self, (tasks, bytes): (u32, u64)) {
        self.drop_first(tasks);
        (self.tasks, self.bytes) = (self.tasks - tasks as usize, self.bytes - bytes);
    }

    /// Takes the first so many out of their queue, if they were counted out before.
    pub(super) fn drop_first(&mut self, tasks: u32) {
        let Some(mut queue) = self.queues.first_entry() else { return };
        if let Some((first, left)) = queue.get_mut().front_mut() {
            (*first, *left) = (TaskId(first.0 + u64::from(tasks)), *left - tasks);
            if *left == 0 {
                queue.get_mut().pop_front();
            }
        }
        if queue.get().is_empty() {
            self.spare = queue.remove();
        }
    }

    /// Counts a task out that was cancelled.
    pub(super) fn forget(&mut self, bytes: u64) {
        (self.tasks, self.bytes) = (self.tasks - 1, self.bytes - bytes);
    }
}
