//! Jobs whose types cannot cross the wire are told when a client starts, all of them; other roles go on.

use crate::support::{Finished, Home, Process, program};

const USAGE: i32 = 2;

const LEFT_OUT: &str = "job `it_unfit::simulate` cannot run: argument `cfg` of type it_unfit::Config: \
    field `name` of Config is left out by `skip_serializing_if`, which the wire cannot express: ";
const NEEDS_JSON: &str = "job `it_unfit::parse` cannot run: the result of type serde_json::value::Value \
    needs a self-describing format ";

fn assert_told(finished: &Finished) {
    let mut lines: Vec<&str> = finished.stderr.lines().collect();
    lines.sort_by_key(|line| line.contains("simulate"));
    assert_eq!(lines.len(), 2, "{finished:?}");
    for (line, expected) in lines.iter().zip([NEEDS_JSON, LEFT_OUT]) {
        assert!(line.starts_with(&format!("error: {expected}")), "{line}");
    }
    assert_eq!(finished.stdout, "", "{finished:?}");
}

#[test]
fn a_client_ends_before_its_main() {
    let home = Home::new();
    let start = |flags: &[&str]| Process::start(&mut home.command(&program("it_unfit"), flags));
    // No master is needed to find out.
    for flags in
        [&[][..], &["--threads"], &["--slots", "1"], &["--cluster", "default"], &["--role", "client"]]
    {
        assert_told(&start(flags).finish().with_code(USAGE));
    }
}

#[test]
fn a_master_and_a_worker_go_on() {
    let home = Home::new();
    let start = |flags: &[&str]| Process::start(&mut home.command(&program("it_unfit"), flags));
    let master = start(&["--role", "master", "--listen", "127.0.0.1:0"]);
    master.said("join:");
    let worker = start(&["--role", "worker", "--slots", "1"]);
    master.complained("worker");
    assert_told(&start(&["--cluster", "default"]).finish().with_code(USAGE));
    drop((worker, master));
}

#[test]
fn without_init_every_call_is_refused() {
    let home = Home::new();
    let mut command = home.command(&program("it_unfit"), &[]);
    let finished = Process::start(command.env("UNFIT_BARE", "1")).finish().with_code(0);
    let refused: Vec<&str> = finished.stdout.lines().filter(|line| line.starts_with("Refused")).collect();
    assert_eq!(refused.len(), 2, "{finished:?}");
    assert!(refused.iter().all(|line| line.contains(LEFT_OUT) && line.contains(NEEDS_JSON)), "{finished:?}");
}
