//! How long an executor may take to start: not for ever, unless the program itself takes its time.

use std::time::Duration;

use crate::{
    Time,
    ids::ExecutorId,
    wire::Ending,
    worker::{Action, Config, Event, ExecutorSaid, Worker},
};

/// A worker of one slot, and the executor it starts.
fn starting() -> (Worker, ExecutorId) {
    let mut worker = Worker::new(Config { idle_time: None, ..Config::default() });
    worker.handle(Time::ZERO, Event::Joined { returned: false });
    let Some(Action::Start { executor, .. }) = worker.poll_action() else { panic!("it starts none") };
    assert_eq!(worker.poll_action(), None);
    (worker, executor)
}

fn said(worker: &mut Worker, now: Time, executor: ExecutorId, said: ExecutorSaid) {
    worker.handle(now, Event::ExecutorSaid { executor, said });
}

fn after(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

#[test]
fn a_silent_executor_is_killed_in_time() {
    let (mut worker, executor) = starting();
    assert_eq!(worker.poll_timeout(), Some(after(30)));
    worker.handle_timeout(after(30));
    assert_eq!(worker.poll_action(), Some(Action::Kill { executor }));
    assert_eq!(worker.poll_timeout(), None, "once is enough");
}

#[test]
fn a_worker_that_slept_gives_its_executors_the_time_they_had() {
    let (mut worker, executor) = starting();
    // It was stopped, as was the executor, which needs a moment yet.
    worker.handle_timeout(after(90));
    assert_eq!(worker.poll_action(), None);
    assert_eq!(worker.poll_timeout(), Some(after(120)));
    worker.handle_timeout(after(120));
    assert_eq!(worker.poll_action(), Some(Action::Kill { executor }));
}

#[test]
fn one_that_runs_hooks_is_left_alone_until_it_is_ready() {
    let (mut worker, executor) = starting();
    said(&mut worker, after(1), executor, ExecutorSaid::Starting);
    assert_eq!(worker.poll_timeout(), None);
    worker.handle_timeout(after(40_000));
    assert_eq!(worker.poll_action(), None);
    said(&mut worker, after(40_001), executor, ExecutorSaid::Ready);
    assert_eq!(worker.poll_action(), None, "it is idle, and none is started in its place");
}

#[test]
fn one_that_dies_in_its_hooks_is_started_again() {
    let (mut worker, executor) = starting();
    said(&mut worker, after(1), executor, ExecutorSaid::Starting);
    let ended = ExecutorSaid::Ended {
        output: crate::Payload::new(),
        ending: Ending::Exit(1),
        hint: None,
        stderr: String::new(),
        worker: "node0:1".to_owned(),
    };
    said(&mut worker, after(2), executor, ended);
    let due = worker.poll_timeout().expect("a pause, then another");
    worker.handle_timeout(due);
    assert!(matches!(worker.poll_action(), Some(Action::Start { executor: next, .. }) if next != executor));
}

#[test]
fn a_sign_of_life_of_one_that_is_ready_or_gone_changes_nothing() {
    let (mut worker, executor) = starting();
    said(&mut worker, after(1), executor, ExecutorSaid::Ready);
    said(&mut worker, after(2), executor, ExecutorSaid::Starting);
    said(&mut worker, after(2), ExecutorId(77), ExecutorSaid::Starting);
    assert_eq!((worker.poll_action(), worker.poll_timeout()), (None, None));
}
