//! Workers and clients that fall silent, die, or come back; masters that are started again.

use std::time::Duration;

use super::world::{Do, World, plain};
use crate::{
    Time,
    ids::TaskId,
    wire::{Class, Failure, Spec, Stall},
};

fn ms(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

fn world_of(workers: u32, slots: u32, spec: Spec) -> (World, usize) {
    let mut world = World::new();
    for _ in 0..workers {
        world.worker(slots);
    }
    let client = world.client();
    world.declare(client, spec);
    (world, client)
}

/// How often a task began, on all workers.
fn begun(world: &World, task: TaskId) -> usize {
    world.workers.iter().flat_map(|host| &host.began).filter(|(_, began)| *began == task).count()
}

#[test]
fn a_silent_worker_is_sent_nothing_and_what_it_has_not_begun_moves_within_three_seconds() {
    let (mut world, client) = world_of(2, 1, plain());
    let long = world.submit(client, 0, Do::Return.args(60_000));
    let other = world.submit(client, 0, Do::Return.args(1_000));
    let ahead: Vec<TaskId> = (0..2).map(|_| world.submit(client, 0, Do::Return.args(1_000))).collect();
    world.run_until(ms(500));
    world.cut_worker(0);
    world.run_until(ms(6_500));
    let done = &world.clients[client].done;
    assert!(done.contains_key(&other) && ahead.iter().all(|task| done.contains_key(task)), "{done:?}");
    assert!(!done.contains_key(&long), "it runs, and its worker is not lost yet");
    assert_eq!(ahead.iter().map(|task| begun(&world, *task)).collect::<Vec<_>>(), [1, 1]);
    world.rejoin_worker(0);
    world.run();
    assert_eq!((world.class(client, long), begun(&world, long)), (Class::Ok, 1), "it went on");
    world.assert_quiet();
}

#[test]
fn what_ran_on_a_lost_worker_runs_again_alone_and_is_not_charged_to_others() {
    let (mut world, client) = world_of(3, 2, plain());
    let tasks: Vec<TaskId> = (0..30).map(|_| world.submit(client, 0, Do::Return.args(3_000))).collect();
    world.run_until(ms(1_000));
    world.kill_worker(0);
    world.run();
    assert!(tasks.iter().all(|task| world.class(client, *task) == Class::Ok));
    let again: Vec<TaskId> = tasks.iter().copied().filter(|task| begun(&world, *task) == 2).collect();
    assert_eq!(again.len(), 2, "only what ran there");
    for task in again {
        assert_eq!(world.attempts(client, task), 2);
        alone(&world, task);
    }
    world.assert_quiet();
}

/// Makes sure that nothing else ran beside the last run of a task on its worker.
fn alone(world: &World, task: TaskId) {
    let last = |host: &super::world::WorkerHost| {
        host.began.iter().rfind(|(_, began)| *began == task).map(|(time, _)| *time)
    };
    let host = world.workers.iter().max_by_key(|host| last(host)).unwrap();
    let began = last(host).unwrap();
    let beside = host.began.iter().filter(|(time, other)| {
        *other != task && *time + Duration::from_secs(3) > began && *time < began + Duration::from_secs(3)
    });
    assert_eq!(beside.count(), 0, "{task} was to be alone");
}

#[test]
fn a_task_that_kills_its_workers_is_lost_at_its_limit_and_costs_three() {
    let (mut world, client) = world_of(6, 2, plain());
    let innocent: Vec<TaskId> = (0..40).map(|_| world.submit(client, 0, Do::Return.args(2_000))).collect();
    let killer = world.submit(client, 0, Do::Hang.args(0));
    let mut killed = 0;
    for _ in 0..10_000 {
        let until = world.now + Duration::from_millis(100);
        world.run_until(until);
        let runs = |host: &super::world::WorkerHost| {
            !host.left && host.began.iter().any(|(_, task)| *task == killer)
        };
        if let Some(index) = world.workers.iter().position(runs) {
            world.kill_worker(index);
            killed += 1;
        }
        if world.clients[client].machine.open_tasks() == 0 {
            break;
        }
    }
    assert_eq!((killed, world.class(client, killer)), (3, Class::Lost));
    let Failure::Lost { workers } = Failure::decode(&world.clients[client].done[&killer].1.body) else {
        panic!("no evidence")
    };
    assert_eq!(workers.len(), 3, "{workers:?}");
    assert!(innocent.iter().all(|task| world.class(client, *task) == Class::Ok));
    world.assert_quiet();
}

#[test]
fn a_task_that_must_not_run_twice_is_lost_with_its_worker_and_begins_once() {
    let (mut world, client) = world_of(2, 2, Spec { rerun: false, ..plain() });
    let tasks: Vec<TaskId> = (0..12).map(|_| world.submit(client, 0, Do::Return.args(1_000))).collect();
    world.run_until(ms(500));
    world.kill_worker(0);
    world.run();
    let lost = tasks.iter().filter(|task| world.class(client, **task) == Class::Lost).count();
    assert_eq!(lost, 2);
    assert!(tasks.iter().all(|task| begun(&world, *task) == 1), "each began once");
    world.assert_quiet();
}

#[test]
fn only_jobs_that_allow_it_run_twice_on_mere_suspicion() {
    let (mut world, client) = world_of(2, 1, plain());
    world.declare(client, Spec { speculate: true, ..plain() });
    let patient = world.submit(client, 0, Do::Return.args(6_000));
    let hasty = world.submit(client, 1, Do::Return.args(6_000));
    world.run_until(ms(500));
    (0..2).for_each(|worker| world.cut_worker(worker));
    world.worker(2);
    world.run_until(ms(5_000));
    assert_eq!((begun(&world, patient), begun(&world, hasty)), (1, 2));
    (0..2).for_each(|worker| world.rejoin_worker(worker));
    world.run();
    assert_eq!(begun(&world, patient), 1);
    let (end, _) = world.clients[client].done[&hasty];
    assert!(end < ms(6_500), "the first result wins: {end}");
    world.assert_quiet();
}

#[test]
fn a_worker_that_was_given_up_comes_back_and_its_results_are_taken_once() {
    let (mut world, client) = world_of(1, 2, plain());
    let tasks: Vec<TaskId> = (0..2).map(|_| world.submit(client, 0, Do::Return.args(2_000))).collect();
    let longer = world.submit(client, 0, Do::Return.args(30_000));
    world.run_until(ms(500));
    world.cut_worker(0);
    world.run_until(ms(20_000));
    assert!(world.clients[client].done.is_empty());
    world.rejoin_worker(0);
    world.run_until(ms(20_100));
    assert!(tasks.iter().all(|task| world.class(client, *task) == Class::Ok && begun(&world, *task) == 1));
    world.run();
    assert_eq!(world.class(client, longer), Class::Ok);
    world.assert_quiet();
}

#[test]
fn a_restarted_master_finds_what_runs_and_what_has_ended() {
    let (mut world, client) = world_of(2, 2, plain());
    let short: Vec<TaskId> = (0..2).map(|_| world.submit(client, 0, Do::Return.args(1_000))).collect();
    let long: Vec<TaskId> = (0..2).map(|_| world.submit(client, 0, Do::Return.args(8_000))).collect();
    let queued: Vec<TaskId> = (0..20).map(|_| world.submit(client, 0, Do::Return.args(500))).collect();
    world.run_until(ms(900));
    world.kill_master();
    world.run_until(ms(3_000));
    world.connect_again(client);
    (0..2).for_each(|worker| world.join_again(worker));
    world.run();
    for task in short.iter().chain(&long).chain(&queued) {
        assert_eq!((world.class(client, *task), begun(&world, *task)), (Class::Ok, 1), "{task}");
    }
    world.assert_quiet();
}

#[test]
fn a_client_may_be_the_first_to_find_a_restarted_master() {
    let (mut world, client) = world_of(1, 2, plain());
    let tasks: Vec<TaskId> = (0..20).map(|_| world.submit(client, 0, Do::Return.args(1_000))).collect();
    world.run_until(ms(500));
    world.kill_master();
    world.connect_again(client);
    world.run_until(ms(2_000));
    world.join_again(0);
    world.run();
    for task in &tasks {
        assert_eq!((world.class(client, *task), begun(&world, *task)), (Class::Ok, 1), "{task}");
    }
    world.assert_quiet();
}

#[test]
fn after_a_restart_what_was_never_sent_starts_at_once_and_the_rest_waits_for_its_worker() {
    let (mut world, client) = world_of(2, 1, plain());
    let sent: Vec<TaskId> = (0..4).map(|_| world.submit(client, 0, Do::Return.args(1_000))).collect();
    let fresh: Vec<TaskId> = (0..40).map(|_| world.submit(client, 0, Do::Return.args(10))).collect();
    world.run_until(ms(500));
    world.kill_worker(0);
    world.kill_master();
    world.connect_again(client);
    world.join_again(1);
    world.run_until(ms(3_500));
    assert!(world.clients[client].done.contains_key(fresh.last().unwrap()), "nobody else has it");
    assert!(!sent.iter().all(|task| world.clients[client].done.contains_key(task)));
    world.run_until(ms(14_000));
    assert!(sent.iter().all(|task| world.class(client, *task) == Class::Ok));
    world.run();
    world.assert_quiet();
}

#[test]
fn a_client_that_comes_back_finds_its_results_and_nothing_runs_twice() {
    let (mut world, client) = world_of(2, 2, plain());
    let tasks: Vec<TaskId> = (0..200).map(|_| world.submit(client, 0, Do::Return.args(20))).collect();
    for at in [37, 200, 433, 800] {
        world.run_until(ms(at));
        world.reconnect_client(client);
    }
    world.run();
    for task in &tasks {
        assert_eq!((world.class(client, *task), begun(&world, *task)), (Class::Ok, 1), "{task}");
    }
    world.assert_quiet();
}

#[test]
fn the_session_of_a_dead_client_ends_after_its_grace() {
    let (mut world, client) = world_of(1, 1, plain());
    let hangs = world.submit(client, 0, Do::Hang.args(0));
    world.submit(client, 0, Do::Return.args(1));
    world.run_until(ms(100));
    world.kill_client(client);
    world.run_until(ms(25_000));
    assert_eq!(world.workers[0].killed, 0, "it may come back");
    world.run_until(ms(31_000));
    assert_eq!((world.workers[0].killed, begun(&world, hangs)), (1, 1));
    world.assert_quiet();
}

#[test]
fn a_master_that_slept_blames_nobody() {
    let (mut world, client) = world_of(2, 1, plain());
    let task = world.submit(client, 0, Do::Return.args(60_000));
    world.run_until(ms(500));
    world.now = ms(40_000);
    world.run();
    assert_eq!((world.class(client, task), begun(&world, task)), (Class::Ok, 1));
    world.assert_quiet();
}

#[test]
fn that_all_workers_are_silent_is_said_within_five_seconds() {
    let (mut world, client) = world_of(1, 1, plain());
    world.submit(client, 0, Do::Return.args(60_000));
    world.run_until(ms(1_000));
    world.cut_worker(0);
    world.run_until(ms(6_000));
    let (_, why) = world.clients[client].stalls.last().expect("it is told");
    assert_eq!(*why, Stall::Silent { workers: 1 });
}

#[test]
fn a_failed_task_is_tried_elsewhere_first_and_not_at_once() {
    let (mut world, client) = world_of(3, 1, Spec { retries: 2, ..plain() });
    let task = world.submit(client, 0, Do::FailTimes(2).args(5));
    world.run();
    let at: Vec<usize> = world.workers.iter().map(|host| host.began.len()).collect();
    assert!(at.iter().all(|runs| *runs <= 2) && at.iter().filter(|runs| **runs > 0).count() >= 2, "{at:?}");
    assert_eq!(world.attempts(client, task), 3);
    assert!(world.clients[client].done[&task].0 > ms(300), "100 ms, then 200 ms");
    world.assert_quiet();
}

#[test]
fn a_crashed_task_runs_again_within_a_fifth_of_a_second() {
    let (mut world, client) = world_of(1, 2, plain());
    let task = world.submit(client, 0, Do::CrashTimes(1).args(5));
    world.run();
    assert!(world.clients[client].done[&task].0 < ms(200));
    world.assert_quiet();
}

#[test]
fn what_a_client_gives_up_while_it_is_away_is_killed_when_it_is_back() {
    let (mut world, client) = world_of(1, 1, plain());
    let hangs = world.submit(client, 0, Do::Hang.args(0));
    let waits = world.submit(client, 0, Do::Return.args(1));
    let wanted = world.submit(client, 0, Do::Return.args(1));
    world.run_until(ms(100));
    world.disconnect_client(client);
    world.cancel(client, hangs);
    world.cancel(client, waits);
    world.connect_again(client);
    world.run();
    assert_eq!((world.class(client, wanted), world.workers[0].killed), (Class::Ok, 1));
    assert_eq!(begun(&world, waits), 0);
    world.assert_quiet();
}

#[test]
fn a_task_that_was_given_up_while_its_worker_was_away_is_killed_when_it_is_back() {
    let (mut world, client) = world_of(1, 1, plain());
    let hangs = world.submit(client, 0, Do::Hang.args(0));
    world.run_until(ms(100));
    world.cut_worker(0);
    world.cancel(client, hangs);
    world.run_until(ms(1_000));
    world.rejoin_worker(0);
    let next = world.submit(client, 0, Do::Return.args(1));
    world.run();
    assert_eq!((world.class(client, next), world.workers[0].killed), (Class::Ok, 1));
    world.assert_quiet();
}

#[test]
fn a_bad_node_is_set_aside_and_its_tasks_are_not_charged() {
    let (mut world, client) = world_of(4, 1, plain());
    world.break_worker(0);
    let tasks: Vec<TaskId> = (0..200).map(|_| world.submit(client, 0, Do::Return.args(50))).collect();
    world.run();
    assert!(tasks.iter().all(|task| world.class(client, *task) == Class::Ok));
    assert_eq!(world.set_aside, ["node0:1"]);
    assert!(world.workers[0].began.len() < 12, "{} tasks went there", world.workers[0].began.len());
    world.assert_quiet();
}

#[test]
fn a_master_forgets_a_client_that_does_not_come_back_to_it_and_its_work_is_killed() {
    let (mut world, client) = world_of(1, 1, plain());
    world.submit(client, 0, Do::Hang.args(0));
    world.run_until(ms(100));
    world.kill_master();
    world.join_again(0);
    world.forget_client(client);
    world.run_until(ms(40_000));
    assert_eq!(world.workers[0].killed, 1);
    world.assert_quiet();
}

#[test]
fn two_restarts_in_a_row_run_nothing_twice() {
    let (mut world, client) = world_of(2, 1, Spec { rerun: false, ..plain() });
    let tasks: Vec<TaskId> = (0..2).map(|_| world.submit(client, 0, Do::Return.args(8_000))).collect();
    for at in [1_000, 2_000] {
        world.run_until(ms(at));
        world.restart_master();
    }
    world.run();
    for task in tasks {
        assert_eq!((world.class(client, task), begun(&world, task)), (Class::Ok, 1), "{task}");
    }
    world.assert_quiet();
}

#[test]
fn what_began_while_its_client_was_away_does_not_begin_again_after_a_restart() {
    let (mut world, client) = world_of(1, 1, Spec { rerun: false, ..plain() });
    world.submit(client, 0, Do::Return.args(500));
    let tasks: Vec<TaskId> = (0..2).map(|_| world.submit(client, 0, Do::Return.args(9_000))).collect();
    world.run_until(ms(100));
    world.disconnect_client(client);
    world.run_until(ms(1_000));
    world.connect_again(client);
    world.run_until(ms(2_000));
    world.restart_master();
    world.run();
    assert_eq!(begun(&world, tasks[0]), 1);
    world.assert_quiet();
}

#[test]
fn a_task_that_runs_twice_is_killed_twice_when_its_client_gives_it_up() {
    let (mut world, client) = world_of(2, 1, Spec { speculate: true, ..plain() });
    let task = world.submit(client, 0, Do::Hang.args(0));
    world.run_until(ms(500));
    let first = usize::from(world.workers[0].began.is_empty());
    world.cut_worker(first);
    world.run_until(ms(4_000));
    assert_eq!(begun(&world, task), 2);
    world.mend_worker(first);
    world.run_until(ms(5_000));
    world.cancel(client, task);
    world.run_until(ms(6_000));
    assert_eq!(world.workers.iter().map(|host| host.killed).collect::<Vec<_>>(), [1, 1]);
    world.assert_quiet();
}

#[test]
fn a_result_that_is_lost_on_its_way_while_another_attempt_is_called_back_comes_again() {
    let (mut world, client) = world_of(2, 1, Spec { speculate: true, ..plain() });
    let task = world.submit(client, 0, Do::Return.args(3_000));
    world.run_until(ms(500));
    let first = usize::from(world.workers[0].began.is_empty());
    world.cut_worker(first);
    world.run_until(ms(4_000));
    assert_eq!(begun(&world, task), 2);
    // Nobody hears the result that the first brings, nor that the second is called back.
    world.cut_worker(1 - first);
    world.clients[client].deaf = true;
    world.rejoin_worker(first);
    world.run_until(ms(5_000));
    world.disconnect_client(client);
    world.clients[client].unread.clear();
    world.clients[client].deaf = false;
    world.connect_again(client);
    world.run_until(ms(6_000));
    assert_eq!((world.class(client, task), begun(&world, task)), (Class::Ok, 2));
    world.rejoin_worker(1 - first);
    world.run();
    world.assert_quiet();
}

#[test]
fn a_crash_of_an_attempt_that_was_given_up_counts() {
    let (mut world, client) = world_of(2, 1, Spec { speculate: true, crash_limit: 1, ..plain() });
    let task = world.submit(client, 0, Do::Crash.args(6_000));
    world.run_until(ms(500));
    let first = usize::from(world.workers[0].began.is_empty());
    world.cut_worker(first);
    world.run_until(ms(4_000));
    assert_eq!(begun(&world, task), 2);
    world.mend_worker(first);
    // As often as it may: the second is waited for, though its worker falls silent.
    world.run_until(ms(7_000));
    world.cut_worker(1 - first);
    world.run_until(ms(10_000));
    world.rejoin_worker(1 - first);
    world.run();
    assert_eq!((world.class(client, task), begun(&world, task)), (Class::Crashed, 2));
    world.assert_quiet();
}
