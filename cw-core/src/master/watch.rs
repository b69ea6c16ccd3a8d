//! What a client that watches its progress is told.

use std::time::Duration;

use super::{Master, tasks::State};
use crate::{
    Payload, Time,
    ids::{Attempt, ClientId, TaskId, WorkerId},
    wire::{Counts, Output, ToClient},
};

/// How often the counts are told, if they change.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// A client's wish to know how far it is.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// When it is told next; none if nobody watches.
    pub(super) due: Option<Time>,
    told: Option<Counts>,
}

/// So many bytes of what a client's tasks print may be on their way to it; what comes beyond is left out.
const PRINTS_MAX: u64 = 1 << 20;

/// What a client's tasks print, on its way.
#[derive(Debug, Default)]
pub(super) struct Prints {
    bytes: u64,
}

impl Prints {
    /// The client has taken so much in.
    pub(super) fn heard(&mut self, bytes: u32) {
        self.bytes = self.bytes.saturating_sub(u64::from(bytes));
    }

    /// Notes that so much is sent; says whether it may be.
    fn send(&mut self, bytes: usize) -> bool {
        let fits = self.bytes < PRINTS_MAX;
        if fits {
            self.bytes = self.bytes.saturating_add(bytes as u64);
        }
        fits
    }
}

impl Master {
    /// Passes on what a running task prints, if its client looks on and has taken in what came before.
    pub(super) fn on_output(
        &mut self,
        worker: WorkerId,
        id: ClientId,
        (task, attempt, from): (TaskId, Attempt, u64),
        body: Payload,
    ) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let is_current = client
            .tasks
            .get(task)
            .is_some_and(|task| task.attempt == attempt && task.state == State::Sent { worker });
        let is_wanted = client.introduction.output == Output::Live && client.detached.is_none();
        if is_current && is_wanted && client.prints.send(body.len()) {
            self.tell_client(id, ToClient::Output { task, from }, body);
        }
    }

    pub(super) fn on_watch(&mut self, id: ClientId, on: bool) {
        let now = self.now;
        let client = self.clients.get_mut(&id).expect("checked by on_client_said");
        client.watch = Watch { due: on.then_some(now), told: None };
        if on {
            self.watching.insert(id);
        } else {
            self.watching.remove(&id);
        }
        self.tell_counts();
    }

    /// Tells the clients whose time has come where their tasks are.
    pub(super) fn tell_counts(&mut self) {
        let is_due = |id: &ClientId| self.clients[id].watch.due.is_some_and(|due| due <= self.now);
        let due: Vec<ClientId> = self.watching.iter().copied().filter(is_due).collect();
        for id in due {
            let counts = self.counts(id);
            let next = self.now + TELL_EVERY;
            let watch = &mut self.clients.get_mut(&id).expect("just listed").watch;
            watch.due = Some(next);
            if watch.told.replace(counts) != Some(counts) {
                self.tell_client(id, ToClient::Counts(counts), Payload::new());
            }
        }
    }

    fn counts(&self, id: ClientId) -> Counts {
        let program = self.clients[&id].program;
        let here = || self.workers.values().filter(|worker| worker.serves(program));
        Counts {
            running: self.running(id).0,
            workers: u32::try_from(here().count()).unwrap_or(u32::MAX),
            slots: here().fold(0, |slots, worker| slots.saturating_add(worker.slots)),
        }
    }

    pub(super) fn next_counts(&self) -> Option<Time> {
        let watching = self.watching.iter().map(|id| &self.clients[id]);
        watching.filter(|client| !client.gone).filter_map(|client| client.watch.due).min()
    }

    /// What an attempt said of its progress is nothing to the next.
    pub(super) fn forget_progress(&mut self, id: ClientId, task: TaskId) {
        if self.clients.get(&id).is_some_and(|client| client.watch.due.is_some()) {
            self.tell_client(id, ToClient::Progress { task, thousandths: 0 }, Payload::new());
        }
    }

    /// Passes on how far a task has come, if its client wants to know and the word is about its current attempt.
    pub(super) fn on_progress(
        &mut self,
        worker: WorkerId,
        id: ClientId,
        task: TaskId,
        attempt: Attempt,
        thousandths: u16,
    ) {
        let Some(client) = self.clients.get(&id).filter(|client| client.watch.due.is_some()) else { return };
        let is_current = client
            .tasks
            .get(task)
            .is_some_and(|task| task.attempt == attempt && task.state == State::Sent { worker });
        if is_current {
            let thousandths = thousandths.min(1_000);
            self.tell_client(id, ToClient::Progress { task, thousandths }, Payload::new());
        }
    }
}
