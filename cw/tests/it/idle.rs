//! Workers that nobody needs.

use crate::support::{Cluster, Home, Process, program};

#[test]
fn a_worker_without_tasks_ends_by_itself_and_harms_nobody() {
    let mut cluster = Cluster::start(0);
    let client = cluster.client(&["spawn"]);
    client.complained("the cluster has no worker");
    cluster.add_worker(&["--idle", "1s"]);
    client.finish().well();
    let worker = cluster.workers.pop().expect("just added");
    worker.complained("no tasks for 1s: the worker ends");
    let ended = worker.finish().with_code(0);
    assert!(!ended.stderr.contains("the cluster is stopped"), "{ended:?}");
    cluster.master.complained("left");
    cluster.add_worker(&["--idle", "never"]);
    cluster.assert_well();
}

#[test]
fn a_task_keeps_its_worker() {
    let mut cluster = Cluster::start(0);
    let client = cluster.client(&["naps", "100"]);
    client.complained("the cluster has no worker");
    // All of them take longer, and so does the start of an executor.
    cluster.add_worker(&["--idle", "100ms"]);
    client.finish().well();
    cluster.workers.pop().expect("just added").finish().with_code(0);
}

#[test]
fn under_slurm_a_worker_ends_without_being_told() {
    let home = Home::new();
    let _master = home.master();
    let idle = |told: Option<&str>| {
        let mut command = home.command(&program("it_program"), &["--role", "worker", "--slots", "1"]);
        command.env("SLURM_JOB_ID", "1").env("CW_LOG", "debug").envs(told.map(|told| ("CW_IDLE", told)));
        let worker = Process::start(&mut command);
        let line = worker.complained("without tasks");
        line.split_once("without tasks ").expect("it says that").1.to_owned()
    };
    assert_eq!(idle(None), "for 300s the worker ends");
    assert_eq!(idle(Some("never")), "it stays");
}

#[test]
fn what_stands_in_the_way_of_workers_is_the_reason_why_there_is_none() {
    let home = Home::new();
    let _master = home.master();
    let client = home.client(&["spawn"]);
    client.complained("the cluster has no worker; start some with");
    let lost = home.start(&["--role", "worker", "--slots", "1", "--master", "127.0.0.1:1"]);
    let line = client.complained("cannot reach the master");
    let name = format!(":{} cannot reach the master: 127.0.0.1:1", lost.pid());
    assert!(line.contains("the cluster has no worker: worker ") && line.contains(&name), "{line}");
    let dead = home.start(&[
        "--role",
        "worker",
        "--slots",
        "1",
        "--master",
        "127.0.0.1:1",
        "--connect-timeout",
        "1ms",
    ]);
    let pid = dead.pid();
    dead.finish().with_code(12);
    let line = client.complained(&format!(":{pid} has ended: "));
    assert!(line.contains("127.0.0.1:1"), "{line}");
    let _worker = home.worker(1);
    client.finish().well();
}
