//! What a client is told while nothing moves, and when: the reason must be the true one.

use std::time::Duration;

use super::{
    desk::{CLIENT, Desk, TASK, ms},
    world::plain,
};
use crate::{
    ids::{Attempt, SpecIndex, TaskId, WorkerId},
    master::{self, Event, Member},
    wire::{Class, Doing, FromClient, FromWorker, Returned, Spec, Stall},
};

/// One worker, and a client without tasks.
fn pair() -> Desk {
    let mut desk = Desk::new();
    desk.worker_of(1, 4, false);
    desk.client(false, plain());
    desk
}

#[test]
fn tasks_that_a_worker_is_given_and_does_not_begin_are_told_of() {
    let mut desk = Desk::new();
    desk.worker(1, false);
    desk.client(false, plain());
    desk.client_says(FromClient::Submit { task: TASK, spec: SpecIndex(0) });
    desk.pass(ms(4_000), &[1]);
    assert_eq!(desk.stalls(), [Stall::NotBegun { tasks: 1 }]);
    desk.started(1, 1);
    assert_eq!(desk.moves(), 1);
    desk.pass(ms(60_000), &[1]);
    assert_eq!(desk.stalls().len(), 1, "it runs");
}

#[test]
fn what_hangs_is_told_of_beside_results_that_nobody_wants() {
    let mut desk = pair();
    desk.submit(0..5);
    desk.waiting(1, 0..5);
    (0..5).for_each(|task| desk.client_says(FromClient::Cancel { task: TaskId(task) }));
    desk.pass(ms(4_000), &[1]);
    assert_eq!(desk.stalls(), [], "nothing is waited for");
    desk.submit(5..7);
    desk.pass(ms(8_000), &[1]);
    assert_eq!(desk.stalls(), [Stall::NotBegun { tasks: 2 }]);
}

#[test]
fn the_word_that_a_task_runs_which_nobody_wants_hides_no_standstill() {
    let mut desk = pair();
    desk.submit(0..8);
    desk.pass(ms(20), &[1]);
    desk.client_says(FromClient::Cancel { task: TASK });
    desk.started(1, 1);
    desk.pass(ms(5_000), &[1]);
    assert_eq!(desk.stalls(), [Stall::NotBegun { tasks: 7 }]);
}

#[test]
fn results_that_wait_are_told_of_though_another_worker_is_silent() {
    let mut desk = pair();
    desk.submit(0..3);
    desk.waiting(1, 0..3);
    desk.worker(2, false);
    desk.pass(ms(5_000), &[1]);
    assert_eq!(desk.stalls(), [Stall::Held { tasks: 3 }]);
    // Where they are at the silent one, it is that.
    desk.done.clear();
    desk.pass(ms(5_100), &[2]);
    desk.pass(ms(9_000), &[2]);
    desk.submit(3..4);
    desk.client_says(FromClient::Cancel { task: TaskId(3) });
    assert_eq!(desk.stalls(), [Stall::Silent { workers: 1 }]);
}

#[test]
fn results_that_pile_up_everywhere_are_the_reason_not_others_tasks() {
    let mut desk = pair();
    desk.submit(0..1);
    desk.waiting(1, 0..1);
    desk.worker_says(1, FromWorker::Held { client: CLIENT, held: true });
    desk.submit(1..3);
    desk.pass(ms(5_000), &[1]);
    assert_eq!(desk.stalls(), [Stall::Held { tasks: 1 }]);
}

#[test]
fn a_new_task_beside_those_that_stand_still_sets_nothing_in_motion() {
    let mut desk = pair();
    desk.submit(0..1);
    desk.waiting(1, 0..1);
    desk.worker_says(1, FromWorker::Held { client: CLIENT, held: true });
    desk.pass(ms(5_000), &[1]);
    assert_eq!(desk.stalls(), [Stall::Held { tasks: 1 }]);
    desk.submit(1..2);
    desk.pass(ms(9_000), &[1]);
    assert_eq!((desk.stalls().len(), desk.moves()), (1, 0));
    desk.finished(1, 1, Class::Ok);
    assert_eq!(desk.moves(), 1, "a result that comes is progress");
}

#[test]
fn what_a_worker_of_the_former_master_has_only_just_claimed_may_be_about_to_begin() {
    let mut desk = restarted();
    desk.client_says(FromClient::Resubmit { task: TASK, spec: SpecIndex(0) });
    desk.client_says(FromClient::Resubmitted { tasks: 1 });
    desk.pass(ms(5_000), &[]);
    assert_eq!(desk.stalls(), [Stall::Recovering { workers: 1 }]);
    desk.worker_of(1, 4, true);
    desk.have(1, 1, Doing::Waiting);
    desk.worker_says(1, FromWorker::Accounted { client: None });
    desk.pass(ms(5_030), &[1]);
    desk.started(1, 1);
    desk.pass(desk.now + Duration::from_secs(5), &[1]);
    assert_eq!(desk.stalls().len(), 1, "it never hung");
}

/// A worker of the former master's, on whose roster it is beside the client.
fn restarted() -> Desk {
    let member = |id, is_worker| Member { id, token: Default::default(), is_worker };
    let roster = vec![member(0, false), member(1, true)];
    let mut desk = Desk::with(master::Config { first_id: 10, roster, ..Default::default() });
    desk.client(true, plain());
    desk
}

/// Two workers: on the first three tasks have failed that succeeded on the second, so it is set aside.
fn one_set_aside(first: u64) -> Desk {
    let mut desk = Desk::new();
    desk.worker_of(1, 8, false);
    desk.client(false, Spec { retries: 3, ..plain() });
    desk.submit(first..4);
    desk.worker_of(2, 2, false);
    (1..4).for_each(|task| desk.ended(1, task, 1, Class::Failed));
    desk.pass(ms(1_500), &[1, 2]);
    (1..4).for_each(|task| desk.ended(2, task, 2, Class::Ok));
    desk
}

#[test]
fn what_is_placed_in_the_next_moment_does_not_wait_for_others() {
    let mut desk = restarted();
    desk.worker_of(12, 4, false);
    desk.client_says(FromClient::Resubmit { task: TASK, spec: SpecIndex(0) });
    desk.client_says(FromClient::Resubmitted { tasks: 1 });
    desk.pass(ms(10_100), &[12]);
    assert_eq!(desk.stalls(), [Stall::Recovering { workers: 1 }]);
    // The same where the only worker is tried again.
    let mut desk = one_set_aside(1);
    desk.worker_says(2, FromWorker::Leaving);
    desk.submit(10..11);
    desk.pass(ms(30_000), &[1]);
    while desk.sent() != Some((1, 1)) {
        desk.pass(desk.now + Duration::from_secs(1), &[1]);
    }
    assert!(matches!(desk.stalls()[..], [Stall::SetAside { workers: 1, .. }]), "{:?}", desk.stalls());
}

#[test]
fn a_task_that_hangs_on_a_worker_that_was_set_aside_is_said_to() {
    let mut desk = one_set_aside(0);
    assert_eq!(desk.master.set_aside_ever(), [WorkerId(1)]);
    desk.pass(ms(9_000), &[1, 2]);
    assert_eq!(desk.stalls().last(), Some(&Stall::NotBegun { tasks: 1 }));
}

#[test]
fn saying_again_that_a_result_waits_hides_nothing() {
    let mut desk = pair();
    desk.submit(0..4);
    for round in 1..6 {
        desk.waiting(1, 0..1);
        desk.pass(ms(1_500 * round), &[1]);
    }
    assert_eq!(desk.stalls(), [Stall::NotBegun { tasks: 3 }]);
}

#[test]
fn results_that_wait_before_and_after_a_worker_was_away_did_not_move() {
    let mut desk = pair();
    desk.submit(0..2);
    desk.waiting(1, 0..2);
    desk.pass(ms(5_000), &[1]);
    desk.handle(Event::WorkerLost { worker: WorkerId(1) });
    desk.pass(ms(5_200), &[]);
    desk.worker_of(1, 4, true);
    for task in [TaskId(0), TaskId(1)] {
        let attempt = Attempt(1);
        desk.worker_says(1, FromWorker::Have { client: CLIENT, task, attempt, doing: Doing::Done });
    }
    desk.worker_says(1, FromWorker::Accounted { client: None });
    desk.pass(ms(12_000), &[1]);
    assert_eq!(desk.moves(), 0);
}

#[test]
fn a_task_that_is_handed_back_each_time_is_told_of() {
    let mut desk = pair();
    desk.submit(0..1);
    for attempt in 1..10 {
        desk.pass(desk.now + Duration::from_secs(1), &[1]);
        assert_eq!(desk.sent(), Some((1, attempt)));
        let (task, attempt) = (TASK, Attempt(attempt));
        desk.worker_says(
            1,
            FromWorker::Returned { client: CLIENT, task, attempt, why: Returned::NotStarted },
        );
    }
    assert_eq!(desk.stalls(), [Stall::NotBegun { tasks: 1 }]);
}

#[test]
fn a_task_that_is_about_to_be_tried_again_is_no_suspect() {
    let mut desk = Desk::new();
    desk.worker_of(1, 4, false);
    desk.client(false, Spec { retries: 20, ..plain() });
    desk.submit(0..1);
    for attempt in 1..=7 {
        desk.finished(1, attempt, Class::Failed);
        let pause = Duration::from_millis(if attempt < 7 { 100 << (attempt - 1) } else { 0 });
        desk.pass(desk.now + pause + Duration::from_millis(1_100), &[1]);
    }
    desk.submit(1..2);
    desk.pass(desk.now + Duration::from_secs(4), &[1]);
    assert_eq!(desk.stalls(), [Stall::NotBegun { tasks: 1 }]);
}

#[test]
fn a_suspect_whose_only_worker_keeps_results_waits_for_those() {
    let mut desk = Desk::new();
    desk.worker_of(1, 4, false);
    desk.client(false, plain());
    desk.submit(0..1);
    desk.started(1, 1);
    desk.worker_of(2, 4, false);
    desk.submit(1..2);
    desk.waiting(2, 1..2);
    desk.worker_says(2, FromWorker::Held { client: CLIENT, held: true });
    desk.handle(Event::WorkerLost { worker: WorkerId(1) });
    desk.pass(ms(20_000), &[2]);
    assert_eq!(desk.stalls().last(), Some(&Stall::Held { tasks: 1 }), "{:?}", desk.stalls());
}

#[test]
fn a_worker_that_does_not_answer_a_call_back_is_not_what_is_waited_for() {
    let mut desk = Desk::new();
    desk.worker(1, false);
    desk.client(false, plain());
    desk.submit(0..1);
    desk.started(1, 1);
    desk.worker(2, false);
    desk.submit(1..2);
    desk.client_says(FromClient::Cancel { task: TaskId(1) });
    desk.pass(ms(8_000), &[2]);
    assert_eq!(desk.stalls(), [Stall::Silent { workers: 1 }]);
}

#[test]
fn nobody_speaks_of_a_restart_where_there_was_none() {
    let mut desk = pair();
    desk.submit(0..1);
    desk.finished(1, 1, Class::Ok);
    desk.handle(Event::WorkerLost { worker: WorkerId(1) });
    desk.client_comes_back(plain());
    desk.pass(ms(6_000), &[]);
    assert_eq!(desk.stalls(), [Stall::Silent { workers: 1 }]);
}

#[test]
fn whoever_starts_workers_says_why_there_are_none() {
    let mut desk = Desk::new();
    let outlook = |why: &str| Event::Outlook { why: Some(why.to_owned()) };
    let none = |why: &str| Stall::NoWorker { why: Some(why.to_owned()) };
    desk.handle(outlook("64 pend"));
    desk.client(false, plain());
    desk.submit(0..1);
    desk.pass(ms(4_000), &[]);
    assert_eq!(desk.stalls(), [none("64 pend")]);
    desk.handle(outlook("64 pend"));
    assert_eq!(desk.stalls().len(), 1, "that is known");
    desk.handle(outlook("64 pend: Resources"));
    assert_eq!(desk.stalls()[1..], [none("64 pend: Resources")], "a new reason is told at once");
    desk.handle(Event::Outlook { why: None });
    assert_eq!(desk.stalls()[2..], [Stall::NoWorker { why: None }]);
    desk.worker(1, false);
    desk.started(1, 1);
    desk.handle(outlook("more pend"));
    desk.pass(ms(60_000), &[1]);
    assert_eq!((desk.stalls().len(), desk.moves()), (3, 1), "nobody waits for a worker");
}
