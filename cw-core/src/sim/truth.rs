//! A task as it really is, whatever the machines believe: its runs, how they ended, and which answers are true.

use std::{sync::OnceLock, time::Duration};

use super::plan::{Does, TaskPlan};
use crate::{
    Payload, Time,
    client::Completion,
    ids::{Attempt, ExecutorId, ShareId, TaskId},
    wire::{Apart, Class, Spec},
};

/// One run of a task.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) worker: usize,
    pub(super) executor: ExecutorId,
    pub(super) attempt: Attempt,
    pub(super) client_id: u32,
    pub(super) epoch: u64,
    pub(super) sent: Time,
    pub(super) began: Time,
    pub(super) is_over: bool,
    /// It ended in a failure, a crash, a timeout, or was killed: another is due.
    pub(super) is_bad: bool,
    /// It ended in an error or ran out of time: retries are what the user asked for.
    pub(super) is_failed: bool,
    /// The master was told that it runs, or has ended, while it had no reason to doubt the worker.
    pub(super) told: Option<Time>,
    /// The master was told of it, whatever it makes of that.
    pub(super) is_heard_of: bool,
    /// The master was told that it has ended.
    pub(super) told_end: Option<Time>,
    /// Another had been sent by then: its failure ends nothing.
    pub(super) is_superseded: bool,
    /// Its outcome has come to the master, and not only the word that it has ended.
    pub(super) is_reported: bool,
    /// Its worker or its master is gone, or was given up: another may be necessary.
    pub(super) is_excused: bool,
}

/// A task, as it really is.
#[derive(Debug)]
pub(super) struct Truth {
    pub(super) plan: TaskPlan,
    pub(super) spec: Spec,
    pub(super) is_cancelled: bool,
    /// Its process was killed, and another wants what there is of it.
    pub(super) is_claimed: bool,
    /// Its process was killed, and no other has claimed it.
    pub(super) is_abandoned: bool,
    pub(super) done: Option<Class>,
    pub(super) ok: u32,
    pub(super) failed: u32,
    pub(super) crashed: u32,
    pub(super) timed_out: u32,
    /// How often its worker was given up under it.
    pub(super) losses: u32,
    /// How often one was given up that had, or was to have, it and had not said that it runs.
    pub(super) exposures: u32,
    /// The attempts that the master has called back: their failures end nothing while another goes on.
    pub(super) called_back: Vec<Attempt>,
    /// The workers that it was sent to, and when last.
    pub(super) sent_to: Vec<u32>,
    pub(super) last_sent: Time,
    pub(super) runs: Vec<Run>,
}

/// What results are cut from.
pub(super) fn noise() -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    NOISE.get_or_init(|| {
        let mut state = 1u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        (0..(2 << 20) + 4_096).map(|_| next()).collect()
    })
}

/// The least that a task's arguments take.
pub(super) const NAME_BYTES: usize = 10;

pub(super) fn name(owner: usize, task: TaskId) -> [u8; NAME_BYTES] {
    let mut name = [0; NAME_BYTES];
    name[..2].copy_from_slice(&u16::try_from(owner).expect("few hosts").to_le_bytes());
    name[2..].copy_from_slice(&task.0.to_le_bytes());
    name
}

/// What is sent in place of such arguments: a name that is filled up passes for their hash.
pub(super) fn apart(name: &[u8], bytes: usize) -> Payload {
    let mut hash = [0; 32];
    hash[..name.len()].copy_from_slice(name);
    Apart { share: ShareId(hash), bytes: bytes as u64 }.encode()
}

/// Whose task this is, by its arguments.
pub(super) fn named(args: &[u8]) -> Option<(usize, TaskId)> {
    let (owner, rest) = args.split_first_chunk::<2>()?;
    let (task, _) = rest.split_first_chunk::<8>()?;
    Some((usize::from(u16::from_le_bytes(*owner)), TaskId(u64::from_le_bytes(*task))))
}

/// The one right result of a task.
pub(super) fn result(owner: usize, task: TaskId, bytes: usize) -> Payload {
    if bytes < 64 {
        return Payload::copy_from_slice(&name(owner, task));
    }
    let offset = (owner * 1_009 + task.0 as usize * 31) % 4_096;
    Payload::from_static(&noise()[offset..offset + bytes])
}

/// For how long a task may run, with all that goes wrong.
pub(super) fn longest(plan: &TaskPlan, spec: &Spec) -> Duration {
    let tries = spec.retries + spec.crash_limit + spec.loss_limit + 4;
    let once = match plan.does {
        Does::Hang => spec.timeout.unwrap_or_default(),
        _ => plan.runs_for,
    };
    // It waits for its client each time.
    let asks = Duration::from_secs(30) * plan.saves;
    (once + asks + Duration::from_secs(2)) * tries * 2
}

impl Run {
    /// Whether the master knew that this one had failed, or run out of time, when it sent another.
    pub(super) fn is_known_failure(&self, next: &Self) -> bool {
        let is_same_session = self.client_id == next.client_id && self.epoch == next.epoch;
        let is_told =
            self.told_end.is_some_and(|told| told < next.sent) && !self.is_superseded && self.is_reported;
        is_same_session && self.is_failed && !self.is_excused && is_told
    }
}

impl Truth {
    /// Whether somebody waits for it.
    pub(super) fn is_open(&self) -> bool {
        self.done.is_none() && !self.is_abandoned
    }

    /// The workers on which it began.
    pub(super) fn workers(&mut self) -> Vec<usize> {
        self.runs.iter().map(|run| run.worker).collect()
    }

    /// Whether there is a reason for another run.
    pub(super) fn why_again(
        &self,
        new: &Run,
        is_calm: bool,
        is_doubtful: &dyn Fn(usize) -> bool,
    ) -> Result<(), (&'static str, String)> {
        for run in &self.runs {
            let is_excused = run.is_excused || run.client_id != new.client_id || run.epoch != new.epoch;
            if run.is_bad || is_excused {
                continue;
            }
            let words = || format!("{new:?} though there is {run:?}");
            // Where a job may run twice at once, the second run may begin when the first has just ended.
            if run.told.is_some_and(|told| told < new.sent) && !self.spec.speculate {
                return Err(("work that the master knows of is not done again", words()));
            }
            if is_calm {
                return Err(("without trouble there is one run", words()));
            }
            // Whichever was sent first began after the other was sent. A word may take a moment.
            let moment = Duration::from_millis(100);
            let is_late = if run.sent < new.sent {
                run.began > new.sent + moment
            } else {
                new.began > run.sent + moment
            };
            if !run.is_over && is_late && !self.spec.speculate && !is_doubtful(run.worker) {
                return Err(("what was moved does not begin where it was", words()));
            }
        }
        Ok(())
    }

    /// Whether an answer is what the task has come to, and nobody is blamed for what it did not do.
    pub(super) fn verdict(
        &self,
        owner: usize,
        task: TaskId,
        it: &Completion,
        calm: bool,
        programs: u32,
        lies: bool,
    ) -> Result<(), &'static str> {
        // Two losses in doubt count as one.
        let losses = self.losses + self.exposures.saturating_sub(1);
        let ended = self.ok + self.failed + self.crashed + self.timed_out + losses;
        let at_least = |holds: bool, rule| if holds || lies { Ok(()) } else { Err(rule) };
        at_least(it.attempts <= ended.max(1), "no attempt is counted that did not end")?;
        let failed = self.failed + self.timed_out;
        // After a restart of the master nobody can tell whether such a task was tried again.
        let is_tried = failed > self.spec.retries || (!self.spec.rerun && !calm);
        match it.class {
            Class::Ok => {
                let right = result(owner, task, self.plan.result_bytes);
                at_least(self.ok > 0 && it.body == right, "a result is the task's own")
            }
            Class::Failed => at_least(self.failed > 0 && is_tried, "failures are its own, and all tried"),
            Class::TimedOut => {
                at_least(self.timed_out > 0 && is_tried, "timeouts are its own, and all tried")
            }
            Class::Crashed => {
                at_least(self.crashed >= self.spec.crash_limit, "crashes are its own, up to the limit")
            }
            Class::Lost if self.is_claimed => Ok(()),
            Class::Lost if self.spec.rerun => {
                at_least(losses >= self.spec.loss_limit, "losses are its own, up to the limit")
            }
            Class::Lost => at_least(!calm, "nothing is lost without trouble"),
            Class::Cancelled => at_least(self.is_cancelled, "only what was cancelled is"),
            // All workers of its program may be away for long, while those of another are here.
            Class::Refused => at_least(programs > 1, "only what nobody can run is refused"),
            Class::Panicked | Class::TooLarge | Class::Disconnected => {
                at_least(false, "no failure comes from nowhere")
            }
        }
    }
}
