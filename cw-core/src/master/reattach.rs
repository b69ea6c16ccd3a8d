//! Peers that come back: workers say what they have, clients hand in again what has no result, and the two are matched.
//!
//! ```text
//!            Resubmit                 Have                        Finished
//!   (none) ----------> Awaited ---------------> Sent or Held ----------------> (none)
//!                         |        all workers have said what they have,
//!                         +------- or were waited for long enough ------> Queued
//! ```
//!
//! What a worker says before the client is back is kept as its *claim*. Once the client has handed in all, what is left
//! of the claims is not wanted and is called back. A result of a task that the master does not know is passed on to its
//! client, which acknowledges it in any case: only the client knows whether it has it. That holds for the word of
//! workers that came back, or were asked, only. A task that is being called back is as unknown: another result of it was
//! passed on, which may not have arrived.
//!
//! A client may hand in what it has no arguments of (`Claim`): that ends as lost where it would be queued.
//!
//! After a restart the master waits for the workers of its predecessor, which its roster names.

use std::collections::BTreeSet;

use super::{
    Master,
    clients::{Charge, Client, GivenUp, Stalling},
    parked::Parked,
    resume::{CLAIMS_MAX, Claim, Resume},
    stall::Left,
    tasks::{State, Task},
    workers::Tasks,
};
use crate::{
    Payload, Time, gathered,
    ids::{Attempt, ClientId, ProgramId, TaskId, WorkerId},
    wire::{Doing, ToClient, ToWorker},
};

/// No task is tried more often in earnest.
const ATTEMPT_MAX: Attempt = Attempt(u32::MAX / 2);

impl Master {
    /// The clients of the master before, which may come back; workers may have their tasks.
    pub(super) fn expect_clients(&mut self) {
        for member in self.config.roster.clone() {
            if member.is_worker {
                self.missing.insert(WorkerId(member.id));
            } else {
                let mut client = Client::new(ProgramId::default());
                client.detached = Some(self.now);
                client.resume = Resume { open: true, restored: true, ..Resume::default() };
                self.clients.insert(ClientId(member.id), client);
                self.away.insert(ClientId(member.id));
                self.open_program(ProgramId::default());
            }
        }
    }

    /// A client is back: it hands in again what has no result, and the workers that know it are asked.
    pub(super) fn on_client_back(&mut self, id: ClientId, program: ProgramId) {
        self.note_window();
        let Some(client) = self.clients.get_mut(&id) else { return };
        // The master before had not told whose client it is.
        if client.program != program && client.program != ProgramId::default() {
            return self.disconnect_client(id, "came back as another program");
        }
        let former = std::mem::replace(&mut client.program, program);
        self.change_program(id, former, program);
        self.forgive(program);
        let client = self.clients.get_mut(&id).expect("just seen");
        client.spread_all();
        client.detached = None;
        self.away.remove(&id);
        self.watching.remove(&id);
        client.trimmed = false;
        client.lore.clear();
        client.watch = Default::default();
        client.prints = Default::default();
        client.stall = Default::default();
        client.moved = self.now;
        let knows = self.workers.iter().filter(|(_, worker)| worker.knows(id) || worker.vouches_for(id));
        let asked: BTreeSet<WorkerId> = gathered(knows.map(|(worker, _)| *worker));
        client.resume.open = true;
        // Whoever said so before is asked again. Of the master before, that is the only word on what its client may not
        // know to have been sent out.
        if !client.resume.restored {
            client.resume.unclaimed.clear();
        }
        client.resume.seen.clear();
        client.resume.cancelled.clear();
        (client.resume.arrived, client.resume.announced) = (0, None);
        client.resume.passed.clear();
        client.resume.take_all_early();
        // Whoever is asked answers, or is lost by then.
        client.resume.until = self.now + self.config.recover_for + self.config.lost_after;
        client.resume.awaited = gathered(self.missing.union(&asked).copied());
        self.resuming.insert(id);
        self.tell_dispatched_again(id);
        for worker in asked {
            self.ask_for(worker, id);
        }
        self.renew_questions(id);
        self.unplaced = true;
    }

    fn ask_for(&mut self, worker_id: WorkerId, id: ClientId) {
        let bytes = self.config.credit(self.workers.len());
        let Some(worker) = self.workers.get_mut(&worker_id) else { return };
        worker.meet(id);
        worker.vouched.insert(id);
        if worker.connected
            && let Some(client) = self.clients.get_mut(&id)
        {
            *client.resume.asked.entry(worker_id).or_default() += 1;
        }
        self.tell_worker(worker_id, ToWorker::Account { client: id });
        self.tell_worker(worker_id, ToWorker::Credit { client: id, bytes });
    }

    pub(super) fn on_resubmit(&mut self, id: ClientId, task: TaskId, mut entry: Task) {
        let client = self.clients.get_mut(&id).expect("checked by on_client_said");
        if client.resume.cancelled.remove(&task) {
            return;
        }
        entry.inherited = client.resume.restored;
        if let Some((attempts, verdict)) = self.clients[&id].verdicts.get(&task).cloned() {
            return self.end_here(id, task, attempts, &verdict);
        }
        let is_known = self.clients[&id].has(task);
        let is_back = self.want_again(id, task);
        if is_back && self.state_of(id, task).is_none() {
            // It began where it must not begin twice.
            return;
        }
        self.on_submit(id, task, entry);
        if (is_known && !is_back) || self.state_of(id, task) != Some(State::Queued) {
            return;
        }
        self.unqueue(id, task);
        let client = self.clients.get_mut(&id).expect("state_of found it");
        let ended = client.ended.get(&task).copied();
        let entry = client.tasks.get_mut(task).expect("state_of found it");
        entry.state = State::Parked;
        if !client.resume.restored {
            // It was sent once, if not more often: no attempt has the number of another.
            entry.latest = entry.latest.max(ended.map_or(Attempt(1), |ended| ended.latest));
        }
        client.parked.insert(task, Parked::Awaited);
        if client.resume.awaited.is_empty() || planted!(SkipRecovery) {
            self.stop_awaiting(id, task);
        }
    }

    /// A client hands in what is being called back, as a result of it was passed on: that has not arrived. The attempt
    /// that is called back is given up, and whatever workers have of the task counts again. Says whether it was so.
    fn want_again(&mut self, id: ClientId, task_id: TaskId) -> bool {
        let Some(State::Cancelling { worker, held }) = self.state_of(id, task_id) else { return false };
        let client = self.clients.get_mut(&id).expect("state_of found it");
        if client.resume.passed.contains(&task_id) && !planted!(PassTwice) {
            return false;
        }
        client.turn(task_id, if held { State::Held { worker } } else { State::Sent { worker } });
        let attempt = client.tasks.get(task_id).expect("state_of found it").attempt;
        let given_up = GivenUp { worker, attempt, charge: Charge::None };
        client.given_up.entry(task_id).or_default().push(given_up);
        let is_claimed = client.resume.unclaimed.contains_key(&task_id);
        self.take_missing(id, task_id, worker);
        self.note_load(worker);
        if is_claimed && self.state_of(id, task_id).is_some() {
            self.settle_claims(id, task_id);
        }
        true
    }

    /// Workers have a task that the client hands in again: the newest attempt is its current one.
    pub(super) fn settle_claims(&mut self, id: ClientId, task: TaskId) {
        let client = self.clients.get_mut(&id).expect("the caller looked it up");
        let claims = client.resume.unclaimed.remove(&task).unwrap_or_default();
        claims.iter().for_each(|claim| client.note_attempt(task, claim.attempt));
        let best = claims.iter().max_by_key(|claim| (claim.attempt, claim.doing == Doing::Done)).copied();
        // A worker may have been lost since it said so.
        let Some(best) = best.filter(|best| self.workers.contains_key(&best.worker)) else { return };
        let is_other = |claim: &&Claim| (claim.worker, claim.attempt) != (best.worker, best.attempt);
        for claim in claims.iter().filter(is_other) {
            self.call_back(id, task, *claim);
        }
        if self.clients[&id].is_overtaken(task, best.attempt) {
            return self.call_back(id, task, best);
        }
        self.adopt(id, task, best);
        let early = self.clients.get_mut(&id).and_then(|client| client.resume.take_early(task));
        if let Some((worker, report)) = early {
            self.on_finished(worker, report);
        }
    }

    /// Counts what has been handed in again, as the word that it is all may overtake the longest of it.
    pub(super) fn note_resubmitted(&mut self, id: ClientId, more: u64, all: Option<u64>) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.resume.arrived += more;
        client.resume.announced = all.or(client.resume.announced);
        if client.resume.announced.is_some_and(|all| client.resume.arrived >= all) {
            self.on_resubmitted(id);
        }
    }

    /// All has been handed in again: what there is beside it was given up while the client was away.
    fn on_resubmitted(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if !std::mem::take(&mut client.resume.open) {
            return;
        }
        client.resume.restored = false;
        client.resume.cancelled.clear();
        let seen = std::mem::take(&mut client.resume.seen);
        // The client has the others.
        client.ended.retain(|task, _| seen.contains(task));
        client.resume.passed.clear();
        let early = client.resume.take_all_early();
        for (task, claims) in std::mem::take(&mut client.resume.unclaimed) {
            claims.into_iter().for_each(|claim| self.call_back(id, task, claim));
        }
        for task in self.clients[&id].tasks.sorted_keys(|_| true) {
            if !seen.contains(&task) {
                self.on_cancel(id, task);
            }
        }
        // Their client has given them up, or hands them in as new.
        early.into_values().for_each(|(worker, report)| self.release_report(worker, &report));
    }

    /// What a worker has claimed has gone on meanwhile.
    pub(super) fn update_claim(&mut self, id: ClientId, task: TaskId, now: Claim) {
        let claims = self.clients.get_mut(&id).and_then(|client| client.resume.unclaimed.get_mut(&task));
        let is_it = |claim: &&mut Claim| (claim.worker, claim.attempt) == (now.worker, now.attempt);
        if let Some(claim) = claims.and_then(|claims| claims.iter_mut().find(is_it)) {
            claim.doing = now.doing;
        }
    }

    /// A worker that is back says again what it has: whoever is handing in waits for that.
    pub(super) fn await_again(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(&id) else { return };
        let vouched = self.clients.iter_mut().filter(|(client, _)| worker.vouches_for(**client));
        for (client_id, client) in vouched.filter(|(_, client)| client.resume.open) {
            client.resume.awaited.insert(id);
            self.resuming.insert(*client_id);
        }
    }

    /// A worker that is back claims anew what it has.
    pub(super) fn forget_claims(&mut self, worker: WorkerId) {
        for client in self.clients.values_mut() {
            client.resume.unclaimed.values_mut().for_each(|claims| claims.retain(|it| it.worker != worker));
            client.resume.unclaimed.retain(|_, claims| !claims.is_empty());
        }
    }

    /// A worker has handed back what it had claimed.
    pub(super) fn drop_claim(&mut self, worker: WorkerId, id: ClientId, task: TaskId, attempt: Attempt) {
        if let Some(client) = self.clients.get_mut(&id)
            && let Some(claims) = client.resume.unclaimed.get_mut(&task)
        {
            claims.retain(|claim| (claim.worker, claim.attempt) != (worker, attempt));
        }
    }

    /// A result is kept until its client has acknowledged it; all else ends.
    fn call_back(&mut self, client: ClientId, task: TaskId, Claim { worker, attempt, doing, .. }: Claim) {
        if doing != Doing::Done {
            self.tell_worker(worker, ToWorker::Cancel { client, task, attempt });
        }
    }

    pub(super) fn on_have(&mut self, id: ClientId, task: TaskId, claim: Claim) {
        if !self.is_credible(id, task, claim.attempt) {
            return;
        }
        let Some(worker) = self.workers.get_mut(&claim.worker) else { return };
        let is_asked =
            self.clients.get(&id).is_some_and(|client| client.resume.awaited.contains(&claim.worker));
        if worker.accounting.is_none() && !is_asked {
            return;
        }
        if self.clients.get(&id).is_none_or(|client| client.gone) {
            return self.tell_worker(claim.worker, ToWorker::Forget { client: id });
        }
        if !worker.may_vouch_for(id) {
            return;
        }
        worker.vouched.insert(id);
        self.give_credit(claim.worker, id);
        let client = self.clients.get_mut(&id).expect("just seen");
        client.note_attempt(task, claim.attempt);
        // A result of what is being called back may be the one that did not arrive.
        let is_result_of = |entry: &Task| entry.is_called_back() && claim.doing == Doing::Done;
        let is_known = |entry: &&Task| !is_result_of(entry) || entry.is_with(claim.worker, claim.attempt);
        let Some(entry) = client.tasks.get(task).filter(is_known) else {
            if client.resume.open && client.resume.unclaimed.len() < CLAIMS_MAX {
                if let Some(older) = client.resume.note_claim(task, claim) {
                    self.call_back(id, task, older);
                }
                return;
            }
            return self.call_back(id, task, claim);
        };
        let is_current = entry.is_with(claim.worker, claim.attempt);
        let was_given_up = client.gave_up(task, claim.worker, claim.attempt);
        let is_awaited = matches!(client.parked.get(task), Some(Parked::Awaited))
            && !client.is_overtaken(task, claim.attempt);
        let speculates = was_given_up && client.spec_of(entry).what.speculate;
        if was_given_up
            && let Some(accounted) = self.workers.get_mut(&claim.worker).and_then(|it| it.accounting.as_mut())
        {
            accounted.insert((id, task, claim.attempt));
        }
        match entry.state {
            _ if is_current => self.confirm(id, task, claim),
            State::Queued | State::Parked if is_awaited || was_given_up => self.adopt(id, task, claim),
            // Both run, and the first result is taken.
            State::Sent { .. } if speculates => {}
            _ => self.call_back(id, task, claim),
        }
    }

    /// Whether an attempt may have this number: those that were given out here may be beyond all bounds, after a lie.
    pub(super) fn is_credible(&self, id: ClientId, task: TaskId, attempt: Attempt) -> bool {
        let known = self.clients.get(&id).and_then(|client| client.tasks.get(task));
        attempt <= known.map_or(ATTEMPT_MAX, |task| task.latest.max(ATTEMPT_MAX))
    }

    /// A worker that is back is told of a client as if it were new; one that is away gets its results later.
    fn give_credit(&mut self, worker_id: WorkerId, id: ClientId) {
        let bytes = self.config.credit(self.workers.len());
        let is_here = self.clients.get(&id).is_some_and(|client| client.detached.is_none());
        if self.workers.get_mut(&worker_id).is_some_and(|worker| worker.meet(id)) && is_here {
            self.tell_worker(worker_id, ToWorker::Credit { client: id, bytes });
        }
    }

    /// A worker still has what it was given.
    fn confirm(&mut self, id: ClientId, task: TaskId, Claim { worker, attempt, doing, .. }: Claim) {
        if let Some(accounted) = self.workers.get_mut(&worker).and_then(|worker| worker.accounting.as_mut()) {
            accounted.insert((id, task, attempt));
        }
        if matches!(self.state_of(id, task), Some(State::Cancelling { .. })) {
            // It may never have heard that.
            self.tell_worker(worker, ToWorker::Cancel { client: id, task, attempt });
        }
        match doing {
            Doing::Done => self.on_waiting(worker, id, task, attempt),
            Doing::Running => self.on_started(worker, id, task, attempt),
            Doing::Waiting => {}
        }
    }

    /// What a worker has of a task that waits is the task's current attempt.
    pub(super) fn adopt(&mut self, id: ClientId, task_id: TaskId, claim: Claim) {
        let Claim { worker: worker_id, attempt, had_ended, .. } = claim;
        self.unlist(id, task_id);
        let client = self.clients.get_mut(&id).expect("the caller looked it up");
        let task = client.tasks.get_mut(task_id).expect("the caller looked it up");
        let spec = &client.specs[task.spec.0 as usize];
        let charge = spec.learned.expected();
        // If it failed, the master before may have heard of that and had it begin elsewhere.
        task.is_last = task.inherited && had_ended && !spec.what.rerun;
        (task.attempt, task.latest) = (attempt, task.latest.max(attempt));
        task.state = State::Sent { worker: worker_id };
        (task.charge, task.started, task.was_cut) = (charge, false, false);
        // What had ended for good before the client lost its connection ends as it did.
        let ended = client.ended.get(&task_id).filter(|ended| ended.attempt == attempt);
        task.settled = ended.is_some();
        ended.inspect(|ended| ended.go_on(task));
        let bytes = client.bytes_of(client.tasks.get(task_id).expect("just seen"));
        let before = client.usage;
        client.usage = client.usage.saturating_add(u64::from(charge));
        client.outstanding += u64::from(charge);
        if client.queued > 0 {
            self.waiting.remove(&(before, id));
            self.waiting.insert((client.usage, id));
        }
        client.note_sent(self.now);
        client.at_workers += 1;
        client.take_up(task_id, worker_id, attempt);
        let program = client.program;
        self.rouse(worker_id);
        self.workers.get_mut(&worker_id).expect("it said so").take_on(id, program, Tasks::one(charge, bytes));
        self.note_load(worker_id);
        self.confirm(id, task_id, claim);
        if claim.doing == Doing::Running {
            self.ask_again(worker_id, id, (task_id, attempt));
        }
    }

    pub(super) fn on_accounted(&mut self, id: WorkerId, client: Option<ClientId>) {
        if let Some(client) = client {
            if let Some(client) = self.clients.get_mut(&client) {
                client.resume.note_answer(id);
            }
            return self.stop_waiting();
        }
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Some(accounted) = worker.accounting.take() else { return };
        for client in self.clients.keys().copied().collect::<Vec<_>>() {
            let has = |task: TaskId, attempt: Attempt| accounted.contains(&(client, task, attempt));
            let state = self.clients.get_mut(&client).expect("just listed");
            state.take_up_missing(id, has);
            let there = |task: &Task| task.state.worker() == Some(id);
            let is_missing =
                |task: &TaskId| state.tasks.get(*task).is_some_and(|entry| !has(*task, entry.attempt));
            let missing = state.tasks.sorted_keys(there).into_iter().filter(is_missing);
            // They were handed back, and the word was lost; or never arrived there.
            missing
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .for_each(|task| self.take_missing(client, task, id));
            self.forget_if_done(client);
        }
        self.note_accounted(id);
        self.note_load(id);
        self.send_beat(id);
    }

    /// A worker that is back does not have a task that it was given.
    fn take_missing(&mut self, id: ClientId, task_id: TaskId, worker: WorkerId) {
        let client = self.clients.get_mut(&id).expect("listed by the caller");
        let task = client.tasks.get(task_id).expect("listed by the caller");
        let (charge, bytes, started) = (task.charge, client.bytes_of(task), task.started);
        if task.state.takes_room() {
            self.relieve(worker, id, Left { charge, bytes, ran: started, started });
        }
        self.requeue(id, task_id);
        if started && self.state_of(id, task_id).is_some() && self.needs_free_slot(id, task_id) {
            let name = self.workers.get(&worker).map(|worker| worker.name.clone());
            self.bury(id, task_id, &name.unwrap_or_default());
        }
    }

    /// What a worker was asked on a connection that has ended it will not answer.
    pub(super) fn forget_asked(&mut self, id: WorkerId) {
        for client in self.clients.values_mut() {
            client.resume.asked.remove(&id);
        }
    }

    /// A worker need not be waited for any longer.
    pub(super) fn note_accounted(&mut self, id: WorkerId) {
        self.missing.remove(&id);
        for client in self.clients.values_mut().filter(|client| !client.resume.asked.contains_key(&id)) {
            client.resume.awaited.remove(&id);
        }
        self.stop_waiting();
    }

    /// Queues what no worker has, once all have said so or time is up.
    pub(super) fn stop_waiting(&mut self) {
        if self.recover_until.is_some_and(|until| until <= self.now) {
            let missing = std::mem::take(&mut self.missing);
            let is_due = |worker: &WorkerId| missing.contains(worker) && !planted!(AwaitForEver);
            let resumes = self.clients.values_mut().map(|client| &mut client.resume);
            resumes.for_each(|resume| resume.awaited.retain(|worker| !is_due(worker)));
            self.recover_until = None;
        }
        for id in self.clients.keys().copied().collect::<Vec<_>>() {
            let client = self.clients.get_mut(&id).expect("just listed");
            let resume = &mut client.resume;
            if resume.until <= self.now && !planted!(AwaitForEver) {
                resume.awaited.clear();
            }
            if !resume.awaited.is_empty() {
                continue;
            }
            self.resuming.remove(&id);
            // Last first, as each goes to the front of the queue.
            let awaited: Vec<TaskId> = client.parked.awaited().rev().collect();
            awaited.into_iter().for_each(|task| self.stop_awaiting(id, task));
        }
    }

    /// The outcome of a task is lost: it is tried again, and what was counted before counts.
    fn recall_counts(&mut self, id: ClientId, task: TaskId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if let Some(ended) = client.ended.remove(&task)
            && let Some(entry) = client.tasks.get_mut(task)
        {
            ended.go_on(entry);
        }
    }

    /// Whether a task cannot be tried again, as its client has not handed in its arguments.
    pub(super) fn is_claim(&self, id: ClientId, task: TaskId) -> bool {
        let entry = self.clients.get(&id).and_then(|client| client.tasks.get(task));
        entry.is_some_and(|entry| entry.is_claim) && !planted!(TryClaims)
    }

    /// No worker has a task that may have run.
    fn stop_awaiting(&mut self, id: ClientId, task: TaskId) {
        self.recall_counts(id, task);
        if self.is_claim(id, task) {
            return self.end_as_lost(id, task);
        }
        if self.needs_free_slot(id, task) {
            let client = self.clients.get_mut(&id).expect("needs_free_slot found it");
            let obituary = "a worker that has not come back since the connection was lost".to_owned();
            client.obituaries.entry(task).or_default().push((None, obituary));
            return self.end_as_lost(id, task);
        }
        self.unpark(id, task);
    }

    pub(super) fn next_stop_waiting(&self) -> Option<Time> {
        let resuming = self.resuming.iter().map(|id| &self.clients[id]);
        let waits = resuming.filter(|client| !client.resume.awaited.is_empty());
        waits
            .map(|client| client.resume.until)
            .filter(|_| !planted!(AwaitForEver))
            .chain(self.recover_until)
            .min()
    }

    /// A client is told from which task on none has been dispatched, some way ahead, so that it is true when the task is.
    pub(super) fn tell_dispatched(&mut self, id: ClientId, task: TaskId) {
        let below = TaskId(task.0.saturating_add(self.ahead(id)));
        self.clients.get_mut(&id).expect("the caller looked it up").dispatched = below;
        self.tell_client(id, ToClient::Dispatched { below }, Payload::new());
    }

    /// How many tasks of a client are told of together that are about to be dispatched.
    pub(super) fn ahead(&self, id: ClientId) -> u64 {
        self.clients[&id].moving().max(self.slots() as usize).clamp(1, 1_024) as u64
    }

    pub(super) fn on_started(&mut self, worker: WorkerId, id: ClientId, task: TaskId, attempt: Attempt) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Some(entry) = client.tasks.get_mut(task) else {
            return self.update_claim(
                id,
                task,
                Claim { worker, attempt, doing: Doing::Running, had_ended: false },
            );
        };
        // What is being called back may run; nobody waits for it.
        let is_wanted = entry.state == State::Sent { worker } && entry.attempt == attempt;
        if is_wanted && !std::mem::replace(&mut entry.started, true) {
            client.moved = self.now;
            // Whoever was told that nothing runs hears that something does.
            self.unplaced |= client.stall != Stalling::No;
            self.note_running(worker, id);
        }
    }
}
