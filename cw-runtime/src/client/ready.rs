//! Answers of a map that nobody has read.

use std::{collections::VecDeque, ops::Range};

use cw_core::{
    client::{Common, Completion},
    ids::TaskId,
    wire::{Class, Entries, Stretch},
};

/// An answer for a map: index, bytes of its arguments, answer, and the task it was.
pub(crate) struct Answer {
    pub(crate) index: u64,
    pub(crate) args_bytes: u32,
    pub(crate) task: TaskId,
    pub(crate) completion: Completion,
}

/// What came at once.
pub(crate) enum Came {
    /// An answer.
    One(Answer),
    /// Those of calls that were handed in together, and ended together.
    Many(Many),
}

/// Answers that are taken apart only when they are read. Whoever reads them has the time for it.
pub(crate) struct Many {
    tasks: Range<u64>,
    /// The index of the first that was not read.
    index: u64,
    /// How many bytes of arguments are to be counted out.
    args_bytes: u64,
    bytes: usize,
    of: Common,
    ends: Entries,
}

impl Many {
    pub(crate) fn new(index: u64, args_bytes: u64, of: Common, ends: &Stretch) -> Self {
        let (tasks, bytes) = (ends.first().0..ends.end().0, ends.body().len());
        Self { tasks, index, args_bytes, bytes, of, ends: ends.entries() }
    }

    /// The next of them. The first counts for all of the arguments.
    #[inline]
    fn next(&mut self) -> Option<Answer> {
        let entry = self.ends.next()?;
        let args_bytes = u32::try_from(std::mem::take(&mut self.args_bytes)).expect("as long as a burst");
        let index = self.index;
        self.index += 1;
        let completion = self.of.completion(entry.micros, entry.bytes);
        Some(Answer { index, args_bytes, task: entry.task, completion })
    }
}

impl Came {
    /// Whose answers they are.
    fn tasks(&self) -> Range<u64> {
        match self {
            Self::One(answer) => answer.task.0..answer.task.0 + 1,
            Self::Many(many) => many.tasks.clone(),
        }
    }

    /// Each task, and whether it ended well.
    pub(crate) fn ended(&self) -> impl Iterator<Item = (TaskId, bool)> + use<> {
        let well = match self {
            Self::One(answer) => answer.completion.class == Class::Ok,
            Self::Many(_) => true,
        };
        self.tasks().map(move |task| (TaskId(task), well))
    }

    /// About how many bytes are kept of their results.
    fn bytes(&self) -> usize {
        match self {
            Self::One(answer) => answer.completion.body.len(),
            Self::Many(many) => many.bytes,
        }
    }
}

/// Answers in the order in which they came.
#[derive(Default)]
pub(crate) struct Ready {
    queue: VecDeque<Came>,
    answers: usize,
}

impl Ready {
    /// How many answers there are.
    pub(crate) fn len(&self) -> usize {
        self.answers
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.answers == 0
    }

    /// About how many bytes are kept of the results.
    pub(crate) fn bytes(&self) -> usize {
        self.queue.iter().map(Came::bytes).sum()
    }

    pub(crate) fn push(&mut self, came: Came) {
        self.answers += came.tasks().count();
        self.queue.push_back(came);
    }

    #[inline]
    pub(crate) fn pop_front(&mut self) -> Option<Answer> {
        self.answers = self.answers.checked_sub(1)?;
        if let Came::Many(many) = self.queue.front_mut()? {
            let answer = many.next();
            if many.ends.left() == 0 {
                self.queue.pop_front();
            }
            return answer;
        }
        let Some(Came::One(answer)) = self.queue.pop_front() else { return None };
        Some(answer)
    }

    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.answers = 0;
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use cw_core::{
        Payload,
        ids::{Attempt, WorkerId},
        wire::put_done,
    };

    use super::*;

    #[test]
    fn answers_that_came_together_are_read_one_by_one() {
        let of = Common { attempt: Attempt(1), attempts: 1, worker: WorkerId(0) };
        let mut body = BytesMut::new();
        (0..3u8).for_each(|n| put_done(7, &[n], &mut body));
        let ends = Stretch::of_ends(TaskId(20), 3, body.freeze().into()).unwrap();
        let one = |index| {
            let completion = of.completion(1, Payload::from_static(b"x"));
            Came::One(Answer { index, args_bytes: 4, task: TaskId(9), completion })
        };
        let mut ready = Ready::default();
        ready.push(one(1));
        ready.push(Came::Many(Many::new(5, 30, of, &ends)));
        ready.push(one(2));
        assert_eq!((ready.len(), ready.bytes()), (5, 11));
        let all = std::iter::from_fn(|| ready.pop_front());
        let all: Vec<_> = all
            .map(|it| (it.index, it.args_bytes, it.task.0, it.completion.micros, it.completion.body[0]))
            .collect();
        let wanted =
            [(1, 4, 9, 1, b'x'), (5, 30, 20, 7, 0), (6, 0, 21, 7, 1), (7, 0, 22, 7, 2), (2, 4, 9, 1, b'x')];
        assert_eq!(all, wanted);
        assert!(ready.is_empty() && ready.queue.is_empty());
    }
}
