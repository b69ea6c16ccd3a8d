//! How attempts end: passed on, tried again, handed back, cancelled.

use super::{
    Master,
    clients::{Ended, KEPT_MAX},
    parked::{Parked, Wish},
    resume::Claim,
    stall::Left,
    tasks::{State, Task},
};
use crate::{
    Payload,
    ids::{Attempt, ClientId, TaskId, WorkerId},
    wire::{Class, Doing, Failure, Returned, Spec, ToClient, ToWorker},
};

/// A worker's word that an attempt has ended.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) client: ClientId,
    pub(super) task: TaskId,
    pub(super) attempt: Attempt,
    pub(super) class: Class,
    pub(super) micros: u64,
    /// So many bytes at the body's end are what it printed.
    pub(super) output: u32,
    pub(super) body: Payload,
}

/// How an attempt left its worker.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// It succeeded.
    Well,
    /// It ran, and did not succeed, or it is not known yet.
    Ran,
    /// It ran, and its outcome waits there.
    Waits,
    /// It never ran.
    NotRun,
}

/// Counts an attempt that ended badly against the task; says whether it may run again.
fn may_retry(task: &mut Task, spec: &Spec, class: Class) -> bool {
    if task.settled {
        // It was counted when it came for the first time.
        return false;
    }
    let class = if planted!(CrashIsFailure) && class == Class::Crashed { Class::Failed } else { class };
    match class {
        Class::Failed | Class::Panicked | Class::TimedOut => {
            task.failures += 1;
            task.failures <= spec.retries + u32::from(planted!(OneRetryMore)) && !task.is_last
        }
        Class::Crashed => {
            task.crashes = task.crashes.saturating_add(1);
            // From now on nothing innocent shares its executor.
            task.alone = true;
            u32::from(task.crashes) < spec.crash_limit && !task.is_last
        }
        _ => false,
    }
}

impl Master {
    pub(super) fn on_finished(&mut self, worker: WorkerId, report: Report) {
        let Report { client, task, attempt, class, micros, output, .. } = report;
        let end = if class == Class::Ok { End::Well } else { End::Ran };
        match self.take_back(worker, client, task, attempt, end) {
            Some(State::Sent { .. } | State::Held { .. }) => {}
            // Its client no longer wants it, or was sent another result of it.
            Some(State::Cancelling { .. }) => {
                self.drop_cancelled(client, task);
                if class == Class::Ok && self.is_unknown(client, task, class) && self.vouches(worker, client)
                {
                    return self.pass_unknown(worker, report);
                }
                return self.release_result(worker, client, task, attempt);
            }
            _ if self.is_unknown(client, task, class) && self.vouches(worker, client) => {
                return self.pass_unknown(worker, report);
            }
            _ if (class == Class::Ok || planted!(TakeLateFailures))
                && self.takes_late(worker, client, task, attempt) =>
            {
                return self.pass_late(worker, report);
            }
            _ if self.is_awaited_from(worker, client, task, attempt) => {
                // Its word that it has this is still on its way, or was said on another connection.
                self.adopt(client, task, Claim { worker, attempt, doing: Doing::Done, had_ended: true });
                return self.on_finished(worker, report);
            }
            _ => return self.count_late(worker, report),
        }
        if class != Class::Ok {
            self.note_bad_end(worker, client, task, class, micros);
        }
        let state = self.clients.get_mut(&client).expect("the task was just found");
        let entry = state.tasks.get_mut(task).expect("the task was just found");
        let (charged, index) = (entry.charge, entry.spec);
        if class == Class::Ok {
            state.specs[index.0 as usize].learned.learn(micros);
            self.learn_end(client, index, micros);
        }
        let state = self.clients.get_mut(&client).expect("the task was just found");
        let entry = state.tasks.get_mut(task).expect("the task was just found");
        let spec = &mut state.specs[index.0 as usize];
        if may_retry(entry, &spec.what, class) {
            let ended = if class == Class::Crashed { u32::from(entry.crashes) } else { entry.failures };
            self.requeue(client, task);
            self.settle(client, 0, micros);
            self.park(client, task, Wish::after(class, ended, self.now, worker));
            return self.release_result(worker, client, task, attempt);
        }
        let attempts = entry.ended() + u32::from(class == Class::Ok);
        let is_mended = class == Class::Ok && attempts > 1;
        let has_traces = !(state.given_up.is_empty() && state.obituaries.is_empty());
        let ended = Ended::of(entry, attempt);
        state.take_out(task);
        state.note_ended(task, ended);
        state.ends.note(task, class);
        self.settle(client, charged, micros);
        if has_traces {
            self.forget_given_up(client, task);
        }
        if is_mended {
            self.note_mended(worker, client, task);
        }
        let message =
            ToClient::Finished { task, attempt, attempts, worker: Some(worker), class, micros, output };
        self.tell_client(client, message, report.body);
    }

    /// Whether only the client knows if it wants an outcome: the task is not here, or is only here until a worker has
    /// given it up, and the result that was passed on before may not have arrived.
    fn is_unknown(&self, client: ClientId, task: TaskId, class: Class) -> bool {
        let Some(client) = self.clients.get(&client).filter(|client| !client.gone) else { return false };
        client.tasks.get(task).is_none_or(|entry| class == Class::Ok && entry.is_called_back())
    }

    fn vouches(&self, worker: WorkerId, client: ClientId) -> bool {
        self.workers.get(&worker).is_some_and(|worker| worker.vouches_for(client))
    }

    /// Passes on the outcome of a task that is not in the table, as its worker has it from before a connection was lost.
    /// A failure that came to no master yet waits for its client to hand the task in: it may be tried again.
    pub(super) fn pass_unknown(&mut self, worker: WorkerId, report: Report) {
        let Report { client, task, attempt, class, micros, output, .. } = report;
        self.update_claim(client, task, Claim { worker, attempt, doing: Doing::Done, had_ended: true });
        let Some(state) = self.clients.get_mut(&client) else { return };
        if class != Class::Ok && (state.is_overtaken(task, attempt) || state.verdicts.contains_key(&task)) {
            return self.release_result(worker, client, task, attempt);
        }
        if class != Class::Ok && state.resume.open && state.resume.restored && state.detached.is_none() {
            if let Some((worker, older)) = state.resume.keep_early(worker, report) {
                self.release_report(worker, &older);
            }
            return;
        }
        state.ends.note(task, class);
        let message =
            ToClient::Finished { task, attempt, attempts: 1, worker: Some(worker), class, micros, output };
        self.tell_client(client, message, report.body);
    }

    /// Whether a result that is not the current attempt's is as good as any: of an attempt that was given up, or of a
    /// worker that came back with it.
    fn takes_late(&self, worker: WorkerId, id: ClientId, task: TaskId, attempt: Attempt) -> bool {
        let Some(client) = self.clients.get(&id) else { return false };
        let Some(entry) = client.tasks.get(task) else { return false };
        if matches!(entry.state, State::Cancelling { .. }) {
            return false;
        }
        client.gave_up(task, worker, attempt) || self.vouches(worker, id)
    }

    /// Whether a task waits for what workers have of it, and this may be that.
    fn is_awaited_from(&self, worker: WorkerId, id: ClientId, task: TaskId, attempt: Attempt) -> bool {
        let Some(client) = self.clients.get(&id) else { return false };
        let is_awaited = matches!(client.parked.get(task), Some(Parked::Awaited));
        let may_be = !client.is_overtaken(task, attempt) && self.is_credible(id, task, attempt);
        is_awaited && may_be && self.vouches(worker, id)
    }

    /// Takes the result of an attempt that is not the current one, and calls the current one back.
    fn pass_late(&mut self, worker: WorkerId, report: Report) {
        let Report { client, task, attempt, class, micros, output, body } = report;
        let state = self.clients.get_mut(&client).expect("takes_late found it");
        state.take_up(task, worker, attempt);
        let entry = state.tasks.get(task).expect("takes_late found it");
        let (attempts, ended) = (entry.ended() + 1, Ended::of(entry, attempt));
        state.note_ended(task, ended);
        state.ends.note(task, class);
        if let Some(State::Sent { worker } | State::Held { worker }) = self.state_of(client, task) {
            self.forget_given_up(client, task);
            self.cancel_sent(client, task, worker);
        } else {
            self.drop_queued(client, task);
        }
        let message =
            ToClient::Finished { task, attempt, attempts, worker: Some(worker), class, micros, output };
        self.tell_client(client, message, body);
    }

    /// The failure of an attempt that was given up ends nothing as long as another goes on; but it is counted. A task whose
    /// attempts are all given up before they fail would otherwise be tried without end.
    fn count_late(&mut self, worker: WorkerId, report: Report) {
        let Report { client: id, task, attempt, class, micros, output, .. } = report;
        if !self.clients.get(&id).is_some_and(|client| client.gave_up(task, worker, attempt)) {
            return self.release_result(worker, id, task, attempt);
        }
        self.note_bad_end(worker, id, task, class, micros);
        let client = self.clients.get_mut(&id).expect("gave_up found it");
        client.take_up(task, worker, attempt);
        let Some(entry) = client.tasks.get_mut(task) else {
            return self.release_result(worker, id, task, attempt);
        };
        let may_go_on = may_retry(entry, &client.specs[entry.spec.0 as usize].what, class);
        if may_go_on || entry.state.worker().is_some() {
            return self.release_result(worker, id, task, attempt);
        }
        let (attempts, ended) = (entry.ended(), Ended::of(entry, attempt));
        client.note_ended(task, ended);
        client.ends.note(task, class);
        self.drop_queued(id, task);
        let message =
            ToClient::Finished { task, attempt, attempts, worker: Some(worker), class, micros, output };
        self.tell_client(id, message, report.body);
    }

    /// Lets a worker forget what it has reported.
    pub(super) fn release_report(&mut self, worker: WorkerId, report: &Report) {
        self.release_result(worker, report.client, report.task, report.attempt);
    }

    /// Lets a worker forget a result that its client does not get.
    fn release_result(&mut self, worker: WorkerId, client: ClientId, task: TaskId, attempt: Attempt) {
        // It is not there any more for whoever hands the task in again.
        self.drop_claim(worker, client, task, attempt);
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
        if matches!(why, Returned::Leaving | Returned::Killed)
            && let Some(state) = self.workers.get_mut(&worker)
        {
            state.leaving = true;
            self.note_load(worker);
        }
        let entry = self.clients.get(&client).and_then(|client| client.tasks.get(task));
        if why == Returned::NoTime && entry.is_some_and(|entry| entry.is_with(worker, attempt)) {
            self.note_declined(worker, client, task);
        }
        if let Some(state) = self.workers.get_mut(&worker) {
            state.note_returned();
            state.allotment.gave |= why == Returned::Recalled && state.exclusive.is_none();
        }
        let ran = matches!(why, Returned::Suspect | Returned::Cancelled | Returned::Killed);
        let end = if ran { End::Ran } else { End::NotRun };
        match self.take_back(worker, client, task, attempt, end) {
            Some(State::Sent { .. } | State::Held { .. }) => {
                let entry = self.clients.get_mut(&client).and_then(|client| client.tasks.get_mut(task));
                entry.expect("take_back found it").alone |= why == Returned::Suspect;
                if planted!(DropReturned) {
                    let dropped = self.clients.get_mut(&client).and_then(|client| client.take_out(task));
                    return drop(dropped);
                }
                self.requeue(client, task);
                // It began, and must not begin twice.
                if ran && self.needs_free_slot(client, task) {
                    let name = self.workers.get(&worker).map(|worker| worker.name.clone());
                    self.bury(client, task, &name.unwrap_or_default());
                }
            }
            Some(State::Cancelling { .. }) => self.drop_cancelled(client, task),
            _ => {
                self.drop_claim(worker, client, task, attempt);
                if let Some(state) = self.clients.get_mut(&client) {
                    state.take_up(task, worker, attempt);
                }
            }
        }
    }

    /// The state of the very attempt that a worker speaks of, with the worker relieved of it.
    /// `None` if what it speaks of is not, or no longer, its business.
    fn take_back(
        &mut self,
        worker_id: WorkerId,
        client: ClientId,
        task: TaskId,
        attempt: Attempt,
        end: End,
    ) -> Option<State> {
        let now = self.now;
        let owner = self.clients.get_mut(&client)?;
        let task = owner.tasks.get(task)?;
        if (task.attempt != attempt && !planted!(IgnoreAttempt)) || task.state.worker() != Some(worker_id) {
            return None;
        }
        let (state, charge, bytes, started) = (task.state, task.charge, owner.bytes_of(task), task.started);
        // Nobody waits for what was called back, and that a result waits may be said again.
        let is_wanted = !matches!(state, State::Cancelling { .. });
        if is_wanted && end != End::NotRun && (state.takes_room() || end != End::Waits) {
            owner.moved = now;
        }
        // Whatever is left may have come to a standstill.
        self.unplaced = true;
        if state.takes_room() && !planted!(KeepRoom) {
            self.relieve(worker_id, client, Left { charge, bytes, ran: end != End::NotRun, started });
            let worker = self.workers.get_mut(&worker_id)?;
            if end == End::Well {
                worker.record.note_ok(1);
            }
            worker.moved = now;
            self.note_load(worker_id);
        }
        Some(state)
    }

    /// An attempt has ended and its result waits for credit: its slot is free, and it is not done.
    pub(super) fn on_waiting(&mut self, worker: WorkerId, client: ClientId, task: TaskId, attempt: Attempt) {
        if !self.take_back(worker, client, task, attempt, End::Waits).is_some_and(State::takes_room) {
            return self.update_claim(
                client,
                task,
                Claim { worker, attempt, doing: Doing::Done, had_ended: true },
            );
        }
        let state = self.clients.get_mut(&client).expect("take_back found it");
        let entry = state.tasks.get_mut(task).expect("take_back found it");
        entry.started = false;
        let is_wanted = !entry.is_called_back();
        state.turn(
            task,
            if is_wanted { State::Held { worker } } else { State::Cancelling { worker, held: true } },
        );
    }

    fn drop_cancelled(&mut self, client: ClientId, task: TaskId) {
        self.requeue(client, task);
        self.forget_if_done(client);
    }

    /// Drops a task that waits. Its client has its answer, or gets it now.
    pub(super) fn drop_queued(&mut self, id: ClientId, task: TaskId) {
        self.end_task(id, task);
    }

    /// Takes a task that waits, or is with no worker any more, out for good.
    pub(super) fn end_task(&mut self, id: ClientId, task: TaskId) -> Option<Task> {
        self.unplaced = true;
        self.unlist(id, task);
        self.forget_given_up(id, task);
        self.clients.get_mut(&id)?.take_out(task)
    }

    /// Asks a worker to give a task up. The client does not wait for that: it has its answer.
    pub(super) fn cancel_sent(&mut self, id: ClientId, task_id: TaskId, worker: WorkerId) {
        self.forget_given_up(id, task_id);
        let client = self.clients.get_mut(&id).expect("the caller looked it up");
        let task = client.tasks.get_mut(task_id).expect("the caller looked it up");
        let was_running = std::mem::take(&mut task.started);
        let (attempt, held) = (task.attempt, !task.state.takes_room());
        client.turn(task_id, State::Cancelling { worker, held });
        if was_running {
            self.drop_running(worker, id);
        }
        self.tell_worker(worker, ToWorker::Cancel { client: id, task: task_id, attempt });
    }

    /// Ends a task that was killed with its worker and must not run again.
    pub(super) fn bury(&mut self, id: ClientId, task: TaskId, name: &str) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.obituaries.entry(task).or_default().push((None, format!("{name}: it was stopped")));
        self.end_as_lost(id, task);
    }

    /// Tells a client that a task ended by the master's own decision. No worker keeps that, so it is kept here: the client
    /// may be away.
    pub(super) fn end_here(&mut self, client: ClientId, task: TaskId, attempts: u32, failure: &Failure) {
        let (class, attempt) = (failure.class(), Attempt(0));
        if let Some(client) = self.clients.get_mut(&client) {
            client.ends.note(task, class);
            if self.config.liveness && client.verdicts.len() < KEPT_MAX {
                client.verdicts.insert(task, (attempts, failure.clone()));
            }
        }
        let message =
            ToClient::Finished { task, attempt, attempts, worker: None, class, micros: 0, output: 0 };
        self.tell_client(client, message, failure.encode());
    }
}
