//! Results that are on their way to a client, until it acknowledges them.
//!
//! Those that went out as one burst are kept as it was. They are taken apart where one of them is another attempt's than
//! what comes, where a client acknowledges some out of turn, and where all are to be sent again.

use std::collections::BTreeMap;

use super::held::Held;
use crate::{
    TaskMap,
    ids::{Attempt, TaskId},
    wire::{Class, Stretch},
};

/// What each result counts against credit beside its bytes, so that small ones are bounded too.
pub(super) const RESULT_OVERHEAD: u64 = 64;

#[derive(Debug, Default)]
pub(super) struct Sent {
    /// What counts against credit of all these.
    bytes: u64,
    singles: TaskMap<Held>,
    /// Results of other attempts of tasks among those. Few, as one of the two was given up.
    others: Vec<(TaskId, Held)>,
    /// Results of further tasks, by the first of each burst.
    bursts: BTreeMap<TaskId, Burst>,
    /// How many tasks those have.
    tasks: usize,
}

/// Results of one attempt that were told at once.
#[derive(Debug)]
struct Burst {
    attempt: Attempt,
    ends: Stretch,
    /// What counts against credit.
    bytes: u64,
}

/// What the results of a burst count against credit.
pub(super) fn bytes_of(ends: &Stretch) -> u64 {
    ends.sizes().map(|(_, length)| length as u64 + RESULT_OVERHEAD).sum()
}

impl Sent {
    /// What counts against credit.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0 && self.others.is_empty()
    }

    /// How many tasks have a result here.
    fn len(&self) -> usize {
        self.singles.len() + self.tasks
    }

    pub(super) fn insert(&mut self, task: TaskId, held: Held) {
        if let Some(first) =
            self.last_below(task.0.saturating_add(1)).filter(|it| self.bursts[it].ends.has(task))
        {
            self.spread(first);
        }
        self.bytes += held.bytes();
        self.others.extend(self.singles.insert(task, held).map(|other| (task, other)));
    }

    /// Whether none of these tasks has a result here.
    pub(super) fn has_none_of(&self, ends: &Stretch) -> bool {
        let is_clear =
            self.last_below(ends.end().0).is_none_or(|it| self.bursts[&it].ends.end() <= ends.first());
        is_clear
            && (self.singles.is_empty()
                || (ends.first().0..ends.end().0).all(|task| !self.singles.contains(TaskId(task))))
    }

    /// Takes in results of tasks that have none here, which count so much against credit.
    pub(super) fn insert_burst(&mut self, attempt: Attempt, ends: Stretch, bytes: u64) {
        self.bytes += bytes;
        self.tasks += ends.tasks() as usize;
        self.bursts.insert(ends.first(), Burst { attempt, ends, bytes });
    }

    /// The client has the results of an attempt of all tasks from `first` to before `end`.
    pub(super) fn drop_received(&mut self, first: u64, end: u64, attempt: Attempt) {
        let before = self.len();
        self.drop_bursts(first, end, attempt);
        self.drop_singles(first, end, attempt, before);
        let is_received = |task: TaskId| (first..end).contains(&task.0);
        if !self.others.is_empty() {
            self.drop_others(|task, held| is_received(task) && held.attempt == attempt);
        }
    }

    /// Takes out everything: what has another attempt's result beside it first, the others by their tasks, the last first.
    pub(super) fn take_all(&mut self) -> Vec<(TaskId, Held)> {
        while let Some(first) = self.last_below(u64::MAX) {
            self.spread(first);
        }
        let mut all = std::mem::take(&mut self.others);
        let tasks = self.singles.sorted_keys(|_| true).into_iter().rev();
        all.extend(tasks.map(|task| (task, self.singles.remove(task).expect("just listed"))));
        self.bytes = 0;
        all
    }

    /// The last burst that begins before a task.
    fn last_below(&self, task: u64) -> Option<TaskId> {
        self.bursts.range(..TaskId(task)).next_back().map(|(first, _)| *first)
    }

    fn drop_bursts(&mut self, first: u64, end: u64, attempt: Attempt) {
        let mut below = end;
        while let Some(of) = self.last_below(below).filter(|it| self.bursts[it].ends.end().0 > first) {
            below = of.0;
            if self.bursts[&of].attempt == attempt {
                self.drop_from(of, first, end);
            }
        }
    }

    /// Drops some results of a burst: all, or the first ones. Of what is dropped out of turn nothing can be expected.
    fn drop_from(&mut self, of: TaskId, first: u64, end: u64) {
        if first > of.0 {
            return self.spread(of);
        }
        let Some(mut burst) = self.bursts.remove(&of) else { return };
        let tasks = u32::try_from(end.saturating_sub(of.0)).unwrap_or(u32::MAX).min(burst.ends.tasks());
        self.tasks -= tasks as usize;
        if tasks == burst.ends.tasks() {
            self.bytes -= burst.bytes;
            return;
        }
        let bytes = bytes_of(&burst.ends.cut(tasks));
        self.bytes -= bytes;
        burst.bytes -= bytes;
        self.bursts.insert(burst.ends.first(), burst);
    }

    /// Keeps each result of a burst by itself.
    fn spread(&mut self, first: TaskId) {
        let Some(Burst { attempt, ends, .. }) = self.bursts.remove(&first) else { return };
        self.tasks -= ends.tasks() as usize;
        for entry in ends.entries() {
            let held = Held { attempt, class: Class::Ok, micros: entry.micros, output: 0, body: entry.bytes };
            self.singles.insert(entry.task, held);
        }
    }

    /// A false count costs no more than there is to forget, which is `most`.
    fn drop_singles(&mut self, first: u64, end: u64, attempt: Attempt, most: usize) {
        if self.singles.is_empty() {
            return;
        }
        if end.saturating_sub(first) <= most as u64 {
            return (first..end).for_each(|task| self.drop_single(TaskId(task), attempt));
        }
        let all = self.singles.sorted_keys(|_| true).into_iter();
        all.filter(|task| (first..end).contains(&task.0)).for_each(|task| self.drop_single(task, attempt));
    }

    fn drop_single(&mut self, task: TaskId, attempt: Attempt) {
        if self.singles.get(task).is_some_and(|held| held.attempt == attempt)
            && let Some(held) = self.singles.remove(task)
        {
            self.bytes -= held.bytes();
        }
    }

    fn drop_others(&mut self, mut is_received: impl FnMut(TaskId, &Held) -> bool) {
        let gone = self.others.extract_if(.., |(task, held)| is_received(*task, held));
        self.bytes -= gone.map(|(_, held)| held.bytes()).sum::<u64>();
    }
}
