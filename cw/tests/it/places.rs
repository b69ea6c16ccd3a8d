//! Programs that say in code where their tasks run.

use std::time::Duration;

#[cfg(target_os = "linux")]
use crate::support::proc;
use crate::support::{Finished, Home, Process, Signal, only_error, program, until};

fn place(home: &Home, words: &[&str]) -> Finished {
    Process::start(&mut home.command(&program("it_place"), words)).finish()
}

#[track_caller]
fn assert_fails(finished: Finished, code: i32, why: &str) {
    let finished = finished.with_code(code);
    assert!(finished.stderr.contains(why), "{finished:?}");
}

#[test]
fn a_program_names_this_machine_or_a_cluster() {
    let home = Home::new();
    for words in [&["local"][..], &["slots", "1"]] {
        assert_eq!(place(&home, words).with_code(0).stdout, "on this machine: 9\n");
    }
    let master = Process::start(
        home.command(&program("it_place"), &["connect", "-"])
            .env("CW_ROLE", "master")
            .env("CW_LISTEN", "127.0.0.1:0"),
    );
    master.said("join:");
    let _worker =
        Process::start(home.command(&program("it_place"), &["connect", "-"]).env("CW_ROLE", "worker"));
    let finished = place(&home, &["connect", "default"]).with_code(0);
    assert_eq!(finished.stdout, "on cluster `default`: 9\n");
    assert_fails(place(&home, &["again", "default"]), 1, "this program's tasks run elsewhere already");
}

#[test]
fn a_program_that_forgot_init_is_told_so() {
    let home = Home::new();
    for name in ["local", "default"] {
        assert_fails(place(&home, &["no-init", name]), 1, "call `cw::init()?` first thing in `main`");
    }
}

#[test]
fn a_cluster_that_is_not_there_is_an_error_with_its_code() {
    let home = Home::new();
    let mut command = home.command(&program("it_place"), &["connect", "nowhere"]);
    let finished = Process::start(command.env("CW_CONNECT_TIMEOUT", "100ms")).finish();
    assert_fails(finished, 1, "nowhere/client.json");
}

#[cfg(target_os = "linux")]
#[test]
fn after_a_try_that_failed_a_signal_ends_what_came_of_the_next() {
    let home = Home::new();
    let mut command = home.command(&program("it_place"), &["retry"]);
    let process = Process::start(command.env("CW_CONNECT_TIMEOUT", "100ms"));
    process.complained("it runs");
    process.signal(Signal::INT);
    let finished = process.finish_within(Duration::from_secs(5)).with_code(130);
    assert_eq!(finished.stderr.matches("cw: interrupted: ").count(), 1, "{finished:?}");
    until("its executors are gone", || proc::executors(home.path()).is_empty());
}

#[test]
fn flags_that_init_cannot_read_are_one_line_each() {
    let home = Home::new();
    let cases: [(&[&str], &str); 6] = [
        (&["--slots", "abc"], "invalid value 'abc' for '--slots <N>'"),
        (&["--slots=0"], "invalid value '0' for '--slots <N>'"),
        (&["--slots"], "a value is required for '--slots <N>'"),
        (&["local", "--cluster"], "a value is required for '--cluster <NAME>'"),
        (&["--role", "boss"], "[possible values: master, worker, client]"),
        (&["--threads=maybe"], "invalid value 'maybe' for '--threads[=<BOOL>]'"),
    ];
    for (words, why) in cases {
        let finished = place(&home, words).with_code(2);
        assert!(only_error(&finished).contains(why), "{finished:?}");
    }
}
