//! What a burst says, kept as it came.

use super::burst::{self, Entries};
use crate::{Payload, ids::TaskId};

/// Consecutive tasks with what a burst says of them. Whoever only passes it on need not look at each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    first: TaskId,
    tasks: u32,
    timed: bool,
    body: Payload,
}

impl Stretch {
    /// Arguments of so many tasks. None if the body is not just that.
    pub fn of_args(first: TaskId, tasks: u32, body: Payload) -> Option<Self> {
        Self { first, tasks, timed: false, body }.if_true()
    }

    /// Run times and results of so many tasks. None if the body is not just that.
    pub fn of_ends(first: TaskId, tasks: u32, body: Payload) -> Option<Self> {
        Self { first, tasks, timed: true, body }.if_true()
    }

    fn if_true(self) -> Option<Self> {
        self.first.0.checked_add(self.tasks.into())?;
        let end = self.end_of(self.tasks).filter(|_| self.tasks > 0 && burst::is_short_enough(&self.body));
        (end == Some(self.body.len())).then_some(self)
    }

    /// The first of the tasks.
    pub fn first(&self) -> TaskId {
        self.first
    }

    /// How many there are, at least one.
    pub fn tasks(&self) -> u32 {
        self.tasks
    }

    /// The task after the last.
    pub fn end(&self) -> TaskId {
        TaskId(self.first.0 + u64::from(self.tasks))
    }

    /// Whether it is one of these.
    pub fn has(&self, task: TaskId) -> bool {
        (self.first..self.end()).contains(&task)
    }

    /// What a burst of just these says.
    pub fn body(&self) -> &Payload {
        &self.body
    }

    /// How many bytes their arguments or results are.
    pub fn bytes(&self) -> u64 {
        self.sizes().map(|(_, bytes)| bytes as u64).sum()
    }

    /// Each of them.
    pub fn entries(&self) -> Entries {
        let of = if self.timed { Entries::of_ends } else { Entries::of_args };
        of(self.first, self.tasks, self.body.clone())
    }

    /// The run time of each, 0 where it is yet to run, and how many bytes are said of it.
    pub fn sizes(&self) -> impl Iterator<Item = (u64, usize)> {
        let mut at = 0;
        (0..self.tasks).map_while(move |_| {
            let (micros, span) = burst::entry_at(&self.body, at, self.timed)?;
            at = span.end;
            Some((micros, span.len()))
        })
    }

    /// The same of other tasks. None if there are no such tasks.
    pub fn named(self, first: TaskId) -> Option<Self> {
        first.0.checked_add(self.tasks.into())?;
        Some(Self { first, ..self })
    }

    /// How long each ran, in microseconds, where these are ends.
    pub fn micros(&self) -> impl Iterator<Item = u64> {
        self.sizes().map(|(micros, _)| micros)
    }

    /// Takes the first so many off.
    ///
    /// # Panics
    /// If none would be left on either side.
    pub fn cut(&mut self, tasks: u32) -> Self {
        assert!((1..self.tasks).contains(&tasks), "{tasks} of {}", self.tasks);
        let end = self.end_of(tasks).expect("a stretch has all its entries");
        let (body, rest) = (self.body.part(0..end), self.body.part(end..self.body.len()));
        let front = Self { body, tasks, ..*self };
        *self = Self { first: front.end(), tasks: self.tasks - tasks, body: rest, timed: self.timed };
        front
    }

    /// Where the entries of the first so many tasks end.
    fn end_of(&self, tasks: u32) -> Option<usize> {
        let (body, timed) = (&self.body[..], self.timed);
        (0..tasks).try_fold(0, |at, _| match (body.get(at), body.get(at + 1)) {
            // Nearly all are like this.
            (Some(&short @ ..0x80), _) if !timed => Some(at + 1 + usize::from(short)),
            (Some(..0x80), Some(&short @ ..0x80)) if timed => Some(at + 2 + usize::from(short)),
            _ => Some(burst::entry_at(body, at, timed)?.1.end),
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn ends(count: u64) -> Stretch {
        let mut body = BytesMut::new();
        (0..count).for_each(|n| burst::put_done(n * 100, &n.to_le_bytes()[..(n % 9) as usize], &mut body));
        Stretch::of_ends(TaskId(7), count as u32, body.freeze().into()).unwrap()
    }

    #[test]
    fn parts_say_what_the_whole_said() {
        let mut rest = ends(100);
        let whole: Vec<_> = rest.entries().map(|it| (it.task, it.micros, it.bytes)).collect();
        let parts = [rest.cut(1), rest.cut(60), rest.cut(38), rest];
        assert_eq!(parts.each_ref().map(|it| it.tasks()), [1, 60, 38, 1]);
        assert!(parts[1].has(TaskId(8)) && parts[1].has(TaskId(67)) && !parts[1].has(TaskId(68)));
        let again: Vec<_> =
            parts.iter().flat_map(Stretch::entries).map(|it| (it.task, it.micros, it.bytes)).collect();
        assert_eq!(again, whole);
        let bytes = |of: &[Stretch]| of.iter().map(Stretch::bytes).sum::<u64>();
        assert_eq!(bytes(&parts), whole.iter().map(|it| it.2.len() as u64).sum());
    }

    #[test]
    fn sizes_are_those_of_the_entries() {
        let ends = ends(100).named(TaskId(9)).unwrap();
        let entries = ends.entries().map(|it| (it.micros, it.bytes.len()));
        assert!(ends.sizes().eq(entries));
        assert_eq!((ends.first(), ends.end()), (TaskId(9), TaskId(109)));
        assert!(ends.named(TaskId(u64::MAX)).is_none());
    }

    #[test]
    fn only_what_is_said_in_full_is_a_stretch() {
        let of = |first, tasks, body: &'static [u8]| {
            Stretch::of_args(TaskId(first), tasks, Payload::from_static(body)).is_some()
        };
        assert!(of(1, 2, &[1, 7, 0]));
        assert!(!of(1, 2, &[1, 7]), "one is missing");
        assert!(!of(1, 2, &[1, 7, 0, 0]), "one too many");
        assert!(!of(1, 1, &[9, 7]), "cut short");
        assert!(!of(1, 0, &[]), "of none");
        assert!(!of(u64::MAX, 2, &[0, 0]), "no task has such a number");
    }
}
