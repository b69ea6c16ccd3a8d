//! What a master's successor knows of tasks that are long: what they take.

use std::time::Duration;

use super::{
    desk::Desk,
    world::{Do, World, plain},
};
use crate::{
    Payload, client,
    ids::{JobIndex, SpecIndex, TaskId, WorkerId},
    wire::{Class, FromClient, FromWorker, Spec, Stall, ToClient},
};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A client whose first job is known to take a minute, and a worker of one slot that has run something and ends before
/// one more of that would be done: in so many seconds.
fn world(what: &Spec, left: u64) -> (World, usize, usize) {
    let mut world = World::new();
    let client = world.client();
    world.declare(client, what.clone());
    world.declare(client, Spec { job: JobIndex(1), ..what.clone() });
    let known = world.worker(1);
    world.submit(client, 0, Do::Return.args(60_000));
    world.run();
    let worker = world.worker(1);
    world.ends(worker, Some(seconds(left)));
    world.kill_worker(known);
    world.submit(client, 1, Do::Return.args(100));
    world.run();
    (world, client, worker)
}

fn submit(world: &mut World, client: usize, spec: u32, tasks: usize, millis: u16) -> Vec<TaskId> {
    (0..tasks).map(|_| world.submit(client, spec, Do::Return.args(millis))).collect()
}

fn began(world: &World, task: TaskId) -> usize {
    world.workers.iter().flat_map(|host| &host.began).filter(|(_, began)| *began == task).count()
}

#[test]
fn the_next_master_knows_what_tasks_take_and_starts_none_that_has_no_time() {
    let (mut world, client, worker) = world(&plain(), 200);
    world.run_until(world.now + seconds(140));
    world.restart_master();
    world.run_until(world.now + seconds(1));
    let long = submit(&mut world, client, 0, 3, 60_000);
    world.run_until(world.now + seconds(10));
    assert_eq!(world.workers[worker].began.len(), 1, "what ran before");
    let stalls = &world.clients[client].stalls;
    assert!(matches!(stalls.last(), Some((_, Stall::NoTime { p90_seconds: 60, .. }))), "{stalls:?}");
    let backlog = world.master.backlog();
    assert_eq!((backlog.learned.as_secs(), backlog.unlearned), (180, 0));
    world.worker(3);
    world.run();
    assert!(long.iter().all(|task| world.attempts(client, *task) == 1 && began(&world, *task) == 1));
    world.assert_quiet();
}

#[test]
fn what_is_left_of_an_allocation_is_not_taken_for_all_of_it() {
    let mut world = World::new();
    let client = world.client();
    world.declare(client, plain());
    let worker = world.worker(1);
    world.ends(worker, Some(seconds(100)));
    let task = world.submit(client, 0, Do::Return.args(60_000));
    world.run_until(world.now + seconds(45));
    world.restart_master();
    world.run();
    assert_eq!((world.class(client, task), began(&world, task)), (Class::Ok, 1));
    assert_eq!(world.clients[client].too_long, [], "it fits");
    let left = world.master.standing().workers.iter().find(|it| it.worker == WorkerId(1)).map(|it| it.left);
    assert!(left.flatten().is_some_and(|left| left <= 40), "{left:?}");
}

#[test]
fn that_no_allocation_is_long_enough_is_said_once_however_many_masters_there_are() {
    let mut world = World::new();
    let client = world.client();
    world.declare(client, plain());
    world.submit(client, 0, Do::Return.args(60_000));
    for _ in 0..3 {
        let worker = world.worker(1);
        world.ends(worker, Some(seconds(30)));
        world.run_until(world.now + seconds(31));
        world.restart_master();
        world.run_until(world.now + seconds(20));
    }
    assert_eq!(world.clients[client].too_long.len(), 1, "{:?}", world.clients[client].too_long);
}

#[test]
fn words_about_specs_that_nobody_declared_change_nothing() {
    let mut desk = Desk::new();
    desk.worker(1, false);
    desk.client(false, plain());
    let learned = |spec, p90, mean| FromClient::Learned { spec: SpecIndex(spec), p90, mean };
    desk.client_says(learned(9, 1, 1));
    desk.client_says(learned(0, u64::MAX, u64::MAX));
    desk.worker_says(9, FromWorker::Lasts { seconds: u32::MAX });
    desk.worker_says(1, FromWorker::Lasts { seconds: u32::MAX });
    desk.submit(0..1);
    assert!(desk.sent().is_some());
    let mut world = World::new();
    let client = world.client();
    let message = ToClient::Learned { spec: SpecIndex(7), p90: 0, mean: 0 };
    world.client_event(client, client::Event::MasterSaid { message, body: Payload::new() });
}
