//! Workers that lie about what they have: the master goes on, and what is another's stays as it is.

use super::{
    desk::{CLIENT, Desk, TASK, ms},
    world::plain,
};
use crate::{
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
    desk.client_says(FromClient::Noted { below: TaskId(1_000) });
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
