//! How the session of a client ends.

use std::collections::VecDeque;

use super::{
    Master,
    tasks::{State, Task},
};
use crate::{
    ids::{Attempt, ClientId, WorkerId},
    wire::ToWorker,
};

impl Master {
    /// A client left, or did not come back: what is queued is dropped, what runs is killed.
    pub(super) fn end_session(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if std::mem::replace(&mut client.gone, true) {
            return;
        }
        client.spread_all();
        self.waiting.remove(&(client.usage, id));
        client.queue.clear();
        client.queued = 0;
        for task in std::mem::take(&mut client.parked).keys() {
            self.wishful.remove(&(id, task));
        }
        let waits = |task: &Task| matches!(task.state, State::Queued | State::Parked);
        for task in client.tasks.sorted_keys(waits) {
            client.take_out(task);
        }
        let unanswered = |task: &Task| matches!(task.state, State::Sent { .. } | State::Held { .. });
        for task in client.tasks.sorted_keys(unanswered) {
            if let Some(worker) = self.state_of(id, task).and_then(State::worker) {
                self.cancel_sent(id, task, worker);
            }
        }
        self.drop_member(id.0);
        self.forget_if_done(id);
    }

    /// Drops what is queued and was never tried, of a client that is away: most of what it takes up.
    pub(super) fn trim(&mut self, id: ClientId) {
        self.take_up_all(id);
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.trimmed = true;
        client.spread_all();
        let is_new = |task: &Task| task.state == State::Queued && task.latest == Attempt(0);
        let new = client.tasks.sorted_keys(is_new);
        if new.is_empty() {
            return;
        }
        new.into_iter().for_each(|task| drop(client.take_out(task)));
        let tasks = &client.tasks;
        client.queue.values_mut().for_each(|queue| queue.retain(|task| tasks.contains(*task)));
        client.queue.retain(|_, queue| !queue.is_empty());
        client.queued = client.queue.values().map(VecDeque::len).sum();
        if client.queued == 0 {
            self.waiting.remove(&(client.usage, id));
        }
    }

    /// Removes a client that has gone once no worker owes an answer about its tasks.
    pub(super) fn forget_if_done(&mut self, id: ClientId) {
        if !self.clients.get(&id).is_some_and(|client| client.gone && client.is_empty()) {
            return;
        }
        let gone = self.clients.remove(&id).expect("just seen");
        gone.specs.iter().for_each(|spec| self.habits.close(spec.habit));
        let lists =
            [&mut self.away, &mut self.resuming, &mut self.watching, &mut self.once, &mut self.untimely];
        for list in lists {
            list.remove(&id);
        }
        self.former.values_mut().for_each(|(_, worked_for)| {
            worked_for.remove(&id);
        });
        self.close_program(gone.program);
        let told: Vec<WorkerId> =
            self.workers.iter_mut().filter_map(|(w, state)| state.forget(id).then_some(*w)).collect();
        for worker in told {
            self.tell_worker(worker, ToWorker::Forget { client: id });
        }
    }
}
