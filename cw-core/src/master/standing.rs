//! How things stand, for whoever asks; and the end of a cluster: all workers are told to leave.

use super::{
    Master,
    clients::{Client, Stalling},
    workers::Worker,
};
use crate::{
    Time,
    ids::{ClientId, WorkerId},
    wire::{ClientStanding, Standing, ToWorker, WorkerStanding, WorkerState},
};

impl Master {
    /// How things stand, but for what only the shell knows: the master's name, version, age and epoch, the names of
    /// clients and their programs, and addresses.
    pub fn standing(&self) -> Standing {
        Standing {
            workers: self.workers.iter().map(|(id, worker)| worker.standing(*id, self.now)).collect(),
            clients: self.present().map(|(id, client)| self.client_standing(*id, client)).collect(),
            outlook: self.outlook.clone(),
            ..Standing::default()
        }
    }

    /// Whether a client is here, or may come back.
    pub fn has_client(&self, id: ClientId) -> bool {
        self.clients.get(&id).is_some_and(|client| !client.gone)
    }

    /// The clients that have not left.
    fn present(&self) -> impl Iterator<Item = (&ClientId, &Client)> {
        self.clients.iter().filter(|(_, client)| !client.gone)
    }

    fn client_standing(&self, id: ClientId, client: &Client) -> ClientStanding {
        // What is called back may still be in a slot.
        let waits = (client.count() - client.cancelling) as u64 - u64::from(client.held.total());
        let running = u64::from(self.running(id).0).min(waits);
        ClientStanding {
            client: id,
            name: String::new(),
            program_name: String::new(),
            queued: waits - running,
            running,
            done: client.ends.done,
            failed: client.ends.failed,
            stall: client.told_stall(),
            is_away: client.detached.is_some(),
        }
    }

    /// Tells all workers to leave, and from now on whoever joins.
    pub(super) fn dismiss(&mut self) {
        self.is_ending = true;
        self.workers.keys().copied().collect::<Vec<_>>().into_iter().for_each(|id| self.dismiss_worker(id));
    }

    /// Tells a worker to leave, if the cluster is to end. It is sent nothing more.
    pub(super) fn dismiss_worker(&mut self, id: WorkerId) {
        if self.is_ending {
            self.let_go(id);
        }
    }

    /// A worker has nothing to do and may leave, unless it was sent something meanwhile.
    pub(super) fn on_idle(&mut self, id: WorkerId) {
        if self.workers.get(&id).is_some_and(|worker| worker.sent == 0) {
            self.let_go(id);
        }
    }

    fn let_go(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.leaving = true;
        self.note_load(id);
        self.tell_worker(id, ToWorker::Leave);
    }
}

impl Client {
    /// Why nothing of it moves, as it was told.
    fn told_stall(&self) -> Option<String> {
        match &self.stall {
            Stalling::Since { told: Some((_, why)), .. } if self.detached.is_none() => Some(why.to_string()),
            _ => None,
        }
    }
}

impl Worker {
    fn standing(&self, worker: WorkerId, now: Time) -> WorkerStanding {
        WorkerStanding {
            worker,
            name: self.name.clone(),
            program_name: self.of.program_name.clone(),
            slots: self.slots,
            running: self.sent.min(self.slots),
            ahead: self.ahead(),
            state: self.state(),
            left: self.left(now).map(|left| u32::try_from(left.as_secs()).unwrap_or(u32::MAX)),
            address: String::new(),
        }
    }

    fn state(&self) -> WorkerState {
        match self {
            Self { connected: false, .. } => WorkerState::Away,
            Self { suspect: true, .. } => WorkerState::Silent,
            Self { leaving: true, .. } => WorkerState::Leaving,
            Self { record, .. } if record.is_set_aside() => WorkerState::SetAside,
            _ => WorkerState::Well,
        }
    }
}
