//! Jobs that end their process: the evidence, and that nobody else notices.
//!
//! How often each ran is counted by what it leaves in a file, and not by the number of its last attempt.

use crate::support::{Cluster, Finished, Home};

/// A way to end a process, and what is found of it.
const WAYS: [(&str, &str, &str); 6] = [
    ("leave", "signal=None code=Some(0)", "about to leave"),
    ("exit", "signal=None code=Some(3)", "about to exit"),
    ("abort", "signal=Some(6) code=None", "about to abort"),
    ("segfault", "signal=Some(11) code=None", "about to segfault"),
    ("overflow", "signal=Some(6) code=None", "has overflowed its stack"),
    ("kill", "signal=Some(9) code=None", "about to kill"),
];

fn scenario() -> Vec<&'static str> {
    [&["crash"][..], &WAYS.map(|(way, ..)| way)].concat()
}

fn assert_evidence(finished: &Finished) {
    for (way, ending, stderr) in WAYS {
        let line = finished.stdout.lines().find(|line| line.starts_with(&format!("{way}: ")));
        let line = line.unwrap_or_else(|| panic!("nothing of {way}: {finished:?}"));
        assert!(line.contains(ending) && line.contains(stderr), "{way}: {line}");
        assert!(line.contains("ran=3"), "a crash is tried three times: {line}");
    }
}

#[test]
fn each_end_of_a_process_is_told_with_its_evidence_and_neighbours_are_right() {
    let home = Home::new();
    assert_evidence(&home.program(&["--slots", "2"], &scenario()).finish().well());
}

#[test]
fn workers_survive_every_end_of_their_executors() {
    let mut cluster = Cluster::start(2);
    assert_evidence(&cluster.client(&scenario()).finish().well());
    cluster.assert_well();
}

#[test]
fn short_tasks_do_not_wait_behind_one_that_hangs() {
    let (home, cluster) = (Home::new(), Cluster::start(2));
    // On one slot each, so that the hung task is surely before some of them.
    let embedded = home.program(&["--slots", "2"], &["behind"]);
    let threaded = home.program(&["--slots", "2", "--threads"], &["behind"]);
    cluster.client(&["behind"]).finish().well();
    threaded.finish().well();
    embedded.finish().well();
}

#[test]
fn tasks_that_crash_among_others_take_none_with_them() {
    let (home, mut cluster) = (Home::new(), Cluster::start(2));
    let embedded = home.program(&["--slots", "2"], &["crash-among"]);
    cluster.client(&["crash-among"]).finish().well();
    embedded.finish().well();
    cluster.assert_well();
}
