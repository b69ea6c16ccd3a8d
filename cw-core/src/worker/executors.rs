//! The slots and their executors: what each runs, how it ends, who is to blame.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{Action, ExecutorSaid, Origin, Worker, batch::Batch, held::End, questions::Question};
use crate::{
    Payload, Time,
    ids::{Attempt, ClientId, ExecutorId, ShareId, SpecIndex, TaskId},
    wire::{Doing, Ending, Failure, FromWorker, Output, Programs, Returned},
};

/// A timer is looked at later than this only where the process did not run.
const LATE: Duration = Duration::from_secs(1);

/// One slot and the executor in it.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The executor's number, from its start until its end was reported.
    pub(super) id: Option<ExecutorId>,
    /// Of what it is.
    pub(super) origin: Origin,
    /// When it was started.
    pub(super) started: Time,
    /// Shared values that it was told of.
    pub(super) told: BTreeSet<ShareId>,
    pub(super) executor: Executor,
    /// What the first of its batch has asked, until it is answered or has ended.
    pub(super) question: Option<Box<Question>>,
}

/// What the executor of a slot is doing.
#[derive(Debug, Default)]
pub(super) enum Executor {
    #[default]
    Down,
    Starting {
        /// When it is taken to hang, and killed; none once it was, or once it has given a sign of life.
        deadline: Option<Time>,
    },
    Idle {
        since: Time,
    },
    Busy {
        batch: Batch,
        /// Since when the first of the batch is taken to run.
        since: Time,
        /// Expected run time of the batch, in microseconds.
        expected: u64,
        /// Whether the first runs so long that the executor handed back the others.
        stuck: bool,
        /// Whether the master was told that the first runs.
        reported: bool,
    },
    /// Killed, and not yet known to be dead.
    Dying {
        batch: Batch,
        why: Death,
    },
}

/// A task that an executor was fed and has not answered.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) client: ClientId,
    pub(super) task: TaskId,
    pub(super) attempt: Attempt,
    pub(super) spec: SpecIndex,
    pub(super) alone: bool,
    pub(super) expected: u32,
    pub(super) timeout: Option<Duration>,
    pub(super) cancelled: bool,
    /// Where its arguments lie apart: which they are.
    pub(super) apart: Option<Arc<ShareId>>,
}

/// Why an executor was killed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Death {
    /// The first of its batch was cancelled.
    Cancelled,
    /// The first of its batch ran out of time.
    TimedOut { after: Duration },
    /// The worker leaves, and the first of its batch had run for so long.
    Leaving { ran: Duration },
    /// Nobody waits for what it runs.
    Abandoned,
    /// The one it was killed for had ended before it died.
    Spent,
    /// It had nothing to do, or its slot is another program's.
    Replaced,
}

impl Slot {
    pub(super) fn is_down(&self) -> bool {
        matches!(self.executor, Executor::Down)
    }

    pub(super) fn is_starting(&self) -> bool {
        matches!(self.executor, Executor::Starting { .. })
    }

    /// Since when it has nothing to do.
    pub(super) fn idle_since(&self) -> Option<Time> {
        match self.executor {
            Executor::Idle { since } => Some(since),
            _ => None,
        }
    }

    /// Whether it is, or is about to be, without an executor.
    pub(super) fn is_vacant(&self) -> bool {
        matches!(self.executor, Executor::Down | Executor::Dying { .. })
    }

    pub(super) fn batch(&self) -> &Batch {
        static NONE: Batch = Batch::new();
        match &self.executor {
            Executor::Busy { batch, .. } | Executor::Dying { batch, .. } => batch,
            _ => &NONE,
        }
    }

    /// What the executor was fed, and whether it is known to run. Of several, any may have ended without a word, or be
    /// the one that runs, so none is said to; unless the master was told that the first does, or that asks something.
    pub(super) fn fed(&self) -> impl Iterator<Item = (Running, Doing)> {
        let is_told = matches!(self.executor, Executor::Busy { reported: true, .. });
        let is_known = is_told || self.batch().len() == 1 || self.question.is_some();
        let doing = move |place| if place == 0 && is_known { Doing::Running } else { Doing::Waiting };
        self.batch().iter().enumerate().map(move |(place, running)| (running, doing(place)))
    }

    /// For how long the first of its batch has run.
    fn ran(&self, now: Time) -> Duration {
        match &self.executor {
            Executor::Busy { since, .. } => now.since(*since),
            _ => Duration::ZERO,
        }
    }

    /// When its start, or the first of its batch, runs out of time.
    pub(super) fn deadline(&self) -> Option<Time> {
        match &self.executor {
            Executor::Starting { deadline } => *deadline,
            Executor::Busy { batch, since, .. } => Some(*since + batch.front()?.timeout?),
            _ => None,
        }
    }
}

impl Slot {
    /// When the master is to be told what runs here. A task with others behind it is known to run only once the
    /// executor has handed those back.
    pub(super) fn unreported(&self, after: Duration) -> Option<Time> {
        match &self.executor {
            Executor::Busy { batch, since, reported: false, .. } if batch.len() == 1 => Some(*since + after),
            _ => None,
        }
    }

    /// What runs here, of which the master is told now.
    pub(super) fn note_reported(&mut self) -> Option<(ClientId, TaskId, Attempt)> {
        let Executor::Busy { batch, reported, .. } = &mut self.executor else { return None };
        *reported = true;
        batch.front().map(|first| (first.client, first.task, first.attempt))
    }
}

impl Worker {
    pub(super) fn on_executor_said(&mut self, executor: ExecutorId, said: ExecutorSaid) {
        match said {
            ExecutorSaid::Starting => self.on_starting(executor),
            ExecutorSaid::Ready => self.on_ready(executor),
            ExecutorSaid::Done { class, micros, output, body } => {
                self.on_done(executor, End { class, micros, output, body });
            }
            ExecutorSaid::Dones { tasks, body } => {
                self.on_dones(executor, tasks, body);
            }
            ExecutorSaid::Output { from, body } => self.on_output(executor, from, body),
            ExecutorSaid::Asks { task, attempt, number, ask, body } => {
                self.on_asks(executor, (task, attempt), (number, ask), body);
            }
            ExecutorSaid::NotStarted { tasks } => self.on_not_started(executor, tasks),
            ExecutorSaid::Remark { what } => self.on_remark(executor, what),
            ExecutorSaid::Progress { thousandths } => self.on_progress(executor, thousandths),
            ExecutorSaid::Ended { ending, hint, stderr, output, worker } => {
                self.on_ended(executor, &output, &Failure::Crashed { ending, hint, stderr, worker });
            }
        }
    }

    /// How long the program's own hooks take is the program's business.
    fn on_starting(&mut self, executor: ExecutorId) {
        if let Some(slot) = self.slot_of(executor)
            && let Executor::Starting { deadline } = &mut slot.executor
        {
            *deadline = None;
        }
    }

    fn on_ready(&mut self, executor: ExecutorId) {
        let now = self.now;
        let Some(slot) = self.slot_of(executor) else { return };
        if matches!(slot.executor, Executor::Starting { .. }) {
            slot.executor = Executor::Idle { since: now };
        }
        let origin = slot.origin;
        self.starts.remove(&origin);
    }

    pub(super) fn on_done(&mut self, executor: ExecutorId, end: End) {
        let Some(running) = self.take_done(executor, 1) else { return };
        if running.cancelled {
            self.hand_back(&running, Returned::Cancelled);
        } else {
            self.finish(&running, end);
        }
    }

    /// Takes so many tasks that have ended out of an executor's batch, several only where they are alike and it goes on;
    /// gives the first.
    pub(super) fn take_done(&mut self, executor: ExecutorId, tasks: u32) -> Option<Running> {
        let now = self.now;
        let slot = self.slot_of(executor)?;
        slot.question = None;
        match &mut slot.executor {
            Executor::Busy { batch, since, expected, stuck, reported } => {
                *since = now;
                (*stuck, *reported) = (false, false);
                let done = batch.pop(tasks);
                *expected -= done.as_ref().map_or(0, |done| u64::from(done.expected) * u64::from(tasks));
                let kill = batch.front().is_some_and(|next| next.cancelled);
                if batch.is_empty() {
                    slot.executor = Executor::Idle { since: now };
                } else if kill {
                    self.kill(executor, Death::Cancelled);
                }
                done
            }
            // It answered while the kill was on its way: what it did is done, and the next is not to blame.
            Executor::Dying { batch, why } => {
                if matches!(why, Death::Cancelled | Death::TimedOut { .. }) {
                    *why = Death::Spent;
                }
                batch.pop(tasks)
            }
            _ => None,
        }
    }

    /// Passes on what a task prints, to a client that looks on.
    fn on_output(&mut self, executor: ExecutorId, from: u64, body: Payload) {
        let Some(slot) = self.slot_of(executor) else { return };
        let Executor::Busy { batch, .. } = &slot.executor else { return };
        let Some(Running { client, task, attempt, cancelled: false, .. }) = batch.front().cloned() else {
            return;
        };
        if self.clients.get(&client).is_some_and(|client| client.output == Output::Live) {
            self.tell(FromWorker::Output { client, task, attempt, from }, body);
        }
    }

    fn on_progress(&mut self, executor: ExecutorId, thousandths: u16) {
        let Some(slot) = self.slot_of(executor) else { return };
        let Executor::Busy { batch, .. } = &slot.executor else { return };
        let Some(Running { client, task, attempt, .. }) = batch.front().cloned() else { return };
        self.tell(FromWorker::Progress { client, task, attempt, thousandths }, Payload::new());
    }

    /// The first of a batch runs long, and the executor hands back those behind it that it had not begun: they
    /// go to whoever is free, and this executor gets no more until the first has ended.
    fn on_not_started(&mut self, executor: ExecutorId, tasks: u32) {
        let Some(slot) = self.slot_of(executor) else { return };
        let back: Vec<Running> = match &mut slot.executor {
            Executor::Busy { batch, expected, stuck, .. } => {
                *stuck = true;
                let back = batch.take_behind(tasks);
                *expected -= back.iter().map(|running| u64::from(running.expected)).sum::<u64>();
                back
            }
            Executor::Dying { batch, .. } => batch.take_behind(tasks),
            _ => return,
        };
        back.iter().for_each(|running| self.hand_back_fed(running, Returned::NotStarted));
    }

    /// An executor's process has ended: whatever was in it ends or goes back.
    fn on_ended(&mut self, executor: ExecutorId, printed: &Payload, evidence: &Failure) {
        let Some(slot) = self.slot_of(executor) else { return };
        (slot.id, slot.question) = (None, None);
        let (before, origin) = (std::mem::take(&mut slot.executor), slot.origin);
        self.executors.remove(executor);
        let is_wanted = matches!(before, Executor::Busy { .. } | Executor::Starting { .. });
        if is_wanted && origin == self.config.own && self.config.start_early {
            self.early += 1;
        }
        match before {
            Executor::Starting { .. } => self.on_start_failed(origin, evidence),
            Executor::Busy { batch, .. } if batch.len() == 1 || planted!(BlameAll) => {
                batch.iter().for_each(|running| self.blame(&running, printed, evidence));
            }
            Executor::Busy { batch, .. } => {
                batch.iter().for_each(|running| self.hand_back_fed(&running, Returned::Suspect));
            }
            Executor::Dying { batch, why } => self.bury(batch, why, printed),
            Executor::Idle { .. } | Executor::Down => {}
        }
        if origin != self.config.own {
            self.tidy();
        }
        self.leave_if_done();
    }

    fn blame(&mut self, running: &Running, printed: &Payload, evidence: &Failure) {
        if running.cancelled {
            return self.hand_back(running, Returned::Cancelled);
        }
        self.finish(running, End::of(evidence, 0, printed));
    }

    /// A killed executor is dead: the first of its batch had it coming, the others did not.
    fn bury(&mut self, mut batch: Batch, why: Death, printed: &Payload) {
        let first = batch.pop(1);
        match (first, why) {
            (Some(first), Death::TimedOut { after }) => {
                let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
                self.finish(&first, End::of(&Failure::TimedOut { after }, micros, printed));
            }
            (Some(first), Death::Cancelled) => self.hand_back(&first, Returned::Cancelled),
            (Some(first), Death::Leaving { ran }) => {
                self.tell_ran(&first, ran);
                self.hand_back_fed(&first, Returned::Killed);
            }
            (Some(first), Death::Spent) => self.hand_back_fed(&first, Returned::NotStarted),
            (None, _) | (_, Death::Abandoned | Death::Replaced) => {}
        }
        let is_leaving = matches!(why, Death::Leaving { .. });
        let back = if is_leaving { Returned::Leaving } else { Returned::NotStarted };
        batch.iter().for_each(|running| self.hand_back_fed(&running, back));
    }

    fn on_start_failed(&mut self, origin: Origin, evidence: &Failure) {
        let starts = self.starts.entry(origin).or_default();
        let pause = self.config.start_pause * 2u32.saturating_pow(starts.failures.min(8));
        starts.failures += 1;
        starts.after = self.now + pause;
        // As long as one like it lives, tasks run, and it is the system that has no room for another.
        let lives = |slot: &Slot| slot.origin == origin && !slot.is_down() && !slot.is_starting();
        if starts.failures < self.config.start_failures || self.slots.iter().any(lives) {
            return;
        }
        let Failure::Crashed { ending, hint, stderr, worker } = evidence else { return };
        let ended = match ending {
            Ending::Exit(code) => format!("ended with code {code}"),
            Ending::Signal(signal) => format!("was killed by signal {signal}"),
            Ending::Unknown => "could not be started".to_owned(),
        };
        let hint = hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        let tail = last_words(stderr).map(|line| format!(": {line}")).unwrap_or_default();
        let why = format!("executors do not start on {worker}: the process {ended}{hint}{tail}");
        if self.config.alone {
            return self.refuse(origin, &Failure::Refused { why });
        }
        // Others may do better; a worker that ends what it is given at once would be given everything.
        if self.config.programs == Programs::Own {
            self.actions.push_back(Action::Broken { why });
            return self.on_leave();
        }
        // Where clients of one program differ in folder or environment, it may be that.
        if self.has_other_origin(origin) {
            return self.refuse(origin, &Failure::Refused { why });
        }
        self.give_up(origin.program, why);
    }

    /// Cancels a task that was fed: at once if it runs, else when its turn comes.
    pub(super) fn cancel_fed(&mut self, client: ClientId, task: TaskId, attempt: Attempt) {
        let found = self.slots.iter_mut().find_map(|slot| {
            let Executor::Busy { batch, .. } = &mut slot.executor else { return None };
            let place = batch.cancel(client, task, attempt)?;
            Some((slot.id?, place))
        });
        if let Some((executor, 0)) = found {
            self.kill(executor, Death::Cancelled);
        }
    }

    /// Cancels all that was fed of a client's.
    pub(super) fn cancel_all_fed(&mut self, client: ClientId) {
        let fed =
            self.slots.iter().flat_map(|slot| slot.batch().iter()).filter(|running| running.client == client);
        let fed: Vec<(TaskId, Attempt)> = fed.map(|running| (running.task, running.attempt)).collect();
        // The last first: the first of a batch is killed, and the others are not to run in its place.
        fed.into_iter().rev().for_each(|(task, attempt)| self.cancel_fed(client, task, attempt));
    }

    pub(super) fn kill_overdue(&mut self) {
        let (now, start_time) = (self.now, self.config.start_time);
        let is_overdue = |slot: &&Slot| slot.deadline().is_some_and(|deadline| deadline <= now);
        let overdue: Vec<_> = self.slots.iter().filter(is_overdue).filter_map(|slot| slot.id).collect();
        for executor in overdue {
            let Some(slot) = self.slot_of(executor) else { continue };
            if let Executor::Starting { deadline: Some(deadline) } = &mut slot.executor
                && now.since(*deadline) > LATE
            {
                // It is this process that slept, and perhaps all of its node.
                *deadline = now + start_time;
            } else if let Executor::Starting { deadline } = &mut slot.executor {
                // Its end will be reported as that of one that could not start.
                *deadline = None;
                self.actions.push_back(Action::Kill { executor });
            } else if let Some(after) = slot.batch().front().and_then(|first| first.timeout) {
                self.kill(executor, Death::TimedOut { after });
            }
        }
    }

    /// Ends executors that are not ready and that no client is left for: a hook of theirs may never end.
    pub(super) fn end_unwanted(&mut self) {
        let own = self.config.own;
        let has_client = |origin| self.clients.values().any(|it| it.origin.unwrap_or(own) == origin);
        let is_unwanted = |slot: &&Slot| match slot.executor {
            // Those of its own program may have been started before there was anybody.
            Executor::Starting { deadline } => {
                !has_client(slot.origin) && (slot.origin != own || deadline.is_none())
            }
            _ => false,
        };
        let unwanted: Vec<_> = self.slots.iter().filter(is_unwanted).filter_map(|slot| slot.id).collect();
        unwanted.into_iter().for_each(|executor| self.kill(executor, Death::Replaced));
    }

    /// Ends executors that had nothing to do for long.
    pub(super) fn end_idle(&mut self) {
        let Some(time) = self.config.idle_time else { return };
        let is_over = |slot: &&Slot| slot.idle_since().is_some_and(|since| since + time <= self.now);
        let over: Vec<ExecutorId> = self.slots.iter().filter(is_over).filter_map(|slot| slot.id).collect();
        over.into_iter().for_each(|executor| self.kill(executor, Death::Replaced));
    }

    pub(super) fn kill(&mut self, executor: ExecutorId, why: Death) {
        let Some(slot) = self.slot_of(executor) else { return };
        let batch = match std::mem::take(&mut slot.executor) {
            Executor::Busy { batch, .. } => batch,
            Executor::Dying { batch, why } => {
                slot.executor = Executor::Dying { batch, why };
                return;
            }
            Executor::Down => return,
            Executor::Starting { .. } | Executor::Idle { .. } => Batch::new(),
        };
        slot.executor = Executor::Dying { batch, why };
        self.actions.push_back(Action::Kill { executor });
    }

    /// Kills every executor that runs something, as nobody waits for it. What it still says is about tasks of
    /// a master that is gone, whose names another may give anew: nothing is left to match it.
    pub(super) fn abandon_all(&mut self) {
        for place in 0..self.slots.len() {
            let slot = &self.slots[place];
            if let Some(executor) = slot.id.filter(|_| !slot.batch().is_empty()) {
                self.kill(executor, Death::Abandoned);
                self.slots[place].executor = Executor::Dying { batch: Batch::new(), why: Death::Abandoned };
            }
        }
    }

    /// Kills every executor, since the worker leaves.
    pub(super) fn leave_executors(&mut self) {
        let all: Vec<_> = self.slots.iter().filter_map(|slot| Some((slot.id?, slot.ran(self.now)))).collect();
        all.into_iter().for_each(|(executor, ran)| self.kill(executor, Death::Leaving { ran }));
    }

    /// What was killed has not ended: its job takes longer than that, of which the master learns.
    fn tell_ran(&mut self, running: &Running, ran: Duration) {
        let seconds = u32::try_from(ran.as_secs()).unwrap_or(u32::MAX);
        if seconds > 0 && !running.cancelled {
            let Running { client, task, attempt, .. } = *running;
            self.tell(FromWorker::Ran { client, task, attempt, seconds }, Payload::new());
        }
    }

    fn hand_back_fed(&mut self, running: &Running, why: Returned) {
        self.hand_back(running, if running.cancelled { Returned::Cancelled } else { why });
    }

    fn hand_back(&mut self, running: &Running, why: Returned) {
        let Running { client, task, attempt, .. } = *running;
        self.tell(FromWorker::Returned { client, task, attempt, why }, Payload::new());
    }
}

/// The line in which a process says why it ended: the last, but for what Rust prints after a panic's message.
fn last_words(stderr: &str) -> Option<&str> {
    let is_word = |line: &&str| {
        let is_trace =
            line.starts_with([' ', '\t']) || *line == "stack backtrace:" || line.starts_with("note: ");
        !line.is_empty() && !is_trace
    };
    stderr.lines().rfind(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_the_panic_and_not_its_trace() {
        let text = "starting\n\nthread 'main' panicked at src/main.rs:7:\nno model\nstack backtrace:\n   0: f\n   \
                    \x20         at ./x.rs\nnote: Some details are omitted\n";
        assert_eq!(last_words(text), Some("no model"));
        assert_eq!(last_words("loader: no libfoo.so\n"), Some("loader: no libfoo.so"));
        assert_eq!(last_words(""), None);
    }
}
