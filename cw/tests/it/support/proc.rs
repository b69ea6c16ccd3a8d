//! Which processes there are, as `/proc` tells.

use std::{fs, path::Path};

use rustix::process::{Pid, Signal, kill_process};

/// Executors, wherever their home is this one.
pub(crate) fn executors(home: &Path) -> Vec<u32> {
    all().filter(|pid| belongs(*pid, home) && command_line(*pid).contains("(cw executor)")).collect()
}

/// All processes whose home is this one.
#[allow(dead_code, reason = "tests of launchers use it")]
pub(crate) fn of(home: &Path) -> Vec<u32> {
    all().filter(|pid| belongs(*pid, home)).collect()
}

/// Whether the process is there and belongs to this home: an id alone may have been given anew.
pub(crate) fn is_alive(home: &Path, pid: u32) -> bool {
    belongs(pid, home)
}

pub(crate) fn kill_all(pids: &[u32]) {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
        // One that has ended meanwhile is fine.
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("Linux has /proc");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// A variable by which the processes of a test are known: one that executors have from their client.
pub(crate) const MARK: &str = "LC_TEST_HOME";

/// The environment of a process that has ended, waited for or not, is empty.
fn belongs(pid: u32, home: &Path) -> bool {
    let wanted = format!("{MARK}={}", home.display());
    let found = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    found.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
}

fn command_line(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).into_owned()
}
