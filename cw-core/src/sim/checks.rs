//! What is true of the world, whatever the machines believe; and the rules, compared with that as things happen.
//!
//! The rules are those of the design that the core can break. Each is named where it is checked; the first that does not
//! hold ends the run.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    executors::failed,
    hosts::Host,
    knobs::Knobs,
    plan::{Does, TaskPlan},
    silence::Silence,
    truth::{self, Run, Truth, longest, name, named, result},
};
use crate::{
    Payload, Time,
    client::{self, Completion},
    ids::{Attempt, ClientId, ExecutorId, SpecIndex, TaskId},
    wire::{Class, Doing, FromWorker, Spec},
};

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub rule: &'static str,
    /// What contradicts it.
    pub what: String,
}

/// What is known of a host beside what it knows itself.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    /// The epoch of the master that welcomed it last.
    epoch: u64,
    gone: Option<Time>,
    /// It has said that it leaves, and the master has heard that.
    left: bool,
    /// When the master last had a reason to doubt it.
    unrest: Option<Time>,
    heard: Time,
    /// The epoch of the master that let it in last, and since when that has had no connection to it.
    admitted: u64,
    /// The number that it was given then.
    id: u32,
    lost: Option<Time>,
}

pub(super) struct Ledger {
    pub(super) broken: Option<Broken>,
    pub(super) time: Time,
    knobs: Knobs,
    /// By the client's host and the task's number.
    pub(super) truths: BTreeMap<usize, Vec<Truth>>,
    pub(super) silence: Silence,
    /// Clients of which a peer that lies was given a task, and may say anything.
    lied_to: BTreeSet<usize>,
    /// Hosts that were stopped or cut off: the lease of a beat that was stuck then comes late.
    stuck: BTreeSet<usize>,
    is_master_stuck: bool,
    /// When a master last died.
    master_gone: Time,
    /// What runs on each executor: whose task, and which of its runs.
    pub(super) live: BTreeMap<(usize, ExecutorId), (usize, TaskId, usize)>,
    /// Hosts by every number that a master ever gave.
    owners: BTreeMap<u32, usize>,
    fates: BTreeMap<usize, Fate>,
    /// Of a client and its spec: no task from here on was dispatched, as it was told.
    dispatched: BTreeMap<(usize, SpecIndex), TaskId>,
    spins: u32,
    /// Runs, of all tasks.
    pub(super) begun: u64,
    /// Slot time of runs that have ended, by client.
    pub(super) used: BTreeMap<usize, Duration>,
    /// The hosts that were set aside: what had failed there was not charged.
    pub(super) set_aside: BTreeSet<usize>,
}

/// No task is sent to workers so often, unless the network is slower than suspicion.
const SENT_MAX: usize = 100;

impl Ledger {
    pub(super) fn new(knobs: &Knobs) -> Self {
        Self {
            broken: None,
            time: Time::ZERO,
            knobs: knobs.clone(),
            truths: BTreeMap::new(),
            silence: Silence::default(),
            lied_to: BTreeSet::new(),
            stuck: BTreeSet::new(),
            is_master_stuck: false,
            master_gone: Time::ZERO,
            live: BTreeMap::new(),
            owners: BTreeMap::new(),
            fates: BTreeMap::new(),
            dispatched: BTreeMap::new(),
            spins: 0,
            begun: 0,
            used: BTreeMap::new(),
            set_aside: BTreeSet::new(),
        }
    }

    /// Notes that a rule is broken, unless it holds.
    pub(super) fn rule(&mut self, holds: bool, rule: &'static str, what: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            self.broken = Some(Broken { rule, what: what() });
        }
    }

    /// A timer that is due again at once, again and again, is a machine that spins.
    pub(super) fn note_timer(&mut self, spins: bool) {
        self.spins = if spins { self.spins + 1 } else { 0 };
        let spins = self.spins;
        self.rule(spins < 100, "machines do not spin", || format!("{spins} timers at one time"));
    }

    pub(super) fn owner(&self, id: u32) -> Option<usize> {
        self.owners.get(&id).copied()
    }

    pub(super) fn epoch_of(&self, peer: usize) -> u64 {
        self.fates.get(&peer).map_or(0, |fate| fate.epoch)
    }

    pub(super) fn truth(&mut self, owner: usize, task: TaskId) -> Option<&mut Truth> {
        self.truths.get_mut(&owner)?.get_mut(usize::try_from(task.0).ok()?)
    }

    pub(super) fn runs(&mut self) -> impl Iterator<Item = &mut Run> {
        self.truths.values_mut().flatten().flat_map(|truth| &mut truth.runs)
    }

    pub(super) fn note_planned(&mut self, peer: usize, tasks: &[TaskPlan], specs: &[Spec]) {
        self.note_motion(peer);
        let truths = self.truths.entry(peer).or_default();
        truths.extend(tasks.iter().map(|plan| Truth {
            plan: *plan,
            spec: specs[plan.spec].clone(),
            is_cancelled: false,
            is_claimed: false,
            is_abandoned: false,
            done: None,
            ok: 0,
            failed: 0,
            crashed: 0,
            timed_out: 0,
            losses: 0,
            exposures: 0,
            called_back: Vec::new(),
            sent_to: Vec::new(),
            last_sent: Time::ZERO,
            runs: Vec::new(),
        }));
    }

    /// The master sends a task to a worker.
    pub(super) fn note_sent(&mut self, client: u32, task: TaskId, worker: u32) {
        let Some(owner) = self.owner(client) else { return };
        self.note_dispatched_of(owner);
        let now = self.time;
        let Some(truth) = self.truth(owner, task) else { return };
        truth.sent_to.push(worker);
        truth.last_sent = now;
        let times = truth.sent_to.len();
        let may = times < SENT_MAX || self.knobs.is_suspiciously_slow();
        self.rule(may, "a task is not sent about without end", || {
            format!("{task} of host {owner} was sent {times} times")
        });
    }

    /// An attempt is called back. If that is because another has a result, and this is lost before its client has it, the task
    /// runs again.
    pub(super) fn note_called_back(&mut self, client: u32, task: TaskId, attempt: Attempt) {
        let Some(owner) = self.owner(client) else { return };
        let Some(truth) = self.truth(owner, task) else { return };
        truth.called_back.push(attempt);
        let has_result = |run: &Run| run.attempt != attempt && run.is_over && !run.is_bad && run.is_reported;
        if truth.runs.iter().any(has_result) {
            truth.runs.iter_mut().filter(|run| run.attempt == attempt).for_each(|run| run.is_excused = true);
        }
    }

    /// A peer that lies was given a task of a client's.
    pub(super) fn note_lied_to(&mut self, client: u32) {
        self.lied_to.extend(self.owners.get(&client));
    }

    pub(super) fn is_lied_to(&self, owner: usize) -> bool {
        self.lied_to.contains(&owner)
    }

    /// A process was stopped or cut off; none means the master.
    pub(super) fn note_stuck(&mut self, who: Option<usize>) {
        self.is_master_stuck |= who.is_none();
        self.stuck.extend(who);
    }

    /// Whether a worker and the master may disagree about the time by more than the difference between a lease and a
    /// suspicion.
    pub(super) fn is_time_doubtful(&self, workers: [usize; 2]) -> bool {
        self.is_master_stuck
            || self.knobs.has_odd_time()
            || workers.iter().any(|worker| self.stuck.contains(worker))
    }

    /// The call of a task.
    pub(super) fn submission(&mut self, peer: usize, task: TaskId) -> client::Event {
        let truth = self.truth(peer, task).expect("it was planned");
        let (plan, is_apart) = (truth.plan, truth.spec.apart);
        let mut args = name(peer, task).to_vec();
        if is_apart {
            args = truth::apart(&args, plan.args_bytes).to_vec();
        }
        args.resize(args.len().max(if is_apart { 0 } else { plan.args_bytes }), 0);
        let spec = SpecIndex(u32::try_from(plan.spec).expect("few specs"));
        client::Event::Submit { task, spec, durable: plan.durable, args: args.into() }
    }

    pub(super) fn note_cancelled(&mut self, peer: usize, task: TaskId) {
        if let Some(truth) = self.truth(peer, task) {
            truth.is_cancelled = true;
        }
    }

    /// A peer was let in. `comes_back` is the number by which it proved to have been here before.
    pub(super) fn note_admitted(
        &mut self,
        id: u32,
        peer: usize,
        returned: bool,
        comes_back: Option<u32>,
        epoch: u64,
    ) {
        let before = self.owners.insert(id, peer);
        self.rule(before.is_none_or(|other| other == peer), "a number is one peer's for ever", || {
            format!("{id} was given to host {before:?}, and to {peer}")
        });
        // Clocks may run at half their speed, or twice as fast.
        let grace = self.knobs.master.client_grace / if self.knobs.faults.rates { 2 } else { 1 };
        let now = self.time;
        let fate = self.fates.entry(peer).or_default();
        (fate.heard, fate.unrest) = (now, Some(now));
        let is_in_time = fate.lost.is_none_or(|lost| now.since(lost) < grace) && fate.gone.is_none();
        let is_known = comes_back == Some(fate.id) && fate.admitted == epoch;
        (fate.lost, fate.admitted, fate.id) = (None, epoch, id);
        let must_resume = is_known && is_in_time && !std::mem::take(&mut fate.left);
        self.rule(returned || !must_resume, "who comes back in time resumes its session", || {
            format!("host {peer} is let in as {id}")
        });
        if !returned {
            self.excuse(peer);
        }
    }

    pub(super) fn note_welcome(&mut self, peer: usize, epoch: u64) {
        self.fates.entry(peer).or_default().epoch = epoch;
        // What it was told by another master, or before, holds no more.
        self.note_stalled(peer, false);
    }

    /// A client was told from which task of a spec on none was dispatched.
    pub(super) fn note_dispatched(&mut self, peer: usize, spec: SpecIndex, below: TaskId) {
        let known = self.dispatched.entry((peer, spec)).or_insert(below);
        *known = below.max(*known);
    }

    /// Another process goes on with a client's session.
    pub(super) fn note_revived(&mut self, peer: usize) {
        self.fates.entry(peer).or_default().gone = None;
        self.note_stalled(peer, false);
    }

    /// A client's session has ended by its own word.
    pub(super) fn note_left(&mut self, peer: usize) {
        self.note_client_gone(peer);
        self.fates.entry(peer).or_default().left = true;
    }

    pub(super) fn note_client_gone(&mut self, peer: usize) {
        let now = self.time;
        self.fates.entry(peer).or_default().gone.get_or_insert(now);
    }

    fn excuse(&mut self, worker: usize) {
        self.runs().filter(|run| run.worker == worker).for_each(|run| run.is_excused = true);
    }

    pub(super) fn note_leaves(&mut self, worker: usize) {
        self.excuse(worker);
    }

    pub(super) fn note_host_gone(&mut self, worker: usize) {
        self.excuse(worker);
        self.runs().filter(|run| run.worker == worker).for_each(|run| run.is_over = true);
        self.live.retain(|(host, _), _| *host != worker);
    }

    pub(super) fn note_master_gone(&mut self) {
        self.master_gone = self.time;
        self.runs().for_each(|run| run.is_excused = true);
        // The next one can only believe what workers say.
        if self.knobs.faults.rogue_worker {
            self.lied_to.extend(self.owners.values());
        }
    }

    /// A worker was given up: what was with it was lost once more.
    pub(super) fn note_given_up(&mut self, id: u32) {
        let Some(worker) = self.owner(id) else { return };
        for truth in self.truths.values_mut().flatten() {
            let was_there = truth.runs.iter().any(|run| run.worker == worker && run.told_end.is_none());
            truth.losses += u32::from(was_there);
            truth.exposures += u32::from(!was_there && truth.sent_to.contains(&id) && truth.done.is_none());
        }
        self.excuse(worker);
    }

    /// The master has an acknowledgement, or a connection has ended.
    pub(super) fn note_heard(&mut self, peer: usize, is_well: bool) {
        let (now, doubt) = (self.time, self.knobs.master.suspect_after * 4 / 10);
        let fate = self.fates.entry(peer).or_default();
        if !is_well {
            fate.lost.get_or_insert(now);
        }
        if !is_well || now.since(fate.heard) > doubt {
            fate.unrest = Some(now);
        }
        fate.heard = now;
    }

    /// Whether the master had a reason to doubt a host since then.
    pub(super) fn is_doubted_since(&self, peer: usize, since: Time) -> bool {
        self.fates.get(&peer).and_then(|fate| fate.unrest).is_some_and(|unrest| unrest >= since)
    }

    /// Whether the master has had no reason to doubt a run's worker since it sent it.
    pub(super) fn is_certain(&self, run: &Run) -> bool {
        let doubt = self.knobs.master.suspect_after * 4 / 10;
        let fate = self.fates.get(&run.worker).copied().unwrap_or_default();
        fate.unrest.is_none_or(|unrest| unrest < run.sent) && self.time.since(fate.heard) < doubt
    }

    /// The master hears of an attempt.
    pub(super) fn note_worker_said(&mut self, peer: usize, message: &FromWorker) {
        let (client, task, attempt, is_end) = match *message {
            FromWorker::Started { client, task, attempt } => (client, task, attempt, false),
            FromWorker::Waiting { client, task, attempt }
            | FromWorker::Finished { client, task, attempt, .. }
            | FromWorker::Returned { client, task, attempt, .. } => (client, task, attempt, true),
            FromWorker::Have { client, task, attempt, doing } => {
                (client, task, attempt, doing == Doing::Done)
            }
            _ => return,
        };
        let is_have = matches!(message, FromWorker::Have { .. });
        let doubt = self.knobs.master.suspect_after * 4 / 10;
        let (now, fate) = (self.time, self.fates.get(&peer).copied().unwrap_or_default());
        let Some(owner) = self.owner(client.0) else { return };
        let Some(truth) = self.truth(owner, task) else { return };
        let theirs =
            |run: &&mut Run| run.worker == peer && run.attempt == attempt && run.client_id == client.0;
        if let Some(run) = truth.runs.iter_mut().rev().find(theirs) {
            let is_certain =
                fate.unrest.is_none_or(|unrest| unrest < run.sent) && now.since(fate.heard) < doubt;
            if is_certain && !is_have {
                run.told.get_or_insert(now);
            }
            run.is_heard_of = true;
            run.is_reported |= matches!(message, FromWorker::Finished { .. });
            if is_end {
                run.is_superseded |= run.sent < truth.last_sent || truth.called_back.contains(&attempt);
                run.told_end.get_or_insert(now);
            }
        }
    }

    /// An attempt is fed to an executor at most once for each time it came. Gives its client's number.
    pub(super) fn note_fed(
        &mut self,
        hosts: &mut [Host],
        host: usize,
        task: TaskId,
        attempt: Attempt,
        args: &[u8],
    ) -> Option<ClientId> {
        let (owner, named) = named(args)?;
        let worker = hosts[host].worker().expect("only workers feed");
        let given = worker.given.get_mut(&(owner, task, attempt))?;
        given.fed += 1;
        let (fed, came, client) = (given.fed, given.came, given.client_id);
        self.rule(named == task && fed <= came, "an attempt is fed once", || {
            format!("{task} {attempt} was fed {fed} times on host {host}, and came {came} times")
        });
        Some(ClientId(client))
    }

    /// A run begins: what it does, and for how long.
    pub(super) fn note_begun(
        &mut self,
        hosts: &[Host],
        host: usize,
        executor: ExecutorId,
        task: TaskId,
        attempt: Attempt,
        args: &[u8],
    ) -> (Does, Duration) {
        let stranger = (Does::Return, Duration::from_millis(1));
        let Some((owner, _)) = named(args) else { return stranger };
        let super::hosts::Role::Worker(worker) = &hosts[host].role else { return stranger };
        let Some(given) = worker.given.get(&(owner, task, attempt)).copied() else { return stranger };
        let Fate { gone, .. } = self.fates.get(&owner).copied().unwrap_or_default();
        let now = self.time;
        let kept = self.knobs.client.keep_for.unwrap_or_default().max(self.knobs.master.client_grace);
        let grace = (kept + self.knobs.master.lost_after) * 2;
        let late =
            gone.is_some_and(|gone| now > gone + grace + self.knobs.delay * 4 + Duration::from_secs(120));
        self.rule(!late, "nothing runs for a client that is gone", || format!("{task} of host {owner}"));
        self.note_motion(owner);
        let is_lied_to = self.is_lied_to(owner);
        let others: BTreeSet<usize> = self.truth(owner, task).into_iter().flat_map(Truth::workers).collect();
        let doubtful: BTreeSet<usize> =
            others.into_iter().filter(|other| self.is_time_doubtful([*other, host])).collect();
        let (is_calm, is_doubtful) = (self.knobs.is_calm(), |worker: usize| doubtful.contains(&worker));
        let Some(truth) = self.truths.get_mut(&owner).and_then(|all| all.get_mut(task.0 as usize)) else {
            return stranger;
        };
        // A worker that stands still while its network goes on is neither lost nor says what it has; it is waited for, but
        // not for ever.
        let stands_still = |run: &&mut Run| hosts[run.worker].node.is_dazed;
        truth.runs.iter_mut().filter(stands_still).for_each(|run| run.is_excused = true);
        let run = Run {
            worker: host,
            executor,
            attempt,
            client_id: given.client_id,
            epoch: given.epoch,
            sent: given.sent,
            began: now,
            is_over: false,
            is_bad: false,
            is_failed: false,
            told: None,
            is_heard_of: false,
            told_end: None,
            is_superseded: false,
            is_reported: false,
            // The master that sent it is gone, and may have moved it: the next one cannot know.
            is_excused: given.sent < self.master_gone,
        };
        let new_epoch = run.epoch;
        let is_charged =
            |other: &&Run| other.is_known_failure(&run) && !self.set_aside.contains(&other.worker);
        let (failed, retries) = (truth.runs.iter().filter(is_charged).count(), truth.spec.retries as usize);
        let again = truth.why_again(&run, is_calm, &is_doubtful);
        let begun = truth.runs.len();
        // If a master dies before its word that a task was dispatched has arrived, nobody knows that it was.
        let spec = SpecIndex(u32::try_from(truth.plan.spec).expect("few specs"));
        let dispatched = self.dispatched.get(&(owner, spec)).copied().unwrap_or_default();
        let is_unknown = |run: &Run| run.epoch != new_epoch && task >= dispatched;
        let may_begin =
            is_lied_to || truth.spec.rerun || truth.runs.iter().all(|run| run.is_failed || is_unknown(run));
        self.live.insert((host, executor), (owner, task, begun));
        self.begun += 1;
        let (plan, shares) = (truth.plan, truth.spec.shares.clone());
        truth.runs.push(run);
        self.rule(may_begin, "what must not run twice begins once", || {
            format!("{task} of host {owner} begins on host {host}, for the {}th time", begun + 1)
        });
        // A liar may claim the attempt that failed.
        let may_try = failed <= retries || is_lied_to;
        self.rule(may_try, "a task is tried as often as its retries allow", || {
            format!("{task} of host {owner} begins after {failed} failures")
        });
        self.check_program(hosts, (host, executor), owner, (task, &shares));
        // What a liar claims to have, and is lost with, is done again.
        if let Err((rule, what)) = again.or_else(|why| if is_lied_to { Ok(()) } else { Err(why) }) {
            self.rule(false, rule, || format!("{task} of host {owner}, on host {host}: {what}"));
        }
        (plan.does, plan.runs_for)
    }

    /// A run has ended: its outcome, or none if it takes its executor with it.
    pub(super) fn note_ended(
        &mut self,
        host: usize,
        executor: ExecutorId,
        task: TaskId,
        args: &[u8],
        bad: Option<Class>,
    ) -> Option<(Class, Payload)> {
        let stranger = Some((Class::Ok, Payload::from_static(b"?")));
        let Some((owner, _, run)) = self.live.remove(&(host, executor)) else {
            let _ = named(args);
            return stranger;
        };
        self.note_motion(owner);
        let began = self.truth(owner, task).expect("it began").runs[run].began;
        *self.used.entry(owner).or_default() += self.time.since(began);
        let truth = self.truth(owner, task).expect("it began");
        let does = match (bad, truth.plan.does) {
            (Some(Class::Crashed), _) => Does::Crash,
            (Some(_), _) => Does::Fail,
            (None, Does::FailTimes(times)) if truth.failed < times => Does::Fail,
            (None, Does::CrashTimes(times)) if truth.crashed < times => Does::Crash,
            (None, other) => other,
        };
        truth.runs[run].is_over = true;
        truth.runs[run].is_bad = matches!(does, Does::Fail | Does::Crash);
        truth.runs[run].is_failed = does == Does::Fail;
        match does {
            Does::Fail => {
                truth.failed += 1;
                Some(failed())
            }
            Does::Crash => {
                truth.crashed += 1;
                None
            }
            _ => {
                truth.ok += 1;
                Some((Class::Ok, result(owner, task, truth.plan.result_bytes)))
            }
        }
    }

    /// A client has an answer.
    pub(super) fn note_complete(&mut self, peer: usize, task: TaskId, it: &Completion, is_recorded: bool) {
        self.note_motion(peer);
        let lies = self.is_lied_to(peer);
        // A peer that lies is of a program of its own; and what tasks share may not come.
        let no_shares = self.knobs.habits.shares && self.knobs.faults.bad_fetch;
        let programs = self.knobs.programs + u32::from(self.knobs.faults.rogue_worker || no_shares);
        let calm = self.knobs.is_calm();
        let Some(truth) = self.truth(peer, task) else {
            return self.rule(false, "only what was asked for is reported", || format!("{task}"));
        };
        let before = truth.done.replace(it.class);
        let local = matches!(it.class, Class::Cancelled | Class::Disconnected);
        let must_record = truth.plan.durable && !local;
        let verdict = truth.verdict(peer, task, it, calm, programs, lies);
        let broken = match verdict {
            _ if before.is_some() => "every task is reported once",
            _ if must_record && !is_recorded => "what is durable is recorded before it is complete",
            Err(rule) => rule,
            Ok(()) => return,
        };
        // A body can be long, and most answers are right.
        let what = Completion { body: it.body.part(0..it.body.len().min(64)), ..it.clone() };
        let words = format!("{task} of host {peer} after {before:?}: {what:?}; truly {truth:?}");
        self.rule(false, broken, || words.chars().take(2_000).collect());
    }

    /// Whether the master was told of a run of one of the client's tasks, but not of its end, on such a worker.
    pub(super) fn is_taken_to_run(&self, owner: usize, on: impl Fn(usize) -> bool) -> bool {
        let runs = self.truths.get(&owner).into_iter().flatten().filter(|truth| truth.done.is_none());
        runs.flat_map(|truth| &truth.runs)
            .any(|run| run.is_heard_of && run.told_end.is_none() && on(run.worker))
    }

    /// Tasks without an answer, and for how long they may yet run.
    pub(super) fn open(&self, is_up: impl Fn(usize) -> bool) -> (Vec<(usize, TaskId)>, Duration) {
        let mut open = Vec::new();
        let mut work = Duration::ZERO;
        for (owner, truths) in self.truths.iter().filter(|(owner, _)| is_up(**owner)) {
            for (task, truth) in truths.iter().enumerate().filter(|(_, truth)| truth.is_open()) {
                open.push((*owner, TaskId(task as u64)));
                work += longest(&truth.plan, &truth.spec);
            }
        }
        (open, work)
    }
}
