//! Sets of calls, calls that wait for room, and what a job sees of itself.

use std::fs;

use crate::support::{Cluster, Home, Process, everywhere, program};

#[test]
fn a_program_of_forty_lines_uses_every_call_in_every_mode() {
    let home = Home::new();
    let start = |flags: &[&str]| Process::start(&mut home.command(&program("it_contract"), flags));
    for run in [start(&[]), start(&["--threads"])] {
        run.finish().well();
    }
    let master = start(&["--role", "master", "--listen", "127.0.0.1:0"]);
    master.said("join:");
    let _worker = start(&["--role", "worker", "--slots", "2"]);
    start(&["--cluster", "default"]).finish().well();
}

#[test]
fn a_set_joins_its_calls_as_they_end_and_cancels_what_is_left() {
    everywhere(&["set"]);
}

#[test]
fn ready_holds_a_program_back_until_there_is_room() {
    // On a cluster of its own: the scenario holds all slots.
    let (alone, cluster) = (Home::new(), Cluster::start(1));
    let runs = [alone.program(&["--slots", "2"], &["ready"]), cluster.client(&["ready"])];
    for run in runs {
        run.finish().well();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_call_that_waits_for_room_takes_at_most_two_hundred_bytes() {
    Home::new().program(&["--slots", "2"], &["backlog"]).finish().well();
}

#[test]
fn a_job_sees_its_task_attempt_worker_and_folder() {
    everywhere(&["ctx"]);
}

#[test]
fn the_folder_of_a_killed_task_goes_with_it() {
    let (alone, cluster) = (Home::new(), Cluster::start(1));
    for how in ["abort", "cancel"] {
        let runs = [alone.program(&["--slots", "1"], &["left", how]), cluster.client(&["left", how])];
        for run in runs {
            run.finish().well();
        }
    }
}

#[test]
fn a_task_on_a_thread_learns_that_it_is_not_wanted() {
    Home::new().program(&["--slots", "1", "--threads"], &["asked"]).finish().well();
}

#[test]
fn a_map_says_how_far_it_is_in_lines_where_there_is_no_terminal() {
    let (alone, cluster) = (Home::new(), Cluster::start(1));
    let start = |home: &Home, flags: &[&str]| home.program(flags, &["progress"]);
    let runs = [
        start(&alone, &["--slots", "2"]),
        start(&alone, &["--slots", "2", "--threads"]),
        start(&cluster.home, &["--cluster", "default"]),
    ];
    for run in runs {
        // Three quarters of one task, of two.
        let line = run.complained("half way: 0/2 (38 %), ");
        assert!(line.ends_with("2 running, 1 worker"), "{line}");
        let open = run.said("open ");
        fs::write(open.trim_start_matches("open "), "").unwrap();
        run.complained("half way: 2 done in ");
        let finished = run.finish().well();
        assert!(finished.stderr.contains(", 1 failed\n"), "{finished:?}");
        assert!(finished.stderr.contains("endless: stopped after "), "{finished:?}");
    }
}

#[test]
fn a_second_map_is_shown_with_the_workers_there_are() {
    let home = Home::new();
    let run = home.program(&["--slots", "2"], &["progress-beside"]);
    run.complained("first: 0/4 (25 %)");
    let open = run.said("open ");
    let open = std::path::Path::new(open.trim_start_matches("open "));
    fs::write(open.with_file_name("second"), "").unwrap();
    let line = run.complained("second: 0/4");
    assert!(line.ends_with("2 running, 1 worker"), "{line}");
    fs::write(open, "").unwrap();
    run.complained("second: 4 done in ");
    run.finish().well();
}
