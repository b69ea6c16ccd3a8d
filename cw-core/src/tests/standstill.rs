//! What a client is told while nothing moves, and when: the reason must be the true one.

use std::time::Duration;

use super::{
    desk::{CLIENT, Desk, TASK, ms},
    world::plain,
};
use crate::{
    ids::{SpecIndex, TaskId},
    master::{self, Member},
    wire::{Class, Doing, FromClient, FromWorker, Stall},
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
    let member = |id, is_worker| Member { id, token: Default::default(), is_worker };
    let roster = vec![member(0, false), member(1, true)];
    let mut desk = Desk::with(master::Config { first_id: 10, roster, ..Default::default() });
    desk.client(true, plain());
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
