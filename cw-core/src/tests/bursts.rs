//! What a worker is told, and tells, of many tasks at once is what it would be of each.

use std::collections::{BTreeMap, VecDeque};

use bytes::BytesMut;

use super::world::plain;
use crate::{
    Payload, Time,
    ids::{Attempt, ClientId, ExecutorId, ShareId, SpecIndex, TaskId},
    wire::{Class, Ending, FromWorker, Returned, Spec, ToExecutor, ToWorker, put_done, singles},
    worker::{Action, Config, Event, ExecutorSaid, Worker},
};

const CLIENT: ClientId = ClientId(1);

fn args(count: u64) -> Payload {
    let entries = (0..count).flat_map(|n| [1, n as u8]);
    entries.collect::<Vec<u8>>().into()
}

fn runs(client: ClientId, first: u64, tasks: u32, attempt: u32, spec: u32) -> Event {
    let (first, attempt, spec) = (TaskId(first), Attempt(attempt), SpecIndex(spec));
    let message = ToWorker::Runs { client, first, tasks, attempt, spec };
    Event::MasterSaid { message, body: args(tasks.into()) }
}

fn says(message: ToWorker) -> Event {
    Event::MasterSaid { message, body: Payload::new() }
}

fn dones(executor: ExecutorId, micros: &[u64]) -> Event {
    let mut body = BytesMut::new();
    micros.iter().for_each(|micros| put_done(*micros, b"r", &mut body));
    let said = ExecutorSaid::Dones { tasks: micros.len() as u32, body: body.freeze().into() };
    Event::ExecutorSaid { executor, said }
}

fn ended(executor: ExecutorId) -> Event {
    let (ending, hint, stderr, output) = (Ending::Signal(9), None, String::new(), Payload::new());
    let said = ExecutorSaid::Ended { ending, hint, stderr, output, worker: "w".to_owned() };
    Event::ExecutorSaid { executor, said }
}

fn received(first: u64, tasks: u32) -> Event {
    says(ToWorker::Received { client: CLIENT, first: TaskId(first), tasks, attempt: Attempt(1) })
}

/// A worker with a client, which has had one short task.
struct Warm(Worker);

impl Warm {
    fn new(credit: u64) -> Self {
        let mut it = Self(Worker::new(Config { idle_time: None, ..Config::default() }));
        it.hear(Event::Joined { returned: false });
        it.hear(says(ToWorker::Declare { client: CLIENT, spec: SpecIndex(0), what: Box::new(plain()) }));
        it.hear(says(ToWorker::Credit { client: CLIENT, bytes: credit }));
        it.hear(Event::ExecutorSaid { executor: ExecutorId(0), said: ExecutorSaid::Ready });
        it.hear(runs(CLIENT, 0, 1, 1, 0));
        it.hear(dones(ExecutorId(0), &[1]));
        it.hear(received(0, 1));
        assert!(it.0.is_quiet());
        it
    }

    /// Takes in what happened; gives what is done.
    fn hear(&mut self, event: Event) -> Vec<Action> {
        self.0.handle(Time::ZERO, event);
        std::iter::from_fn(|| self.0.poll_action()).collect()
    }

    /// What it tells the master, burst or not.
    fn told(&mut self, event: Event) -> Vec<FromWorker> {
        let told = self.hear(event).into_iter().filter_map(|action| match action {
            Action::Tell { message, .. } => Some(message),
            _ => None,
        });
        told.collect()
    }
}

fn returned(tasks: impl IntoIterator<Item = u64>, why: Returned) -> Vec<FromWorker> {
    let one = |task| FromWorker::Returned { client: CLIENT, task: TaskId(task), attempt: Attempt(1), why };
    tasks.into_iter().map(one).collect()
}

#[test]
fn a_burst_goes_through_as_it_came() {
    let mut worker = Warm::new(1 << 20);
    let fed = worker.hear(runs(CLIENT, 1, 101, 1, 0));
    let [Action::Feed { message: ToExecutor::Runs { first: TaskId(1), tasks: 101, .. }, body, .. }] =
        &fed[..]
    else {
        panic!("{fed:?}")
    };
    assert_eq!(*body, args(101));
    let told = worker.hear(dones(ExecutorId(0), &[1; 101]));
    let [Action::Tell { message: FromWorker::Finishes { first: TaskId(1), tasks: 101, .. }, .. }] = told[..]
    else {
        panic!("{told:?}")
    };
    worker.hear(received(1, 50));
    assert!(!worker.0.is_quiet());
    worker.hear(received(51, 51));
    assert!(worker.0.is_quiet());
}

#[test]
fn a_burst_of_tasks_with_a_shared_value_goes_through_as_it_came_once_the_value_is_here() {
    let mut worker = Warm::new(1 << 20);
    let (share, spec) = (ShareId([5; 32]), SpecIndex(1));
    let what = Box::new(Spec { shares: vec![share], ..plain() });
    worker.hear(says(ToWorker::Declare { client: CLIENT, spec, what }));
    let fed = worker.hear(runs(CLIENT, 1, 101, 1, 1));
    assert!(!fed.iter().any(|it| matches!(it, Action::Feed { .. })), "nothing before it is here: {fed:?}");
    let fed = worker.hear(Event::Shared { share, result: Ok(Payload::from_static(b"/there")) });
    assert!(matches!(fed[0], Action::Feed { message: ToExecutor::Share { .. }, .. }), "{fed:?}");
    (0..101).for_each(|_| assert!(!worker.hear(dones(ExecutorId(0), &[1])).is_empty()));
    worker.hear(received(1, 101));
    assert!(worker.0.is_quiet());
    let fed = worker.hear(runs(CLIENT, 200, 101, 1, 1));
    let [Action::Feed { message: ToExecutor::Runs { first: TaskId(200), tasks: 101, .. }, .. }] = &fed[..]
    else {
        panic!("{fed:?}")
    };
    let told = worker.told(dones(ExecutorId(0), &[1; 101]));
    assert!(matches!(told[..], [FromWorker::Finishes { tasks: 101, .. }]), "{told:?}");
}

#[test]
fn what_is_asked_back_of_a_burst_is_what_came_last() {
    let mut worker = Warm::new(1 << 20);
    worker.hear(runs(CLIENT, 1, 1_800, 1, 0));
    let mut told = worker.told(says(ToWorker::Recall { tasks: 3 }));
    assert_eq!(told.pop(), Some(FromWorker::Recalled));
    assert_eq!(told, returned([1_800, 1_799, 1_798], Returned::Recalled));
    let cancel = |task| says(ToWorker::Cancel { client: CLIENT, task: TaskId(task), attempt: Attempt(1) });
    assert_eq!(worker.told(cancel(1_700)), returned([1_700], Returned::NotStarted));
    assert_eq!(worker.told(cancel(1_700)), []);
}

#[test]
fn of_a_burst_that_was_fed_each_task_is_under_suspicion() {
    let mut worker = Warm::new(1 << 20);
    worker.hear(runs(CLIENT, 1, 100, 1, 0));
    worker.hear(dones(ExecutorId(0), &[1; 30]));
    let cancel = says(ToWorker::Cancel { client: CLIENT, task: TaskId(60), attempt: Attempt(1) });
    assert_eq!(worker.told(cancel), [], "its turn will come");
    let mut told = worker.told(ended(ExecutorId(0)));
    let cancelled = told.remove(29);
    assert_eq!(cancelled, returned([60], Returned::Cancelled)[0]);
    assert_eq!(told, returned((31..101).filter(|task| *task != 60), Returned::Suspect));
}

#[test]
fn results_beyond_the_credit_wait_though_they_came_with_others() {
    let mut worker = Warm::new(65 * 8);
    worker.hear(runs(CLIENT, 1, 20, 1, 0));
    let told = worker.told(dones(ExecutorId(0), &[1; 5]));
    assert!(matches!(told[..], [FromWorker::Finishes { tasks: 5, .. }]), "{told:?}");
    let told = worker.told(dones(ExecutorId(0), &[1; 5]));
    assert!(matches!(told[0], FromWorker::Finishes { first: TaskId(6), tasks: 3, .. }), "{told:?}");
    assert!(matches!(told[1..], [FromWorker::Waiting { .. }, FromWorker::Waiting { .. }]), "{told:?}");
    let told = worker.told(received(1, 2));
    assert!(matches!(told[..], [FromWorker::Finishes { first: TaskId(9), tasks: 2, .. }]), "{told:?}");
}

#[test]
fn what_was_sent_as_a_burst_is_sent_again_to_the_next_master() {
    let mut worker = Warm::new(1 << 20);
    worker.hear(runs(CLIENT, 1, 20, 1, 0));
    worker.hear(dones(ExecutorId(0), &[1; 10]));
    worker.hear(received(1, 2));
    worker.hear(received(5, 1));
    worker.hear(Event::MasterLost);
    let told = worker.told(Event::Joined { returned: true });
    assert_eq!(told.iter().filter(|it| matches!(it, FromWorker::Have { .. })).count(), 17);
    let told = worker.told(says(ToWorker::Credit { client: CLIENT, bytes: 1 << 20 }));
    assert!(matches!(told[0], FromWorker::Finishes { first: TaskId(3), tasks: 2, .. }), "{told:?}");
    assert!(matches!(told[1], FromWorker::Finishes { first: TaskId(6), tasks: 5, .. }), "{told:?}");
}

#[test]
fn an_executor_that_says_less_than_it_announced_is_believed_as_far_as_it_goes() {
    let mut worker = Warm::new(1 << 20);
    worker.hear(runs(CLIENT, 1, 20, 1, 0));
    let body = Payload::from(vec![1, 0, 1, 0, 1]);
    let said = ExecutorSaid::Dones { tasks: 3, body };
    let told = worker.told(Event::ExecutorSaid { executor: ExecutorId(0), said });
    assert!(matches!(told[..], [FromWorker::Finishes { first: TaskId(1), tasks: 2, .. }]), "{told:?}");
    let told = worker.told(dones(ExecutorId(0), &[1; 30]));
    assert!(matches!(told[..], [FromWorker::Finishes { first: TaskId(3), tasks: 18, .. }]), "{told:?}");
}

#[test]
fn the_last_ids_there_can_be_are_no_burst() {
    let mut worker = Warm::new(1 << 20);
    worker.hear(runs(CLIENT, u64::MAX - 3, 4, 1, 0));
    let told = worker.told(dones(ExecutorId(0), &[1; 4]));
    assert!(matches!(told[..], [FromWorker::Finishes { tasks: 4, .. }]), "{told:?}");
}

/// Two workers of which one hears everything in bursts and the other of each task by itself.
struct Twins {
    many: Worker,
    single: Worker,
    state: u64,
    now: Time,
    next: u64,
    /// What executors have that live, or were started.
    fed: BTreeMap<ExecutorId, VecDeque<TaskId>>,
    starting: Vec<ExecutorId>,
    dying: Vec<ExecutorId>,
    fetching: Vec<ShareId>,
    /// How often a value was dropped that tasks had shared.
    dropped: usize,
    /// Results that were told.
    told: Vec<(ClientId, TaskId, Attempt)>,
    /// Of several tasks at once.
    bursts: usize,
}

/// A worker's actions by whom they are for, bursts taken apart.
#[derive(Debug, Default, PartialEq)]
struct Done {
    told: Vec<(FromWorker, Payload)>,
    fed: Vec<(ExecutorId, ToExecutor, Payload)>,
    others: Vec<Action>,
}

fn drain(worker: &mut Worker) -> Done {
    let mut done = Done::default();
    while let Some(action) = worker.poll_action() {
        match action {
            Action::Tell { message, body } => done.told.extend(singles(&message, &body)),
            Action::Feed { executor, message, body } => {
                done.fed.extend(singles(&message, &body).into_iter().map(|(it, body)| (executor, it, body)));
            }
            other => done.others.push(other),
        }
    }
    done
}

impl Twins {
    fn new(seed: u64) -> Self {
        let config = Config {
            slots: 2,
            batch_tasks: 12,
            held_bytes: 1_500,
            idle_time: None,
            start_failures: 1_000,
            share_time: std::time::Duration::from_millis(300),
            ..Config::default()
        };
        let mut it = Self {
            many: Worker::new(config.clone()),
            single: Worker::new(config),
            state: seed,
            now: Time::ZERO,
            next: 1,
            fed: BTreeMap::new(),
            starting: Vec::new(),
            dying: Vec::new(),
            fetching: Vec::new(),
            dropped: 0,
            told: Vec::new(),
            bursts: 0,
        };
        it.both(&Event::Joined { returned: false });
        for (client, spec, priority) in [(1, 0, 0), (1, 1, 1), (2, 0, 0), (2, 1, 0)] {
            let shares = vec![ShareId([client as u8; 32]); spec as usize];
            let what = Box::new(Spec { priority, shares, ..plain() });
            it.both(&says(ToWorker::Declare { client: ClientId(client), spec: SpecIndex(spec), what }));
        }
        it.step();
        it
    }

    fn random(&mut self, below: u64) -> u64 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % below
    }

    fn both(&mut self, event: &Event) {
        self.many.handle(self.now, event.clone());
        self.single.handle(self.now, event.clone());
    }

    fn apart(&mut self, many: Event, single: Vec<Event>) {
        self.bursts += usize::from(single.len() > 1);
        self.many.handle(self.now, many);
        single.into_iter().for_each(|event| self.single.handle(self.now, event));
    }

    /// Lets both do what they want, which must be the same.
    fn step(&mut self) {
        let (done, other) = (drain(&mut self.many), drain(&mut self.single));
        assert_eq!(done, other);
        self.many.check();
        for (message, _) in done.told {
            if let FromWorker::Finished { client, task, attempt, .. } = message {
                self.told.push((client, task, attempt));
            }
        }
        for (executor, message, _) in done.fed {
            let task = match message {
                ToExecutor::Run { task, .. } => task,
                ToExecutor::Share { .. } => continue,
                other => panic!("{other:?}"),
            };
            self.fed.get_mut(&executor).expect("it lives").push_back(task);
        }
        for action in done.others {
            match action {
                Action::Start { executor, .. } => {
                    self.fed.insert(executor, VecDeque::new());
                    self.starting.push(executor);
                }
                Action::Kill { executor } => self.dying.push(executor),
                Action::FetchShare { share, .. } => self.fetching.push(share),
                Action::DropShare { .. } => self.dropped += 1,
                other => panic!("{other:?}"),
            }
        }
    }

    fn any_client(&mut self) -> ClientId {
        ClientId(1 + self.random(2) as u32)
    }

    fn any_task(&mut self) -> u64 {
        let back = self.random(60);
        self.next.saturating_sub(back)
    }

    fn submit(&mut self) {
        let (client, count, spec) = (self.any_client(), 1 + self.random(20), self.random(2) as u32);
        let (first, attempt) = (self.next, 1);
        self.next += count + self.random(2);
        let many = runs(client, first, count as u32, attempt, spec);
        let Event::MasterSaid { message, body } = &many else { unreachable!() };
        let each =
            singles(message, body).into_iter().map(|(message, body)| Event::MasterSaid { message, body });
        let each = each.collect();
        self.apart(many, each);
    }

    fn finish(&mut self) {
        let Some((executor, most)) = self.any_busy() else { return };
        let count = 1 + self.random(most as u64);
        let micros: Vec<u64> =
            (0..count).map(|_| if self.random(200) == 0 { 9_000 } else { self.random(4) }).collect();
        let fed = self.fed.get_mut(&executor).expect("it is busy");
        drop(fed.drain(..count as usize));
        let each = micros.iter().map(|micros| {
            let (class, output, body) = (Class::Ok, 0, Payload::from_static(b"r"));
            Event::ExecutorSaid {
                executor,
                said: ExecutorSaid::Done { class, micros: *micros, output, body },
            }
        });
        self.apart(dones(executor, &micros), each.collect());
    }

    fn any_busy(&mut self) -> Option<(ExecutorId, usize)> {
        let busy: Vec<_> =
            self.fed.iter().filter(|(_, fed)| !fed.is_empty()).map(|(id, fed)| (*id, fed.len())).collect();
        let pick = self.random(busy.len().max(1) as u64) as usize;
        busy.get(pick).copied()
    }

    fn crash(&mut self, executor: ExecutorId) {
        self.fed.remove(&executor);
        self.starting.retain(|it| *it != executor);
        self.dying.retain(|it| *it != executor);
        self.both(&ended(executor));
    }

    fn acknowledge(&mut self) {
        if self.told.is_empty() {
            return;
        }
        let pick = if self.random(3) > 0 { 0 } else { self.random(self.told.len() as u64) as usize };
        let ((client, first, attempt), tasks) = (self.told[pick], 1 + self.random(20) as u32);
        let is_received = |task: TaskId| (first.0..first.0 + u64::from(tasks)).contains(&task.0);
        self.told.retain(|(of, task, other)| (*of, *other) != (client, attempt) || !is_received(*task));
        self.both(&says(ToWorker::Received { client, first, tasks, attempt }));
    }

    fn do_something(&mut self) {
        let (client, task) = (self.any_client(), TaskId(self.any_task()));
        match self.random(64) {
            0..20 => self.submit(),
            20..40 => self.finish(),
            40..50 => self.acknowledge(),
            50..52 => self.both(&says(ToWorker::Cancel { client, task, attempt: Attempt(1) })),
            52 => {
                let tasks = self.random(4) as u32;
                self.both(&says(ToWorker::Recall { tasks }));
            }
            53 => {
                let (below, tasks) = ([None, Some(1)][self.random(2) as usize], self.random(6) as u32);
                self.both(&says(ToWorker::MakeWay { client, below, tasks }));
            }
            54 => {
                if let Some((executor, fed)) = self.any_busy() {
                    let tasks = self.random(fed as u64);
                    drop(self.fed.get_mut(&executor).expect("it is busy").drain(1..=tasks as usize));
                    let said = ExecutorSaid::NotStarted { tasks: tasks as u32 };
                    self.both(&Event::ExecutorSaid { executor, said });
                }
            }
            55 => {
                if let Some((executor, _)) = self.any_busy() {
                    self.crash(executor);
                }
            }
            56..60 => {
                let bytes = self.random(6_000);
                self.both(&says(ToWorker::Credit { client, bytes }));
            }
            60 => self.both(&says(ToWorker::Account { client })),
            61 if self.random(4) == 0 => {
                self.both(&Event::MasterLost);
                self.step();
                self.told.clear();
                self.both(&Event::Joined { returned: true });
            }
            _ => self.get_on(),
        }
    }

    /// What was asked of processes comes to pass.
    fn get_on(&mut self) {
        self.now = self.now + std::time::Duration::from_millis(200);
        self.many.handle_timeout(self.now);
        self.single.handle_timeout(self.now);
        for executor in std::mem::take(&mut self.dying) {
            self.crash(executor);
        }
        for share in std::mem::take(&mut self.fetching) {
            self.both(&Event::Shared { share, result: Ok(Payload::from_static(b"/there")) });
        }
        for executor in std::mem::take(&mut self.starting) {
            self.both(&Event::ExecutorSaid { executor, said: ExecutorSaid::Ready });
        }
    }
}

#[test]
fn a_worker_does_with_a_burst_what_it_does_with_each_of_its_tasks() {
    let mut dropped = 0;
    for seed in 0..60 {
        let mut twins = Twins::new(seed);
        for _ in 0..1_500 {
            twins.do_something();
            if twins.random(3) > 0 {
                twins.step();
            }
        }
        twins.step();
        assert!(twins.bursts > 300, "seed {seed}: {}", twins.bursts);
        dropped += twins.dropped;
    }
    assert!(dropped > 60, "{dropped}: values come and go");
}
