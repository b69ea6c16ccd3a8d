//! Whose turn it is: slot time used, and un-started tasks that make way.
//!
//! A client's *usage* is the slot time its tasks took, in microseconds, and for those that are with a worker what
//! they are expected to take. The next room goes to the waiting client with the least usage. Three rules more:
//!
//! - **Nobody saves up turns.** There is a *clock* for all workers that run any program, and one for each program whose
//!   workers run no other: how much slot time whoever was served last had used when it was. It never goes back. A client that wanted nothing for a while goes on at the clock.
//! - **What was sent ahead makes way.** It would start before the tasks of a client that has used less. So it is
//!   asked back, of those clients of the program that have started more, once it is expected to take longer than
//!   [`LONG_WAIT`]: shorter waits cost less than the asking. Whose turn it is among programs says the worker, by its
//!   quantum.
//! - **Long tasks are paid for while they run**, every [`ACCRUE_EVERY`], and not only at their end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Action, Master, clients::Client, workers::Worker};
use crate::{
    Payload, gathered,
    ids::{ClientId, ProgramId, WorkerId},
    wire::ToWorker,
};

/// A shorter wait is not worth asking for.
const LONG_WAIT: u64 = 20_000;

/// How often it is looked for tasks that should make way, at most.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How often running tasks are paid for.
const ACCRUE_EVERY: Duration = Duration::from_secs(1);

/// A job whose tasks take longer is paid for while they run.
const LONG_TASK: u32 = 1_000_000;

/// Whose un-started tasks make way, and which of them.
struct Victim {
    client: ClientId,
    /// Only those of a lower priority than this; none means all.
    below: Option<i32>,
}

impl Master {
    /// Asks workers for what waits there in front of clients that have used less, or of tasks of higher priority.
    ///
    /// Whether there is such can only change with an event, or with what was just sent, so nothing is armed for its own
    /// sake: a look that comes too soon after another is put off.
    pub(super) fn make_way(&mut self, any_sent: bool) {
        if !self.someone_may_make_way() {
            self.look_at = None;
            return;
        }
        let due = self.looked + LOOK_EVERY;
        if self.now < due {
            self.look_at = Some(due);
            return;
        }
        (self.look_at, self.looked) = (any_sent.then(|| self.now + LOOK_EVERY), self.now);
        let slow = |worker: &&Worker| worker.may_be_asked() && worker.backlog() >= LONG_WAIT;
        let wanted: BTreeSet<ProgramId> =
            gathered(self.waiting.iter().map(|(_, id)| self.clients[id].program));
        let is_slow = |program: &ProgramId| self.workers.values().filter(slow).any(|it| it.serves(*program));
        for program in wanted.into_iter().filter(is_slow).collect::<Vec<_>>() {
            let unstarted = self.unstarted(program);
            let of_program = |(_, id): &&(u64, ClientId)| self.clients[id].program == program;
            let waiting: Vec<ClientId> = self.waiting.iter().filter(of_program).map(|(_, id)| *id).collect();
            // The first for whom anybody can make way; those before it may be held back for reasons of their own.
            let _ = waiting.into_iter().any(|client| self.make_way_for(client, &unstarted));
        }
    }

    fn someone_may_make_way(&self) -> bool {
        !self.waiting.is_empty() && (self.clients.len() > 1 || self.clients.values().any(Client::has_urgent))
    }

    /// What each client is charged for tasks that wait at the workers of a program.
    fn unstarted(&self, program: ProgramId) -> BTreeMap<ClientId, u64> {
        let mut charges = BTreeMap::new();
        for worker in self.workers.values().filter(|worker| worker.serves(program)) {
            let ahead = worker.shares.clients_ahead();
            let of_program = |id: &ClientId| self.clients.get(id).is_some_and(|it| it.program == program);
            for client in ahead.into_iter().filter(of_program) {
                *charges.entry(client).or_default() += worker.shares.charge_ahead_of(client);
            }
        }
        charges
    }

    /// Asks for as many tasks as this client waits with; says whether anybody was asked.
    fn make_way_for(&mut self, id: ClientId, unstarted: &BTreeMap<ClientId, u64>) -> bool {
        let client = &self.clients[&id];
        let Some(priority) = client.top_priority().filter(|_| !self.is_passed_over(id)) else { return false };
        let mut victims: Vec<Victim> = unstarted
            .iter()
            .filter(|(other, charge)| {
                self.clients
                    .get(other)
                    .is_some_and(|other| other.usage.saturating_sub(**charge) > client.usage)
            })
            .map(|(other, _)| Victim { client: *other, below: None })
            .filter(|victim| victim.client != id)
            .collect();
        if client.has_urgent() {
            victims.push(Victim { client: id, below: Some(priority) });
        }
        let (need, now, grace) = (self.next_need(id), self.now, self.config.end_grace);
        let mut wanted = u32::try_from(client.queued).unwrap_or(u32::MAX);
        let mut asked: Vec<(WorkerId, ToWorker)> = Vec::new();
        for (worker, state) in &mut self.workers {
            let may = state.serves(client.program) && !client.held_by.contains(worker);
            let may = may && state.may_be_asked() && state.has_time(need, now, grace);
            if wanted == 0 || !may || state.backlog() < LONG_WAIT {
                continue;
            }
            // One at a time: the next look asks for another's.
            let most = victims.iter().filter(|victim| !state.was_asked_in_vain(victim.client, victim.below));
            let Some(victim) = most.max_by_key(|victim| state.shares.ahead_of(victim.client)) else {
                continue;
            };
            let tasks = state.shares.ahead_of(victim.client).min(wanted);
            if tasks > 0 {
                wanted -= tasks;
                state.note_asked(victim.client, victim.below);
                let message = ToWorker::MakeWay { client: victim.client, below: victim.below, tasks };
                asked.push((*worker, message));
            }
        }
        let any = !asked.is_empty();
        for (worker, message) in asked {
            self.actions.push_back(Action::TellWorker { worker, message, body: Payload::new() });
        }
        any
    }

    /// A client that wanted nothing for a time has earned no turns by that.
    pub(super) fn level(&mut self, id: ClientId) {
        let pool = self.pool_of(self.clients[&id].program);
        let clock = self.clocks.get(&pool).copied().unwrap_or(0);
        let client = self.clients.get_mut(&id).expect("the caller looked it up");
        client.usage = client.usage.max(clock);
    }

    /// A client is about to be served: the clock of its program's workers goes on to what it has used.
    pub(super) fn note_served(&mut self, id: ClientId) {
        let client = &self.clients[&id];
        let clock = self.clocks.entry(self.pool_of(client.program)).or_default();
        *clock = (*clock).max(client.used());
    }

    /// Forgets the clock of workers without clients, since nobody is left to be fair to.
    pub(super) fn drop_clock(&mut self, program: ProgramId) {
        let pool = self.pool_of(program);
        if self.clients.values().all(|client| self.pool_of(client.program) != pool) {
            self.clocks.remove(&pool);
        }
    }

    /// Has running tasks of long jobs paid for.
    pub(super) fn accrue(&mut self) {
        let Some(since) = self.accrued else {
            if self.clients.values().any(|client| !client.is_empty()) {
                self.accrued = Some(self.now);
            }
            return;
        };
        if self.now < since + ACCRUE_EVERY {
            return;
        }
        self.accrued = None;
        let micros = u64::try_from(self.now.since(since).as_micros()).unwrap_or(u64::MAX);
        for id in self.clients.keys().copied().collect::<Vec<_>>() {
            self.accrue_for(id, micros);
        }
        self.accrue();
    }

    fn accrue_for(&mut self, id: ClientId, micros: u64) {
        let (running, expected) = self.running(id);
        let client = self.clients.get_mut(&id).expect("listed by the caller");
        if !client.is_long(LONG_TASK) {
            (client.ran, client.advance) = (0, 0);
            return;
        }
        // What is only about to begin, as its program is still on its way, uses no slot.
        let running = running.min(client.running);
        client.ran = client.ran.saturating_add(u64::from(running).saturating_mul(micros));
        let more = client.ran.saturating_sub(expected).saturating_sub(client.advance);
        if more > 0 {
            client.advance += more;
            self.charge(id, 0, more);
            self.unplaced = true;
        }
    }

    /// A client's tasks in slots, and what they are charged.
    pub(super) fn running(&self, id: ClientId) -> (u32, u64) {
        let shares = self.workers.values().map(|worker| worker.shares.running(id));
        shares.fold((0, 0), |(tasks, charge), more| (tasks + more.0, charge + more.1))
    }

    /// Corrects what a client has used by a task that has ended: it was charged so much, and took so much.
    pub(super) fn settle(&mut self, id: ClientId, charged: u32, micros: u64) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let before = client.usage;
        client.settle(charged, micros);
        self.note_usage(id, before);
    }

    pub(super) fn next_look(&self) -> Option<crate::Time> {
        [self.look_at, self.accrued.map(|since| since + ACCRUE_EVERY)].into_iter().flatten().min()
    }
}
