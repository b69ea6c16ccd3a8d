//! Calls of every kind, in every mode.

use crate::support::{Finished, Home, Process, everywhere, program, shared};

#[test]
fn jobs_are_called_with_one_argument_several_or_none() {
    everywhere(&["spawn"]);
}

#[test]
fn arguments_may_borrow() {
    everywhere(&["borrow"]);
}

#[test]
fn an_error_comes_back_with_its_chain_and_as_itself() {
    everywhere(&["fail"]);
}

#[test]
fn retries_and_timeouts_are_kept() {
    everywhere(&["limits"]);
}

#[test]
fn a_higher_priority_goes_first() {
    let (alone, threaded) = (Home::new(), Home::new());
    let embedded = alone.program(&["--slots", "1"], &["priority"]);
    threaded.program(&["--slots", "1", "--threads"], &["priority"]).finish().well();
    embedded.finish().well();
}

#[test]
fn a_dropped_handle_detaches_its_task() {
    everywhere(&["detach"]);
}

#[test]
fn aborted_tasks_end_at_once_and_free_their_slots() {
    everywhere(&["abort"]);
}

#[test]
fn a_call_within_a_job_is_refused_and_says_so() {
    everywhere(&["inside"]);
}

#[test]
fn a_panic_comes_back_with_message_and_place_and_ends_no_process() {
    everywhere(&["panic"]);
    // With one slot the next task shows which process is there.
    let home = Home::new();
    let single = home.program(&["--slots", "1"], &["panic"]).finish().well();
    assert!(single.stderr.contains("no 5 today"), "{single:?}");
    assert!(single.stdout.contains("process survived: true"), "{single:?}");
}

#[test]
fn a_map_gives_results_in_the_order_of_its_input_until_the_first_error() {
    everywhere(&["map"]);
}

#[test]
fn a_stream_gives_results_as_they_come_with_errors_as_items() {
    everywhere(&["stream"]);
}

#[test]
fn a_map_reads_no_further_than_it_has_room() {
    everywhere(&["lazy"]);
}

#[test]
fn callbacks_come_in_the_order_of_completion_on_one_thread() {
    for finished in everywhere(&["submit"]) {
        let told = finished.stderr.lines().filter(|line| line.contains("the callback of task-")).count();
        assert_eq!(told, 1, "one callback panicked: {finished:?}");
    }
}

#[test]
fn an_error_of_main_ends_the_program_with_code_1() {
    let (home, cluster) = (Home::new(), shared());
    for process in [home.program(&[], &["err"]), cluster.client(&["err"])] {
        let finished = process.finish().with_code(1);
        assert!(finished.stderr.contains("the model does not converge"), "{finished:?}");
    }
}

#[test]
fn clients_share_a_cluster_without_mixing_their_results() {
    let cluster = shared();
    let clients: Vec<_> = (0..4).map(|_| cluster.client(&["naps", "60"])).collect();
    clients.into_iter().for_each(|client| drop(client.finish().well()));
}

#[test]
fn main_need_not_be_async() {
    for finished in as_every_role("it_sync") {
        assert_eq!(finished.stdout, format!("task-12 gave Ok(16)\n9 {SQUARES}\n"), "{finished:?}");
    }
}

#[test]
fn a_program_without_the_macro_calls_init() {
    for finished in as_every_role("it_plain") {
        assert_eq!(finished.stdout, format!("{SQUARES}\n"), "{finished:?}");
    }
}

const SQUARES: &str = "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]";

/// Runs a program by itself, on threads, and on a cluster whose master and worker it is too.
fn as_every_role(name: &str) -> [Finished; 3] {
    let (home, alone) = (Home::new(), Home::new());
    let start = |home: &Home, flags: &[&str]| Process::start(&mut home.command(&program(name), flags));
    let _worker = start(&home, &["--role", "worker", "--slots", "1"]);
    let _master = start(&home, &["--role", "master", "--listen", "127.0.0.1:0"]);
    let client = start(&home, &["--cluster", "default"]);
    let embedded = start(&alone, &["--slots", "2"]);
    let threads = start(&alone, &["--slots=2", "--threads"]);
    [client, embedded, threads].map(|process| process.finish().with_code(0))
}
