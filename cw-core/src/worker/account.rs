//! Losing the master, and telling the next what is here.

use super::{Action, Worker};
use crate::{
    Payload, Time,
    ids::ClientId,
    wire::{Doing, FromWorker},
};

impl Worker {
    /// What runs goes on; results that the master may not have had are to be sent again.
    pub(super) fn on_master_lost(&mut self) {
        self.attached = false;
        // The master moves what has not begun as soon as it notices.
        self.lease = self.lease.map(|until| until.min(self.now));
        self.clients.values_mut().for_each(super::held::Client::take_back_sent);
        for action in self.actions.take() {
            match action {
                Action::Tell { message, body } => self.tell(message, body),
                other => self.actions.push_back(other),
            }
        }
    }

    pub(super) fn on_joined(&mut self, returned: bool) {
        self.attached = true;
        self.begin_idling();
        self.tell_ends();
        if !returned {
            return self.start_afresh();
        }
        for message in std::mem::take(&mut self.unsaid) {
            self.tell(message, Payload::new());
        }
        let clients: Vec<ClientId> = self.clients.keys().copied().collect();
        for client in clients {
            if self.clients[&client].blocked {
                self.tell(FromWorker::Held { client, held: true }, Payload::new());
            }
            self.say_all_of(client);
        }
        if !planted!(SayNotAccounted) {
            self.tell(FromWorker::Accounted { client: None }, Payload::new());
        }
        self.say_questions();
    }

    /// The master knows nothing of what is here, and gives its names to others.
    fn start_afresh(&mut self) {
        self.queue.clear();
        self.clients.clear();
        self.unsaid.clear();
        self.lease = None;
        self.abandon_all();
        self.end_unwanted();
        self.tidy();
    }

    pub(super) fn on_account(&mut self, client: ClientId) {
        if let Some(known) = self.clients.get_mut(&client) {
            let open = known.is_open();
            known.take_back_sent();
            known.set_open(open);
            self.say_all_of(client);
        }
        self.tell(FromWorker::Accounted { client: Some(client) }, Payload::new());
        self.send_held(client);
    }

    fn say_all_of(&mut self, client: ClientId) {
        let queued = self.queue.iter().filter(|pending| pending.client == client);
        let each = queued.flat_map(|pending| pending.ids().map(|task| (task, pending.attempt)));
        let mut all: Vec<_> = each.map(|(task, attempt)| (task, attempt, Doing::Waiting)).collect();
        let fed = self.slots.iter().flat_map(super::Slot::fed);
        // What was given up will end without a word that anybody waits for.
        let wanted = fed
            .filter(|(running, _)| running.client == client && !running.cancelled && !planted!(HideRunning));
        all.extend(wanted.map(|(running, doing)| (running.task, running.attempt, doing)));
        all.extend(self.clients[&client].kept().map(|(task, attempt)| (task, attempt, Doing::Done)));
        for (task, attempt, doing) in all {
            self.tell(FromWorker::Have { client, task, attempt, doing }, Payload::new());
        }
    }

    /// Whether the master is sure that this worker is well, so that it gives none of its tasks to others.
    pub(super) fn may_begin(&self) -> bool {
        planted!(IgnoreLease) || self.lease.map_or(self.attached, |until| self.now < until)
    }

    /// Tells of what has run for a while, once.
    pub(super) fn tell_started(&mut self) {
        let (now, after) = (self.now, self.config.started_after);
        if !self.attached {
            return;
        }
        for place in 0..self.slots.len() {
            let slot = &mut self.slots[place];
            if slot.unreported(after).is_some_and(|due: Time| due <= now)
                && let Some(first) = slot.note_reported()
            {
                let (client, task, attempt) = first;
                self.tell(FromWorker::Started { client, task, attempt }, Payload::new());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{Attempt, TaskId},
        wire::Returned,
        worker::Config,
    };

    #[test]
    fn what_began_and_is_gone_is_told_to_the_next_master() {
        let mut worker = Worker::new(Config::default());
        let gone = |task, why| FromWorker::Returned {
            client: ClientId(1),
            task: TaskId(task),
            attempt: Attempt(1),
            why,
        };
        let (suspect, killed) = (gone(1, Returned::Suspect), gone(2, Returned::Killed));
        worker.tell(suspect.clone(), Payload::new());
        worker.tell(FromWorker::Recalled, Payload::new());
        worker.tell(killed.clone(), Payload::new());
        worker.on_joined(true);
        let told: Vec<FromWorker> = worker
            .actions
            .take()
            .into_iter()
            .filter_map(|action| match action {
                Action::Tell { message, .. } => Some(message),
                _ => None,
            })
            .collect();
        assert_eq!(told, [suspect, killed, FromWorker::Accounted { client: None }]);
    }
}
