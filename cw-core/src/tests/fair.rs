//! Whose turn it is: among clients by slot time used, within a client by priority.

use std::time::Duration;

use super::world::{Do, World, plain};
use crate::{
    Time, client,
    ids::TaskId,
    wire::{Counts, Spec},
};

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

/// Two clients of one plain spec on a worker with so many slots.
fn two_clients(slots: u32) -> (World, usize, usize) {
    let mut world = World::new();
    world.worker(slots);
    let (first, second) = (world.client(), world.client());
    [first, second].iter().for_each(|client| world.declare(*client, plain()));
    (world, first, second)
}

fn submit(world: &mut World, client: usize, count: usize, millis: u16) -> Vec<TaskId> {
    (0..count).map(|_| world.submit(client, 0, Do::Return.args(millis))).collect()
}

/// When the last of these tasks was answered.
fn last_end(world: &World, client: usize, tasks: &[TaskId]) -> Time {
    tasks.iter().map(|task| world.clients[client].done[task].0).max().unwrap()
}

/// Slot time of a client's tasks that have ended.
fn used(world: &World, client: usize) -> Duration {
    world.clients[client].done.values().map(|(_, done)| Duration::from_micros(done.micros)).sum()
}

#[test]
fn ten_small_tasks_beside_a_million_start_in_the_next_slots_that_free() {
    let (mut world, big, small) = two_clients(8);
    submit(&mut world, big, 1_000_000, 2_000);
    world.run_until(at(101));
    let tasks = submit(&mut world, small, 10, 10);
    world.run_until(at(105));
    // All slots free at even seconds; eight of the ten take them, two come after.
    let waited = last_end(&world, small, &tasks).since(at(101));
    assert!(waited < SECOND + Duration::from_millis(100), "{waited:?}");
}

#[test]
fn what_was_sent_ahead_makes_way_for_one_who_has_used_less() {
    let (mut world, old, new) = two_clients(2);
    submit(&mut world, old, 20, 10_000);
    world.run_until(at(1));
    let tasks = submit(&mut world, new, 2, 1_000);
    world.run();
    // Both slots free at 10 s.
    assert!(last_end(&world, new, &tasks) < at(12), "{:?}", last_end(&world, new, &tasks));
    world.assert_quiet();
}

#[test]
fn long_tasks_and_short_ones_share_the_slots_by_time() {
    let (mut world, long, short) = two_clients(4);
    submit(&mut world, long, 100, 10_000);
    submit(&mut world, short, 1_200, 500);
    world.run_until(at(200));
    let (long, short) = (used(&world, long), used(&world, short));
    let share = short.as_secs_f64() / (long + short).as_secs_f64();
    assert!((0.4..0.6).contains(&share), "the short tasks had {share:.2} of the time: {short:?}, {long:?}");
}

#[test]
fn whoever_holds_slots_for_long_pays_for_them_meanwhile() {
    let (mut world, holder, other) = two_clients(4);
    world.declare(holder, plain());
    // Two slots for ever, of a job nobody knows yet.
    let hang = Do::Hang.args(0);
    for _ in 0..2 {
        world.submit(holder, 1, hang.clone());
    }
    world.run_until(at(1));
    submit(&mut world, other, 100, 20_000);
    world.run_until(at(100));
    submit(&mut world, holder, 50, 20_000);
    world.run_until(at(300));
    // It holds half of the slots already: the other half is the other's.
    let done = world.clients[holder].done.len();
    assert!(done <= 3, "{done} tasks ran beside those that hold half of the slots");
    assert!(world.clients[other].done.len() >= 26, "{}", world.clients[other].done.len());
}

#[test]
fn a_third_client_starts_level_and_all_three_share() {
    let (mut world, first, second) = two_clients(6);
    submit(&mut world, first, 400, 500);
    submit(&mut world, second, 400, 500);
    world.run_until(at(20));
    let third = world.client();
    world.declare(third, plain());
    let before = used(&world, first);
    submit(&mut world, third, 400, 500);
    world.run_until(at(50));
    let (third, first) = (used(&world, third), used(&world, first) - before);
    let ratio = third.as_secs_f64() / first.as_secs_f64();
    assert!((0.85..1.2).contains(&ratio), "the newcomer had {ratio:.2} of what another had meanwhile");
}

#[test]
fn an_urgent_task_goes_before_what_was_sent_ahead() {
    let (mut world, client, _) = two_clients(1);
    world.declare(client, Spec { priority: 1, ..plain() });
    submit(&mut world, client, 5, 10_000);
    world.run_until(at(1));
    let urgent = world.submit(client, 1, Do::Return.args(1_000));
    world.run();
    assert!(last_end(&world, client, &[urgent]) < at(12));
    world.assert_quiet();
}

#[test]
fn an_urgent_task_does_not_wait_for_a_full_window() {
    let (mut world, client, _) = two_clients(4);
    world.declare(client, Spec { priority: 1, ..plain() });
    submit(&mut world, client, 40_000, 1_000);
    world.run_until(at(2));
    let urgent: Vec<_> = (0..4).map(|_| world.submit(client, 1, Do::Return.args(10))).collect();
    world.run_until(at(5));
    assert!(last_end(&world, client, &urgent) < at(4));
    assert!(world.disconnected.is_empty(), "{:?}", world.disconnected);
}

#[test]
fn urgent_tasks_fill_at_most_one_and_a_half_windows() {
    let mut world = World::new();
    let client = world.client();
    (0..3).for_each(|priority| world.declare(client, Spec { priority, ..plain() }));
    let window = 16_384;
    for spec in 0..3 {
        for _ in 0..window {
            world.submit(client, spec, Do::Return.args(0));
        }
    }
    world.run_until(at(1));
    assert!(world.disconnected.is_empty(), "{:?}", world.disconnected);
    let (waiting, _) = world.clients[client].machine.waiting();
    assert_eq!(waiting, 3 * window - window * 3 / 2);
}

#[test]
fn whoever_watches_is_told_where_the_tasks_are() {
    let (mut world, client, other) = two_clients(4);
    world.worker(2);
    world.client_event(client, client::Event::Watch { on: true });
    submit(&mut world, client, 20, 5_000);
    world.run_until(at(3));
    let counts = world.clients[client].counts.last().unwrap().1;
    assert_eq!(counts, Counts { running: 6, workers: 2, slots: 6 });
    world.run();
    world.run_until(world.now + SECOND);
    assert_eq!(world.clients[client].counts.last().unwrap().1.running, 0);
    assert!(world.clients[other].counts.is_empty(), "nobody else is told");
}
