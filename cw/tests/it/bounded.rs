//! What a client that stops reading costs others: nothing, and the master no more than its credit.

use std::fs;

use crate::support::{Home, Process, Signal, until};

/// The most memory that a process has had at once, in bytes.
fn peak_bytes(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
    kib << 10
}

#[test]
#[cfg(target_os = "linux")]
fn ten_gigabytes_for_a_stopped_client_stay_out_of_the_master_and_in_nobodys_way() {
    let home = Home::new();
    let master = home.master();
    let workers = [home.worker(1), home.worker(1)];
    workers.iter().for_each(|worker| drop(worker.complained("joined the master")));
    let runs = home.path().join("runs");
    let heavy = home.client(&["bulk", "10240", runs.to_str().expect("a plain path")]);
    heavy.said("first");
    heavy.signal(Signal::STOP);
    let ran = || fs::metadata(&runs).map_or(0, |file| file.len());
    let before = ran();
    // More than is on its way waits at the workers.
    until("results pile up", || ran() >= before + 150);
    home.client(&["map"]).finish().well();
    home.client(&["naps", "200"]).finish().well();
    assert!(ran() < 1_000, "{} MiB were computed for a client that does not read", ran());
    let peak = peak_bytes(&master);
    assert!(peak < 512 << 20, "the master needed {} MiB", peak >> 20);
    heavy.signal(Signal::CONT);
    until("it reads again", || ran() >= before + 600);
}
