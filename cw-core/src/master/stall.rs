//! Saying why nothing moves, and refusing what nobody here can run.

use super::{
    Client, Master,
    clients::Stalling,
    tasks::{State, Task},
    workers::Tasks,
};
use crate::{
    Payload, Time,
    ids::{ClientId, ProgramId, WorkerId},
    wire::{Failure, Stall, ToClient},
};

impl Master {
    /// Notes since when each client's tasks do not move. Runs after each pass of placement, and walks over all clients only
    /// if one may have stood still for long enough: a pass comes with every few tasks.
    pub(super) fn watch_stalls(&mut self) {
        if self.now < self.stalls_at {
            return;
        }
        let mut moving = Vec::new();
        for (id, client) in &mut self.clients {
            let still = stands_still(client);
            match &mut client.stall {
                Stalling::Since { told: Some((at, _)), .. } if !still || client.moved > *at => {
                    moving.push(*id);
                    client.stall = Stalling::No;
                }
                Stalling::Since { told: Some(_), .. } => {}
                stall if still => *stall = Stalling::Since { since: client.moved, told: None },
                stall => *stall = Stalling::No,
            }
        }
        moving.into_iter().for_each(|client| self.tell_client(client, ToClient::Moving, Payload::new()));
        // The reason may have changed with whatever led to this pass.
        self.tell_stalled();
        self.stalls_at = self.first_stall();
    }

    /// Until when no pass need look at clients. Whoever begins to stand still from now on has moved until then, but for one whose
    /// task comes back or has paused: that has all looked at with the next pass. Whoever was told is looked at in each.
    fn first_stall(&self) -> Time {
        let soon = self.config.stall_after;
        let due = |client: &Client| match &client.stall {
            Stalling::Since { told: Some(_), .. } => Some(Time::ZERO),
            _ => stands_still(client).then(|| client.moved + soon),
        };
        self.clients.values().filter_map(due).fold(self.now + soon, Time::min)
    }

    /// Tells the clients that have waited long enough, and gives up on what cannot run.
    pub(super) fn tell_stalled(&mut self) {
        if self.now < self.stalls_at {
            return;
        }
        let soon = self.config.stall_after;
        let is_due = |client: &Client| {
            let Stalling::Since { since, .. } = &client.stall else { return None };
            // What was only just sent somewhere may be about to begin.
            let begins = client.out() > 0 && client.sent + soon > self.now;
            // Its tasks may have been given up since the last pass.
            let is_due = *since + soon <= self.now && !begins && stands_still(client);
            is_due.then_some(*since)
        };
        let due: Vec<(ClientId, Time)> =
            self.clients.iter().filter_map(|(id, client)| Some((*id, is_due(client)?))).collect();
        for (client, since) in due {
            let why = self.why_stalled(client);
            let Stalling::Since { told, .. } = &self.clients[&client].stall else { continue };
            let known = told.as_ref().is_some_and(|(_, told)| is_final(told)) && is_final(&why);
            if known && since + self.config.refuse_after <= self.now {
                self.refuse_all(client, &why);
            } else {
                self.tell_stall(client, why);
            }
        }
    }

    /// Clients that stand still for want of workers are told the new reason.
    pub(super) fn on_outlook(&mut self, why: Option<String>) {
        if self.outlook != why {
            self.outlook = why;
            let was_told = |client: &Client| matches!(client.stall, Stalling::Since { told: Some(_), .. });
            self.unplaced |= self.clients.values().any(was_told);
        }
    }

    fn tell_stall(&mut self, id: ClientId, why: Stall) {
        let client = self.clients.get_mut(&id).expect("listed by the caller");
        if let Stalling::Since { since, told } = &mut client.stall
            && told.as_ref().is_none_or(|(_, known)| !is_same(known, &why))
        {
            // A new reason has a new patience: matching workers may be about to join. Other words for the same are none.
            if told.as_ref().is_some_and(|(_, known)| !is_for_want(known) || !is_for_want(&why)) {
                *since = self.now;
            }
            *told = Some((self.now, why.clone()));
            self.tell_client(id, ToClient::Stalled(Box::new(why)), Payload::new());
        }
    }

    fn refuse_all(&mut self, id: ClientId, why: &Stall) {
        let client = self.clients.get_mut(&id).expect("listed by the caller");
        let why = match why {
            Stall::OtherProgram { workers, program, program_name, worker } => format!(
                "no worker runs this build: the client is build {}, the {workers} connected run others, such as \
                 {worker} with {program_name}, build {program}; restart the workers from the client's executable",
                client.program
            ),
            other => other.to_string(),
        };
        let failure = Failure::Refused { why };
        (client.stall, client.moved) = (Stalling::No, self.now);
        client.spread_all();
        self.waiting.remove(&(client.usage, id));
        client.queue.clear();
        client.queued = 0;
        let waits = |task: &Task| matches!(task.state, State::Queued | State::Parked);
        for task in client.tasks.sorted_keys(waits) {
            let ended = self.end_task(id, task).expect("just listed").ended();
            self.end_here(id, task, ended, &failure);
        }
    }

    /// When a client that stands still must next be looked at.
    pub(super) fn stall_due(&self, client: &Client) -> Option<Time> {
        let (soon, late) = (self.config.stall_after, self.config.refuse_after);
        let begun = if client.out() > 0 { client.sent + soon } else { Time::ZERO };
        match &client.stall {
            Stalling::No | Stalling::Since { told: None, .. } => {
                stands_still(client).then(|| (client.moved + soon).max(begun))
            }
            Stalling::Since { since, told: Some((_, told)) } if is_final(told) => {
                Some((*since + late).max(begun))
            }
            Stalling::Since { told: Some((at, _)), .. } if begun > *at && begun > self.now => Some(begun),
            _ => None,
        }
    }

    /// When clients must next be looked at.
    pub(super) fn next_stall(&self) -> Option<Time> {
        if self.now < self.stalls_at {
            return Some(self.stalls_at);
        }
        self.clients.values().filter_map(|client| self.stall_due(client)).min()
    }

    /// Has all clients looked at, if one may have stood still for long enough.
    pub(super) fn look_at_stalls(&mut self) {
        if self.now < self.stalls_at {
            return;
        }
        let is_due = |client: &Client| self.stall_due(client).is_some_and(|due| due <= self.now);
        self.unplaced |= self.clients.values().any(is_due);
    }
}

/// Whether nothing new would be said. How much time is left says nothing: that goes by.
fn is_same(known: &Stall, why: &Stall) -> bool {
    match (known, why) {
        (Stall::NoTime { p90_seconds: known, .. }, Stall::NoTime { p90_seconds, .. }) => known == p90_seconds,
        (known, why) => known == why,
    }
}

/// Whether waiting for it to pass is of little use: tasks are refused after a while.
fn is_final(why: &Stall) -> bool {
    matches!(why, Stall::OtherProgram { .. } | Stall::Unfit { .. })
}

/// Whether there is no worker at all.
fn is_for_want(why: &Stall) -> bool {
    matches!(why, Stall::NoWorker { .. })
}

/// Whether a client has tasks and none is known to run, for another reason than that it failed a moment ago. Short ones
/// are never known to run; but they end.
pub(super) fn stands_still(client: &Client) -> bool {
    if client.gone || client.detached.is_some() || client.running > 0 {
        return false;
    }
    let is_out = client.out() > 0 && !planted!(TrustWorkers);
    is_out || client.held.total() > 0 || client.queued > 0 || client.parked.any_waits()
}

/// A task that takes up no room at its worker any more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    pub(super) charge: u32,
    pub(super) bytes: u64,
    /// Whether it ran there.
    pub(super) ran: bool,
    /// Whether it was known to run.
    pub(super) started: bool,
}

impl Master {
    /// A worker has said that a task runs.
    pub(super) fn note_running(&mut self, worker: WorkerId, client: ClientId) {
        let Some(worker) = self.workers.get_mut(&worker) else { return };
        *worker.started.entry(client).or_default() += 1;
        if !worker.suspect
            && let Some(client) = self.clients.get_mut(&client)
        {
            client.running += 1;
        }
    }

    /// A task that was known to run is there no more, or nobody waits for it.
    pub(super) fn drop_running(&mut self, worker: WorkerId, client: ClientId) {
        let Some(worker) = self.workers.get_mut(&worker) else { return };
        worker.drop_started(client);
        if let Some(client) = self.clients.get_mut(&client).filter(|_| !worker.suspect) {
            (client.running, client.moved) = (client.running - 1, self.now);
        }
    }

    /// Gives a worker the room of a task back.
    pub(super) fn relieve(&mut self, worker: WorkerId, client: ClientId, left: Left) {
        let Left { charge, bytes, ran, started } = left;
        let Some(state) = self.workers.get_mut(&worker) else { return };
        let program = self.clients.get(&client).map_or_else(ProgramId::default, |client| client.program);
        state.release(client, program, Tasks::one(charge, bytes), ran);
        if let Some(client) = self.clients.get_mut(&client) {
            client.at_workers -= 1;
        }
        if started {
            self.drop_running(worker, client);
        }
    }

    /// A worker falls silent, or is heard again: what runs there is seen no more, or again.
    pub(super) fn set_suspect(&mut self, id: WorkerId, suspect: bool) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if std::mem::replace(&mut worker.suspect, suspect) == suspect {
            return;
        }
        for (client, tasks) in &worker.started {
            let Some(client) = self.clients.get_mut(client) else { continue };
            client.moved = self.now;
            client.running = if suspect { client.running - tasks } else { client.running + tasks };
        }
    }
}
