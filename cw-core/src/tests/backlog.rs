//! How much there is to do, as the master counts it for whoever starts workers.

use std::time::Duration;

use super::{
    desk::{CLIENT, Desk, TASK, ms},
    world::plain,
};
use crate::{
    Payload,
    ids::{Attempt, JobIndex, SpecIndex, TaskId},
    master::{Backlog, Config, Event},
    wire::{Class, FromClient, FromWorker, Spec, Window},
};

fn unlearned(tasks: u64) -> Backlog {
    Backlog { tasks, unlearned: tasks, ..Backlog::default() }
}

/// A task has ended that took so long.
fn end(desk: &mut Desk, task: u64, time: Duration) {
    let (task, attempt) = (TaskId(task), Attempt(1));
    let micros = u64::try_from(time.as_micros()).unwrap();
    let class = Class::Ok;
    desk.worker_says(1, FromWorker::Finished { client: CLIENT, task, attempt, class, micros, output: 0 });
}

#[test]
fn tasks_are_counted_until_what_they_take_is_known() {
    let mut desk = Desk::new();
    assert_eq!(desk.master.backlog(), Backlog::default());
    desk.client(false, plain());
    desk.submit(0..10);
    assert_eq!(desk.master.backlog(), unlearned(10));
    desk.worker_of(1, 4, false);
    desk.started(1, 1);
    assert_eq!(desk.master.backlog(), Backlog { running: 1, ..unlearned(10) }, "it has not ended");
    end(&mut desk, 0, Duration::from_secs(60));
    let learned = Duration::from_secs(9 * 60);
    assert_eq!(desk.master.backlog(), Backlog { tasks: 9, learned, ..Backlog::default() });
}

#[test]
fn bursts_are_counted_as_their_tasks_are() {
    let mut desk = Desk::new();
    desk.client(false, plain());
    let body = Payload::from(vec![0; 100]);
    let message = FromClient::Submits { first: TASK, tasks: 100, spec: SpecIndex(0) };
    desk.handle(Event::ClientSaid { client: CLIENT, message, body });
    assert_eq!(desk.master.backlog(), unlearned(100));
    desk.worker_of(1, 4, false);
    end(&mut desk, 0, Duration::from_secs(1));
    let learned = Duration::from_secs(99);
    assert_eq!(desk.master.backlog(), Backlog { tasks: 99, learned, ..Backlog::default() });
}

#[test]
fn what_has_ended_or_is_not_wanted_is_no_backlog() {
    let mut desk = Desk::new();
    desk.client(false, plain());
    desk.worker_of(1, 1, false);
    desk.submit(0..6);
    desk.waiting(1, 0..1);
    assert_eq!(desk.master.backlog().tasks, 5, "the result of one waits there");
    desk.client_says(FromClient::Cancel { task: TaskId(1) });
    desk.client_says(FromClient::Cancel { task: TaskId(5) });
    assert_eq!(desk.master.backlog(), unlearned(3), "one was called back, and one had not been sent");
}

#[test]
fn whoever_is_away_waits_for_nothing() {
    let mut desk = Desk::new();
    desk.client(false, plain());
    desk.submit(0..6);
    desk.handle(Event::ClientLost { client: CLIENT });
    assert_eq!(desk.master.backlog(), Backlog { away: 6, ..Backlog::default() }, "but not for ever");
    desk.client(true, plain());
    assert_eq!(desk.master.backlog(), unlearned(6));
}

#[test]
fn whose_build_no_worker_runs_is_not_helped_by_more_of_them() {
    let mut desk = Desk::new();
    desk.client(false, plain());
    desk.submit(0..6);
    desk.worker_of_other(1);
    assert_eq!(desk.master.backlog(), Backlog::default());
    desk.worker(2, false);
    assert_eq!(desk.master.backlog(), unlearned(6));
}

/// A map of millions shows only its window.
#[test]
fn who_keeps_the_window_full_is_taken_to_be_half_through() {
    let window = Window { tasks: 100, bytes: 1 << 20 };
    let mut desk = Desk::with(Config { window, ..Config::default() });
    desk.client(false, plain());
    desk.worker_of(1, 1, false);
    desk.submit(0..100);
    end(&mut desk, 0, Duration::from_secs(1));
    assert_eq!(desk.master.backlog().learned, Duration::from_secs(99 + 100));
    (1..50).for_each(|task| end(&mut desk, task, Duration::from_secs(1)));
    assert_eq!(desk.master.backlog().learned, Duration::from_secs(50), "there is nothing behind those");
    desk.pass(ms(1), &[1]);
    desk.submit(100..150);
    assert_eq!(desk.master.backlog().learned, Duration::from_secs(100 + 150));
}

#[test]
fn other_options_of_a_known_job_are_learned() {
    let mut desk = Desk::new();
    desk.client(false, plain());
    desk.worker_of(1, 1, false);
    desk.submit(0..1);
    end(&mut desk, 0, Duration::from_secs(20));
    let what = Box::new(Spec { retries: 5, ..plain() });
    desk.client_says(FromClient::Declare { spec: SpecIndex(1), what });
    for task in 1..5 {
        desk.client_says(FromClient::Submit { task: TaskId(task), spec: SpecIndex(1) });
    }
    let learned = Duration::from_secs(80);
    assert_eq!(desk.master.backlog(), Backlog { tasks: 4, learned, ..Backlog::default() });
}

#[test]
fn a_spec_that_was_declared_before_its_job_ran_is_known_once_another_of_that_job_is() {
    let mut desk = Desk::new();
    desk.client(false, plain());
    let what = Box::new(Spec { retries: 5, ..plain() });
    desk.client_says(FromClient::Declare { spec: SpecIndex(1), what });
    desk.worker_of(1, 1, false);
    desk.submit(0..1);
    for task in 1..5 {
        desk.client_says(FromClient::Submit { task: TaskId(task), spec: SpecIndex(1) });
    }
    assert_eq!(desk.master.backlog(), unlearned(5));
    end(&mut desk, 0, Duration::from_secs(20));
    let learned = Duration::from_secs(80);
    assert_eq!(desk.master.backlog(), Backlog { tasks: 4, learned, ..Backlog::default() });
}

/// One slot for each task that nobody knows, beside what the known ones need.
#[test]
fn jobs_that_nobody_knows_are_counted_beside_those_that_are_known() {
    let mut desk = Desk::new();
    desk.client(false, plain());
    let what = Box::new(Spec { job: JobIndex(1), ..plain() });
    desk.client_says(FromClient::Declare { spec: SpecIndex(1), what });
    desk.worker_of(1, 1, false);
    desk.submit(0..11);
    for task in 11..14 {
        desk.client_says(FromClient::Submit { task: TaskId(task), spec: SpecIndex(1) });
    }
    end(&mut desk, 0, Duration::from_secs(60));
    let learned = Duration::from_secs(600);
    assert_eq!(desk.master.backlog(), Backlog { tasks: 13, learned, unlearned: 3, ..Backlog::default() });
}
