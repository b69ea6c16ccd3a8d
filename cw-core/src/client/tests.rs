//! A client whose tasks are called together does what one does whose tasks are called one by one.

use bytes::BytesMut;

use super::*;
use crate::{
    ids::JobIndex,
    wire::{Class, Entry, Stretch, put_args, put_done, singles},
};

const WORKER: WorkerId = WorkerId(3);

fn spec(priority: i32, rerun: bool) -> Spec {
    Spec {
        job: JobIndex(0),
        retries: 0,
        crash_limit: 3,
        timeout: None,
        priority,
        loss_limit: 3,
        speculate: false,
        rerun,
        shares: Vec::new(),
        apart: false,
    }
}

fn args_of(task: u64) -> Vec<u8> {
    vec![task as u8; (task * 7 % 41) as usize]
}

fn ends(first: u64, tasks: u32, attempt: u32) -> Event {
    let mut body = BytesMut::new();
    (first..first + u64::from(tasks)).for_each(|task| put_done(task * 9, &args_of(task), &mut body));
    let first = TaskId(first);
    let message =
        ToClient::Finishes { first, tasks, attempt: Attempt(attempt), attempts: attempt, worker: WORKER };
    said(message, body.freeze().into())
}

fn said(message: ToClient, body: Payload) -> Event {
    Event::MasterSaid { message, body }
}

fn finished(task: u64, class: Class) -> Event {
    let (task, attempt, worker) = (TaskId(task), Attempt(1), Some(WORKER));
    let message = ToClient::Finished { task, attempt, attempts: 1, worker, class, micros: 5, output: 0 };
    said(message, Payload::from_static(b"it"))
}

fn connected(tasks: u32, bytes: u64, session: Resumed) -> Event {
    Event::Connected { window: Window { tasks, bytes }, session }
}

/// What is done about each task; gives how often that is about many in one.
fn drain(client: &mut Client, all: &mut Vec<Action>) -> usize {
    let mut together = 0;
    while let Some(action) = client.poll_action() {
        match action {
            Action::Completes { of, ends, .. } => {
                together += 1;
                all.extend(ends.entries().map(|Entry { task, micros, bytes }| Action::Complete {
                    task,
                    completion: of.completion(micros, bytes),
                }));
            }
            Action::Tell { message, body } => {
                let singles = singles(&message, &body).into_iter();
                all.extend(singles.map(|(message, body)| Action::Tell { message, body }));
            }
            other => all.push(other),
        }
    }
    together
}

/// Two clients that are to do the same.
struct Twins {
    single: Client,
    together: Client,
    next: u64,
    /// How often tasks ended together.
    ended: usize,
    done: Vec<Action>,
}

impl Twins {
    fn new(window: (u32, u64)) -> Self {
        let new = || Client::new(Config::default());
        let mut twins = Self { single: new(), together: new(), next: 1, ended: 0, done: Vec::new() };
        twins.hear(&connected(window.0, window.1, Resumed::No));
        for what in [spec(0, true), spec(2, true), spec(0, false)] {
            twins.hear(&Event::Declare { what });
        }
        twins
    }

    fn call(&mut self, spec: u32, tasks: u32) {
        let (spec, first) = (SpecIndex(spec), self.next);
        self.next += u64::from(tasks);
        let mut body = BytesMut::new();
        for task in first..self.next {
            put_args(&args_of(task), &mut body);
            let (task, args) = (TaskId(task), args_of(task).into());
            self.single.handle(Time::ZERO, Event::Submit { task, spec, durable: false, args });
        }
        let args = Stretch::of_args(TaskId(first), tasks, body.freeze().into()).unwrap();
        self.together.handle(Time::ZERO, Event::Submits { spec, args });
    }

    fn hear(&mut self, event: &Event) {
        self.single.handle(Time::ZERO, event.clone());
        self.together.handle(Time::ZERO, event.clone());
    }

    fn compare(&mut self) {
        let (mut single, mut together) = (Vec::new(), Vec::new());
        drain(&mut self.single, &mut single);
        self.ended += drain(&mut self.together, &mut together);
        // An acknowledgement may come a little later: after all answers of a part, not after the first.
        let is_told = |action: &&Action| matches!(action, Action::Tell { .. });
        let halves = |all: &[Action]| -> (Vec<Action>, Vec<Action>) {
            let (told, done): (Vec<&Action>, Vec<&Action>) = all.iter().partition(is_told);
            (told.into_iter().cloned().collect(), done.into_iter().cloned().collect())
        };
        assert_eq!(halves(&single), halves(&together));
        assert_eq!(self.single.open_tasks(), self.together.open_tasks());
        assert_eq!(self.single.waiting(), self.together.waiting());
        self.done.append(&mut single);
    }

    fn told(&self) -> impl Iterator<Item = &FromClient> {
        self.done.iter().filter_map(|action| match action {
            Action::Tell { message, .. } => Some(message),
            _ => None,
        })
    }
}

/// Whatever happens.
fn happens(twins: &mut Twins, random: &mut impl FnMut(u64) -> u64) {
    let task = twins.next.saturating_sub(random(60)).max(1);
    match random(40) {
        0..8 => twins.call(random(3) as u32, random(30) as u32 + 1),
        8 => {
            let (task, args) = (TaskId(twins.next), Payload::new());
            twins.next += 1;
            twins.hear(&Event::Submit { task, spec: SpecIndex(0), durable: random(2) == 0, args });
        }
        9 => twins.hear(&Event::Recorded { task: TaskId(task) }),
        10 => twins.hear(&Event::Cancel { task: TaskId(task) }),
        11 => {
            let class = if random(2) == 0 { Class::Ok } else { Class::Failed };
            twins.hear(&finished(task, class));
        }
        12 => {
            let message = ToClient::Output { task: TaskId(task), from: 0 };
            twins.hear(&said(message, Payload::from_static(b"x")));
        }
        13 => {
            let window = Window { tasks: random(40) as u32, bytes: random(900) };
            twins.hear(&said(ToClient::Window(window), Payload::new()));
        }
        14 => twins.hear(&said(ToClient::Dispatched { below: TaskId(task) }, Payload::new())),
        15 if random(4) == 0 => {
            twins.hear(&Event::MasterLost);
            if random(2) == 0 {
                twins.compare();
            }
            if random(2) == 0 {
                twins.call(random(3) as u32, random(30) as u32 + 1);
            }
            let session = [Resumed::No, Resumed::SameMaster, Resumed::NextMaster][random(3) as usize];
            twins.hear(&connected(random(40) as u32 + 1, random(900), session));
        }
        16 if random(30) == 0 => {
            twins.hear(&Event::GiveUp { why: String::new() });
            twins.compare();
            twins.hear(&connected(30, 900, Resumed::No));
        }
        _ => {
            let tasks = random(25).min(twins.next - task) as u32 + 1;
            twins.hear(&ends(task, tasks, random(2) as u32 + 1));
        }
    }
}

#[test]
fn calls_made_together_fare_as_single_ones_whatever_happens() {
    let mut ended = 0;
    for seed in 0..300 {
        let mut state = seed;
        let mut random = move |below: u64| {
            state =
                u64::wrapping_mul(state, 6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut twins = Twins::new((random(40) as u32 + 1, random(900)));
        for _ in 0..300 {
            happens(&mut twins, &mut random);
            if random(3) > 0 {
                twins.compare();
            }
        }
        ended += twins.ended;
    }
    assert!(ended > 5_000, "{ended} times only did tasks end together");
}

#[test]
fn calls_made_together_are_sent_as_far_as_there_is_room_and_end_together() {
    let mut twins = Twins::new((10, 1_000_000));
    twins.call(0, 16);
    let mut told = Vec::new();
    while let Some(action) = twins.together.poll_action() {
        told.push(action);
    }
    let submits =
        |first: u64, tasks: u32| FromClient::Submits { first: TaskId(first), tasks, spec: SpecIndex(0) };
    let is_told = |told: &[Action], what: &FromClient| {
        told.iter().any(|action| matches!(action, Action::Tell { message, .. } if message == what))
    };
    assert!(is_told(&told, &submits(1, 10)));
    assert_eq!((twins.together.open_tasks(), twins.together.waiting().0), (16, 6));
    twins.together.handle(Time::ZERO, ends(3, 4, 1));
    let done: Vec<Action> = std::iter::from_fn(|| twins.together.poll_action()).collect();
    let Action::Completes { of, ends, args_bytes } = &done[0] else { panic!("{done:?}") };
    assert_eq!((of.worker, ends.first(), ends.tasks()), (WORKER, TaskId(3), 4));
    assert_eq!(*args_bytes, (3..7).map(|task| args_of(task).len() as u64).sum::<u64>());
    assert!(is_told(&done, &submits(11, 4)));
    let received = FromClient::Received { first: TaskId(3), tasks: 4, attempt: Attempt(1), worker: WORKER };
    assert!(is_told(&done, &received));
    assert_eq!(twins.together.tasks.len(), 0, "none was looked at alone");
}

#[test]
fn what_befalls_one_leaves_the_others_together() {
    let mut twins = Twins::new((100, 1_000_000));
    twins.call(0, 16);
    twins.compare();
    twins.hear(&finished(5, Class::Failed));
    twins.hear(&Event::Cancel { task: TaskId(9) });
    twins.hear(&ends(1, 4, 1));
    twins.hear(&ends(6, 3, 1));
    twins.compare();
    assert_eq!(twins.ended, 2);
    assert_eq!(twins.together.plain.tasks(), 7);
    assert!(twins.told().any(|message| *message == FromClient::Cancel { task: TaskId(9) }));
}

#[test]
fn what_was_sent_is_handed_in_again_one_by_one_and_what_waited_still_goes_together() {
    let mut twins = Twins::new((10, 1_000_000));
    twins.call(0, 16);
    twins.compare();
    twins.hear(&Event::MasterLost);
    assert_eq!((twins.together.tasks.len(), twins.together.plain.tasks()), (10, 6));
    twins.hear(&connected(20, 1_000_000, Resumed::SameMaster));
    twins.compare();
    let again = twins.told().filter(|message| matches!(message, FromClient::Resubmit { .. }));
    assert_eq!(again.count(), 10);
    assert_eq!(twins.together.plain.tasks(), 6);
}

#[test]
fn a_burst_that_lies_says_as_much_as_there_is_in_it() {
    let mut twins = Twins::new((100, 1_000_000));
    twins.call(0, 8);
    twins.compare();
    let Event::MasterSaid { message: ToClient::Finishes { first, attempt, attempts, worker, .. }, body } =
        ends(1, 3, 1)
    else {
        unreachable!()
    };
    for tasks in [5, u32::MAX] {
        let message = ToClient::Finishes { first, tasks, attempt, attempts, worker };
        twins.hear(&said(message, body.clone()));
        twins.compare();
    }
    assert_eq!((twins.ended, twins.together.open_tasks()), (0, 5));
}
