//! Healthy runs: results, order, balance, windows, credit, joining and leaving.

use std::time::Duration;

use super::world::{Do, World, plain};

use crate::{
    Payload, Time, client,
    ids::TaskId,
    wire::{Class, Spec, ToWorker},
    worker,
};

#[test]
fn every_task_is_answered_once_with_its_own_result() {
    let mut world = World::new();
    world.bundle = 16;
    for _ in 0..3 {
        world.worker(2);
    }
    let clients = [world.client(), world.client()];
    clients.iter().for_each(|c| world.declare(*c, plain()));
    for n in 0..500 {
        for client in clients {
            world.submit(client, 0, Do::Return.args(n % 7));
        }
    }
    world.run();
    for client in clients {
        assert_eq!(world.clients[client].done.len(), 500);
        for (task, (_, completion)) in &world.clients[client].done {
            assert_eq!(completion.class, Class::Ok);
            assert_eq!(completion.body[..], task.0.to_le_bytes());
        }
    }
    world.assert_quiet();
}

#[test]
fn a_client_may_come_before_the_workers_and_is_told_why_it_waits() {
    let mut world = World::new();
    let client = world.client();
    world.declare(client, plain());
    let task = world.submit(client, 0, Do::Return.args(1));
    world.run_until(Time::ZERO + Duration::from_secs(60));
    assert_eq!(world.clients[client].stalls.len(), 1, "told once");
    assert!(world.clients[client].stalls[0].0 < Time::ZERO + Duration::from_secs(5));
    world.worker(1);
    world.run();
    assert_eq!(world.class(client, task), Class::Ok);
    world.assert_quiet();
}

#[test]
fn a_leaving_worker_hands_back_all_it_has_and_nothing_is_charged() {
    let mut world = World::new();
    let first = world.worker(2);
    let client = world.client();
    world.declare(client, plain());
    let tasks: Vec<TaskId> = (0..20).map(|_| world.submit(client, 0, Do::Return.args(50))).collect();
    world.run_until(Time::ZERO + Duration::from_millis(70));
    world.stop_worker(first);
    world.worker(2);
    world.run();
    assert!(world.workers[first].left);
    assert!(tasks.iter().all(|task| world.class(client, *task) == Class::Ok));
    world.assert_quiet();
}

#[test]
fn higher_priority_goes_first_and_equals_in_order() {
    let mut world = World::new();
    let client = world.client();
    world.declare(client, plain());
    world.declare(client, Spec { priority: 5, ..plain() });
    let low: Vec<_> = (0..5).map(|_| world.submit(client, 0, Do::Return.args(20))).collect();
    let high: Vec<_> = (0..5).map(|_| world.submit(client, 1, Do::Return.args(20))).collect();
    world.run_until(world.now + Duration::from_millis(10));
    let worker = world.worker(1);
    world.run();
    let began: Vec<TaskId> = world.workers[worker].began.iter().map(|(_, task)| *task).collect();
    assert_eq!(began, [high, low].concat());
}

#[test]
fn ten_tasks_of_a_newcomer_do_not_wait_for_two_thousand_of_another() {
    let mut world = World::new();
    world.worker(2);
    let (big, small) = (world.client(), world.client());
    [big, small].iter().for_each(|c| world.declare(*c, plain()));
    for _ in 0..2_000 {
        world.submit(big, 0, Do::Return.args(10));
    }
    world.run_until(Time::ZERO + Duration::from_secs(1));
    let start = world.now;
    let tasks: Vec<_> = (0..10).map(|_| world.submit(small, 0, Do::Return.args(10))).collect();
    world.run_until(start + Duration::from_secs(1));
    let last = tasks.iter().map(|task| world.clients[small].done[task].0).max().unwrap();
    // Alone it would take 50 ms; its half share takes 100.
    assert!(last.since(start) < Duration::from_millis(250), "{:?}", last.since(start));
}

#[test]
fn what_waits_behind_a_long_task_moves_to_an_idle_worker() {
    let mut world = World::new();
    for _ in 0..2 {
        world.worker(1);
    }
    let client = world.client();
    world.declare(client, plain());
    // One worker gets the long task and, ahead of a free slot, a short one.
    world.submit(client, 0, Do::Return.args(10_000));
    for _ in 0..5 {
        world.submit(client, 0, Do::Return.args(10));
    }
    world.run();
    let mut ends: Vec<Time> = world.clients[client].done.values().map(|(time, _)| *time).collect();
    ends.sort_unstable();
    assert!(ends[4].since_start() < Duration::from_millis(500), "a short task waited for a long one");
    world.assert_quiet();
}

#[test]
fn no_more_is_in_flight_than_the_window_allows() {
    let mut world = World::new();
    let client = world.client();
    world.declare(client, plain());
    for _ in 0..20_000 {
        world.submit(client, 0, Do::Return.args(0));
    }
    world.run_until(world.now + Duration::from_secs(1));
    world.worker(8);
    world.run();
    assert!(world.disconnected.is_empty(), "{:?}", world.disconnected);
    assert_eq!(world.clients[client].done.len(), 20_000);
    world.assert_quiet();
}

#[test]
fn results_wait_at_the_worker_while_their_client_does_not_read() {
    let mut world = World::new();
    let held_bytes = 64 << 10;
    let config = worker::Config { slots: 1, held_bytes, ..worker::Config::default() };
    let worker = world.worker_with(super::world::PROGRAM, config);
    let (stopped, lively) = (world.client(), world.client());
    [stopped, lively].iter().for_each(|c| world.declare(*c, plain()));
    world.clients[stopped].deaf = true;
    // A result counts 72 bytes, so 10,000 of them are more than credit and hold together.
    let warm_up = world.submit(stopped, 0, Do::Return.args(0));
    world.run_until(world.now + Duration::from_secs(1));
    let message = ToWorker::Credit { client: world.id(stopped), bytes: 64 << 10 };
    let credit = worker::Event::MasterSaid { message, body: Payload::new() };
    world.workers[worker].machine.handle(world.now, credit);
    for _ in 0..10_000 {
        world.submit(stopped, 0, Do::Return.args(0));
    }
    world.run_until(world.now + Duration::from_secs(20));
    let ran = world.workers[worker].began.len();
    assert!((100..9_000).contains(&ran), "{ran} tasks ran for a client that takes no results");
    let task = world.submit(lively, 0, Do::Return.args(1));
    world.run_until(world.now + Duration::from_secs(20));
    assert_eq!(world.class(lively, task), Class::Ok, "a stopped client slowed another");
    world.hear_again(stopped);
    world.run();
    assert_eq!(world.class(stopped, warm_up), Class::Ok);
    assert_eq!(world.clients[stopped].done.len(), 10_001);
    world.assert_quiet();
}

#[test]
fn durable_results_are_recorded_once_each_and_others_not_at_all() {
    let mut world = World::new();
    world.worker(2);
    let client = world.client();
    world.declare(client, plain());
    let submit = |n| world.submit_as(client, 0, Do::Return.args(n), n % 2 == 0);
    let tasks: Vec<TaskId> = (0..40).map(submit).collect();
    world.run();
    let mut recorded = world.clients[client].recorded.clone();
    recorded.sort_unstable();
    assert_eq!(recorded, tasks.iter().copied().step_by(2).collect::<Vec<_>>());
    world.assert_quiet();
}

#[test]
fn a_durable_result_is_recorded_before_it_is_reported_and_acknowledged() {
    let mut machine = client::Client::default();
    let now = Time::ZERO;
    let window = crate::wire::Window { tasks: 10, bytes: 1000 };
    machine.handle(now, client::Event::Connected { window, session: client::Resumed::No });
    machine.handle(now, client::Event::Declare { what: plain() });
    let (task, spec) = (TaskId(0), crate::ids::SpecIndex(0));
    machine.handle(now, client::Event::Submit { task, spec, durable: true, args: Payload::new() });
    while machine.poll_action().is_some() {}
    let finished = crate::wire::ToClient::Finished {
        output: 0,
        task,
        attempt: crate::ids::Attempt(1),
        attempts: 1,
        worker: Some(crate::ids::WorkerId(0)),
        class: Class::Ok,
        micros: 1,
    };
    machine.handle(now, client::Event::MasterSaid { message: finished.clone(), body: Payload::new() });
    assert!(matches!(machine.poll_action(), Some(client::Action::Record { .. })));
    assert_eq!(machine.poll_action(), None, "nothing is said before it is on disk");
    machine.handle(now, client::Event::Recorded { task });
    assert!(matches!(machine.poll_action(), Some(client::Action::Complete { .. })));
    assert!(matches!(machine.poll_action(), Some(client::Action::Tell { .. })));
    // The same result again: acknowledged again, not reported again.
    machine.handle(now, client::Event::MasterSaid { message: finished, body: Payload::new() });
    assert!(matches!(machine.poll_action(), Some(client::Action::Tell { .. })));
    assert_eq!(machine.poll_action(), None);
}
