//! How attempts end: passed on, tried again, handed back, cancelled.

use bytes::Bytes;

use super::{
    Master,
    tasks::{State, Task},
};
use crate::{
    ids::{Attempt, ClientId, TaskId, WorkerId},
    wire::{Class, Failure, Returned, Spec, ToClient, ToWorker},
};

/// A worker's word that an attempt has ended.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) client: ClientId,
    pub(super) task: TaskId,
    pub(super) attempt: Attempt,
    pub(super) class: Class,
    pub(super) micros: u64,
    pub(super) body: Bytes,
}

/// Counts an attempt that ended badly against the task; says whether it may run again.
fn may_retry(task: &mut Task, spec: &Spec, class: Class) -> bool {
    match class {
        Class::Failed | Class::Panicked | Class::TimedOut => {
            task.failures += 1;
            task.failures <= spec.retries
        }
        Class::Crashed => {
            task.crashes += 1;
            // From now on nothing innocent shares its executor.
            task.alone = true;
            task.crashes < spec.crash_limit
        }
        _ => false,
    }
}

impl Master {
    pub(super) fn on_finished(&mut self, worker: WorkerId, report: Report) {
        let Report { client, task, attempt, class, micros, .. } = report;
        match self.take_back(worker, client, task, attempt, true) {
            Some(State::Sent { .. } | State::Held { .. }) => {}
            // Its client no longer wants it: the worker may forget it.
            Some(State::Cancelling { .. }) => {
                self.drop_cancelled(client, task);
                return self.release_result(worker, client, task, attempt);
            }
            _ if class == Class::Ok && self.unqueue_for_result(client, task, attempt) => {}
            _ => return self.release_result(worker, client, task, attempt),
        }
        let state = self.clients.get_mut(&client).expect("the task was just found");
        let entry = state.tasks.get_mut(task).expect("the task was just found");
        let charged = entry.charge;
        let spec = &mut state.specs[entry.spec.0 as usize];
        if class == Class::Ok {
            spec.learned.learn(micros);
        }
        if may_retry(entry, &spec.what, class) {
            self.requeue(client, task);
            self.settle(client, 0, micros);
            return self.release_result(worker, client, task, attempt);
        }
        let attempts = entry.ended() + u32::from(class == Class::Ok);
        state.take_out(task);
        self.settle(client, charged, micros);
        let message = ToClient::Finished { task, attempt, attempts, worker: Some(worker), class, micros };
        self.tell_client(client, message, report.body);
    }

    /// Lets a worker forget a result that its client does not get.
    fn release_result(&mut self, worker: WorkerId, client: ClientId, task: TaskId, attempt: Attempt) {
        self.tell_worker(worker, ToWorker::Received { client, first: task, tasks: 1, attempt });
    }

    pub(super) fn on_returned(
        &mut self,
        worker: WorkerId,
        client: ClientId,
        task: TaskId,
        attempt: Attempt,
        why: Returned,
    ) {
        if why == Returned::Leaving
            && let Some(state) = self.workers.get_mut(&worker)
        {
            state.leaving = true;
            self.note_load(worker);
        }
        if let Some(state) = self.workers.get_mut(&worker) {
            state.note_returned();
        }
        let ran = matches!(why, Returned::Suspect | Returned::Cancelled);
        match self.take_back(worker, client, task, attempt, ran) {
            Some(State::Sent { .. } | State::Held { .. }) => {
                let entry = self.clients.get_mut(&client).and_then(|client| client.tasks.get_mut(task));
                entry.expect("take_back found it").alone |= why == Returned::Suspect;
                self.requeue(client, task);
            }
            Some(State::Cancelling { .. }) => self.drop_cancelled(client, task),
            _ => {}
        }
    }

    /// The state of the very attempt that a worker speaks of, with the worker relieved of it, which `ran` or not.
    /// `None` if what it speaks of is not, or no longer, its business.
    fn take_back(
        &mut self,
        worker_id: WorkerId,
        client: ClientId,
        task: TaskId,
        attempt: Attempt,
        ran: bool,
    ) -> Option<State> {
        let task = self.clients.get(&client)?.tasks.get(task)?;
        if task.attempt != attempt || task.state.worker() != Some(worker_id) {
            return None;
        }
        let (state, charge, bytes) = (task.state, task.charge, task.args.len());
        if state.takes_room() {
            let now = self.now;
            let worker = self.workers.get_mut(&worker_id)?;
            worker.release(client, charge, bytes, ran);
            worker.moved = now;
            self.note_load(worker_id);
        }
        Some(state)
    }

    /// An attempt has ended and its result waits for credit: its slot is free, and it is not done.
    pub(super) fn on_waiting(&mut self, worker: WorkerId, client: ClientId, task: TaskId, attempt: Attempt) {
        if !self.take_back(worker, client, task, attempt, true).is_some_and(State::takes_room) {
            return;
        }
        let entry = self.clients.get_mut(&client).and_then(|client| client.tasks.get_mut(task));
        let state = &mut entry.expect("take_back found it").state;
        *state = match *state {
            State::Cancelling { .. } => State::Cancelling { worker, held: true },
            _ => State::Held { worker },
        };
    }

    /// A result of an attempt that was given up came after all, and the task waits for another: the result is
    /// as good as any. Takes the task out of its queue; says whether it was there.
    fn unqueue_for_result(&mut self, id: ClientId, task_id: TaskId, attempt: Attempt) -> bool {
        if self.state_of(id, task_id) != Some(State::Queued) {
            return false;
        }
        let client = self.clients.get_mut(&id).expect("state_of found it");
        let task = client.tasks.get(task_id).expect("state_of found it");
        if attempt == Attempt(0) || attempt > task.attempt {
            return false;
        }
        let priority = client.spec_of(task).what.priority;
        client.unqueue(priority, task_id);
        if client.queued == 0 {
            self.waiting.remove(&(client.usage, id));
        }
        true
    }

    fn drop_cancelled(&mut self, client: ClientId, task: TaskId) {
        self.requeue(client, task);
        self.forget_if_done(client);
    }

    /// Drops a task that no worker has seen. Its client has its answer: it was the client that gave it up.
    pub(super) fn drop_queued(&mut self, id: ClientId, task_id: TaskId) {
        let client = self.clients.get_mut(&id).expect("the caller looked it up");
        let Some(task) = client.take_out(task_id) else { return };
        let priority = client.spec_of(&task).what.priority;
        client.unqueue(priority, task_id);
        if client.queued == 0 {
            self.waiting.remove(&(client.usage, id));
        }
    }

    /// Asks a worker to give a task up. The client does not wait for that: it has its answer.
    pub(super) fn cancel_sent(&mut self, id: ClientId, task_id: TaskId, worker: WorkerId) {
        let task = self.clients.get_mut(&id).and_then(|client| client.tasks.get_mut(task_id));
        let task = task.expect("the caller looked it up");
        task.state = State::Cancelling { worker, held: !task.state.takes_room() };
        let attempt = task.attempt;
        self.clients.get_mut(&id).expect("just seen").cancelling += 1;
        self.tell_worker(worker, ToWorker::Cancel { client: id, task: task_id, attempt });
    }

    /// Tells a client that a task ended by the master's own decision; no worker keeps a result.
    pub(super) fn end_here(&mut self, client: ClientId, task: TaskId, attempts: u32, failure: &Failure) {
        let (class, attempt) = (failure.class(), Attempt(0));
        let message = ToClient::Finished { task, attempt, attempts, worker: None, class, micros: 0 };
        self.tell_client(client, message, failure.encode());
    }
}
