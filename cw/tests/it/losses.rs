//! Workers and clients that die, fall silent, or come back.

use std::{
    env, fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

#[cfg(target_os = "linux")]
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::support::{Cluster, Home, Process, Signal, proc::executors, until};

/// So that a loss takes a second. A machine that is busy with other tests is silent for less.
const SOON: [&str; 4] = ["--suspect-after", "500ms", "--lost-after", "1s"];

/// The files of a scenario of held tasks, all of which run.
pub(crate) struct Held {
    dir: PathBuf,
}

impl Held {
    /// Waits until all run.
    pub(crate) fn by(client: &Process) -> Self {
        let dir = client.said("dir ")["dir ".len()..].into();
        client.said("all run");
        Self { dir }
    }

    /// Lets the tasks end.
    pub(crate) fn open(&self) {
        fs::write(self.dir.join("open"), "").expect("the folder is there");
    }

    fn lines(&self, file: &str) -> usize {
        fs::read_to_string(self.dir.join(file)).unwrap_or_default().lines().count()
    }

    /// Waits until so many attempts have begun.
    pub(crate) fn run_again(&self, attempts: usize) {
        until("they run again", || self.lines("begun") >= attempts);
    }

    /// How many attempts have come to their end, whoever knows of it.
    pub(crate) fn ended(&self) -> usize {
        self.lines("ended")
    }
}

/// Makes sure that each of so many tasks had its result, having run once.
#[track_caller]
pub(crate) fn assert_once(stdout: &str, count: usize) {
    for n in 0..count {
        for line in [format!("{n} gave {n}\n"), format!("{n} ran 1 times\n")] {
            assert!(stdout.contains(&line), "no {line:?} in {stdout}");
        }
    }
}

#[test]
fn the_tasks_of_a_killed_worker_run_elsewhere() {
    let mut cluster = Cluster::start_with(&SOON, 2);
    let client = cluster.client(&["held", "4"]);
    let held = Held::by(&client);
    let killed = cluster.workers.pop().expect("there are two");
    let line = format!(":{} is given up: it was not heard", killed.pid());
    killed.signal(Signal::KILL);
    cluster.master.complained(&line);
    // What runs at the other worker, and what then runs there alone.
    held.open();
    let finished = client.finish().well();
    for n in 0..4 {
        assert!(finished.stdout.contains(&format!("{n} gave {n}\n")), "{finished:?}");
    }
    assert_eq!(finished.stdout.matches("ran 1 times").count(), 2, "{finished:?}");
    assert_eq!(finished.stdout.matches("ran 2 times").count(), 2, "{finished:?}");
    cluster.assert_well();
}

#[test]
fn a_worker_that_was_given_up_comes_back_and_every_task_is_reported_once() {
    let mut cluster = Cluster::start_with(&SOON, 2);
    let client = cluster.client(&["held", "4"]);
    let held = Held::by(&client);
    let stopped = &cluster.workers[0];
    stopped.signal(Signal::STOP);
    cluster.master.complained("is given up: it was not heard");
    stopped.signal(Signal::CONT);
    stopped.complained("lost the master");
    cluster.master.complained("came back with 2 slots");
    held.open();
    let finished = client.finish().well();
    for n in 0..4 {
        assert_eq!(finished.stdout.matches(&format!("{n} gave {n}\n")).count(), 1, "{finished:?}");
    }
    cluster.assert_well();
}

#[test]
fn a_worker_that_was_silent_and_not_given_up_goes_on() {
    let flags = ["--suspect-after", "200ms", "--lost-after", "50s"];
    let mut cluster = Cluster::start_with(&flags, 1);
    let client = cluster.client(&["held", "1"]);
    let held = Held::by(&client);
    // After so many others the master has been told that it runs.
    cluster.client(&["naps", "20"]).finish().well();
    cluster.workers[0].signal(Signal::STOP);
    client.complained("not been heard for a while");
    cluster.workers[0].signal(Signal::CONT);
    client.complained("tasks move again");
    held.open();
    assert_once(&client.finish().well().stdout, 1);
    cluster.assert_well();
}

/// How long a worker's core is loaded: longer with `CW_LOAD_SECONDS`.
fn load_time() -> Duration {
    let seconds = env::var("CW_LOAD_SECONDS").ok().map(|text| text.parse().expect("a number of seconds"));
    Duration::from_secs(seconds.unwrap_or(5))
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_whose_core_is_loaded_four_times_over_is_not_taken_for_lost() {
    let mut cluster = Cluster::start(0);
    // Children inherit the one core that this thread has meanwhile.
    let all = sched_getaffinity(None).expect("a thread may ask where it runs");
    let first = (0..CpuSet::MAX_CPU).find(|core| all.is_set(*core)).expect("it runs somewhere");
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one).expect("a thread may stay on one of its cores");
    let busy = || Process::start(Command::new("sh").args(["-c", "while :; do :; done"]));
    let mut load: Vec<Process> = (0..4).map(|_| busy()).collect();
    cluster.workers.push(cluster.home.worker(2));
    sched_setaffinity(None, &all).expect("it may go back");
    cluster.workers[0].complained("joined the master");

    let began = Instant::now();
    while began.elapsed() < load_time() {
        let client = cluster.client(&["held", "1"]);
        let held = Held::by(&client);
        cluster.client(&["naps", "100"]).finish().well();
        held.open();
        assert_once(&client.finish().well().stdout, 1);
    }
    assert!(load.iter_mut().all(Process::is_running));
    drop(load);
    cluster.master.signal(Signal::TERM);
    let said = cluster.master.finish().stderr;
    assert!(["given up", "cut off", "came back"].iter().all(|word| !said.contains(word)), "{said}");
}

#[test]
fn a_task_that_must_not_run_twice_ends_with_its_worker() {
    let mut cluster = Cluster::start_with(&SOON, 2);
    let client = cluster.client(&["held-once", "4"]);
    let held = Held::by(&client);
    let killed = cluster.workers.pop().expect("there are two");
    killed.signal(Signal::KILL);
    cluster.master.complained("is given up: it was not heard");
    held.open();
    let finished = client.finish().well();
    assert_eq!(finished.stdout.matches("ran 1 times").count(), 4, "{finished:?}");
    let lost: Vec<_> = finished.stdout.lines().filter(|line| line.contains(" failed: ")).collect();
    assert_eq!(lost.len(), 2, "{finished:?}");
    let name = format!(":{}", killed.pid());
    assert!(
        lost.iter().all(|line| line.contains("lost with its workers") && line.contains(&name)),
        "{lost:?}"
    );
    cluster.assert_well();
}

#[test]
fn a_task_that_kills_its_workers_ends_after_three_and_costs_nobody_else_a_thing() {
    let mut cluster = Cluster::start_with(&SOON, 4);
    let finished = cluster.client(&["slay"]).finish().well();
    assert!(finished.stdout.contains("it ran 3 times; "), "{finished:?}");
    let dead = |worker: &mut Process| !worker.is_running();
    until("three workers are dead", || {
        cluster.workers.iter_mut().filter_map(|w| dead(w).then_some(())).count() == 3
    });
    cluster.workers.retain_mut(Process::is_running);
    cluster.assert_well();
}

#[test]
fn a_client_that_was_cut_off_finds_its_tasks_where_it_left_them() {
    let mut cluster = Cluster::start(1);
    let client = cluster.client(&["held", "2"]);
    let held = Held::by(&client);
    client.signal(Signal::STOP);
    // Its connection is held to be broken when it was idle for too long, which no flag makes shorter.
    cluster.master.complained("is cut off");
    held.open();
    until("the tasks have ended", || held.ended() == 2);
    client.signal(Signal::CONT);
    client.complained("lost the master");
    assert_once(&client.finish().well().stdout, 2);
    cluster.assert_well();
}

#[test]
fn what_a_dead_client_left_is_killed_once_its_grace_is_over() {
    let mut cluster = Cluster::start_with(&["--client-grace", "200ms"], 1);
    let client = cluster.client(&["held", "2"]);
    let held = Held::by(&client);
    client.signal(Signal::KILL);
    cluster.master.complained("is cut off");
    let idle = "executors are free for others";
    until(idle, || cluster.client(&["spawn"]).finish().status.success());
    held.open();
    cluster.assert_well();
    assert_eq!(held.ended(), 0, "nobody was there to let them end");
    assert!(!executors(cluster.home.path()).is_empty());
}

#[test]
fn a_client_gives_up_what_does_not_move_if_its_user_says_so() {
    let home = Home::new();
    let _master = home.master();
    let client = home.program(&["--cluster", "default", "--give-up-after", "100ms"], &["spawn"]);
    let finished = client.finish().with_code(1);
    assert!(finished.stderr.contains("nothing moved for 100ms: the cluster has no worker"), "{finished:?}");
}
