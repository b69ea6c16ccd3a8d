//! What must not run twice and was laid aside, before any worker had it, has not begun: whatever becomes of its master.

use std::time::Duration;

use bytes::BytesMut;

use super::{
    desk::{CLIENT, Desk, ms},
    world::{Do, World, plain},
};
use crate::{
    Payload, client,
    ids::{Attempt, ClientId, JobIndex, ProgramId, SpecIndex, TaskId},
    master::{Action, Event},
    wire::{Class, FromClient, FromWorker, Spec, Stretch, ToClient, ToWorker, put_args},
};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn once() -> Spec {
    Spec { rerun: false, crash_limit: 1, ..plain() }
}

/// A client whose first job is known to take a minute, and a worker of one slot that ends before one of that would be done.
fn world() -> (World, usize, usize) {
    let mut world = World::new();
    let client = world.client();
    world.declare(client, once());
    world.declare(client, Spec { job: JobIndex(1), ..once() });
    let known = world.worker(1);
    world.submit(client, 0, Do::Return.args(60_000));
    world.run();
    let worker = world.worker(1);
    world.ends(worker, Some(seconds(55)));
    world.kill_worker(known);
    world.submit(client, 1, Do::Return.args(100));
    world.run();
    (world, client, worker)
}

fn submit(world: &mut World, client: usize, spec: u32, tasks: usize, millis: u16) -> Vec<TaskId> {
    (0..tasks).map(|_| world.submit(client, spec, Do::Return.args(millis))).collect()
}

/// The same, called together.
fn map(world: &mut World, client: usize, spec: u32, tasks: u32, millis: u16) -> Vec<TaskId> {
    let first = world.clients[client].next_task;
    world.clients[client].next_task += u64::from(tasks);
    let mut body = BytesMut::new();
    (0..tasks).for_each(|_| put_args(&Do::Return.args(millis), &mut body));
    let args = Stretch::of_args(TaskId(first), tasks, body.freeze().into()).expect("it is whole");
    world.client_event(client, client::Event::Submits { spec: SpecIndex(spec), args });
    (first..first + u64::from(tasks)).map(TaskId).collect()
}

fn began(world: &World, task: TaskId) -> usize {
    world.workers.iter().flat_map(|host| &host.began).filter(|(_, began)| *began == task).count()
}

#[test]
fn what_was_laid_aside_and_never_sent_is_not_lost_with_the_master() {
    for (masters, is_map) in [(1, false), (2, true), (3, false), (1, true)] {
        let (mut world, client, _) = world();
        let long = match is_map {
            true => map(&mut world, client, 0, 12, 60_000),
            false => submit(&mut world, client, 0, 12, 60_000),
        };
        let short = submit(&mut world, client, 1, 20, 100);
        world.run_until(world.now + seconds(4));
        assert!(short.iter().all(|task| world.clients[client].done.contains_key(task)), "they pass");
        for _ in 0..masters {
            world.restart_master();
            world.run_until(world.now + seconds(1));
        }
        world.worker(2);
        world.run();
        for task in long {
            let ended = (world.class(client, task), began(&world, task));
            assert_eq!(ended, (Class::Ok, 1), "{task} after {masters} masters");
        }
        world.assert_quiet();
    }
}

#[test]
fn what_no_worker_was_there_for_is_not_lost_with_the_master() {
    let mut world = World::new();
    let client = world.client();
    world.declare(client, once());
    let tasks = map(&mut world, client, 0, 3, 100);
    world.run_until(world.now + seconds(1));
    world.restart_master();
    world.worker(1);
    world.run();
    assert!(tasks.iter().all(|task| world.class(client, *task) == Class::Ok));
}

#[test]
fn what_was_laid_aside_and_then_sent_does_not_begin_again_under_the_next_master() {
    let (mut world, client, worker) = world();
    let long = submit(&mut world, client, 0, 3, 60_000);
    world.run_until(world.now + seconds(2));
    let next = world.worker(1);
    world.run_until(world.now + seconds(2));
    assert_eq!(began(&world, long[0]), 1);
    world.kill_master();
    world.kill_worker(next);
    world.connect_again(client);
    world.join_again(worker);
    world.worker(1);
    world.run();
    assert_eq!((world.class(client, long[0]), began(&world, long[0])), (Class::Lost, 1));
    for task in &long[1..] {
        assert_eq!((world.class(client, *task), began(&world, *task)), (Class::Ok, 1), "nobody had it");
    }
    world.assert_quiet();
}

/// Another client's tasks fit everywhere, and there are always more of them.
#[test]
fn a_slot_with_time_that_frees_is_for_whoever_has_used_least_also_if_that_has_to_answer_first() {
    let (mut world, client, _) = world();
    let other = world.client();
    world.declare(other, Spec { job: JobIndex(2), ..plain() });
    world.clients[other].next_task = 1_000;
    let with_time = world.worker(1);
    submit(&mut world, other, 0, 400, 1_000);
    world.run_until(world.now + seconds(5));
    let long = submit(&mut world, client, 0, 1, 60_000);
    world.run_until(world.now + seconds(4));
    let (at, first) = world.workers[with_time].began.last().copied().expect("it was always busy");
    assert_eq!((began(&world, long[0]), first), (1, long[0]), "at {at}");
    world.run();
    assert_eq!(world.class(client, long[0]), Class::Ok);
    world.assert_quiet();
}

/// What was sent, and what the client was told to know: a spec, and up to which of its tasks.
#[derive(Debug, PartialEq)]
enum Did {
    Sent(u64),
    Told(u32, u64),
}
use Did::{Sent, Told};

/// What has become of the client since it was asked last.
fn did(desk: &mut Desk) -> Vec<Did> {
    let of = |action: Action| match action {
        Action::TellWorker { message: ToWorker::Run { client: CLIENT, task, .. }, .. } => Some(Sent(task.0)),
        Action::TellClient { client: CLIENT, message: ToClient::DispatchedOnce { spec, below }, .. } => {
            Some(Told(spec.0, below.0))
        }
        _ => None,
    };
    std::mem::take(&mut desk.done).into_iter().filter_map(of).collect()
}

fn noted(desk: &mut Desk, below: u64) {
    desk.client_says(FromClient::Noted { spec: SpecIndex(0), below: TaskId(below) });
}

fn ends(desk: &mut Desk, left: u32) {
    desk.worker_says(1, FromWorker::Ends { left: Some(left) });
}

/// A master whose client has these tasks laid aside, which must not run twice and take ten minutes.
fn desk(slots: u32, tasks: std::ops::Range<u64>) -> Desk {
    let mut desk = Desk::new();
    desk.worker_of(1, slots, false);
    ends(&mut desk, 1_000);
    desk.client(false, once());
    desk.submit(0..1);
    noted(&mut desk, 1);
    assert_eq!(did(&mut desk), [Told(0, u64::from(slots)), Sent(0)], "nobody knows what it takes");
    let (task, attempt, class) = (TaskId(0), Attempt(1), Class::Ok);
    let micros = 600_000_000;
    desk.worker_says(1, FromWorker::Finished { client: CLIENT, task, attempt, class, micros, output: 0 });
    ends(&mut desk, 100);
    desk.submit(tasks);
    assert_eq!(did(&mut desk), [], "no mark passes them");
    desk
}

#[test]
fn no_more_is_announced_than_there_are_free_slots_with_time() {
    let mut desk = desk(2, 10..16);
    ends(&mut desk, 10_000);
    assert_eq!(did(&mut desk), [Told(0, 12)]);
    noted(&mut desk, 12);
    assert_eq!(did(&mut desk), [Sent(10), Sent(11)]);
    desk.ended(1, 10, 1, Class::Ok);
    assert_eq!(did(&mut desk), [Told(0, 13)]);
    noted(&mut desk, 12);
    assert_eq!(did(&mut desk), [], "that is an older word");
    noted(&mut desk, 13);
    assert_eq!(did(&mut desk), [Sent(12)]);
}

#[test]
fn however_often_anybody_looks_meanwhile_what_was_laid_aside_goes_in_order() {
    let mut desk = desk(1, 10..14);
    for _ in 0..3 {
        ends(&mut desk, 10_000);
    }
    assert_eq!(did(&mut desk), [Told(0, 11)]);
    ends(&mut desk, 100);
    noted(&mut desk, 11);
    assert_eq!(did(&mut desk), [], "there is no time any more");
    ends(&mut desk, 10_000);
    assert_eq!(did(&mut desk), [Sent(10)]);
    for task in 10..13 {
        desk.ended(1, task, 1, Class::Ok);
        assert_eq!(did(&mut desk), [Told(0, task + 2)]);
        noted(&mut desk, task + 2);
        assert_eq!(did(&mut desk), [Sent(task + 1)]);
    }
}

/// Not all are taken up at once, and those that come to the front meanwhile are later.
#[test]
fn what_is_later_waits_for_what_is_still_laid_aside() {
    let mut desk = desk(400, 1_000..1_300);
    let now = desk.now;
    for task in 1_300..1_310 {
        let message = FromClient::Submit { task: TaskId(task), spec: SpecIndex(0) };
        desk.master.handle(now, Event::ClientSaid { client: CLIENT, message, body: Payload::new() });
    }
    ends(&mut desk, 10_000);
    let mut sent = Vec::new();
    loop {
        let told = did(&mut desk).into_iter().fold(None, |told, did| match did {
            Sent(task) => {
                sent.push(task);
                told
            }
            Told(_, below) => told.max(Some(below)),
        });
        let Some(below) = told else { break };
        noted(&mut desk, below);
    }
    assert_eq!(sent, (1_000..1_310).collect::<Vec<_>>());
}

#[test]
fn a_slot_is_kept_for_a_client_that_has_to_answer_but_not_for_long() {
    let mut desk = desk(1, 10..11);
    let (other, program) = (ClientId(7), ProgramId::default());
    let says = |message| Event::ClientSaid { client: other, message, body: Payload::new() };
    desk.handle(Event::ClientJoined { client: other, program, returned: false });
    for job in 1..3 {
        let what = Box::new(Spec { job: JobIndex(job), ..plain() });
        desk.handle(says(FromClient::Declare { spec: SpecIndex(job - 1), what }));
    }
    // It has used more, by a job of another kind.
    desk.handle(says(FromClient::Submit { task: TaskId(0), spec: SpecIndex(0) }));
    let (task, attempt, class, micros) = (TaskId(0), Attempt(1), Class::Ok, 900_000_000);
    desk.worker_says(1, FromWorker::Finished { client: other, task, attempt, class, micros, output: 0 });
    ends(&mut desk, 10_000);
    assert_eq!(did(&mut desk), [Told(0, 11)]);
    desk.handle(says(FromClient::Submit { task: TaskId(1), spec: SpecIndex(1) }));
    let is_sent = |desk: &Desk| {
        desk.done.iter().any(|action| {
            matches!(action, Action::TellWorker { message: ToWorker::Run { client, .. }, .. } if *client == other)
        })
    };
    desk.pass(ms(900), &[1]);
    assert!(!is_sent(&desk), "it may still answer");
    desk.pass(ms(1_000), &[1]);
    assert!(is_sent(&desk));
}

#[test]
fn a_client_that_is_back_hears_again_what_may_have_been_sent() {
    let mut desk = desk(1, 10..12);
    ends(&mut desk, 10_000);
    assert_eq!(did(&mut desk), [Told(0, 11)]);
    desk.handle(Event::ClientLost { client: CLIENT });
    desk.client(true, once());
    desk.client_says(FromClient::Resubmit { task: TaskId(10), spec: SpecIndex(0) });
    desk.client_says(FromClient::Resubmit { task: TaskId(11), spec: SpecIndex(0) });
    desk.client_says(FromClient::Resubmitted { tasks: 2 });
    assert_eq!(did(&mut desk), [Told(0, 11)]);
    noted(&mut desk, 11);
    assert_eq!(did(&mut desk), [Sent(10)]);
}

#[test]
fn marks_that_make_no_sense_change_nothing() {
    let mut desk = desk(1, 10..12);
    noted(&mut desk, u64::MAX);
    desk.client_says(FromClient::Noted { spec: SpecIndex(9), below: TaskId(u64::MAX) });
    ends(&mut desk, 10_000);
    assert_eq!(did(&mut desk), [Told(0, 11)], "it knows what it was told at most");
    let mut world = World::new();
    let client = world.client();
    world.declare(client, plain());
    for spec in [0, 7] {
        let message = ToClient::DispatchedOnce { spec: SpecIndex(spec), below: TaskId(u64::MAX) };
        world.client_event(client, client::Event::MasterSaid { message, body: Payload::new() });
    }
    let task = world.submit(client, 0, Do::Return.args(1));
    world.worker(1);
    world.run();
    assert_eq!(world.class(client, task), Class::Ok);
}
