//! Hooks and cached functions, where executors are processes, threads, and a cluster's.

use std::process::Command;

use crate::support::{Finished, Home, Process, program};

/// Runs a scenario of `it_hooks` by itself, on threads and on a cluster of its own; the hook fails as `fails` says,
/// which may name a place in each run's own folder.
fn everywhere(scenario: &str, fails: Option<&str>) -> [Finished; 3] {
    let (alone, threaded, cluster) = (Home::new(), Home::new(), Home::new());
    let start = |home: &Home, flags: &[&str]| {
        let mut command: Command = home.command(&program("it_hooks"), flags);
        if let Some(fails) = fails {
            command.env("HOOK_FAILS", fails.replace("HOME", &home.path().display().to_string()));
        }
        Process::start(&mut command)
    };
    let _worker = start(&cluster, &["--role", "worker", "--slots", "1"]);
    let _master = start(&cluster, &["--role", "master", "--listen", "127.0.0.1:0"]);
    let named: &[&str] = if fails.is_some() { &["--env", "HOOK_FAILS"] } else { &[] };
    let client = start(&cluster, &[&["--cluster", "default"], named, &[scenario]].concat());
    let embedded = start(&alone, &["--slots", "1", scenario]);
    let threads = start(&threaded, &["--slots=1", "--threads", scenario]);
    [embedded, threads, client].map(|process| process.finish().well())
}

#[test]
fn hooks_run_once_in_each_process_by_their_order() {
    everywhere("order", None);
    // Two executors are two processes, and two threads are one.
    let (home, threaded) = (Home::new(), Home::new());
    let two = |home: &Home, flags: &[&str]| {
        Process::start(home.command(&program("it_hooks"), flags).args(["--slots", "2", "order"]))
    };
    let (processes, threads) = (two(&home, &[]), two(&threaded, &["--threads"]));
    processes.finish().well();
    threads.finish().well();
}

#[test]
fn the_error_of_a_hook_is_the_tasks_with_its_chain() {
    for finished in everywhere("fails", Some("chain")) {
        let line = "failed: the on_start hook `it_hooks::fragile` failed: the model cannot be read [\"disk on fire\"]";
        assert!(finished.stdout.contains(line), "{finished:?}");
    }
}

#[test]
fn the_panic_of_a_hook_is_the_tasks_with_its_place() {
    for finished in everywhere("fails", Some("panic")) {
        let line = "panicked: the on_start hook `it_hooks::fragile` failed: no luck ";
        let line = finished.stdout.lines().find_map(|found| found.strip_prefix(line));
        assert!(line.is_some_and(|place| place.contains("hooks.rs:")), "{finished:?}");
    }
}

#[test]
fn a_hook_that_failed_is_tried_again_and_those_before_it_are_not() {
    everywhere("mends", Some("HOME/calls"));
}

#[test]
fn a_cached_function_computes_once_in_each_process() {
    everywhere("cache", None);
    let (home, threaded) = (Home::new(), Home::new());
    let two = |home: &Home, flags: &[&str]| {
        Process::start(home.command(&program("it_hooks"), flags).args(["--slots", "2", "cache"]))
    };
    let (processes, threads) = (two(&home, &[]), two(&threaded, &["--threads"]));
    processes.finish().well();
    threads.finish().well();
}
