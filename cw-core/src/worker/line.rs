//! Tasks that wait for executors of one kind, in the order in which they came.
//!
//! A burst of them waits as it came, and is cut where it is fed. It is taken apart, once, before tasks are looked for one
//! by one: those to be cancelled, handed back, or put behind others.

use std::collections::VecDeque;

use super::queue::Pending;
use crate::{
    ids::{ClientId, SpecIndex, TaskId},
    wire::{Entry, Stretch},
};

#[derive(Debug, Default)]
pub(super) struct Line {
    entries: VecDeque<Pending>,
    /// How many tasks there are beside the first of each entry.
    more: usize,
}

impl Pending {
    /// How many tasks it stands for.
    pub(super) fn tasks(&self) -> u32 {
        self.all.as_ref().map_or(1, |all| all.tasks())
    }

    /// The ids of those.
    pub(super) fn ids(&self) -> impl Iterator<Item = TaskId> + use<> {
        let first = self.task.0;
        (0..self.tasks()).map(move |place| TaskId(first + u64::from(place)))
    }

    /// It, standing for other tasks.
    fn with(&self, all: Stretch, at: u64) -> Self {
        let (task, apart) = (all.first(), self.apart.clone());
        let single = if all.tasks() == 1 { all.entries().next() } else { None };
        let (args, all) = match single {
            Some(Entry { bytes, .. }) => (bytes, None),
            None => (self.args.clone(), Some(Box::new(all))),
        };
        Self { task, args, all, at, apart, ..*self }
    }

    /// Takes the first so many tasks off, which are fewer than all.
    fn cut(&mut self, tasks: u32) -> Option<Self> {
        let mut rest = *self.all.take()?;
        let front = self.with(rest.cut(tasks), self.at);
        *self = self.with(rest, self.at + u64::from(tasks));
        Some(front)
    }

    /// Each of the tasks.
    fn singles(self) -> impl Iterator<Item = Self> {
        let entries = self.all.as_ref().map(|all| all.entries());
        let single = entries.is_none().then(|| self.clone());
        let of_burst = entries.into_iter().flatten().zip(self.at..);
        let singles = of_burst.map(move |(Entry { task, bytes: args, .. }, at)| {
            let (all, apart) = (None, self.apart.clone());
            Self { task, args, all, at, apart, ..self }
        });
        single.into_iter().chain(singles)
    }
}

impl Line {
    /// How many tasks there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len() + self.more
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The first; of a burst what is the same for all, and its first id.
    pub(super) fn front(&self) -> Option<&Pending> {
        self.entries.front()
    }

    /// The place of the first in the order of all.
    pub(super) fn first_at(&self) -> Option<u64> {
        self.front().map(|first| first.at)
    }

    /// The place of the last.
    pub(super) fn last_at(&self) -> Option<u64> {
        self.entries.back().map(|last| last.at + u64::from(last.tasks()) - 1)
    }

    /// Each task or burst.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.entries.iter()
    }

    /// Each task or burst of which some are among the first so many tasks.
    pub(super) fn among_first(&self, tasks: usize) -> impl Iterator<Item = &Pending> {
        let mut before = 0;
        self.entries.iter().take_while(move |entry| {
            let is_among = before < tasks;
            before += entry.tasks() as usize;
            is_among
        })
    }

    pub(super) fn push(&mut self, pending: Pending) {
        self.more += pending.tasks() as usize - 1;
        self.entries.push_back(pending);
    }

    pub(super) fn pop_front(&mut self) -> Option<Pending> {
        self.pop(1)
    }

    /// Takes the next tasks that are of this spec and may share an executor, at most so many, and at most a burst.
    pub(super) fn pop_like(&mut self, client: ClientId, spec: SpecIndex, at_most: u32) -> Option<Pending> {
        let next = self.front()?;
        let is_like = (next.client, next.spec, next.alone) == (client, spec, false);
        if is_like && at_most > 0 { self.pop(at_most) } else { None }
    }

    fn pop(&mut self, at_most: u32) -> Option<Pending> {
        let front = self.entries.front_mut()?;
        let tasks = front.tasks();
        if at_most < tasks {
            self.more -= at_most as usize;
            return front.cut(at_most);
        }
        self.more -= tasks as usize - 1;
        self.entries.pop_front()
    }

    pub(super) fn pop_back(&mut self) -> Option<Pending> {
        let last = self.entries.pop_back()?;
        self.more -= last.tasks() as usize - 1;
        self.entries.extend(last.singles());
        self.entries.pop_back()
    }

    /// Each task by itself, to be taken out, put in or moved.
    pub(super) fn singles(&mut self) -> &mut VecDeque<Pending> {
        if self.more > 0 {
            self.more = 0;
            self.entries = std::mem::take(&mut self.entries).into_iter().flat_map(Pending::singles).collect();
        }
        &mut self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Payload, ids::Attempt};

    /// Tasks with their ids as arguments.
    fn burst(first: u64, tasks: u32, at: u64) -> Pending {
        let body: Vec<u8> = (first..).take(tasks as usize).flat_map(|id| [1, id as u8]).collect();
        let all = Stretch::of_args(TaskId(first), tasks, body.into()).unwrap();
        let (client, attempt, spec, task) = (ClientId(1), Attempt(1), SpecIndex(0), TaskId(first));
        let (alone, args, all, apart) = (false, Payload::new(), Some(Box::new(all)), None);
        Pending { client, task, attempt, spec, alone, args, all, apart, at }
    }

    fn single(task: u64, at: u64) -> Pending {
        burst(task, 1, at).singles().next().unwrap()
    }

    fn line() -> Line {
        let mut line = Line::default();
        line.push(burst(1, 5, 0));
        line.push(single(9, 5));
        line.push(burst(20, 3, 6));
        line
    }

    #[test]
    fn a_burst_waits_as_the_tasks_it_is_of() {
        let mut whole = line();
        assert_eq!((whole.len(), whole.first_at(), whole.last_at()), (9, Some(0), Some(8)));
        let ids: Vec<u64> = whole.iter().flat_map(Pending::ids).map(|id| id.0).collect();
        assert_eq!(ids, [1, 2, 3, 4, 5, 9, 20, 21, 22]);
        let popped: Vec<Pending> = std::iter::from_fn(|| whole.pop_front()).collect();
        assert_eq!((whole.len(), whole.is_empty()), (0, true));
        let mut apart = line();
        let singles: Vec<Pending> = apart.singles().iter().cloned().collect();
        let what = |all: &[Pending]| -> Vec<(u64, u64, Vec<u8>)> {
            all.iter().map(|it| (it.task.0, it.at, it.args.to_vec())).collect()
        };
        assert_eq!(what(&popped), what(&singles));
        assert_eq!(
            what(&singles),
            ids.iter().zip(0..).map(|(id, at)| (*id, at, vec![*id as u8])).collect::<Vec<_>>()
        );
        assert_eq!((apart.len(), apart.last_at()), (9, Some(8)));
    }

    #[test]
    fn a_burst_is_cut_where_it_is_fed() {
        let mut line = line();
        let pop = |line: &mut Line, at_most| {
            let popped = line.pop_like(ClientId(1), SpecIndex(0), at_most);
            popped.map(|it| (it.task.0, it.tasks(), it.args.to_vec()))
        };
        assert_eq!(pop(&mut line, 0), None);
        assert_eq!(pop(&mut line, 3), Some((1, 3, vec![])));
        assert_eq!((line.len(), line.first_at()), (6, Some(3)));
        assert_eq!(pop(&mut line, 1), Some((4, 1, vec![4])));
        assert_eq!(pop(&mut line, 9), Some((5, 1, vec![5])), "what is left of a burst may be one");
        assert_eq!(pop(&mut line, 9), Some((9, 1, vec![9])));
        assert_eq!(line.pop_like(ClientId(1), SpecIndex(1), 9).map(|it| it.task), None);
        assert_eq!(pop(&mut line, 9), Some((20, 3, vec![])));
        assert_eq!((line.len(), pop(&mut line, 9)), (0, None));
    }

    #[test]
    fn what_came_last_is_taken_without_the_bursts_before_it() {
        let mut line = line();
        let ids: Vec<u64> = (0..4).filter_map(|_| line.pop_back()).map(|it| it.task.0).collect();
        assert_eq!(ids, [22, 21, 20, 9]);
        assert_eq!((line.len(), line.last_at(), line.entries.len()), (5, Some(4), 1));
        assert_eq!(line.pop_back().map(|it| it.args.to_vec()), Some(vec![5]));
        assert_eq!((line.len(), line.last_at(), line.entries.len()), (4, Some(3), 4));
    }

    #[test]
    fn who_has_the_first_tasks_is_seen_without_a_look_at_all() {
        let line = line();
        let first = |tasks| line.among_first(tasks).map(|it| it.task.0).collect::<Vec<_>>();
        assert_eq!([first(1), first(5), first(6), first(7)], [vec![1], vec![1], vec![1, 9], vec![1, 9, 20]]);
    }
}
