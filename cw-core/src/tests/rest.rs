//! Workers with nothing to do cost little, may begin at once all the same, and are missed in time.

use std::time::Duration;

use super::{
    desk::{Desk, ms},
    world::{Do, World, plain},
};
use crate::{
    Time,
    ids::WorkerId,
    master::{Action, Config, Event, Member},
    wire::{Class, Doing, FromWorker, ToWorker},
};

/// The leases that a worker was sent.
fn leases(desk: &Desk, of: u32) -> Vec<u32> {
    let lease = |action: &Action| match action {
        Action::TellWorker { worker, message: ToWorker::Beat { lease }, .. } if worker.0 == of => {
            Some(*lease)
        }
        _ => None,
    };
    desk.done.iter().filter_map(lease).collect()
}

/// How many beats two workers are sent in the ten seconds from then on, both of which are heard.
fn in_ten_seconds(desk: &mut Desk) -> [usize; 2] {
    desk.done.clear();
    desk.pass(desk.now + Duration::from_secs(10), &[0, 1]);
    [0, 1].map(|worker| leases(desk, worker).len())
}

#[test]
fn a_worker_that_rests_is_sent_every_second_beat() {
    let mut desk = Desk::new();
    desk.worker(0, false);
    desk.worker(1, false);
    desk.client(false, plain());
    desk.pass(ms(1_000), &[0, 1]);
    assert!(matches!(in_ten_seconds(&mut desk), [9..=10, 9..=10]));
    desk.submit(0..1);
    let (busy, attempt) = desk.sent().expect("there is room");
    assert_eq!(busy, 0);
    assert!(matches!(in_ten_seconds(&mut desk), [20..=21, 9..=10]), "one with a task is sent each");
    desk.finished(0, attempt, Class::Ok);
    assert!(matches!(in_ten_seconds(&mut desk), [9..=10, 9..=10]));
}

#[test]
fn a_master_looks_half_as_often_at_workers_that_all_rest() {
    let mut desk = Desk::new();
    desk.worker(0, false);
    desk.pass(ms(1_000), &[0]);
    let mut looks = 0;
    while let Some(due) = desk.master.poll_timeout().filter(|due| *due < ms(11_000)) {
        desk.pass(due, &[0]);
        looks += 1;
    }
    assert!((9..=11).contains(&looks), "{looks}");
}

#[test]
fn the_first_task_of_a_worker_that_rests_brings_a_lease() {
    let mut desk = Desk::new();
    desk.worker(0, false);
    desk.client(false, plain());
    desk.pass(ms(5_000), &[0]);
    // That the beat before was acknowledged is seen with the next, which was too early for a long lease.
    desk.pass(ms(5_600), &[]);
    desk.handle(Event::WorkerHeard { worker: WorkerId(0) });
    desk.pass(ms(5_900), &[]);
    desk.done.clear();
    desk.submit(0..2);
    assert!(matches!(leases(&desk, 0)[..], [1_000..=1_500]), "until the next beat: {:?}", leases(&desk, 0));
    let place = |is: fn(&ToWorker) -> bool| {
        desk.done.iter().position(|it| matches!(it, Action::TellWorker { message, .. } if is(message)))
    };
    let beat = place(|message| matches!(message, ToWorker::Beat { .. }));
    assert!(beat < place(|message| matches!(message, ToWorker::Run { .. })), "before the task");
}

#[test]
fn one_that_rests_begins_a_task_at_once_whenever_it_comes() {
    let mut world = World::new();
    world.worker(1);
    let client = world.client();
    world.declare(client, plain());
    for nth in 1..50 {
        // Each comes at another time between two beats.
        let at = Time::ZERO + Duration::from_millis(3_037) * nth;
        world.run_until(at);
        let task = world.submit(client, 0, Do::Return.args(1));
        world.run_until(at + Duration::from_secs(1));
        let (done, _) = world.clients[client].done[&task];
        assert!(done.since(at) < Duration::from_millis(5), "the one of {at} is done at {done}");
    }
    world.assert_quiet();
}

/// Whether a worker that was heard until ten seconds after the start, and was given a task then if so, is sent nothing at
/// that time. Asking wakes it, so each time is another worker's.
fn is_suspected(with_task: bool, at: u64) -> bool {
    let mut desk = Desk::new();
    desk.worker_of(0, 100, false);
    desk.client(false, plain());
    desk.pass(ms(10_000), &[0]);
    desk.handle(Event::WorkerHeard { worker: WorkerId(0) });
    if with_task {
        desk.submit(0..1);
    }
    desk.pass(ms(at), &[]);
    desk.done.clear();
    desk.submit(1..2);
    desk.sent().is_none()
}

/// The first such time.
fn suspected(with_task: bool) -> Time {
    let at = (10_000..15_000).step_by(50).find(|at| is_suspected(with_task, *at));
    ms(at.expect("it is suspected some time"))
}

#[test]
fn silence_is_noticed_as_soon_of_workers_with_tasks_and_half_a_second_later_of_others() {
    assert!(suspected(true) <= ms(12_500), "{}", suspected(true));
    assert!(suspected(false) <= ms(13_000), "{}", suspected(false));
}

#[test]
fn one_that_rests_is_lost_half_a_second_later_at_most() {
    let mut desk = Desk::new();
    desk.worker(0, false);
    desk.pass(ms(10_000), &[0]);
    desk.handle(Event::WorkerHeard { worker: WorkerId(0) });
    desk.pass(ms(20_500), &[]);
    let is_lost = |action: &Action| matches!(action, Action::DisconnectWorker { .. });
    assert!(desk.done.iter().any(is_lost), "{:?}", desk.done.last());
}

/// A worker is back from a former master with a task of a client that is not back yet.
fn back_with_a_task() -> Desk {
    let member = |id, is_worker| Member { id, token: Default::default(), is_worker };
    let roster = vec![member(0, false), member(1, true)];
    let mut desk = Desk::with(Config { first_id: 10, roster, ..Default::default() });
    desk.worker(1, true);
    desk.have(1, 1, Doing::Waiting);
    desk.worker_says(1, FromWorker::Accounted { client: None });
    desk
}

#[test]
fn one_that_is_back_with_tasks_does_not_rest() {
    let mut desk = back_with_a_task();
    desk.pass(ms(5_000), &[1]);
    desk.done.clear();
    desk.pass(ms(10_000), &[1]);
    assert!(matches!(leases(&desk, 1).len(), 10..=11), "{:?}", leases(&desk, 1));
}

#[test]
fn one_whose_task_is_wanted_again_may_begin_it_until_the_next_beat() {
    for at in (5_000..7_000).step_by(50) {
        let mut desk = Desk::new();
        desk.worker(1, false);
        desk.client(false, plain());
        desk.submit(0..1);
        desk.finished(1, 1, Class::Ok);
        desk.pass(ms(at), &[1]);
        desk.client_comes_back(plain());
        desk.handle(Event::WorkerHeard { worker: WorkerId(1) });
        desk.have(1, 1, Doing::Waiting);
        let due = desk.master.poll_timeout().expect("there is a worker");
        assert!(due <= ms(at + 500), "{due}: as one with tasks, from {at} on");
    }
}
