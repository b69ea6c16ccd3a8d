//! Masters that die, are started again, or are followed by another; and workers that are left without one.

use std::{fs, net::UdpSocket, path::Path};

use crate::{
    losses::{Held, assert_once},
    support::{Cluster, Home, Process, Signal, only_error, program, until},
};

/// An address that nobody listens at.
pub(crate) fn free_address() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("bound").to_string()
}

/// A master at a known address, a worker, and a client whose tasks run.
fn with_held_tasks(count: &str) -> (String, Home, Process, Process, Process, Held) {
    let (home, address) = (Home::new(), free_address());
    let master = home.master_at(&address);
    let worker = home.worker(2);
    let client = home.client(&["held", count]);
    let held = Held::by(&client);
    (address, home, master, worker, client, held)
}

#[test]
fn what_runs_while_a_master_is_started_again_does_not_run_twice() {
    let (address, home, master, worker, client, held) = with_held_tasks("2");
    master.signal(Signal::KILL);
    drop(master);
    let master = home.master_at(&address);
    worker.complained("lost the master");
    client.complained("lost the master");
    master.complained("came back with 2 slots");
    held.open();
    assert_once(&client.finish().well().stdout, 2);
    Cluster { workers: vec![worker], master, home }.assert_well();
}

#[test]
fn results_are_kept_for_the_next_master() {
    let (address, home, master, worker, client, held) = with_held_tasks("2");
    master.signal(Signal::KILL);
    drop(master);
    held.open();
    until("the tasks have ended", || held.ended() == 2);
    let master = home.master_at(&address);
    assert_once(&client.finish().well().stdout, 2);
    Cluster { workers: vec![worker], master, home }.assert_well();
}

#[test]
fn what_a_stopped_master_had_goes_on_at_one_that_is_started_elsewhere() {
    let (_, home, master, worker, client, held) = with_held_tasks("2");
    master.signal(Signal::TERM);
    master.finish().with_code(0);
    worker.complained("what runs goes on");
    let master = home.master();
    master.complained("came back with 2 slots");
    held.open();
    assert_once(&client.finish().well().stdout, 2);
    Cluster { workers: vec![worker], master, home }.assert_well();
}

#[test]
fn a_second_master_takes_over_if_told_and_the_first_ends() {
    let (_, home, first, worker, client, held) = with_held_tasks("2");
    let refused = home.start(&["--role", "master"]).finish().with_code(10);
    assert!(only_error(&refused).contains("with --takeover this one takes its place"), "{refused:?}");

    let master = home.master_with(&["--listen", "127.0.0.1:0", "--takeover"]);
    let first = first.finish().with_code(13);
    assert!(only_error(&first).contains("another master took the cluster over (epoch 2)"), "{first:?}");
    for peer in [&worker, &client] {
        peer.complained("lost the master (closed by the other end: another master took the cluster over");
    }
    master.complained("came back with 2 slots");
    held.open();
    assert_once(&client.finish().well().stdout, 2);
    Cluster { workers: vec![worker], master, home }.assert_well();
}

#[test]
fn a_master_that_hangs_is_left_for_the_one_that_takes_over() {
    let (_, home, first, worker, client, held) = with_held_tasks("2");
    first.signal(Signal::STOP);
    let master = home.master_with(&["--listen", "127.0.0.1:0", "--takeover"]);
    master.complained("another master still holds the lock");
    master.complained("came back with 2 slots");
    held.open();
    assert_once(&client.finish().well().stdout, 2);
    // It wakes up, and sees that its time is over.
    first.signal(Signal::CONT);
    first.finish().with_code(13);
    Cluster { workers: vec![worker], master, home }.assert_well();
}

/// As a job that Slurm has started again; what it sees is a disk of its own, which is full.
#[cfg(target_os = "linux")]
#[test]
fn a_master_that_takes_over_waits_for_room_on_a_full_disk() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("skipped: only root can mount a disk");
    }
    let home = Home::new();
    let script = "mount -t tmpfs -o size=256k cw \"$CW_HOME\" && mkdir -m 700 \"$CW_HOME/default\" && \
        { cat /dev/zero >\"$CW_HOME/fill\" 2>&-; echo \"process $$\"; exec \"$@\"; }";
    let master = |more: &[&str]| {
        let program = program("it_program");
        let words = ["--mount", "sh", "-c", script, "sh", program.to_str().expect("a plain path")];
        let words = [&words[..], &["--role", "master", "--listen", "127.0.0.1:0"], more].concat();
        Process::start(&mut home.command(Path::new("unshare"), &words))
    };
    // Whoever has just typed it is told at once.
    let refused = master(&[]).finish().with_code(10);
    assert!(only_error(&refused).contains("No space left on device"), "{refused:?}");

    let waiting = master(&["--takeover"]);
    let line = waiting.complained("No space left on device");
    assert!(line.contains("default/") && line.contains("it is tried again for 10 min"), "{line}");
    let process = waiting.said("process ");
    let id = process.rsplit(' ').next().expect("a word");
    let disk = format!("/proc/{id}/root{}", home.path().display());
    fs::remove_file(format!("{disk}/fill")).expect("it is there");
    waiting.said("join: ");
}

#[test]
fn a_worker_that_finds_no_other_master_ends_and_says_what_it_drops() {
    let home = Home::new();
    let master = home.master();
    let worker = home.start(&["--role", "worker", "--slots", "1", "--orphan-time", "1s"]);
    let client = home.client(&["held", "1"]);
    let _held = Held::by(&client);
    master.signal(Signal::KILL);
    drop(master);
    let finished = worker.finish().with_code(12);
    let line = only_error(&finished);
    assert!(line.contains("no master for 1s since the one at 127.0.0.1:"), "{finished:?}");
    assert!(line.contains("are dropped") && line.contains("(--orphan-time)"), "{finished:?}");
    assert!(finished.stderr.contains("what runs goes on, results are kept"), "{finished:?}");
}
