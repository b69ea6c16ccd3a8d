//! Workers whose time is limited, as their allocation ends: what is sent there, and what is not.
//!
//! A worker says how long it has left, and says it anew when that changes. What a task takes is learned for its job
//! (`habits`): nine of ten are done in what is called its *need*. Short needs, and those that nobody knows, fit everywhere.
//!
//! - A task goes only where its need fits into what is left, less a grace for handing things back.
//! - But a *fresh* worker takes what is about as long as all the time that it had, or longer, one for each slot that has
//!   begun nothing: else a job that is longer than every allocation would never run.
//! - A long task is not sent to wait behind others that are long: when it began, it might not fit any more. Nor where
//!   something was called back for idle slots, which have no time for it.
//! - What no worker with room has time for is *laid aside*, apart from the queue, so that other tasks of its client pass.
//!   It goes back to the front of the queue as soon as a worker has room and time for it, and there waits for its turn.
//! - A worker that hands something back for want of time is sent nothing that needs as much until its end moves. Where it
//!   would be done in time by all that is known here, the worker has seen that job take longer: it is sent none of that job.
//! - A worker whose end is near is sent nothing at all.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Master, Worker,
    clients::Client,
    habits::Place,
    parked::Parked,
    tasks::{State, Task},
};
use crate::{
    Payload, Time,
    ids::{Attempt, ClientId, SpecIndex, TaskId, WorkerId},
    learn::LONG,
    wire::ToClient,
};

/// No end is taken to be further away, ten years, whatever a worker says.
const LEFT_MAX: u32 = 315_360_000;

/// Specs whose tasks were laid aside that are looked at in one pass, of each client.
const LOOKED_AT: usize = 64;

/// Tasks of one spec that are taken up in one pass.
const TAKEN_UP: usize = 256;

/// As long as a job had fewer runs, each that was cut off counts.
const FEW: u32 = 16;

/// Jobs that a worker declines one by one; of one that declines more than so many the time is over.
const DECLINED_MAX: usize = 64;

/// What a task takes, as far as it matters to whose time is limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Need {
    /// 0 if that is little, or unknown.
    pub(super) micros: u64,
    /// The job that it is of; none if no worker's time is limited.
    job: Option<Place>,
    /// Whether a worker has declined that job: what is called back for that worker would only be sent back.
    is_declined: bool,
}

/// A worker's time.
#[derive(Debug, Default)]
pub(super) struct Allotment {
    /// When it ends, if that is known, and when that was told for the first time.
    ends: Option<Time>,
    told: Option<Time>,
    /// How long it was, or is, in all.
    whole: Duration,
    /// Whether its end is so near that it is sent nothing.
    pub(super) is_over: bool,
    /// Tasks that need as much came back for want of time.
    declined: Option<u64>,
    /// And of these jobs, whatever they are thought to need.
    declined_jobs: BTreeSet<Place>,
    /// How many tasks have run there.
    pub(super) ran: u32,
    /// How many are there that are expected to take long.
    pub(super) long: u32,
    /// Whether something was called back from there since the last task ended there: what is long would only be called back
    /// again, as others are idle that have no time for it.
    pub(super) gave: bool,
}

impl Allotment {
    /// How much of it is kept for handing back what is there.
    fn grace(&self, most: Duration) -> Duration {
        most.min(self.whole / 10)
    }

    fn set(&mut self, now: Time, left: Option<Duration>) {
        self.ends = left.map(|left| now + left);
        (self.is_over, self.declined) = (false, None);
        self.declined_jobs.clear();
        if let Some(left) = left {
            let told = *self.told.get_or_insert(now);
            self.whole = self.whole.max(now.since(told) + left);
        }
    }

    /// Such a task came back for want of time. If it `fits` all the same, others that need as much may be done in time.
    fn decline(&mut self, need: Need, fits: bool) {
        match need.job.filter(|_| fits) {
            Some(job) if self.declined_jobs.len() < DECLINED_MAX => drop(self.declined_jobs.insert(job)),
            Some(_) => self.is_over = true,
            None => self.declined = Some(self.declined.map_or(need.micros, |known| known.min(need.micros))),
        }
    }

    /// Whether such a task came back for want of time.
    fn declines(&self, need: Need) -> bool {
        self.declined.is_some_and(|declined| need.micros >= declined)
            || need.job.is_some_and(|job| self.declined_jobs.contains(&job))
    }
}

impl Worker {
    /// How long its allocation lasts, if that is known.
    pub(super) fn left(&self, now: Time) -> Option<Duration> {
        self.allotment.ends.map(|ends| ends.since(now))
    }

    /// How much of that can be used.
    fn usable(&self, now: Time, grace: Duration) -> Option<Duration> {
        self.left(now).map(|left| left.saturating_sub(self.allotment.grace(grace)))
    }

    /// Whether a slot has begun nothing yet, and what needs so much would not fit into another worker's time either, as far
    /// as that is as long. A tenth of that may go by until something is sent there.
    fn is_fresh(&self, need: Need, grace: Duration) -> bool {
        let Allotment { ends, whole, ran, .. } = &self.allotment;
        let most = (*whole / 10 * 9).saturating_sub(self.allotment.grace(grace));
        ends.is_some()
            && ran.saturating_add(self.sent) < self.slots
            && Duration::from_micros(need.micros) > most
    }

    /// Whether what needs so much fits into its time.
    pub(super) fn has_time(&self, need: Need, now: Time, grace: Duration) -> bool {
        if self.allotment.declines(need) {
            return false;
        }
        if need.micros == 0 && !need.is_declined {
            return true;
        }
        // Also on one that is kept for a task, where others have none.
        let is_free = self.is_well() && self.sent < self.slots;
        if !is_free && (self.allotment.gave || self.allotment.long >= self.slots) {
            return false;
        }
        let wait = if is_free { 0 } else { self.backlog() };
        let with_wait = Need { micros: need.micros.saturating_add(wait), ..need };
        self.is_fresh(need, grace) || self.is_long_enough(with_wait, now, grace)
    }

    /// Whether what needs so much would fit if it began now.
    pub(super) fn is_long_enough(&self, need: Need, now: Time, grace: Duration) -> bool {
        !self.allotment.declines(need) && self.fits(need, now, grace)
    }

    fn fits(&self, need: Need, now: Time, grace: Duration) -> bool {
        self.usable(now, grace).is_none_or(|usable| Duration::from_micros(need.micros) <= usable)
    }
}

impl Master {
    /// A worker says when it ends.
    pub(super) fn on_ends(&mut self, id: WorkerId, left: Option<u32>) {
        let left = left.map(|seconds| Duration::from_secs(seconds.min(LEFT_MAX).into()));
        let (now, grace) = (self.now, self.config.end_grace);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.allotment.set(now, left);
        let usable = worker.usable(now, grace);
        self.longest = self.longest.max(worker.allotment.whole);
        let margin = Duration::from_micros(LONG).min(worker.allotment.whole / 10);
        self.forget_end(id);
        if let Some(usable) = usable {
            let over = now + usable.saturating_sub(margin);
            self.enders.insert(id, over);
            self.overs.insert((over, id));
        }
        self.end_times();
        self.note_load(id);
    }

    /// A worker had more in all than it has left, of which a former master knew.
    pub(super) fn on_lasts(&mut self, id: WorkerId, seconds: u32) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let whole = Duration::from_secs(seconds.min(LEFT_MAX).into());
        worker.allotment.whole = worker.allotment.whole.max(whole);
        self.longest = self.longest.max(whole);
        self.note_load(id);
    }

    /// A worker has no end any more, or is gone.
    pub(super) fn forget_end(&mut self, id: WorkerId) {
        if let Some(over) = self.enders.remove(&id) {
            self.overs.remove(&(over, id));
        }
    }

    /// Sends nothing more to workers whose time is over.
    pub(super) fn end_times(&mut self) {
        while let Some(&(over, id)) = self.overs.first()
            && over <= self.now
        {
            self.overs.pop_first();
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.allotment.is_over = true;
            }
            self.note_load(id);
        }
    }

    pub(super) fn next_end(&self) -> Option<Time> {
        self.overs.first().map(|(over, _)| *over)
    }

    /// A task came back for want of time: what needs as much is not sent there again, or what is of that job.
    pub(super) fn note_declined(&mut self, id: WorkerId, client: ClientId, task: TaskId) {
        let spec = self.clients.get(&client).and_then(|client| client.spec_at(task));
        let Some(need) = spec.map(|spec| self.need_of(client, spec)) else { return };
        let (now, grace) = (self.now, self.config.end_grace);
        if let Some(worker) = self.workers.get_mut(&id) {
            let fits = worker.fits(need, now, grace);
            worker.allotment.decline(need, fits);
            self.declined_jobs.extend(need.job.filter(|_| fits));
            self.note_load(id);
        }
    }

    /// What a task of this spec needs.
    pub(super) fn need_of(&self, client: ClientId, spec: SpecIndex) -> Need {
        let habit = self.clients[&client].specs.get(spec.0 as usize).map(|spec| spec.habit);
        let is_declined = habit.is_some_and(|habit| self.declined_jobs.contains(&habit));
        Need { micros: habit.map_or(0, |habit| self.habits.need(habit)), job: habit, is_declined }
    }

    /// What a client's next task needs, as far as anybody has to ask.
    pub(super) fn next_need(&self, id: ClientId) -> Need {
        if self.enders.is_empty() || planted!(IgnoreEnds) {
            return Need::default();
        }
        let client = &self.clients[&id];
        let spec = client.first().and_then(|task| client.spec_at(task));
        spec.map_or_else(Need::default, |spec| self.need_of(id, spec))
    }

    /// What this task needs, as far as anybody has to ask.
    pub(super) fn task_need(&self, id: ClientId, task: TaskId) -> Need {
        if self.enders.is_empty() || planted!(IgnoreEnds) {
            return Need::default();
        }
        self.clients[&id].spec_at(task).map_or_else(Need::default, |spec| self.need_of(id, spec))
    }

    /// Whether a worker has time for what needs so much.
    pub(super) fn has_time(&self, worker: WorkerId, need: Need) -> bool {
        need.job.is_none() || self.workers[&worker].has_time(need, self.now, self.config.end_grace)
    }

    /// Takes a client's next tasks out of its queue, as far as they are of one spec: no worker with room has time for them.
    pub(super) fn lay_aside(&mut self, id: ClientId) {
        let before = self.clients[&id].usage;
        self.waiting.remove(&(before, id));
        let client = self.clients.get_mut(&id).expect("listed as waiting");
        let mut laid = None;
        while let Some(task) = client.first()
            && let Some(spec) = client.spec_at(task)
            && laid.is_none_or(|laid| laid == spec)
        {
            client.spread(task);
            client.pop();
            client.turn(task, State::Parked);
            client.parked.insert(task, Parked::NoTime(spec));
            laid = Some(spec);
        }
        self.untimely.insert(id);
        self.note_waiting(id);
        if let Some(spec) = laid {
            self.note_long(id, spec);
        }
    }

    /// Puts what was laid aside back into its queue, as far as workers have room and time for it by now.
    pub(super) fn take_up(&mut self) {
        if planted!(LeaveAside) {
            return;
        }
        for id in self.untimely.iter().copied().collect::<Vec<_>>() {
            self.take_up_of(id);
            if !self.clients.get(&id).is_some_and(|client| client.parked.any_untimely()) {
                self.untimely.remove(&id);
            }
        }
    }

    /// Puts all that was laid aside of a client back into its queue.
    pub(super) fn take_up_all(&mut self, id: ClientId) {
        let Some(client) = self.clients.get(&id) else { return };
        let specs = client.parked.untimely().flat_map(|spec| client.parked.untimely_of(spec));
        let tasks: Vec<TaskId> = specs.collect();
        tasks.into_iter().rev().for_each(|task| self.unpark(id, task));
    }

    fn take_up_of(&mut self, id: ClientId) {
        let Some(client) = self.clients.get(&id) else { return };
        let specs: Vec<SpecIndex> = client.parked.untimely().take(LOOKED_AT).collect();
        for spec in specs {
            let most = self.timely(id, spec, 1).min(TAKEN_UP);
            let client = &self.clients[&id];
            // The last first: each goes to the front.
            let tasks: Vec<TaskId> = client.parked.untimely_of(spec).take(most).collect();
            tasks.into_iter().rev().for_each(|task| self.unpark(id, task));
        }
    }

    /// For about how many tasks of a spec there are room and time, where each worker with room takes at least so many.
    pub(super) fn timely(&self, id: ClientId, spec: SpecIndex, least: u32) -> usize {
        let client = &self.clients[&id];
        let need = if self.enders.is_empty() { Need::default() } else { self.need_of(id, spec) };
        let room = self.room.get(&client.program).into_iter().flatten().map(|(_, worker)| *worker);
        let fit = room.filter(|worker| !client.held_by.contains(worker) && self.has_time(*worker, need));
        let mut tasks = 0;
        for worker in fit {
            tasks += self.workers[&worker].free_slots().max(least) as usize;
            if tasks >= TAKEN_UP {
                break;
            }
        }
        tasks
    }

    /// A task of a job has run to its end.
    pub(super) fn learn_end(&mut self, id: ClientId, spec: SpecIndex, micros: u64) {
        let Some(known) = self.clients.get(&id).and_then(|client| client.specs.get(spec.0 as usize)) else {
            return;
        };
        self.habits.add(known.habit, micros, 1);
        self.habits.note_learned(known.habit, known.learned);
        if micros >= LONG {
            self.note_long(id, spec);
        }
    }

    /// An attempt comes back that has run for so long. That is slot time used, as that of any other that brought nothing; and
    /// it says what the job takes, once for each task, as one that is cut off again and again is one. Whoever says it again
    /// of the same attempt says nothing.
    pub(super) fn on_ran(
        &mut self,
        worker: WorkerId,
        id: ClientId,
        (task, attempt): (TaskId, Attempt),
        seconds: u32,
    ) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let is_news = |entry: &&mut Task| entry.is_with(worker, attempt) && !entry.was_cut;
        let Some(entry) = client.tasks.get_mut(task).filter(is_news) else { return };
        entry.was_cut = true;
        let (spec, latest) = (entry.spec, entry.latest);
        let habit = client.specs[spec.0 as usize].habit;
        let micros = u64::from(seconds.min(LEFT_MAX)) * 1_000_000;
        self.settle(id, 0, micros);
        if latest == Attempt(1) || self.habits.get(habit).is_some_and(|habit| habit.runs() < FEW) {
            self.habits.add_cut(habit, micros);
            self.note_long(id, spec);
        }
    }

    /// Tasks of a job are long: its client hears what they take, if that is news.
    pub(super) fn note_long(&mut self, id: ClientId, spec: SpecIndex) {
        self.tell_learned(id, spec);
        self.note_too_long(id, spec);
    }

    /// Tells a client, once for each job, that its tasks take longer than any worker has.
    fn note_too_long(&mut self, id: ClientId, spec: SpecIndex) {
        // Who has no end takes them, and who has not come back yet may have more time.
        if self.enders.is_empty() || self.enders.len() < self.workers.len() || !self.missing.is_empty() {
            return;
        }
        let (need, longest) = (self.need_of(id, spec).micros, self.longest);
        let client = self.clients.get_mut(&id).expect("the caller looked it up");
        let Some(job) = client.specs.get(spec.0 as usize).map(|spec| spec.what.job) else { return };
        if Duration::from_micros(need) <= longest || client.too_long.contains(&job) {
            return;
        }
        client.too_long.insert(job);
        let (p90_seconds, longest_seconds) = (needed(need), given(longest));
        self.tell_client(id, ToClient::TooLong { spec, p90_seconds, longest_seconds }, Payload::new());
    }
}

impl Client {
    /// What a task is, whether it stands by itself or not.
    pub(super) fn spec_at(&self, task: TaskId) -> Option<SpecIndex> {
        self.tasks.get(task).map(|task| task.spec).or_else(|| self.stretches.spec_at(task))
    }
}

/// What is needed, in whole seconds.
pub(super) fn needed(micros: u64) -> u32 {
    u32::try_from(micros.div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

/// What there is, in whole seconds.
pub(super) fn given(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{ClientId, ProgramId},
        learn::Habit,
        master::{Config, Event, workers::Of},
        tests::world::plain,
        wire::{FromClient, FromWorker, Programs},
    };

    #[test]
    fn a_worker_that_is_kept_for_a_long_task_has_time_for_it_whatever_was_called_back_before() {
        let of =
            Of { program: ProgramId::default(), programs: Programs::Any, program_name: "sim".to_owned() };
        let mut worker = Worker::new(of, "node1:1".to_owned(), 1);
        worker.allotment.set(Time::ZERO, Some(Duration::from_secs(3_600)));
        worker.allotment.gave = true;
        worker.exclusive = Some((ClientId(1), TaskId(1)));
        let need = Need { micros: 20_000_000, ..Need::default() };
        assert!(worker.has_time(need, Time::ZERO, Duration::from_secs(10)));
        worker.sent = 1;
        assert!(!worker.has_time(need, Time::ZERO, Duration::from_secs(10)), "it would wait there");
    }

    const CLIENT: ClientId = ClientId(0);
    const WORKER: WorkerId = WorkerId(1);

    /// A master whose worker has a task.
    fn master() -> Master {
        let program = ProgramId::default();
        let mut master = Master::new(Config::default());
        let (programs, program_name, name) = (Programs::Own, String::new(), "node1".to_owned());
        let joined = Event::WorkerJoined {
            worker: WORKER,
            program,
            programs,
            program_name,
            name,
            slots: 1,
            returned: false,
        };
        let declare = FromClient::Declare { spec: SpecIndex(0), what: Box::new(plain()) };
        let submit = FromClient::Submit { task: TaskId(0), spec: SpecIndex(0) };
        let says = |message| Event::ClientSaid { client: CLIENT, message, body: Payload::new() };
        let client = Event::ClientJoined { client: CLIENT, program, returned: false };
        for event in [joined, client, says(declare), says(submit)] {
            master.handle(Time::ZERO, event);
            while master.poll_action().is_some() {}
        }
        master
    }

    #[test]
    fn an_attempt_that_was_cut_off_is_counted_once_however_often_that_is_said() {
        let mut master = master();
        let says = |attempt, seconds| {
            let message = FromWorker::Ran { client: CLIENT, task: TaskId(0), attempt, seconds };
            Event::WorkerSaid { worker: WORKER, message, body: Payload::new() }
        };
        let counted = |master: &Master| {
            let client = &master.clients[&CLIENT];
            (client.used(), master.habits.get(client.specs[0].habit).map(Habit::runs))
        };
        master.handle(Time::ZERO, says(Attempt(2), 60));
        assert_eq!(counted(&master), (0, Some(0)), "nobody has sent that one");
        for seconds in [60, 60, 600] {
            master.handle(Time::ZERO, says(Attempt(1), seconds));
            assert_eq!(counted(&master), (60_000_000, Some(1)));
        }
    }
}
