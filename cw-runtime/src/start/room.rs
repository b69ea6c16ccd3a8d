//! A master that takes another's place waits for room on a disk that is full: it may be a job that Slurm has started again,
//! and with its end all of the cluster would end. Any other says at once what is wrong, as whoever has started it is there.

use std::{
    io,
    time::{Duration, Instant},
};

use crate::access::{AccessError, AccessErrorKind};

/// For how long that is, in all, and how often it is tried.
const WAIT: Duration = Duration::from_secs(10 * 60);
const PAUSE: Duration = Duration::from_secs(2);

/// How long a master may still wait.
pub(super) struct Patience {
    until: Option<Instant>,
    pause: Duration,
}

impl Patience {
    pub(super) fn new(takes_over: bool) -> Self {
        Self { until: takes_over.then(|| Instant::now() + WAIT), pause: PAUSE }
    }

    /// Does what needs room, again and again while there is none.
    ///
    /// # Errors
    /// That of the last try.
    pub(super) fn have<T>(&self, mut step: impl FnMut() -> Result<T, AccessError>) -> Result<T, AccessError> {
        let mut was_told = false;
        loop {
            let error = match step() {
                Err(error) if is_full(&error) && self.until.is_some_and(|at| Instant::now() < at) => error,
                other => return other,
            };
            if !std::mem::replace(&mut was_told, true) {
                let (wait, why) = (WAIT.as_secs() / 60, crate::exit::Trouble::from(error));
                tracing::warn!(
                    "{why}: make room there; it is tried again for {wait} min, then this master ends"
                );
            }
            std::thread::sleep(self.pause);
        }
    }
}

/// Whether more room would help.
fn is_full(error: &AccessError) -> bool {
    let AccessErrorKind::Io { source, .. } = &error.kind else { return false };
    matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(kind: io::ErrorKind) -> AccessError {
        let kind = AccessErrorKind::Io { doing: "write it", source: kind.into() };
        AccessError { path: "/home/u/.cw/lab/master.key".into(), kind }
    }

    /// How often it is tried, if it never goes well.
    fn tries(until: Option<Instant>, kind: io::ErrorKind) -> u32 {
        let mut tries = 0;
        let patience = Patience { until, pause: Duration::from_millis(1) };
        let end = patience.have(|| -> Result<(), _> {
            tries += 1;
            Err(failing(kind))
        });
        assert!(end.is_err());
        tries
    }

    #[test]
    fn a_full_disk_is_waited_for_and_nothing_else() {
        let soon = || Some(Instant::now() + Duration::from_millis(50));
        for full in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            assert!(tries(soon(), full) > 1);
            assert_eq!(tries(None, full), 1, "its user is told at once");
        }
        assert_eq!(tries(soon(), io::ErrorKind::PermissionDenied), 1);
    }

    #[test]
    fn it_goes_on_when_there_is_room() {
        let patience = Patience { pause: Duration::ZERO, ..Patience::new(true) };
        let mut left = 3;
        let done = patience.have(|| match left {
            0 => Ok("done"),
            _ => {
                left -= 1;
                Err(failing(io::ErrorKind::StorageFull))
            }
        });
        assert_eq!(done.expect("there is room"), "done");
    }
}
