//! Tasks that must not run twice: none is sent before its client knows of that.
//!
//! Should this master die, a client takes all that may have been sent out to have run, and what no worker has of that is
//! lost (`reattach`). So of each spec whose tasks must not run twice it is told up to which of them all may have been, and
//! says that it knows. Tasks of a spec are sent in order, also those that were laid aside. What is laid aside for want of time (`ending`) lies above that
//! mark, and is not lost, since
//!
//! - a mark is set only once a worker has room and time, for long tasks no further than there are free slots with as much,
//!   and never beyond what is laid aside;
//! - a task above the mark is not sent while an earlier one is laid aside: it is laid aside as well.
//!
//! But marks of tasks that are short, or of which nobody knows what they take, go ahead as those of others do: what lies
//! below, and turns out to have no worker, is lost with this master though it never began (at most 1,024). So is what had a
//! free slot with enough time that was another's by the time the client had answered. A failed
//! task that a former master had sent may be tried again here without its client being told first: that one's mark covers it.
//!
//! While a client has to answer, one slot is kept for it, as it may have waited long for that: but not for long.

use std::time::Duration;

use super::{Client, Master, clients::SpecState};
use crate::{
    Payload, Time,
    ids::{ClientId, SpecIndex, TaskId, WorkerId},
    wire::ToClient,
};

/// Who has not answered after so long is waited for by nobody else.
const ANSWERED_IN: Duration = Duration::from_secs(1);

/// What becomes of a client whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It has a place there.
    Send(WorkerId),
    /// It first has to know what is sent. A slot is kept for it.
    Keep(WorkerId),
    /// No worker with room has time for what it has next.
    LayAside,
}

/// Slots that are kept in one pass for clients that have to answer.
pub(super) type Kept = Vec<(ClientId, WorkerId)>;

impl Master {
    /// Whether a client's next task goes only to a slot that is free.
    pub(super) fn must_begin_at_once(&self, id: ClientId) -> bool {
        self.clients[&id].next_once().is_some()
    }

    /// Whether a client must first say that it knows what is about to be sent.
    pub(super) fn awaits_note(&self, id: ClientId) -> bool {
        let next = self.clients[&id].next_once();
        self.config.liveness && next.is_some_and(|(task, spec)| task >= spec.noted)
    }

    /// Whether a client was told what it has to know, and has not answered.
    pub(super) fn has_to_answer(&self, id: ClientId) -> bool {
        self.awaits_note(id)
            && self.clients[&id].next_once().is_some_and(|(task, spec)| task < spec.dispatched)
    }

    /// Whether a client has not answered for so long that nobody waits for it.
    pub(super) fn is_mute(&self, id: ClientId) -> bool {
        self.clients[&id].answers_by <= self.now && self.has_to_answer(id)
    }

    /// Whether a client's next task must wait for an earlier one of its kind that is laid aside.
    pub(super) fn is_behind(&self, id: ClientId) -> bool {
        let client = &self.clients[&id];
        let Some((task, spec)) = client.next_once().filter(|(task, spec)| *task >= spec.dispatched) else {
            return false;
        };
        let index = client.spec_at(task);
        let earlier = index.and_then(|index| client.parked.untimely_from(index, spec.dispatched));
        earlier.is_some_and(|earlier| earlier < task)
    }

    /// When nobody waits any longer for those for whom slots are kept.
    pub(super) fn kept_until(&self, kept: &Kept) -> Option<Time> {
        kept.iter().map(|(id, _)| self.clients[id].answers_by).min()
    }

    /// Tells clients what is short and about to be sent that must not run twice.
    pub(super) fn announce_once(&mut self) {
        for id in self.once.iter().copied().collect::<Vec<_>>() {
            let client = &self.clients[&id];
            let Some((task, spec)) =
                client.next_once().and_then(|(task, _)| Some((task, client.spec_at(task)?)))
            else {
                continue;
            };
            let is_long = self.next_need(id).micros > 0;
            let is_news = task >= client.dispatched_of(spec);
            if is_news && !is_long && !self.is_behind(id) && self.timely(id, spec, 1) > 0 {
                self.announce(id, task, spec);
            }
        }
    }

    /// Tells a client that its next task is about to be sent, unless it was told.
    pub(super) fn announce_next(&mut self, id: ClientId) {
        let client = &self.clients[&id];
        if let Some(task) = client.first()
            && let Some(spec) = client.spec_at(task)
        {
            self.announce(id, task, spec);
        }
    }

    fn announce(&mut self, id: ClientId, task: TaskId, spec: SpecIndex) {
        if task >= self.clients[&id].dispatched_of(spec) {
            self.tell_dispatched_once(id, task, spec);
        }
    }

    /// A client is told that this task of a spec is about to be sent, and as many more as will soon be.
    pub(super) fn tell_dispatched_once(&mut self, id: ClientId, task: TaskId, spec: SpecIndex) {
        let is_long = self.task_need(id, task).micros > 0;
        let ahead = if is_long { self.timely(id, spec, 0).max(1) as u64 } else { self.ahead(id) };
        let client = self.clients.get_mut(&id).expect("the caller looked it up");
        let below = TaskId(task.0.saturating_add(ahead));
        let below = client.parked.untimely_from(spec, TaskId(task.0 + 1)).map_or(below, |it| it.min(below));
        #[cfg(any(test, feature = "sim"))]
        client.check_mark(spec, below);
        client.specs[spec.0 as usize].dispatched = below;
        client.answers_by = self.now + ANSWERED_IN;
        self.tell_client(id, ToClient::DispatchedOnce { spec, below }, Payload::new());
    }

    /// A client is back: what it was told may have been lost with the connection.
    pub(super) fn tell_dispatched_again(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.answers_by = self.now + ANSWERED_IN;
        let below = client.dispatched;
        let marks: Vec<(usize, TaskId)> =
            client.specs.iter().map(|spec| spec.dispatched).enumerate().filter(|(_, it)| it.0 > 0).collect();
        if below > TaskId(0) {
            self.tell_client(id, ToClient::Dispatched { below }, Payload::new());
        }
        for (spec, below) in marks {
            let spec = SpecIndex(u32::try_from(spec).expect("declared under this index"));
            self.tell_client(id, ToClient::DispatchedOnce { spec, below }, Payload::new());
        }
    }

    /// A client knows which tasks of a spec may have been sent.
    pub(super) fn on_noted(&mut self, id: ClientId, spec: SpecIndex, below: TaskId) {
        if let Some(client) = self.clients.get_mut(&id)
            && let Some(state) = client.specs.get_mut(spec.0 as usize)
        {
            state.noted = state.noted.max(below.min(state.dispatched));
            self.unplaced = true;
        }
    }
}

impl Client {
    /// Its next task and what that is, if that must not run twice.
    fn next_once(&self) -> Option<(TaskId, &SpecState)> {
        if !self.has_once {
            return None;
        }
        let task = self.first()?;
        let spec = &self.specs[self.tasks.get(task)?.spec.0 as usize];
        (!spec.what.rerun).then_some((task, spec))
    }

    /// No task of this spec from which one on has been sent, as it was told.
    pub(super) fn dispatched_of(&self, spec: SpecIndex) -> TaskId {
        let spec = &self.specs[spec.0 as usize];
        if spec.what.rerun { self.dispatched } else { spec.dispatched }
    }
}
