//! A process that rank 0 has started, and does not outlive it.

use std::{env, sync::OnceLock, thread};

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use super::Step;

/// Says to a process that rank 0 starts whose child it is.
pub(super) const PARENT: &str = "CW_STEP_PARENT";

/// Whether rank 0 of a step has started this process. It does not outlive that.
pub(crate) fn has_parent() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(stay_with_parent)
}

fn stay_with_parent() -> bool {
    if env::var_os(PARENT).is_none() || !is_with_parent() {
        return false;
    }
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
    if !is_with_parent() {
        // It died just now.
        std::process::exit(128 + Signal::TERM.as_raw());
    }
    true
}

/// Whether what was noted at a lock is of the process that has started this one.
pub(super) fn is_of_parent(noted: &str) -> bool {
    let parent = env::var(PARENT);
    noted.split_whitespace().next().is_some_and(|pid| parent.is_ok_and(|parent| parent == pid))
}

/// Whether the parent of this process is the one that the variable names: who inherits that has another.
fn is_with_parent() -> bool {
    let parent = env::var(PARENT).ok().and_then(|pid| pid.parse::<i32>().ok());
    rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()) == parent
}

/// Done when rank 0 wants the end of a process that it started, or has ended. What signals Slurm sends to all of a step is
/// for the program: it may have to tidy up, and needs the others for that.
pub(in crate::start) async fn parent_ends() {
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    // Caught as long as they are held.
    let _ignored: Vec<_> = kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect();
    let (ended, end) = tokio::sync::oneshot::channel();
    let read = move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = ended.send(());
    };
    if thread::Builder::new().name("cw-parent".to_owned()).spawn(read).is_ok() {
        let _ = end.await;
    }
    if let Some(step) = Step::here().filter(|_| !is_with_parent()) {
        // It was killed, and cannot tidy up.
        let _ = step.place().map(|place| place.end_for_dead());
    }
}
