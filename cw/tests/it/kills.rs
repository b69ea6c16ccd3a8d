//! What is killed is dead, with all it has started; and what is killed from outside is made up for.

use std::path::Path;

use crate::support::{
    Cluster, Home, Process, Signal,
    proc::{executors, is_alive, kill_all},
    until,
};

/// The executor of `bear_child` and the child, both alive.
pub(crate) fn pids_of(client: &Process) -> [u32; 2] {
    let line = client.said("pids ");
    let pids: Vec<u32> = line.split(' ').skip(1).map(|pid| pid.parse().expect("an id")).collect();
    [pids[1], pids[2]]
}

pub(crate) fn until_gone(home: &Path, pids: [u32; 2]) {
    until("the task's process and its child are gone", || !pids.iter().any(|pid| is_alive(home, *pid)));
}

#[test]
fn abort_and_timeout_kill_a_process_and_all_it_has_started() {
    let (home, cluster) = (Home::new(), Cluster::start(1));
    for by in ["abort", "timeout"] {
        let embedded = home.program(&["--slots", "2"], &["kill", by]);
        let client = cluster.client(&["kill", by]);
        for (home, mut process) in [(home.path(), embedded), (cluster.home.path(), client)] {
            let pids = pids_of(&process);
            process.said("it has ended");
            until_gone(home, pids);
            assert!(process.is_running());
        }
    }
}

#[test]
fn executors_killed_from_outside_change_no_result() {
    let (home, mut cluster) = (Home::new(), Cluster::start(2));
    let embedded = home.program(&["--slots", "2"], &["naps", "300"]);
    let client = cluster.client(&["naps", "300"]);
    for results in ["40 results", "120 results"] {
        for (home, process) in [(home.path(), &embedded), (cluster.home.path(), &client)] {
            process.said(results);
            let victims = executors(home);
            assert!(!victims.is_empty());
            kill_all(&victims);
        }
    }
    embedded.finish().well();
    client.finish().well();
    cluster.assert_well();
}

#[test]
fn nothing_is_left_of_a_program_that_has_ended() {
    let home = Home::new();
    home.program(&["--slots", "2"], &["map"]).finish().well();
    until("its executors are gone", || executors(home.path()).is_empty());

    let cluster = Cluster::start(1);
    let embedded = home.program(&["--slots", "2"], &["leave"]);
    let client = cluster.client(&["leave"]);
    for (home, process) in [(home.path(), embedded), (cluster.home.path(), client)] {
        let pids = pids_of(&process);
        process.finish().well();
        until_gone(home, pids);
    }
}

#[test]
fn a_worker_that_is_stopped_kills_what_runs_with_all_it_has_started() {
    let mut cluster = Cluster::start(1);
    let client = cluster.client(&["kill", "never"]);
    let pids = pids_of(&client);
    let worker = cluster.workers.pop().expect("there is one");
    worker.signal(Signal::TERM);
    worker.finish().with_code(0);
    until_gone(cluster.home.path(), pids);
}

#[test]
fn no_executor_outlives_a_killed_client() {
    let home = Home::new();
    let client = home.program(&["--slots", "2"], &["naps", "100000"]);
    client.said("20 results");
    assert_eq!(executors(home.path()).len(), 2);
    client.signal(Signal::KILL);
    until("its executors are gone", || executors(home.path()).is_empty());
}

#[test]
fn no_executor_outlives_its_worker() {
    let mut cluster = Cluster::start(2);
    let client = cluster.client(&["naps", "200"]);
    client.said("20 results");
    let (last, first) = (cluster.workers.pop().expect("two"), cluster.workers.pop().expect("two"));
    last.signal(Signal::TERM);
    last.finish().with_code(0);
    // Nobody is left to run what the client still wants, and the other one dies without a word.
    first.signal(Signal::KILL);
    until("all executors are gone", || executors(cluster.home.path()).is_empty());
}

#[test]
fn peers_that_are_killed_are_missed_and_their_tasks_end_or_run_elsewhere() {
    let mut cluster = Cluster::start_with(&["--lost-after", "3s", "--client-grace", "1s"], 2);
    let doomed = cluster.client(&["kill", "never"]);
    let line = doomed.said("pids ");
    let its_worker = line.split(' ').nth(1).expect("the worker's id").to_owned();
    let other = cluster.workers.iter().position(|worker| worker.pid().to_string() != its_worker);
    let other = cluster.workers.remove(other.expect("there are two"));

    let client = cluster.client(&["naps", "400"]);
    client.said("50 results");
    other.signal(Signal::KILL);
    doomed.signal(Signal::KILL);
    client.finish().well();
    let pids = pids_of(&doomed);
    until_gone(cluster.home.path(), pids);
    cluster.assert_well();
}
