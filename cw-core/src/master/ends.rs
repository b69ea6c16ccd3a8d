//! How many of a client's tasks have ended, and how.
//!
//! What ended may be told of again: a result that did not arrive is sent once more, after a break of the client's
//! connection. So it is kept which tasks were counted, in runs of consecutive ids: there are no more of them than there
//! are tasks between those that have not ended.

use std::collections::BTreeMap;

use crate::{ids::TaskId, wire::Class};

/// So many runs are kept apart. Only a client that numbers its tasks oddly has more; of it some may not be counted.
const RUNS_MAX: usize = 1 << 16;

/// How a client's tasks have ended under this master, each counted once.
#[derive(Debug, Default)]
pub(super) struct Ends {
    pub(super) done: u64,
    pub(super) failed: u64,
    /// Tasks that were counted, or never will be: where each run of them begins and ends.
    counted: BTreeMap<u64, u64>,
}

impl Ends {
    /// Consecutive tasks have succeeded.
    pub(super) fn note_done(&mut self, first: TaskId, tasks: u32) {
        self.done += self.count(first.0, first.0.saturating_add(u64::from(tasks)));
    }

    /// A task has ended.
    pub(super) fn note(&mut self, task: TaskId, class: Class) {
        match class {
            Class::Ok => self.note_done(task, 1),
            _ => self.failed += self.count(task.0, task.0.saturating_add(1)),
        }
    }

    /// A task was cancelled: however it ends, its client has its answer.
    pub(super) fn pass_over(&mut self, task: TaskId) {
        self.count(task.0, task.0.saturating_add(1));
    }

    /// Notes tasks as counted; gives how many were not yet.
    fn count(&mut self, first: u64, end: u64) -> u64 {
        let next = self.counted.range(first.saturating_add(1)..).next().map(|(from, _)| *from);
        // Nearly always they follow those that were counted before.
        if next.is_none_or(|next| next > end)
            && let Some((_, to)) = self.counted.range_mut(..=first).next_back()
            && *to == first
        {
            *to = end;
            return end - first;
        }
        let (mut from, mut to, mut known) = (first, end, 0);
        while let Some((start, stop)) =
            self.counted.range(..=to).next_back().map(|(start, stop)| (*start, *stop))
            && stop >= from
        {
            known += stop.min(end).saturating_sub(start.max(first));
            (from, to) = (from.min(start), to.max(stop));
            self.counted.remove(&start);
        }
        self.counted.insert(from, to);
        self.bound();
        end - first - known
    }

    /// Takes what lies between the two oldest runs for counted, if there are too many.
    fn bound(&mut self) {
        if self.counted.len() > RUNS_MAX
            && let (Some((from, _)), Some((_, to))) = (self.counted.pop_first(), self.counted.pop_first())
        {
            self.counted.insert(from, to);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_task_is_counted_once_in_whatever_order() {
        let mut state = 7u64;
        let mut below = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..200 {
            let (mut ends, mut model, mut failed) = (Ends::default(), BTreeSet::new(), 0);
            for _ in 0..100 {
                let first = below(60);
                match below(4) {
                    0 => {
                        ends.note(TaskId(first), Class::Crashed);
                        failed += u64::from(model.insert(first));
                    }
                    1 => {
                        ends.pass_over(TaskId(first));
                        // It counts as neither.
                        ends.done += u64::from(model.insert(first));
                    }
                    _ => {
                        let tasks = 1 + below(9);
                        ends.note_done(TaskId(first), u32::try_from(tasks).unwrap());
                        model.extend(first..first + tasks);
                    }
                }
                assert_eq!((ends.done + ends.failed, ends.failed), (model.len() as u64, failed));
                let gaps = model.iter().filter(|task| !model.contains(&(**task + 1))).count();
                assert_eq!(ends.counted.len(), gaps, "runs that touch are one");
            }
        }
    }

    #[test]
    fn odd_numbers_take_up_no_more_than_so_much() {
        let mut ends = Ends::default();
        let tasks = 2 * RUNS_MAX as u64;
        (0..tasks).for_each(|task| ends.note(TaskId(2 * task), Class::Ok));
        assert_eq!((ends.done, ends.counted.len()), (tasks, RUNS_MAX));
        ends.note_done(TaskId(u64::MAX), 2);
    }
}
