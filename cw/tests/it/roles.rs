//! Masters, workers and clients that come and go in any order.

use std::net::UdpSocket;

use crate::support::{Cluster, Home, Process, Signal, cw, program};

#[test]
fn workers_and_clients_may_come_before_the_master_and_say_that_they_wait() {
    let home = Home::new();
    let (worker, client) = (home.worker(1), home.client(&["spawn"]));
    for early in [&worker, &client] {
        let line = early.complained("waiting for the master");
        assert!(line.contains(".json") && line.contains("--role master"), "{line}");
    }
    // The installed binary has verbs.
    let verb = Process::start(&mut home.command(cw(), &["worker", "--slots", "1"]));
    let line = verb.complained("waiting for the master");
    assert!(line.contains("cw master)") && !line.contains("--role"), "{line}");
    let _master = home.master();
    worker.complained("connected to the master at 127.0.0.1:");
    let finished = client.finish().well();
    assert!(finished.stderr.contains("connected to the master at"), "{finished:?}");
}

#[test]
fn the_masters_line_says_how_to_join() {
    let home = Home::new();
    let master = home.start(&["--role", "master", "--cluster", "gpu-2", "--listen", "127.0.0.1:0"]);
    let line = master.said("join:");
    let (_, join) = line.split_once("; join: ").expect("how to join");
    let (join, usage) = join.split_once("; use: ").expect("how to use");
    assert!(line.starts_with("master of cluster `gpu-2` at 127.0.0.1:"), "{line}");

    let as_typed = |typed: &str| {
        let mut words = typed.split(' ');
        let name = words.next().expect("a program");
        home.command(&program(name), &words.collect::<Vec<_>>())
    };
    let _worker = Process::start(as_typed(join).args(["--slots", "1"]));
    let dir = home.path().to_str().expect("a plain path");
    Process::start(as_typed(usage).args(["--dir", dir, "spawn"])).finish().well();
    // What ends a service properly is no failure.
    master.signal(Signal::TERM);
    let finished = master.finish().with_code(0);
    assert_eq!(finished.stdout.lines().count(), 1, "{finished:?}");
}

#[test]
fn the_environment_says_what_flags_say() {
    let cluster = Cluster::start(1);
    let mut command = cluster.home.command(&program("it_program"), &["--dir", ".", "spawn"]);
    Process::start(command.env("CW_CLUSTER", "default")).finish().well();
    let file = cluster.home.file("client.json");
    let away = Home::new();
    let mut command = away.command(&program("it_program"), &["--dir", ".", "spawn"]);
    Process::start(command.env("CW_ROLE", "client").env("CW_ACCESS", file)).finish().well();
}

#[test]
fn a_worker_that_joins_in_mid_run_gets_work() {
    let mut cluster = Cluster::start(1);
    let client = cluster.client(&["spread", "2"]);
    client.said("1 workers");
    cluster.workers.push(cluster.home.worker(2));
    client.finish().well();
}

#[test]
fn a_task_that_is_moved_before_it_runs_has_made_no_attempt() {
    let home = Home::new();
    let (_master, _first) = (home.master(), home.worker(1));
    let client = home.client(&["moved"]);
    client.said("one is running");
    let _second = home.worker(1);
    client.finish().well();
}

#[test]
fn a_worker_that_leaves_in_mid_run_takes_nothing_with_it() {
    let mut cluster = Cluster::start(2);
    let client = cluster.client(&["naps", "200"]);
    client.said("30 results");
    let leaving = cluster.workers.pop().expect("there are two");
    leaving.signal(Signal::TERM);
    leaving.finish().with_code(0);
    client.finish().well();
    cluster.assert_well();
}

#[test]
fn a_run_without_workers_says_so_and_goes_on_when_one_comes() {
    let home = Home::new();
    let _master = home.master();
    let client = home.client(&["spawn"]);
    client.complained("the cluster has no worker");
    let _worker = home.worker(1);
    let finished = client.finish().well();
    assert!(finished.stderr.contains("tasks move again"), "{finished:?}");
}

#[test]
fn a_run_outlives_a_master_that_is_stopped_and_started_elsewhere() {
    let Cluster { workers, master, home } = Cluster::start(2);
    let client = home.client(&["naps", "200"]);
    client.said("30 results");
    master.signal(Signal::TERM);
    client.complained("lost the master");
    workers.iter().for_each(|worker| drop(worker.complained("lost the master")));
    master.finish().with_code(0);
    let master = home.master();
    client.finish().well();
    Cluster { workers, master, home }.assert_well();
}

#[test]
fn a_run_outlives_a_master_that_is_killed_and_started_again_on_its_port() {
    let home = Home::new();
    let port = UdpSocket::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    let master = home.master_at(&port.to_string());
    let (worker, client) = (home.worker(2), home.client(&["naps", "200"]));
    client.said("30 results");
    master.signal(Signal::KILL);
    drop(master);
    // It knows nothing of their connections, and tells them so at their next word.
    let master = home.master_at(&port.to_string());
    client.finish().well();
    worker.complained("lost the master");
    Cluster { workers: vec![worker], master, home }.assert_well();
}

#[test]
fn a_client_that_loses_its_master_for_good_has_its_tasks_disconnected() {
    let Cluster { workers, master, home } = Cluster::start(1);
    let client = home.program(&["--cluster", "default", "--connect-timeout", "200ms"], &["hold"]);
    client.said("it runs");
    drop(workers);
    master.signal(Signal::TERM);
    master.finish().with_code(0);
    let finished = client.finish().with_code(12);
    assert!(finished.stderr.contains(" has no result: the cluster was lost: "), "{finished:?}");
}
