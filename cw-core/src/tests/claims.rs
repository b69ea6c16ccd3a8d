//! A client's process dies, and the next one of its program goes on with its session: it claims what there is of the
//! tasks that were handed in, without their arguments.

use std::time::Duration;

use super::{
    desk::{CLIENT, Desk, TASK},
    world::{Do, World, plain},
};
use crate::{
    Payload, Time,
    client::{self, Client, Resumed},
    ids::{SpecIndex, TaskId, WorkerId},
    master,
    wire::singles,
    wire::{Class, Doing, Failure, FromClient, FromWorker, Spec, Window},
};

fn ms(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

/// How often a task began, on all workers.
fn begun(world: &World, task: TaskId) -> usize {
    world.workers.iter().flat_map(|host| &host.began).filter(|(_, began)| *began == task).count()
}

/// A worker with two slots, twelve tasks of 10 s: two run, some wait at the worker, the others with the master.
fn twelve_tasks(spec: Spec) -> (World, usize, Vec<TaskId>) {
    let mut world = World::new();
    world.keep_for = Some(Duration::from_secs(900));
    world.worker(2);
    let client = world.client();
    world.declare(client, spec);
    let tasks = (0..12).map(|_| world.submit_as(client, 0, Do::Return.args(10_000), true)).collect();
    world.run_until(ms(1_000));
    (world, client, tasks)
}

fn classes(world: &World, client: usize, tasks: &[TaskId]) -> Vec<Class> {
    tasks.iter().map(|task| world.class(client, *task)).collect()
}

#[test]
fn what_the_master_and_its_workers_have_is_run_once_and_goes_to_the_next_process() {
    let (mut world, client, tasks) = twelve_tasks(plain());
    world.disconnect_client(client);
    // Two end meanwhile, and their results wait.
    world.run_until(ms(12_000));
    world.succeed_client(client, plain(), &tasks);
    world.run();
    assert_eq!(classes(&world, client, &tasks), [Class::Ok; 12]);
    assert!(tasks.iter().all(|task| begun(&world, *task) == 1));
    world.assert_quiet();
}

#[test]
fn after_the_master_died_too_what_workers_have_is_taken_and_all_else_is_lost() {
    let (mut world, client, tasks) = twelve_tasks(plain());
    world.disconnect_client(client);
    world.run_until(ms(11_000));
    world.kill_master();
    world.succeed_client(client, plain(), &tasks);
    world.run_until(ms(12_000));
    world.join_again(0);
    world.run();
    let classes = classes(&world, client, &tasks);
    assert_eq!(classes[..2], [Class::Ok; 2], "they had ended, and their results were kept");
    let lost = classes.iter().filter(|class| **class == Class::Lost).count();
    assert!(lost >= 2, "{classes:?}: no worker had the last of them");
    assert_eq!(lost + classes.iter().filter(|class| **class == Class::Ok).count(), 12);
    let runs = |task: &TaskId| begun(&world, *task);
    assert!(tasks.iter().zip(&classes).all(|(task, class)| runs(task) == usize::from(*class == Class::Ok)));
    world.assert_quiet();
}

#[test]
fn a_claimed_task_whose_worker_is_lost_is_not_run_without_its_arguments() {
    let (mut world, client, tasks) = twelve_tasks(plain());
    world.disconnect_client(client);
    world.kill_master();
    world.succeed_client(client, plain(), &tasks[..2]);
    world.join_again(0);
    world.worker(2);
    world.run_until(ms(3_000));
    world.kill_worker(0);
    world.run();
    assert_eq!(classes(&world, client, &tasks[..2]), [Class::Lost; 2]);
    assert!(tasks.iter().all(|task| begun(&world, *task) <= 1));
    world.assert_quiet();
}

#[test]
fn a_claimed_task_that_fails_is_not_tried_again_without_its_arguments() {
    let mut world = World::new();
    world.worker(1);
    let client = world.client();
    let spec = Spec { retries: 5, ..plain() };
    world.declare(client, spec.clone());
    let task = world.submit_as(client, 0, Do::Fail.args(5_000), true);
    world.run_until(ms(1_000));
    world.disconnect_client(client);
    world.kill_master();
    world.succeed_client(client, spec, &[task]);
    world.join_again(0);
    world.run();
    assert_eq!((world.class(client, task), begun(&world, task)), (Class::Lost, 1));
    world.assert_quiet();
}

#[test]
fn claims_upon_a_session_that_is_over_are_lost() {
    let (mut world, client, tasks) = twelve_tasks(plain());
    world.disconnect_client(client);
    world.run_until(ms(1_000_000));
    world.succeed_client(client, plain(), &tasks);
    world.run();
    assert_eq!(classes(&world, client, &tasks), [Class::Lost; 12]);
    let Failure::Lost { workers } = Failure::decode(&world.clients[client].done[&tasks[0]].1.body) else {
        panic!("it says what happened")
    };
    assert_eq!(workers.len(), 1);
    world.assert_quiet();
}

#[test]
fn a_session_worth_keeping_outlives_the_grace_with_what_runs_and_without_what_waits() {
    let (mut world, client, tasks) = twelve_tasks(plain());
    world.disconnect_client(client);
    world.run_until(ms(600_000));
    world.succeed_client(client, plain(), &tasks);
    world.run();
    let classes = classes(&world, client, &tasks);
    let ok = classes.iter().filter(|class| **class == Class::Ok).count();
    // What was with the worker went on; what waited with the master is the next process to hand in.
    assert_eq!(ok, tasks.iter().filter(|task| begun(&world, **task) == 1).count());
    assert!((2..12).contains(&ok), "{classes:?}");
    world.assert_quiet();
}

#[test]
fn a_session_that_nobody_wants_kept_ends_with_the_grace() {
    let mut world = World::new();
    world.worker(1);
    let client = world.client();
    world.declare(client, plain());
    let task = world.submit_as(client, 0, Do::Return.args(60_000), true);
    world.run_until(ms(1_000));
    world.disconnect_client(client);
    world.run_until(ms(40_000));
    assert!(world.master.is_quiet(), "what ran was killed");
    world.succeed_client(client, plain(), &[task]);
    world.run();
    assert_eq!(world.class(client, task), Class::Lost);
}

#[test]
fn what_a_master_had_before_is_handed_in_again_before_anything_new_however_urgent() {
    let mut client = Client::default();
    let now = Time::ZERO;
    let declare = |priority| client::Event::Declare { what: Spec { priority, ..plain() } };
    let submit = |task: u64, spec: u32| client::Event::Submit {
        task: TaskId(task),
        spec: SpecIndex(spec),
        durable: false,
        args: Payload::new(),
    };
    let connected = |session| client::Event::Connected { window: Window { tasks: 4, bytes: 1_000 }, session };
    [declare(0), declare(5), connected(Resumed::No)].into_iter().for_each(|event| client.handle(now, event));
    (0..4).for_each(|task| client.handle(now, submit(task, 0)));
    while client.poll_action().is_some() {}
    client.handle(now, client::Event::MasterLost);
    (4..8).for_each(|task| client.handle(now, submit(task, 1)));
    client.handle(now, connected(Resumed::SameMaster));
    let told = std::iter::from_fn(|| client.poll_action()).filter_map(|action| match action {
        client::Action::Tell { message, body } => Some(singles(&message, &body)),
        _ => None,
    });
    let tasks = told.flatten().filter_map(|(message, _)| match message {
        FromClient::Resubmit { task, .. } => Some((true, task.0)),
        FromClient::Submit { task, .. } => Some((false, task.0)),
        _ => None,
    });
    let again = (0..4).map(|task| (true, task));
    assert_eq!(tasks.collect::<Vec<_>>(), again.chain([(false, 4), (false, 5)]).collect::<Vec<_>>());
}

/// A worker had said what it has, and its connection broke before the client's word came: it has to say it again.
#[test]
fn a_worker_that_is_back_is_waited_for_again_by_a_client_that_hands_in() {
    let mut desk = Desk::new();
    desk.worker(0, false);
    desk.client(false, plain());
    desk.submit(0..1);
    assert_eq!(desk.sent(), Some((0, 1)));
    desk.handle(master::Event::ClientLost { client: CLIENT });
    desk.finished(0, 1, Class::Ok);
    desk.client(true, plain());
    desk.have(0, 1, Doing::Done);
    desk.worker_says(0, FromWorker::Accounted { client: Some(CLIENT) });
    desk.handle(master::Event::WorkerLost { worker: WorkerId(0) });
    desk.worker(0, true);
    desk.client_says(FromClient::Resubmit { task: TASK, spec: SpecIndex(0) });
    desk.client_says(FromClient::Resubmitted { tasks: 1 });
    assert_eq!(desk.sent(), Some((0, 1)), "it is not sent out anew");
    desk.have(0, 1, Doing::Done);
    desk.worker_says(0, FromWorker::Accounted { client: None });
    desk.finished(0, 1, Class::Ok);
    assert_eq!((desk.sent(), desk.passed()), (Some((0, 1)), vec![(Class::Ok, 1)]));
}
