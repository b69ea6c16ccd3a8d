//! Whose turn it is: among clients by slot time used, within a client by priority.

use std::time::Duration;

use super::world::{Do, PROGRAM, World, plain};
use crate::{
    Time, client,
    ids::{Attempt, ClientId, ExecutorId, ProgramId, SpecIndex, TaskId},
    wire::{Class, Counts, Programs, Spec, ToExecutor, ToWorker},
    worker,
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

#[test]
fn what_makes_way_is_of_those_who_have_used_more_and_of_nobody_else() {
    let (mut world, heavy, light) = two_clients(2);
    let lightest = world.client();
    world.declare(lightest, plain());
    submit(&mut world, heavy, 20, 60_000);
    world.run_until(at(1));
    let light_task = submit(&mut world, light, 1, 1_000)[0];
    world.run_until(at(2));
    let lightest_task = submit(&mut world, lightest, 1, 1_000)[0];
    world.run_until(at(70));
    // Both slots free at 60 s, and both take one.
    for (client, task) in [(light, light_task), (lightest, lightest_task)] {
        assert!(last_end(&world, client, &[task]) < at(62));
        assert!(world.last_attempt(client, task) < 5, "{} attempts", world.last_attempt(client, task));
    }
}

#[test]
fn an_urgent_task_sends_back_its_own_clients_and_no_other() {
    let (mut world, client, other) = two_clients(2);
    world.declare(client, Spec { priority: 1, ..plain() });
    submit(&mut world, client, 20, 60_000);
    world.run_until(at(1));
    let others = submit(&mut world, other, 1, 1_000);
    world.run_until(at(2));
    let urgent = world.submit(client, 1, Do::Return.args(1_000));
    world.run_until(at(70));
    assert!(last_end(&world, other, &others) < at(62));
    assert!(last_end(&world, client, &[urgent]) < at(63));
    assert!(world.last_attempt(other, others[0]) < 5);
}

/// What two clients got between 200 s and 400 s, as a share of the second's, who came at 200 s.
fn share_of_newcomer(mut world: World, old: usize) -> f64 {
    world.run_until(at(200));
    let new = world.client();
    world.declare(new, plain());
    submit(&mut world, new, 5_000, 1_000);
    let before = used(&world, old);
    world.run_until(at(400));
    let (old, new) = (used(&world, old) - before, used(&world, new));
    new.as_secs_f64() / (old + new).as_secs_f64()
}

#[test]
fn one_who_uses_little_does_not_hold_down_the_level_of_newcomers() {
    let (mut world, old, little) = two_clients(8);
    world.submit(little, 0, Do::Hang.args(0));
    submit(&mut world, old, 5_000, 1_000);
    let share = share_of_newcomer(world, old);
    assert!((0.4..0.6).contains(&share), "the newcomer had {share:.2}");
}

#[test]
fn neither_does_one_of_another_program() {
    let (mut world, old, _) = two_clients(8);
    let other = ProgramId([9; 16]);
    world.worker_with(
        other,
        worker::Config { slots: 1, programs: Programs::Own, ..worker::Config::default() },
    );
    let stranger = world.client_of(other);
    world.declare(stranger, plain());
    submit(&mut world, stranger, 5_000, 1_000);
    submit(&mut world, old, 5_000, 1_000);
    let share = share_of_newcomer(world, old);
    assert!((0.4..0.6).contains(&share), "the newcomer had {share:.2}");
}

#[test]
fn whoever_used_much_is_level_with_newcomers_also_after_a_worker_that_runs_any_program_came() {
    let mut world = World::new();
    world.worker(4);
    let old = world.client();
    world.declare(old, plain());
    submit(&mut world, old, 4 * 180, 1_000);
    world.run_until(at(190));
    world.worker_with(PROGRAM, worker::Config { slots: 4, ..worker::Config::default() });
    submit(&mut world, old, 5_000, 1_000);
    let new = world.client();
    world.declare(new, plain());
    submit(&mut world, new, 5_000, 1_000);
    let before = used(&world, old);
    world.run_until(at(390));
    let (old, new) = (used(&world, old) - before, used(&world, new));
    let share = new.as_secs_f64() / (old + new).as_secs_f64();
    assert!((0.4..0.6).contains(&share), "the newcomer had {share:.2}");
}

#[test]
fn time_used_alone_counts_against_nobody() {
    let (mut world, old, new) = two_clients(4);
    submit(&mut world, old, 200, 60_000);
    world.run_until(at(179));
    submit(&mut world, new, 5_000, 1_000);
    world.run_until(at(600));
    let share = used(&world, new).as_secs_f64() / (4.0 * (600.0 - 179.0));
    assert!((0.4..0.62).contains(&share), "the newcomer had {share:.2}");
}

#[test]
fn a_cancelled_task_that_never_ran_frees_no_slot() {
    let (mut world, client, other) = two_clients(2);
    for watcher in [client, other] {
        world.client_event(watcher, client::Event::Watch { on: true });
    }
    (0..2).for_each(|_| {
        world.submit(client, 0, Do::Hang.args(0));
    });
    world.run_until(at(1));
    world.submit(other, 0, Do::Return.args(1_000));
    world.run_until(at(2));
    let unstarted = world.submit(client, 0, Do::Hang.args(0));
    world.run_until(at(3));
    world.cancel(client, unstarted);
    world.run_until(at(5));
    let running = |client: usize| world.clients[client].counts.last().unwrap().1.running;
    assert_eq!((running(client), running(other)), (2, 0));
}

#[test]
fn nobody_wakes_up_while_nothing_can_move() {
    let (mut world, first, second) = two_clients(2);
    for client in [first, second] {
        (0..10).for_each(|_| {
            world.submit(client, 0, Do::Hang.args(0));
        });
    }
    world.run_until(at(10));
    let mut wakes = 0;
    while let Some(due) = world.master.poll_timeout()
        && due < at(20)
    {
        let now = world.now.max(due);
        world.run_until(now);
        wakes += 1;
    }
    // Once a second the slots are paid for, and that may change whose turn it is.
    assert!(wakes <= 30, "{wakes} wake-ups in ten seconds");
}

#[test]
fn a_client_that_takes_no_results_keeps_nobody_from_making_way() {
    let mut world = World::new();
    let config = worker::Config { slots: 2, held_bytes: 1_000, ..worker::Config::default() };
    world.worker_with(PROGRAM, config);
    let [stopped, heavy, light] = [(); 3].map(|()| world.client());
    [stopped, heavy, light].iter().for_each(|client| world.declare(*client, plain()));
    submit(&mut world, stopped, 10, 1);
    world.run_until(at(1));
    world.clients[stopped].deaf = true;
    let message = ToWorker::Credit { client: world.id(0), bytes: 1_000 };
    let credit = worker::Event::MasterSaid { message, body: crate::Payload::new() };
    world.workers[0].machine.handle(at(1), credit);
    submit(&mut world, stopped, 2_000, 1);
    world.run_until(at(30));
    submit(&mut world, heavy, 40, 60_000);
    world.run_until(at(40));
    let tasks = submit(&mut world, light, 2, 1_000);
    world.run_until(at(200));
    let waited = last_end(&world, light, &tasks).since(at(40));
    assert!(waited < Duration::from_secs(55), "{waited:?}, as long as nothing made way");
}

#[test]
fn slots_at_workers_that_keep_one_clients_results_fetch_what_is_anothers() {
    let mut world = World::new();
    let config = worker::Config { slots: 1, held_bytes: 1_000, ..worker::Config::default() };
    for _ in 0..2 {
        world.worker_with(PROGRAM, config.clone());
    }
    let [stopped, lively] = [(); 2].map(|()| world.client());
    [stopped, lively].iter().for_each(|client| world.declare(*client, plain()));
    submit(&mut world, stopped, 10, 1);
    world.run_until(at(1));
    world.clients[stopped].deaf = true;
    for worker in 0..2 {
        let message = ToWorker::Credit { client: world.id(stopped), bytes: 1_000 };
        let credit = worker::Event::MasterSaid { message, body: crate::Payload::new() };
        world.workers[worker].machine.handle(at(1), credit);
    }
    submit(&mut world, stopped, 2_000, 1);
    world.run_until(at(10));
    submit(&mut world, lively, 1, 30_000);
    let tasks: Vec<TaskId> = (0..5).flat_map(|_| submit(&mut world, lively, 1, 100)).collect();
    world.run_until(at(60));
    let waited = last_end(&world, lively, &tasks).since(at(10));
    assert!(waited < Duration::from_secs(2), "{waited:?} behind a long one, beside an idle slot");
}

#[test]
fn at_a_worker_an_urgent_task_changes_places_with_its_own_clients_tasks_only() {
    let mut machine = worker::Worker::new(worker::Config::default());
    machine.handle(Time::ZERO, worker::Event::Joined { returned: false });
    let now = Time::ZERO;
    let say = |machine: &mut worker::Worker, message| {
        machine.handle(now, worker::Event::MasterSaid { message, body: crate::Payload::new() });
    };
    let (client, other) = (ClientId(1), ClientId(2));
    for (client, spec, priority) in [(client, 0, 0), (client, 1, 5), (other, 0, 0)] {
        let what = Box::new(Spec { priority, ..plain() });
        say(&mut machine, ToWorker::Declare { client, spec: SpecIndex(spec), what });
    }
    for (client, task, spec) in [(client, 1, 0), (client, 2, 0), (other, 3, 0), (client, 4, 1)] {
        let (task, spec) = (TaskId(task), SpecIndex(spec));
        say(&mut machine, ToWorker::Run { client, task, attempt: Attempt(1), spec, alone: false });
    }
    let mut fed = Vec::new();
    let hear = |machine: &mut worker::Worker, said| {
        let executor = ExecutorId(0);
        machine.handle(now, worker::Event::ExecutorSaid { executor, said });
    };
    while machine.poll_action().is_some() {}
    hear(&mut machine, worker::ExecutorSaid::Ready);
    while let Some(action) = machine.poll_action() {
        if let worker::Action::Feed { message: ToExecutor::Run { task, .. }, .. } = action {
            fed.push(task.0);
            let body = crate::Payload::new();
            hear(
                &mut machine,
                worker::ExecutorSaid::Done { class: Class::Failed, micros: 1, output: 0, body },
            );
        }
    }
    assert_eq!(fed, [4, 1, 3, 2]);
}

#[test]
fn what_must_begin_at_once_has_its_turn_beside_one_who_sends_ahead() {
    let (mut world, flood, once) = two_clients(2);
    world.declare(once, Spec { rerun: false, ..plain() });
    submit(&mut world, flood, 100, 1_000);
    world.run_until(at(5));
    let tasks: Vec<TaskId> = (0..4).map(|_| world.submit(once, 1, Do::Return.args(100))).collect();
    world.run_until(at(9));
    let done = &world.clients[once].done;
    assert!(tasks.iter().all(|task| done.contains_key(task)), "{} of 4", done.len());
}
