//! Leaving when there was nothing to do for long: an allocation that nobody uses is given back.
//!
//! A task may be on its way just then, and one that must not run twice would be lost by that. So the worker only says that it
//! is idle, and the master, which knows what it has sent, lets it go or leaves that unanswered.
//!
//! Nothing is noted with each task but the time. When a worker is to be looked at, it either has something to do, and is
//! looked at again after as long as it may be idle, or it is known since when it has not.

use std::time::Duration;

use super::{Action, Worker, executors::Slot, held};
use crate::{Payload, Time, wire::FromWorker};

/// After so long a worker that still has nothing to do says so again.
const SAY_AGAIN: Duration = Duration::from_secs(1);

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
        self.said_idle = None;
    }

    /// Says so if it has been idle for long enough.
    pub(super) fn leave_if_idle(&mut self) {
        let Some(time) = self.config.idle_end else { return };
        if self.next_idle_look().is_none_or(|due| due > self.now) {
            return;
        }
        let until = self.idle_since().unwrap_or(self.now) + time;
        if until > self.now {
            self.look_idle = Some(until);
        } else {
            self.look_idle = Some(self.now + SAY_AGAIN);
            self.said_idle = Some(self.now);
            self.tell(FromWorker::Idle, Payload::new());
        }
    }

    /// The master lets it go, or ends all.
    pub(super) fn on_dismissed(&mut self) {
        if self.has_been_idle() && !self.leaving {
            self.actions.push_back(Action::Idle);
        }
        self.on_leave();
    }

    /// Whether it has told its master that it is idle, and nothing came since.
    pub fn has_been_idle(&self) -> bool {
        self.said_idle.is_some_and(|said| self.idle_since().is_some_and(|since| since <= said))
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
