//! Plain tasks that are told of together are taken in, sent and passed on together.

use std::iter::once;

use super::{
    Action, Master,
    finish::Report,
    stretches::{FIRST, Kept, Sent},
    workers::Tasks,
};
use crate::{
    Payload,
    ids::{Attempt, ClientId, SpecIndex, TaskId, WorkerId},
    learn::LONG,
    wire::{Class, FromWorker, Stretch, ToClient, ToWorker},
};

/// The task of which a worker says what is not true of those beside it. Of its end, that is yet to be seen.
fn named(message: &FromWorker) -> Option<(ClientId, TaskId)> {
    match *message {
        FromWorker::Returned { client, task, .. }
        | FromWorker::Waiting { client, task, .. }
        | FromWorker::Started { client, task, .. }
        | FromWorker::Have { client, task, .. }
        | FromWorker::Progress { client, task, .. }
        | FromWorker::Ran { client, task, .. }
        | FromWorker::Output { client, task, .. }
        | FromWorker::Asks { client, task, .. } => Some((client, task)),
        FromWorker::Finished { .. }
        | FromWorker::Finishes { .. }
        | FromWorker::Recalled
        | FromWorker::Held { .. }
        | FromWorker::Leaving
        | FromWorker::Accounted { .. }
        | FromWorker::Unfit { .. }
        | FromWorker::Ends { .. }
        | FromWorker::Remark { .. }
        | FromWorker::AsksNothing { .. }
        | FromWorker::Lasts { .. }
        | FromWorker::Idle => None,
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
        if self.clients.get(&client).is_none_or(|client| client.stretches.tasks() == 0) {
            return Some(report);
        }
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
        let (mut passed, mut long) = (0, None);
        while passed < tasks {
            let next = TaskId(first.0 + u64::from(passed));
            let Some((kept, sent)) = client.stretches.take_sent(next, tasks - passed, from) else { break };
            let count = kept.args.tasks();
            let each = client.end_all(&kept, sent, micros.by_ref().take(count as usize));
            let spec = &client.specs[kept.spec.0 as usize];
            self.habits.add(spec.habit, each, count);
            self.habits.note_learned(spec.habit, spec.learned);
            long = long.or((each >= LONG).then_some(kept.spec));
            let Sent { charge, bytes, .. } = sent;
            worker.release(id, client.program, Tasks { count, charge, bytes }, true);
            worker.record.note_ok(count);
            passed += count;
        }
        if passed > 0 {
            self.note_passed(from, id, (first, passed), before);
        }
        if let Some(spec) = long {
            self.note_long(id, spec);
        }
        passed
    }
}
