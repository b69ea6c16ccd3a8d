//! What an executor was fed and has not answered, in order.
//!
//! Short tasks are many, and what is known of them differs in their ids alone: those that follow each other are one *run*.

use std::collections::VecDeque;

use super::executors::Running;
use crate::ids::{Attempt, ClientId, TaskId};

/// Shorter bursts are taken task by task: to cut them costs more than it saves.
pub(super) const RUN_MIN: u32 = if cfg!(any(test, feature = "sim")) { 2 } else { 8 };

/// The tasks of an executor, the first of which runs.
#[derive(Debug, Default)]
pub(super) struct Batch {
    runs: VecDeque<Run>,
    tasks: usize,
}

/// Consecutive tasks that are alike: the first, and how many there are.
#[derive(Debug)]
struct Run {
    first: Running,
    tasks: u32,
}

impl Run {
    fn one(first: Running) -> Self {
        Self { first, tasks: 1 }
    }

    /// One of them.
    fn task(&self, place: u32) -> TaskId {
        TaskId(self.first.task.0 + u64::from(place))
    }

    /// Whether a task is so many behind the first.
    fn place(&self, task: TaskId) -> Option<u64> {
        task.0.checked_sub(self.first.task.0)
    }

    /// Whether the next task can be one of these: no end must be beyond all ids.
    fn goes_on_with(&self, next: &Running) -> bool {
        let is_plain = |it: &Running| !it.alone && !it.cancelled && it.apart.is_none();
        let kind = |it: &Running| (it.client, it.attempt, it.spec, it.expected, it.timeout);
        let first = &self.first;
        let follows = self.place(next.task) == Some(self.tasks.into()) && next.task.0 < u64::MAX;
        follows && kind(next) == kind(first) && is_plain(next) && is_plain(first)
    }

    /// Takes the first so many off, which are fewer than all.
    fn cut(&mut self, tasks: u32) -> Self {
        let front = Self { first: self.first.clone(), tasks };
        self.first.task = self.task(tasks);
        self.tasks -= tasks;
        front
    }

    fn singles(&self) -> impl Iterator<Item = Running> {
        (0..self.tasks).map(|place| Running { task: self.task(place), ..self.first.clone() })
    }

    /// The place of a task of such a client and attempt, if it is one of them.
    fn find(&self, client: ClientId, task: TaskId, attempt: Attempt) -> Option<u32> {
        let place = self.place(task).filter(|_| (self.first.client, self.first.attempt) == (client, attempt));
        place.and_then(|place| u32::try_from(place).ok()).filter(|place| *place < self.tasks)
    }
}

impl Batch {
    /// Of none.
    pub(super) const fn new() -> Self {
        Self { runs: VecDeque::new(), tasks: 0 }
    }

    /// How many tasks there are.
    pub(super) fn len(&self) -> usize {
        self.tasks
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tasks == 0
    }

    /// The one that runs.
    pub(super) fn front(&self) -> Option<&Running> {
        self.runs.front().map(|run| &run.first)
    }

    /// One that is like the last but for its id.
    pub(super) fn like_last(&self) -> Option<&Running> {
        self.runs.back().map(|run| &run.first)
    }

    /// Puts so many tasks last, of which this is the first, and the others are like it.
    pub(super) fn push(&mut self, first: Running, tasks: u32) {
        self.tasks += tasks as usize;
        match self.runs.back_mut() {
            Some(last) if last.goes_on_with(&first) => last.tasks += tasks,
            _ => self.runs.push_back(Run { first, tasks }),
        }
    }

    /// Takes the first so many tasks, which are no more than are alike; gives the first of them.
    pub(super) fn pop(&mut self, tasks: u32) -> Option<Running> {
        let run = self.runs.front_mut()?;
        self.tasks -= tasks as usize;
        if tasks < run.tasks {
            Some(run.cut(tasks).first)
        } else {
            self.runs.pop_front().map(|run| run.first)
        }
    }

    /// How many tasks come before the first that is like the next ones; none if it is the first.
    pub(super) fn singles(&self) -> u32 {
        self.runs.iter().map(|run| run.tasks).take_while(|tasks| *tasks < RUN_MIN).sum()
    }

    /// How many are like the first, with it.
    pub(super) fn alike(&self) -> u32 {
        self.runs.front().map_or(0, |run| run.tasks)
    }

    /// Takes so many that come after the first.
    pub(super) fn take_behind(&mut self, tasks: u32) -> Vec<Running> {
        let Some(first) = self.pop(1) else { return Vec::new() };
        let behind = (0..tasks).map_while(|_| self.pop(1)).collect();
        self.runs.push_front(Run::one(first));
        self.tasks += 1;
        behind
    }

    /// Marks a task as cancelled; gives its place.
    pub(super) fn cancel(&mut self, client: ClientId, task: TaskId, attempt: Attempt) -> Option<usize> {
        let mut all = self.runs.iter().enumerate();
        let (at, before) = all.find_map(|(at, run)| Some((at, run.find(client, task, attempt)?)))?;
        let mut run = self.runs.remove(at)?;
        let place = self.runs.iter().take(at).map(|run| run.tasks as usize).sum::<usize>() + before as usize;
        let front = (before > 0).then(|| run.cut(before));
        let it = Run::one(Running { cancelled: true, ..run.first.clone() });
        let behind = (run.tasks > 1).then(|| {
            run.cut(1);
            run
        });
        let parts = [behind, Some(it), front].into_iter().flatten();
        parts.for_each(|part| self.runs.insert(at, part));
        Some(place)
    }

    /// Each of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = Running> {
        self.runs.iter().flat_map(Run::singles)
    }

    /// One of each that are alike.
    pub(super) fn kinds(&self) -> impl Iterator<Item = &Running> {
        self.runs.iter().map(|run| &run.first)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::ids::SpecIndex;

    fn running(task: u64) -> Running {
        let (client, attempt, spec) = (ClientId(1), Attempt(1), SpecIndex(0));
        let (alone, expected, timeout, cancelled, apart) = (false, 3, None, false, None);
        Running { client, task: TaskId(task), attempt, spec, alone, expected, timeout, cancelled, apart }
    }

    fn tasks(batch: &Batch) -> Vec<u64> {
        batch.iter().map(|it| it.task.0).collect()
    }

    #[test]
    fn those_that_follow_and_are_alike_are_one_run() {
        let mut batch = Batch::new();
        (1..4).for_each(|task| batch.push(running(task), 1));
        batch.push(running(4), 5);
        assert_eq!((batch.runs.len(), batch.len(), batch.alike()), (1, 8, 8));
        let other = |change: fn(&mut Running)| {
            let mut next = running(9);
            change(&mut next);
            next
        };
        let others: [fn(&mut Running); 8] = [
            |it| it.task = TaskId(10),
            |it| it.client = ClientId(2),
            |it| it.attempt = Attempt(2),
            |it| it.spec = SpecIndex(1),
            |it| it.expected = 4,
            |it| it.timeout = Some(Duration::ZERO),
            |it| it.alone = true,
            |it| it.cancelled = true,
        ];
        assert!(others.into_iter().all(|change| !batch.runs[0].goes_on_with(&other(change))));
    }

    #[test]
    fn what_is_cancelled_lies_where_it_lay() {
        for cancelled in 1..6 {
            let mut batch = Batch::new();
            batch.push(running(1), 5);
            assert_eq!(batch.cancel(ClientId(1), TaskId(cancelled), Attempt(2)), None);
            let place = batch.cancel(ClientId(1), TaskId(cancelled), Attempt(1));
            assert_eq!(place, Some(cancelled as usize - 1));
            assert_eq!((tasks(&batch), batch.len()), ((1..6).collect(), 5));
            assert!(batch.iter().all(|it| it.cancelled == (it.task.0 == cancelled)));
            let again = batch.cancel(ClientId(1), TaskId(5), Attempt(1));
            assert_eq!(again, Some(4));
        }
    }

    #[test]
    fn what_is_behind_the_first_is_taken_in_order() {
        let mut batch = Batch::new();
        batch.push(running(1), 5);
        batch.push(running(9), 2);
        let taken: Vec<u64> = batch.take_behind(5).iter().map(|it| it.task.0).collect();
        assert_eq!(taken, [2, 3, 4, 5, 9]);
        assert_eq!((tasks(&batch), batch.len()), (vec![1, 10], 2));
        assert_eq!(batch.take_behind(9).len(), 1);
        assert_eq!(Batch::new().take_behind(1).len(), 0);
    }

    #[test]
    fn the_first_are_taken_together_as_far_as_they_are_alike() {
        let mut batch = Batch::new();
        batch.push(running(1), 5);
        assert_eq!(batch.pop(3).map(|it| it.task), Some(TaskId(1)));
        batch.push(running(9), 1);
        assert_eq!((tasks(&batch), batch.alike(), batch.singles()), (vec![4, 5, 9], 2, 0));
        assert_eq!(batch.pop(2).map(|it| it.task), Some(TaskId(4)));
        assert_eq!((batch.len(), batch.alike(), batch.singles()), (1, 1, 1));
        assert!(batch.pop(1).is_some() && batch.pop(1).is_none() && batch.is_empty());
    }
}
