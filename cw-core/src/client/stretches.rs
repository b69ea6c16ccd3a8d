//! Tasks that were called together, kept as they came, while nothing befalls one of them alone.
//!
//! They wait, are sent and end as a whole, or in parts of which each is whole. Whatever concerns a single task *sets it
//! apart* first: from then on it is in the client's table of tasks, as any other. What concerns all of them *spreads* them.

use std::collections::BTreeMap;

use super::{Action, Client, Common, State, Task};
use crate::{
    Payload,
    ids::{SpecIndex, TaskId},
    wire::{Entries, Entry, FromClient, Stretch},
};

/// Consecutive tasks of one call, all of which wait for room, or are all with the master.
#[derive(Debug)]
pub(super) struct Plain {
    spec: SpecIndex,
    pub(super) is_sent: bool,
    args: Stretch,
}

/// Such tasks in parts, by the first task of each. None is in two of them.
#[derive(Debug, Default)]
pub(super) struct Stretches {
    parts: BTreeMap<TaskId, Plain>,
    tasks: usize,
}

impl Stretches {
    /// How many tasks there are.
    pub(super) fn tasks(&self) -> usize {
        self.tasks
    }

    /// Whether it is one of these.
    pub(super) fn has(&self, task: TaskId) -> bool {
        self.part(task).is_some()
    }

    /// Whether it is one of these, and with the master.
    pub(super) fn is_sent(&self, task: TaskId) -> bool {
        self.part(task).is_some_and(|part| part.is_sent)
    }

    fn part(&self, task: TaskId) -> Option<&Plain> {
        if self.tasks == 0 {
            return None;
        }
        let (_, part) = self.parts.range(..=task).next_back()?;
        part.args.has(task).then_some(part)
    }

    fn insert(&mut self, part: Plain) {
        self.tasks += part.args.tasks() as usize;
        self.parts.insert(part.args.first(), part);
    }

    fn remove(&mut self, first: TaskId) -> Option<Plain> {
        let part = self.parts.remove(&first)?;
        self.tasks -= part.args.tasks() as usize;
        Some(part)
    }

    /// Takes out the part that has this task: of what is in it, so many from that task on. The rest stays.
    fn take(&mut self, task: TaskId, tasks: u32) -> Option<Plain> {
        let first = self.part(task)?.args.first();
        let mut part = self.remove(first)?;
        if first < task {
            let before = part.args.cut(count(first, task));
            self.insert(Plain { args: before, ..part });
        }
        if tasks < part.args.tasks() {
            let taken = part.args.cut(tasks);
            self.insert(Plain { args: std::mem::replace(&mut part.args, taken), ..part });
        }
        Some(part)
    }

    /// How many tasks from this one on are alike: all of one part that is with the master, or none of any such.
    fn alike(&self, task: TaskId) -> (bool, u32) {
        match self.part(task) {
            Some(part) => (part.is_sent, count(task, part.args.end())),
            None => {
                let next = self.parts.range(task..).next();
                (false, next.map_or(u32::MAX, |(next, _)| count(task, *next)))
            }
        }
    }
}

/// How many tasks there are from one to another.
fn count(from: TaskId, to: TaskId) -> u32 {
    u32::try_from(to.0 - from.0).unwrap_or(u32::MAX)
}

impl Client {
    pub(super) fn on_submits(&mut self, spec: SpecIndex, args: Stretch) {
        let is_apart = self.specs.get(spec.0 as usize).is_some_and(|what| what.apart);
        if is_apart || args.tasks() == 1 {
            return args.entries().for_each(|entry| self.on_submit(entry.task, spec, false, entry.bytes));
        }
        self.waiting.push_back(self.priority(spec), args.first(), (args.tasks(), args.bytes()));
        self.plain.insert(Plain { spec, is_sent: false, args });
    }

    /// Sends as many as there is room for of those that begin with this task; false if there is none.
    pub(super) fn send_plain(&mut self, priority: i32, first: TaskId) -> bool {
        let Some(part) = self.plain.part(first) else { return false };
        let room = self.in_flight.fitting(priority, &part.args);
        if room == 0 {
            return false;
        }
        if room == 1 {
            // It is sent as any other.
            self.set_apart(first);
            return true;
        }
        let Some(part) = self.plain.take(first, room) else { return false };
        let (tasks, spec, body) = (part.args.tasks(), part.spec, part.args.body().clone());
        let size = (tasks, part.args.bytes());
        self.waiting.pop_first(size);
        self.in_flight.add(priority, size);
        self.plain.insert(Plain { is_sent: true, ..part });
        self.tell(FromClient::Submits { first, tasks, spec }, body);
        true
    }

    /// So many consecutive tasks have ended well.
    pub(super) fn on_finishes(&mut self, of: Common, first: TaskId, tasks: u32, body: Payload) {
        // One that lies says as much as there is in it.
        let whole = if self.plain.tasks() == 0 { None } else { Stretch::of_ends(first, tasks, body.clone()) };
        let Some(mut rest) = whole else { return self.on_each(of, Entries::of_ends(first, tasks, body)) };
        loop {
            let (is_plain, alike) = self.plain.alike(rest.first());
            let is_last = alike >= rest.tasks();
            let ends = if is_last { rest.clone() } else { rest.cut(alike) };
            match is_plain {
                true => self.on_ends(of, ends),
                false => self.on_each(of, ends.entries()),
            }
            if is_last {
                return;
            }
        }
    }

    fn on_each(&mut self, of: Common, ends: Entries) {
        for Entry { task, micros, bytes } in ends {
            self.on_finished(task, of.completion(micros, bytes));
        }
    }

    /// Tasks that are together have ended.
    fn on_ends(&mut self, of: Common, ends: Stretch) {
        let (first, tasks) = (ends.first(), ends.tasks());
        let Some(part) = self.plain.take(first, tasks) else { return };
        let args_bytes = part.args.bytes();
        self.in_flight.remove(self.priority(part.spec), (tasks, args_bytes));
        self.actions.push_back(Action::Completes { of, ends, args_bytes });
        self.acknowledge((first, tasks), of.attempt, Some(of.worker));
    }

    /// A task stays with the others no longer.
    pub(super) fn set_apart(&mut self, task: TaskId) {
        if let Some(part) = self.plain.take(task, 1) {
            self.set_all_apart(part);
        }
    }

    /// None of those that are so stay together.
    pub(super) fn spread(&mut self, mut which: impl FnMut(&Plain) -> bool) {
        let parts = self.plain.parts.iter().filter(|(_, part)| which(part));
        let firsts: Vec<TaskId> = parts.map(|(first, _)| *first).collect();
        for first in firsts {
            let part = self.plain.remove(first).expect("just listed");
            self.set_all_apart(part);
        }
    }

    fn set_all_apart(&mut self, Plain { spec, is_sent, args }: Plain) {
        let state = if is_sent { State::Sent } else { State::Waiting };
        for Entry { task, bytes: args, .. } in args.entries() {
            self.tasks.insert(task, Task { state, ..Task::new(spec, false, args) });
        }
    }
}
