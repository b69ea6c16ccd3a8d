//! How much of what the program submitted waits for room in the cluster's window, and who waits for that.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Waker,
};

/// There is room while less waits than this: enough that the window never runs dry between two wake-ups.
const READY_TASKS: usize = 1_024;
const READY_BYTES: u64 = 16 << 20;

/// Tasks that were submitted and not sent.
#[derive(Default)]
pub(super) struct Backlog {
    tasks: AtomicUsize,
    bytes: AtomicU64,
    /// Whether somebody is in `hungry`, to be seen without the lock.
    is_awaited: AtomicBool,
    hungry: Mutex<Vec<Waker>>,
}

impl Backlog {
    /// So much was submitted.
    pub(super) fn add(&self, tasks: usize, bytes: u64) {
        self.tasks.fetch_add(tasks, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Of what was submitted so much was thought to wait, and so much does.
    pub(super) fn correct(&self, thought: (usize, u64), waits: (usize, u64)) {
        // The sums never go below zero, so wrapping on the way does no harm.
        self.tasks.fetch_add(waits.0.wrapping_sub(thought.0), Ordering::SeqCst);
        self.bytes.fetch_add(waits.1.wrapping_sub(thought.1), Ordering::SeqCst);
        // Half of the room, so that those who wait come in batches.
        if self.is_awaited.load(Ordering::SeqCst) && self.has_room(2) {
            self.is_awaited.store(false, Ordering::SeqCst);
            self.hungry.lock().expect("no holder panics").drain(..).for_each(Waker::wake);
        }
    }

    pub(super) fn poll_ready(&self, waker: &Waker) -> bool {
        if self.has_room(1) {
            return true;
        }
        let mut hungry = self.hungry.lock().expect("no holder panics");
        if !hungry.iter().any(|waiting| waiting.will_wake(waker)) {
            hungry.push(waker.clone());
        }
        drop(hungry);
        self.is_awaited.store(true, Ordering::SeqCst);
        // It may have come meanwhile, before anybody could see that it is awaited.
        self.has_room(2)
    }

    /// Whether less waits than this part of what may.
    fn has_room(&self, part: usize) -> bool {
        self.tasks.load(Ordering::SeqCst) < READY_TASKS / part
            && self.bytes.load(Ordering::SeqCst) < READY_BYTES / part as u64
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, task::Wake};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn there_is_room_until_much_waits_and_again_when_half_is_gone() {
        let (backlog, woken) = (Backlog::default(), Arc::new(Woken::default()));
        let waker = Waker::from(Arc::clone(&woken));
        backlog.add(READY_TASKS - 1, 0);
        assert!(backlog.poll_ready(&waker));
        backlog.add(1, 0);
        assert!(!backlog.poll_ready(&waker));
        backlog.correct((READY_TASKS, 0), (READY_TASKS - 10, 0));
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        backlog.correct((READY_TASKS - 10, 0), (10, 0));
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(backlog.poll_ready(&waker));
    }

    #[test]
    fn bytes_count_too() {
        let backlog = Backlog::default();
        backlog.add(1, READY_BYTES);
        assert!(!backlog.poll_ready(Waker::noop()));
        backlog.correct((1, READY_BYTES), (0, 0));
        assert!(backlog.poll_ready(Waker::noop()));
    }
}
