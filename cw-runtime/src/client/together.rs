//! Calls of maps that were handed in together, and who wants their answers.

use std::{collections::BTreeMap, sync::Arc};

use cw_core::{
    ids::{SpecIndex, TaskId},
    wire::{Entries, Stretch},
};

use super::sink::{Sink, StreamQueue};

/// Consecutive calls of one map.
pub(crate) struct Calls {
    pub(crate) stream: Arc<StreamQueue>,
    pub(crate) spec: SpecIndex,
    /// The map's input that the first of them is.
    pub(crate) index: u64,
    pub(crate) args: Stretch,
    /// How many bytes of arguments they have.
    pub(crate) bytes: u64,
}

/// All such calls, by their first tasks.
#[derive(Default)]
pub(super) struct Together(BTreeMap<TaskId, Open>);

/// Calls of which some are open.
struct Open {
    stream: Arc<StreamQueue>,
    index: u64,
    args: Stretch,
    left: u32,
    /// Where the arguments of a single one were last looked for: those that fail do so in order, mostly.
    looked: Entries,
}

impl Open {
    fn index(&self, task: TaskId) -> u64 {
        self.index + (task.0 - self.args.first().0)
    }

    /// How many bytes the arguments of one of the calls are.
    fn args_bytes(&mut self, task: TaskId) -> u32 {
        if self.args.end().0 - u64::from(self.looked.left()) > task.0 {
            self.looked = self.args.entries();
        }
        let entry = self.looked.find(|entry| entry.task == task);
        entry.map_or(0, |entry| u32::try_from(entry.bytes.len()).expect("as long as a burst"))
    }
}

impl Together {
    pub(super) fn insert(&mut self, Calls { stream, index, args, .. }: Calls) {
        let (left, looked) = (args.tasks(), args.entries());
        self.0.insert(args.first(), Open { stream, index, args, left, looked });
    }

    fn of(&mut self, task: TaskId) -> Option<&mut Open> {
        let (_, open) = self.0.range_mut(..=task).next_back()?;
        open.args.has(task).then_some(open)
    }

    /// One of the calls has ended. Gives where its answer goes.
    pub(super) fn end_one(&mut self, task: TaskId) -> Option<Sink> {
        let open = self.of(task)?;
        let sink = Sink::Stream(Arc::clone(&open.stream), open.index(task), open.args_bytes(task));
        self.count_out(task, 1);
        Some(sink)
    }

    /// So many of the calls have ended that were handed in together. Gives whose they are, and the index of the first.
    pub(super) fn end_many(&mut self, first: TaskId, tasks: u32) -> Option<(Arc<StreamQueue>, u64)> {
        let open = self.of(first)?;
        let whose = (Arc::clone(&open.stream), open.index(first));
        self.count_out(first, tasks);
        Some(whose)
    }

    fn count_out(&mut self, task: TaskId, tasks: u32) {
        if let Some(open) = self.of(task) {
            open.left -= tasks;
            if open.left == 0 {
                let first = open.args.first();
                self.0.remove(&first);
            }
        }
    }

    /// Who reads the answer of a task.
    pub(super) fn stream(&self, task: TaskId) -> Option<&Arc<StreamQueue>> {
        let (_, open) = self.0.range(..=task).next_back()?;
        open.args.has(task).then_some(&open.stream)
    }

    /// Forgets the calls of a map. Gives their tasks, of which some may have ended.
    pub(super) fn remove(&mut self, stream: &Arc<StreamQueue>) -> impl Iterator<Item = TaskId> + use<> {
        let of_stream = self.0.extract_if(.., |_, open| Arc::ptr_eq(&open.stream, stream));
        let tasks: Vec<_> = of_stream.map(|(first, open)| first.0..open.args.end().0).collect();
        tasks.into_iter().flatten().map(TaskId)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use cw_core::wire::put_args;

    use super::*;

    fn calls(stream: &Arc<StreamQueue>, first: u64, tasks: u32, index: u64) -> Calls {
        let mut body = BytesMut::new();
        (0..tasks).for_each(|n| put_args(&vec![0; n as usize], &mut body));
        let args = Stretch::of_args(TaskId(first), tasks, body.freeze().into()).unwrap();
        Calls { stream: Arc::clone(stream), spec: SpecIndex(0), index, bytes: args.bytes(), args }
    }

    fn index_and_bytes(sink: Option<Sink>) -> Option<(u64, u32)> {
        match sink? {
            Sink::Stream(_, index, args_bytes) => Some((index, args_bytes)),
            _ => None,
        }
    }

    #[test]
    fn each_answer_finds_its_map_until_all_have_come() {
        let (stream, mut together) = (Arc::default(), Together::default());
        together.insert(calls(&stream, 10, 8, 100));
        together.insert(calls(&stream, 30, 4, 200));
        for (task, wanted) in [(12, (102, 2)), (11, (101, 1)), (33, (203, 3))] {
            assert_eq!(index_and_bytes(together.end_one(TaskId(task))), Some(wanted));
        }
        assert!(together.end_one(TaskId(18)).is_none() && together.end_one(TaskId(9)).is_none());
        let (_, index) = together.end_many(TaskId(13), 5).unwrap();
        assert_eq!(index, 103);
        assert!(together.stream(TaskId(10)).is_some());
        assert_eq!(index_and_bytes(together.end_one(TaskId(10))), Some((100, 0)));
        assert!(together.stream(TaskId(10)).is_none(), "all have ended");
        assert_eq!(together.0.len(), 1);
    }

    #[test]
    fn a_map_that_is_dropped_takes_its_calls_along() {
        let (stream, other, mut together) = (Arc::default(), Arc::default(), Together::default());
        together.insert(calls(&stream, 10, 2, 0));
        together.insert(calls(&other, 12, 2, 0));
        together.insert(calls(&stream, 14, 2, 2));
        assert_eq!(together.remove(&stream).map(|task| task.0).collect::<Vec<_>>(), [10, 11, 14, 15]);
        assert!(together.end_one(TaskId(10)).is_none() && together.end_one(TaskId(12)).is_some());
    }
}
