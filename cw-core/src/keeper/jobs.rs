//! Workers that were started, and what is known of each.

use std::{collections::BTreeSet, time::Duration};

use super::{End, HOLD, Here, Keeper, Seen, State, count};
use crate::{Time, gathered, master::Backlog};

/// A worker that its engine does not know, and that is not here, is given up after so long.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// One that was here, and has not been for so long, counts no longer against the most there may be. A connection that broke
/// is made again by then; an engine may need five minutes and more to see that a node is dead.
const GONE: Duration = Duration::from_secs(60);

/// One that was here for so long is of use.
const PROVEN: Duration = Duration::from_secs(60);

/// A worker that was started.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) phase: Phase,
    /// Since when its engine does not know it; at first since it was asked for.
    missing: Option<Time>,
    /// When the master first had it.
    joined: Option<Time>,
    /// Whether the master has it.
    is_here: bool,
    /// Since when the master has it no longer.
    left: Option<Time>,
    /// Whether it was of use.
    is_proven: bool,
    /// Since when it pends.
    pub(super) pends_since: Option<Time>,
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
            joined: None,
            is_here: false,
            left: None,
            is_proven: false,
            pends_since: None,
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
        self.phase != Phase::Ended && self.joined.is_none() && !self.is_withdrawn
    }

    /// Whether the master has it no longer, and its engine has not said why.
    pub(super) fn is_lost(&self) -> bool {
        self.left.is_some() && self.phase == Phase::Running
    }

    /// Whether the master has lost it for good, as far as anybody can tell.
    fn is_gone(&self, now: Time) -> bool {
        self.left.is_some_and(|left| left + GONE <= now)
    }

    /// Notes since when the master has it no longer.
    fn note_left(&mut self, now: Time) {
        let has_left = self.joined.is_some() && !self.is_here;
        self.left = has_left.then(|| self.left.unwrap_or(now));
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
    /// not for those again if they are gone too: there are never more than twice as many allocations as there may be.
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
        self.jobs.values_mut().for_each(|job| job.note_left(now));
    }

    pub(super) fn take_in(&mut self, seen: Vec<Seen>) {
        let known: BTreeSet<String> = gathered(seen.iter().map(|seen| seen.job.clone()));
        for Seen { job, state } in seen {
            self.note_state(job, state);
        }
        // Some of those that were not known before may be here, and not for long.
        self.note_here();
        let now = self.now;
        let mut forgotten = Vec::new();
        self.jobs.retain(|name, job| {
            if known.contains(name) || job.is_here {
                return true;
            }
            if job.is_withdrawn {
                return false;
            }
            let since = *job.missing.get_or_insert(now);
            let is_over = job.phase == Phase::Ended || since + FORGOTTEN <= now;
            if is_over && job.is_coming() {
                forgotten.push(name.clone());
            }
            !is_over
        });
        for name in forgotten {
            let why = format!("{} does not know it any more, and it never joined", self.engine);
            self.note_failure(&name, &why);
        }
    }

    fn note_state(&mut self, name: String, state: State) {
        let is_new = !self.jobs.contains_key(&name);
        let job = self.jobs.entry(name.clone()).or_insert_with(|| Job::asked(self.now));
        job.missing = None;
        let was = std::mem::replace(
            &mut job.phase,
            match &state {
                State::Pending { why } => Phase::Pending { why: why.clone() },
                State::Running => Phase::Running,
                State::Ended(_) => Phase::Ended,
                State::Unknown { why } => Phase::Unknown { why: why.clone() },
            },
        );
        job.pends_since = job.pends().then(|| job.pends_since.unwrap_or(self.now));
        let was_withdrawn = std::mem::take(&mut job.is_withdrawn);
        if was == Phase::Ended || job.pends() && !job.is_here {
            // It was put in line again, and is another worker when it runs.
            (job.joined, job.is_proven) = (None, false);
        }
        // Of one that had ended before it was known it is not known whether it joined.
        let may_have_joined = job.joined.is_some() || is_new || !self.wish.grows;
        let is_proven = job.is_proven;
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
            let time = super::words::time(time);
            self.logs.push(format!("no more workers are started for {time}"));
        }
    }
}
