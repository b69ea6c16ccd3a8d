//! The end of the worker's own time, as its allocation ends.
//!
//! ```text
//!                 drains                        leaves
//!  |---- ... ----------------------------------|-------------|
//!  any task     none that is not expected       the grace     the end
//!               to be done by then
//! ```
//!
//! What does not fit any more is handed back before it begins, and may run elsewhere; of what tasks take the worker knows
//! what it has learned itself. Tasks that nobody knows begin as long as there is time. A slot that has begun nothing yet
//! takes any task: the master sends it one that is longer than every allocation, or it would never run.
//!
//! A grace before the end the worker leaves as if it had been told to: what runs is killed and handed back. If the end
//! moves meanwhile, all goes on as before. Nothing of this counts against anybody.

use std::time::Duration;

use super::{Action, Pending, Worker};
use crate::{
    Payload, Time,
    ids::{ClientId, SpecIndex},
    learn::LONG,
    wire::{FromWorker, Returned},
};

/// How often it is looked for what does not fit any more.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The worker's time.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// When it ends, if that is known.
    ends: Option<Time>,
    /// When that was told for the first time.
    told: Option<Time>,
    /// How long it was, or is, in all.
    whole: Duration,
    /// How many tasks have begun here.
    pub(super) begun: u32,
    look_at: Time,
}

impl Worker {
    /// The worker's allocation ends then, or its end has moved.
    pub(super) fn on_ends(&mut self, left: Option<Duration>) {
        let now = self.now;
        let ending = &mut self.ending;
        ending.ends = left.map(|left| now + left);
        let told = *ending.told.get_or_insert(now);
        ending.whole = ending.whole.max(now.since(told) + left.unwrap_or_default());
        ending.look_at = now;
        self.tell_ends();
    }

    /// Tells the master when this worker ends, if anybody ever knew.
    pub(super) fn tell_ends(&mut self) {
        if self.ending.told.is_none() {
            return;
        }
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let left = self.ending.ends.map(|ends| seconds(ends.since(self.now)));
        let whole = seconds(self.ending.whole);
        // A master that is new would take what is left for all.
        if left.is_some_and(|left| left < whole) {
            self.tell(FromWorker::Lasts { seconds: whole }, Payload::new());
        }
        self.tell(FromWorker::Ends { left }, Payload::new());
    }

    /// When this worker leaves by itself.
    fn leaves_at(&self) -> Option<Time> {
        let grace = self.config.end_grace.min(self.ending.whole / 10);
        self.ending.ends.map(|ends| Time::from_start(ends.since_start().saturating_sub(grace)))
    }

    /// Whether a task is expected to be done in time, should it begin now.
    pub(super) fn has_time(&self, client: ClientId, spec: SpecIndex) -> bool {
        let Some(until) = self.leaves_at() else { return true };
        if self.ending.begun < self.config.slots || planted!(BeginLate) {
            return true;
        }
        let known = self.clients.get(&client).and_then(|client| client.spec(spec));
        let mean = known.and_then(|spec| spec.learned.mean()).filter(|mean| *mean >= LONG);
        mean.is_none_or(|mean| self.now + Duration::from_micros(mean) <= until)
    }

    /// Hands back what does not fit any more, and leaves when it is time to.
    pub(super) fn end_in_time(&mut self) {
        let Some(until) = self.leaves_at().filter(|_| !self.leaving) else { return };
        if until <= self.now {
            self.actions.push_back(Action::Over);
            return self.on_leave();
        }
        if self.ending.look_at <= self.now {
            self.ending.look_at = self.now + LOOK_EVERY;
            self.hand_back_late();
        }
    }

    fn hand_back_late(&mut self) {
        let is_late = |worker: &Self, pending: &Pending| !worker.has_time(pending.client, pending.spec);
        let late = self.queue.iter().filter(|pending| is_late(self, pending));
        let mut late: Vec<_> = late.map(|pending| (pending.client, pending.spec)).collect();
        late.sort_unstable();
        late.dedup();
        for (client, spec) in late {
            let origin = self.origin_of(client);
            let back = self.queue.take_all(origin, |it| (it.client, it.spec) == (client, spec));
            back.iter().rev().for_each(|pending| self.give_back(pending, Returned::NoTime));
        }
    }

    /// When this worker must next look at its end.
    pub(super) fn next_end(&self) -> Option<Time> {
        let until = self.leaves_at().filter(|_| !self.leaving)?;
        let waits = self.queue.iter().next().is_some();
        Some(if waits { until.min(self.ending.look_at) } else { until })
    }
}
