//! A client that is told to stop: it cancels, tidies up, and ends with the code the shell expects.

use std::{path::Path, time::Duration};

use crate::{
    kills::{pids_of, until_gone},
    support::{Cluster, Home, Process, Signal, proc::executors, program, until},
};

/// The program's own promise.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn the_first_signal_cancels_and_ends_with_its_code() {
    let (alone, mut cluster) = (Home::new(), Cluster::start(1));
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let embedded = alone.program(&["--slots", "2"], &["kill", "never"]);
        let client = cluster.client(&["kill", "never"]);
        for (home, process) in [(alone.path(), embedded), (cluster.home.path(), client)] {
            let pids = pids_of(&process);
            process.signal(signal);
            let finished = process.finish_within(SOON).with_code(code);
            assert!(finished.stderr.contains("cw: interrupted: "), "{finished:?}");
            until_gone(home, pids);
        }
    }
    cluster.assert_well();
}

#[test]
fn threads_end_too() {
    let home = Home::new();
    let process = home.program(&["--slots", "1", "--threads"], &["hold"]);
    process.said("it runs");
    process.signal(Signal::INT);
    process.finish_within(SOON).with_code(130);
}

#[test]
fn a_client_that_waits_for_its_master_ends_too() {
    let home = Home::new();
    let master = home.master();
    let client = home.client(&["hold"]);
    client.complained("no task is running");
    drop(master);
    client.complained("lost the master");
    client.signal(Signal::TERM);
    client.finish_within(SOON).with_code(143);
    // The same where there never was a master.
    let client = Home::new().client(&["hold"]);
    client.complained("waiting for the master");
    client.signal(Signal::INT);
    let finished = client.finish_within(SOON).with_code(130);
    assert!(!finished.stderr.contains("error: "), "{finished:?}");
}

#[test]
fn the_second_signal_ends_at_once_and_leaves_nothing_running() {
    let home = Home::new();
    let mut process = home.program(&["--slots", "1"], &["kill", "never"]);
    let pids = pids_of(&process);
    // What comes too soon after the first is taken for the same.
    until("it has ended", || {
        process.signal(Signal::INT);
        !process.is_running()
    });
    process.finish().with_code(130);
    until_gone(home.path(), pids);
    until("its executors are gone", || executors(home.path()).is_empty());
}

#[test]
fn a_signal_that_comes_by_two_ways_is_one_and_the_program_ends_in_order() {
    let mut cluster = Cluster::start(1);
    let client = cluster.client(&["kill", "never"]);
    pids_of(&client);
    // Two of one kind could become one before they are seen. `timeout` sends what it sends twice.
    client.signal(Signal::INT);
    client.signal(Signal::TERM);
    client.finish_within(SOON);
    // One that ended at once would not say so, and what it called would run on for it.
    cluster.master.complained(" left");
    cluster.assert_well();
}

#[test]
fn a_signal_that_was_ignored_from_the_start_stays_ignored() {
    let home = Home::new();
    let mut command = home.command(Path::new("sh"), &["-c", "trap '' HUP; exec \"$0\" \"$@\""]);
    command.arg(program("it_program")).args(["--slots", "1", "--dir"]).arg(home.path()).arg("hold");
    let process = Process::start(&mut command);
    process.said("it runs");
    // Had it heeded the first, its code would be another.
    process.signal(Signal::HUP);
    process.signal(Signal::TERM);
    process.finish_within(SOON).with_code(143);
}
