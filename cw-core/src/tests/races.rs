//! Faults that were found by reading: each scenario once went wrong.

use std::time::Duration;

use super::world::{Do, World, plain};
use crate::{
    Payload, Time,
    ids::{Attempt, ClientId, ExecutorId, ProgramId, SettingId, ShareId, SpecIndex, TaskId, WorkerId},
    master::{self, Master},
    wire::{Class, Doing, Ending, FromClient, FromWorker, Output, Programs, Spec, ToClient, ToWorker},
    worker::{self, Action, ExecutorSaid, Worker},
};

fn ms(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

fn tell(message: ToWorker) -> worker::Event {
    worker::Event::MasterSaid { message, body: Payload::new() }
}

fn run(client: u32, task: u64) -> worker::Event {
    let (client, task, attempt, spec) = (ClientId(client), TaskId(task), Attempt(1), SpecIndex(0));
    tell(ToWorker::Run { client, task, attempt, spec, alone: false })
}

fn said(executor: u64, said: ExecutorSaid) -> worker::Event {
    worker::Event::ExecutorSaid { executor: ExecutorId(executor), said }
}

fn done() -> ExecutorSaid {
    ExecutorSaid::Done { class: Class::Ok, micros: 10, output: 0, body: Payload::new() }
}

fn ended() -> ExecutorSaid {
    let (ending, stderr) = (Ending::Signal(9), "no room".to_owned());
    ExecutorSaid::Ended { ending, hint: None, stderr, output: Payload::new(), worker: "node:1".to_owned() }
}

/// A worker of one slot that runs no other program than that without a name.
fn joined(n: u32, returned: bool) -> master::Event {
    master::Event::WorkerJoined {
        worker: WorkerId(n),
        program: ProgramId::default(),
        programs: Programs::Own,
        program_name: String::new(),
        name: String::new(),
        slots: 1,
        returned,
    }
}

fn drain(worker: &mut Worker) -> Vec<Action> {
    std::iter::from_fn(|| worker.poll_action()).collect()
}

/// A worker of one slot whose executor is up, and that knows client 1 and its spec.
fn worker_of(slots: u32, what: Spec) -> Worker {
    let mut worker = Worker::new(worker::Config { slots, ..worker::Config::default() });
    worker.handle(ms(0), worker::Event::Joined { returned: false });
    drain(&mut worker);
    worker.handle(ms(0), said(0, ExecutorSaid::Ready));
    worker.handle(
        ms(0),
        tell(ToWorker::Declare { client: ClientId(1), spec: SpecIndex(0), what: Box::new(what) }),
    );
    worker.handle(ms(0), tell(ToWorker::Credit { client: ClientId(1), bytes: 1 << 20 }));
    worker
}

#[test]
fn a_result_for_a_master_that_is_gone_is_not_given_to_the_next_as_its_own() {
    let mut worker = worker_of(1, plain());
    worker.handle(ms(0), run(1, 5));
    drain(&mut worker);
    worker.handle(ms(1), worker::Event::MasterLost);
    worker.handle(ms(1), worker::Event::Joined { returned: false });
    drain(&mut worker);
    // Another master numbers another client the same.
    worker.handle(
        ms(2),
        tell(ToWorker::Declare { client: ClientId(1), spec: SpecIndex(0), what: Box::new(plain()) }),
    );
    worker.handle(ms(2), run(1, 5));
    worker.handle(ms(3), said(0, done()));
    let actions = drain(&mut worker);
    let is_finished =
        |action: &Action| matches!(action, Action::Tell { message: FromWorker::Finished { .. }, .. });
    assert!(!actions.iter().any(is_finished), "{actions:?}");
}

#[test]
fn a_task_that_ends_while_it_is_killed_does_not_leave_the_blame_to_its_neighbour() {
    let mut worker = worker_of(1, Spec { timeout: Some(Duration::from_millis(500)), ..plain() });
    worker.handle(ms(0), run(1, 1));
    drain(&mut worker);
    worker.handle(ms(1), said(0, done()));
    drain(&mut worker);
    worker.handle(ms(2), run(1, 2));
    worker.handle(ms(2), run(1, 3));
    drain(&mut worker);
    worker.handle_timeout(ms(502));
    drain(&mut worker);
    // Task 2 had answered before the kill arrived; task 3 never ran.
    worker.handle(ms(502), said(0, done()));
    worker.handle(ms(503), said(0, ended()));
    let actions = drain(&mut worker);
    let blamed = |action: &Action| {
        matches!(action, Action::Tell { message: FromWorker::Finished { class: Class::TimedOut, .. }, .. })
    };
    assert!(!actions.iter().any(blamed), "{actions:?}");
}

#[test]
fn a_slot_that_cannot_start_takes_nothing_from_one_that_runs() {
    let mut worker = worker_of(2, plain());
    (0..4).for_each(|task| worker.handle(ms(0), run(1, task)));
    let mut actions = drain(&mut worker);
    let mut executor = 1;
    for at in [1, 1_000, 2_000, 3_000] {
        worker.handle(ms(at), said(executor, ended()));
        actions.extend(drain(&mut worker));
        worker.handle_timeout(ms(at + 990));
        for action in drain(&mut worker) {
            if let Action::Start { executor: next, .. } = action {
                executor = next.0;
            }
            actions.push(action);
        }
    }
    assert!(executor >= 4, "it goes on trying");
    let is_started =
        |action: &Action| matches!(action, Action::Tell { message: FromWorker::Started { .. }, .. });
    assert!(
        actions
            .iter()
            .filter(|action| !is_started(action))
            .all(|action| !matches!(action, Action::Tell { .. } | Action::Broken { .. }))
    );
}

#[test]
fn a_worker_where_nothing_starts_hands_back_and_leaves_saying_why() {
    let mut worker = Worker::new(worker::Config { programs: Programs::Own, ..worker::Config::default() });
    worker.handle(Time::ZERO, worker::Event::Joined { returned: false });
    drain(&mut worker);
    worker.handle(
        ms(0),
        tell(ToWorker::Declare { client: ClientId(1), spec: SpecIndex(0), what: Box::new(plain()) }),
    );
    worker.handle(ms(0), run(1, 1));
    let mut actions = Vec::new();
    for executor in 0..3 {
        worker.handle(ms(1_000 * executor), said(executor, ended()));
        actions.extend(drain(&mut worker));
        worker.handle_timeout(ms(1_000 * executor + 990));
        actions.extend(drain(&mut worker));
    }
    assert!(actions.iter().any(|action| matches!(action, Action::Broken { why } if why.contains("no room"))));
    assert!(actions.contains(&Action::Left));
    let returned = |a: &Action| matches!(a, Action::Tell { message: FromWorker::Returned { .. }, .. });
    assert!(actions.iter().any(returned), "{actions:?}");
}

#[test]
fn an_executor_that_never_gets_ready_is_killed_and_counted_as_not_starting() {
    let mut worker = Worker::new(worker::Config::default());
    worker.handle(Time::ZERO, worker::Event::Joined { returned: false });
    drain(&mut worker);
    let due = worker.poll_timeout().expect("its start has a deadline");
    worker.handle_timeout(due);
    assert_eq!(drain(&mut worker), [Action::Kill { executor: ExecutorId(0) }]);
    assert_eq!(worker.poll_timeout(), None, "it is not killed again and again");
    worker.handle(due, said(0, ended()));
    drain(&mut worker);
    assert!(worker.poll_timeout().is_some(), "another is started after a pause");
}

#[test]
fn a_leaving_worker_is_sent_nothing_more() {
    let now = Time::ZERO;
    let mut master = Master::new(master::Config::default());
    let config = worker::Config { slots: 2, start_early: false, ..worker::Config::default() };
    let mut worker = Worker::new(config);
    worker.handle(Time::ZERO, worker::Event::Joined { returned: false });
    let (program, text) = (ProgramId::default(), String::new());
    let (program_name, name) = (text.clone(), text);
    let joined = master::Event::WorkerJoined {
        worker: WorkerId(0),
        program,
        programs: Programs::Own,
        program_name,
        name,
        slots: 2,
        returned: false,
    };
    master.handle(now, joined);
    master.handle(now, master::Event::ClientJoined { client: ClientId(0), program, returned: false });
    let hear = |message| master::Event::ClientSaid { client: ClientId(0), message, body: Payload::new() };
    master.handle(now, hear(FromClient::Declare { spec: SpecIndex(0), what: Box::new(plain()) }));
    (1..=2)
        .for_each(|n| master.handle(now, hear(FromClient::Submit { task: TaskId(n), spec: SpecIndex(0) })));
    let settle = |master: &mut Master, worker: &mut Worker| {
        for _ in 0..1_000 {
            let mut any = false;
            while let Some(action) = master.poll_action() {
                any = true;
                if let master::Action::TellWorker { message, body, .. } = action {
                    worker.handle(now, worker::Event::MasterSaid { message, body });
                }
            }
            while let Some(action) = worker.poll_action() {
                any = true;
                if let Action::Tell { message, body } = action {
                    master.handle(now, master::Event::WorkerSaid { worker: WorkerId(0), message, body });
                }
            }
            if !any {
                return;
            }
        }
        panic!("master and worker never come to rest");
    };
    settle(&mut master, &mut worker);
    (0..2).for_each(|n| worker.handle(now, said(n, ExecutorSaid::Ready)));
    settle(&mut master, &mut worker);
    worker.handle(now, worker::Event::Leave);
    settle(&mut master, &mut worker);
    worker.handle(now, said(0, ended()));
    settle(&mut master, &mut worker);
}

#[test]
fn short_tasks_do_not_wait_behind_one_that_hangs() {
    let mut world = World::new();
    world.worker(2);
    let (a, b) = (world.client(), world.client());
    [a, b].iter().for_each(|client| world.declare(*client, plain()));
    for _ in 0..50 {
        world.submit(a, 0, Do::Return.args(0));
        world.submit(b, 0, Do::Return.args(0));
    }
    world.run();
    world.submit(a, 0, Do::Hang.args(0));
    let mut quick = Vec::new();
    for _ in 0..200 {
        quick.push((b, world.submit(b, 0, Do::Return.args(0))));
        quick.push((a, world.submit(a, 0, Do::Return.args(0))));
    }
    world.run_until(world.now + Duration::from_secs(60));
    assert!(quick.iter().all(|(client, task)| world.clients[*client].done.contains_key(task)));
}

#[test]
fn short_tasks_do_not_wait_behind_one_that_hangs_on_a_cluster() {
    let mut world = World::new();
    world.bundle = 64;
    (0..2).for_each(|_| assert!(world.worker(2) < 2));
    let client = world.client();
    world.declare(client, plain());
    for _ in 0..2_000 {
        world.submit(client, 0, Do::Return.args(0));
    }
    world.run();
    world.submit(client, 0, Do::Hang.args(0));
    let quick: Vec<TaskId> = (0..500).map(|_| world.submit(client, 0, Do::Return.args(0))).collect();
    world.run_until(world.now + Duration::from_secs(10));
    let missing = quick.iter().filter(|task| !world.clients[client].done.contains_key(task)).count();
    assert_eq!(missing, 0);
}

#[test]
fn a_short_task_behind_a_hung_one_moves_to_another_worker() {
    let mut world = World::new();
    world.worker(1);
    let client = world.client();
    world.declare(client, plain());
    for _ in 0..50 {
        world.submit(client, 0, Do::Return.args(0));
    }
    world.run();
    world.submit(client, 0, Do::Hang.args(0));
    let quick: Vec<TaskId> = (0..20).map(|_| world.submit(client, 0, Do::Return.args(0))).collect();
    world.run_until(world.now + Duration::from_millis(50));
    world.worker(1);
    world.run_until(world.now + Duration::from_secs(10));
    assert!(quick.iter().all(|task| world.clients[client].done.contains_key(task)));
}

#[test]
fn a_client_that_was_idle_has_saved_up_no_turns() {
    let mut world = World::new();
    world.worker(1);
    let (idler, busy) = (world.client(), world.client());
    [idler, busy].iter().for_each(|client| world.declare(*client, plain()));
    for _ in 0..1_000 {
        world.submit(busy, 0, Do::Return.args(100));
    }
    world.run_until(Time::ZERO + Duration::from_secs(30));
    let before = world.clients[busy].done.len();
    for _ in 0..1_000 {
        world.submit(idler, 0, Do::Return.args(100));
    }
    world.run_until(Time::ZERO + Duration::from_secs(60));
    let turns = world.clients[busy].done.len() - before;
    assert!((120..180).contains(&turns), "{turns} of 300 turns went to one of two clients");
}

#[test]
fn what_no_idle_worker_may_take_is_not_fetched_again_and_again() {
    let mut world = World::new();
    world.worker(1);
    let client = world.client();
    world.declare(client, plain());
    world.submit(client, 0, Do::Return.args(0));
    world.run();
    let message = FromWorker::Held { client: world.id(client), held: true };
    let held = master::Event::WorkerSaid { worker: WorkerId(0), message, body: Payload::new() };
    world.master.handle(world.now, held);
    world.worker(1);
    let long = world.submit(client, 0, Do::Return.args(20_000));
    let next = world.submit(client, 0, Do::Return.args(1));
    world.run();
    assert_eq!(world.class(client, long), Class::Ok);
    assert!(world.last_attempt(client, next) < 5, "{} attempts", world.last_attempt(client, next));
}

#[test]
fn an_acknowledgement_reaches_results_behind_those_that_were_acknowledged_before() {
    let mut worker = worker_of(1, plain());
    for task in 1..=5 {
        worker.handle(ms(0), run(1, task));
        drain(&mut worker);
        worker.handle(ms(0), said(0, done()));
        drain(&mut worker);
    }
    for tasks in [4, 5] {
        let (client, first, attempt) = (ClientId(1), TaskId(1), Attempt(1));
        worker.handle(ms(0), tell(ToWorker::Received { client, first, tasks, attempt }));
    }
    assert!(worker.is_quiet(), "the fifth is kept for ever");
}

#[test]
fn a_task_that_must_not_run_twice_does_not_when_its_worker_leaves_with_the_result() {
    let now = Time::ZERO;
    let mut master = Master::new(master::Config::default());
    let program = ProgramId::default();
    let client = ClientId(0);
    let join = |n| joined(n, false);
    master.handle(now, join(1));
    master.handle(now, master::Event::ClientJoined { client, program, returned: false });
    let hear = |message| master::Event::ClientSaid { client, message, body: Payload::new() };
    let what = Box::new(Spec { rerun: false, ..plain() });
    master.handle(now, hear(FromClient::Declare { spec: SpecIndex(0), what }));
    master.handle(now, hear(FromClient::Submit { task: TaskId(1), spec: SpecIndex(0) }));
    while master.poll_action().is_some() {}
    let say = |message| master::Event::WorkerSaid { worker: WorkerId(1), message, body: Payload::new() };
    master.handle(now, say(FromWorker::Waiting { client, task: TaskId(1), attempt: Attempt(1) }));
    master.handle(now, say(FromWorker::Leaving));
    master.handle(now, join(2));
    let sent = std::iter::from_fn(|| master.poll_action())
        .any(|action| matches!(action, master::Action::TellWorker { message: ToWorker::Run { .. }, .. }));
    assert!(!sent, "it has run");
}

/// The first attempt failed, and the word that the master had heard so was late; the second began on a worker that died
/// with that master.
#[test]
fn a_failure_that_a_former_master_may_have_followed_up_is_the_last_of_what_must_not_run_twice() {
    let client = ClientId(0);
    let member = |id, is_worker| master::Member { id, token: Default::default(), is_worker };
    let roster = vec![member(0, false), member(1, true), member(2, true)];
    let mut master = Master::new(master::Config { roster, ..master::Config::default() });
    let join = |n| joined(n, n == 1);
    let say = |message| master::Event::WorkerSaid { worker: WorkerId(1), message, body: Payload::new() };
    let hear = |message| master::Event::ClientSaid { client, message, body: Payload::new() };
    let (task, attempt) = (TaskId(1), Attempt(1));
    master.handle(ms(0), join(1));
    master.handle(ms(0), say(FromWorker::Have { client, task, attempt, doing: Doing::Done }));
    master.handle(ms(0), say(FromWorker::Accounted { client: None }));
    let program = ProgramId::default();
    master.handle(ms(0), master::Event::ClientJoined { client, program, returned: true });
    let what = Box::new(Spec { rerun: false, retries: 3, ..plain() });
    master.handle(ms(0), hear(FromClient::Declare { spec: SpecIndex(0), what }));
    master.handle(ms(0), hear(FromClient::Resubmit { task, spec: SpecIndex(0) }));
    master.handle(ms(0), hear(FromClient::Resubmitted { tasks: 1 }));
    let class = Class::Failed;
    master.handle(ms(0), say(FromWorker::Finished { client, task, attempt, class, micros: 1, output: 0 }));
    master.handle(ms(20_000), join(3));
    let (mut was_told, mut was_sent) = (false, false);
    while let Some(action) = master.poll_action() {
        was_told |= matches!(
            &action,
            master::Action::TellClient { message: ToClient::Finished { class: Class::Failed, .. }, .. }
        );
        was_sent |= matches!(&action, master::Action::TellWorker { message: ToWorker::Run { .. }, .. });
    }
    assert!(!was_sent, "the second attempt may have begun");
    assert!(was_told);
}

#[test]
fn what_shares_an_executor_is_not_said_to_run() {
    let mut worker = worker_of(1, plain());
    worker.handle(ms(0), run(1, 1));
    drain(&mut worker);
    worker.handle(ms(1), said(0, done()));
    drain(&mut worker);
    let said_to_run = |worker: &mut Worker, time| {
        worker.handle(time, worker::Event::MasterLost);
        worker.handle(time, worker::Event::Joined { returned: true });
        let is_it = |action: &Action| {
            matches!(action, Action::Tell { message: FromWorker::Have { doing: Doing::Running, .. }, .. })
        };
        drain(worker).iter().filter(|action| is_it(action)).count()
    };
    (2..=3).for_each(|task| worker.handle(ms(2), run(1, task)));
    drain(&mut worker);
    assert_eq!(said_to_run(&mut worker, ms(3)), 0, "either may be the one that runs");
    worker.handle(ms(13), said(0, ExecutorSaid::NotStarted { tasks: 1 }));
    assert_eq!(said_to_run(&mut worker, ms(14)), 1);
}

#[test]
fn a_worker_that_is_lost_counts_once_against_what_was_sent_to_it_twice() {
    let mut master = Master::new(master::Config::default());
    let (program, client) = (ProgramId::default(), ClientId(0));
    let join = |n| joined(n, false);
    let hear = |message| master::Event::ClientSaid { client, message, body: Payload::new() };
    let pass = |master: &mut Master, until: Time| {
        let mut actions = Vec::new();
        while let Some(due) = master.poll_timeout().filter(|due| *due <= until) {
            master.handle_timeout(due);
            actions.extend(std::iter::from_fn(|| master.poll_action()));
        }
        actions
    };
    master.handle(ms(0), join(1));
    master.handle(ms(0), master::Event::ClientJoined { client, program, returned: false });
    master.handle(ms(0), hear(FromClient::Declare { spec: SpecIndex(0), what: Box::new(plain()) }));
    master.handle(ms(0), hear(FromClient::Submit { task: TaskId(1), spec: SpecIndex(0) }));
    // Suspected, it has its task called back; heard again, it is sent it again; then it is lost.
    pass(&mut master, ms(2_500));
    master.handle(ms(2_600), master::Event::WorkerHeard { worker: WorkerId(1) });
    pass(&mut master, ms(4_000));
    pass(&mut master, ms(20_000));
    master.handle(ms(20_000), join(2));
    let run = std::iter::from_fn(|| master.poll_action()).find_map(|action| match action {
        master::Action::TellWorker { worker, message: ToWorker::Run { task, attempt, .. }, .. } => {
            Some((worker, task, attempt))
        }
        _ => None,
    });
    let Some((worker, task, attempt)) = run else { panic!("it is sent to the other") };
    assert_eq!((worker, attempt), (WorkerId(2), Attempt(3)), "it was sent twice to the first");
    let message = FromWorker::Finished { client, task, attempt, class: Class::Ok, micros: 1, output: 0 };
    master.handle(ms(20_001), master::Event::WorkerSaid { worker, message, body: Payload::new() });
    let attempts = std::iter::from_fn(|| master.poll_action()).find_map(|action| match action {
        master::Action::TellClient { message: ToClient::Finished { attempts, .. }, .. } => Some(attempts),
        _ => None,
    });
    assert_eq!(attempts, Some(1), "nothing is known to have run on the one that was lost");
}

#[test]
fn clients_of_two_programs_whose_shared_value_cannot_be_kept_both_get_their_tasks_back() {
    let share = ShareId::default();
    let mut worker = worker_of(1, Spec { shares: vec![share], ..plain() });
    let (client, program) = (ClientId(2), ProgramId([9; 16]));
    let meet = ToWorker::Meet { client, program, setting: SettingId(0), output: Output::None };
    worker.handle(ms(0), tell(meet));
    let what = Box::new(Spec { shares: vec![share], ..plain() });
    worker.handle(ms(0), tell(ToWorker::Declare { client, spec: SpecIndex(0), what }));
    [1, 2].iter().for_each(|client| worker.handle(ms(0), run(*client, 1)));
    drain(&mut worker);
    let result = Err(worker::NoShare::Here("the disk is full".to_owned()));
    worker.handle(ms(1), worker::Event::Shared { share, result });
    let came_back = drain(&mut worker)
        .into_iter()
        .filter(|action| matches!(action, Action::Tell { message: FromWorker::Returned { .. }, .. }));
    assert_eq!(came_back.count(), 2);
}

/// Two masters, one after the other, had given the same attempt to two workers; both failed.
#[test]
fn of_two_failures_of_one_attempt_the_one_that_was_let_go_is_not_waited_for() {
    let client = ClientId(0);
    let member = |id, is_worker| master::Member { id, token: Default::default(), is_worker };
    let roster = vec![member(0, false), member(1, true), member(2, true)];
    for order in [[1, 2], [2, 1]] {
        let mut master = Master::new(master::Config { roster: roster.clone(), ..master::Config::default() });
        let say =
            |n, message| master::Event::WorkerSaid { worker: WorkerId(n), message, body: Payload::new() };
        let hear = |message| master::Event::ClientSaid { client, message, body: Payload::new() };
        let (task, attempt, program) = (TaskId(1), Attempt(1), ProgramId::default());
        for n in order {
            let joined = joined(n, true);
            master.handle(ms(0), joined);
            master.handle(ms(0), say(n, FromWorker::Have { client, task, attempt, doing: Doing::Done }));
            master.handle(ms(0), say(n, FromWorker::Accounted { client: None }));
        }
        master.handle(ms(0), master::Event::ClientJoined { client, program, returned: true });
        for n in [1, 2] {
            let class = Class::Failed;
            master.handle(
                ms(0),
                say(n, FromWorker::Finished { client, task, attempt, class, micros: 1, output: 0 }),
            );
        }
        master.handle(ms(0), hear(FromClient::Declare { spec: SpecIndex(0), what: Box::new(plain()) }));
        master.handle(ms(0), hear(FromClient::Resubmit { task, spec: SpecIndex(0) }));
        let is_told = |action: master::Action| {
            matches!(action, master::Action::TellClient { message: ToClient::Finished { .. }, .. })
        };
        assert!(std::iter::from_fn(|| master.poll_action()).any(is_told), "{order:?}");
    }
}

#[test]
fn what_was_cancelled_before_it_was_handed_in_again_does_not_run() {
    let client = ClientId(0);
    let roster = vec![master::Member { id: 0, token: Default::default(), is_worker: false }];
    let mut master = Master::new(master::Config { roster, ..master::Config::default() });
    let hear = |message| master::Event::ClientSaid { client, message, body: Payload::new() };
    let (task, program) = (TaskId(1), ProgramId::default());
    let joined = joined(1, false);
    master.handle(ms(0), joined);
    master.handle(ms(0), master::Event::ClientJoined { client, program, returned: true });
    master.handle(ms(0), hear(FromClient::Declare { spec: SpecIndex(0), what: Box::new(plain()) }));
    // That goes on both lanes; what is long, on the other only.
    master.handle(ms(0), hear(FromClient::Cancel { task }));
    master.handle(ms(0), hear(FromClient::Resubmit { task, spec: SpecIndex(0) }));
    master.handle(ms(0), hear(FromClient::Resubmitted { tasks: 1 }));
    master.handle_timeout(ms(30_000));
    let is_run = |action: master::Action| {
        matches!(action, master::Action::TellWorker { message: ToWorker::Run { .. }, .. })
    };
    assert!(!std::iter::from_fn(|| master.poll_action()).any(is_run));
}
