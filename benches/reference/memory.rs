//! How much memory a process of a bench has, as the kernel counts it.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::LEG_DEADLINE;

/// Memory that stays as it is for so many looks stands still.
const LOOKS: usize = 5;

/// Between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// Forgets how much a process had at most: from now on its peak is counted anew.
pub(crate) fn forget_peak(process: u32) -> anyhow::Result<()> {
    fs::write(format!("/proc/{process}/clear_refs"), "5").context("failed to reset a peak of memory")
}

/// Bytes a process had at most.
pub(crate) fn peak(process: u32) -> anyhow::Result<u64> {
    bytes(process, "VmHWM:")
}

/// Bytes a process has.
pub(crate) fn resident(process: u32) -> anyhow::Result<u64> {
    bytes(process, "VmRSS:")
}

/// Bytes a process has once they have not changed for a second.
pub(crate) fn settled(process: u32) -> anyhow::Result<u64> {
    let start = Instant::now();
    let (mut last, mut looks) = (0, 0);
    while looks < LOOKS {
        thread::sleep(LOOK_PAUSE);
        let now = resident(process)?;
        looks = if now == last { looks + 1 } else { 0 };
        last = now;
        ensure!(start.elapsed() < LEG_DEADLINE, "a process's memory does not stand still");
    }
    Ok(last)
}

fn bytes(process: u32, field: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("the kernel counts it")?;
    Ok(kib.parse::<u64>()? << 10)
}
