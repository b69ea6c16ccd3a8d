//! Saying why nothing moves, and refusing what nobody here can run.

use bytes::Bytes;

use super::{Master, clients::Stalling};
use crate::{
    Time,
    ids::{ClientId, ProgramId},
    wire::{Failure, Stall, ToClient},
};

impl Master {
    /// Notes since when each client's tasks do not move. Runs after each pass of placement.
    pub(super) fn watch_stalls(&mut self) {
        let mut moving = Vec::new();
        for (id, client) in &mut self.clients {
            let stalled = client.queued > 0 && client.moving() == 0 && !client.gone;
            match (&client.stall, stalled) {
                (Stalling::No, true) => client.stall = Stalling::Since { since: self.now, told: None },
                (Stalling::Since { told, .. }, false) => {
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
            let why = self.why_stalled(self.clients[&client].program);
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
        client.queue.clear();
        client.queued = 0;
        self.waiting.remove(&(client.usage, id));
        for task in client.tasks.sorted_keys(|_| true) {
            let entry = self.clients.get_mut(&id).and_then(|client| client.take_out(task));
            let ended = entry.expect("listed above").ended();
            self.end_here(id, task, ended, &failure);
        }
    }

    /// Why tasks of a program do not move.
    fn why_stalled(&self, program: ProgramId) -> Stall {
        let fitting = self.workers.values().filter(|worker| worker.program == program);
        let slots: u32 = fitting.map(|worker| worker.slots).sum();
        if slots > 0 {
            return Stall::Busy { slots };
        }
        let Some(worker) = self.workers.values().next() else { return Stall::NoWorker };
        Stall::OtherProgram {
            workers: u32::try_from(self.workers.len()).unwrap_or(u32::MAX),
            program: worker.program,
            program_name: worker.program_name.clone(),
            worker: worker.name.clone(),
        }
    }

    /// When a stalled client must next be looked at.
    pub(super) fn next_stall(&self) -> Option<Time> {
        let (soon, late) = (self.config.stall_after, self.config.refuse_after);
        let due = self.clients.values().filter_map(|client| match &client.stall {
            Stalling::Since { since, told: None } => Some(*since + soon),
            Stalling::Since { since, told: Some(Stall::OtherProgram { .. }) } => Some(*since + late),
            _ => None,
        });
        due.min()
    }
}
