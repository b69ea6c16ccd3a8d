//! Leaving when there was nothing to do for long: an allocation that nobody uses is given back.
//!
//! Nothing is noted with each task but the time. When a worker is to be looked at, it either has something to do, and is
//! looked at again after as long as it may be idle, or it is known since when it has not.

use super::{Action, Worker, executors::Slot, held};
use crate::Time;

impl Worker {
    /// It is not idle just now.
    pub(super) fn note_work(&mut self) {
        self.worked = self.now;
    }

    /// When it is next looked whether it has been idle for long. Without a master nobody could give it anything.
    pub(super) fn next_idle_look(&self) -> Option<Time> {
        self.look_idle.filter(|_| self.attached && !self.leaving)
    }

    /// A master lets it in: from now on it waits for tasks.
    pub(super) fn begin_idling(&mut self) {
        self.worked = self.now;
        self.look_idle = self.config.idle_end.map(|time| self.now + time);
    }

    /// Leaves if it has been idle for long enough.
    pub(super) fn leave_if_idle(&mut self) {
        let Some(time) = self.config.idle_end else { return };
        if self.next_idle_look().is_none_or(|due| due > self.now) {
            return;
        }
        let until = self.idle_since().unwrap_or(self.now) + time;
        if until > self.now {
            self.look_idle = Some(until);
        } else {
            self.actions.push_back(Action::Idle);
            self.on_leave();
        }
    }

    /// Since when there has been nothing to do; none if there is something.
    fn idle_since(&self) -> Option<Time> {
        let rest = self.slots.iter().filter_map(Slot::idle_since);
        self.is_quiet().then(|| rest.fold(self.worked, Time::max))
    }

    /// Whether nothing is queued, running or unacknowledged.
    pub(crate) fn is_quiet(&self) -> bool {
        self.queue.is_empty()
            && self.slots.iter().all(|slot| slot.batch().is_empty())
            && self.clients.values().all(held::Client::is_quiet)
    }
}
