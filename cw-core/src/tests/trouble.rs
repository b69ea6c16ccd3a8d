//! Runs in which something goes wrong: errors, crashes, timeouts, cancellation, losses.

use std::time::Duration;

use super::world::{Do, PROGRAM, World, plain};
use crate::{
    Time,
    ids::{ProgramId, TaskId},
    wire::{Class, Failure, Spec, Stall},
};

fn world_of(workers: u32, slots: u32) -> (World, usize) {
    let mut world = World::new();
    for _ in 0..workers {
        world.worker(slots);
    }
    let client = world.client();
    world.declare(client, plain());
    (world, client)
}

#[test]
fn an_error_is_final_without_retries_and_retried_with_them() {
    let (mut world, client) = world_of(2, 1);
    world.declare(client, Spec { retries: 2, ..plain() });
    let once = world.submit(client, 0, Do::Fail.args(1));
    let thrice = world.submit(client, 1, Do::Fail.args(1));
    let mended = world.submit(client, 1, Do::FailTimes(2).args(1));
    world.run();
    assert_eq!((world.class(client, once), world.attempts(client, once)), (Class::Failed, 1));
    assert_eq!((world.class(client, thrice), world.attempts(client, thrice)), (Class::Failed, 3));
    assert_eq!((world.class(client, mended), world.attempts(client, mended)), (Class::Ok, 3));
    world.assert_quiet();
}

#[test]
fn the_third_crash_ends_a_task_and_carries_the_evidence() {
    let (mut world, client) = world_of(1, 1);
    let task = world.submit(client, 0, Do::Crash.args(1));
    let mended = world.submit(client, 0, Do::CrashTimes(2).args(1));
    world.run();
    assert_eq!((world.class(client, task), world.attempts(client, task)), (Class::Crashed, 3));
    let (_, completion) = &world.clients[client].done[&task];
    let Failure::Crashed { stderr, .. } = Failure::decode(&completion.body) else { panic!("no evidence") };
    assert_eq!(stderr, "last words");
    assert_eq!((world.class(client, mended), world.attempts(client, mended)), (Class::Ok, 3));
    world.assert_quiet();
}

#[test]
fn crashes_amid_bundles_of_short_tasks_cost_nobody_else_a_thing() {
    let (mut world, client) = world_of(2, 2);
    world.bundle = 64;
    let mut poison = Vec::new();
    let mut innocent = Vec::new();
    for n in 0..3_000 {
        if n % 500 == 250 {
            poison.push(world.submit(client, 0, Do::Crash.args(0)));
        } else {
            innocent.push(world.submit(client, 0, Do::Return.args(0)));
        }
    }
    world.run();
    assert!(innocent.iter().all(|task| world.class(client, *task) == Class::Ok));
    assert!(poison.iter().all(|task| world.class(client, *task) == Class::Crashed));
    world.assert_quiet();
}

#[test]
fn a_timeout_kills_and_is_told_from_a_crash() {
    let (mut world, client) = world_of(1, 2);
    world.declare(client, Spec { timeout: Some(Duration::from_millis(500)), ..plain() });
    let hangs = world.submit(client, 1, Do::Hang.args(0));
    let quick = world.submit(client, 1, Do::Return.args(100));
    world.run();
    assert_eq!(world.class(client, hangs), Class::TimedOut);
    assert_eq!(world.class(client, quick), Class::Ok);
    let end = world.clients[client].done[&hangs].0;
    assert!(end.since_start() < Duration::from_millis(520), "{end}");
    assert_eq!(world.workers[0].killed, 1);
    world.assert_quiet();
}

#[test]
fn cancelled_tasks_are_answered_at_once_and_killed_where_they_run() {
    let (mut world, client) = world_of(1, 1);
    let running = world.submit(client, 0, Do::Hang.args(0));
    let waiting = world.submit(client, 0, Do::Return.args(1));
    let kept = world.submit(client, 0, Do::Return.args(1));
    world.run_until(Time::ZERO + Duration::from_millis(100));
    world.cancel(client, waiting);
    world.cancel(client, running);
    assert_eq!(world.class(client, running), Class::Cancelled);
    assert_eq!(world.class(client, waiting), Class::Cancelled);
    world.run();
    assert_eq!(world.class(client, kept), Class::Ok);
    assert_eq!(world.workers[0].killed, 1);
    assert!(!world.workers[0].began.iter().any(|(_, task)| *task == waiting));
    world.assert_quiet();
}

#[test]
fn a_cancelled_task_deep_in_a_bundle_does_not_kill_its_neighbours() {
    let (mut world, client) = world_of(1, 1);
    for _ in 0..500 {
        world.submit(client, 0, Do::Return.args(0));
    }
    world.run();
    let tasks: Vec<TaskId> = (0..300).map(|_| world.submit(client, 0, Do::Return.args(0))).collect();
    world.cancel(client, tasks[150]);
    world.run();
    for task in &tasks {
        let expected = if *task == tasks[150] { Class::Cancelled } else { Class::Ok };
        assert_eq!(world.class(client, *task), expected);
    }
    world.assert_quiet();
}

#[test]
fn tasks_of_a_lost_worker_run_elsewhere() {
    let (mut world, client) = world_of(2, 2);
    let tasks: Vec<TaskId> = (0..40).map(|_| world.submit(client, 0, Do::Return.args(100))).collect();
    world.run_until(Time::ZERO + Duration::from_millis(250));
    world.kill_worker(0);
    world.run();
    assert!(tasks.iter().all(|task| world.class(client, *task) == Class::Ok));
    world.assert_quiet();
}

#[test]
fn a_restarted_master_gets_what_has_no_result_again() {
    let (mut world, client) = world_of(2, 1);
    let tasks: Vec<TaskId> = (0..40).map(|_| world.submit(client, 0, Do::Return.args(100))).collect();
    world.run_until(Time::ZERO + Duration::from_millis(450));
    world.restart_master();
    world.run();
    assert!(tasks.iter().all(|task| world.class(client, *task) == Class::Ok));
    world.assert_quiet();
}

#[test]
fn what_a_dead_client_left_behind_is_dropped_and_killed() {
    let (mut world, client) = world_of(1, 1);
    world.submit(client, 0, Do::Hang.args(0));
    for _ in 0..50 {
        world.submit(client, 0, Do::Return.args(10));
    }
    world.run_until(Time::ZERO + Duration::from_millis(100));
    world.kill_client(client);
    let other = world.client();
    world.declare(other, plain());
    let task = world.submit(other, 0, Do::Return.args(10));
    world.run();
    assert_eq!(world.class(other, task), Class::Ok);
    assert_eq!(world.workers[0].killed, 1);
    world.assert_quiet();
}

#[test]
fn a_build_that_no_worker_runs_is_explained_then_refused_naming_both() {
    let mut world = World::new();
    world.worker(1);
    let client = world.client_of(ProgramId([9; 16]));
    world.declare(client, plain());
    let task = world.submit(client, 0, Do::Return.args(1));
    world.run();
    let (time, why) = &world.clients[client].stalls[0];
    assert!(time.since_start() < Duration::from_secs(5));
    assert!(matches!(why, Stall::OtherProgram { workers: 1, program: PROGRAM, .. }));
    let Failure::Refused { why } = Failure::decode(&world.clients[client].done[&task].1.body) else {
        panic!()
    };
    assert!(why.contains("090909090909") && why.contains("070707070707"), "{why}");
    world.assert_quiet();
}

#[test]
fn a_matching_worker_that_joins_in_time_ends_the_wait() {
    let mut world = World::new();
    let client = world.client_of(ProgramId([9; 16]));
    world.declare(client, plain());
    let task = world.submit(client, 0, Do::Return.args(1));
    // A minute with no worker at all must not count against the ten seconds with the wrong one.
    world.run_until(Time::ZERO + Duration::from_secs(60));
    world.worker(1);
    world.run_until(Time::ZERO + Duration::from_secs(65));
    world.worker_with(ProgramId([9; 16]), crate::worker::Config::default());
    world.run();
    assert_eq!(world.class(client, task), Class::Ok);
}
