//! What a running job may know of itself: its task, its worker, a folder, and a way to say how far it is.

use std::{
    cell::RefCell,
    fmt,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use cw_core::ids::{Attempt, TaskId};

use super::{checkpoint::Questions, scratch::Scratch};

/// No task's id.
const NONE: u64 = u64::MAX;

/// What an executor and the jobs that run in it share. Written between tasks, read by whoever asks.
pub(crate) struct Desk {
    worker: String,
    scratch: Scratch,
    task: AtomicU64,
    attempt: AtomicU32,
    /// How many have begun: what is left of one must not speak for another of its name.
    turn: AtomicU64,
    cancelled: AtomicBool,
    /// Whether the task that runs has asked for a folder.
    has_scratch: AtomicBool,
    /// What the task that runs said last: thousandths and 1, or 0.
    progress: AtomicU32,
    /// Called when that changes; where there is none, somebody looks now and then.
    on_progress: Option<OnProgress>,
    /// What it asks of its client.
    pub(super) questions: Questions,
}

type OnProgress = Box<dyn Fn(u16) + Send + Sync>;

impl Desk {
    /// The desk of an executor of this worker.
    pub(crate) fn new(worker: String, scratch: Scratch, on_progress: Option<OnProgress>) -> Self {
        Self {
            worker,
            scratch,
            task: AtomicU64::new(NONE),
            attempt: AtomicU32::new(0),
            turn: AtomicU64::new(0),
            cancelled: AtomicBool::new(false),
            has_scratch: AtomicBool::new(false),
            progress: AtomicU32::new(0),
            on_progress,
            questions: Questions::default(),
        }
    }

    /// A task begins.
    pub(super) fn begin(&self, task: TaskId, attempt: Attempt) {
        self.progress.store(0, Ordering::Relaxed);
        self.attempt.store(attempt.0, Ordering::Relaxed);
        // Nobody else writes it.
        self.turn.store(self.turn.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.task.store(task.0, Ordering::Release);
    }

    /// It has ended: nothing that it left running speaks for the next one.
    pub(super) fn end(&self, task: TaskId, attempt: Attempt) {
        self.task.store(NONE, Ordering::Release);
        self.progress.store(0, Ordering::Relaxed);
        if self.has_scratch.load(Ordering::Relaxed) && self.has_scratch.swap(false, Ordering::Relaxed) {
            self.scratch.remove(task, attempt);
        }
    }

    /// The task that runs is not wanted any more.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// What was said of the progress and not been taken yet, in thousandths.
    pub(super) fn take_progress(&self) -> Option<u16> {
        let said = self.progress.swap(0, Ordering::Relaxed);
        u16::try_from(said).ok()?.checked_sub(1)
    }

    fn running(&self) -> Option<(TaskId, Attempt, u64)> {
        let task = self.task.load(Ordering::Acquire);
        let (attempt, turn) = (self.attempt.load(Ordering::Relaxed), self.turn.load(Ordering::Relaxed));
        (task != NONE).then_some((TaskId(task), Attempt(attempt), turn))
    }

    fn note_progress(&self, thousandths: u16) {
        let said = u32::from(thousandths) + 1;
        match &self.on_progress {
            None => self.progress.store(said, Ordering::Relaxed),
            Some(tell) => {
                if self.progress.swap(said, Ordering::Relaxed) != said {
                    tell(thousandths);
                }
            }
        }
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Desk({:?} on {})", self.running(), self.worker)
    }
}

/// The desk of a process that is an executor: whatever thread a job starts, it is the job's.
static OF_PROCESS: OnceLock<Arc<Desk>> = OnceLock::new();

thread_local! {
    /// The desk of a thread that is one.
    static OF_THREAD: RefCell<Option<Arc<Desk>>> = const { RefCell::new(None) };
}

/// Makes this process the executor of this desk.
pub(super) fn settle_process(desk: &Arc<Desk>) {
    let _ = OF_PROCESS.set(Arc::clone(desk));
}

/// Makes this thread the executor of this desk.
pub(super) fn settle_thread(desk: &Arc<Desk>) {
    OF_THREAD.set(Some(Arc::clone(desk)));
}

/// What the job that runs here may know of itself. Outside a job it is neutral, so a plain call of a job works.
///
/// In an executor's process it is there on every thread; with `--threads` only on the one that runs the job.
pub fn ctx() -> Ctx {
    let desk = OF_PROCESS.get().cloned().or_else(|| OF_THREAD.with_borrow(Clone::clone));
    Ctx(desk.and_then(|desk| {
        let (task, attempt, turn) = desk.running()?;
        Some(Running { desk, task, attempt, turn })
    }))
}

/// The running job, seen from within. Made by [`ctx`].
#[derive(Clone, Debug)]
pub struct Ctx(pub(super) Option<Running>);

#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) desk: Arc<Desk>,
    pub(super) task: TaskId,
    pub(super) attempt: Attempt,
    pub(super) turn: u64,
}

impl Running {
    /// Whether the attempt has not ended: a thread that a job leaves behind may hold on to it.
    pub(super) fn is_current(&self) -> bool {
        self.desk.running() == Some((self.task, self.attempt, self.turn))
    }
}

impl Ctx {
    /// The task this job runs for; none outside a job.
    pub fn task(&self) -> Option<TaskId> {
        self.0.as_ref().map(|running| running.task)
    }

    /// Which attempt this is: a later attempt of one task has a greater number, but numbers may be left out. 1
    /// outside a job.
    pub fn attempt(&self) -> u32 {
        self.0.as_ref().map_or(1, |running| running.attempt.0)
    }

    /// The worker it runs on, `host:pid`. Outside a job this process, in the same form.
    pub fn worker(&self) -> String {
        match &self.0 {
            Some(running) => running.desk.worker.clone(),
            None => crate::program::process_name(),
        }
    }

    /// Whether the result is not wanted any more, so that the job may as well return. Worth asking only with
    /// `--threads`: elsewhere the process of a task that is cancelled or out of time is killed.
    pub fn is_cancelled(&self) -> bool {
        self.0.as_ref().is_some_and(|running| running.desk.cancelled.load(Ordering::Relaxed))
    }

    /// A folder of this attempt alone, on the node's local disk (`$TMPDIR`), made when first asked for. It is
    /// removed, with all that is in it, when the attempt ends, however it ends. Outside a job it is the folder
    /// for temporary files.
    ///
    /// What should outlive the attempt goes elsewhere: write it here, then rename or copy it there, so that two
    /// attempts at one time never mix their bytes.
    ///
    /// # Panics
    /// When the attempt has ended, or the folder cannot be made, which fails the attempt with the reason. A retry helps where another node
    /// has room.
    pub fn scratch(&self) -> PathBuf {
        let Some(running) = &self.0 else { return std::env::temp_dir() };
        assert!(running.is_current(), "no scratch folder for {}: its attempt has ended", running.task);
        running.desk.has_scratch.store(true, Ordering::Relaxed);
        match running.desk.scratch.make(running.task, running.attempt) {
            Ok(path) => path,
            Err((path, error)) => panic!("no scratch folder at {}: {error}", path.display()),
        }
    }

    /// Says how far the job has come, from 0 to 1: it shows in the bar of [`Map::progress`](crate::Map::progress).
    /// Call it as often as you like; it is passed on a few times a second. Values beyond are taken for the nearest,
    /// and what is not a number for nothing. Does nothing outside a job.
    pub fn progress(&self, done: f64) {
        let Some(running) = &self.0 else { return };
        if running.is_current() && !done.is_nan() {
            // In range, so the cast only cuts.
            running.desk.note_progress((done.clamp(0.0, 1.0) * 1_000.0) as u16);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn desk(parent: &Path) -> Arc<Desk> {
        Arc::new(Desk::new("node7:1".to_owned(), Scratch::under(parent.to_owned(), "t"), None))
    }

    #[test]
    fn outside_a_job_it_is_neutral() {
        let ctx = ctx();
        assert_eq!((ctx.task(), ctx.attempt(), ctx.is_cancelled()), (None, 1, false));
        assert!(ctx.scratch().is_absolute());
        assert!(!ctx.worker().is_empty());
        ctx.progress(0.5);
    }

    #[test]
    fn a_job_sees_its_task_and_its_folder_goes_with_it() {
        let parent = tempfile::tempdir().unwrap();
        let desk = desk(parent.path());
        settle_thread(&desk);
        desk.begin(TaskId(7), Attempt(2));
        let ctx = ctx();
        assert_eq!((ctx.task(), ctx.attempt(), ctx.worker()), (Some(TaskId(7)), 2, "node7:1".to_owned()));
        let folder = ctx.scratch();
        std::fs::write(folder.join("data"), "x").unwrap();
        assert_eq!(ctx.scratch(), folder, "the same whenever it is asked for");
        desk.cancel();
        assert!(ctx.is_cancelled());
        desk.end(TaskId(7), Attempt(2));
        assert!(!folder.exists());
        assert_eq!(super::ctx().task(), None);
    }

    #[test]
    fn progress_is_the_last_word_and_never_the_next_tasks() {
        let parent = tempfile::tempdir().unwrap();
        let desk = desk(parent.path());
        settle_thread(&desk);
        desk.begin(TaskId(1), Attempt(1));
        let first = ctx();
        first.progress(0.2);
        first.progress(0.4567);
        assert_eq!(desk.take_progress(), Some(456));
        assert_eq!(desk.take_progress(), None);
        [f64::NAN, -3.0, 7.0].into_iter().for_each(|done| first.progress(done));
        assert_eq!(desk.take_progress(), Some(1_000));
        desk.end(TaskId(1), Attempt(1));
        desk.begin(TaskId(2), Attempt(1));
        first.progress(0.9);
        assert_eq!(desk.take_progress(), None);
    }
}
