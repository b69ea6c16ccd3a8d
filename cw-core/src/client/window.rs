//! What is with the master, and what waits for room there.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
};

use crate::{ids::TaskId, wire::Window};

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

    /// Tasks and bytes of this priority or a higher one.
    fn sum(&self, least: i32) -> (u32, u64) {
        let counted = self.by_priority.iter().filter(|(priority, ..)| *priority >= least);
        counted.fold((0, 0), |(tasks, bytes), more| (tasks + more.1, bytes + more.2))
    }

    pub(super) fn add(&mut self, priority: i32, bytes: u64) {
        let place = self.place(priority);
        let (_, tasks, held) = &mut self.by_priority[place];
        (*tasks, *held) = (*tasks + 1, *held + bytes);
    }

    pub(super) fn remove(&mut self, priority: i32, bytes: u64) {
        let place = self.place(priority);
        let (_, tasks, held) = &mut self.by_priority[place];
        (*tasks, *held) = (*tasks - 1, *held - bytes);
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

/// Tasks that wait for room: first those that a master had before, highest priority first, then in order. Its queues may
/// name tasks that were cancelled; the counts leave those out.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// No queue in it is empty.
    queues: BTreeMap<Reverse<(bool, i32)>, VecDeque<TaskId>>,
    /// An empty queue, whose memory the next one has.
    spare: VecDeque<TaskId>,
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

    pub(super) fn push_back(&mut self, priority: i32, task: TaskId, bytes: u64) {
        let spare = &mut self.spare;
        let queue = self.queues.entry(Reverse((false, priority))).or_insert_with(|| std::mem::take(spare));
        queue.push_back(task);
        (self.tasks, self.bytes) = (self.tasks + 1, self.bytes + bytes);
    }

    /// A task that a master had before, after others of that kind. That master may still have it, so nothing new may have
    /// its room.
    pub(super) fn push_again(&mut self, priority: i32, task: TaskId, bytes: u64) {
        self.queues.entry(Reverse((true, priority))).or_default().push_back(task);
        (self.tasks, self.bytes) = (self.tasks + 1, self.bytes + bytes);
    }

    /// The same before those: what was sent before they were.
    pub(super) fn push_again_first(&mut self, priority: i32, task: TaskId, bytes: u64) {
        self.queues.entry(Reverse((true, priority))).or_default().push_front(task);
        (self.tasks, self.bytes) = (self.tasks + 1, self.bytes + bytes);
    }

    /// The next task and its priority.
    pub(super) fn first(&self) -> Option<(i32, TaskId)> {
        let (Reverse((_, priority)), queue) = self.queues.first_key_value()?;
        queue.front().map(|task| (*priority, *task))
    }

    /// Takes the first out, which is sent.
    pub(super) fn pop_first(&mut self, bytes: u64) {
        self.drop_first();
        self.forget(bytes);
    }

    /// Takes the first out of its queue, if it was counted out before.
    pub(super) fn drop_first(&mut self) {
        let Some(mut first) = self.queues.first_entry() else { return };
        first.get_mut().pop_front();
        if first.get().is_empty() {
            self.spare = first.remove();
        }
    }

    /// Counts a task out that was cancelled.
    pub(super) fn forget(&mut self, bytes: u64) {
        (self.tasks, self.bytes) = (self.tasks - 1, self.bytes - bytes);
    }
}
