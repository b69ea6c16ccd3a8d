//! A worker that nobody has anything for.

use std::time::Duration;

use super::{
    desk::{CLIENT, Desk, TASK, ms},
    world::plain,
};
use crate::{
    Payload, Time,
    ids::{Attempt, SpecIndex, TaskId},
    master,
    wire::{Class, FromWorker, ToExecutor, ToWorker},
    worker::{Action, Config, Event, ExecutorSaid, Worker},
};

const IDLE: Duration = Duration::from_secs(300);

/// A worker of one slot, whose executors are ready at once, and that is told word by word what to do.
struct Bench {
    worker: Worker,
    now: Time,
    done: Vec<Action>,
    /// Whether its master lets it go when it says that it is idle.
    lets_go: bool,
}

impl Bench {
    fn new(idle_end: Option<Duration>) -> Self {
        let config = Config { idle_end, ..Config::default() };
        Self { worker: Worker::new(config), now: ms(0), done: Vec::new(), lets_go: true }
    }

    fn joined() -> Self {
        let mut bench = Self::new(Some(IDLE));
        bench.handle(Event::Joined { returned: false });
        bench.say(ToWorker::Meet {
            client: CLIENT,
            program: Default::default(),
            setting: Default::default(),
            output: Default::default(),
        });
        bench.say(ToWorker::Declare { client: CLIENT, spec: SpecIndex(0), what: Box::new(plain()) });
        bench.say(ToWorker::Credit { client: CLIENT, bytes: 1 << 20 });
        bench
    }

    fn handle(&mut self, event: Event) {
        self.worker.handle(self.now, event);
        self.drain();
    }

    fn say(&mut self, message: ToWorker) {
        self.handle(Event::MasterSaid { message, body: Payload::new() });
    }

    fn drain(&mut self) {
        while let Some(action) = self.worker.poll_action() {
            let said = match &action {
                Action::Start { executor, .. } => Some((*executor, ExecutorSaid::Ready)),
                Action::Kill { executor } => {
                    let ending = crate::wire::Ending::Signal(9);
                    let (hint, stderr, output, worker) = (None, String::new(), Payload::new(), String::new());
                    Some((*executor, ExecutorSaid::Ended { ending, hint, stderr, output, worker }))
                }
                _ => None,
            };
            self.done.push(action);
            if let Some((executor, said)) = said {
                self.worker.handle(self.now, Event::ExecutorSaid { executor, said });
            }
            if self.lets_go && self.done.last() == Some(&idle()) {
                let event = Event::MasterSaid { message: ToWorker::Leave, body: Payload::new() };
                self.worker.handle(self.now, event);
            }
        }
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.worker.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.worker.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    fn run(&mut self) {
        let (client, task, attempt, spec) = (CLIENT, TASK, Attempt(1), SpecIndex(0));
        self.say(ToWorker::Run { client, task, attempt, spec, alone: false });
    }

    fn end(&mut self) {
        let fed = self.done.iter().rev().find_map(|action| match action {
            Action::Feed { executor, message: ToExecutor::Run { .. }, .. } => Some(*executor),
            _ => None,
        });
        let said = ExecutorSaid::Done { class: Class::Ok, micros: 1, output: 0, body: Payload::new() };
        self.handle(Event::ExecutorSaid { executor: fed.expect("it runs"), said });
    }

    fn acknowledge(&mut self) {
        self.say(ToWorker::Received { client: CLIENT, first: TASK, tasks: 1, attempt: Attempt(1) });
    }

    fn is_gone(&self) -> bool {
        let says = |wanted: &Action| self.done.contains(wanted);
        let told = says(&Action::Tell { message: FromWorker::Leaving, body: Payload::new() });
        assert_eq!((says(&Action::Idle), told), (says(&Action::Left), says(&Action::Left)));
        says(&Action::Left)
    }
}

fn idle() -> Action {
    Action::Tell { message: FromWorker::Idle, body: Payload::new() }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn one_that_is_given_nothing_leaves_so_long_after_it_joined() {
    let mut bench = Bench::joined();
    bench.pass(seconds(299));
    assert!(!bench.is_gone());
    bench.pass(seconds(1));
    assert!(bench.is_gone());
}

#[test]
fn one_that_may_be_idle_stays() {
    let mut bench = Bench::new(None);
    bench.handle(Event::Joined { returned: false });
    bench.pass(seconds(1_000_000));
    assert!(!bench.is_gone());
}

#[test]
fn what_runs_and_what_nobody_has_acknowledged_keeps_it() {
    let mut bench = Bench::joined();
    bench.pass(seconds(100));
    bench.run();
    bench.pass(seconds(10_000));
    assert!(!bench.is_gone(), "a task runs");
    bench.end();
    bench.pass(seconds(10_000));
    assert!(!bench.is_gone(), "its result may have to be sent again");
    bench.acknowledge();
    bench.pass(seconds(299));
    assert!(!bench.is_gone());
    bench.pass(seconds(1));
    assert!(bench.is_gone());
}

#[test]
fn the_time_counts_from_the_last_task() {
    let mut bench = Bench::joined();
    for _ in 0..5 {
        bench.pass(seconds(250));
        bench.run();
        bench.end();
        bench.acknowledge();
    }
    bench.pass(seconds(299));
    assert!(!bench.is_gone());
    bench.pass(seconds(1));
    assert!(bench.is_gone());
}

#[test]
fn a_task_that_its_client_gave_up_counts_as_the_last() {
    let mut bench = Bench::joined();
    bench.run();
    bench.pass(seconds(1_000));
    bench.say(ToWorker::Forget { client: CLIENT });
    bench.pass(seconds(299));
    assert!(!bench.is_gone());
    bench.pass(seconds(2));
    assert!(bench.is_gone());
}

#[test]
fn a_sign_of_life_is_no_work() {
    let mut bench = Bench::joined();
    for _ in 0..299 {
        bench.pass(seconds(1));
        bench.say(ToWorker::Beat { lease: 2_000 });
        bench.say(ToWorker::Credit { client: CLIENT, bytes: 1 << 20 });
    }
    assert!(!bench.is_gone());
    bench.pass(seconds(1));
    assert!(bench.is_gone());
}

#[test]
fn without_a_master_it_waits_for_the_next_one() {
    let mut bench = Bench::joined();
    bench.pass(seconds(200));
    bench.handle(Event::MasterLost);
    bench.pass(seconds(500));
    assert!(!bench.is_gone(), "the shell decides how long it looks for one");
    bench.handle(Event::Joined { returned: true });
    bench.pass(seconds(299));
    assert!(!bench.is_gone());
    bench.pass(seconds(1));
    assert!(bench.is_gone());
}

#[test]
fn one_that_is_not_let_go_stays_and_says_so_again_until_it_has_something_to_do() {
    let mut bench = Bench::joined();
    bench.lets_go = false;
    let said = |bench: &Bench| bench.done.iter().filter(|action| **action == idle()).count();
    bench.pass(IDLE);
    assert_eq!((said(&bench), bench.is_gone()), (1, false));
    bench.pass(seconds(2));
    assert_eq!(said(&bench), 3);
    bench.run();
    bench.pass(seconds(10_000));
    assert_eq!((said(&bench), bench.is_gone()), (3, false));
}

#[test]
fn a_master_lets_one_go_unless_it_was_sent_something_and_sends_it_nothing_more() {
    for sent_before in [true, false] {
        let mut desk = Desk::new();
        desk.worker(1, false);
        desk.client(false, plain());
        if sent_before {
            desk.submit(0..1);
        }
        desk.worker_says(1, FromWorker::Idle);
        if !sent_before {
            desk.submit(0..1);
        }
        let is_leave = |action: &master::Action| {
            matches!(action, master::Action::TellWorker { message: ToWorker::Leave, .. })
        };
        assert_eq!((desk.done.iter().any(is_leave), desk.sent().is_some()), (!sent_before, sent_before));
    }
}

#[test]
fn a_task_that_comes_as_it_leaves_goes_back() {
    let mut bench = Bench::joined();
    bench.pass(IDLE);
    assert!(bench.is_gone());
    bench.run();
    let back = |action: &Action| {
        matches!(action, Action::Tell { message: FromWorker::Returned { task: TaskId(0), .. }, .. })
    };
    assert!(bench.done.iter().any(back));
}
