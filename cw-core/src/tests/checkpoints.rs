//! Tasks that save where they are, and go on from there.

use std::time::Duration;

use super::{
    desk::{CLIENT, Desk, TASK, ms},
    world::{Do, World, plain},
};
use crate::{
    Payload, Time,
    client::{self, Client, Resumed},
    ids::{Attempt, ClientId, TaskId, WorkerId},
    master::{self, Action},
    wire::{Answer, Ask, Class, FromClient, FromWorker, STATE_BYTES_MAX, Spec, ToClient, ToWorker, Window},
};

fn world(workers: u32) -> (World, usize) {
    let mut world = World::new();
    (0..workers).for_each(|_| {
        world.worker(1);
    });
    let client = world.client();
    world.declare(client, plain());
    (world, client)
}

/// Lets a task that waits for an answer wait.
fn wait(world: &mut World, millis: u64) {
    world.run_until(world.now + Duration::from_millis(millis));
}

#[test]
fn an_attempt_goes_on_where_the_one_before_it_was() {
    let (mut world, client) = world(1);
    let task = world.submit(client, 0, Do::Saves(8).args(20));
    world.run();
    assert_eq!(world.class(client, task), Class::Ok);
    assert_eq!(world.loaded, [(task, 1, 0), (task, 2, 4)], "it crashed after the fourth");
    world.assert_quiet();
}

#[test]
fn what_a_lost_worker_had_saved_is_there_for_the_next() {
    let (mut world, client) = world(1);
    // Its first attempt would crash later than its worker is lost.
    let task = world.submit(client, 0, Do::Saves(40).args(100));
    wait(&mut world, 1_050);
    world.kill_worker(0);
    let saved = world.clients[client].states[&task][0];
    assert!(saved > 5);
    world.worker(1);
    world.run();
    assert_eq!(world.loaded, [(task, 1, 0), (task, 2, saved)]);
    world.assert_quiet();
}

#[test]
fn who_asks_while_the_client_is_away_waits_and_is_answered_when_it_is_back() {
    let (mut world, client) = world(2);
    let tasks: Vec<TaskId> = (0..2).map(|_| world.submit(client, 0, Do::Saves(20).args(50))).collect();
    wait(&mut world, 200);
    world.disconnect_client(client);
    let before = world.clients[client].states.clone();
    wait(&mut world, 5_000);
    assert_eq!(world.clients[client].states, before);
    assert_eq!(world.clients[client].machine.open_tasks(), 2);
    world.connect_again(client);
    wait(&mut world, 200);
    assert!(tasks.iter().all(|task| world.clients[client].states[task][0] > before[task][0]));
    world.run();
    world.assert_quiet();
}

#[test]
fn what_the_client_was_asked_and_did_not_answer_before_its_connection_broke_is_asked_again() {
    let (mut world, client) = world(1);
    world.clients[client].idle = true;
    world.submit(client, 0, Do::Saves(1).args(1));
    wait(&mut world, 100);
    assert_eq!(world.loaded, []);
    world.clients[client].idle = false;
    world.reconnect_client(client);
    world.run();
    world.assert_quiet();
}

#[test]
fn a_worker_that_is_back_asks_again_whatever_became_of_the_first_time() {
    for cut_after in 0..12 {
        let (mut world, client) = world(1);
        world.submit(client, 0, Do::Saves(9).args(1));
        // At any point of the way there and back.
        world.run_until(Time::ZERO + Duration::from_micros(3_000 + cut_after * 150));
        world.cut_worker(0);
        wait(&mut world, 100);
        world.mend_worker(0);
        world.rejoin_worker(0);
        world.run();
        world.assert_quiet();
    }
}

#[test]
fn the_next_master_has_all_asked_again() {
    for workers_first in [true, false] {
        let (mut world, client) = world(1);
        let task = world.submit(client, 0, Do::Saves(40).args(50));
        wait(&mut world, 300);
        world.kill_master();
        wait(&mut world, 500);
        let saved = world.clients[client].states[&task][0];
        if workers_first {
            world.join_again(0);
            wait(&mut world, 200);
            world.connect_again(client);
        } else {
            world.connect_again(client);
            wait(&mut world, 200);
            world.join_again(0);
        }
        wait(&mut world, 500);
        assert!(world.clients[client].states[&task][0] > saved + 2, "it goes on");
        world.run();
        world.assert_quiet();
    }
}

#[test]
fn many_ask_at_once_and_all_are_answered() {
    let mut world = World::new();
    world.worker(200);
    let client = world.client();
    world.declare(client, plain());
    let tasks: Vec<TaskId> = (0..200).map(|_| world.submit(client, 0, Do::Saves(1).args(1))).collect();
    world.run();
    assert!(tasks.iter().all(|task| world.class(client, *task) == Class::Ok));
    world.assert_quiet();
}

#[test]
fn a_cancelled_task_that_waits_is_killed() {
    let (mut world, client) = world(1);
    world.clients[client].idle = true;
    let task = world.submit(client, 0, Do::Saves(1).args(1));
    wait(&mut world, 100);
    world.cancel(client, task);
    wait(&mut world, 100);
    assert_eq!((world.class(client, task), world.workers[0].killed), (Class::Cancelled, 1));
    world.assert_quiet();
}

/// What a client's machine wants done of what it is asked.
fn asked(client: &mut Client, attempt: u32, number: u32, ask: Ask) -> (bool, Option<Answer>) {
    let message = ToClient::Asks { task: TASK, attempt: Attempt(attempt), number, ask };
    client.handle(ms(1), client::Event::MasterSaid { message, body: Payload::from_static(b"s") });
    let (mut does, mut says) = (false, None);
    while let Some(action) = client.poll_action() {
        match action {
            client::Action::Ask { .. } => does = true,
            client::Action::Tell { message: FromClient::Answers { answer, .. }, .. } => says = Some(answer),
            _ => {}
        }
    }
    (does, says)
}

#[test]
fn an_older_attempt_saves_nothing_once_a_newer_one_has_asked() {
    let mut client = Client::default();
    let window = Window { tasks: 10, bytes: 1_000 };
    client.handle(ms(0), client::Event::Declare { what: plain() });
    client.handle(ms(0), client::Event::Connected { window, session: Resumed::No });
    let (spec, args) = (crate::ids::SpecIndex(0), Payload::new());
    client.handle(ms(0), client::Event::Submit { task: TASK, spec, durable: false, args });
    assert_eq!(asked(&mut client, 1, 5, Ask::Save), (true, None));
    assert_eq!(asked(&mut client, 1, 5, Ask::Save), (true, None), "asked again");
    assert_eq!(asked(&mut client, 1, 4, Ask::Save), (false, Some(Answer::Done)), "overtaken on the way");
    assert_eq!(asked(&mut client, 2, 1, Ask::Load), (true, None));
    assert_eq!(asked(&mut client, 1, 6, Ask::Save), (false, Some(Answer::Done)));
    assert_eq!(asked(&mut client, 1, 7, Ask::Load), (true, None), "who reads harms nobody");
    // Another master knows nothing of these attempts, and begins anew.
    client.handle(ms(2), client::Event::MasterLost);
    client.handle(ms(2), client::Event::Connected { window, session: Resumed::NextMaster });
    assert_eq!(asked(&mut client, 1, 1, Ask::Save), (true, None));
    client.handle(ms(3), client::Event::Cancel { task: TASK });
    while client.poll_action().is_some() {}
    assert_eq!(asked(&mut client, 1, 2, Ask::Save), (false, Some(Answer::Failed)), "its task has ended");
}

/// A client, and a worker that runs the first attempt of a task of its.
fn running() -> Desk {
    let mut desk = Desk::new();
    desk.worker(1, false);
    desk.client(false, plain());
    desk.submit(0..1);
    assert_eq!(desk.sent(), Some((1, 1)));
    desk.done.clear();
    desk
}

impl Desk {
    fn asks(&mut self, worker: u32, task: TaskId, (attempt, number): (u32, u32), bytes: usize) {
        let attempt = Attempt(attempt);
        let message = FromWorker::Asks { client: CLIENT, task, attempt, number, ask: Ask::Save };
        let body = Payload::from(vec![0; bytes]);
        self.handle(master::Event::WorkerSaid { worker: WorkerId(worker), message, body });
    }

    fn answers(&mut self, task: TaskId, attempt: u32, number: u32, bytes: usize) {
        let message = FromClient::Answers { task, attempt: Attempt(attempt), number, answer: Answer::Done };
        let body = Payload::from(vec![0; bytes]);
        self.handle(master::Event::ClientSaid { client: CLIENT, message, body });
    }

    /// How many questions were passed on, answers passed on, and workers told to ask again.
    fn counts(&self) -> (usize, usize, usize) {
        let count = |is_it: fn(&Action) -> bool| self.done.iter().filter(|action| is_it(action)).count();
        (
            count(|it| matches!(it, Action::TellClient { message: ToClient::Asks { .. }, .. })),
            count(|it| matches!(it, Action::TellWorker { message: ToWorker::Answers { .. }, .. })),
            count(|it| matches!(it, Action::TellWorker { message: ToWorker::AskAgain { .. }, .. })),
        )
    }
}

#[test]
fn a_worker_is_heard_about_what_it_was_given_and_once_until_that_is_answered() {
    let mut desk = running();
    desk.worker(2, false);
    desk.asks(2, TASK, (1, 1), 1);
    desk.asks(1, TASK, (2, 1), 1);
    desk.asks(1, TaskId(99), (1, 1), 1);
    desk.asks(1, TASK, (1, 1), STATE_BYTES_MAX + 1);
    assert_eq!(desk.counts(), (0, 0, 0));
    (0..1_000).for_each(|number| desk.asks(1, TASK, (1, number), STATE_BYTES_MAX));
    assert_eq!(desk.counts(), (1, 0, 0));
    // What it has asked beside that is asked again once that is answered.
    desk.answers(TASK, 1, 0, STATE_BYTES_MAX);
    assert_eq!(desk.counts(), (1, 1, 1));
    (0..1_000).for_each(|number| desk.asks(1, TASK, (1, number), 1));
    assert_eq!(desk.counts(), (2, 1, 1));
}

#[test]
fn a_client_is_heard_about_what_it_was_asked() {
    let mut desk = running();
    desk.asks(1, TASK, (1, 3), 1);
    desk.answers(TASK, 1, 2, 1);
    desk.answers(TASK, 2, 3, 1);
    desk.answers(TaskId(5), 1, 3, 1);
    assert_eq!(desk.counts(), (1, 0, 0));
    (0..9).for_each(|_| desk.answers(TASK, 1, 3, 1));
    assert_eq!(desk.counts(), (1, 1, 0));
    desk.answers(TASK, 1, 3, STATE_BYTES_MAX + 1);
    let is_shown_out = |action: &Action| matches!(action, Action::Disconnect { client: ClientId(0), .. });
    assert!(desk.done.iter().any(is_shown_out), "{:?}", desk.done);
}

#[test]
fn a_client_that_answers_nothing_is_asked_no_more_than_it_may_be() {
    let mut desk = Desk::new();
    desk.worker_of(1, 300, false);
    desk.client(false, Spec { loss_limit: 9, ..plain() });
    desk.submit(0..300);
    (0..300).for_each(|task| desk.asks(1, TaskId(task), (1, 1), 10));
    assert_eq!(desk.counts(), (64, 0, 0));
    // Each answer makes room for one, which is asked again.
    (0..10).for_each(|task| desk.answers(TaskId(task), 1, 1, 0));
    assert_eq!(desk.counts(), (64, 10, 10));
    (64..74).for_each(|task| desk.asks(1, TaskId(task), (1, 1), 10));
    assert_eq!(desk.counts(), (74, 10, 10));
    // A worker that has nothing to ask gives the room to the next.
    desk.answers(TaskId(10), 1, 1, 0);
    let (task, attempt) = (TaskId(74), Attempt(1));
    desk.worker_says(1, FromWorker::AsksNothing { client: CLIENT, task, attempt });
    assert_eq!(desk.counts(), (74, 11, 12));
    // Those of a worker that is lost go with it.
    desk.handle(master::Event::WorkerLost { worker: WorkerId(1) });
    desk.worker_of(1, 300, true);
    (100..200).for_each(|task| desk.asks(1, TaskId(task), (1, 1), 10));
    assert_eq!(desk.counts().0, 74 + 64);
}
