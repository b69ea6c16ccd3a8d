//! A program with a store is killed while a cluster works for it: the next run takes what the cluster has of it.

use crate::{
    stores::{Runs, count},
    support::{Process, Signal, program, until},
};

/// A cluster of `it_store`, so many slots in one worker.
struct Cluster {
    runs: Runs,
    address: String,
    master: Option<Process>,
    _worker: Process,
}

impl Cluster {
    fn new(slots: u32) -> Self {
        let runs = Runs::new();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("bound").to_string();
        drop(socket);
        let start = |flags: &[&str]| Process::start(&mut runs.home.command(&program("it_store"), flags));
        let master = start(&["--role", "master", "--listen", &address]);
        master.said("join:");
        let worker = start(&["--role", "worker", "--slots", &slots.to_string()]);
        Self { runs, address, master: Some(master), _worker: worker }
    }

    fn restart_master(&mut self) {
        let flags = ["--role", "master", "--listen", &self.address];
        self.master.take().expect("it runs").signal(Signal::KILL);
        let master = Process::start(&mut self.runs.home.command(&program("it_store"), &flags));
        master.said("join:");
        self.master = Some(master);
    }

    fn client(&self, words: &[&str]) -> Process {
        self.runs.start(&["--cluster", "default"], words)
    }

    /// Begins with these, and is killed once some results are recorded and more tasks run.
    fn killed(&self, words: &[&str]) {
        let client = self.client(words);
        client.said("10 results");
        let begun = count(&self.runs.ran(), "begins");
        until("more tasks run", || count(&self.runs.ran(), "begins") > begun);
        client.signal(Signal::KILL);
    }

    fn is_forgotten(&self) -> bool {
        let rows = "SELECT (SELECT count(*) FROM session) + (SELECT count(*) FROM sent)";
        self.runs.query::<i64>(rows) == [0]
    }
}

fn begun_once(cluster: &Cluster, to: u64) {
    let ran = cluster.runs.ran();
    for n in 0..to {
        let line = format!("begins {n}");
        assert_eq!(ran.iter().filter(|other| **other == line).count(), 1, "{n}: {ran:?}");
    }
}

const WORDS: [&str; 5] = ["map", "--to", "40", "--millis", "100"];

#[test]
fn no_task_that_the_cluster_has_begins_again() {
    let cluster = Cluster::new(4);
    cluster.killed(&WORDS);
    let second = cluster.client(&WORDS).finish().well();
    assert!(second.stdout.contains("ended=40 failed=0"), "{second:?}");
    assert!(second.stderr.contains("came from where the run before had left them"), "{second:?}");
    begun_once(&cluster, 40);
    assert!(cluster.is_forgotten());
}

#[test]
fn nor_when_the_master_died_too() {
    let mut cluster = Cluster::new(4);
    cluster.killed(&WORDS);
    cluster.restart_master();
    let second = cluster.client(&WORDS).finish().well();
    assert!(second.stdout.contains("ended=40 failed=0"), "{second:?}");
    begun_once(&cluster, 40);
    assert!(cluster.is_forgotten());
}

#[test]
fn results_wait_at_their_worker_until_they_are_called_for_however_often_the_program_is_killed() {
    let cluster = Cluster::new(2);
    let words = ["spawn", "--to", "12", "--millis", "200"];
    for _ in 0..4 {
        let client = cluster.client(&words);
        let ended = count(&cluster.runs.ran(), "ends");
        until("a task ends", || count(&cluster.runs.ran(), "ends") > ended);
        client.signal(Signal::KILL);
    }
    let last = cluster.client(&words).finish().well();
    assert!(last.stdout.contains("sum=506"), "{last:?}");
    begun_once(&cluster, 12);
    assert!(cluster.is_forgotten());
}

#[test]
fn what_runs_for_an_older_wish_makes_way() {
    for flags in [&["--fresh"][..], &[]] {
        let cluster = Cluster::new(1);
        let long = cluster.client(&["map", "--to", "1", "--millis", "600000"]);
        until("it runs", || count(&cluster.runs.ran(), "begins") == 1);
        until("the store has it", || {
            cluster.runs.store().exists() && cluster.runs.query::<i64>("SELECT count(*) FROM sent") == [1]
        });
        long.signal(Signal::KILL);
        drop(long);
        // All computed anew, or another program's wishes: in the end the only slot is free for them.
        let flags = [&["--cluster", "default"], flags].concat();
        cluster.runs.start(&flags, &["map", "--to", "3"]).finish().well();
        assert!(cluster.is_forgotten());
    }
}

#[test]
fn a_call_that_waits_for_an_older_runs_task_can_be_aborted() {
    let cluster = Cluster::new(1);
    let first = cluster.client(&["spawn", "--from", "1", "--to", "2", "--millis", "600000"]);
    until("it runs", || count(&cluster.runs.ran(), "begins") == 1);
    until("the store has it", || {
        cluster.runs.store().exists() && cluster.runs.query::<i64>("SELECT count(*) FROM sent") == [1]
    });
    first.signal(Signal::KILL);
    drop(first);
    let second = cluster.client(&["abort"]).finish().well();
    assert!(second.stdout.contains("Err(true)"), "{second:?}");
    assert_eq!(count(&cluster.runs.ran(), "begins"), 1, "it is the call that was running");
    cluster.client(&["map", "--to", "3"]).finish().well();
}
