//! How things stand, and the end of a cluster.

use std::time::Duration;

use super::world::{Do, World, plain};
use crate::{
    Payload,
    ids::WorkerId,
    master::Event,
    wire::{Class, ClientStanding, FromWorker, Spec, Stall, WorkerState},
};

fn client(world: &World, index: usize) -> ClientStanding {
    let standing = world.master.standing();
    standing.clients.into_iter().find(|it| it.client == world.id(index)).expect("it is here")
}

/// Queued, running, done and failed.
fn counts(of: &ClientStanding) -> [u64; 4] {
    [of.queued, of.running, of.done, of.failed]
}

fn submit(world: &mut World, owner: usize, tasks: usize, millis: u16) {
    for _ in 0..tasks {
        world.submit(owner, 0, Do::Return.args(millis));
    }
}

fn after(world: &mut World, millis: u64) {
    world.run_until(world.now + Duration::from_millis(millis));
}

#[test]
fn every_task_is_counted_once_wherever_it_is() {
    let mut world = World::new();
    let worker = world.worker(2);
    let owner = world.client();
    world.declare(owner, Spec { retries: 1, ..plain() });
    for n in 0..20 {
        let what = [Do::Return, Do::Return, Do::Fail, Do::FailTimes(1)][n % 4];
        world.submit(owner, 0, what.args(100));
    }
    let (mut seen, mut ends) = (0, 0);
    while ends < 20 {
        after(&mut world, 30);
        let standing = client(&world, owner);
        let [queued, running, done, failed] = counts(&standing);
        assert_eq!(queued + running + done + failed, 20, "{standing:?}");
        let here = &world.master.standing().workers[worker];
        assert_eq!((u64::from(here.running), here.slots, here.state), (running, 2, WorkerState::Well));
        assert!(u64::from(here.ahead) <= queued);
        seen = running.max(seen);
        ends = done + failed;
    }
    let failed = world.clients[owner].done.values().filter(|(_, it)| it.class == Class::Failed).count();
    assert_eq!((counts(&client(&world, owner)), failed, seen), ([0, 0, 15, 5], 5, 2));
    let standing = &world.master.standing().workers[worker];
    assert_eq!((standing.name.as_str(), standing.running, standing.ahead), ("node0:1", 0, 0));
}

#[test]
fn what_comes_again_after_a_break_is_not_counted_again() {
    let mut world = World::new();
    world.worker(2);
    let owner = world.client();
    world.declare(owner, plain());
    submit(&mut world, owner, 10, 10);
    // Its results are on their way to it, and it never has them.
    world.clients[owner].deaf = true;
    after(&mut world, 1_000);
    assert_eq!(counts(&client(&world, owner)), [0, 0, 10, 0]);
    world.disconnect_client(owner);
    assert!(client(&world, owner).is_away);
    world.clients[owner].deaf = false;
    world.clients[owner].unread.clear();
    world.connect_again(owner);
    world.run();
    assert_eq!(world.clients[owner].done.len(), 10);
    assert_eq!((counts(&client(&world, owner)), client(&world, owner).is_away), ([0, 0, 10, 0], false));
}

#[test]
fn results_that_a_former_master_did_not_see_are_the_next_ones() {
    let mut world = World::new();
    world.worker(2);
    let owner = world.client();
    world.declare(owner, plain());
    submit(&mut world, owner, 10, 100);
    after(&mut world, 250);
    let before = client(&world, owner).done;
    assert!((2..8).contains(&before), "{before}");
    world.restart_master();
    world.run();
    assert_eq!(counts(&client(&world, owner)), [0, 0, 10 - before, 0]);
}

#[test]
fn why_nothing_moves_is_what_the_client_was_told() {
    let mut world = World::new();
    let owner = world.client();
    world.declare(owner, plain());
    world.submit(owner, 0, Do::Return.args(1));
    assert_eq!(client(&world, owner).stall, None);
    after(&mut world, 3_000);
    let (_, told) = world.clients[owner].stalls.last().expect("nothing can move");
    assert_eq!(client(&world, owner).stall, Some(told.to_string()));
    world.worker(1);
    world.run();
    assert_eq!(client(&world, owner).stall, None);
}

#[test]
fn how_long_a_worker_lasts_is_what_it_said_less_what_has_passed() {
    let mut world = World::new();
    let worker = WorkerId(0);
    world.worker(1);
    let left = |world: &World| world.master.standing().workers[0].left;
    assert_eq!(left(&world), None);
    let message = FromWorker::Ends { left: Some(300) };
    world.master.handle(world.now, Event::WorkerSaid { worker, message, body: Payload::new() });
    assert_eq!(left(&world), Some(300));
    after(&mut world, 100_000);
    assert!(matches!(left(&world), Some(199..=200)), "{:?}", left(&world));
    world.master.handle(world.now, Event::Outlook { why: Some("52 pend: Resources".to_owned()) });
    assert_eq!(world.master.standing().outlook.as_deref(), Some("52 pend: Resources"));
}

#[test]
fn workers_that_are_not_well_say_so() {
    let mut world = World::new();
    let [cut, well, broken] = [(); 3].map(|()| world.worker(1));
    let states = |world: &World| {
        let workers = world.master.standing().workers;
        workers.into_iter().map(|it| it.state).collect::<Vec<_>>()
    };
    world.cut_worker(cut);
    after(&mut world, 3_000);
    assert_eq!(states(&world), [WorkerState::Silent, WorkerState::Well, WorkerState::Well]);
    world.mend_worker(cut);
    after(&mut world, 1_000);
    world.kill_worker(broken);
    assert_eq!(states(&world), [WorkerState::Well, WorkerState::Well, WorkerState::Away]);
    world.stop_worker(well);
    after(&mut world, 1_000);
    assert_eq!(states(&world), [WorkerState::Well, WorkerState::Away]);
}

#[test]
fn a_cluster_that_ends_dismisses_its_workers_and_blames_no_task() {
    let mut world = World::new();
    let workers = [world.worker(2), world.worker(2)];
    let owner = world.client();
    world.declare(owner, Spec { loss_limit: 1, crash_limit: 1, ..plain() });
    submit(&mut world, owner, 20, 1_000);
    after(&mut world, 500);
    assert_eq!(counts(&client(&world, owner))[1], 4);
    world.master.handle(world.now, Event::Dismiss);
    after(&mut world, 100);
    assert!(workers.iter().all(|worker| world.workers[*worker].left), "they have gone");
    assert_eq!(world.master.standing().workers, []);
    assert_eq!(counts(&client(&world, owner)), [20, 0, 0, 0]);
    after(&mut world, 5_000);
    assert!(matches!(world.clients[owner].stalls.last(), Some((_, Stall::NoWorker { .. }))));
    // Whoever comes late goes as well, without a task.
    let late = world.worker(2);
    after(&mut world, 100);
    assert!(world.workers[late].left && world.workers[late].began.is_empty());
    // The next master finds the tasks as good as new.
    world.restart_master();
    world.worker(4);
    world.run();
    assert!(world.clients[owner].done.values().all(|(_, it)| it.class == Class::Ok));
    world.assert_quiet();
}

#[test]
fn a_worker_that_comes_back_to_a_cluster_that_ends_is_dismissed_too() {
    let mut world = World::new();
    let away = world.worker(1);
    let owner = world.client();
    world.declare(owner, plain());
    world.submit(owner, 0, Do::Return.args(2_000));
    after(&mut world, 500);
    world.cut_worker(away);
    world.master.handle(world.now, Event::Dismiss);
    after(&mut world, 100);
    assert!(!world.workers[away].left);
    world.rejoin_worker(away);
    after(&mut world, 100);
    assert!(world.workers[away].left);
    assert_eq!(counts(&client(&world, owner)), [1, 0, 0, 0]);
}
