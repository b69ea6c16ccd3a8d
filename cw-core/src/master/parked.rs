//! Tasks with a wish of their own: not before a certain time, not where they failed, alone on a worker; and those that
//! workers of a former connection may have.
//!
//! They are few, and are kept out of the queue, so that whoever has no wish is placed without a thought.
//!
//! A task that is to be *alone* may have been what ended its worker. It gets a worker that runs nothing else: one that
//! is idle, or else one that is sent nothing until it is. At most half of a program's workers are kept so at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Master,
    tasks::{State, Task},
};
use crate::{
    Time,
    ids::{ClientId, ProgramId, SpecIndex, TaskId, WorkerId},
    wire::{Class, ToWorker},
};

/// The pause before the first retry; each further one is twice as long.
const BACKOFF: Duration = Duration::from_millis(100);

/// The longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// How long a task waits for a worker other than the one where it failed.
const ELSEWHERE: Duration = Duration::from_secs(1);

/// The same after a crash, which is to be followed by another attempt at once.
const ELSEWHERE_CRASHED: Duration = Duration::from_millis(100);

/// Tasks of a client with wishes that are looked at in one pass.
const LOOKED_AT: usize = 64;

/// Why a task is not in its queue.
#[derive(Clone, Copy, Debug)]
pub(super) enum Parked {
    /// A worker may have it, which is about to say so.
    Awaited,
    /// It wants to be placed with care.
    Wishes(Wish),
    /// No worker with room has time for it (`ending`); it is of this spec.
    NoTime(SpecIndex),
}

impl Parked {
    /// As how many of those it counts that a worker may have, and that are to be alone.
    fn counts(self) -> (usize, usize) {
        match self {
            Self::Awaited => (1, 0),
            Self::Wishes(wish) => (0, usize::from(wish.alone)),
            Self::NoTime(_) => (0, 0),
        }
    }
}

/// A client's parked tasks.
#[derive(Debug, Default)]
pub(super) struct ParkedTasks {
    tasks: BTreeMap<TaskId, Parked>,
    /// Those of them that a worker may have, and those that are to be alone.
    awaited: usize,
    alone: usize,
    /// Those for which no worker has time.
    untimely: BTreeMap<SpecIndex, BTreeSet<TaskId>>,
}

impl ParkedTasks {
    pub(super) fn insert(&mut self, task: TaskId, why: Parked) {
        self.remove(task);
        let (awaited, alone) = why.counts();
        (self.awaited, self.alone) = (self.awaited + awaited, self.alone + alone);
        if let Parked::NoTime(spec) = why {
            self.untimely.entry(spec).or_default().insert(task);
        }
        self.tasks.insert(task, why);
    }

    pub(super) fn remove(&mut self, task: TaskId) {
        let Some(why) = self.tasks.remove(&task) else { return };
        let (awaited, alone) = why.counts();
        (self.awaited, self.alone) = (self.awaited - awaited, self.alone - alone);
        if let Parked::NoTime(spec) = why
            && let Some(tasks) = self.untimely.get_mut(&spec)
        {
            tasks.remove(&task);
            if tasks.is_empty() {
                self.untimely.remove(&spec);
            }
        }
    }

    /// Whether any is there for which no worker has time.
    pub(super) fn any_untimely(&self) -> bool {
        !self.untimely.is_empty()
    }

    /// The specs of those.
    pub(super) fn untimely(&self) -> impl Iterator<Item = SpecIndex> {
        self.untimely.keys().copied()
    }

    /// Those of one spec, in order.
    pub(super) fn untimely_of(&self, spec: SpecIndex) -> impl Iterator<Item = TaskId> {
        self.untimely.get(&spec).into_iter().flatten().copied()
    }

    /// The first of those of one spec from a task on.
    pub(super) fn untimely_from(&self, spec: SpecIndex, task: TaskId) -> Option<TaskId> {
        self.untimely.get(&spec)?.range(task..).next().copied()
    }

    pub(super) fn get(&self, task: TaskId) -> Option<Parked> {
        self.tasks.get(&task).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = TaskId> {
        self.tasks.keys().copied()
    }

    /// Whether any waits for more than that its pause is over.
    pub(super) fn any_waits(&self) -> bool {
        self.awaited + self.alone > 0 || self.any_untimely()
    }

    pub(super) fn any_awaited(&self) -> bool {
        self.awaited > 0
    }

    /// How many are to be alone on a worker.
    pub(super) fn alone(&self) -> usize {
        self.alone
    }

    /// Those that a worker may have. Walks all, if there are any.
    pub(super) fn awaited(&self) -> impl DoubleEndedIterator<Item = TaskId> {
        let is_awaited = |(_, why): &(&TaskId, &Parked)| matches!(why, Parked::Awaited);
        let tasks = self.any_awaited().then_some(&self.tasks);
        tasks.into_iter().flatten().filter(is_awaited).map(|(task, _)| *task)
    }
}

#[cfg(any(test, feature = "sim"))]
impl ParkedTasks {
    /// Whether what is kept twice agrees.
    pub(super) fn are_whole(&self) -> bool {
        let untimely = |(task, why): (&TaskId, &Parked)| match why {
            Parked::NoTime(spec) => self.untimely.get(spec).is_some_and(|tasks| tasks.contains(task)),
            _ => true,
        };
        let of = |why: &&Parked| matches!(why, Parked::NoTime(_));
        let count = self.untimely.values().map(BTreeSet::len).sum::<usize>();
        self.tasks.iter().all(untimely) && self.tasks.values().filter(of).count() == count
    }
}

/// How a task wants to be placed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    /// Not before then.
    pub(super) not_before: Time,
    /// Not on this worker, until then.
    pub(super) avoid: Option<(WorkerId, Time)>,
    /// On a worker that runs nothing else.
    pub(super) alone: bool,
}

impl Wish {
    /// What a task wants after an attempt of it has ended badly there, its how-manieth.
    pub(super) fn after(class: Class, ended: u32, now: Time, worker: WorkerId) -> Self {
        let crashed = class == Class::Crashed;
        let doubled = if crashed { ended.saturating_sub(1).min(8) } else { ended.min(16) };
        let pause = match doubled {
            0 => Duration::ZERO,
            n => (BACKOFF * 2u32.pow(n - 1)).min(BACKOFF_MAX),
        };
        let not_before = now + pause;
        let patience = if crashed { ELSEWHERE_CRASHED } else { ELSEWHERE };
        Self { not_before, avoid: Some((worker, not_before + patience)), alone: false }
    }
}

impl Master {
    /// Takes a queued task out of its queue, to be placed as it wishes.
    pub(super) fn park(&mut self, id: ClientId, task: TaskId, wish: Wish) {
        if self.state_of(id, task) != Some(State::Queued) {
            return;
        }
        self.unqueue(id, task);
        let client = self.clients.get_mut(&id).expect("state_of found it");
        client.tasks.get_mut(task).expect("state_of found it").state = State::Parked;
        client.parked.insert(task, Parked::Wishes(wish));
        self.settle_wish(id, task);
    }

    /// Takes a task off its queue, which keeps its entry in the table.
    pub(super) fn unqueue(&mut self, id: ClientId, task: TaskId) {
        let client = self.clients.get_mut(&id).expect("the caller looked it up");
        let Some(entry) = client.tasks.get(task) else { return };
        let priority = client.spec_of(entry).what.priority;
        client.unqueue(priority, task);
        if client.queued == 0 {
            self.waiting.remove(&(client.usage, id));
        }
    }

    /// Takes a task off whatever list it waits on, queue or not.
    pub(super) fn unlist(&mut self, id: ClientId, task: TaskId) {
        match self.state_of(id, task) {
            Some(State::Queued) => self.unqueue(id, task),
            Some(State::Parked) => {
                self.clients.get_mut(&id).expect("state_of found it").parked.remove(task);
                self.wishful.remove(&(id, task));
            }
            _ => {}
        }
    }

    /// Puts a parked task where its wish belongs now: on a timer, among those that are placed with care, or, if it has
    /// no wish left, into its queue.
    fn settle_wish(&mut self, id: ClientId, task: TaskId) {
        let Some(client) = self.clients.get(&id) else { return };
        let Some(Parked::Wishes(wish)) = client.parked.get(task) else { return };
        let program = client.program;
        if self.now < wish.not_before {
            self.wakes.insert((wish.not_before, id, task));
            return;
        }
        self.unplaced = true;
        // It may be long since anything of its client's moved.
        self.stalls_at = Time::ZERO;
        let avoids =
            wish.avoid.filter(|(worker, until)| self.now < *until && self.has_other(program, *worker));
        if wish.alone {
            self.wishful.insert((id, task));
        } else if let Some((_, until)) = avoids {
            self.wishful.insert((id, task));
            self.wakes.insert((until, id, task));
        } else {
            self.unpark(id, task);
        }
    }

    /// Whether another worker than this one takes the program's tasks.
    pub(super) fn has_other(&self, program: ProgramId, than: WorkerId) -> bool {
        self.workers.iter().any(|(id, worker)| *id != than && worker.serves(program) && worker.is_well())
    }

    /// Puts a parked task into its queue, first; but in its place if it must not run twice and was laid aside.
    pub(super) fn unpark(&mut self, id: ClientId, task: TaskId) {
        let why = self.clients.get(&id).and_then(|client| client.parked.get(task));
        let is_ordered = matches!(why, Some(Parked::NoTime(_))) && self.needs_free_slot(id, task);
        self.unlist(id, task);
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Some(entry) = client.tasks.get_mut(task) else { return };
        entry.state = State::Queued;
        let priority = client.specs[entry.spec.0 as usize].what.priority;
        if client.queued == 0 {
            self.level(id);
        }
        let client = self.clients.get_mut(&id).expect("just seen");
        match is_ordered {
            true => client.push_ordered(priority, task),
            false => client.push_front(priority, task),
        }
        self.note_waiting(id);
    }

    /// Looks again at tasks whose time has come.
    pub(super) fn wake_parked(&mut self) {
        while let Some(&(due, id, task)) = self.wakes.first()
            && due <= self.now
        {
            self.wakes.pop_first();
            self.settle_wish(id, task);
        }
    }

    pub(super) fn next_wake(&self) -> Option<Time> {
        self.wakes.first().map(|(due, ..)| *due)
    }

    /// Places what has wishes: first what a worker is kept for, then the first tasks of each client.
    pub(super) fn place_wishful(&mut self) {
        self.free_exclusive();
        let kept = self.exclusives.iter().filter_map(|worker| self.workers[worker].exclusive);
        let mut looked_at: Vec<(ClientId, TaskId)> = kept.collect();
        for id in self.clients.keys() {
            let of_client = self.wishful.range((*id, TaskId(0))..=(*id, TaskId(u64::MAX)));
            looked_at.extend(of_client.take(LOOKED_AT));
        }
        looked_at.into_iter().for_each(|(id, task)| self.place_one(id, task));
    }

    fn place_one(&mut self, id: ClientId, task: TaskId) {
        let wish = self.clients.get(&id).and_then(|client| client.parked.get(task));
        match wish {
            Some(Parked::Wishes(Wish { alone: true, .. })) => self.place_alone(id, task),
            Some(Parked::Wishes(Wish { avoid: Some((worker, _)), .. })) => {
                self.place_elsewhere(id, task, worker);
            }
            _ => drop(self.wishful.remove(&(id, task))),
        }
    }

    fn place_elsewhere(&mut self, id: ClientId, task: TaskId, avoid: WorkerId) {
        let client = &self.clients[&id];
        let Some(room) = self.room.get(&client.program) else { return };
        let (needs_slot, need) = (self.needs_free_slot(id, task), self.task_need(id, task));
        let fits = |worker: &WorkerId| {
            *worker != avoid
                && !client.held_by.contains(worker)
                && self.has_time(*worker, need)
                && (!needs_slot || self.workers[worker].free_slots() > 0)
        };
        if let Some(worker) = room.iter().map(|(_, worker)| *worker).find(fits) {
            self.send_parked(id, task, worker);
        }
    }

    fn place_alone(&mut self, id: ClientId, task: TaskId) {
        let kept = self.exclusives.iter().find(|worker| self.workers[worker].exclusive == Some((id, task)));
        let Some(worker) = kept.copied().or_else(|| self.keep_free(id, task)) else { return };
        if self.workers[&worker].sent == 0 && self.has_time(worker, self.task_need(id, task)) {
            self.send_parked(id, task, worker);
        }
    }

    /// Keeps a worker free for a task: an idle one, or the least loaded.
    fn keep_free(&mut self, id: ClientId, task: TaskId) -> Option<WorkerId> {
        let (client, need) = (&self.clients[&id], self.task_need(id, task));
        let of_program =
            |(_, worker): &(&WorkerId, &super::Worker)| worker.serves(client.program) && worker.is_well();
        let fit: Vec<_> = self.workers.iter().filter(of_program).collect();
        let kept = fit.iter().filter(|(_, worker)| worker.exclusive.is_some()).count();
        if kept >= (fit.len() / 2).max(1) {
            return None;
        }
        let free = fit
            .iter()
            .filter(|(worker_id, worker)| worker.exclusive.is_none() && !client.held_by.contains(worker_id))
            .filter(|(worker_id, _)| self.has_time(**worker_id, need));
        let worker_id = *free.min_by_key(|(worker_id, worker)| (worker.load(), **worker_id))?.0;
        self.exclusives.insert(worker_id);
        let worker = self.workers.get_mut(&worker_id).expect("just found");
        let may_be_asked = worker.may_be_asked();
        worker.exclusive = Some((id, task));
        let tasks = worker.ahead();
        if may_be_asked {
            worker.recalling = true;
            self.tell_worker(worker_id, ToWorker::Recall { tasks });
        }
        self.note_room(worker_id);
        Some(worker_id)
    }

    /// Gives workers back to all whose lone task has ended, or is not there any more.
    fn free_exclusive(&mut self) {
        for id in self.exclusives.iter().copied().collect::<Vec<_>>() {
            let worker = self.workers.get(&id);
            let task = worker.filter(|worker| worker.is_well()).and_then(|worker| worker.exclusive);
            let state = task.and_then(|(client, task)| self.state_of(client, task));
            // Where results of its client have piled up meanwhile, or its program cannot be run, it would come back at once.
            let client = task.and_then(|(client, _)| self.clients.get(&client));
            let serves = |program| worker.is_some_and(|worker| worker.serves(program));
            let is_held =
                client.is_some_and(|client| client.held_by.contains(&id) || !serves(client.program));
            let has_time =
                || task.is_some_and(|(client, task)| self.has_time(id, self.task_need(client, task)));
            let is_used = match state {
                Some(State::Parked) => !is_held && has_time(),
                Some(state) => state.worker() == Some(id) && state.takes_room(),
                None => false,
            };
            if !is_used && !planted!(KeepExclusive) {
                self.exclusives.remove(&id);
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.exclusive = None;
                    self.note_room(id);
                }
            }
        }
    }

    fn send_parked(&mut self, id: ClientId, task: TaskId, to: WorkerId) {
        self.unlist(id, task);
        self.note_served(id);
        let before = self.clients[&id].usage;
        self.send_task(id, task, to);
        self.waiting.remove(&(before, id));
        self.note_waiting(id);
        self.note_room(to);
    }

    /// Whether a task may only be sent where it begins at once: one that must not run twice is either not sent, or runs.
    pub(super) fn needs_free_slot(&self, id: ClientId, task: TaskId) -> bool {
        let client = &self.clients[&id];
        client.has_once && client.tasks.get(task).is_some_and(|task: &Task| !client.spec_of(task).what.rerun)
    }
}
