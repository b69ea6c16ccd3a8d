//! Whose turn it is: of all `cw start` and `cw stop` of a cluster, one at a time changes what is started for it.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::Screen;
use crate::{
    access::{ClusterDir, lock::FolderLock},
    exit::{self, Trouble},
};

/// The file that is locked, in the cluster's folder.
const FILE: &str = "launch.lock";

/// So long another one is waited for.
const WAIT: Duration = Duration::from_secs(60);

/// How often it is tried.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// The right to change it, and whether it had to be waited for.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) lock: FolderLock,
    pub(crate) waited: bool,
}

/// Somebody who wants to change something.
pub(crate) struct Turn {
    verb: &'static str,
    since: Instant,
    at_most: Duration,
}

impl Turn {
    pub(crate) fn of(verb: &'static str) -> Self {
        Self { verb, since: Instant::now(), at_most: WAIT }
    }

    /// Waits for it, and says so.
    pub(crate) fn take(&self, dir: &ClusterDir, screen: &mut Screen) -> Result<Taken, Trouble> {
        let mut waited = false;
        loop {
            if let Some(lock) = self.try_take(dir, screen)? {
                return Ok(Taken { lock, waited });
            }
            waited = true;
            thread::sleep(PAUSE);
        }
    }

    /// None while it is another one's, which is then said.
    pub(super) fn try_take(
        &self,
        dir: &ClusterDir,
        screen: &mut Screen,
    ) -> Result<Option<FolderLock>, Trouble> {
        let noted = match dir.hold(FILE)? {
            Ok(lock) => {
                lock.note(self.verb);
                return Ok(Some(lock));
            }
            Err(noted) => noted,
        };
        let (verb, process) = holder(&noted);
        let verb = verb.unwrap_or("start");
        if self.since.elapsed() >= self.at_most {
            let line = format!(
                "another `cw {verb}`{process} has been at work on the cluster `{}` for {:?}: try again when it is done, or end it",
                dir.cluster(),
                self.at_most
            );
            return Err(Trouble::new(exit::LAUNCH, line));
        }
        let one = if verb == self.verb { "another" } else { "a" };
        screen.show(&format!("waiting for {one} `cw {verb}` of this cluster{process}"));
        Ok(None)
    }
}

/// What is at work there, and where. It may be about to note that.
fn holder(noted: &str) -> (Option<&str>, String) {
    let mut words = noted.split(' ');
    match (words.next(), words.next(), words.next()) {
        (Some(pid), Some(host), verb @ Some(_)) => (verb, format!(" (process {pid} on {host})")),
        _ => (None, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_who_waits_too_long_reads_for_whom() {
        let home = tempfile::tempdir().unwrap();
        let dir = ClusterDir::in_home(home.path(), "lab").unwrap();
        dir.make().unwrap();
        let mut screen = Screen::new();
        let lock = Turn::of("start").take(&dir, &mut screen).unwrap();
        assert!(Turn::of("stop").try_take(&dir, &mut screen).unwrap().is_none());
        let late = Turn { at_most: Duration::ZERO, ..Turn::of("stop") };
        let line = late.take(&dir, &mut screen).unwrap_err().to_string();
        let process = std::process::id();
        assert!(line.starts_with(&format!("another `cw start` (process {process} on ")), "{line}");
        assert!(line.contains("the cluster `lab`"), "{line}");
        drop(lock);
        assert!(!late.take(&dir, &mut screen).unwrap().waited);
    }
}
