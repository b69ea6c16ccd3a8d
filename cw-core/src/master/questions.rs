//! What running tasks ask of their clients, on its way. See `wire/checkpoint.rs`.
//!
//! A question is passed on once and answered once. What cannot be passed on, as its client is away or has too many, is
//! dropped here and noted: its worker is told to ask again when there is room. That room is its own until it has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Action, Master, clients::Client, resume::Claim, tasks::State};
use crate::{
    Payload,
    ids::{Attempt, ClientId, TaskId, WorkerId},
    wire::{Answer, Ask, Doing, STATE_BYTES_MAX, ToClient, ToWorker},
};

/// So many questions are with one client, or are about to be.
const OPEN_MAX: usize = 64;

/// An attempt of a client's.
type Asker = (TaskId, Attempt);

/// The questions of one client's tasks.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: BTreeMap<Asker, Open>,
    /// Those that are to be asked again, in order, and which they are.
    waiting: VecDeque<(Asker, WorkerId)>,
    waits: BTreeSet<Asker>,
    /// When there are as many, those are dropped that nobody may ask any more.
    prune_at: usize,
}

/// A question that has its room.
#[derive(Clone, Copy, Debug)]
struct Open {
    worker: WorkerId,
    /// Its number; none while its worker is to ask again.
    number: Option<u32>,
    /// Whether the attempt has asked something else meanwhile: this one it had asked again, with the answer on its way.
    again: bool,
}

impl Questions {
    /// Takes in a question; says whether the client is to have it.
    fn take_in(&mut self, asker: Asker, worker: WorkerId, number: u32, is_here: bool) -> bool {
        match self.open.get_mut(&asker) {
            // The client has it, or the one before it, and will answer.
            Some(Open { number: Some(open), again, .. }) => {
                *again |= *open != number;
                return false;
            }
            Some(open) if is_here && open.worker == worker => {
                open.number = Some(number);
                return true;
            }
            Some(_) => drop(self.open.remove(&asker)),
            None => {}
        }
        if is_here && self.open.len() < OPEN_MAX {
            self.retain(|waits, _| waits != asker);
            self.open.insert(asker, Open { worker, number: Some(number), again: false });
            return true;
        }
        self.wait(asker, worker);
        false
    }

    fn wait(&mut self, asker: Asker, worker: WorkerId) {
        if !planted!(ForgetQuestions) && self.waits.insert(asker) {
            self.waiting.push_back((asker, worker));
        }
    }

    /// The next that is to be asked again, if there is room.
    fn next(&mut self) -> Option<(Asker, WorkerId)> {
        let next = if self.open.len() < OPEN_MAX { self.waiting.pop_front() } else { None };
        if let Some((asker, _)) = &next {
            self.waits.remove(asker);
        }
        next
    }

    /// The client may not have had what it was asked.
    fn renew(&mut self) {
        for (asker, Open { worker, .. }) in std::mem::take(&mut self.open) {
            self.wait(asker, worker);
        }
    }

    /// A worker asks again by itself, or never.
    fn forget(&mut self, worker: WorkerId) {
        self.open.retain(|_, open| open.worker != worker);
        self.retain(|_, of| of != worker);
    }

    fn retain(&mut self, keep: impl Fn(Asker, WorkerId) -> bool) {
        if self.waits.is_empty() {
            return;
        }
        let waits = &mut self.waits;
        self.waiting.retain(|(asker, worker)| {
            let stays = keep(*asker, *worker);
            if !stays {
                waits.remove(asker);
            }
            stays
        });
    }

    fn is_empty(&self) -> bool {
        self.open.is_empty() && self.waiting.is_empty()
    }
}

impl Client {
    /// Whether an attempt may ask: it is the current one, or was given up and goes on.
    fn may_ask(&self, worker: WorkerId, (task, attempt): Asker) -> bool {
        let entry = self.tasks.get(task);
        let is_current = entry.is_some_and(|it| it.attempt == attempt && it.state == State::Sent { worker });
        is_current || self.gave_up(task, worker, attempt)
    }

    /// Drops what waits and nobody may ask any more, now and then.
    fn prune_questions(&mut self) {
        if self.questions.waiting.len() <= self.questions.prune_at {
            return;
        }
        let mut questions = std::mem::take(&mut self.questions);
        questions.retain(|asker, worker| self.may_ask(worker, asker));
        questions.prune_at = questions.waiting.len() * 2 + OPEN_MAX;
        self.questions = questions;
    }
}

impl Master {
    /// A task asks. Of one that this master does not know yet it is noted that it runs: it is told to ask again if it is
    /// found to be its client's.
    pub(super) fn on_asks(
        &mut self,
        worker: WorkerId,
        id: ClientId,
        (task, attempt): Asker,
        (number, ask): (u32, Ask),
        body: Payload,
    ) {
        let Some(client) = self.clients.get_mut(&id).filter(|client| !client.gone) else { return };
        if body.len() > STATE_BYTES_MAX {
            return;
        }
        if !client.may_ask(worker, (task, attempt)) {
            let claim = Claim { worker, attempt, doing: Doing::Running, had_ended: false };
            return self.update_claim(id, task, claim);
        }
        let is_here = client.detached.is_none();
        if client.questions.take_in((task, attempt), worker, number, is_here) {
            self.tell_client(id, ToClient::Asks { task, attempt, number, ask }, body);
        } else {
            client.prune_questions();
        }
    }

    /// A worker that was to ask again has nothing to ask.
    pub(super) fn on_asks_nothing(&mut self, worker: WorkerId, id: ClientId, asker: Asker) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let open = &mut client.questions.open;
        if open.get(&asker).is_some_and(|it| it.worker == worker && it.number.is_none()) {
            open.remove(&asker);
            self.ask_waiting(id);
        }
    }

    /// A client answers what it was asked. An answer to anything else is to a question that was asked anew meanwhile.
    pub(super) fn on_answers(
        &mut self,
        id: ClientId,
        (task, attempt): Asker,
        (number, answer): (u32, Answer),
        body: Payload,
    ) {
        if body.len() > STATE_BYTES_MAX {
            return self.disconnect_client(id, "answered with more than a state may be");
        }
        let asker = (task, attempt);
        let questions = &mut self.clients.get_mut(&id).expect("checked by on_client_said").questions;
        let is_it = |it: &&Open| it.number == Some(number) || (it.number.is_some() && planted!(AnswerAny));
        let Some(Open { worker, again, .. }) = questions.open.get(&asker).filter(is_it).copied() else {
            return;
        };
        questions.open.remove(&asker);
        if again {
            questions.wait(asker, worker);
        }
        if self.workers.get(&worker).is_some_and(|worker| worker.connected) {
            let message = ToWorker::Answers { client: id, task, attempt, number, answer };
            self.actions.push_back(Action::TellWorker { worker, message, body });
        }
        self.ask_waiting(id);
    }

    /// An attempt that this master has just learned of may have asked before.
    pub(super) fn ask_again(&mut self, worker: WorkerId, id: ClientId, asker: Asker) {
        if let Some(client) = self.clients.get_mut(&id).filter(|it| !it.questions.open.contains_key(&asker)) {
            client.questions.wait(asker, worker);
            client.prune_questions();
            self.ask_waiting(id);
        }
    }

    /// A client is back.
    pub(super) fn renew_questions(&mut self, id: ClientId) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.questions.renew();
            self.ask_waiting(id);
        }
    }

    /// What a worker had asked is gone with its connection.
    pub(super) fn forget_questions(&mut self, worker: WorkerId) {
        let asked = self.clients.iter_mut().filter(|(_, client)| !client.questions.is_empty());
        let asked: Vec<ClientId> = asked
            .map(|(id, client)| {
                client.questions.forget(worker);
                *id
            })
            .collect();
        asked.into_iter().for_each(|id| self.ask_waiting(id));
    }

    /// Has as many questions asked again as there is room for.
    fn ask_waiting(&mut self, id: ClientId) {
        loop {
            let client = self.clients.get_mut(&id).filter(|it| it.detached.is_none() && !it.gone);
            let Some(client) = client else { return };
            let Some(((task, attempt), worker)) = client.questions.next() else { return };
            let is_here = self.workers.get(&worker).is_some_and(|worker| worker.connected);
            if is_here && client.may_ask(worker, (task, attempt)) {
                client.questions.open.insert((task, attempt), Open { worker, number: None, again: false });
                self.tell_worker(worker, ToWorker::AskAgain { client: id, task, attempt });
            }
        }
    }
}

#[cfg(any(test, feature = "sim"))]
impl Questions {
    /// Whether it is all as it should be.
    pub(super) fn check(&self) {
        assert!(self.open.len() <= OPEN_MAX, "no more questions than a client takes");
        assert!(self.waiting.len() <= self.waits.len(), "each waits once");
        assert!(self.waits.iter().all(|asker| !self.open.contains_key(asker)), "none is both open and waits");
    }
}
