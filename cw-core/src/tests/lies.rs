//! Workers that lie about what they have: the master goes on, and what is another's stays as it is.

use super::{
    desk::{CLIENT, Desk, TASK, ms},
    world::plain,
};
use crate::{
    Payload,
    ids::{Attempt, SpecIndex, TaskId, WorkerId},
    master::{self, Action},
    wire::{Class, Doing, FromClient, FromWorker, Returned, Spec, ToWorker},
};

/// A client that has broken off once, and one worker, with a task of the client's.
fn broken_off(what: Spec) -> Desk {
    let mut desk = Desk::new();
    desk.worker(1, false);
    desk.client(false, what.clone());
    desk.submit(0..1);
    desk.client_says(FromClient::Noted { spec: SpecIndex(0), below: TaskId(1_000) });
    assert_eq!(desk.sent(), Some((1, 1)));
    desk.handle(master::Event::ClientLost { client: CLIENT });
    desk.client(true, what);
    desk
}

#[test]
fn the_word_that_runs_what_was_called_back_and_a_claim_beside_it_end_no_master() {
    let once = Spec { rerun: false, ..plain() };
    let mut desk = broken_off(once.clone());
    desk.client_says(FromClient::Resubmit { task: TASK, spec: SpecIndex(0) });
    desk.client_says(FromClient::Resubmitted { tasks: 1 });
    // A result that nobody gave it calls the true attempt back, which it then says to run.
    desk.finished(1, 9, Class::Ok);
    desk.started(1, 1);
    desk.handle(master::Event::ClientLost { client: CLIENT });
    desk.client(true, once);
    desk.have(1, 2, Doing::Done);
    desk.client_says(FromClient::Resubmit { task: TASK, spec: SpecIndex(0) });
    desk.client_says(FromClient::Resubmitted { tasks: 1 });
    desk.pass(ms(60_000), &[1]);
}

#[test]
fn a_worker_claims_a_few_attempts_of_one_task_and_not_any_number() {
    let mut desk = broken_off(plain());
    desk.done.clear();
    let task = TaskId(77);
    for attempt in 1..=10_000 {
        let attempt = Attempt(attempt);
        let message = FromWorker::Have { client: CLIENT, task, attempt, doing: Doing::Waiting };
        desk.worker_says(1, message);
    }
    let is_call_back =
        |action: &&Action| matches!(action, Action::TellWorker { message: ToWorker::Cancel { .. }, .. });
    assert_eq!(desk.done.iter().filter(is_call_back).count(), 10_000 - 8);
}

#[test]
fn a_lie_about_an_attempts_number_takes_no_later_one_from_the_worker_that_has_it() {
    let mut desk = broken_off(Spec { retries: 5, ..plain() });
    let last = u32::MAX / 2;
    desk.client_says(FromClient::Resubmit { task: TASK, spec: SpecIndex(0) });
    desk.have(1, last, Doing::Waiting);
    desk.worker(2, false);
    let task = TASK;
    desk.worker_says(
        1,
        FromWorker::Returned { client: CLIENT, task, attempt: Attempt(1), why: Returned::Leaving },
    );
    desk.worker_says(
        1,
        FromWorker::Returned { client: CLIENT, task, attempt: Attempt(last), why: Returned::Leaving },
    );
    assert_eq!(desk.sent(), Some((2, last + 1)));
    desk.started(2, last + 1);
    desk.handle(master::Event::WorkerLost { worker: WorkerId(2) });
    desk.worker(2, true);
    desk.have(2, last + 1, Doing::Running);
    desk.worker_says(2, FromWorker::Accounted { client: None });
    desk.finished(2, last + 1, Class::Ok);
    assert_eq!(desk.passed(), [(Class::Ok, 1)]);
}

#[test]
fn an_attempt_of_a_number_that_none_can_have_is_no_outcome() {
    let what = Spec { retries: 5, ..plain() };
    let mut desk = Desk::new();
    desk.worker(1, false);
    desk.client(false, what.clone());
    desk.submit(0..1);
    desk.finished(1, 1, Class::Ok);
    desk.handle(master::Event::ClientLost { client: CLIENT });
    desk.client(true, what);
    desk.client_says(FromClient::Resubmit { task: TASK, spec: SpecIndex(0) });
    desk.finished(1, u32::MAX, Class::Failed);
    desk.client_says(FromClient::Resubmitted { tasks: 1 });
    desk.worker_says(1, FromWorker::Accounted { client: Some(CLIENT) });
    desk.pass(ms(3_000), &[1]);
    assert_eq!(desk.sent(), Some((1, 2)), "its outcome is lost, and it runs again under the next number");
}

#[test]
fn a_task_numbered_beyond_all_bounds_ends_its_client_and_not_the_master() {
    let mut desk = Desk::new();
    desk.client(false, plain());
    desk.client_says(FromClient::Submit { task: TaskId(u64::MAX), spec: SpecIndex(0) });
    desk.client_says(FromClient::Cancel { task: TaskId(u64::MAX) });
    let is_end = |action: &Action| matches!(action, Action::Disconnect { client: CLIENT, .. });
    assert!(desk.done.iter().any(is_end));
}

#[test]
fn slot_time_beyond_all_bounds_overflows_nothing() {
    let mut desk = Desk::new();
    desk.worker(1, false);
    desk.client(false, plain());
    for task in 0..600_000 {
        desk.master
            .handle(ms(0), said_by_client(FromClient::Submit { task: TaskId(task), spec: SpecIndex(0) }));
        while desk.master.poll_action().is_some() {}
        let (task, attempt) = (TaskId(task), Attempt(1));
        let message = FromWorker::Finished {
            client: CLIENT,
            task,
            attempt,
            class: Class::Ok,
            micros: u64::MAX,
            output: 0,
        };
        desk.master.handle(ms(0), said_by_worker(message));
        while desk.master.poll_action().is_some() {}
    }
    desk.master.check();
}

fn said_by_client(message: FromClient) -> master::Event {
    master::Event::ClientSaid { client: CLIENT, message, body: Payload::new() }
}

fn said_by_worker(message: FromWorker) -> master::Event {
    master::Event::WorkerSaid { worker: WorkerId(1), message, body: Payload::new() }
}

#[test]
fn failures_of_tasks_that_nobody_handed_in_are_not_kept_without_end() {
    let member = |id, is_worker| master::Member { id, token: Default::default(), is_worker };
    let roster = vec![member(0, false), member(1, true)];
    let mut desk = Desk::with(master::Config { first_id: 10, roster, ..Default::default() });
    desk.client(true, plain());
    desk.worker(1, true);
    desk.done.clear();
    for task in 0..20_000 {
        let (task, attempt) = (TaskId(task), Attempt(1));
        desk.master.handle(
            ms(0),
            said_by_worker(FromWorker::Finished {
                client: CLIENT,
                task,
                attempt,
                class: Class::Failed,
                micros: 1,
                output: 0,
            }),
        );
    }
    desk.drain();
    let is_release =
        |action: &&Action| matches!(action, Action::TellWorker { message: ToWorker::Received { .. }, .. });
    assert_eq!(desk.done.iter().filter(is_release).count(), 20_000 - 16_384);
}
