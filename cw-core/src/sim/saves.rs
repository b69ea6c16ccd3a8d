//! Tasks that save where they are: what they ask, what their client keeps, and what the next attempt must find.
//!
//! A task loads, then saves so many times, then goes on to its end. A state is a number that no other has; later ones are
//! greater. What is kept survives the client's process, as it does on a disk.

use std::{collections::BTreeMap, time::Duration};

use super::{
    executors::LONG,
    hosts::{Input, Process},
    plan::Does,
    truth::named,
    world::{Doing, Happening, World},
};
use crate::{
    Payload,
    client::{Completion, Event},
    ids::{Attempt, ExecutorId, TaskId},
    wire::{Answer, Ask, Class},
    worker::ExecutorSaid,
};

/// One state in so many takes the lane of big ones.
const BIG_EACH: u64 = 3;
const BIG_BYTES: usize = 64 << 10;

/// Whose states these are: a call of a program with a store, or a task of a client's.
type Key = (bool, usize, u64);

/// What a client keeps of one task.
#[derive(Debug, Default)]
pub(super) struct Kept {
    state: Option<u64>,
    /// The greatest that was acknowledged while no newer attempt had begun.
    acknowledged: u64,
    /// Whose task asked last, by the client's number and its master's epoch, and what that was.
    last: ((Option<u32>, u64), Attempt, u32),
}

pub(super) type AllKept = BTreeMap<Key, Kept>;

/// A running task that saves.
#[derive(Debug)]
pub(super) struct Saving {
    owner: usize,
    task: TaskId,
    attempt: Attempt,
    number: u32,
    waits: bool,
    /// What it asked last, if anything, and the state, if it was to save one.
    asks: Option<(Ask, u64)>,
    /// How often it will yet save, and how long it runs before each time, and before its end.
    left: u32,
    pause: Duration,
    ends: bool,
    /// No older state may be found.
    at_least: u64,
}

fn body_of(state: u64) -> Payload {
    let mut bytes = state.to_le_bytes().to_vec();
    bytes.resize(if state.is_multiple_of(BIG_EACH) { BIG_BYTES } else { 8 }, 0);
    bytes.into()
}

fn state_of(body: &[u8]) -> u64 {
    body.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

impl World {
    fn key(&self, host: usize, task: TaskId) -> Key {
        match self.call_of(host, task) {
            Some((keeper, call)) => (true, keeper, call as u64),
            None => (false, host, task.0),
        }
    }

    /// A task begins that may be one that saves; says whether it is.
    pub(super) fn begin_saving(
        &mut self,
        (host, executor): (usize, ExecutorId),
        (task, attempt): (TaskId, Attempt),
        args: &[u8],
        (does, takes): (Does, Duration),
    ) -> bool {
        let Some((owner, _)) = named(args) else { return false };
        let saves = self.ledger.truth(owner, task).map_or(0, |truth| truth.plan.saves);
        let at_least = self.kept.get(&self.key(owner, task)).map_or(0, |kept| kept.acknowledged);
        let Some(process) = self.process(host, executor).filter(|_| saves > 0) else { return false };
        let (number, waits, asks, ends) = (process.asked, false, None, does != Does::Hang);
        let (left, pause) = (saves, takes / (saves + 1));
        let saving = Saving { owner, task, attempt, number, waits, asks, left, pause, ends, at_least };
        process.saving = Some(saving);
        let run = process.run;
        let soon = Duration::from_micros(self.chance.between(1, 500));
        self.after(soon, Happening::Executor { host, executor, what: Doing::Asks { run } });
        self.after(LONG, Happening::Executor { host, executor, what: Doing::IsLong { run } });
        true
    }

    /// What waits in an executor goes back or out before the task that runs asks.
    fn make_way(&mut self, host: usize, executor: ExecutorId) {
        let Some(process) = self.process(host, executor) else { return };
        let tasks = u32::try_from(process.queue.len().saturating_sub(1)).expect("a batch is short");
        process.queue.truncate(1);
        self.flush(host, executor);
        if tasks > 0 {
            self.executor_says(host, executor, ExecutorSaid::NotStarted { tasks });
        }
    }

    pub(super) fn task_asks(&mut self, host: usize, executor: ExecutorId, run: u64) {
        let is_it = |it: &&mut Process| it.run == run && it.runs && !it.dying && it.saving.is_some();
        if self.process(host, executor).filter(is_it).is_none() {
            return;
        }
        self.make_way(host, executor);
        self.sequence += 1;
        let state = self.sequence;
        let Some(process) = self.process(host, executor) else { return };
        process.asked += 1;
        let number = process.asked;
        let Some(saving) = &mut process.saving else { return };
        let ask = if saving.asks.is_none() { Ask::Load } else { Ask::Save };
        (saving.number, saving.waits, saving.asks) = (number, true, Some((ask, state)));
        let (task, attempt) = (saving.task, saving.attempt);
        let body = if ask == Ask::Save { body_of(state) } else { Payload::new() };
        self.say(|| format!("host {host}: {executor} asks {ask:?} {number} of {task} {attempt}"));
        self.executor_says(host, executor, ExecutorSaid::Asks { task, attempt, number, ask, body });
    }

    /// A task has its answer, and goes on.
    pub(super) fn task_is_answered(
        &mut self,
        host: usize,
        executor: ExecutorId,
        (number, answer): (u32, Answer),
        body: &[u8],
    ) {
        let Some(process) = self.process(host, executor).filter(|it| it.runs && !it.dying) else { return };
        let run = process.run;
        let Some(saving) = process.saving.as_mut() else { return };
        let is_it = saving.waits && saving.number == number;
        saving.waits = false;
        let (owner, task, attempt, at_least) = (saving.owner, saving.task, saving.attempt, saving.at_least);
        let (pause, ends) = (saving.pause, saving.ends);
        let Some((ask, state)) = saving.asks else { return };
        let saves = saving.left > 0;
        saving.left = saving.left.saturating_sub(1);
        let lies = self.ledger.is_lied_to(owner);
        self.ledger.rule(is_it, "an answer is to the question that waits", || {
            format!("{number} of {task} {attempt} on host {host}")
        });
        if answer != Answer::Failed && ask == Ask::Load {
            let found = state_of(body);
            self.ledger.rule(
                found >= at_least || lies,
                "no older state is found than was acknowledged",
                || format!("{task} {attempt} of host {owner} finds {found}, and {at_least} was acknowledged"),
            );
        }
        if answer == Answer::Done && ask == Ask::Save {
            self.note_saved(owner, task, attempt, state);
        }
        let what = if saves { Doing::Asks { run } } else { Doing::Ends { run } };
        if saves || ends {
            self.after(pause, Happening::Executor { host, executor, what });
        }
    }

    /// A save was acknowledged. Where a newer attempt goes on beside it, that one's count.
    fn note_saved(&mut self, owner: usize, task: TaskId, attempt: Attempt, state: u64) {
        let runs = self.ledger.truth(owner, task).map(|truth| &truth.runs);
        let is_newest = runs.is_some_and(|runs| runs.iter().all(|run| run.attempt <= attempt));
        let key = self.key(owner, task);
        if let Some(kept) = self.kept.get_mut(&key).filter(|_| is_newest) {
            kept.acknowledged = kept.acknowledged.max(state);
        }
    }

    /// A client is to do what a task asks.
    pub(super) fn client_is_asked(
        &mut self,
        host: usize,
        (task, attempt, number): (TaskId, Attempt, u32),
        ask: Ask,
        body: &[u8],
    ) {
        let (key, whose) =
            (self.key(host, task), (self.hosts[host].session.known, self.ledger.epoch_of(host)));
        let lies = self.ledger.is_lied_to(host);
        let kept = self.kept.entry(key).or_default();
        let last = std::mem::replace(&mut kept.last, (whose, attempt, number));
        let is_newer = last.0 != whose || (last.1, last.2) <= (attempt, number);
        if !is_newer {
            kept.last = last;
        }
        let (answer, said) = match ask {
            Ask::Save => {
                kept.state = Some(state_of(body));
                (Answer::Done, Payload::new())
            }
            Ask::Load => match kept.state {
                Some(state) => (Answer::Done, body_of(state)),
                None => (Answer::Nothing, Payload::new()),
            },
            Ask::Folder => (Answer::Done, Payload::from_static(b"/folder")),
        };
        self.ledger.rule(
            is_newer || ask != Ask::Save || lies,
            "no older state takes a newer one's place",
            || format!("{task} {attempt}, {number}, of host {host}, after {last:?}"),
        );
        let disk = self.chance.time(Duration::from_micros(50), Duration::from_millis(5));
        let event = Event::Answered { task, attempt, number, answer, body: said };
        self.after(disk, Happening::Input { who: Some(host), input: Input::Answered(Box::new(event)) });
    }

    /// A task's result is in its client's hands. What ended badly may be called again by the next process of a program.
    pub(super) fn forget_saved(&mut self, host: usize, task: TaskId, completion: &Completion) {
        let key = self.key(host, task);
        if completion.class == Class::Ok || !key.0 {
            self.kept.remove(&key);
        }
    }
}
