//! A client as the master knows it: its specs, its tasks, its queue, what it has used.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::{
    TASKS_END,
    ends::Ends,
    habits::Place,
    parked::ParkedTasks,
    questions::Questions,
    resume::{CLAIMS_MAX, Resume},
    stretches::Stretches,
    tally::Tally,
    tasks::{State, Task},
    watch::{Prints, Watch},
};
use crate::{
    Payload, TaskMap, Time,
    ids::{Attempt, JobIndex, ProgramId, SettingId, TaskId, WorkerId},
    learn::Learned,
    wire::{Failure, Output, Spec, Stall},
};

/// No attempt is charged more than this, a year in microseconds, whatever a worker says it took.
pub(super) const USED_MAX: u64 = 31_536_000_000_000;

/// How many outcomes of one client are remembered beyond their tasks, of each kind.
pub(super) const KEPT_MAX: usize = 16_384;

/// A connected client, or one that has gone while workers still owe answers about its tasks.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) program: ProgramId,
    /// What workers are told of it.
    pub(super) introduction: Introduction,
    /// How much of what its tasks print is on its way.
    pub(super) prints: Prints,
    /// What its running tasks ask of it.
    pub(super) questions: Questions,
    pub(super) specs: Vec<SpecState>,
    /// Tasks that stand by themselves, and those that do not.
    pub(super) tasks: TaskMap<Task>,
    pub(super) stretches: Stretches,
    /// It has had no task from this one on.
    pub(super) newest: TaskId,
    /// Queued tasks and stretches, highest priority first, then in order. No queue in it is empty.
    pub(super) queue: BTreeMap<Reverse<i32>, VecDeque<TaskId>>,
    pub(super) queued: usize,
    /// An empty queue, whose memory the next one has.
    spare: VecDeque<TaskId>,
    /// Bytes of arguments of all its tasks.
    pub(super) bytes: u64,
    /// Tasks that it gave up and a worker has not answered for.
    pub(super) cancelling: usize,
    /// Those of them that take up room there.
    pub(super) called_back: Tally,
    /// Tasks that have ended and whose results wait at their workers.
    pub(super) held: Tally,
    /// Slot time used, in microseconds, with what its tasks at workers are expected to take: what decides whose
    /// turn it is.
    pub(super) usage: u64,
    /// The part of `usage` that is charged for tasks at workers.
    pub(super) outstanding: u64,
    /// Slot time of its tasks that run, as far as it was counted.
    pub(super) ran: u64,
    /// The part of `usage` that was paid for running tasks beyond their charge.
    pub(super) advance: u64,
    /// Jobs of which it was told that they take longer than any worker has time.
    pub(super) too_long: BTreeSet<JobIndex>,
    /// What it was told of what its jobs take, for the next master: nine of ten, and on average.
    pub(super) lore: BTreeMap<JobIndex, (u64, u64)>,
    /// Whether it has jobs that must not run twice.
    pub(super) has_once: bool,
    /// The lowest priority of its specs.
    lowest_priority: i32,
    pub(super) gone: bool,
    /// Since when it has no connection.
    pub(super) detached: Option<Time>,
    /// For how long it wants its session to be kept then.
    pub(super) keep_for: Duration,
    /// Whether what was never tried was dropped meanwhile.
    pub(super) trimmed: bool,
    /// Tasks that are kept out of the queue, and until when or for what.
    pub(super) parked: ParkedTasks,
    /// Attempts that were given up and may still end: their results are as good as any.
    pub(super) given_up: BTreeMap<TaskId, Vec<GivenUp>>,
    /// The workers that were lost under a task, in words.
    pub(super) obituaries: BTreeMap<TaskId, Vec<(Option<WorkerId>, String)>>,
    /// How tasks of several attempts ended, until the client has acknowledged that: workers may still have others of them,
    /// which are worth nothing any more.
    pub(super) ended: BTreeMap<TaskId, Ended>,
    /// What the master itself decided about tasks that have ended, as no worker keeps it.
    pub(super) verdicts: BTreeMap<TaskId, (u32, Failure)>,
    pub(super) resume: Resume,
    /// No task from this one on has been dispatched, as the client was told; but see `once`.
    pub(super) dispatched: TaskId,
    /// It is waited for until then, to say that it knows what is dispatched.
    pub(super) answers_by: Time,
    /// Workers where its results pile up: they are sent none of its tasks.
    pub(super) held_by: BTreeSet<WorkerId>,
    pub(super) stall: Stalling,
    /// Its tasks that take up room at workers, those that are being called back among them.
    pub(super) at_workers: u32,
    /// Those of them that are known to run, on workers that are heard.
    pub(super) running: u32,
    /// When one of its tasks last ended or was told to run, or the last that ran was seen no more.
    pub(super) moved: Time,
    /// Since when there are tasks of it at workers.
    pub(super) sent: Time,
    pub(super) watch: Watch,
    pub(super) ends: Ends,
}

/// What one client may hand in.
pub(super) struct Bounds {
    /// So many tasks at once.
    pub(super) tasks: usize,
    /// So many bytes of arguments, and one task beyond.
    pub(super) bytes: u64,
}

/// What a client said of itself to workers.
#[derive(Clone, Debug, Default)]
pub(super) struct Introduction {
    pub(super) setting: SettingId,
    pub(super) output: Output,
    pub(super) body: Payload,
}

/// An attempt that another one has taken the place of.
#[derive(Clone, Copy, Debug)]
pub(super) struct GivenUp {
    pub(super) worker: WorkerId,
    pub(super) attempt: Attempt,
    pub(super) charge: Charge,
}

/// What the loss of an attempt's worker was counted as.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Charge {
    /// Nothing: the worker was not lost, or another attempt that it had counts.
    None,
    /// A loss in doubt: the attempt may have run.
    Exposure,
    Loss,
}

/// What is remembered of a task that has ended, as its outcome may get lost on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// The attempt that ended it, and the newest.
    pub(super) attempt: Attempt,
    pub(super) latest: Attempt,
    failures: u32,
    crashes: u16,
    losses: u8,
}

impl Ended {
    pub(super) fn of(task: &Task, attempt: Attempt) -> Self {
        let Task { latest, failures, crashes, losses, .. } = *task;
        Self { attempt, latest, failures, crashes, losses }
    }

    /// Goes on counting where it ended.
    pub(super) fn go_on(self, task: &mut Task) {
        (task.failures, task.crashes, task.losses) = (self.failures, self.crashes, self.losses);
        task.latest = task.latest.max(self.latest);
    }
}

/// Whether a client's tasks move.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Stalling {
    #[default]
    No,
    /// Since then, and when and what the client was told.
    Since { since: Time, told: Option<(Time, Stall)> },
}

/// A spec and what was learned about it.
#[derive(Debug)]
pub(super) struct SpecState {
    pub(super) what: Spec,
    pub(super) learned: Learned,
    /// The tasks that the client has of it.
    pub(super) tasks: u32,
    /// Where it is kept what all tasks of the job take.
    pub(super) habit: Place,
    /// If they must not run twice: none from this one on has been dispatched, as the client was told; and as it has said
    /// that it knows.
    pub(super) dispatched: TaskId,
    pub(super) noted: TaskId,
}

impl Client {
    pub(super) fn new(program: ProgramId) -> Self {
        Self {
            program,
            introduction: Introduction::default(),
            prints: Prints::default(),
            questions: Questions::default(),
            specs: Vec::new(),
            tasks: TaskMap::default(),
            stretches: Stretches::default(),
            newest: TaskId(0),
            queue: BTreeMap::new(),
            queued: 0,
            spare: VecDeque::new(),
            bytes: 0,
            cancelling: 0,
            called_back: Tally::default(),
            held: Tally::default(),
            usage: 0,
            outstanding: 0,
            ran: 0,
            advance: 0,
            too_long: BTreeSet::new(),
            lore: BTreeMap::new(),
            has_once: false,
            lowest_priority: i32::MAX,
            gone: false,
            detached: None,
            keep_for: Duration::ZERO,
            trimmed: false,
            parked: ParkedTasks::default(),
            given_up: BTreeMap::new(),
            obituaries: BTreeMap::new(),
            ended: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            resume: Resume::default(),
            dispatched: TaskId(0),
            answers_by: Time::ZERO,
            held_by: BTreeSet::new(),
            stall: Stalling::No,
            at_workers: 0,
            running: 0,
            moved: Time::ZERO,
            sent: Time::ZERO,
            watch: Watch::default(),
            ends: Ends::default(),
        }
    }

    /// Takes in its next spec, of a job of which so much is known.
    pub(super) fn declare(&mut self, what: Spec, habit: Place, learned: Learned) {
        if !what.rerun {
            self.has_once = true;
            self.spread_all();
        }
        self.lowest_priority = self.lowest_priority.min(what.priority);
        let (dispatched, noted) = (TaskId(0), TaskId(0));
        self.specs.push(SpecState { what, learned, tasks: 0, habit, dispatched, noted });
    }

    /// When its session ends, as it has no connection: first what was never tried is dropped, then all.
    pub(super) fn ends(&self, grace: Duration) -> Option<Time> {
        let since = self.detached.filter(|_| !self.gone)?;
        Some(since + if self.trimmed { grace.max(self.keep_for) } else { grace })
    }

    /// The priority of its next task.
    pub(super) fn top_priority(&self) -> Option<i32> {
        self.queue.first_key_value().map(|(Reverse(priority), _)| *priority)
    }

    /// Whether its next task may go before others of its own that were sent.
    pub(super) fn has_urgent(&self) -> bool {
        self.top_priority().is_some_and(|priority| priority > self.lowest_priority)
    }

    /// Slot time used: by tasks that have ended, and as far as it was counted by those that run.
    pub(super) fn used(&self) -> u64 {
        self.usage.saturating_sub(self.outstanding).saturating_sub(self.advance).saturating_add(self.ran)
    }

    /// Whether it has jobs whose tasks take so many microseconds, or nobody knows what they take.
    pub(super) fn is_long(&self, micros: u32) -> bool {
        let is_long = |spec: &SpecState| !spec.learned.is_known() || spec.learned.expected() >= micros;
        !self.is_empty() && self.specs.iter().any(is_long)
    }

    /// The bytes of a task's arguments, wherever they lie.
    pub(super) fn bytes_of(&self, task: &Task) -> u64 {
        self.spec_of(task).what.args_bytes(&task.args)
    }

    /// Takes in a task that it hands in; says whether workers have claimed that.
    ///
    /// # Errors
    /// Why it is to be shown out.
    pub(super) fn admit(&mut self, id: TaskId, task: Task, bounds: &Bounds) -> Result<bool, &'static str> {
        if id >= TASKS_END {
            return Err("numbered a task beyond all bounds");
        }
        let Some(declared) = self.specs.get(task.spec.0 as usize) else {
            return Err("submitted a task without declaring its spec");
        };
        if self.count() - self.cancelling >= bounds.tasks || self.bytes > bounds.bytes {
            return Err("submitted more than its window allows");
        }
        if self.resume.open {
            if self.resume.seen.len() >= CLAIMS_MAX {
                return Err("never said that it had handed in all");
            }
            self.resume.seen.insert(id);
        }
        // It is here, or its result is on its way to the client.
        if self.has(id) || (self.resume.passed.contains(&id) && !planted!(PassTwice)) {
            return Ok(false);
        }
        let priority = declared.what.priority;
        self.take_in(id, task);
        self.push_back(priority, id);
        Ok(self.resume.unclaimed.contains_key(&id))
    }

    /// Corrects what it has used by a task that has ended: it was charged so much, and took so much. Its place among those
    /// who wait is another matter.
    pub(super) fn settle(&mut self, charged: u32, micros: u64) {
        let prepaid = self.advance.min(micros.saturating_sub(u64::from(charged)));
        self.advance -= prepaid;
        self.ran = self.ran.saturating_sub(micros);
        self.correct(charged, micros - prepaid);
    }

    /// It was charged so much, and has used so much.
    pub(super) fn correct(&mut self, charged: u32, used: u64) {
        self.correct_all(charged.into(), used.min(USED_MAX));
    }

    /// The same of several attempts, none of which has used too much.
    pub(super) fn correct_all(&mut self, charged: u64, used: u64) {
        self.usage = self.usage.saturating_sub(charged).saturating_add(used);
    }

    /// Takes in a new task.
    pub(super) fn take_in(&mut self, id: TaskId, task: Task) {
        self.bytes += task.args.len() as u64;
        self.newest = self.newest.max(TaskId(id.0 + 1));
        self.specs[task.spec.0 as usize].tasks += 1;
        self.tasks.insert(id, task);
    }

    /// Takes a task out for good. The queue is another matter.
    pub(super) fn take_out(&mut self, id: TaskId) -> Option<Task> {
        let task = self.tasks.remove(id)?;
        self.bytes -= task.args.len() as u64;
        self.specs[task.spec.0 as usize].tasks -= 1;
        self.outstanding -= u64::from(task.charge);
        self.note_left(task.state);
        Some(task)
    }

    /// A task of the table gets another state, which is counted. What waits for its turn is listed by the caller.
    pub(super) fn turn(&mut self, id: TaskId, state: State) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        let before = std::mem::replace(&mut task.state, state);
        self.note_left(before);
        match state {
            State::Held { worker } => self.held.add(worker),
            State::Cancelling { worker, held } => {
                self.cancelling += 1;
                if !held {
                    self.called_back.add(worker);
                }
            }
            State::Queued | State::Parked | State::Sent { .. } => {}
        }
    }

    fn note_left(&mut self, state: State) {
        match state {
            State::Held { worker } => self.held.drop_one(worker),
            State::Cancelling { worker, held } => {
                self.cancelling -= 1;
                if !held {
                    self.called_back.drop_one(worker);
                }
            }
            State::Queued | State::Parked | State::Sent { .. } => {}
        }
    }

    /// A task has ended, and its client may have to hand it in again.
    pub(super) fn note_ended(&mut self, task: TaskId, how: Ended) {
        if how.latest > Attempt(1) && self.ended.len() < KEPT_MAX {
            self.ended.insert(task, how);
        }
    }

    /// A worker has, or had, an attempt of a task: no other gets its number.
    pub(super) fn note_attempt(&mut self, task: TaskId, attempt: Attempt) {
        if let Some(task) = self.tasks.get_mut(task) {
            task.latest = task.latest.max(attempt);
        }
    }

    /// The client has these results.
    pub(super) fn note_received(&mut self, first: TaskId, tasks: u32, attempt: Attempt) {
        if self.ended.is_empty() {
            return;
        }
        let (mut next, end) = (first, TaskId(first.0.saturating_add(u64::from(tasks))));
        // One after the other, as a list of them would be made for each few tasks.
        while let Some((task, ended)) = self.ended.range(next..end).next() {
            let (task, is_named) = (*task, ended.attempt == attempt);
            next = TaskId(task.0.saturating_add(1));
            if is_named {
                self.ended.remove(&task);
            }
        }
    }

    /// Whether a task has ended with another attempt than this, as far as it is remembered.
    pub(super) fn is_overtaken(&self, task: TaskId, attempt: Attempt) -> bool {
        self.ended.get(&task).is_some_and(|ended| ended.attempt != attempt)
    }

    pub(super) fn push_back(&mut self, priority: i32, task: TaskId) {
        let spare = &mut self.spare;
        self.queue.entry(Reverse(priority)).or_insert_with(|| std::mem::take(spare)).push_back(task);
        self.queued += 1;
    }

    pub(super) fn push_front(&mut self, priority: i32, task: TaskId) {
        self.queue.entry(Reverse(priority)).or_default().push_front(task);
        self.queued += 1;
    }

    /// Puts a task back that must not run twice, before those that were called later: see `once`.
    pub(super) fn push_ordered(&mut self, priority: i32, task: TaskId) {
        let queue = self.queue.entry(Reverse(priority)).or_default();
        queue.insert(queue.partition_point(|other| *other < task), task);
        self.queued += 1;
    }

    /// Its next task.
    pub(super) fn first(&self) -> Option<TaskId> {
        self.queue.first_key_value().and_then(|(_, queue)| queue.front().copied())
    }

    pub(super) fn pop(&mut self) -> Option<TaskId> {
        let mut first = self.queue.first_entry()?;
        let task = first.get_mut().pop_front();
        if first.get().is_empty() {
            self.spare = first.remove();
        }
        self.queued -= 1;
        task
    }

    /// Takes a task out of the middle of its queue; walks that queue.
    pub(super) fn unqueue(&mut self, priority: i32, task: TaskId) {
        let Some(queue) = self.queue.get_mut(&Reverse(priority)) else { return };
        let Some(place) = queue.iter().position(|queued| *queued == task) else { return };
        queue.remove(place);
        if queue.is_empty() {
            self.queue.remove(&Reverse(priority));
        }
        self.queued -= 1;
    }

    /// Whether an attempt was given up that may still end.
    pub(super) fn gave_up(&self, task: TaskId, worker: WorkerId, attempt: Attempt) -> bool {
        let given_up = self.given_up.get(&task);
        given_up.is_some_and(|all| all.iter().any(|it| (it.worker, it.attempt) == (worker, attempt)))
    }

    /// A worker was lost: what was moved away from it may have run there all the same. What it was sent since counts by
    /// itself: one loss is one.
    pub(super) fn expose_moved(&mut self, worker: WorkerId) {
        for (id, all) in &mut self.given_up {
            if let Some(moved) = all.iter_mut().find(|it| it.worker == worker && it.charge == Charge::None)
                && let Some(task) = self.tasks.get_mut(*id)
                && task.state.worker() != Some(worker)
            {
                moved.charge = Charge::Exposure;
                task.exposures = task.exposures.saturating_add(1);
            }
        }
    }

    /// An attempt that was given up is there after all, or its worker is: it was not lost.
    pub(super) fn take_up(&mut self, id: TaskId, worker: WorkerId, attempt: Attempt) {
        let Some(all) = self.given_up.get_mut(&id) else { return };
        let Some(place) = all.iter().position(|it| (it.worker, it.attempt) == (worker, attempt)) else {
            return;
        };
        let GivenUp { charge, .. } = all.remove(place);
        if all.is_empty() {
            self.given_up.remove(&id);
        }
        let Some(task) = self.tasks.get_mut(id) else { return };
        match charge {
            Charge::None => {}
            Charge::Exposure => task.exposures = task.exposures.saturating_sub(1),
            Charge::Loss => {
                task.losses = task.losses.saturating_sub(1);
                let lines = self.obituaries.entry(id).or_default();
                let place = lines.iter().rposition(|(of, _)| *of == Some(worker));
                place.map(|place| lines.remove(place));
            }
        }
    }

    /// A worker that was away has said all that it has: what was given up there and is not among that was not lost.
    pub(super) fn take_up_missing(&mut self, worker: WorkerId, has: impl Fn(TaskId, Attempt) -> bool) {
        let there = |(task, all): (&TaskId, &Vec<GivenUp>)| {
            let of_worker = all.iter().filter(|it| it.worker == worker);
            of_worker.map(|it| (*task, it.attempt)).collect::<Vec<_>>()
        };
        let all: Vec<(TaskId, Attempt)> = self.given_up.iter().flat_map(there).collect();
        for (task, attempt) in all.into_iter().filter(|(task, attempt)| !has(*task, *attempt)) {
            self.take_up(task, worker, attempt);
        }
    }

    /// A task is about to be a worker's. One that only comes and goes begins nowhere.
    pub(super) fn note_sent(&mut self, now: Time) {
        if self.out() == 0 && self.moved >= self.sent {
            self.sent = now;
        }
    }

    /// Tasks at workers that are still wanted.
    pub(super) fn out(&self) -> u32 {
        self.at_workers.saturating_sub(self.called_back.total())
    }

    /// Tasks that are with a worker.
    pub(super) fn moving(&self) -> usize {
        self.count() - self.queued - self.parked.len()
    }

    pub(super) fn spec_of(&self, task: &Task) -> &SpecState {
        &self.specs[task.spec.0 as usize]
    }
}
