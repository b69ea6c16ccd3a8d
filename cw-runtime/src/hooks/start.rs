//! Hooks: functions that run once in each process with executors, before the first task.
//!
//! The linker collects them in its own order; they are run by `order`, equals by path. One that fails is the
//! failure of the next task, and is tried again before the one after. Those that
//! are done are not run again.

use std::{
    collections::VecDeque,
    panic::{self, AssertUnwindSafe},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use cw_core::wire::Failure;

use crate::{
    client::notice::say,
    executor::{
        JobScope,
        run::{failed, panicked},
    },
    job::Fail,
};

/// A function that runs at an executor's start.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    /// Where the function is, like `app::load_model`.
    pub path: &'static str,
    /// The lower goes first.
    pub order: i32,
    /// Calls it.
    pub run: fn() -> Result<(), Fail>,
}

/// All hooks linked into this executable, in no order.
#[linkme::distributed_slice]
pub static ON_START: [Hook];

/// A hook that takes longer is told of: no task runs meanwhile.
const SLOW: Duration = Duration::from_secs(10);

/// How far this process has come.
struct Progress {
    /// Those not done yet, the next first; none before the first try.
    rest: Option<VecDeque<Hook>>,
    /// Why the try at the start failed, if no task was told yet.
    untold: Option<Failure>,
}

static PROGRESS: Mutex<Progress> = Mutex::new(Progress { rest: None, untold: None });

/// Set once all are done, to be seen without the lock.
static ALL_DONE: AtomicBool = AtomicBool::new(false);

/// Whether there are hooks that are not done.
pub(crate) fn are_left() -> bool {
    !ON_START.is_empty() && !ALL_DONE.load(Ordering::Acquire)
}

/// Runs the hooks, unless another executor of this process has tried; waits for it if it still does.
///
/// What fails here is the failure of the first task; it is tried again before the next.
pub(crate) fn run_at_start() {
    let mut progress = lock();
    if progress.rest.is_none() {
        progress.untold = progress.run().err();
    }
}

/// Runs the hooks that are not done; to be called before each task.
///
/// # Errors
/// The failure of the first that fails, which the task is to end with.
pub(crate) fn run_all() -> Result<(), Failure> {
    if !are_left() {
        return Ok(());
    }
    let mut progress = lock();
    match progress.untold.take() {
        Some(failure) => Err(failure),
        None => progress.run(),
    }
}

fn lock() -> std::sync::MutexGuard<'static, Progress> {
    // Hooks that panic are caught before the lock could notice.
    PROGRESS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Progress {
    fn run(&mut self) -> Result<(), Failure> {
        run_in_order(self.rest.get_or_insert_with(|| sorted(&ON_START)))?;
        ALL_DONE.store(true, Ordering::Release);
        Ok(())
    }
}

fn sorted(hooks: &[Hook]) -> VecDeque<Hook> {
    let mut hooks = hooks.to_vec();
    hooks.sort_unstable_by_key(|hook| (hook.order, hook.path));
    hooks.into()
}

fn run_in_order(rest: &mut VecDeque<Hook>) -> Result<(), Failure> {
    while let Some(hook) = rest.front() {
        run(hook)?;
        rest.pop_front();
    }
    Ok(())
}

fn run(hook: &Hook) -> Result<(), Failure> {
    let _told = tell_if_slow(hook.path);
    let scope = JobScope::enter();
    // What a panic leaves behind is the hook's own care, as it is tried again.
    let called = panic::catch_unwind(AssertUnwindSafe(hook.run));
    drop(scope);
    match called {
        Ok(Ok(())) => Ok(()),
        Ok(Err(fail)) => Err(named(hook, failed(fail))),
        Err(payload) => Err(named(hook, panicked(payload.as_ref()))),
    }
}

/// Says that no task runs because of this hook, unless what is returned is dropped soon.
fn tell_if_slow(path: &'static str) -> mpsc::Sender<()> {
    let (done, wait) = mpsc::channel();
    let watch = move || {
        if wait.recv_timeout(SLOW) == Err(mpsc::RecvTimeoutError::Timeout) {
            say(&format!("the on_start hook `{path}` has run for {SLOW:?}; tasks wait for its end"));
        }
    };
    // Without a thread nothing is told, and nothing else is lost.
    let _ = thread::Builder::new().name("cw-hooks".to_owned()).spawn(watch);
    done
}

/// The failure with the hook's name, as it reaches a client that never heard of the hook.
fn named(hook: &Hook, failure: Failure) -> Failure {
    let with_name = |message: String| format!("the on_start hook `{}` failed: {message}", hook.path);
    match failure {
        // The value is left out: it is not the job's own error.
        Failure::Failed { message, chain, value: _ } => {
            Failure::Failed { message: with_name(message), chain, value: None }
        }
        Failure::Panicked { message, location, backtrace } => {
            Failure::Panicked { message: with_name(message), location, backtrace }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    fn hook(path: &'static str, order: i32, run: fn() -> Result<(), Fail>) -> Hook {
        Hook { path, order, run }
    }

    #[test]
    fn the_lower_goes_first_and_equals_by_path() {
        let hooks = [
            hook("app::b", 0, || Ok(())),
            hook("app::z", -1, || Ok(())),
            hook("app::c", 7, || Ok(())),
            hook("app::a", 0, || Ok(())),
        ];
        let paths: Vec<_> = sorted(&hooks).iter().map(|hook| hook.path).collect();
        assert_eq!(paths, ["app::z", "app::a", "app::b", "app::c"]);
    }

    #[test]
    fn one_that_fails_is_tried_again_and_those_before_it_are_not() {
        static FIRST: AtomicU32 = AtomicU32::new(0);
        static SECOND: AtomicU32 = AtomicU32::new(0);
        static THIRD: AtomicU32 = AtomicU32::new(0);
        fn first() -> Result<(), Fail> {
            FIRST.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        fn second() -> Result<(), Fail> {
            match SECOND.fetch_add(1, Ordering::Relaxed) {
                0 => Err(Fail::new(("no model".to_owned(), vec!["disk".to_owned()]), Some((1, vec![2])))),
                1 => panic!("no luck"),
                _ => Ok(()),
            }
        }
        fn third() -> Result<(), Fail> {
            THIRD.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        let hooks = [hook("a", 0, first), hook("app::second", 1, second), hook("c", 2, third)];
        let mut rest = sorted(&hooks);
        let expected = Failure::Failed {
            message: "the on_start hook `app::second` failed: no model".to_owned(),
            chain: vec!["disk".to_owned()],
            value: None,
        };
        assert_eq!(run_in_order(&mut rest), Err(expected));
        let Err(Failure::Panicked { message, .. }) = run_in_order(&mut rest) else { panic!("it panics") };
        assert_eq!(message, "the on_start hook `app::second` failed: no luck");
        assert_eq!(THIRD.load(Ordering::Relaxed), 0, "what comes after waits");
        assert_eq!(run_in_order(&mut rest), Ok(()));
        assert_eq!(run_in_order(&mut rest), Ok(()));
        let counts = [&FIRST, &SECOND, &THIRD].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counts, [1, 3, 1]);
    }

    #[test]
    fn calls_of_jobs_are_refused_in_a_hook_as_in_a_job() {
        fn calls() -> Result<(), Fail> {
            assert!(crate::executor::in_job());
            Ok(())
        }
        assert_eq!(run(&hook("app::calls", 0, calls)), Ok(()));
        assert!(!crate::executor::in_job());
    }
}
