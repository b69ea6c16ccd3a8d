//! Several programs on workers that run any of them.

use std::time::Duration;

use super::world::{Do, PROGRAM, World, plain};
use crate::{
    Payload, Time,
    ids::{Attempt, ClientId, ExecutorId, JobIndex, ProgramId, ShareId, SpecIndex, TaskId},
    wire::{Apart, Class, Failure, FromWorker, Spec, Stall, ToExecutor, ToWorker},
    worker::{self, ExecutorSaid, Worker},
};

const OTHER: ProgramId = ProgramId([9; 16]);
const THIRD: ProgramId = ProgramId([5; 16]);

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

/// A worker that runs any program, and clients of these.
fn world_of(slots: u32, programs: &[ProgramId]) -> (World, Vec<usize>) {
    let mut world = World::new();
    world.worker_with(PROGRAM, worker::Config { slots, start_early: false, ..worker::Config::default() });
    let clients: Vec<usize> = programs.iter().map(|program| world.client_of(*program)).collect();
    clients.iter().for_each(|client| world.declare(*client, plain()));
    (world, clients)
}

fn submit(world: &mut World, client: usize, count: usize, millis: u16) -> Vec<TaskId> {
    (0..count).map(|_| world.submit(client, 0, Do::Return.args(millis))).collect()
}

fn used(world: &World, client: usize) -> f64 {
    world.clients[client]
        .done
        .values()
        .map(|(_, done)| Duration::from_micros(done.micros).as_secs_f64())
        .sum()
}

fn started(world: &World, program: ProgramId) -> usize {
    world.workers[0].started.get(&program).copied().unwrap_or(0)
}

#[test]
fn a_program_that_the_worker_lacks_is_fetched_once_and_runs() {
    let (mut world, clients) = world_of(4, &[OTHER]);
    let tasks = submit(&mut world, clients[0], 50, 20);
    world.run();
    assert!(tasks.iter().all(|task| world.class(clients[0], *task) == Class::Ok));
    assert_eq!(started(&world, OTHER), 4);
    assert_eq!(world.workers[0].killed, 0);
    world.assert_quiet();
}

#[test]
fn an_idle_slot_changes_its_program_at_once_and_a_kept_one_costs_nothing() {
    let (mut world, clients) = world_of(1, &[PROGRAM, OTHER]);
    submit(&mut world, clients[0], 1, 10);
    world.run();
    let began = world.now;
    let task = submit(&mut world, clients[1], 1, 10)[0];
    world.run();
    let took = world.clients[clients[1]].done[&task].0.since(began);
    assert!(took < Duration::from_millis(80), "{took:?}");
    submit(&mut world, clients[1], 1, 10);
    world.run();
    assert_eq!((started(&world, PROGRAM), started(&world, OTHER)), (1, 1));
    world.assert_quiet();
}

#[test]
fn two_floods_on_one_slot_take_turns_of_a_quantum() {
    let (mut world, clients) = world_of(1, &[PROGRAM, OTHER]);
    clients.iter().for_each(|client| drop(submit(&mut world, *client, 6_000, 1)));
    world.run_until(at(8));
    let changes = started(&world, PROGRAM) + started(&world, OTHER);
    assert!((6..=10).contains(&changes), "{changes} executors in 8 s");
    let (one, other) = (used(&world, clients[0]), used(&world, clients[1]));
    assert!(one + other > 6.5, "{one} and {other} of 8 s");
    assert!((0.7..1.43).contains(&(one / other)), "{one} and {other}");
}

#[test]
fn slots_are_shared_among_programs_without_changing_them_for_ever() {
    let (mut world, clients) = world_of(4, &[PROGRAM, OTHER]);
    clients.iter().for_each(|client| drop(submit(&mut world, *client, 4_000, 5)));
    world.run_until(at(8));
    let (one, other) = (used(&world, clients[0]), used(&world, clients[1]));
    assert!((0.7..1.43).contains(&(one / other)), "{one} and {other}");
    assert!(one + other > 28.0, "{one} and {other} of 32 s");
    let starts = started(&world, PROGRAM) + started(&world, OTHER);
    assert!(starts < 12, "{starts} executors");
}

#[test]
fn three_programs_with_tasks_of_seconds_share_two_slots() {
    let (mut world, clients) = world_of(2, &[PROGRAM, OTHER, THIRD]);
    clients.iter().for_each(|client| drop(submit(&mut world, *client, 200, 2_000)));
    world.run_until(at(300));
    let used: Vec<f64> = clients.iter().map(|client| used(&world, *client)).collect();
    let sum: f64 = used.iter().sum();
    assert!(sum > 550.0 && used.iter().all(|it| (0.25..0.42).contains(&(it / sum))), "{used:?}");
}

#[test]
fn what_waits_of_one_program_is_not_sent_about_with_each_task_of_another() {
    let (mut world, clients) = world_of(1, &[PROGRAM, OTHER]);
    let heavy = submit(&mut world, clients[0], 10, 5_000);
    world.run_until(at(12));
    submit(&mut world, clients[1], 300, 50);
    world.run();
    let most = heavy.iter().map(|task| world.last_attempt(clients[0], *task)).max().unwrap();
    assert!(most < 5, "{most} attempts");
}

#[test]
fn an_executor_without_a_task_ends_after_a_while() {
    let (mut world, clients) = world_of(1, &[OTHER]);
    submit(&mut world, clients[0], 1, 10);
    world.run();
    world.run_until(world.now + Duration::from_secs(59));
    assert_eq!(world.workers[0].killed, 0);
    world.run_until(world.now + Duration::from_secs(2));
    assert_eq!(world.workers[0].killed, 1);
    submit(&mut world, clients[0], 1, 10);
    world.run();
    assert_eq!(started(&world, OTHER), 2);
}

#[test]
fn a_program_that_cannot_be_had_is_refused_with_the_reason() {
    let (mut world, clients) = world_of(2, &[OTHER]);
    world.workers[0].unfit = Some("the cache is full".to_owned());
    let task = submit(&mut world, clients[0], 3, 10)[0];
    world.run();
    let (_, stall) = &world.clients[clients[0]].stalls[0];
    assert!(matches!(stall, Stall::Unfit { workers: 1, .. }), "{stall}");
    let Failure::Refused { why } = Failure::decode(&world.clients[clients[0]].done[&task].1.body) else {
        panic!()
    };
    assert!(why.contains("the cache is full") && why.contains("node0:1"), "{why}");
    world.assert_quiet();
}

#[test]
fn a_worker_that_cannot_run_a_program_leaves_it_to_those_that_can_and_tries_again() {
    let (mut world, clients) = world_of(2, &[OTHER]);
    world.workers[0].unfit = Some("the cache is full".to_owned());
    world.worker_with(PROGRAM, worker::Config { slots: 2, ..worker::Config::default() });
    let tasks = submit(&mut world, clients[0], 1_000, 100);
    world.run_until(at(10));
    assert_eq!(started(&world, OTHER), 0);
    world.workers[0].unfit = None;
    world.run();
    assert_eq!(started(&world, OTHER), 2);
    assert!(tasks.iter().all(|task| world.class(clients[0], *task) == Class::Ok));
    world.assert_quiet();
}

#[test]
fn a_program_whose_executors_do_not_start_is_unfit_and_the_worker_stays() {
    use crate::{
        ids::{ClientId, SettingId},
        wire::{Ending, FromWorker, ToWorker},
        worker::{Action, Event, ExecutorSaid, Worker},
    };
    let mut worker = Worker::new(worker::Config { start_early: false, ..worker::Config::default() });
    let meet = ToWorker::Meet {
        client: ClientId(1),
        program: OTHER,
        setting: SettingId(1),
        output: Default::default(),
    };
    let declare = ToWorker::Declare { client: ClientId(1), spec: SpecIndex(0), what: Box::new(plain()) };
    let run = ToWorker::Run {
        client: ClientId(1),
        task: TaskId(1),
        attempt: Attempt(1),
        spec: SpecIndex(0),
        alone: false,
    };
    worker.handle(at(0), Event::Joined { returned: false });
    for message in [meet, declare, run] {
        worker.handle(at(0), Event::MasterSaid { message, body: Payload::new() });
    }
    assert!(matches!(worker.poll_action(), Some(Action::Fetch { program: OTHER, .. })));
    worker.handle(at(0), Event::Fetched { program: OTHER, result: Ok(()) });
    for second in 1..=3 {
        let Some(Action::Start { executor, .. }) = worker.poll_action() else { panic!("it starts none") };
        let (hint, worker_name) = (None, "node0:1".to_owned());
        let stderr = "sim: error while loading shared libraries: libfoo.so".to_owned();
        let said = ExecutorSaid::Ended {
            ending: Ending::Exit(127),
            hint,
            stderr,
            output: Payload::new(),
            worker: worker_name,
        };
        worker.handle(at(second), Event::ExecutorSaid { executor, said });
        worker.handle_timeout(at(second) + Duration::from_millis(500));
    }
    let Some(Action::Tell { message: FromWorker::Unfit { program: OTHER, why }, .. }) = worker.poll_action()
    else {
        panic!("it does not say so")
    };
    assert!(why.contains("libfoo.so") && why.contains("code 127"), "{why}");
    let back = worker.poll_action();
    assert!(matches!(back, Some(Action::Tell { message: FromWorker::Returned { .. }, .. })), "{back:?}");
    assert!(worker.poll_action().is_none() && worker.is_quiet());
}

#[test]
fn programs_whose_clients_are_gone_are_forgotten_but_for_a_few() {
    let mut world = World::new();
    let config = worker::Config {
        slots: 1,
        idle_time: Some(Duration::from_secs(1)),
        spare_programs: 2,
        ..worker::Config::default()
    };
    world.worker_with(PROGRAM, config);
    for number in 20..25 {
        let client = world.client_of(ProgramId([number; 16]));
        world.declare(client, plain());
        submit(&mut world, client, 1, 10);
        world.run();
        world.client_event(client, crate::client::Event::Watch { on: false });
        world.kill_client(client);
        world.run_until(world.now + Duration::from_secs(60));
    }
    let gone: Vec<u8> = world.workers[0].dropped.iter().map(|program| program.0[0]).collect();
    assert_eq!(gone, [20, 21, 22]);
}

#[test]
fn what_tasks_share_is_fetched_once_before_they_begin() {
    let (mut world, clients) = world_of(2, &[OTHER]);
    let shares = vec![ShareId([3; 32])];
    world.declare(clients[0], Spec { shares, ..plain() });
    let began = world.now;
    let tasks: Vec<TaskId> = (0..100).map(|_| world.submit(clients[0], 1, Do::Return.args(5))).collect();
    let free = submit(&mut world, clients[0], 1, 5)[0];
    world.run();
    assert!(tasks.iter().all(|task| world.class(clients[0], *task) == Class::Ok));
    let first = tasks.iter().map(|task| world.clients[clients[0]].done[task].0).min().unwrap();
    assert!(first.since(began) >= Duration::from_millis(55), "{:?}", first.since(began));
    assert_eq!(world.class(clients[0], free), Class::Ok);
    world.assert_quiet();
}

#[test]
fn a_shared_value_that_cannot_be_had_is_the_reason() {
    let (mut world, clients) = world_of(2, &[PROGRAM]);
    let shares = vec![ShareId([3; 32])];
    world.declare(clients[0], Spec { shares, ..plain() });
    world.workers[0].unfit = Some("the cache is full".to_owned());
    let task = world.submit(clients[0], 1, Do::Return.args(5));
    world.run();
    let Failure::Refused { why } = Failure::decode(&world.clients[clients[0]].done[&task].1.body) else {
        panic!()
    };
    assert!(why.contains("a value that its tasks share cannot be had: the cache is full"), "{why}");
    world.assert_quiet();
}

/// A worker of one slot that knows a client of its own program whose tasks' arguments lie apart.
fn worker_of_apart() -> Worker {
    let mut worker = Worker::new(worker::Config::default());
    let client = ClientId(1);
    worker.handle(at(0), worker::Event::Joined { returned: false });
    let what = Box::new(Spec { apart: true, ..plain() });
    for message in [
        ToWorker::Declare { client, spec: SpecIndex(0), what },
        ToWorker::Credit { client, bytes: 1 << 20 },
        ToWorker::Beat { lease: 60_000 },
    ] {
        worker.handle(at(0), worker::Event::MasterSaid { message, body: Payload::new() });
    }
    let said = ExecutorSaid::Ready;
    drain(&mut worker);
    worker.handle(at(0), worker::Event::ExecutorSaid { executor: ExecutorId(0), said });
    drain(&mut worker);
    worker
}

fn drain(worker: &mut Worker) -> Vec<worker::Action> {
    std::iter::from_fn(|| worker.poll_action()).collect()
}

fn run(worker: &mut Worker, task: u64, body: Payload) -> Vec<worker::Action> {
    let (client, task, attempt) = (ClientId(1), TaskId(task), Attempt(1));
    let message = ToWorker::Run { client, task, attempt, spec: SpecIndex(0), alone: false };
    worker.handle(at(0), worker::Event::MasterSaid { message, body });
    drain(worker)
}

#[test]
fn arguments_that_lie_apart_are_there_before_their_task_begins_and_until_it_has_ended() {
    assert_eq!(last_of_apart([Class::Ok, Class::Ok]), Some(true), "nobody will want them again");
    assert_eq!(last_of_apart([Class::Failed, Class::Ok]), Some(true));
    assert_eq!(last_of_apart([Class::Failed, Class::Panicked]), Some(false), "it may be tried here again");
}

/// Runs two tasks with the same arguments; says whether those are spent when no task has them any more.
fn last_of_apart(ends: [Class; 2]) -> Option<bool> {
    let mut worker = worker_of_apart();
    let share = ShareId([3; 32]);
    let args = Apart { share, bytes: 5 << 20 }.encode();
    let program = ProgramId::default();
    assert_eq!(
        run(&mut worker, 1, args.clone()),
        [worker::Action::FetchShare { share, program, passing: true }]
    );
    assert_eq!(run(&mut worker, 2, args), [], "they are on their way");
    let path = Payload::from_static(b"/p");
    worker.handle(at(1), worker::Event::Shared { share, result: Ok(path.clone()) });
    for (task, class) in [1, 2].into_iter().zip(ends) {
        let (task, attempt, job) = (TaskId(task), Attempt(1), JobIndex(0));
        let message = ToExecutor::RunApart { job, task, attempt };
        let feed = worker::Action::Feed { executor: ExecutorId(0), message, body: path.clone() };
        assert!(drain(&mut worker).contains(&feed), "{task}");
        let said = ExecutorSaid::Done { class, micros: 10, output: 0, body: Payload::new() };
        worker.handle(at(2), worker::Event::ExecutorSaid { executor: ExecutorId(0), said });
    }
    drain(&mut worker).into_iter().find_map(|action| match action {
        worker::Action::DropShare { share: dropped, spent } if dropped == share => Some(spent),
        _ => None,
    })
}

#[test]
fn what_does_not_say_where_arguments_lie_ends_its_task() {
    let mut worker = worker_of_apart();
    let actions = run(&mut worker, 1, Payload::from_static(b"no hash"));
    let refused = |action: &worker::Action| {
        let worker::Action::Tell { message: FromWorker::Finished { class, .. }, .. } = action else {
            return false;
        };
        *class == Class::Refused
    };
    assert!(actions.iter().any(refused), "{actions:?}");
}

#[test]
fn a_shared_value_goes_once_no_task_has_shared_it_for_a_while_and_not_under_one_that_runs() {
    let (mut world, clients) = world_of(2, &[PROGRAM]);
    let share = ShareId([3; 32]);
    world.declare(clients[0], Spec { shares: vec![share], ..plain() });
    let submit = |world: &mut World, millis| world.submit(clients[0], 1, Do::Return.args(millis));
    submit(&mut world, 60_000);
    world.run_until(at(20));
    submit(&mut world, 60_000);
    let forgotten = |world: &World| world.workers[0].dropped_shares.clone();
    world.run_until(at(85));
    assert_eq!(forgotten(&world), []);
    world.run_until(at(280));
    assert_eq!(forgotten(&world), [share]);
    let again = submit(&mut world, 10);
    world.run();
    assert_eq!(world.class(clients[0], again), Class::Ok);
    world.assert_quiet();
}

/// Has a worker hear why arguments do not come, as often as it asks, and gives what it does then.
fn hears(worker: &mut Worker, why: &worker::NoShare, times: u32) -> Vec<worker::Action> {
    let mut all = Vec::new();
    for _ in 0..times {
        let share = ShareId([3; 32]);
        let due = worker.poll_timeout().unwrap_or(at(0));
        worker.handle_timeout(due);
        all.extend(drain(worker));
        worker.handle(due, worker::Event::Shared { share, result: Err(why.clone()) });
        all.extend(drain(worker));
    }
    all
}

fn asked(actions: &[worker::Action]) -> usize {
    actions.iter().filter(|action| matches!(action, worker::Action::FetchShare { .. })).count()
}

fn refusals(actions: &[worker::Action]) -> usize {
    let refused = |action: &&worker::Action| {
        let worker::Action::Tell { message: FromWorker::Finished { class, .. }, .. } = action else {
            return false;
        };
        *class == Class::Refused
    };
    actions.iter().filter(refused).count()
}

fn unfits(actions: &[worker::Action]) -> usize {
    let is_unfit =
        |it: &&worker::Action| matches!(it, worker::Action::Tell { message: FromWorker::Unfit { .. }, .. });
    actions.iter().filter(is_unfit).count()
}

#[test]
fn a_node_that_cannot_keep_arguments_leaves_the_program_to_others_after_a_while() {
    let mut worker = worker_of_apart();
    run(&mut worker, 1, Apart { share: ShareId([3; 32]), bytes: 5 << 20 }.encode());
    let full = worker::NoShare::Here("the disk is full".to_owned());
    let mut actions = hears(&mut worker, &full, 5);
    assert_eq!((asked(&actions), refusals(&actions), unfits(&actions)), (4, 0, 0));
    let remarks: Vec<&str> = actions.iter().filter_map(remark).collect();
    assert_eq!(remarks.len(), 1);
    assert!(remarks[0].ends_with("the disk is full"), "{remarks:?}");
    actions = hears(&mut worker, &full, 1);
    assert_eq!((refusals(&actions), unfits(&actions)), (0, 1));
    let is_back =
        |it: &worker::Action| matches!(it, worker::Action::Tell { message: FromWorker::Returned { .. }, .. });
    assert!(actions.iter().any(is_back));
}

#[test]
fn arguments_that_no_cache_has_room_for_end_their_task_and_no_other() {
    let mut worker = worker_of_apart();
    run(&mut worker, 1, Apart { share: ShareId([3; 32]), bytes: 5 << 40 }.encode());
    let actions = hears(&mut worker, &worker::NoShare::TooBig("the limit is 1 GiB".to_owned()), 1);
    assert_eq!((refusals(&actions), unfits(&actions)), (1, 0));
}

fn remark(action: &worker::Action) -> Option<&str> {
    match action {
        worker::Action::Tell { message: FromWorker::Remark { what, .. }, .. } => Some(what),
        _ => None,
    }
}

#[test]
fn while_its_client_is_away_a_task_waits_for_its_arguments() {
    let mut worker = worker_of_apart();
    run(&mut worker, 1, Apart { share: ShareId([3; 32]), bytes: 5 << 20 }.encode());
    let actions = hears(&mut worker, &worker::NoShare::Away("nobody is here".to_owned()), 100);
    assert_eq!((asked(&actions), refusals(&actions)), (99, 0));
}
