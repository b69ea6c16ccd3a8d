//! The one place where the machines' time comes from.

use std::time::{Duration, Instant};

use cw_core::Time;

/// A monotonic clock that starts at zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(&self) -> Time {
        Time::from_start(self.0.elapsed())
    }

    /// Sleeps until a point in time; for ever without one.
    pub(crate) async fn sleep_until(&self, due: Option<Time>) {
        match due {
            // One more microsecond, since a time is cut to whole ones.
            Some(due) => {
                let at = self.0 + due.since_start() + Duration::from_micros(1);
                tokio::time::sleep_until(at.into()).await;
            }
            None => std::future::pending().await,
        }
    }
}
