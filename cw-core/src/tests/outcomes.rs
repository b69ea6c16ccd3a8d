//! Outcomes that are late, lost on their way, or another's: one scenario for each fault that a seed of the simulator or a
//! second reading has found, told to a machine word by word.

use std::time::Duration;

use super::{
    desk::{CLIENT, Desk, TASK, ms},
    world::plain,
};
use crate::{
    Payload, Time,
    client::{self, Client, Resumed},
    ids::{Attempt, ExecutorId, SpecIndex, TaskId, WorkerId},
    master::{self, Action},
    wire::{Class, Doing, FromClient, FromWorker, Spec, ToClient, ToWorker, Window},
    worker::{self, ExecutorSaid, Worker},
};

/// A task that failed on one worker and succeeded on the other, which its client has not acknowledged.
fn mended(spec: &Spec) -> Desk {
    let mut desk = Desk::new();
    desk.worker(1, false);
    desk.worker(2, false);
    desk.client(false, spec.clone());
    desk.client_says(FromClient::Submit { task: TASK, spec: SpecIndex(0) });
    assert_eq!(desk.sent(), Some((1, 1)));
    desk.finished(1, 1, Class::Failed);
    desk.pass(ms(500), &[1, 2]);
    assert_eq!(desk.sent(), Some((2, 2)), "tried elsewhere first");
    desk.finished(2, 2, Class::Ok);
    assert_eq!(desk.passed(), [(Class::Ok, 2)]);
    desk.done.clear();
    desk
}

#[test]
fn a_failure_that_was_counted_is_not_the_outcome_of_a_task_that_ended_otherwise() {
    let spec = Spec { retries: 1, ..plain() };
    let mut desk = mended(&spec);
    desk.client_comes_back(spec);
    // The first has not heard that its failure may be forgotten; it is asked, and answers before the other.
    desk.have(1, 1, Doing::Done);
    desk.worker_says(1, FromWorker::Accounted { client: Some(CLIENT) });
    desk.finished(1, 1, Class::Failed);
    assert_eq!(desk.passed(), []);
    desk.have(2, 2, Doing::Done);
    desk.worker_says(2, FromWorker::Accounted { client: Some(CLIENT) });
    desk.finished(2, 2, Class::Ok);
    assert_eq!((desk.passed(), desk.sent()), (vec![(Class::Ok, 2)], None), "nothing runs again");
}

#[test]
fn a_task_whose_outcome_is_lost_goes_on_with_its_numbers_and_counts() {
    let spec = Spec { retries: 1, ..plain() };
    let mut desk = mended(&spec);
    desk.client_comes_back(spec);
    for worker in [1, 2] {
        desk.worker_says(worker, FromWorker::Accounted { client: Some(CLIENT) });
    }
    let Some((worker, 3)) = desk.sent() else { panic!("attempts 1 and 2 were others: {:?}", desk.sent()) };
    desk.finished(worker, 3, Class::Failed);
    assert_eq!(desk.passed(), [(Class::Failed, 2)], "one failure was counted before");
}

#[test]
fn a_worker_that_never_had_a_clients_tasks_is_not_believed_about_them() {
    let mut desk = Desk::new();
    desk.worker(1, false);
    desk.client(false, plain());
    desk.client_says(FromClient::Submit { task: TaskId(9), spec: SpecIndex(0) });
    assert_eq!(desk.sent(), Some((1, 1)));
    desk.worker(2, false);
    desk.handle(master::Event::WorkerLost { worker: WorkerId(2) });
    desk.worker(2, true);
    desk.have(2, 1, Doing::Done);
    desk.finished(2, 1, Class::Ok);
    assert_eq!(desk.passed(), []);
    // One that had some is.
    desk.handle(master::Event::WorkerLost { worker: WorkerId(1) });
    desk.worker(1, true);
    desk.finished(1, 1, Class::Ok);
    assert_eq!(desk.passed(), [(Class::Ok, 1)]);
}

#[test]
fn whoever_died_while_the_master_slept_is_suspected_in_time_once_it_is_awake() {
    let mut desk = Desk::new();
    desk.worker(1, false);
    desk.client(false, plain());
    desk.client_says(FromClient::Submit { task: TASK, spec: SpecIndex(0) });
    desk.pass(ms(1_000), &[1]);
    // Acknowledgements wait in the socket; they are read before the clock is looked at.
    desk.now = ms(60_000);
    desk.handle(master::Event::WorkerHeard { worker: WorkerId(1) });
    desk.pass(ms(63_000), &[]);
    let is_call_back =
        |action: &Action| matches!(action, Action::TellWorker { message: ToWorker::Cancel { .. }, .. });
    assert!(desk.done.iter().any(is_call_back), "what it has not begun is called back");
}

#[test]
fn the_loss_of_a_worker_that_is_there_after_all_is_taken_back() {
    let spec = Spec { loss_limit: 1, ..plain() };
    let mut desk = Desk::new();
    desk.worker(1, false);
    desk.client(false, spec);
    desk.client_says(FromClient::Submit { task: TASK, spec: SpecIndex(0) });
    // Given up twice, it is back each time, and had not begun.
    for attempt in 1..=3 {
        assert_eq!(desk.sent(), Some((1, attempt)));
        desk.handle(master::Event::WorkerLost { worker: WorkerId(1) });
        desk.pass(desk.now + Duration::from_secs(12), &[]);
        desk.worker(1, true);
        desk.worker_says(1, FromWorker::Accounted { client: None });
        desk.pass(desk.now + Duration::from_millis(10), &[1]);
    }
    assert_eq!(desk.passed(), [], "two losses in doubt would have been one");
}

fn fed(worker: &mut Worker, task: TaskId, attempt: u32, at: Time) {
    let message =
        ToWorker::Run { client: CLIENT, task, attempt: Attempt(attempt), spec: SpecIndex(0), alone: false };
    worker.handle(at, worker::Event::MasterSaid { message, body: Payload::new() });
    drain(worker);
}

fn drain(worker: &mut Worker) -> Vec<FromWorker> {
    let all: Vec<worker::Action> = std::iter::from_fn(|| worker.poll_action()).collect();
    let told = all.into_iter().filter_map(|action| match action {
        worker::Action::Tell { message, .. } => Some(message),
        _ => None,
    });
    told.collect()
}

fn ready_worker() -> Worker {
    let mut worker = Worker::new(worker::Config { start_early: true, ..worker::Config::default() });
    worker.handle(ms(0), worker::Event::Joined { returned: false });
    drain(&mut worker);
    let said = ExecutorSaid::Ready;
    worker.handle(ms(0), worker::Event::ExecutorSaid { executor: ExecutorId(0), said });
    for message in [
        ToWorker::Credit { client: CLIENT, bytes: 1 << 20 },
        ToWorker::Declare { client: CLIENT, spec: SpecIndex(0), what: Box::new(plain()) },
        ToWorker::Beat { lease: 60_000 },
    ] {
        worker.handle(ms(0), worker::Event::MasterSaid { message, body: Payload::new() });
    }
    drain(&mut worker);
    worker
}

#[test]
fn a_worker_keeps_the_results_of_two_attempts_of_one_task_until_each_is_acknowledged() {
    let mut worker = ready_worker();
    for attempt in [1, 2] {
        fed(&mut worker, TASK, attempt, ms(1));
        let said = ExecutorSaid::Done { class: Class::Ok, micros: 1, output: 0, body: Payload::new() };
        worker.handle(ms(2), worker::Event::ExecutorSaid { executor: ExecutorId(0), said });
        drain(&mut worker);
    }
    let message = ToWorker::Received { client: CLIENT, first: TASK, tasks: 1, attempt: Attempt(2) };
    worker.handle(ms(3), worker::Event::MasterSaid { message, body: Payload::new() });
    assert!(!worker.is_quiet(), "the first attempt's result is not acknowledged");
    worker.handle(
        ms(4),
        worker::Event::MasterSaid { message: ToWorker::Account { client: CLIENT }, body: Payload::new() },
    );
    let told = drain(&mut worker);
    let have = FromWorker::Have { client: CLIENT, task: TASK, attempt: Attempt(1), doing: Doing::Done };
    assert!(told.contains(&have), "{told:?}");
    let message = ToWorker::Received { client: CLIENT, first: TASK, tasks: 1, attempt: Attempt(1) };
    worker.handle(ms(5), worker::Event::MasterSaid { message, body: Payload::new() });
    assert!(worker.is_quiet());
}

#[test]
fn what_must_not_run_twice_is_recorded_before_it_ends_as_lost() {
    let mut client = Client::default();
    let window = Window { tasks: 10, bytes: 1_000 };
    let once = Spec { rerun: false, ..plain() };
    client.handle(ms(0), client::Event::Declare { what: once });
    client.handle(ms(0), client::Event::Connected { window, session: Resumed::No });
    let args = Payload::new();
    client.handle(ms(0), client::Event::Submit { task: TASK, spec: SpecIndex(0), durable: true, args });
    let all = |client: &mut Client| std::iter::from_fn(|| client.poll_action()).collect::<Vec<_>>();
    all(&mut client);
    let message = ToClient::DispatchedOnce { spec: SpecIndex(0), below: TaskId(5) };
    client.handle(ms(1), client::Event::MasterSaid { message, body: Payload::new() });
    client.handle(ms(2), client::Event::MasterLost);
    client.handle(ms(3), client::Event::Connected { window, session: Resumed::No });
    let is_complete = |action: &client::Action| matches!(action, client::Action::Complete { .. });
    let is_record = |action: &client::Action| matches!(action, client::Action::Record { .. });
    let actions = all(&mut client);
    assert!(actions.iter().any(is_record) && !actions.iter().any(is_complete), "{actions:?}");
    client.handle(ms(4), client::Event::Recorded { task: TASK });
    assert!(all(&mut client).iter().any(is_complete));
}
