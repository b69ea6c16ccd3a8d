//! One thread that looks after all threads that run tasks: a long task keeps back nothing that was done before it, and
//! nothing that was to be done after it.

use std::{
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use cw_core::worker::ExecutorSaid;

use super::Shared;

/// How often it looks while tasks run.
const TICK: Duration = Duration::from_millis(1);

/// A task that runs for longer keeps back none that came after it.
const LONG: Duration = Duration::from_millis(10);

struct Watch {
    thread: Thread,
    asleep: AtomicBool,
    watched: Mutex<Vec<Weak<Shared>>>,
}

static WATCH: OnceLock<Watch> = OnceLock::new();

/// Looks after one more.
pub(super) fn add(shared: &Arc<Shared>) {
    let watch = WATCH.get_or_init(|| {
        let named = thread::Builder::new().name("cw-watch".to_owned());
        let thread = named.spawn(look).expect("a process that starts threads for tasks can start one more");
        Watch { thread: thread.thread().clone(), asleep: AtomicBool::new(false), watched: Mutex::default() }
    });
    watch.watched.lock().expect("no holder panics").push(Arc::downgrade(shared));
}

/// Something is to run: it looks again, if it had stopped.
pub(super) fn wake() {
    if let Some(watch) = WATCH.get()
        && watch.asleep.load(Ordering::SeqCst)
    {
        watch.thread.unpark();
    }
}

fn look() {
    let watch = WATCH.wait();
    loop {
        thread::sleep(TICK);
        if look_at_all(watch) {
            continue;
        }
        // Whoever is fed from here on sees that it sleeps; whoever was before is seen now.
        watch.asleep.store(true, Ordering::SeqCst);
        if !look_at_all(watch) {
            thread::park();
        }
        watch.asleep.store(false, Ordering::SeqCst);
    }
}

/// Says whether anything runs or is about to.
fn look_at_all(watch: &Watch) -> bool {
    let mut watched = watch.watched.lock().expect("no holder panics");
    watched.retain(|shared| shared.strong_count() > 0);
    let all: Vec<_> = watched.iter().filter_map(Weak::upgrade).collect();
    drop(watched);
    // All of them, whatever the first says.
    all.iter().filter(|shared| look_at(shared)).count() > 0
}

fn look_at(shared: &Shared) -> bool {
    let mut outbox = shared.outbox();
    let Some(since) = outbox.running else {
        let inbox = shared.inbox();
        // It may have taken the last, and be about to begin it.
        let is_unsent = outbox.dones > 0 || !outbox.done.is_empty();
        return (is_unsent || !inbox.tasks.is_empty()) && !inbox.closed;
    };
    // Under the lock it cannot end, so whatever was fed was fed after it.
    if since.elapsed() > LONG {
        let tasks = std::mem::take(&mut shared.inbox().tasks).len();
        if tasks > 0 {
            let tasks = u32::try_from(tasks).unwrap_or(u32::MAX);
            outbox.close_burst();
            outbox.done.push(ExecutorSaid::NotStarted { tasks });
        }
    }
    if since.elapsed() >= TICK && (outbox.dones > 0 || !outbox.done.is_empty()) {
        shared.send(&mut outbox);
    }
    // A thread that was left behind wants no looking after.
    !shared.inbox().closed
}
