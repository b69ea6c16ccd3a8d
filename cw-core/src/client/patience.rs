//! How long tasks may stand still until they are given up.

use std::time::Duration;

use crate::Time;

/// The user's patience, and since when it is tried.
#[derive(Debug)]
pub(super) struct Patience {
    most: Option<Duration>,
    tried: Option<(Time, String)>,
}

impl Patience {
    pub(super) fn new(most: Option<Duration>) -> Self {
        Self { most, tried: None }
    }

    /// Nothing moves. A new reason does not begin the wait anew.
    pub(super) fn begin(&mut self, now: Time, why: &str) {
        let since = self.tried.take().map_or(now, |(since, _)| since);
        self.tried = Some((since, why.to_owned()));
    }

    /// Things move again.
    pub(super) fn end(&mut self) {
        self.tried = None;
    }

    /// When it is lost.
    pub(super) fn due(&self) -> Option<Time> {
        let (since, _) = self.tried.as_ref()?;
        Some(*since + self.most?)
    }

    /// Why it is lost, if it is. Then it begins anew.
    pub(super) fn lost(&mut self, now: Time) -> Option<String> {
        let most = self.most.filter(|_| self.due().is_some_and(|due| due <= now))?;
        let (since, why) = self.tried.as_mut()?;
        *since = now;
        Some(format!("nothing moved for {most:?}: {why}"))
    }
}
