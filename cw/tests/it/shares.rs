//! Values that tasks share: one copy on a node, decoded once by an executor, there as long as somebody needs them.

use std::fs;

use crate::{
    restarts::free_address,
    support::{Cluster, Home, Process, Signal, Standing, program, until},
};

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
fn numbers_are_mapped_by_executors_and_not_copied() {
    let (alone, threaded, cluster) = (Home::new(), Home::new(), Cluster::start(2));
    let start = |home: &Home, words: &[&str]| Process::start(&mut home.command(&program("it_share"), words));
    start(&alone, &["numbers", "mapped"]).finish().well();
    start(&threaded, &["--threads", "numbers", "here"]).finish().well();
    client(&cluster, &["numbers", "mapped"]).finish().well();
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

/// Runs a scenario whose tasks wait for a file; meanwhile one of two workers is killed, and so is the master. Nobody has
/// another's files.
fn survives(scenario: &str) {
    let home = Home::new();
    let start = |node: &str, words: &[&str]| {
        let folder = home.path().join(node);
        fs::create_dir(&folder).expect("the home can be written to");
        Process::start(home.command(&program("it_share"), words).env("TMPDIR", folder))
    };
    let address = free_address();
    let master = |node: &str| {
        let words =
            ["--role", "master", "--listen", &address, "--suspect-after", "300ms", "--lost-after", "1s"];
        let master = start(node, &words);
        master.said("join:");
        master
    };
    let worker = |node: &str| {
        let worker = start(node, &["--role", "worker", "--slots", "2"]);
        worker.complained("joined the master");
        worker
    };
    let (first, killed, _worker) = (master("master"), worker("one"), worker("two"));
    let file = home.path().join("go on");
    let words = ["--cluster", "default", scenario, file.to_str().expect("a plain path")];
    let client = start("client", &words);
    // Four slots, six tasks.
    let begun = || {
        let entries = fs::read_dir(home.path()).expect("it is there").flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("go on.")).count()
    };
    until("four tasks have begun", || begun() == 4);
    [first, killed].into_iter().for_each(|process| process.signal(Signal::KILL));
    let _master = master("next master");
    client.complained("lost the master");
    let _another = worker("three");
    fs::write(&file, "").expect("the test's own folder");
    client.finish().well();
}

#[test]
fn a_shared_value_is_there_again_after_a_worker_and_the_master_were_lost() {
    survives("wait");
}

#[test]
fn big_arguments_are_there_again_after_a_worker_and_the_master_were_lost() {
    survives("big_wait");
}

#[test]
fn big_arguments_are_arguments_everywhere() {
    everywhere(&["big", "12", "3000000"]);
}

#[test]
fn big_arguments_are_sent_to_a_node_once_and_go_with_their_task() {
    let standing = Standing::start();
    let worker = standing.worker("node", &[]);
    standing.client(&program("it_share"), &["big", "9", "2500000"]).finish().well();
    let sizes = |node| {
        // One that is being removed is there no more.
        let length = |path: &std::path::PathBuf| fs::metadata(path).map_or(0, |it| it.len());
        standing.cache(node).iter().map(length).filter(|it| (2_500_000..2_500_100).contains(it)).count()
    };
    // Each was tried twice; the master keeps those that are asked for twice.
    assert_eq!(sizes("master"), 0);
    until("the node keeps none of them", || sizes("node") == 0);
    let links = || {
        let entries = fs::read_dir(standing.private("node")).expect("it is there").flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().contains("share-")).count()
    };
    until("the worker keeps none of them for itself", || links() == 0);
    drop(worker);
}
