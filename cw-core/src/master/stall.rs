//! Saying why nothing moves, and refusing what nobody here can run.

use bytes::Bytes;

use super::{
    Client, Master,
    clients::Stalling,
    parked::Parked,
    tasks::{State, Task},
};
use crate::{
    Time,
    ids::{ClientId, WorkerId},
    wire::{Failure, Stall, ToClient},
};

impl Master {
    /// Notes since when each client's tasks do not move. Runs after each pass of placement.
    pub(super) fn watch_stalls(&mut self) {
        let mut moving = Vec::new();
        let all_well = self.workers.values().all(|worker| !worker.suspect);
        self.find_running();
        let stalled: Vec<Option<Time>> =
            self.clients.iter().map(|(id, it)| self.stalled_since(*id, it, all_well)).collect();
        for ((id, client), stalled) in self.clients.iter_mut().zip(stalled) {
            match (&client.stall, stalled) {
                (Stalling::No, Some(since)) => client.stall = Stalling::Since { since, told: None },
                (Stalling::Since { told, .. }, None) => {
                    if told.is_some() {
                        moving.push(*id);
                    }
                    client.stall = Stalling::No;
                }
                _ => {}
            }
        }
        moving.into_iter().for_each(|client| self.tell_client(client, ToClient::Moving, Bytes::new()));
        // The reason may have changed with whatever led to this pass.
        self.tell_stalled();
    }

    /// Tells the clients that have waited long enough, and gives up on what cannot run.
    pub(super) fn tell_stalled(&mut self) {
        let due: Vec<(ClientId, Time)> = self
            .clients
            .iter()
            .filter_map(|(id, client)| match &client.stall {
                Stalling::Since { since, .. } if *since + self.config.stall_after <= self.now => {
                    Some((*id, *since))
                }
                _ => None,
            })
            .collect();
        for (client, since) in due {
            let why = self.why_stalled(&self.clients[&client]);
            let Stalling::Since { told, .. } = &self.clients[&client].stall else { continue };
            let known =
                matches!((told, &why), (Some(Stall::OtherProgram { .. }), Stall::OtherProgram { .. }));
            if known && since + self.config.refuse_after <= self.now {
                self.refuse_all(client, &why);
            } else {
                self.tell_stall(client, why);
            }
        }
    }

    fn tell_stall(&mut self, id: ClientId, why: Stall) {
        let client = self.clients.get_mut(&id).expect("listed by the caller");
        if let Stalling::Since { since, told } = &mut client.stall
            && told.as_ref() != Some(&why)
        {
            // A new reason has a new patience: matching workers may be about to join.
            if told.is_some() {
                *since = self.now;
            }
            *told = Some(why.clone());
            self.tell_client(id, ToClient::Stalled(Box::new(why)), Bytes::new());
        }
    }

    fn refuse_all(&mut self, id: ClientId, why: &Stall) {
        let client = self.clients.get_mut(&id).expect("listed by the caller");
        let Stall::OtherProgram { workers, program, program_name, worker } = why else { return };
        let failure = Failure::Refused {
            why: format!(
                "no worker runs this build: the client is build {}, the {workers} connected run others, such as \
                 {worker} with {program_name}, build {program}; restart the workers from the client's executable",
                client.program
            ),
        };
        client.stall = Stalling::No;
        self.waiting.remove(&(client.usage, id));
        client.queue.clear();
        client.queued = 0;
        let waits = |task: &Task| matches!(task.state, State::Queued | State::Parked);
        for task in client.tasks.sorted_keys(waits) {
            let ended = self.end_task(id, task).expect("just listed").ended();
            self.end_here(id, task, ended, &failure);
        }
    }

    /// Looks whether any task is known to run of clients that have tasks at workers and have not moved for a while.
    fn find_running(&mut self) {
        let (now, workers) = (self.now, &self.workers);
        let is_heard = |worker: WorkerId| workers.get(&worker).is_some_and(|worker| !worker.suspect);
        let still =
            |client: &&mut Client| client.moving() > 0 && client.moved + self.config.stall_after <= now;
        for client in self.clients.values_mut().filter(still) {
            if client.tasks.any(|task| task.started && task.state.worker().is_some_and(is_heard)) {
                client.moved = now;
            }
        }
    }

    /// Since when a client has tasks of which none moves, for another reason than that it failed a moment ago.
    fn stalled_since(&self, id: ClientId, client: &Client, all_well: bool) -> Option<Time> {
        if client.gone || client.detached.is_some() || client.tasks.is_empty() {
            return None;
        }
        if self.is_still(client) {
            return Some(client.moved);
        }
        let waits = |wish: &Parked| match wish {
            Parked::Awaited => true,
            Parked::Wishes(wish) => wish.alone,
        };
        let moves = if all_well {
            client.moving() > 0
        } else {
            let well = self.workers.values().filter(|worker| !worker.suspect);
            well.into_iter().any(|worker| worker.shares.running(id).0 > 0)
        };
        let waits = client.queued > 0 || client.moving() > 0 || client.parked.values().any(waits);
        (!moves && waits).then_some(self.now)
    }

    /// Whether a client has tasks at workers and none has begun or ended for a while.
    fn is_still(&self, client: &Client) -> bool {
        client.moving() > 0 && client.moved + self.config.stall_after <= self.now && !planted!(TrustWorkers)
    }

    /// Why a client's tasks do not move.
    fn why_stalled(&self, client: &Client) -> Stall {
        let count = |workers: usize| u32::try_from(workers).unwrap_or(u32::MAX);
        let fitting = || self.workers.values().filter(|worker| worker.program == client.program);
        let is_awaited = |wish: &Parked| matches!(wish, Parked::Awaited);
        if client.queued == 0 && client.parked.values().any(is_awaited) {
            return Stall::Recovering { workers: count(client.resume.awaited.len()) };
        }
        let slots: u32 = fitting().filter(|worker| worker.is_well()).map(|worker| worker.slots).sum();
        if slots > 0 && client.queued == 0 && !client.parked.is_empty() {
            return Stall::Quarantined { tasks: count(client.parked.len()) };
        }
        if slots > 0 && client.moving() > 0 && self.waits_for_itself(client) {
            return Stall::NotBegun { tasks: count(client.moving()) };
        }
        if slots > 0 {
            return Stall::Busy { slots };
        }
        let silent = fitting().filter(|worker| worker.suspect).count();
        if silent > 0 {
            return Stall::Silent { workers: count(silent) };
        }
        let aside = || fitting().filter_map(|worker| worker.record.aside());
        if let Some((_, why)) = aside().next() {
            return Stall::SetAside { workers: count(aside().count()), why: why.clone() };
        }
        if fitting().next().is_some() || !self.missing.is_empty() {
            return Stall::Recovering { workers: count(self.missing.len().max(1)) };
        }
        let Some(worker) = self.workers.values().next() else { return Stall::NoWorker };
        Stall::OtherProgram {
            workers: count(self.workers.len()),
            program: worker.program,
            program_name: worker.program_name.clone(),
            worker: worker.name.clone(),
        }
    }

    /// Whether a client's tasks are at workers that have nobody else's.
    fn waits_for_itself(&self, client: &Client) -> bool {
        let alone = |worker: WorkerId| self.workers.get(&worker).is_some_and(|it| it.shares.are_of_one());
        client.tasks.any(|task| task.state.worker().is_some_and(alone))
    }

    /// When a client that is stalled, or may be, must next be looked at.
    fn stall_due(&self, client: &Client) -> Option<Time> {
        let (soon, late) = (self.config.stall_after, self.config.refuse_after);
        match &client.stall {
            Stalling::No if self.may_become_still(client) => Some(client.moved + soon),
            Stalling::Since { since, told: None } => Some(*since + soon),
            Stalling::Since { since, told: Some(Stall::OtherProgram { .. }) } => Some(*since + late),
            _ => None,
        }
    }

    fn may_become_still(&self, client: &Client) -> bool {
        !client.gone && client.detached.is_none() && client.moving() > 0 && !planted!(TrustWorkers)
    }

    /// When clients must next be looked at. Those whose tasks move are looked at with each beat, if there are any.
    pub(super) fn next_stall(&self) -> Option<Time> {
        let beats = self.next_beat().is_some();
        let waits = |client: &&Client| !beats || client.stall != Stalling::No;
        self.clients.values().filter(waits).filter_map(|client| self.stall_due(client)).min()
    }

    /// Has all clients looked at, if one may have stood still for long enough.
    pub(super) fn look_at_stalls(&mut self) {
        let is_due = |client: &Client| self.stall_due(client).is_some_and(|due| due <= self.now);
        self.unplaced |= self.clients.values().any(is_due);
    }
}
