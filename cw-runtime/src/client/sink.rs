//! Where answers go: a handle's slot, a map's queue, a callback.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    task::Waker,
};

use cw_core::{client::Completion, ids::TaskId};

use super::{
    progress::Progress,
    ready::{Came, Ready},
};

/// What is done with a task's answer.
pub(crate) enum Sink {
    /// One caller waits, or will.
    Slot(Arc<Slot>),
    /// A map reads it, as its input of this index, whose arguments were so many bytes.
    Stream(Arc<StreamQueue>, u64, u32),
    /// It is called, on the thread for callbacks.
    Callback(Callback),
}

/// A callback; it finds its own task id.
pub(crate) type Callback = Box<dyn FnOnce(TaskId, Completion) + Send>;

/// The place of one answer. A std mutex, as it is held for a move.
#[derive(Default)]
pub(crate) struct Slot(Mutex<SlotState>);

/// Small, as there is one for each call that waits.
#[derive(Default)]
enum SlotState {
    #[default]
    Empty,
    Awaited(Waker),
    Answered(Box<Completion>),
    Taken,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.0.lock().expect("no holder panics")
    }

    pub(crate) fn put(&self, answer: Completion) {
        let before = std::mem::replace(&mut *self.lock(), SlotState::Answered(Box::new(answer)));
        if let SlotState::Awaited(waker) = before {
            waker.wake();
        }
    }

    /// The answer, once; else has `waker` called when it comes.
    pub(crate) fn poll(&self, waker: &Waker) -> Option<Completion> {
        let mut state = self.lock();
        match std::mem::replace(&mut *state, SlotState::Taken) {
            SlotState::Answered(answer) => Some(*answer),
            SlotState::Taken => None,
            SlotState::Empty | SlotState::Awaited(_) => {
                *state = SlotState::Awaited(waker.clone());
                None
            }
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        matches!(*self.lock(), SlotState::Answered(_) | SlotState::Taken)
    }
}

/// The answers of one map. Its reader takes all that are there at once.
#[derive(Default)]
pub(crate) struct StreamQueue {
    state: Mutex<StreamState>,
    /// Counts what ends, where somebody looks.
    progress: Option<Arc<Progress>>,
}

#[derive(Default)]
struct StreamState {
    answers: Ready,
    /// Nobody reads it any more.
    closed: bool,
    waker: Option<Waker>,
}

impl StreamQueue {
    /// A queue whose answers are counted.
    pub(crate) fn watched(progress: Option<Arc<Progress>>) -> Self {
        Self { progress, ..Self::default() }
    }

    pub(crate) fn progress(&self) -> Option<&Arc<Progress>> {
        self.progress.as_ref()
    }

    /// Adds answers, emptying `answers`, and wakes the reader once.
    pub(crate) fn put(&self, answers: &mut Vec<Came>) {
        if let Some(progress) = &self.progress {
            progress.note_ended(answers.iter().flat_map(Came::ended));
        }
        let mut state = self.state.lock().expect("no holder panics");
        if state.closed {
            answers.clear();
        }
        answers.drain(..).for_each(|came| state.answers.push(came));
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether there are answers to be read.
    pub(crate) fn has_answers(&self) -> bool {
        !self.state.lock().expect("no holder panics").answers.is_empty()
    }

    /// Drops what is there and what still comes.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock().expect("no holder panics");
        state.closed = true;
        state.answers.clear();
    }

    /// Moves all answers into `ready`, which is empty; if there are none, has `waker` called when some come.
    pub(crate) fn take(&self, ready: &mut Ready, waker: &Waker) {
        let mut state = self.state.lock().expect("no holder panics");
        std::mem::swap(&mut state.answers, ready);
        if ready.is_empty() {
            state.waker = Some(waker.clone());
        }
    }
}

/// Answers of one wake-up, so that each map is locked and woken once for all of them.
#[derive(Default)]
pub(crate) struct Answers {
    streams: Vec<(Arc<StreamQueue>, Vec<Came>)>,
}

impl Answers {
    pub(crate) fn add(&mut self, stream: Arc<StreamQueue>, came: Came) {
        // A program has few maps at a time, and answers of one come together: the last is nearly always it.
        match self.streams.iter_mut().rev().find(|(known, _)| Arc::ptr_eq(known, &stream)) {
            Some((_, answers)) => answers.push(came),
            None => self.streams.push((stream, vec![came])),
        }
    }

    pub(crate) fn deliver(&mut self) {
        for (stream, answers) in &mut self.streams {
            if !answers.is_empty() {
                stream.put(answers);
            }
        }
        // A map that nobody reads any more is not kept for its sake.
        self.streams.retain(|(stream, _)| Arc::strong_count(stream) > 1);
    }
}
