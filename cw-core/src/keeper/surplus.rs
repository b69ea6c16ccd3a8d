//! Workers that pend and are no longer needed are taken back: the work was done by others, or takes less time than was
//! thought. Those that have begun end by themselves when they have nothing to do.
//!
//! Not taken back are those that [stay](super::Action::Start) whatever there is to do, those that `cw start` may still wait
//! for, and what was asked for before there was any work: it is there for what is yet to come.

use std::time::Duration;

use super::{Action, Job, Keeper, wanted};
use crate::Time;

/// Only what has not been needed for so long is taken back: its place in the line is gone with it, and who sends one batch
/// after the other wants it again within seconds. While it pends it costs nobody anything.
const STANDS: Duration = Duration::from_secs(30);

/// More workers than are needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surplus {
    since: Time,
    /// So many, all of that time.
    least: usize,
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
        let idle = self.counted_on().saturating_sub(wanted(&self.backlog)) / wish.slots.max(1);
        let many = idle.min(alive.saturating_sub(wish.min)).max(alive.saturating_sub(wish.max));
        if wish.grows { self.withdrawable().count().min(many as usize) } else { 0 }
    }

    fn withdrawable(&self) -> impl Iterator<Item = (&String, &Job)> {
        let waits = self.wish.waits;
        let may_go = move |job: &Job| !job.stays && job.had_work && (job.is_own || !waits);
        self.jobs.iter().filter(move |(_, job)| job.is_coming() && job.pends() && may_go(job))
    }

    /// The last in line go first.
    pub(super) fn next_withdraw(&self) -> Option<Action> {
        let Surplus { since, least } = self.surplus.filter(|it| it.since + STANDS <= self.now)?;
        if !self.is_known() {
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
            self.logs.push(format!("{} does not take back what is no longer needed: {why}", self.engine));
        }
    }
}
