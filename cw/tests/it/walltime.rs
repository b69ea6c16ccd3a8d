//! Workers whose allocation ends.

use crate::{losses::Held, support::Cluster};

#[test]
fn what_runs_when_the_time_is_over_runs_elsewhere_and_nobody_is_to_blame() {
    let mut cluster = Cluster::start(0);
    let client = cluster.client(&["held", "1"]);
    cluster.add_worker(&["--walltime", "4s"]);
    let held = Held::by(&client);
    let worker = cluster.workers.pop().expect("just added");
    worker.complained("this worker's allocation ends in");
    worker.finish().with_code(0);
    let line = client.complained("and the longest allocation is");
    assert!(line.contains("hold take ") && line.contains(": ask for more with `--time`"), "{line}");
    cluster.add_worker(&[]);
    held.run_again(2);
    held.open();
    let finished = client.finish().well();
    // It may be tried once, and none of that counted.
    assert!(finished.stdout.contains("0 gave 0\n0 ran 2 times\n"), "{finished:?}");
    cluster.assert_well();
}

#[test]
fn nothing_begins_that_would_not_be_done() {
    let mut cluster = Cluster::start(0);
    let client = cluster.client(&["slow", "6", "2000"]);
    cluster.add_worker(&["--walltime", "0:06"]);
    // The first teach what they take; after them there is time once more at most.
    cluster.workers.pop().expect("just added").finish().with_code(0);
    cluster.add_worker(&[]);
    let finished = client.finish().well();
    for n in 0..6 {
        assert!(finished.stdout.contains(&format!("{n} ran 1 times\n")), "{finished:?}");
    }
    cluster.assert_well();
}

#[test]
fn a_walltime_is_a_time() {
    let cluster = Cluster::start(0);
    let refused = cluster.home.start(&["--role", "worker", "--walltime", "soon"]).finish().with_code(2);
    assert!(refused.stderr.contains("write a time with its unit, like 30m or 2h"), "{refused:?}");
}
