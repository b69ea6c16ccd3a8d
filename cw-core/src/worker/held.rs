//! A client as a worker knows it: its specs, its credit, and its results until they are acknowledged.

use std::collections::{BTreeSet, VecDeque};

use super::{
    Config, Origin, Running, Worker,
    sent::{RESULT_OVERHEAD, Sent, bytes_of},
};
use crate::{
    Payload,
    idmap::IdMap,
    ids::{Attempt, ClientId, ShareId, SpecIndex, TaskId},
    learn::Learned,
    wire::{Class, Entry, Failure, FromWorker, Output, Returned, Spec, Stretch, split_output},
};

/// A client that has, or had, tasks here.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// Of what its executors are, once it was introduced.
    pub(super) origin: Option<Origin>,
    /// What it wants of what its tasks print.
    pub(super) output: Output,
    /// What its user was told.
    pub(super) remarks: BTreeSet<Box<str>>,
    specs: IdMap<SpecIndex, SpecState>,
    /// What the tasks of those share.
    shares: BTreeSet<ShareId>,
    /// The lowest priority of those.
    lowest: Option<i32>,
    /// Whether the present master has given credit.
    open: bool,
    /// Bytes that may be sent and not acknowledged.
    credit: u64,
    /// What was, and is not.
    sent: Sent,
    /// Results that wait for credit, in the order they came.
    waiting: VecDeque<(TaskId, Held)>,
    waiting_bytes: u64,
    /// Whether the master was told that too much waits.
    pub(super) blocked: bool,
}

/// A spec and what was learned about it here.
#[derive(Debug)]
pub(super) struct SpecState {
    pub(super) what: Spec,
    pub(super) learned: Learned,
}

/// How an attempt ended.
#[derive(Debug)]
pub(super) struct End {
    pub(super) class: Class,
    /// How long it ran.
    pub(super) micros: u64,
    /// So many bytes at the body's end are what it printed.
    pub(super) output: u32,
    pub(super) body: Payload,
}

impl End {
    /// An end that this worker tells of, with what the task had printed.
    pub(super) fn of(failure: &Failure, micros: u64, printed: &Payload) -> Self {
        let (class, failure) = (failure.class(), failure.encode());
        let output = u32::try_from(printed.len()).unwrap_or(0);
        let body = if output == 0 { failure } else { Payload::from([&failure[..], printed].concat()) };
        Self { class, micros, output, body }
    }
}

/// A result that its client has not acknowledged.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) attempt: Attempt,
    pub(super) class: Class,
    pub(super) micros: u64,
    pub(super) output: u32,
    pub(super) body: Payload,
}

impl Held {
    pub(super) fn bytes(&self) -> u64 {
        self.body.len() as u64 + RESULT_OVERHEAD
    }
}

impl Client {
    pub(super) fn declare(&mut self, spec: SpecIndex, what: Spec) {
        // It comes on every lane: the second must not forget what was learned since the first.
        if self.specs.get(spec).is_none_or(|known| known.what != what) {
            self.lowest = Some(self.lowest.map_or(what.priority, |lowest| lowest.min(what.priority)));
            self.shares.extend(&what.shares);
            self.specs.insert(spec, SpecState { what, learned: Learned::default() });
        }
    }

    pub(super) fn shares(&self) -> &BTreeSet<ShareId> {
        &self.shares
    }

    /// Whether it may have tasks of a lower priority than this spec's.
    pub(super) fn has_lower_than(&self, spec: SpecIndex) -> bool {
        let priority = self.specs.get(spec).map(|spec| spec.what.priority);
        priority > self.lowest
    }

    pub(super) fn knows(&self, spec: SpecIndex) -> bool {
        self.specs.contains(spec)
    }

    pub(super) fn spec(&self, spec: SpecIndex) -> Option<&SpecState> {
        self.specs.get(spec)
    }

    /// Whether the client is to start further tasks here: not once too much waits, and again when half
    /// of that is gone, so that it does not flutter.
    fn should_block(&self, config: &Config) -> bool {
        let limit = if self.blocked { config.held_bytes / 2 } else { config.held_bytes };
        self.waiting_bytes > limit
    }

    /// Whether a result of this size may go now. One may always be on its way, however big.
    fn has_credit(&self, bytes: u64) -> bool {
        planted!(IgnoreCredit)
            || self.open && (self.sent.is_empty() || self.sent.bytes() + bytes <= self.credit)
    }

    /// Whether results of tasks that follow each other may all go now, as they came: there is credit for each, none waits
    /// before them, and no other attempt's is on its way.
    fn may_send_all(&self, ends: &Stretch, bytes: u64) -> bool {
        let has_credit = self.open && self.sent.bytes() + bytes <= self.credit;
        has_credit && self.waiting.is_empty() && !self.blocked && self.sent.has_none_of(ends)
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn set_open(&mut self, open: bool) {
        self.open = open;
    }

    /// What was sent may not have arrived: it waits again, before all else, until there is credit.
    pub(super) fn take_back_sent(&mut self) {
        self.open = false;
        for (task, held) in self.sent.take_all() {
            if planted!(LoseHeld) {
                continue;
            }
            self.waiting_bytes += held.bytes();
            self.waiting.push_front((task, held));
        }
    }

    /// The results that wait.
    pub(super) fn kept(&self) -> impl Iterator<Item = (TaskId, Attempt)> {
        self.waiting.iter().map(|(task, held)| (*task, held.attempt))
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.sent.is_empty() && self.waiting.is_empty()
    }
}

impl Worker {
    /// Takes in the outcome of an attempt, to be sent as soon as its client's credit allows.
    pub(super) fn finish(&mut self, running: &Running, end: End) {
        let End { class, micros, mut output, mut body } = end;
        if class == Class::Ok
            && let Some(share) = running.apart.as_deref()
        {
            self.spent.insert(*share);
        }
        // A client that was forgotten meanwhile wants nothing.
        let Some(client) = self.clients.get_mut(&running.client) else { return };
        if class == Class::Ok
            && let Some(spec) = client.specs.get_mut(running.spec)
        {
            spec.learned.learn(micros);
        }
        if client.output == Output::None && output > 0 {
            body = split_output(&body, std::mem::take(&mut output)).0;
        }
        let held = Held { attempt: running.attempt, class, micros, output, body };
        if client.waiting.is_empty() && !client.blocked && client.has_credit(held.bytes()) {
            return self.tell_finished(running.client, running.task, held);
        }
        client.waiting_bytes += held.bytes();
        client.waiting.push_back((running.task, held));
        let must_wait = client.waiting.len() > 1 || !client.has_credit(client.waiting_bytes);
        if must_wait {
            let Running { client, task, attempt, .. } = *running;
            self.tell(FromWorker::Waiting { client, task, attempt }, Payload::new());
        }
        self.send_held(running.client);
    }

    /// Takes in that tasks which are alike have succeeded, of which this is the first.
    pub(super) fn finish_all(&mut self, first: &Running, ends: Stretch) {
        if let Some(ends) = self.pass_on(first, ends) {
            for Entry { task, micros, bytes: body } in ends.entries() {
                let running = Running { task, ..first.clone() };
                self.finish(&running, End { class: Class::Ok, micros, output: 0, body });
            }
        }
    }

    /// Sends results on as they came; gives them back if each is to be looked at.
    fn pass_on(&mut self, first: &Running, ends: Stretch) -> Option<Stretch> {
        let Running { client: id, attempt, spec, .. } = *first;
        let bytes = bytes_of(&ends);
        let Some(client) = self.clients.get_mut(&id).filter(|client| client.may_send_all(&ends, bytes))
        else {
            return Some(ends);
        };
        if let Some(spec) = client.specs.get_mut(spec) {
            ends.sizes().for_each(|(micros, _)| spec.learned.learn(micros));
        }
        let message = FromWorker::Finishes { client: id, first: ends.first(), tasks: ends.tasks(), attempt };
        self.actions.push_back(super::Action::Tell { message, body: ends.body().clone() });
        client.sent.insert_burst(attempt, ends, bytes);
        None
    }

    /// Drops a result that waits for credit; says whether it did.
    pub(super) fn drop_waiting(&mut self, id: ClientId, task: TaskId, attempt: Attempt) -> bool {
        let Some(client) = self.clients.get_mut(&id) else { return false };
        let is_it = |(t, held): &(TaskId, Held)| (*t, held.attempt) == (task, attempt);
        let Some(place) = client.waiting.iter().position(is_it) else { return false };
        let (_, held) = client.waiting.remove(place).expect("position found it");
        client.waiting_bytes -= held.bytes();
        self.note_blocked(id);
        true
    }

    pub(super) fn on_received(&mut self, id: ClientId, first: TaskId, tasks: u32, attempt: Attempt) {
        self.note_work();
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.sent.drop_received(first.0, first.0.saturating_add(u64::from(tasks)), attempt);
        self.send_held(id);
    }

    pub(super) fn on_credit(&mut self, id: ClientId, bytes: u64) {
        let client = self.clients.entry(id).or_default();
        (client.credit, client.open) = (bytes, true);
        self.send_held(id);
    }

    pub(super) fn send_held(&mut self, id: ClientId) {
        let Some(mut client) = self.clients.get_mut(&id) else { return };
        while let Some((_, held)) = client.waiting.front()
            && client.has_credit(held.bytes())
        {
            let (task, held) = client.waiting.pop_front().expect("just seen");
            client.waiting_bytes -= held.bytes();
            self.tell_finished(id, task, held);
            let Some(known) = self.clients.get_mut(&id) else { return };
            client = known;
        }
        self.note_blocked(id);
    }

    /// Tells of a result that its client's credit allows, and keeps it.
    fn tell_finished(&mut self, id: ClientId, task: TaskId, held: Held) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Held { attempt, class, micros, output, .. } = held;
        let message = FromWorker::Finished { client: id, task, attempt, class, micros, output };
        self.actions.push_back(super::Action::Tell { message, body: held.body.clone() });
        client.sent.insert(task, held);
    }

    /// Tells the master when a client's results begin, or cease, to pile up here.
    fn note_blocked(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let held = client.should_block(&self.config);
        if std::mem::replace(&mut client.blocked, held) == held {
            return;
        }
        self.tell(FromWorker::Held { client: id, held }, Payload::new());
        if held && !planted!(FeedBlocked) {
            let back = self.queue.take_all(self.origin_of(id), |pending| pending.client == id);
            back.iter().rev().for_each(|pending| self.give_back(pending, Returned::Held));
        }
    }
}
