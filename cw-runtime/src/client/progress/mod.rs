//! How far a map is: counted where answers arrive, shown by a thread of its own.
//!
//! On a terminal it is a bar, drawn ten times a second; elsewhere lines, at intervals that grow, so that the log of a
//! night is a page. Either way one line says at the end what came of it.

mod bar;
mod text;

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cw_core::{IdHash, ids::TaskId, wire::Counts};

pub(crate) use bar::aside;

/// No total: the map's iterator does not know how long it is.
const UNKNOWN: u64 = u64::MAX;

/// All that is shown.
static SHOWN: Mutex<Vec<Weak<Progress>>> = Mutex::new(Vec::new());

/// Writes the last lines of all maps that go on, as the program is about to end.
pub(crate) fn end_all() {
    let shown = std::mem::take(&mut *SHOWN.lock().expect("no holder panics"));
    shown.iter().filter_map(Weak::upgrade).for_each(|progress| progress.end());
}

/// What is known of one map's progress.
#[derive(Debug)]
pub(crate) struct Progress {
    label: String,
    total: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    said: Mutex<Said>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    /// How far running tasks say they are, in thousandths.
    parts: HashMap<TaskId, u16, IdHash>,
    counts: Option<Counts>,
    stage: Stage,
}

#[derive(Debug, Default, PartialEq)]
enum Stage {
    #[default]
    Running,
    /// The map has ended; the last line is to be written.
    Ended,
    /// It is out.
    Told,
}

/// All of it at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Snapshot {
    total: Option<u64>,
    done: u64,
    failed: u64,
    /// Tasks done, and the parts of those that run.
    position: f64,
    /// None if the master has not said, or is lost.
    counts: Option<Counts>,
}

impl Progress {
    /// Nothing is done yet, of so many if that is known; shown under this label until [`end`](Self::end).
    pub(crate) fn start(label: &str, total: Option<u64>) -> Arc<Self> {
        let progress = Arc::new(Self {
            label: if label.is_empty() { "tasks".to_owned() } else { label.replace(char::is_control, " ") },
            total: AtomicU64::new(total.unwrap_or(UNKNOWN)),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            said: Mutex::default(),
            changed: Condvar::new(),
        });
        bar::show(&progress);
        SHOWN.lock().expect("no holder panics").push(Arc::downgrade(&progress));
        progress
    }

    /// The iterator has ended, so the total is known.
    pub(crate) fn settle_total(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// These tasks have ended, well or not.
    pub(crate) fn note_ended(&self, tasks: impl IntoIterator<Item = (TaskId, bool)>) {
        let mut said = self.lock();
        let (mut done, mut failed) = (0, 0);
        for (task, well) in tasks {
            done += 1;
            failed += u64::from(!well);
            if !said.parts.is_empty() {
                said.parts.remove(&task);
            }
        }
        self.done.fetch_add(done, Ordering::Relaxed);
        self.failed.fetch_add(failed, Ordering::Relaxed);
    }

    /// A running task says how far it is.
    pub(crate) fn note_part(&self, task: TaskId, thousandths: u16) {
        self.lock().parts.insert(task, thousandths);
    }

    /// Where the client's tasks are; none if nobody knows.
    pub(crate) fn note_counts(&self, counts: Option<Counts>) {
        self.lock().counts = counts;
    }

    /// The map has ended or was dropped: the last line is written, and this waits for that, briefly.
    pub(crate) fn end(&self) {
        let mut said = self.lock();
        if said.stage == Stage::Running {
            said.stage = Stage::Ended;
            self.changed.notify_all();
        }
        let is_untold = |said: &mut Said| said.stage != Stage::Told;
        let wait = self.changed.wait_timeout_while(said, Duration::from_millis(500), is_untold);
        drop(wait.expect("no holder panics"));
        SHOWN.lock().expect("no holder panics").retain(|shown| !std::ptr::eq(shown.as_ptr(), self));
    }

    /// Waits so long, or until it has ended; says whether it has.
    fn wait(&self, at_most: Duration) -> bool {
        let said = self.lock();
        let waited = self.changed.wait_timeout_while(said, at_most, |said| said.stage == Stage::Running);
        waited.expect("no holder panics").0.stage != Stage::Running
    }

    /// The last line is out.
    fn note_told(&self) {
        self.lock().stage = Stage::Told;
        self.changed.notify_all();
    }

    fn snapshot(&self) -> Snapshot {
        let said = self.lock();
        let parts: u64 = said.parts.values().map(|part| u64::from(*part)).sum();
        let total = self.total.load(Ordering::Relaxed);
        let done = self.done.load(Ordering::Relaxed);
        Snapshot {
            total: (total != UNKNOWN).then_some(total),
            done,
            failed: self.failed.load(Ordering::Relaxed),
            position: done as f64 + parts as f64 / 1_000.0,
            counts: said.counts,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().expect("no holder panics")
    }
}
