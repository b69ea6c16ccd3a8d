//! What comes of many tasks at once. Bursts are of short tasks, of which there are many: whatever is the same for all of a
//! burst is looked up, or noted, once.

use super::{
    Action, Master, PAYLOAD_BYTES_MAX,
    clients::{Bounds, Client},
    finish::Report,
    stall,
    tasks::{State, Task},
    workers::Tasks,
};
use crate::{
    Payload,
    ids::{Attempt, ClientId, SpecIndex, TaskId, WorkerId},
    learn::LONG,
    wire::{Class, Entries, Entry, Stretch, ToClient},
};

impl Master {
    pub(super) fn on_submits(
        &mut self,
        id: ClientId,
        (first, tasks): (TaskId, u32),
        (spec, body): (SpecIndex, Payload),
    ) {
        if self.take_stretch(id, (first, tasks), (spec, &body)) {
            return;
        }
        let mut seen = 0;
        let entries = Entries::of_args(first, tasks, body).inspect(|_| seen += 1);
        let well = self.take_tasks(id, entries.map(|it| (it.task, Task::new(spec, it.bytes))));
        if well && seen < tasks {
            self.disconnect_client(id, "submitted fewer tasks than it said");
        }
    }

    /// Takes in what a client hands in; says whether it may stay.
    pub(super) fn take_tasks(
        &mut self,
        id: ClientId,
        tasks: impl IntoIterator<Item = (TaskId, Task)>,
    ) -> bool {
        self.expect_tasks(id);
        let bounds = self.bounds(id);
        let client = self.clients.get_mut(&id).expect("checked by on_client_said");
        let mut claimed = Vec::new();
        let mut wrong = None;
        for (task, entry) in tasks {
            match client.admit(task, entry, &bounds) {
                Ok(is_claimed) => claimed.extend(is_claimed.then_some(task)),
                Err(why) => {
                    wrong = Some(why);
                    break;
                }
            }
        }
        self.note_waiting(id);
        claimed.into_iter().for_each(|task| self.settle_claims(id, task));
        wrong.inspect(|why| self.disconnect_client(id, why)).is_none()
    }

    /// What a client may hand in.
    pub(super) fn bounds(&self, id: ClientId) -> Bounds {
        // A client that is back may hand in as many beside those that are here and that it will not.
        let windows = if self.clients[&id].resume.open { 4 } else { 2 };
        // One task may be beyond the window, however big.
        let bytes = 2 * self.config.window.bytes + PAYLOAD_BYTES_MAX as u64;
        Bounds { tasks: self.window_told as usize * windows, bytes }
    }

    /// A client is about to have more tasks.
    pub(super) fn expect_tasks(&mut self, id: ClientId) {
        if self.clients[&id].queued == 0 {
            self.level(id);
        }
        let now = self.now;
        let client = self.clients.get_mut(&id).expect("checked by on_client_said");
        // Nothing of it waited so far, or what did moves.
        if client.queued == 0 && client.out() == 0 && !stall::stands_still(client) {
            client.moved = now;
        }
    }

    /// Each of these tasks succeeded. Of a worker that says less than it announced, what it said counts.
    pub(super) fn on_finishes(
        &mut self,
        worker: WorkerId,
        client: ClientId,
        (first, tasks): (TaskId, u32),
        (attempt, body): (Attempt, Payload),
    ) {
        let ends = Stretch::of_ends(first, tasks, body.clone());
        let mut entries = match ends.map(|ends| self.pass_stretches(worker, client, attempt, ends)) {
            Some(None) => return,
            Some(Some(rest)) => rest.entries(),
            None => Entries::of_ends(first, tasks, body),
        };
        while let Some(Entry { task, micros, bytes: body }) =
            self.pass_plain(worker, client, attempt, &mut entries)
        {
            let class = Class::Ok;
            self.spread(client, task);
            self.on_finished(worker, Report { client, task, attempt, class, micros, output: 0, body });
        }
    }

    /// Passes results on, as [`on_finished`](Self::on_finished) does, up to the first that is not the only attempt of a
    /// task that is wanted. Gives that one.
    fn pass_plain(
        &mut self,
        from: WorkerId,
        id: ClientId,
        attempt: Attempt,
        entries: &mut Entries,
    ) -> Option<Entry> {
        let (Some(client), Some(worker)) = (self.clients.get_mut(&id), self.workers.get_mut(&from)) else {
            return entries.next();
        };
        if !client.takes_plainly() {
            return entries.next();
        }
        let before = client.usage;
        let (mut other, mut long) = (None, None);
        let (mut first, mut passed) = (TaskId(0), 0);
        for entry in entries {
            let is_plain = |task: &&Task| task.is_with(from, attempt) && task.is_plain();
            let Some(task) = client.tasks.get(entry.task).filter(is_plain) else {
                other = Some(entry);
                break;
            };
            let (charge, bytes) = (task.charge, client.bytes_of(task));
            let spec = task.spec;
            let known = &mut client.specs[spec.0 as usize];
            known.learned.learn(entry.micros);
            self.habits.add(known.habit, entry.micros, 1);
            self.habits.note_learned(known.habit, known.learned);
            long = long.or((entry.micros >= LONG).then_some(spec));
            client.take_out(entry.task);
            client.settle(charge, entry.micros);
            client.resume.note_passed(entry.task);
            worker.release(id, client.program, Tasks::one(charge, bytes), true);
            worker.record.note_ok(1);
            if passed == 0 {
                first = entry.task;
            }
            passed += 1;
            let Entry { task, micros, bytes: body } = entry;
            let (attempts, worker, class, output) = (1, Some(from), Class::Ok, 0);
            let message = ToClient::Finished { task, attempt, attempts, worker, class, micros, output };
            self.actions.push_back(Action::TellClient { client: id, message, body });
        }
        if passed > 0 {
            self.note_passed(from, id, (first, passed), before);
        }
        if let Some(spec) = long {
            self.note_long(id, spec);
        }
        other
    }

    /// The results of consecutive tasks of a client were passed on, which had used so much before.
    pub(super) fn note_passed(
        &mut self,
        from: WorkerId,
        id: ClientId,
        (first, tasks): (TaskId, u32),
        before: u64,
    ) {
        let (Some(client), Some(worker)) = (self.clients.get_mut(&id), self.workers.get_mut(&from)) else {
            return;
        };
        client.at_workers -= tasks;
        client.ends.note_done(first, tasks);
        (client.moved, worker.moved) = (self.now, self.now);
        self.note_usage(id, before);
        // Also since whatever is left may have come to a standstill.
        self.note_load(from);
    }
}

impl Client {
    /// Whether nothing is remembered that an end of its tasks might change, and it hears of ends.
    pub(super) fn takes_plainly(&self) -> bool {
        // The simulator's faults are by the other way.
        if planted!(KeepRoom) {
            return false;
        }
        if planted!(IgnoreAttempt) {
            return false;
        }
        let is_here = !self.gone && self.detached.is_none();
        let has_traces = !self.given_up.is_empty() || !self.obituaries.is_empty();
        is_here && !has_traces
    }
}

impl Task {
    /// Whether its only attempt is at a worker, is wanted, and was not said to run.
    fn is_plain(&self) -> bool {
        matches!(self.state, State::Sent { .. })
            && self.latest == Attempt(1)
            && self.ended() == 0
            && !self.started
    }
}
