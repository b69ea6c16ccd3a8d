//! What a task that does nothing costs each process of a cluster, in allocations: a number that hardly depends on the machine,
//! and to which a copy too much on the way of a task adds a whole one.

use std::collections::BTreeMap;

use crate::support::{Home, Process, program};

/// Allocations per task that a role may have. Two thirds of that or less were found, in a build for tests, on a machine that
/// was idle and on one that was busy; there may be more where less is done in one go.
const BOUNDS: [(&str, f64); 4] = [("client", 0.1), ("master", 0.15), ("worker", 0.15), ("executor", 0.05)];

#[test]
fn a_task_that_does_nothing_allocates_little_in_every_process() {
    let home = Home::new();
    let start = |flags: &[&str]| Process::start(&mut home.command(&program("it_counts"), flags));
    let master = start(&["--role", "master", "--listen", "127.0.0.1:0"]);
    master.said("join:");
    let worker = start(&["--role", "worker", "--slots", "1"]);
    worker.complained("joined the master");
    let client = start(&["--cluster", "default"]);
    let pids = [client.pid(), master.pid(), worker.pid()];
    let finished = client.finish().well();

    let counts = counts(&finished.stdout);
    let [client, master, worker] = pids.map(|pid| counts[&pid]);
    let executors = counts.iter().filter(|(pid, _)| !pids.contains(pid)).map(|(_, count)| *count);
    let executor = executors.reduce(f64::max).expect("whoever else has counted runs the tasks");
    for ((role, bound), found) in BOUNDS.into_iter().zip([client, master, worker, executor]) {
        assert!(
            found <= bound,
            "{found} allocations per task in a {role}, above {bound}; of all: {counts:?}"
        );
    }
}

/// What the client has printed: allocations per task of each process.
fn counts(stdout: &str) -> BTreeMap<u32, f64> {
    let pairs = stdout.lines().filter_map(|line| line.split_once(' '));
    let parse = |(process, count): (&str, &str)| Some((process.parse().ok()?, count.parse().ok()?));
    pairs.map(|pair| parse(pair).expect("two numbers")).collect()
}
