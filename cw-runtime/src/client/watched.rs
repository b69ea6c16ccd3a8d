//! What the master says of the progress of this client's tasks, for whoever looks at it.

use std::sync::{Arc, Weak};

use cw_core::{Time, client::Event, ids::TaskId, wire::Counts};

use super::{hub::Desk, progress::Progress, sink::Sink};

impl Desk {
    /// Somebody looks at a map's progress.
    pub(super) fn watch(&mut self, now: Time, progress: &Arc<Progress>) {
        if self.watching.is_empty() {
            self.machine.handle(now, Event::Watch { on: true });
        }
        self.watching.push(Arc::downgrade(progress));
        progress.note_counts(self.counts);
    }

    /// The master is lost, and with it what it said.
    pub(crate) fn lose_master(&mut self, now: Time) {
        self.machine.handle(now, Event::MasterLost);
        self.note_counts(None);
    }

    fn note_counts(&mut self, counts: Option<Counts>) {
        self.counts = counts;
        self.watching.retain(|progress| progress.strong_count() > 0);
        let shown = self.watching.iter().filter_map(Weak::upgrade);
        shown.for_each(|progress| progress.note_counts(counts));
    }

    pub(super) fn show_counts(&mut self, now: Time, counts: Counts) {
        self.note_counts(Some(counts));
        if self.watching.is_empty() {
            self.counts = None;
            self.machine.handle(now, Event::Watch { on: false });
        }
    }

    pub(super) fn show_part(&self, task: TaskId, thousandths: u16) {
        let stream = match self.sinks.get(task) {
            Some(Sink::Stream(stream, ..)) => Some(stream),
            _ => self.together.stream(task),
        };
        if let Some(progress) = stream.and_then(|stream| stream.progress()) {
            progress.note_part(task, thousandths);
        }
    }
}
