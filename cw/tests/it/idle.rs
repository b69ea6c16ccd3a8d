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
    worker.finish().with_code(0);
    cluster.master.complained("left");
    cluster.add_worker(&["--idle", "never"]);
    cluster.assert_well();
}

#[test]
fn a_task_keeps_its_worker() {
    let mut cluster = Cluster::start(0);
    cluster.add_worker(&["--idle", "100ms"]);
    // Its tasks take longer, and it begins the next when one has ended.
    cluster.client(&["naps", "3"]).finish().well();
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
