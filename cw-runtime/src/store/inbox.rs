//! The way to a store's thread.

use std::{
    sync::{Condvar, Mutex},
    time::{Duration, Instant},
};

use super::ToStore;

/// Messages for the thread, and whether it has ended.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    came: Condvar,
    closed: Condvar,
}

#[derive(Default)]
struct State {
    messages: Vec<ToStore>,
    is_closed: bool,
}

impl Inbox {
    pub(super) fn push(&self, message: ToStore) {
        self.state.lock().expect("no holder panics").messages.push(message);
        self.came.notify_one();
    }

    /// Waits for messages, until then at most, and swaps them with `into`, which is empty.
    pub(super) fn take(&self, until: Option<Instant>, into: &mut Vec<ToStore>) {
        let mut state = self.state.lock().expect("no holder panics");
        while state.messages.is_empty() {
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.came.wait(state).expect("no holder panics"),
                Some(Duration::ZERO) => return,
                Some(left) => self.came.wait_timeout(state, left).expect("no holder panics").0,
            };
        }
        std::mem::swap(&mut state.messages, into);
    }

    pub(super) fn note_closed(&self) {
        self.state.lock().expect("no holder panics").is_closed = true;
        self.closed.notify_all();
    }

    /// Whether it ended in time.
    pub(super) fn wait_closed(&self, at_most: Duration) -> bool {
        let state = self.state.lock().expect("no holder panics");
        let waited = self.closed.wait_timeout_while(state, at_most, |state| !state.is_closed);
        !waited.expect("no holder panics").1.timed_out()
    }
}
