//! Workers that were started, and what is known of each.

use std::{collections::BTreeSet, time::Duration};

use super::{End, HOLD, Here, Keeper, Seen, State};
use crate::{Time, master::Backlog};

/// A worker that its engine does not know, and that is not here, is given up after so long.
const FORGOTTEN: Duration = Duration::from_secs(60);

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
    /// Whether it was of use.
    is_proven: bool,
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
        Self { phase: Phase::Asked, missing: Some(now), joined: None, is_here: false, is_proven: false }
    }

    /// Whether it takes an allocation, or will.
    pub(super) fn is_alive(&self) -> bool {
        self.is_here || self.phase != Phase::Ended
    }

    /// Whether it is counted on.
    pub(super) fn is_coming(&self) -> bool {
        self.phase != Phase::Ended && self.joined.is_none()
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
    pub(super) fn on_master(&mut self, backlog: Backlog, workers: Vec<Here>) {
        self.backlog = backlog;
        self.slots = workers.iter().fold(0, |slots, worker| slots.saturating_add(worker.slots));
        self.here = super::count(workers.len());
        let before = self.jobs.values().filter(|job| job.is_here).count();
        self.launched = workers;
        self.launched.retain(|worker| worker.job.is_some());
        self.note_here();
        if self.jobs.values().filter(|job| job.is_here).count() < before {
            // What has become of it is to be known before others are started.
            self.looked = None;
        }
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
    }

    pub(super) fn take_in(&mut self, seen: Vec<Seen>) {
        let known: BTreeSet<String> = seen.iter().map(|seen| seen.job.clone()).collect();
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
        self.logs.push(format!("worker {name} was of no use: {why}"));
        if let Some(time) = self.pace.fail(self.now, format!("worker {name}: {why}"))
            && self.wish.grows
        {
            let time = super::words::time(time);
            self.logs.push(format!("no more workers are started for {time}"));
        }
    }
}
