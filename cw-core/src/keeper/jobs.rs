//! Workers that were started, and what is known of each.

use std::{collections::BTreeSet, time::Duration};

use super::{End, HOLD, Here, Keeper, Seen, State, count, words};
use crate::{Time, gathered, master::Backlog};

/// A worker that its engine does not know, and that is not here, is given up after so long.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// One that was here, and has not been for so long, counts no longer against the most there may be. A connection that broke
/// is made again by then; an engine may need five minutes and more to see that a node is dead.
const GONE: Duration = Duration::from_secs(60);

/// One that has run for so long and was never here is as good as gone: what keeps it is no longer its start, which may have to
/// fetch an image, but a node that is dead or that does not reach the master. By itself it gives up after ten minutes.
pub(super) const JOINS: Duration = Duration::from_secs(5 * 60);

/// What the engine says of one that has just left may be older than that; and one that ends as it should is not gone there
/// at once. So much later it is believed to know nothing of an end.
const NOTICED: Duration = Duration::from_secs(5);

/// One that left so long ago is lost, whatever the engine has not said.
const LOST: Duration = Duration::from_secs(20);

/// One that was here for so long is of use.
const PROVEN: Duration = Duration::from_secs(60);

/// A worker that was started.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) phase: Phase,
    /// Since when its engine does not know it; at first since it was asked for.
    missing: Option<Time>,
    /// When its engine last told of it.
    seen: Option<Time>,
    /// Since when it is known to run, and where.
    runs_since: Option<Time>,
    pub(super) on: String,
    /// Whether it has run for long, and never joined.
    pub(super) is_silent: bool,
    /// When the master first had it.
    joined: Option<Time>,
    /// Whether the master has it.
    is_here: bool,
    /// Since when the master has it no longer.
    left: Option<Time>,
    /// Whether it was of use.
    is_proven: bool,
    /// Since when it pends, and whether its engine would give it up.
    pub(super) pends_since: Option<Time>,
    in_line: bool,
    /// Whether this keeper has started it, and whether it stays where there is nothing to do, as far as that is known.
    pub(super) is_own: bool,
    pub(super) stays: bool,
    /// Whether there has been work since it was asked for: until then it may be there for what is yet to come.
    pub(super) had_work: bool,
    /// Whether it is being taken back, and the engine has not said since what came of it.
    pub(super) is_withdrawn: bool,
}

/// Where it is, as far as its engine has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not said anything yet.
    Asked,
    Pending {
        why: String,
    },
    Running,
    Ended,
    Unknown {
        why: String,
    },
}

impl Job {
    pub(super) fn asked(now: Time) -> Self {
        Self {
            phase: Phase::Asked,
            missing: Some(now),
            seen: None,
            runs_since: None,
            on: String::new(),
            is_silent: false,
            joined: None,
            is_here: false,
            left: None,
            is_proven: false,
            pends_since: None,
            in_line: false,
            is_own: false,
            stays: false,
            had_work: false,
            is_withdrawn: false,
        }
    }

    /// One that was started by the keeper itself, which does so for work only, or to have some that stay.
    pub(super) fn own(now: Time, stays: bool) -> Self {
        Self { is_own: true, had_work: true, stays, ..Self::asked(now) }
    }

    /// Whether it takes an allocation, or will.
    pub(super) fn is_alive(&self) -> bool {
        self.is_here || self.phase != Phase::Ended
    }

    /// Whether it is counted on.
    pub(super) fn is_coming(&self) -> bool {
        self.phase != Phase::Ended && self.joined.is_none() && !self.is_withdrawn && !self.is_silent
    }

    /// Whether the master has it no longer, and its engine takes it to run: one that ends as it should does so too, for a
    /// moment.
    pub(super) fn is_lost(&self, now: Time) -> bool {
        let is_late = |left: Time| self.seen.is_some_and(|seen| left + NOTICED <= seen) || left + LOST <= now;
        self.phase == Phase::Running && self.left.is_some_and(is_late)
    }

    /// Whether it is lost for good, as far as anybody can tell.
    pub(super) fn is_gone(&self, now: Time) -> bool {
        self.is_silent || self.left.is_some_and(|left| left + GONE <= now)
    }

    /// Notes since when the master has it no longer, and whether it ever will.
    fn note_left(&mut self, now: Time, may_tell: bool) {
        let has_left = self.joined.is_some() && !self.is_here;
        self.left = has_left.then(|| self.left.unwrap_or(now));
        let is_late = self.runs_since.is_some_and(|since| since + JOINS <= now);
        self.is_silent = may_tell && is_late && self.joined.is_none() && self.phase == Phase::Running;
    }

    /// Whether its engine, as it said just now, would give it up.
    pub(super) fn can_be_taken_back(&self) -> bool {
        self.is_coming() && self.pends() && self.in_line && self.missing.is_none()
    }

    /// Whether its engine is known to have it wait.
    pub(super) fn pends(&self) -> bool {
        matches!(self.phase, Phase::Pending { .. })
    }

    /// Whether what its engine says of it next decides anything.
    pub(super) fn matters(&self) -> bool {
        self.is_alive() && !self.is_here
    }
}

impl Keeper {
    /// How many workers take an allocation, or will, as far as is known. For each that is gone one other may be started, but
    /// not for those again if they are gone too: so there may be twice as many allocations as there should be at most, until
    /// the engine notices.
    pub(super) fn alive(&self) -> u32 {
        let alive = || self.jobs.values().filter(|job| job.is_alive());
        let gone = count(alive().filter(|job| job.is_gone(self.now)).count());
        count(alive().count()) - gone.min(self.wish.max)
    }

    pub(super) fn on_master(&mut self, backlog: Backlog, workers: Vec<Here>) {
        self.backlog = backlog;
        self.slots = workers.iter().fold(0, |slots, worker| slots.saturating_add(worker.slots));
        self.here = count(workers.len());
        let before = self.jobs.values().filter(|job| job.is_here).count();
        self.launched = workers;
        self.launched.retain(|worker| worker.job.is_some());
        self.note_here();
        if self.jobs.values().filter(|job| job.is_here).count() < before {
            // What has become of it is to be known before others are started.
            self.looked = None;
        }
        if self.backlog.tasks > 0 {
            self.jobs.values_mut().for_each(|job| job.had_work = true);
        }
        self.note_surplus();
    }

    fn note_here(&mut self) {
        self.jobs.values_mut().for_each(|job| job.is_here = false);
        let now = self.now;
        for Here { job, is_proven, .. } in &self.launched {
            let Some(job) = job.as_ref().and_then(|name| self.jobs.get_mut(name)) else { continue };
            job.is_here = true;
            if job.joined.is_none() {
                self.pace.end_pause();
            }
            let joined = *job.joined.get_or_insert(now);
            if !job.is_proven && (*is_proven || joined + PROVEN <= now) {
                job.is_proven = true;
                self.pace.forget();
            }
        }
        // Of other engines it is not known which of those that are here are theirs.
        let may_tell = self.wish.grows;
        let mut silent = BTreeSet::new();
        for (name, job) in &mut self.jobs {
            let was_silent = job.is_silent;
            job.note_left(now, may_tell);
            if job.is_silent && !was_silent {
                silent.insert(name.clone());
            }
        }
        if !silent.is_empty() {
            let of: Vec<_> = self.jobs.iter().filter(|(name, _)| silent.contains(*name)).collect();
            let line = words::silent(&of);
            self.logs.push(line);
        }
    }

    pub(super) fn take_in(&mut self, seen: Vec<Seen>) {
        let known: BTreeSet<String> = gathered(seen.iter().map(|seen| seen.job.clone()));
        for Seen { job, state } in seen {
            self.note_state(job, state);
        }
        // Some of those that were not known before may be here, and not for long.
        self.note_here();
        let now = self.now;
        let (mut forgotten, mut taken_back) = (Vec::new(), Vec::new());
        self.jobs.retain(|name, job| {
            if known.contains(name) || job.is_here {
                return true;
            }
            if job.is_withdrawn {
                taken_back.push(name.clone());
                return false;
            }
            let since = *job.missing.get_or_insert(now);
            let is_over = job.phase == Phase::Ended || since + FORGOTTEN <= now;
            if is_over && job.is_coming() {
                forgotten.push(name.clone());
            }
            !is_over
        });
        self.took_back.0.extend(taken_back);
        self.note_taken_back();
        for name in forgotten {
            let why = format!("{} does not know it any more, and it never joined", self.engine);
            self.note_failure(&name, &why);
        }
    }

    fn note_state(&mut self, name: String, state: State) {
        let is_new = !self.jobs.contains_key(&name);
        let job = self.jobs.entry(name.clone()).or_insert_with(|| Job::asked(self.now));
        (job.missing, job.seen) = (None, Some(self.now));
        let was = std::mem::replace(
            &mut job.phase,
            match &state {
                State::Pending { why, .. } => Phase::Pending { why: why.clone() },
                State::Running { .. } => Phase::Running,
                State::Ended(_) => Phase::Ended,
                State::Unknown { why } => Phase::Unknown { why: why.clone() },
            },
        );
        job.pends_since = job.pends().then(|| job.pends_since.unwrap_or(self.now));
        job.in_line = matches!(state, State::Pending { in_line: true, .. });
        job.runs_since = (job.phase == Phase::Running).then(|| job.runs_since.unwrap_or(self.now));
        if let State::Running { on } = &state {
            job.on.clone_from(on);
        }
        let was_withdrawn = std::mem::take(&mut job.is_withdrawn);
        if was == Phase::Ended || job.pends() && !job.is_here {
            // It was put in line again, and is another worker when it runs.
            (job.joined, job.is_proven) = (None, false);
        }
        // Of one that had ended before it was known it is not known whether it joined.
        let may_have_joined = job.joined.is_some() || is_new || !self.wish.grows;
        let is_proven = job.is_proven;
        if was_withdrawn {
            match &state {
                State::Ended(End::ByHand) => self.took_back.0.push(name.clone()),
                State::Pending { in_line: true, .. } => self.took_back.1 += 1,
                _ => {}
            }
        }
        let State::Ended(end) = state else { return };
        if was == Phase::Ended {
            return;
        }
        match end {
            End::ByHand if was_withdrawn => {}
            End::ByHand => self.hold = self.now + HOLD,
            End::Planned(_) if may_have_joined => {}
            End::Planned(how) => self.note_failure(&name, &format!("it ended before it joined: {how}")),
            End::Failed(why) if is_proven && self.wish.grows => {
                self.logs.push(format!("worker {name} has ended: {why}"));
            }
            End::Failed(why) if is_new && !self.has_looked => {
                self.pace.note_old(format!("worker {name}: {why}"))
            }
            End::Failed(why) => self.note_failure(&name, &why),
        }
    }

    fn note_failure(&mut self, name: &str, why: &str) {
        let what = if self.wish.grows { "was of no use" } else { "has ended badly" };
        self.logs.push(format!("worker {name} {what}: {why}"));
        if let Some(time) = self.pace.fail(self.now, format!("worker {name}: {why}"))
            && self.wish.grows
        {
            let time = words::time(time);
            self.logs.push(format!("no more workers are started for {time}"));
        }
    }
}
