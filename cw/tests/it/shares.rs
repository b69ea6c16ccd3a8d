//! Values that tasks share: one copy on a node, decoded once by an executor, there as long as somebody needs them.

use std::fs;

use crate::support::{Cluster, Home, Process, program};

/// A scenario by itself, on threads, and on a cluster of two workers.
fn everywhere(words: &[&str]) {
    let (alone, threaded) = (Home::new(), Home::new());
    let embedded = Process::start(&mut alone.command(&program("it_share"), words));
    let threads =
        Process::start(&mut threaded.command(&program("it_share"), &[&["--threads"], words].concat()));
    let cluster = Cluster::start(2);
    let client = client(&cluster, words);
    embedded.finish().well();
    threads.finish().well();
    client.finish().well();
}

fn client(cluster: &Cluster, words: &[&str]) -> Process {
    let words = [&["--cluster", "default"], words].concat();
    Process::start(&mut cluster.home.command(&program("it_share"), &words))
}

#[test]
fn many_tasks_share_a_value_that_each_executor_decodes_once() {
    everywhere(&["many", "5000000", "300"]);
}

#[test]
fn several_values_are_shared_and_later_ones_are_others() {
    everywhere(&["two"]);
}

#[test]
fn a_node_has_one_copy_however_many_workers_it_has() {
    let home = Home::new();
    let in_home = |flags: &[&str]| {
        let mut command = home.command(&program("it_share"), flags);
        Process::start(command.env("TMPDIR", home.path()))
    };
    let master = in_home(&["--role", "master", "--listen", "127.0.0.1:0"]);
    master.said("join:");
    let workers: Vec<_> = (0..3).map(|_| in_home(&["--role", "worker", "--slots", "2"])).collect();
    workers.iter().for_each(|worker| drop(worker.complained("joined the master")));
    in_home(&["--cluster", "default", "many", "20000000", "600"]).finish().well();
    let uid = rustix::process::getuid().as_raw();
    let cache = home.path().join(format!("cw-{uid}")).join("blobs");
    let sizes: Vec<u64> = fs::read_dir(cache)
        .expect("there is a cache")
        .map(|entry| entry.expect("it can be read").metadata().expect("it is there").len())
        .collect();
    assert_eq!(sizes.len(), 1, "{sizes:?}");
    assert!((20_000_000..20_000_100).contains(&sizes[0]), "{sizes:?}");
}

#[test]
fn it_is_there_again_after_a_worker_and_the_master_were_lost() {
    let mut cluster = Cluster::start_with(&["--suspect-after", "300ms", "--lost-after", "1s"], 2);
    let file = cluster.home.path().join("go on");
    let client = client(&cluster, &["wait", file.to_str().expect("a plain path")]);
    // Both have begun tasks: four slots, six tasks.
    let begun = || crate::support::proc::executors(cluster.home.path()).len() >= 4;
    crate::support::until("executors run", begun);
    drop(cluster.workers.remove(0));
    cluster.add_worker(&[]);
    fs::write(&file, "").expect("the test's own folder");
    client.finish().well();
}
