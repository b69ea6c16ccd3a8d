//! What the keeper says: why there are no more workers than there are.

use std::{collections::BTreeMap, time::Duration};

use super::{Job, Keeper, Phase, jobs::JOINS};

/// So many reasons for waiting are told apart.
const REASONS_MAX: usize = 3;

/// So many workers are named.
const NAMES_MAX: usize = 4;

impl Keeper {
    /// Why there are no more workers than there are, in one line; none if nothing is in the way. Where there is no worker
    /// at all there is something to say.
    pub fn outlook(&self) -> Option<String> {
        let parts: Vec<String> = [
            self.trouble(),
            self.silence(),
            self.pending(),
            self.submitted(),
            self.unheard(),
            self.unjoined(),
            self.unknown(),
        ]
        .into_iter()
        .flatten()
        .collect();
        if parts.is_empty() && self.here == 0 { Some(self.quiet()) } else { joined(&parts) }
    }

    fn trouble(&self) -> Option<String> {
        let is_paused = self.pace.is_paused(self.now) && self.wish.grows;
        let (engine, time) = (&self.engine, time(self.pace.time));
        if let Some(why) = &self.pace.refusal {
            return Some(format!("{engine} starts no workers: {why}; it is asked again every {time} or so"));
        }
        let last = self.pace.worker.as_ref()?;
        Some(match self.pace.row {
            row if is_paused => {
                format!(
                    "{row} workers in a row were of no use, so none is started for {time}; the last: {last}"
                )
            }
            // They may have done much before.
            1 if !self.wish.grows => format!("one has ended badly: {last}"),
            row if !self.wish.grows => format!("{row} workers have ended badly; the last: {last}"),
            1 => format!("one was of no use: {last}"),
            row => format!("{row} workers were of no use; the last: {last}"),
        })
    }

    fn silence(&self) -> Option<String> {
        let (times, why) = &self.unanswered;
        (*times > 0).then(|| format!("{} does not answer: {why}", self.engine))
    }

    fn pending(&self) -> Option<String> {
        let mut by_reason: BTreeMap<&str, usize> = BTreeMap::new();
        for job in self.jobs.values().filter(|job| job.is_coming()) {
            if let Phase::Pending { why } = &job.phase {
                *by_reason.entry(why).or_default() += 1;
            }
        }
        let mut reasons: Vec<(usize, &str)> = by_reason.into_iter().map(|(why, jobs)| (jobs, why)).collect();
        reasons.sort_unstable_by(|a, b| b.cmp(a));
        let all: usize = reasons.iter().map(|(jobs, _)| jobs).sum();
        let why: Vec<String> = match &reasons[..] {
            [] => return None,
            [(_, "")] => Vec::new(),
            [(_, why)] => vec![(*why).to_owned()],
            many => many.iter().take(REASONS_MAX).map(|(jobs, why)| format!("{jobs} {why}")).collect(),
        };
        let why = if why.is_empty() { String::new() } else { format!(": {}", why.join(", ")) };
        Some(format!("{} in {}{why}", workers(all, "pends", "pend"), self.engine))
    }

    fn submitted(&self) -> Option<String> {
        let asked = self.jobs.values().filter(|job| job.is_coming() && job.phase == Phase::Asked).count();
        (asked > 0).then(|| format!("{} just submitted to {}", workers(asked, "was", "were"), self.engine))
    }

    fn unheard(&self) -> Option<String> {
        let mut silent =
            self.jobs.values().filter(|job| job.is_coming() && job.phase == Phase::Running).count();
        if !self.wish.grows {
            // Which of those are here is not known.
            silent = silent.saturating_sub(self.here as usize);
        }
        (silent > 0).then(|| format!("{} not joined yet", workers(silent, "runs and has", "run and have")))
    }

    /// Those that are no longer counted on.
    fn unjoined(&self) -> Option<String> {
        let all: Vec<(&String, &Job)> = self.jobs.iter().filter(|(_, job)| job.is_silent).collect();
        (!all.is_empty()).then(|| silent(&all))
    }

    fn unknown(&self) -> Option<String> {
        let unknown = |job: &Job| match &job.phase {
            Phase::Unknown { why } => Some(why.clone()),
            _ => None,
        };
        let all: Vec<String> = self.jobs.values().filter(|job| job.is_coming()).filter_map(unknown).collect();
        Some(format!("nothing is known of {}: {}", workers(all.len(), "", "").trim_end(), all.first()?))
    }

    /// What is said where nothing is in the way and nothing is here.
    fn quiet(&self) -> String {
        let is_held = self.hold > self.now;
        // Where nothing is to be there nothing is missed.
        let is_missed = self.backlog.tasks > 0 || self.wish.min > 0;
        let lost = if is_missed { self.lost() } else { 0 };
        match self.wish {
            wish if !wish.grows => "all that were started have ended; `cw start` starts others".to_owned(),
            wish if wish.max == 0 => "`--max` is 0".to_owned(),
            _ if is_held => "they were cancelled by hand; others are started in a minute".to_owned(),
            _ if lost > 0 => {
                let (lost, engine) = (workers(lost, "was lost", "were lost"), &self.engine);
                let others = if self.is_used_up() { "when it has" } else { "after a minute" };
                format!("{lost}, which {engine} has not noticed: others are started {others}")
            }
            _ if self.backlog.tasks == 0 => "they are started when there is something to do".to_owned(),
            _ => format!("{} is about to be asked for some", self.engine),
        }
    }
}

impl Keeper {
    fn lost(&self) -> usize {
        self.jobs.values().filter(|job| job.is_lost(self.now)).count()
    }

    /// Whether one other has been started for each that is gone, so that no more are.
    fn is_used_up(&self) -> bool {
        let is_open = self.jobs.values().any(|job| job.is_lost(self.now) && !job.is_gone(self.now));
        !is_open && self.alive() >= self.wish.max
    }
}

/// Of these it is said that they run and do not join.
pub(super) fn silent(all: &[(&String, &Job)]) -> String {
    let named = |(name, job): &(&String, &Job)| match job.on.as_str() {
        "" => (*name).clone(),
        on => format!("{name} on {on}"),
    };
    let named: Vec<String> = all.iter().map(named).collect();
    let (all, time) = (workers(all.len(), "has run", "have run"), time(JOINS));
    format!("{all} for {time} and not joined, so they are not counted on: {}", few(&named))
}

/// Some of these.
pub(super) fn few(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMES_MAX { format!("{shown}, ..") } else { shown }
}

fn joined(parts: &[String]) -> Option<String> {
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn workers(number: usize, one: &str, more: &str) -> String {
    if number == 1 { format!("1 worker {one}") } else { format!("{number} workers {more}") }
}

/// A pause in words.
pub(super) fn time(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds < 60 || seconds % 60 != 0 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}
