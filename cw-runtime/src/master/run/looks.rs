//! What the loop answers to those who look at the cluster, and how it ends if one of them stops it.

use std::time::Duration;

use cw_core::{
    ids::ClientId,
    master::Event,
    wire::{FromObserver, Standing, ToObserver},
};

use super::{Peers, Shell};
use crate::{
    master::observers::{self, Question},
    program::{self, VERSION},
};

/// How long workers are waited for that were told to leave. They give their own executors a few seconds.
const LEAVE_WAIT: Duration = Duration::from_secs(10);

/// Names of clients that may have gone, beyond one for each that is here.
const SPARE_NAMES: usize = 64;

/// A client, in words.
pub(super) struct Names {
    pub(super) name: String,
    pub(super) program_name: String,
}

impl Shell {
    pub(super) fn on_question(&mut self, Question { what, answer }: Question) {
        let frame = match what {
            FromObserver::Look => self.observers.last.young().unwrap_or_else(|| {
                let frame = observers::frame(&ToObserver::Standing(Box::new(self.standing())));
                self.observers.last.keep(frame)
            }),
            FromObserver::Stop => {
                self.stop_cluster();
                observers::frame(&ToObserver::Stopping)
            }
        };
        // Whoever asked may be gone.
        let _ = answer.send(frame);
    }

    /// Has all workers leave. The loop ends once they have.
    fn stop_cluster(&mut self) {
        if self.ends_by.is_some() {
            return;
        }
        let (now, workers) = (self.clock.now(), self.workers.all.len());
        tracing::info!("the cluster is stopped; waiting for {workers} workers to leave");
        self.ends_by = Some(now + LEAVE_WAIT);
        self.close_keeper();
        self.machine.handle(now, Event::Dismiss);
    }

    /// Keeps what a client says of itself, and not much longer than it may come back.
    pub(super) fn note_names(&mut self, client: ClientId, names: Names) {
        self.names.insert(client, names);
        if self.names.len() > 2 * self.clients.all.len() + SPARE_NAMES {
            self.names.retain(|client, _| self.machine.has_client(*client));
        }
    }

    /// How things stand, with what the machine does not know.
    fn standing(&self) -> Standing {
        let mut standing = self.machine.standing();
        (standing.epoch, standing.version, standing.name) =
            (self.epoch, VERSION.to_owned(), program::process_name());
        standing.seconds = self.clock.now().since_start().as_secs();
        for worker in &mut standing.workers {
            worker.address = address(&self.workers, worker.worker);
        }
        for client in &mut standing.clients {
            if let Some(names) = self.names.get(&client.client) {
                client.name.clone_from(&names.name);
                client.program_name.clone_from(&names.program_name);
            }
        }
        standing
    }
}

/// From where a peer is connected.
fn address<Id: Copy + Eq + std::hash::Hash>(peers: &Peers<Id>, id: Id) -> String {
    let peer = peers.all.get(&id);
    peer.map(|peer| peer.connection.remote_address().to_string()).unwrap_or_default()
}
