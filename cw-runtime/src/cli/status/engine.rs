//! Asking the engine what has become of what was started: on a thread, as it may take its time, and rarely, as it serves
//! others too.

use std::{
    sync::mpsc::{Receiver, TryRecvError, channel},
    thread,
    time::{Duration, Instant},
};

use crate::{
    access::ClusterDir,
    launch::{
        self, Launched,
        fleet::{Fleet, How},
        slurm::Slurm,
    },
};

/// An engine is asked no more often.
const PAUSE: Duration = Duration::from_secs(10);

/// What an engine says of our things, and in words of others by the same name.
type Answer = Result<(Vec<Launched>, Option<String>), String>;

/// An engine that is asked now and then.
#[derive(Default)]
pub(super) struct Engine {
    /// Whose things were asked for: another fleet is another question.
    of: Option<Fleet>,
    asked: Option<Instant>,
    coming: Option<Receiver<Answer>>,
    last: Option<Answer>,
}

impl Engine {
    /// Asks about this fleet, unless that was done a moment ago.
    pub(super) fn ask(&mut self, fleet: Option<&Fleet>, dir: &ClusterDir) {
        if self.of.as_ref() != fleet {
            *self = Self { of: fleet.cloned(), ..Self::default() };
        }
        let is_young = self.asked.is_some_and(|at| at.elapsed() < PAUSE);
        let Some(fleet) = self.of.clone().filter(|_| !is_young && self.coming.is_none()) else { return };
        let (say, hear) = channel();
        let dir = dir.clone();
        let ask = move || {
            // Whoever asked may be gone.
            let _ = say.send(look(&fleet, &dir));
        };
        (self.asked, self.coming) = (Some(Instant::now()), Some(hear));
        if thread::Builder::new().name("cw-engine".to_owned()).spawn(ask).is_err() {
            self.coming = None;
        }
    }

    /// What it has said; none if there is no fleet, or nothing was said yet. Each command behind it has a time limit, so
    /// this is not waited for in vain.
    pub(super) fn answer(&mut self, waits: bool) -> Option<Answer> {
        if let Some(coming) = &self.coming {
            let came =
                if waits { coming.recv().map_err(|_| TryRecvError::Disconnected) } else { coming.try_recv() };
            match came {
                Ok(answer) => (self.last, self.coming) = (Some(answer), None),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => self.coming = None,
            }
        }
        self.last.clone()
    }
}

fn look(fleet: &Fleet, dir: &ClusterDir) -> Answer {
    let looked = match fleet.how {
        How::Slurm(_) => Slurm::new(fleet, dir).look_around(),
        _ => launch::launcher(fleet, dir).look().map(|launched| (launched, None)),
    };
    looked.map_err(|refused| refused.to_string())
}
