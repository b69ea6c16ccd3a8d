//! Workers that pend and are no longer needed are taken back: the work was done by others, or takes less time than was
//! thought. Those that have begun end by themselves when they have nothing to do.
//!
//! Not taken back are those that [stay](super::Action::Start) whatever there is to do, those that `cw start` may still wait
//! for, and what was asked for before there was any work: it is there for what is yet to come. Where workers do not end for
//! having nothing to do, only what is above the most there may be is taken back.
//!
//! What pends is given as long as what runs: the idle time. Its place in the line, which may be hours long, is gone with it,
//! and who sends one batch after the other, or comes back after a break, wants it again. While it pends it costs nobody
//! anything.

use std::time::Duration;

use super::{Action, Job, Keeper, pace, wanted, words};
use crate::Time;

/// Where workers have no idle time, what is above the most there may be is taken back after so long.
const IDLE: Duration = Duration::from_secs(5 * 60);

/// More workers than are needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surplus {
    since: Time,
    /// So many, all of that time.
    least: usize,
}

/// What was to be taken back, and was not.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// How often in a row.
    times: u32,
    /// Nothing is taken back before.
    until: Time,
}

impl Keeper {
    pub(super) fn note_surplus(&mut self) {
        let (many, now) = (self.too_many(), self.now);
        self.surplus = (many > 0).then(|| match self.surplus {
            Some(before) => Surplus { least: before.least.min(many), ..before },
            None => Surplus { since: now, least: many },
        });
    }

    /// How many could be taken back.
    fn too_many(&self) -> usize {
        let (alive, wish) = (self.alive(), self.wish);
        // Clients that are away want theirs done when they are back.
        let away = u32::try_from(self.backlog.away).unwrap_or(u32::MAX);
        let needed = wanted(&self.backlog).saturating_add(away);
        let idle = match wish.idle {
            Some(_) => self.counted_on().saturating_sub(needed) / wish.slots.max(1),
            None => 0,
        };
        let many = idle.min(alive.saturating_sub(wish.min)).max(alive.saturating_sub(wish.max));
        if wish.grows { self.withdrawable().count().min(many as usize) } else { 0 }
    }

    fn withdrawable(&self) -> impl Iterator<Item = (&String, &Job)> {
        let waits = self.wish.waits;
        let may_go = move |job: &Job| !job.stays && job.had_work && (job.is_own || !waits);
        self.jobs.iter().filter(move |(_, job)| job.can_be_taken_back() && may_go(job))
    }

    /// The last in line go first.
    pub(super) fn next_withdraw(&self) -> Option<Action> {
        let stands = self.wish.idle.unwrap_or(IDLE);
        let Surplus { since, least } = self.surplus.filter(|it| it.since + stands <= self.now)?;
        if !self.is_known() || self.now < self.backoff.until {
            return None;
        }
        let pended = self.withdrawable().filter(|(_, job)| job.pends_since.is_some_and(|at| at <= since));
        let mut last: Vec<_> = pended.map(|(name, job)| (job.pends_since, name.len(), name)).collect();
        last.sort_by(|a, b| b.cmp(a));
        let jobs: Vec<String> = last.into_iter().take(least).map(|(.., name)| name.clone()).collect();
        (!jobs.is_empty()).then_some(Action::Withdraw { jobs })
    }

    /// Whether they have begun meanwhile, the next look says.
    pub(super) fn note_withdrawn(&mut self, jobs: &[String]) {
        for name in jobs {
            if let Some(job) = self.jobs.get_mut(name) {
                job.is_withdrawn = true;
            }
        }
        self.surplus = None;
    }

    pub(super) fn on_withdrawn(&mut self, answer: Result<(), String>) {
        (self.is_asking, self.looked) = (false, None);
        if let Err(why) = answer {
            self.back_off(&why);
        }
    }

    /// Takes in what the engine says of what was to be taken back. One that it refused it has not looked at.
    pub(super) fn note_taken_back(&mut self) {
        let (jobs, left) = std::mem::take(&mut self.took_back);
        if !jobs.is_empty() {
            let (count, few) = (jobs.len(), words::few(&jobs));
            self.notes.push(format!(
                "no longer needed before it began, so taken back: {count} of the workers: {few}"
            ));
            self.backoff = Backoff::default();
        }
        if left > 0 && self.backoff.until <= self.now {
            self.back_off(&format!("{left} of them pend as before"));
        }
    }

    /// Tries it again later, and ever more rarely. Told of once.
    fn back_off(&mut self, why: &str) {
        let Backoff { times, .. } = self.backoff;
        if times == 0 {
            let engine = &self.engine;
            self.logs.push(format!(
                "{engine} does not take back what is no longer needed: {why}; it is told again ever more rarely"
            ));
        }
        self.backoff = Backoff { times: times + 1, until: self.now + pace::pause(times) };
    }
}
