//! Runs of plain tasks, kept as they came.
//!
//! Short tasks come in bursts, and nothing is to be said of one that is not true of those beside it: they are queued, sent
//! and done together. So a *stretch* of them is one entry, which is cut where it must be, and its bytes are passed on
//! as they came. As soon as something is said of one of its tasks, or something is about to walk over all tasks, it is
//! *spread*: what was a stretch is entries of the table from then on, just as if each of its tasks had come by itself.
//!
//! A stretch that waits stands in its queue under its first task.

use std::{cmp::Reverse, collections::BTreeMap, iter::once};

use super::{
    Action, Master, TASKS_END,
    clients::{Bounds, Client},
    finish::Report,
    tasks::{State, Task},
    workers::Tasks,
};
use crate::{
    Payload,
    ids::{Attempt, ClientId, SpecIndex, TaskId, WorkerId},
    wire::{Class, FromWorker, Stretch, ToClient, ToWorker},
};

/// The first attempt, and the only one that a stretch has had.
const FIRST: Attempt = Attempt(1);

/// A client's stretches, by their first tasks.
#[derive(Debug, Default)]
pub(super) struct Stretches {
    all: BTreeMap<TaskId, Kept>,
    /// Tasks in all of them.
    tasks: usize,
}

/// Consecutive tasks of one spec that wait, or were sent together and have not ended.
#[derive(Debug)]
struct Kept {
    spec: SpecIndex,
    args: Stretch,
    sent: Option<Sent>,
}

/// Where they are.
#[derive(Clone, Copy, Debug)]
struct Sent {
    worker: WorkerId,
    /// What each was charged, in microseconds.
    charge: u32,
    /// Of the arguments of all.
    bytes: u64,
}

impl Kept {
    /// Leaves so many tasks, and gives the others.
    fn split(&mut self, tasks: u32) -> Self {
        let front = self.args.cut(tasks);
        let args = std::mem::replace(&mut self.args, front);
        let (spec, mut sent) = (self.spec, self.sent);
        if let (Some(all), Some(back)) = (&mut self.sent, &mut sent) {
            back.bytes = args.args_bytes();
            all.bytes -= back.bytes;
        }
        Self { spec, args, sent }
    }

    /// One of its tasks by itself.
    fn single(&self, args: Payload) -> Task {
        let task = Task::new(self.spec, args);
        let Some(Sent { worker, charge, .. }) = self.sent else { return task };
        Task { attempt: FIRST, latest: FIRST, state: State::Sent { worker }, charge, ..task }
    }
}

impl Stretches {
    /// How many tasks there are in all.
    pub(super) fn tasks(&self) -> usize {
        self.tasks
    }

    pub(super) fn has(&self, task: TaskId) -> bool {
        self.find(task).is_some()
    }

    /// The first task of the stretch that has this one.
    fn find(&self, task: TaskId) -> Option<TaskId> {
        let (first, kept) = self.all.range(..=task).next_back()?;
        kept.args.has(task).then_some(*first)
    }

    fn insert(&mut self, kept: Kept) {
        self.tasks += kept.args.tasks() as usize;
        self.all.insert(kept.args.first(), kept);
    }

    fn remove(&mut self, first: TaskId) -> Option<Kept> {
        let kept = self.all.remove(&first)?;
        self.tasks -= kept.args.tasks() as usize;
        Some(kept)
    }

    /// Cuts a stretch in two, so that another begins with this task.
    fn cut_at(&mut self, at: TaskId) {
        let Some((first, kept)) = self.all.range_mut(..at).next_back() else { return };
        if kept.args.has(at) {
            let back = kept.split(u32::try_from(at.0 - first.0).expect("a stretch has no more"));
            self.all.insert(at, back);
        }
    }

    /// Takes out what a worker has from this task on, so many at most, and of one stretch.
    fn take_sent(&mut self, first: TaskId, most: u32, worker: WorkerId) -> Option<(Kept, Sent)> {
        let (start, kept) = self.all.range(..=first).next_back()?;
        let is_whole = *start == first && kept.args.tasks() <= most;
        let sent = kept.sent.filter(|sent| sent.worker == worker && kept.args.has(first))?;
        if is_whole {
            return Some((self.remove(first)?, sent));
        }
        self.cut_at(first);
        self.cut_at(TaskId(first.0 + u64::from(most)));
        let kept = self.remove(first)?;
        let sent = kept.sent?;
        Some((kept, sent))
    }
}

impl Client {
    /// How many tasks it has.
    pub(super) fn count(&self) -> usize {
        self.tasks.len() + self.stretches.tasks()
    }

    /// Whether it has none.
    pub(super) fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Whether a task is one of those that it has.
    pub(super) fn has(&self, task: TaskId) -> bool {
        self.tasks.contains(task) || self.stretches.has(task)
    }

    /// What it hands in, if that can be kept as it came: none of it is known, and all of it is plain.
    fn plain_args(
        &self,
        (first, tasks): (TaskId, u32),
        (spec, body): (SpecIndex, &Payload),
        bounds: &Bounds,
    ) -> Option<Stretch> {
        let what = &self.specs.get(spec.0 as usize)?.what;
        let is_plain = what.rerun && !what.apart && !self.has_once && !self.resume.open;
        if !(is_plain && first >= self.newest && self.takes_plainly()) {
            return None;
        }
        let fits = self.count() - self.cancelling + tasks as usize <= bounds.tasks
            && self.bytes + body.len() as u64 <= bounds.bytes;
        let args = Stretch::of_args(first, tasks, body.clone()).filter(|_| fits)?;
        (args.end() <= TASKS_END).then_some(args)
    }

    fn take_stretch(&mut self, spec: SpecIndex, args: Stretch) {
        self.bytes += args.args_bytes();
        self.newest = args.end();
        self.push_back(self.specs[spec.0 as usize].what.priority, args.first());
        self.queued += args.tasks() as usize - 1;
        self.stretches.insert(Kept { spec, args, sent: None });
    }

    /// The stretch that it has next, if one is next.
    fn next_stretch(&self) -> Option<&Kept> {
        self.stretches.all.get(&self.first()?)
    }

    /// So many of the first tasks that wait in a stretch are a worker's from now on; gives their arguments.
    fn send_first(&mut self, tasks: u32, worker: WorkerId, charge: u32) -> (Stretch, u64) {
        let first = self.first().expect("a stretch is next");
        let kept = self.stretches.all.get_mut(&first).expect("a stretch is next");
        let rest = (tasks < kept.args.tasks()).then(|| kept.split(tasks));
        let bytes = kept.args.args_bytes();
        kept.sent = Some(Sent { worker, charge, bytes });
        let args = kept.args.clone();
        if let Some(rest) = rest {
            let queue = self.queue.first_entry().expect("it stands in there").into_mut();
            queue[0] = rest.args.first();
            self.queued -= tasks as usize;
            self.stretches.all.insert(rest.args.first(), rest);
        } else {
            self.pop();
            self.queued -= tasks as usize - 1;
        }
        (args, bytes)
    }

    /// Notes that these tasks have ended well, with what they took.
    fn end_all(&mut self, kept: &Kept, sent: Sent, micros: impl Iterator<Item = u64>) {
        for micros in micros {
            self.specs[kept.spec.0 as usize].learned.learn(micros);
            self.settle(sent.charge, micros);
        }
        self.outstanding -= u64::from(sent.charge) * u64::from(kept.args.tasks());
        self.bytes -= sent.bytes;
    }

    /// Something is to be said of this task that may not be true of those beside it.
    fn spread(&mut self, task: TaskId) {
        let Some(kept) = self.stretches.find(task).and_then(|first| self.stretches.remove(first)) else {
            return;
        };
        if kept.sent.is_none() {
            self.spread_in_queue(&kept);
        }
        self.list_singly(&kept);
    }

    fn list_singly(&mut self, kept: &Kept) {
        for entry in kept.args.entries() {
            self.tasks.insert(entry.task, kept.single(entry.bytes));
        }
    }

    /// Has each of its tasks stand where the stretch stands.
    fn spread_in_queue(&mut self, kept: &Kept) {
        let priority = self.specs[kept.spec.0 as usize].what.priority;
        let queue = self.queue.get_mut(&Reverse(priority)).expect("it stands in there");
        let place = queue.iter().position(|first| *first == kept.args.first());
        let place = place.expect("it stands in there");
        queue.rotate_left(place);
        queue.pop_front();
        let ids = kept.args.first().0..kept.args.end().0;
        ids.rev().for_each(|task| queue.push_front(TaskId(task)));
        queue.rotate_right(place);
    }

    /// Something is about to be said of all its tasks.
    pub(super) fn spread_all(&mut self) {
        if self.stretches.all.is_empty() {
            return;
        }
        let Stretches { all, .. } = std::mem::take(&mut self.stretches);
        let ids_from = |first: &TaskId| {
            let end = all.get(first).map_or(first.0 + 1, |kept| kept.args.end().0);
            (first.0..end).map(TaskId)
        };
        for queue in self.queue.values_mut() {
            *queue = queue.iter().flat_map(ids_from).collect();
        }
        all.values().for_each(|kept| self.list_singly(kept));
    }

    /// Something is about to be said of all that a worker has.
    fn spread_at(&mut self, worker: WorkerId) {
        let there = |kept: &Kept| kept.sent.is_some_and(|sent| sent.worker == worker);
        let of_worker = self.stretches.all.iter().filter(|(_, kept)| there(kept));
        for first in of_worker.map(|(first, _)| *first).collect::<Vec<_>>() {
            self.spread(first);
        }
    }
}

/// The task of which a worker says what is not true of those beside it. Of its end, that is yet to be seen.
fn named(message: &FromWorker) -> Option<(ClientId, TaskId)> {
    match *message {
        FromWorker::Returned { client, task, .. }
        | FromWorker::Waiting { client, task, .. }
        | FromWorker::Started { client, task, .. }
        | FromWorker::Have { client, task, .. }
        | FromWorker::Progress { client, task, .. }
        | FromWorker::Output { client, task, .. } => Some((client, task)),
        FromWorker::Finished { .. }
        | FromWorker::Finishes { .. }
        | FromWorker::Recalled
        | FromWorker::Held { .. }
        | FromWorker::Leaving
        | FromWorker::Accounted { .. }
        | FromWorker::Unfit { .. }
        | FromWorker::Remark { .. } => None,
    }
}

#[cfg(any(test, feature = "sim"))]
impl Stretches {
    /// How many tasks wait.
    pub(super) fn queued(&self) -> usize {
        self.all.values().filter(|kept| kept.sent.is_none()).map(|kept| kept.args.tasks() as usize).sum()
    }

    /// How many are at a worker.
    pub(super) fn at(&self, worker: WorkerId) -> usize {
        let there = |kept: &&Kept| kept.sent.is_some_and(|sent| sent.worker == worker);
        self.all.values().filter(there).map(|kept| kept.args.tasks() as usize).sum()
    }

    /// What those at workers are charged.
    pub(super) fn charged(&self) -> u64 {
        let charged =
            |kept: &Kept| kept.sent.map_or(0, |sent| u64::from(sent.charge) * u64::from(kept.args.tasks()));
        self.all.values().map(charged).sum()
    }

    /// The bytes of all arguments.
    pub(super) fn bytes(&self) -> u64 {
        self.all.values().map(|kept| kept.args.args_bytes()).sum()
    }

    /// Whether it is all as it should be.
    pub(super) fn check(&self, client: &Client) {
        let may_be = !client.has_once && !client.gone && client.detached.is_none() && !client.resume.open;
        assert!(may_be || self.all.is_empty(), "none of a client that is not plain");
        let tasks = self.all.values().map(|kept| kept.args.tasks() as usize).sum::<usize>();
        assert_eq!(self.tasks, tasks);
        let mut end = TaskId(0);
        for (first, kept) in &self.all {
            assert!(*first == kept.args.first() && *first >= end, "each task in one stretch");
            end = kept.args.end();
            let priority = client.specs[kept.spec.0 as usize].what.priority;
            let is_queued = client.queue.get(&Reverse(priority)).is_some_and(|it| it.contains(first));
            assert_eq!(is_queued, kept.sent.is_none(), "{first}: in the queue");
            let bytes = kept.sent.map_or_else(|| kept.args.args_bytes(), |sent| sent.bytes);
            assert_eq!(bytes, kept.args.args_bytes(), "{first}: bytes");
        }
        assert!(client.tasks.sorted_keys(|_| true).into_iter().all(|task| !self.has(task)), "in one table");
        assert!(end <= client.newest);
    }
}

impl Master {
    /// Has a task stand by itself.
    pub(super) fn spread(&mut self, id: ClientId, task: TaskId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.spread(task);
        }
    }

    /// Has a task stand by itself that a worker speaks of.
    pub(super) fn spread_named(&mut self, message: &FromWorker) {
        if let Some((client, task)) = named(message) {
            self.spread(client, task);
        }
    }

    /// Has each task stand by itself that a worker has.
    pub(super) fn spread_at(&mut self, worker: WorkerId) {
        self.clients.values_mut().for_each(|client| client.spread_at(worker));
    }

    /// Takes in a burst as it came, if it is plain; says whether it is.
    pub(super) fn take_stretch(
        &mut self,
        id: ClientId,
        of: (TaskId, u32),
        (spec, body): (SpecIndex, &Payload),
    ) -> bool {
        if of.1 < self.config.stretch_tasks {
            return false;
        }
        let args = self.clients[&id].plain_args(of, (spec, body), &self.bounds(id));
        let Some(args) = args else { return false };
        self.expect_tasks(id);
        self.clients.get_mut(&id).expect("just seen").take_stretch(spec, args);
        self.note_waiting(id);
        true
    }

    /// The first task of the stretch that a client has next, if one is next, and may be sent to a worker in any part.
    pub(super) fn next_stretch(&mut self, id: ClientId, to: WorkerId) -> Option<(TaskId, SpecIndex)> {
        let client = self.clients.get_mut(&id)?;
        let Kept { spec, args, .. } = client.next_stretch()?;
        let (first, spec) = (args.first(), *spec);
        // Whether it has room for all these bytes would be another question with each task.
        if !self.workers.get(&to)?.takes_bytes(client.program, args.body().len(), &self.config) {
            client.spread(first);
            return None;
        }
        Some((first, spec))
    }

    /// Sends the first tasks of the stretch that a client has next: so many as one after the other would be sent, until
    /// they are expected to run for so long, or the worker has no room. Gives what they are charged.
    ///
    /// The worker knows what goes before the first, and the client that it is dispatched.
    pub(super) fn send_stretch(&mut self, id: ClientId, to: WorkerId, time: u64) -> u64 {
        let is_shared = self.is_shared(self.clients[&id].program);
        let client = self.clients.get_mut(&id).expect("next_stretch found it");
        let worker = self.workers.get_mut(&to).expect("next_stretch found it");
        let Kept { spec, args, .. } = client.next_stretch().expect("next_stretch found it");
        let (spec, first) = (*spec, args.first());
        let charge = client.specs[spec.0 as usize].learned.expected();
        let room = worker.room(client.program, is_shared, charge, &self.config);
        let told = client.dispatched.0.saturating_sub(first.0);
        let most = time.div_ceil(charge.into()).min(room).min(told).max(1);
        let tasks = args.tasks().min(u32::try_from(most).unwrap_or(u32::MAX));
        let (args, bytes) = client.send_first(tasks, to, charge);
        let charged = u64::from(charge) * u64::from(tasks);
        client.note_sent(self.now);
        client.at_workers += tasks;
        client.usage = client.usage.saturating_add(charged);
        client.outstanding += charged;
        worker.take_on(id, client.program, Tasks { count: tasks, charge, bytes });
        let message = ToWorker::Runs { client: id, first, tasks, attempt: FIRST, spec };
        self.actions.push_back(Action::TellWorker { worker: to, message, body: args.body().clone() });
        charged
    }

    /// Passes on results of stretches, up to the first that is not of any; gives those that are left.
    pub(super) fn pass_stretches(
        &mut self,
        worker: WorkerId,
        id: ClientId,
        attempt: Attempt,
        mut ends: Stretch,
    ) -> Option<Stretch> {
        let passed = self.note_ends(worker, id, attempt, (ends.first(), ends.tasks()), ends.micros());
        if passed == 0 {
            return Some(ends);
        }
        let is_all = passed == ends.tasks();
        let (those, rest) = if is_all { (ends, None) } else { (ends.cut(passed), Some(ends)) };
        let message =
            ToClient::Finishes { first: those.first(), tasks: passed, attempt, attempts: 1, worker };
        self.actions.push_back(Action::TellClient { client: id, message, body: those.body().clone() });
        rest
    }

    /// Passes on the result of a task that is in a stretch; gives back any other, which stands by itself then.
    pub(super) fn pass_of_stretch(&mut self, worker: WorkerId, report: Report) -> Option<Report> {
        let Report { client, task, attempt, class, micros, output, .. } = report;
        if class != Class::Ok || self.note_ends(worker, client, attempt, (task, 1), once(micros)) == 0 {
            self.spread(client, task);
            return Some(report);
        }
        let message =
            ToClient::Finished { task, attempt, attempts: 1, worker: Some(worker), class, micros, output };
        self.actions.push_back(Action::TellClient { client, message, body: report.body });
        None
    }

    /// Takes those of consecutive tasks out that are in stretches, up to the first that is not: they have ended well, and
    /// took so long. Says how many.
    fn note_ends(
        &mut self,
        from: WorkerId,
        id: ClientId,
        attempt: Attempt,
        (first, tasks): (TaskId, u32),
        mut micros: impl Iterator<Item = u64>,
    ) -> u32 {
        let (Some(client), Some(worker)) = (self.clients.get_mut(&id), self.workers.get_mut(&from)) else {
            return 0;
        };
        if attempt != FIRST || !client.takes_plainly() {
            return 0;
        }
        let before = client.usage;
        let mut passed = 0;
        while passed < tasks {
            let next = TaskId(first.0 + u64::from(passed));
            let Some((kept, sent)) = client.stretches.take_sent(next, tasks - passed, from) else { break };
            let count = kept.args.tasks();
            client.end_all(&kept, sent, micros.by_ref().take(count as usize));
            let Sent { charge, bytes, .. } = sent;
            worker.release(id, client.program, Tasks { count, charge, bytes }, true);
            worker.record.note_ok(count);
            passed += count;
        }
        if passed > 0 {
            self.note_passed(from, id, passed, before);
        }
        passed
    }
}
