//! Flags of cw's under other names, beside a program's own of the same names.

use std::time::Duration;

use crate::support::{Home, PATIENCE, Process, Signal, only_error, program};

fn start(home: &Home, flags: &[&str]) -> Process {
    Process::start(&mut home.command(&program("it_prefixed"), flags))
}

#[test]
fn both_sets_of_flags_work_and_stand_in_the_help() {
    let home = Home::new();
    let finished = start(&home, &["--role", "king", "--slots", "4", "--cw-slots", "1"]).finish().with_code(0);
    assert_eq!(finished.stdout, "king [0, 1, 4, 9]\n", "{finished:?}");
    let finished = start(&home, &["-r", "king", "--slots=2", "--cw-threads"]).finish().with_code(0);
    assert_eq!(finished.stdout, "king [0, 1]\n", "{finished:?}");

    let help = start(&home, &["--help"]).finish().with_code(0).stdout;
    for flag in [
        "-r, --role <",
        "--slots <",
        "--cw-role <master|worker|client>",
        "--cw-slots <N>",
        "--cw-threads",
        "CW_SLOTS=",
    ] {
        assert!(help.contains(flag), "no {flag} in {help}");
    }
    for flag in [" --cluster ", " --threads", " --master "] {
        assert!(!help.contains(flag), "{flag} in {help}");
    }
}

#[test]
fn a_cluster_is_started_and_used_by_the_flags_its_messages_name() {
    let home = Home::new();
    let early = start(&home, &["--cw-role", "worker", "--cw-slots", "1"]);
    let waiting = early.complained("waiting for the master");
    assert!(waiting.contains("it_prefixed --cw-role master"), "{waiting}");
    assert!(
        waiting.contains("--cw-access FILE") && waiting.contains("see --cw-connect-timeout"),
        "{waiting}"
    );

    let master = start(&home, &["--cw-role", "master", "--cw-cluster", "gpu", "--cw-listen", "127.0.0.1:0"]);
    let line = master.said("join:");
    assert!(line.contains("; join: it_prefixed --cw-role worker --cw-cluster gpu; use: "), "{line}");
    assert!(line.ends_with("use: it_prefixed --cw-cluster gpu"), "{line}");

    let own = ["--role", "king", "--slots", "3"];
    let client = start(&home, &[&["--cw-cluster", "gpu"][..], &own].concat());
    let line = client.complained("the cluster has no worker");
    assert!(line.contains("`--cw-role worker --cw-cluster gpu`, or `cw worker --cluster gpu`"), "{line}");
    // The program's own flags are accepted by a worker, and not required.
    let _worker = start(&home, &["--cw-role", "worker", "--cw-cluster=gpu", "--slots", "7"]);
    assert_eq!(client.finish().with_code(0).stdout, "king [0, 1, 4]\n");
    drop(early);
    master.signal(Signal::TERM);
    master.finish().with_code(0);
}

#[test]
fn mistakes_are_told_by_the_names_that_are_typed() {
    let home = Home::new();
    let own = ["--role", "king", "--slots", "3"];
    for (flags, named) in [
        (&["--cw-role", "king"][..], "--cw-role"),
        (&["--cw-threads", "--cw-cluster", "x"], "--cw-threads runs tasks here, --cw-cluster on a cluster"),
        (&["--cluster", "x"], "--cluster"),
    ] {
        let finished = start(&home, &[flags, &own].concat()).finish().with_code(2);
        assert!(only_error(&finished).contains(named), "{finished:?}");
    }
    let flags = ["--cw-role", "client", "--cw-connect-timeout", "1ms"];
    let finished =
        start(&home, &[&flags[..], &own].concat()).finish_within(PATIENCE.min(Duration::from_secs(20)));
    assert!(only_error(&finished).contains("(--cw-connect-timeout)"), "{finished:?}");
}

#[test]
fn a_flag_of_both_is_one_line_with_two_ways_out() {
    let home = Home::new();
    let finished =
        Process::start(&mut home.command(&program("it_taken"), &["--slots", "3"])).finish().with_code(2);
    let line = only_error(&finished);
    assert!(line.contains("`--slots`") && finished.stderr.lines().count() == 1, "{finished:?}");
    assert!(
        line.contains("#[arg(long = \"..\")]") && line.contains("#[cw::main(prefix = \"cw-\")]"),
        "{line}"
    );
}
