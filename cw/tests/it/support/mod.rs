//! What the tests share: processes with a memory of what they said, folders, clusters, ways to wait.

mod cluster;
#[cfg(target_os = "linux")]
pub(crate) mod proc;
mod process;
#[cfg(target_os = "linux")]
mod standing;

use std::time::{Duration, Instant};

pub(crate) use cluster::{Cluster, Home, program, shared};
pub(crate) use process::{Finished, Process};
pub(crate) use rustix::process::Signal;
#[cfg(target_os = "linux")]
#[allow(unused_imports, reason = "tests of launchers have it from here")]
pub(crate) use standing::cw;
#[cfg(target_os = "linux")]
pub(crate) use standing::{Standing, altered, build, large, may_mount, stripped};

/// How long anything may take. Far longer than it takes on a busy machine; only a test that fails waits so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a condition.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a scenario by itself, on threads and on a cluster, at the same time; each has to end well.
pub(crate) fn everywhere(scenario: &[&str]) -> [Finished; 3] {
    let (alone, threaded, cluster) = (Home::new(), Home::new(), shared());
    let embedded = alone.program(&["--slots", "2"], scenario);
    let threads = threaded.program(&["--slots", "2", "--threads"], scenario);
    let client = cluster.client(scenario);
    [embedded, threads, client].map(|process| process.finish().well())
}

/// The one line with which a process explains why it cannot do its work.
pub(crate) fn only_error(finished: &Finished) -> &str {
    let mut lines = finished.stderr.lines().filter(|line| line.starts_with("error: "));
    let line = lines.next().unwrap_or_else(|| panic!("no line says what is wrong: {finished:?}"));
    assert_eq!(lines.next(), None, "one line says what is wrong: {finished:?}");
    line
}
