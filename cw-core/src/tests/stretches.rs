//! A master that keeps stretches of tasks says the very same as one that keeps each task by itself, whatever happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    desk::{CLIENT, Desk},
    world::plain,
};
use crate::{
    Payload, Time,
    ids::{Attempt, ClientId, JobIndex, ProgramId, SpecIndex, TaskId, WorkerId},
    master::{Action, Config, Event, Master},
    wire::{
        Class, Doing, FromClient, FromWorker, Programs, Returned, Spec, ToClient, ToWorker, Window, put_done,
        singles,
    },
};

type Named = (ClientId, TaskId);

/// Two masters that hear the same, and what their peers have.
struct Twins {
    whole: Master,
    single: Master,
    now: Time,
    state: u64,
    /// What each worker has, by what it was told, and whether it has a connection.
    workers: BTreeMap<WorkerId, (BTreeMap<Named, Attempt>, bool)>,
    /// What each client has no result of, and whether it has a connection.
    clients: BTreeMap<ClientId, (BTreeMap<TaskId, SpecIndex>, bool)>,
    next: u64,
    /// How many were sent, and passed on, in bursts of several.
    together: [u32; 2],
}

fn specs() -> [Spec; 4] {
    let spec = |job| Spec { job: JobIndex(job), retries: 1, ..plain() };
    [
        spec(0),
        Spec { priority: 1, ..spec(1) },
        Spec { speculate: true, ..spec(2) },
        Spec { rerun: false, ..spec(3) },
    ]
}

fn alike(actions: impl Iterator<Item = Action>) -> Vec<Action> {
    let parts = |action| match action {
        Action::TellClient { client, message, body } => singles(&message, &body)
            .into_iter()
            .map(|(message, body)| Action::TellClient { client, message, body })
            .collect(),
        Action::TellWorker { worker, message, body } => singles(&message, &body)
            .into_iter()
            .map(|(message, body)| Action::TellWorker { worker, message, body })
            .collect(),
        other => vec![other],
    };
    actions.flat_map(parts).collect()
}

fn args(tasks: u64, mut length: impl FnMut() -> usize) -> Payload {
    let mut body = Vec::new();
    for task in 0..tasks {
        let length = length();
        match u8::try_from(length) {
            Ok(short) if short < 0x80 => body.push(short),
            _ => body.extend([length as u8 | 0x80, (length >> 7) as u8]),
        }
        body.extend(std::iter::repeat_n(task as u8, length));
    }
    body.into()
}

impl Twins {
    fn new(seed: u64) -> Self {
        let window = Window { tasks: if seed.is_multiple_of(4) { 150 } else { 16_384 }, bytes: 1 << 20 };
        let prefetch_bytes = if seed.is_multiple_of(3) { 200 } else { 32 << 20 };
        let config = |stretch_tasks| Config { stretch_tasks, window, prefetch_bytes, ..Config::default() };
        let mut twins = Self {
            whole: Master::new(config(2)),
            single: Master::new(config(u32::MAX)),
            now: Time::ZERO,
            state: seed,
            workers: BTreeMap::new(),
            clients: BTreeMap::new(),
            next: 0,
            together: [0; 2],
        };
        (0..2).for_each(|client| twins.client(ClientId(client)));
        (2..5).for_each(|worker| twins.worker(WorkerId(worker), false));
        twins
    }

    fn below(&mut self, below: u64) -> u64 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) % below
    }

    fn tell(&mut self, event: Event) {
        self.whole.handle(self.now, event.clone());
        self.single.handle(self.now, event);
    }

    fn worker(&mut self, worker: WorkerId, returned: bool) {
        let (program, programs, slots) = (ProgramId::default(), Programs::Own, worker.0 % 3 + 1);
        let (program_name, name) = (String::new(), format!("node{worker}"));
        self.tell(Event::WorkerJoined { worker, program, programs, program_name, name, slots, returned });
        self.workers.entry(worker).or_default().1 = true;
    }

    fn client(&mut self, client: ClientId) {
        self.tell(Event::ClientJoined { client, program: ProgramId::default(), returned: false });
        // Not all of them have what must not run twice.
        let known = if client.0.is_multiple_of(2) { 4 } else { 3 };
        for (spec, what) in (0..known).zip(specs()) {
            self.client_says(client, FromClient::Declare { spec: SpecIndex(spec), what: Box::new(what) });
        }
        self.clients.insert(client, (BTreeMap::new(), true));
    }

    fn client_says(&mut self, client: ClientId, message: FromClient) {
        self.tell(Event::ClientSaid { client, message, body: Payload::new() });
    }

    fn worker_says(&mut self, worker: WorkerId, message: FromWorker, body: Payload) {
        self.tell(Event::WorkerSaid { worker, message, body });
    }

    fn drain(&mut self) {
        let whole: Vec<Action> = std::iter::from_fn(|| self.whole.poll_action()).collect();
        for action in &whole {
            match action {
                Action::TellWorker { message: ToWorker::Runs { tasks, .. }, .. } => self.together[0] += tasks,
                Action::TellClient { message: ToClient::Finishes { tasks, .. }, .. } => {
                    self.together[1] += tasks;
                }
                _ => {}
            }
        }
        let whole = alike(whole.into_iter());
        let single = alike(std::iter::from_fn(|| self.single.poll_action()));
        assert_eq!(whole, single);
        self.whole.check();
        self.single.check();
        assert_eq!(self.whole.standing(), self.single.standing());
        assert_eq!(self.whole.poll_timeout(), self.single.poll_timeout());
        whole.into_iter().for_each(|action| self.does(action));
    }

    fn does(&mut self, action: Action) {
        match action {
            Action::TellWorker { worker, message: ToWorker::Run { client, task, attempt, .. }, .. } => {
                self.workers.entry(worker).or_default().0.insert((client, task), attempt);
            }
            Action::TellWorker { worker, message: ToWorker::Cancel { client, task, attempt }, .. } => {
                self.called_back(worker, (client, task), attempt);
            }
            Action::TellClient { client, message: ToClient::Finished { task, .. }, .. } => {
                self.clients.entry(client).or_default().0.remove(&task);
            }
            Action::DisconnectWorker { worker, .. } => {
                self.workers.insert(worker, Default::default());
            }
            _ => {}
        }
    }

    fn called_back(&mut self, worker: WorkerId, (client, task): Named, attempt: Attempt) {
        if self.workers.entry(worker).or_default().0.remove(&(client, task)).is_some() {
            let message = FromWorker::Returned { client, task, attempt, why: Returned::NotStarted };
            self.worker_says(worker, message, Payload::new());
        }
    }

    fn submit(&mut self, client: ClientId) {
        let most = [3, 20, 200][self.below(3) as usize];
        let (tasks, skipped) = (1 + self.below(most), self.below(3));
        let first = if self.below(20) == 0 { self.below(self.next + 1) } else { self.next + skipped };
        self.next = self.next.max(first + tasks);
        let spec = SpecIndex(
            [0, 0, 0, 1, 2, 3][self.below(6) as usize] % if client.0.is_multiple_of(2) { 4 } else { 3 },
        );
        let long = if self.below(8) == 0 { 300 } else { 4 };
        let body = args(tasks, || self.below(long) as usize);
        let open = &mut self.clients.get_mut(&client).unwrap().0;
        open.extend((first..first + tasks).map(|task| (TaskId(task), spec)));
        let tasks = u32::try_from(tasks).unwrap();
        self.tell(Event::ClientSaid {
            client,
            message: FromClient::Submits { first: TaskId(first), tasks, spec },
            body,
        });
    }

    /// Tasks in a row that a worker has, from any on.
    fn some_of(&mut self, worker: WorkerId) -> Option<(ClientId, TaskId, Attempt, u32)> {
        let count = self.workers[&worker].0.len() as u64;
        let skip = if self.below(3) == 0 { self.below(count.max(1)) } else { 0 };
        let most = [1, 5, 300][self.below(3) as usize];
        let mut there = self.workers[&worker].0.iter().skip(skip as usize);
        let ((client, first), attempt) = there.next().map(|(of, attempt)| (*of, *attempt))?;
        let follows = |n: u64| Some(&attempt) == self.workers[&worker].0.get(&(client, TaskId(first.0 + n)));
        let tasks = (1..most).take_while(|n| follows(*n)).count() + 1;
        Some((client, first, attempt, u32::try_from(tasks).unwrap()))
    }

    fn finish(&mut self, worker: WorkerId) {
        let Some((client, first, attempt, tasks)) = self.some_of(worker) else { return };
        let there = &mut self.workers.get_mut(&worker).unwrap().0;
        there.retain(|(of, task), _| {
            *of != client || !(first.0..first.0 + u64::from(tasks)).contains(&task.0)
        });
        let slow = if self.below(30) == 0 { 30_000 } else { 20 };
        if tasks == 1 {
            let (micros, class) =
                (self.below(slow), if self.below(9) == 0 { Class::Failed } else { Class::Ok });
            let message = FromWorker::Finished { client, task: first, attempt, class, micros, output: 0 };
            return self.worker_says(worker, message, Payload::from_static(b"one"));
        }
        let mut body = bytes::BytesMut::new();
        (0..tasks).for_each(|_| put_done(self.below(slow), b"result", &mut body));
        let message = FromWorker::Finishes { client, first, tasks, attempt };
        self.worker_says(worker, message, body.freeze().into());
    }

    /// A worker speaks of one of its tasks as of no other.
    fn speak(&mut self, worker: WorkerId) {
        let Some((client, task, attempt, _)) = self.some_of(worker) else { return };
        let message = match self.below(5) {
            0 => FromWorker::Started { client, task, attempt },
            1 => FromWorker::Waiting { client, task, attempt },
            2 => FromWorker::Progress { client, task, attempt, thousandths: 5 },
            3 => FromWorker::Output { client, task, attempt, from: 0 },
            _ => {
                self.workers.get_mut(&worker).unwrap().0.remove(&(client, task));
                FromWorker::Returned { client, task, attempt, why: Returned::NotStarted }
            }
        };
        self.worker_says(worker, message, Payload::new());
    }

    /// Something that is not true.
    fn lie(&mut self, worker: WorkerId, client: ClientId) {
        let (first, tasks) = (TaskId(self.below(self.next + 1)), 1 + self.below(50) as u32);
        let attempt = Attempt(1 + self.below(2) as u32);
        let mut body = bytes::BytesMut::new();
        (0..tasks + self.below(2) as u32).for_each(|_| put_done(1, b"lie", &mut body));
        self.worker_says(
            worker,
            FromWorker::Finishes { client, first, tasks, attempt },
            body.freeze().into(),
        );
    }

    fn break_worker(&mut self, worker: WorkerId) {
        self.tell(Event::WorkerLost { worker });
        self.workers.get_mut(&worker).unwrap().1 = false;
    }

    /// It still has what it had, but for some of that.
    fn come_back(&mut self, worker: WorkerId) {
        self.worker(worker, true);
        let all: Vec<(Named, Attempt)> = self.workers[&worker].0.iter().map(|(of, it)| (*of, *it)).collect();
        for ((client, task), attempt) in all {
            if self.below(10) == 0 {
                self.workers.get_mut(&worker).unwrap().0.remove(&(client, task));
                continue;
            }
            let doing = if self.below(4) == 0 { Doing::Running } else { Doing::Waiting };
            self.worker_says(worker, FromWorker::Have { client, task, attempt, doing }, Payload::new());
        }
        self.worker_says(worker, FromWorker::Accounted { client: None }, Payload::new());
    }

    fn client_back(&mut self, client: ClientId) {
        self.tell(Event::ClientJoined { client, program: ProgramId::default(), returned: true });
        let open = self.clients[&client].0.clone();
        for (task, spec) in &open {
            self.client_says(client, FromClient::Resubmit { task: *task, spec: *spec });
        }
        self.client_says(client, FromClient::Resubmitted { tasks: open.len() as u64 });
        self.clients.get_mut(&client).unwrap().1 = true;
    }

    fn step(&mut self) {
        let worker = WorkerId(2 + self.below(3) as u32);
        let which = self.below(2) as usize;
        let client = *self.clients.keys().nth(which).unwrap();
        let (is_there, is_here) = (self.workers[&worker].1, self.clients[&client].1);
        match self.below(400) {
            0..60 if is_here => self.submit(client),
            60..300 if is_there => self.finish(worker),
            300..305 if is_there => self.speak(worker),
            305..308 if is_here => {
                let task = TaskId(self.below(self.next + 1));
                self.clients.get_mut(&client).unwrap().0.remove(&task);
                self.client_says(client, FromClient::Cancel { task });
            }
            308 if is_there => self.lie(worker, client),
            309 if is_there => self.break_worker(worker),
            310..330 if !is_there => self.come_back(worker),
            330 if is_here => {
                self.tell(Event::ClientLost { client });
                self.clients.get_mut(&client).unwrap().1 = false;
            }
            331..350 if !is_here => self.client_back(client),
            350 if is_here && self.below(4) == 0 => {
                self.client_says(client, FromClient::Leave);
                self.clients.remove(&client);
                self.client(ClientId(client.0 + 2 * u32::from(client.0 < 100) * 5));
            }
            351 if is_here => {
                self.client_says(client, FromClient::Watch { on: self.state.is_multiple_of(2) })
            }
            352 if is_there && self.below(10) == 0 => {
                self.worker_says(worker, FromWorker::Leaving, Payload::new())
            }
            _ => self.pass(),
        }
    }

    fn pass(&mut self) {
        let long = if self.below(60) == 0 { 2_000_000 } else { 500 };
        self.now = self.now + Duration::from_micros(self.below(long));
        let heard: BTreeSet<WorkerId> =
            self.workers.iter().filter(|(_, (_, is_there))| *is_there).map(|(id, _)| *id).collect();
        heard.into_iter().for_each(|worker| self.tell(Event::WorkerHeard { worker }));
        if self.whole.poll_timeout().is_some_and(|due| due <= self.now) {
            self.whole.handle_timeout(self.now);
            self.single.handle_timeout(self.now);
        }
    }
}

#[test]
fn whether_tasks_are_kept_together_is_nobody_elses_business() {
    let mut together = [0; 2];
    for seed in 0..100 {
        let mut twins = Twins::new(seed);
        for _ in 0..600 {
            twins.step();
            twins.drain();
        }
        together = [together[0] + twins.together[0], together[1] + twins.together[1]];
    }
    assert!(together.iter().all(|tasks| *tasks > 50_000), "{together:?}");
}

/// A client's first task has taken a microsecond; it hands in 40 more at once.
fn burst_of_40(desk: &mut Desk) -> Payload {
    let body = args(40, || 30);
    let message = FromClient::Submits { first: TaskId(1), tasks: 40, spec: SpecIndex(0) };
    desk.handle(Event::ClientSaid { client: CLIENT, message, body: body.clone() });
    body
}

/// A desk whose client knows what a task takes, and a worker that has room for all that comes.
fn desk() -> Desk {
    let mut desk = Desk::new();
    desk.client(false, plain());
    desk.worker_of(1, 64, false);
    desk.submit(0..1);
    desk.ended(1, 0, 1, Class::Ok);
    desk.done.clear();
    desk
}

/// The tasks that were sent, burst by burst.
fn runs(desk: &Desk) -> Vec<(u64, u32)> {
    let runs = desk.done.iter().filter_map(|action| match action {
        Action::TellWorker { message: ToWorker::Runs { first, tasks, .. }, .. } => Some((first.0, *tasks)),
        Action::TellWorker { message: ToWorker::Run { task, .. }, .. } => Some((task.0, 1)),
        _ => None,
    });
    runs.collect()
}

#[test]
fn bytes_are_passed_on_as_they_came() {
    let mut desk = desk();
    let came = burst_of_40(&mut desk);
    assert_eq!(runs(&desk), [(1, 40)]);
    let mut ends = bytes::BytesMut::new();
    (0..40).for_each(|_| put_done(1, &[7; 30], &mut ends));
    let ends = Payload::from(ends.freeze());
    let message = FromWorker::Finishes { client: CLIENT, first: TaskId(1), tasks: 40, attempt: Attempt(1) };
    desk.handle(Event::WorkerSaid { worker: WorkerId(1), message, body: ends.clone() });
    let bodies = desk.done.iter().filter_map(|action| match action {
        Action::TellWorker { message: ToWorker::Runs { .. }, body, .. }
        | Action::TellClient { message: ToClient::Finishes { .. }, body, .. } => Some(body.as_ptr()),
        _ => None,
    });
    assert_eq!(bodies.collect::<Vec<_>>(), [came.as_ptr(), ends.as_ptr()]);
    assert!(desk.master.is_quiet());
}

#[test]
fn what_is_cancelled_while_it_waits_is_not_sent_and_all_others_are_in_order() {
    let mut desk = desk();
    desk.worker_says(1, FromWorker::Leaving);
    burst_of_40(&mut desk);
    desk.client_says(FromClient::Cancel { task: TaskId(20) });
    desk.worker_of(2, 64, false);
    assert_eq!(runs(&desk), [(1, 19), (21, 20)]);
}

#[test]
fn what_failed_in_the_middle_leaves_the_others_to_end_well() {
    let mut desk = desk();
    burst_of_40(&mut desk);
    desk.ended(1, 20, 1, Class::Failed);
    let mut ends = bytes::BytesMut::new();
    (0..20).for_each(|_| put_done(1, b"", &mut ends));
    let ends = Payload::from(ends.freeze());
    for (first, tasks) in [(21, 20), (1, 19)] {
        let message =
            FromWorker::Finishes { client: CLIENT, first: TaskId(first), tasks, attempt: Attempt(1) };
        let body = ends.part(0..2 * tasks as usize);
        desk.handle(Event::WorkerSaid { worker: WorkerId(1), message, body });
    }
    assert!(desk.master.is_quiet());
    let ends = desk.done.iter().filter_map(|action| match action {
        Action::TellClient { message: ToClient::Finishes { first, tasks, .. }, .. } => {
            Some((first.0, *tasks))
        }
        _ => None,
    });
    assert_eq!(ends.collect::<Vec<_>>(), [(21, 20), (1, 19)]);
    assert_eq!(desk.passed().iter().filter(|(class, _)| *class == Class::Failed).count(), 1);
}
