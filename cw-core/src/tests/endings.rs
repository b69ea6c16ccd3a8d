//! Workers whose allocation ends: what is begun there, what is not, and what becomes of what was.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{
    desk::{CLIENT, Desk, TASK, ms},
    world::{Do, PROGRAM, World, plain},
};
use crate::{
    ids::{Attempt, JobIndex, SpecIndex, TaskId, WorkerId},
    wire::{Class, FromClient, FromWorker, Programs, Returned, Spec, Stall, ToClient, ToWorker},
    worker,
};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A client of a job, and of another.
fn client(world: &mut World) -> usize {
    let client = world.client();
    world.declare(client, plain());
    world.declare(client, Spec { job: JobIndex(1), ..plain() });
    client
}

/// A worker of one slot that ends in so many seconds.
fn ending(world: &mut World, left: u64) -> usize {
    let worker = world.worker(1);
    world.ends(worker, Some(seconds(left)));
    worker
}

fn submit(world: &mut World, client: usize, spec: u32, tasks: usize, millis: u16) -> Vec<TaskId> {
    (0..tasks).map(|_| world.submit(client, spec, Do::Return.args(millis))).collect()
}

fn began(world: &World, worker: usize) -> usize {
    world.workers[worker].began.len()
}

#[test]
fn what_would_not_be_done_in_time_is_not_begun() {
    let mut world = World::new();
    let (client, worker) = (client(&mut world), ending(&mut world, 100));
    let tasks = submit(&mut world, client, 0, 10, 20_000);
    world.run_until(ms(99_000));
    assert!(world.workers[worker].left, "it leaves by itself");
    assert_eq!(began(&world, worker), 4, "the last of them at 60 s, as the grace begins at 90 s");
    assert_eq!(world.workers[worker].killed, 1, "and none but the executor, which had nothing to do");
    assert!(matches!(world.clients[client].stalls[0], (_, Stall::NoTime { p90_seconds: 20, .. })));
    let next = world.worker(1);
    world.run();
    assert_eq!(began(&world, next), 6);
    for task in tasks {
        assert_eq!((world.class(client, task), world.attempts(client, task)), (Class::Ok, 1));
    }
    world.assert_quiet();
}

#[test]
fn what_is_longer_than_every_allocation_is_tried_once_for_each_slot() {
    let mut world = World::new();
    let client = client(&mut world);
    let tasks = submit(&mut world, client, 0, 3, 60_000);
    for number in 0..3 {
        let worker = ending(&mut world, 30);
        world.run_until(world.now + seconds(31));
        assert!(world.workers[worker].left);
        assert_eq!(began(&world, worker), 1, "worker {number}");
    }
    let told = &world.clients[client].too_long;
    assert!(matches!(told[..], [(JobIndex(0), 30..=60, 30)]), "once: {told:?}");
    ending(&mut world, 1_000);
    world.run();
    for task in tasks {
        assert_eq!((world.class(client, task), world.attempts(client, task)), (Class::Ok, 1));
    }
    world.assert_quiet();
}

#[test]
fn it_goes_on_when_the_end_moves() {
    let mut world = World::new();
    let (client, worker) = (client(&mut world), ending(&mut world, 30));
    submit(&mut world, client, 0, 2, 20_000);
    world.run_until(ms(22_000));
    assert_eq!(began(&world, worker), 1);
    world.ends(worker, Some(seconds(100)));
    world.run_until(ms(23_000));
    assert_eq!(began(&world, worker), 2);
    world.ends(worker, None);
    world.run_until(ms(200_000));
    assert!(!world.workers[worker].left);
    world.assert_quiet();
}

#[test]
fn an_end_that_comes_sooner_is_as_good() {
    let mut world = World::new();
    let (client, worker) = (client(&mut world), ending(&mut world, 1_000));
    let task = submit(&mut world, client, 0, 1, 30_000)[0];
    world.run_until(ms(5_000));
    world.ends(worker, Some(seconds(5)));
    world.run_until(ms(6_000));
    assert!(world.workers[worker].left, "the grace is ten seconds of a thousand");
    let next = world.worker(1);
    world.run();
    assert_eq!((began(&world, next), world.attempts(client, task)), (1, 1));
}

#[test]
fn others_pass_what_has_no_time() {
    let mut world = World::new();
    let client = client(&mut world);
    let known = world.worker(1);
    submit(&mut world, client, 0, 1, 60_000);
    world.run();
    let worker = ending(&mut world, 50);
    submit(&mut world, client, 1, 1, 100);
    world.kill_worker(known);
    world.run();
    let long = submit(&mut world, client, 0, 4, 60_000);
    let short = submit(&mut world, client, 1, 20, 100);
    world.run_until(world.now + seconds(10));
    assert_eq!(began(&world, worker), 21, "the short ones only");
    assert!(short.iter().all(|task| world.clients[client].done.contains_key(task)));
    world.worker(2);
    world.run();
    assert!(long.iter().all(|task| world.attempts(client, *task) == 1));
    world.assert_quiet();
}

#[test]
fn what_was_laid_aside_can_be_cancelled() {
    let mut world = World::new();
    let (client, worker) = (client(&mut world), ending(&mut world, 50));
    let tasks = submit(&mut world, client, 0, 9, 30_000);
    world.run_until(ms(32_000));
    assert_eq!(began(&world, worker), 1);
    tasks[1..5].iter().for_each(|task| world.cancel(client, *task));
    world.run_until(ms(33_000));
    world.disconnect_client(client);
    world.run_until(ms(34_000));
    world.worker(1);
    world.reconnect_client(client);
    world.run();
    assert!(tasks[5..].iter().all(|task| world.class(client, *task) == Class::Ok));
    world.assert_quiet();
}

#[test]
fn a_second_spec_of_a_job_knows_what_the_first_has_learned() {
    let mut world = World::new();
    let client = client(&mut world);
    world.declare(client, Spec { retries: 7, ..plain() });
    let worker = ending(&mut world, 100);
    submit(&mut world, client, 0, 1, 50_000);
    world.run();
    submit(&mut world, client, 2, 2, 50_000);
    world.run_until(ms(80_000));
    assert_eq!(began(&world, worker), 1);
    // So does another client of the program.
    let other = world.client_of(PROGRAM);
    world.declare(other, plain());
    submit(&mut world, other, 0, 1, 50_000);
    world.run_until(ms(85_000));
    assert_eq!(began(&world, worker), 1);
    world.worker(1);
    world.run();
    world.assert_quiet();
}

#[test]
fn a_worker_hands_back_what_it_learns_to_be_too_long() {
    let mut world = World::new();
    let client = client(&mut world);
    let config = worker::Config { slots: 2, programs: Programs::Own, ..worker::Config::default() };
    let worker = world.worker_with(PROGRAM, config);
    world.ends(worker, Some(seconds(60)));
    // Two run, and two wait behind them, as nobody knows what they take.
    let tasks = submit(&mut world, client, 0, 4, 40_000);
    world.run_until(ms(30_000));
    assert_eq!(began(&world, worker), 2);
    let next = world.worker(2);
    world.run_until(ms(45_000));
    assert_eq!((began(&world, worker), began(&world, next)), (2, 2));
    world.run();
    assert!(tasks.iter().all(|task| world.attempts(client, *task) == 1));
}

#[test]
fn what_must_not_begin_twice_ends_with_its_worker() {
    let mut world = World::new();
    let client = world.client();
    world.declare(client, Spec { rerun: false, crash_limit: 1, ..plain() });
    ending(&mut world, 20);
    let task = submit(&mut world, client, 0, 1, 60_000)[0];
    world.run();
    assert_eq!(world.class(client, task), Class::Lost);
}

/// A master and a worker of so many slots that ends in so many seconds.
fn desk(slots: u32, left: u32) -> Desk {
    let mut desk = Desk::new();
    desk.worker_of(1, slots, false);
    desk.worker_says(1, FromWorker::Ends { left: Some(left) });
    desk.client(false, plain());
    desk
}

/// How many tasks were sent to workers.
fn sent(desk: &Desk) -> u32 {
    let tasks = |action: &crate::master::Action| match action {
        crate::master::Action::TellWorker { message: ToWorker::Run { .. }, .. } => 1,
        crate::master::Action::TellWorker { message: ToWorker::Runs { tasks, .. }, .. } => *tasks,
        _ => 0,
    };
    desk.done.iter().map(tasks).sum()
}

fn ended(desk: &mut Desk, task: u64, seconds: u64) {
    let (task, attempt, class) = (TaskId(task), Attempt(1), Class::Ok);
    let micros = seconds * 1_000_000;
    desk.worker_says(1, FromWorker::Finished { client: CLIENT, task, attempt, class, micros, output: 0 });
}

fn returned(desk: &mut Desk, task: u64) {
    let (task, attempt, why) = (TaskId(task), Attempt(1), Returned::NoTime);
    desk.worker_says(1, FromWorker::Returned { client: CLIENT, task, attempt, why });
}

#[test]
fn what_a_worker_declines_is_not_sent_there_again_until_its_end_moves() {
    let mut desk = desk(1, 1_000);
    desk.submit(0..3);
    assert_eq!(sent(&desk), 2);
    ended(&mut desk, 0, 20);
    let before = sent(&desk);
    // It was sent when nobody knew.
    returned(&mut desk, 1);
    returned(&mut desk, 2);
    desk.pass(ms(9_000), &[1]);
    assert_eq!(sent(&desk), before, "it has had its say");
    assert!(
        matches!(desk.stalls()[..], [Stall::NoTime { p90_seconds: 20, .. }]),
        "once: {:?}",
        desk.stalls()
    );
    desk.worker_says(1, FromWorker::Ends { left: Some(2_000) });
    assert_eq!(sent(&desk), before + 1);
}

#[test]
fn nothing_is_sent_to_who_is_about_to_end() {
    let mut desk = desk(4, 100);
    desk.pass(ms(88_000), &[1]);
    desk.submit(0..1);
    assert_eq!(sent(&desk), 1, "what nobody knows is begun as long as there is time");
    ended(&mut desk, 0, 0);
    desk.pass(ms(89_500), &[1]);
    desk.submit(1..2);
    desk.pass(ms(93_000), &[1]);
    assert_eq!(sent(&desk), 1);
    let stalls = desk.stalls();
    assert!(matches!(stalls[..], [Stall::NoTime { p90_seconds: 0, left_seconds: 6..=10 }]), "{stalls:?}");
    desk.worker_says(1, FromWorker::Ends { left: None });
    assert_eq!(sent(&desk), 2);
}

#[test]
fn slots_without_time_are_none_to_whoever_starts_workers() {
    let mut desk = desk(2, 30);
    let slots = |desk: &Desk| desk.master.workforce().map(|(_, slots, _)| slots).sum::<u32>();
    desk.submit(0..2);
    ended(&mut desk, 0, 20);
    ended(&mut desk, 1, 20);
    desk.pass(ms(10_000), &[1]);
    assert_eq!(slots(&desk), 2);
    desk.submit(2..4);
    assert_eq!((sent(&desk), slots(&desk)), (2, 0), "there is no time, and more workers are of use");
    assert_eq!(desk.master.backlog().learned, seconds(40));
    desk.worker_says(1, FromWorker::Ends { left: Some(100) });
    assert_eq!((sent(&desk), slots(&desk)), (4, 2));
    desk.pass(ms(99_900), &[1]);
    assert_eq!(slots(&desk), 0, "it is about to end");
}

#[test]
fn a_long_task_does_not_wait_behind_others_that_are_long() {
    let mut desk = desk(2, 1_000);
    desk.submit(0..1);
    ended(&mut desk, 0, 20);
    desk.submit(1..9);
    assert_eq!(sent(&desk), 3);
    ended(&mut desk, 1, 20);
    assert_eq!(sent(&desk), 4);
}

#[test]
fn whoever_has_no_end_is_long_enough_for_all() {
    let mut desk = desk(1, 30);
    desk.submit(0..1);
    ended(&mut desk, 0, 100);
    desk.handle(crate::master::Event::WorkerLost { worker: WorkerId(1) });
    desk.worker(2, false);
    desk.submit(1..3);
    assert_eq!(desk.sent().map(|(worker, _)| worker), Some(2));
    let too_long = |action: &&crate::master::Action| {
        matches!(action, crate::master::Action::TellClient { message: ToClient::TooLong { .. }, .. })
    };
    assert_eq!(desk.done.iter().filter(too_long).count(), 1, "when there was nobody else");
}

#[test]
fn words_of_no_worker_and_no_task_change_nothing() {
    let mut desk = desk(1, u32::MAX);
    desk.worker_says(9, FromWorker::Ends { left: Some(0) });
    for (task, seconds) in [(TASK, u32::MAX), (TaskId(u64::MAX), 1)] {
        let (client, attempt) = (CLIENT, Attempt(3));
        desk.worker_says(1, FromWorker::Ran { client, task, attempt, seconds });
    }
    desk.worker_says(1, FromWorker::Ends { left: Some(0) });
    desk.client_says(FromClient::Submit { task: TASK, spec: SpecIndex(0) });
    assert_eq!(sent(&desk), 0);
    desk.worker_says(1, FromWorker::Ends { left: None });
    assert_eq!(sent(&desk), 1);
}

#[test]
fn a_stale_word_that_there_is_no_time_says_nothing_of_the_worker() {
    let mut desk = desk(2, 36_000);
    desk.submit(0..1);
    ended(&mut desk, 0, 20);
    // Of a task that is over, and of one that nobody knows.
    returned(&mut desk, 0);
    returned(&mut desk, 77);
    let before = sent(&desk);
    desk.submit(1..3);
    desk.pass(ms(9_000), &[1]);
    assert_eq!(sent(&desk), before + 2, "{:?}", desk.stalls());
}

#[test]
fn a_worker_that_is_lost_at_its_end_is_no_loss_of_its_tasks() {
    let mut desk = Desk::new();
    desk.worker_of(1, 1, false);
    desk.worker_says(1, FromWorker::Ends { left: Some(20) });
    desk.client(false, Spec { loss_limit: 1, ..plain() });
    desk.submit(0..1);
    desk.started(1, 1);
    // It is cut off, and so cannot say goodbye when its time is over.
    desk.pass(ms(15_000), &[1]);
    desk.handle(crate::master::Event::WorkerLost { worker: WorkerId(1) });
    desk.worker(2, false);
    desk.pass(ms(40_000), &[2]);
    assert_eq!(desk.sent().map(|(worker, _)| worker), Some(2), "{:?}", desk.passed());
}

/// Runs short tasks on two workers until a task that needs 20 s, and may have ended its worker, is sent to one of them; says
/// whether it ever is. Workers hand back what they are asked for.
fn lone_task_is_placed(left: Option<u32>) -> bool {
    let mut desk = Desk::new();
    desk.client(false, plain());
    desk.client_says(FromClient::Declare {
        spec: SpecIndex(1),
        what: Box::new(Spec { job: JobIndex(1), ..plain() }),
    });
    desk.worker_of(2, 1, false);
    desk.client_says(FromClient::Submit { task: TaskId(0), spec: SpecIndex(1) });
    end_at(&mut desk, 2, (0, 1), 20_000_000);
    desk.client_says(FromClient::Submit { task: TaskId(1), spec: SpecIndex(1) });
    desk.worker_says(2, FromWorker::Started { client: CLIENT, task: TaskId(1), attempt: Attempt(1) });
    for number in [1, 3] {
        desk.worker_of(number, 4, false);
        desk.worker_says(number, FromWorker::Ends { left });
    }
    desk.submit(10..200);
    desk.handle(crate::master::Event::WorkerLost { worker: WorkerId(2) });
    desk.pass(desk.now + seconds(15), &[1, 3]);
    let mut lines: BTreeMap<u32, VecDeque<(u64, u32)>> = BTreeMap::new();
    for round in 0..2_000 {
        for _ in 0..10 {
            for action in std::mem::take(&mut desk.done) {
                let crate::master::Action::TellWorker { worker, message, .. } = action else { continue };
                let line = lines.entry(worker.0).or_default();
                match message {
                    ToWorker::Run { task: TaskId(1), attempt, .. } if attempt.0 > 1 => return true,
                    ToWorker::Run { task, attempt, .. } => line.push_back((task.0, attempt.0)),
                    ToWorker::Runs { first, tasks, attempt, .. } => {
                        line.extend((0..u64::from(tasks)).map(|n| (first.0 + n, attempt.0)));
                    }
                    ToWorker::Recall { tasks } => {
                        for _ in 0..tasks {
                            let Some((task, attempt)) = (line.len() > 4).then(|| line.pop_back()).flatten()
                            else {
                                break;
                            };
                            let (client, why) = (CLIENT, Returned::Recalled);
                            let (task, attempt) = (TaskId(task), Attempt(attempt));
                            let back = FromWorker::Returned { client, task, attempt, why };
                            desk.worker_says(worker.0, back);
                        }
                        desk.worker_says(worker.0, FromWorker::Recalled);
                    }
                    _ => {}
                }
            }
        }
        // One of them ends a task, and there is another.
        desk.pass(desk.now + Duration::from_millis(6), &[1, 3]);
        let number = if round % 2 == 0 { 1 } else { 3 };
        if let Some(first) = lines.entry(number).or_default().pop_front() {
            end_at(&mut desk, number, first, 50_000);
        }
        desk.submit(200 + round..201 + round);
    }
    false
}

fn end_at(desk: &mut Desk, number: u32, (task, attempt): (u64, u32), micros: u64) {
    let (task, attempt, class) = (TaskId(task), Attempt(attempt), Class::Ok);
    let ended = FromWorker::Finished { client: CLIENT, task, attempt, class, micros, output: 0 };
    desk.worker_says(number, ended);
}

#[test]
fn a_long_task_that_is_to_be_alone_has_its_worker_beside_any_number_of_short_ones() {
    assert!(lone_task_is_placed(None));
    assert!(lone_task_is_placed(Some(36_000)));
}

#[test]
fn one_that_was_long_does_not_end_the_time_of_a_worker_for_what_is_short() {
    let mut world = World::new();
    let client = client(&mut world);
    let other = world.worker(1);
    submit(&mut world, client, 0, 40, 100);
    world.run();
    world.kill_worker(other);
    let worker = ending(&mut world, 110);
    world.run_until(world.now + seconds(12));
    submit(&mut world, client, 0, 1, 50_000);
    world.run_until(world.now + seconds(51));
    // 37 s are left until it leaves, and it knows of nothing but that one.
    submit(&mut world, client, 0, 5, 100);
    submit(&mut world, client, 1, 5, 100);
    world.run_until(world.now + seconds(30));
    assert_eq!(began(&world, worker), 6, "the other job");
    world.worker(1);
    world.run();
    world.assert_quiet();
}

#[test]
fn a_job_that_a_worker_declines_is_sent_there_again_when_its_end_moves() {
    let mut desk = desk(1, 36_000);
    desk.client_says(FromClient::Declare {
        spec: SpecIndex(1),
        what: Box::new(Spec { job: JobIndex(1), ..plain() }),
    });
    desk.submit(0..1);
    let first = sent(&desk);
    returned(&mut desk, 0);
    assert_eq!(sent(&desk), first, "it is nowhere else, and not there again");
    desk.client_says(FromClient::Submit { task: TaskId(1), spec: SpecIndex(1) });
    assert_eq!(sent(&desk), first + 1, "another job has time");
    desk.pass(ms(9_000), &[1]);
    desk.worker_says(1, FromWorker::Ends { left: Some(36_000) });
    assert_eq!(sent(&desk), first + 2);
}

#[test]
fn a_new_client_of_a_known_job_does_not_wait_behind_what_is_long() {
    let mut world = World::new();
    let client = client(&mut world);
    let known = world.worker(1);
    submit(&mut world, client, 0, 1, 50_000);
    submit(&mut world, client, 1, 1, 40_000);
    world.run();
    let other = world.client_of(PROGRAM);
    world.declare(other, plain());
    world.declare(other, Spec { job: JobIndex(1), ..plain() });
    let worker = ending(&mut world, 100);
    world.kill_worker(known);
    world.run_until(world.now + seconds(12));
    submit(&mut world, other, 0, 1, 50_000);
    submit(&mut world, other, 1, 1, 40_000);
    world.run_until(world.now + seconds(90));
    assert!(world.workers[worker].left);
    assert_eq!(began(&world, worker), 1, "40 s do not fit into what is left after 50 of 78");
}

#[test]
fn what_fits_into_another_allocation_is_not_begun_in_the_rest_of_one() {
    let mut desk = Desk::new();
    desk.client(false, plain());
    desk.worker_of(2, 1, false);
    desk.submit(0..1);
    end_at(&mut desk, 2, (0, 1), 100_000_000);
    desk.handle(crate::master::Event::WorkerLost { worker: WorkerId(2) });
    desk.worker_of(1, 1, false);
    desk.worker_says(1, FromWorker::Ends { left: Some(200) });
    desk.pass(ms(150_000), &[1]);
    let before = sent(&desk);
    desk.submit(1..2);
    assert_eq!(sent(&desk), before, "it has begun nothing, but has 50 s left");
    desk.worker_of(3, 1, false);
    desk.worker_says(3, FromWorker::Ends { left: Some(200) });
    assert_eq!(desk.sent(), Some((3, 1)));
}
