//! How long nothing is started after failures: each pause is twice as long as the one before.

use std::time::Duration;

use super::ROW;
use crate::Time;

/// The first pause after failures, and the longest.
const PAUSE: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(30 * 60);

/// The pause after so many.
pub(super) fn pause(times: u32) -> Duration {
    PAUSE.saturating_mul(1 << times.min(16)).min(PAUSE_MAX)
}

/// An engine that does not answer is asked this often at least.
const UNANSWERED_MAX: Duration = Duration::from_secs(5 * 60);

/// A pause that doubles with each time, up to a bound.
pub(super) fn growing(first: Duration, times: u32) -> Duration {
    first.saturating_mul(1 << times.min(16)).min(UNANSWERED_MAX)
}

/// What went wrong lately.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Workers that failed since the last one that was of use.
    pub(super) row: u32,
    /// Those of them that had failed before this keeper was there: they are told of, and nothing pauses for them.
    old: u32,
    /// Pauses since then.
    pauses: u32,
    until: Time,
    /// For how long the last pause is.
    pub(super) time: Duration,
    /// The last worker that failed, and how.
    pub(super) worker: Option<String>,
    /// What the engine said when it started none.
    pub(super) refusal: Option<String>,
}

impl Pace {
    /// A worker had failed before.
    pub(super) fn note_old(&mut self, what: String) {
        (self.row, self.old) = (self.row + 1, self.old + 1);
        self.worker = Some(what);
    }

    /// A worker has failed. Gives the pause that begins now, if one does.
    pub(super) fn fail(&mut self, now: Time, what: String) -> Option<Duration> {
        self.row += 1;
        self.worker = Some(what);
        (self.row - self.old >= ROW && !self.is_paused(now)).then(|| self.pause(now))
    }

    /// The engine has started none. Gives the pause that begins now.
    pub(super) fn refuse(&mut self, now: Time, why: &str) -> Duration {
        self.refusal = Some(why.to_owned());
        self.pause(now)
    }

    fn pause(&mut self, now: Time) -> Duration {
        self.time = pause(self.pauses);
        self.pauses += 1;
        self.until = now + self.time;
        self.time
    }

    pub(super) fn is_paused(&self, now: Time) -> bool {
        now < self.until
    }

    /// Whether nothing went wrong lately.
    pub(super) fn is_well(&self) -> bool {
        self.row == 0 && self.refusal.is_none()
    }

    /// The engine has started some.
    pub(super) fn note_started(&mut self) {
        self.refusal = None;
        if self.row == 0 {
            self.pauses = 0;
        }
    }

    /// A worker has joined.
    pub(super) fn end_pause(&mut self) {
        (self.until, self.refusal) = (Time::ZERO, None);
    }

    /// A worker was of use.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}
