//! The keeper: how many workers there should be, and when more are asked for.
//!
//! Workers are started by an *engine*, such as Slurm, which takes its time, refuses, forgets, and cannot always be reached.
//! The keeper hears how much there is to do, which workers the master has, and what the engine says; what it wants is a
//! look at the engine, or more workers. A worker counts when it is connected, whatever the engine says of it.
//!
//! # A worker's states
//!
//! ```text
//!           Start           seen            seen           joins
//!   (none) -------> Asked -------> Pending -------> Runs --------> Here ----> Gone
//!                     |               |               |             |  lost    |
//!                     +---------------+---------------+-------------+----------+--> Ended --> (none)
//!                       the engine says so, or does not know it for a minute
//! ```
//!
//! *Asked*, *Pending* and *Runs* are *coming*: they are counted on. *Gone* still takes an allocation as far as anybody
//! knows, so it counts against the most there may be, but nobody counts on it. That ends after a minute: an engine may take
//! many to see that a node is dead, and one other is started for each meanwhile (`jobs`). One that runs for five minutes and
//! has never joined is taken for gone too; but where those are half of all or more, others are tried one by one, as they may fare no better.
//!
//! # How many
//!
//! - As many slots, of those here and those coming, as get what is known of the backlog done in [`DRAIN`]; one for each task
//!   of jobs that have not run yet. At least [`Wish::min`] workers, at most [`Wish::max`], and up to twice as many while some
//!   of them are gone: should those come back, none is ended for that. Who has nothing to do ends by its idle time.
//! - In steps that at most double: as many more as there are, or four where there are none. The next step comes when all of the one before are here, or
//!   pend for a minute: a site may be full, but workers that run and cannot join are a reason not to start others for a while.
//! - Only after a look at the engine that is not older than ten seconds, nor than the last worker that was lost. It is asked
//!   every ten seconds while something is coming or wanted, else every minute while there is anything, else not at all. While
//!   it does not answer nothing changes, and it is asked more and more rarely.
//! - What pends and is no longer needed is taken back, once that has been so for the idle time of workers (`surplus`).
//! - Workers that end badly before they were of use, three in a row, pause all of that, for longer each time (`pace`).
//!   One that joins ends the pause; one that is of use makes all forgotten. Planned ends are no failures; but who cancels
//!   workers by hand does not want them back within a minute.

mod jobs;
mod pace;
mod surplus;
#[cfg(test)]
mod tests;
mod words;

use std::{collections::BTreeMap, time::Duration};

use crate::{Time, master::Backlog};
use jobs::{Job, Phase};
use pace::Pace;
use surplus::{Backoff, Surplus};

/// In this time the backlog should be done.
pub const DRAIN: Duration = Duration::from_secs(600);

/// The first step.
const FIRST: u32 = 4;

/// After so long the next step need not wait for what pends.
const STEP_PAUSE: Duration = Duration::from_secs(60);

/// How often an engine is asked while it matters.
const SOON: Duration = Duration::from_secs(10);

/// How often it is asked otherwise.
const LATE: Duration = Duration::from_secs(60);

/// Workers that failed, one after the other, until no more are started for a while.
const ROW: u32 = 3;

/// How long nothing is started after somebody has cancelled workers by hand.
const HOLD: Duration = Duration::from_secs(60);

/// What was asked of `cw start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// So many workers are kept, whatever there is to do.
    pub min: u32,
    /// More are not asked for. While the master has lost some, or they do not join, and the engine has not noticed, one other
    /// is for each: there may be twice as many until then.
    pub max: u32,
    /// Slots of each.
    pub slots: u32,
    /// Whether more can be started at all: where not, it is only said what has become of them.
    pub grows: bool,
    /// Whether somebody may still wait for those that were started by others than the keeper: they are not taken back.
    pub waits: bool,
    /// After so long without tasks workers end, and what pends and is not needed is taken back. Without it they stay, and so
    /// does what pends, up to `max`.
    pub idle: Option<Duration>,
}

/// A worker that the master has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// What its engine calls it, if it was started by one.
    pub job: Option<String>,
    /// Its slots.
    pub slots: u32,
    /// Whether a task has ended well there.
    pub is_proven: bool,
}

/// A worker as its engine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it is called there.
    pub job: String,
    /// What has become of it.
    pub state: State,
}

/// What has become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It has not begun, and why, in the engine's words.
    Pending {
        /// That.
        why: String,
        /// Whether it does nothing but wait in line, so that the engine gives it up when told.
        in_line: bool,
    },
    /// It has an allocation.
    Running {
        /// Where, as far as the engine says.
        on: String,
    },
    /// It has none any more.
    Ended(End),
    /// Nobody can say just now.
    Unknown {
        /// Why, in the engine's words.
        why: String,
    },
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// As it should: by itself, or at its time limit. In the engine's words.
    Planned(String),
    /// Somebody wanted that.
    ByHand,
    /// Badly: why, in one line.
    Failed(String),
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Something else is wanted.
    Wished(Wish),
    /// How things stand at the master. Comes every few seconds, and lets time pass.
    Master {
        /// How much there is to do.
        backlog: Backlog,
        /// The workers that the master has.
        workers: Vec<Here>,
    },
    /// What the engine answered, or why it did not.
    Looked(Result<Vec<Seen>, String>),
    /// What was started is called so; or why nothing was, as far as is known.
    Started(Result<Vec<String>, String>),
    /// The engine was told what is to be taken back; or why not, as far as is known. What came of it the next look says.
    Withdrawn(Result<(), String>),
}

/// Something to do. The next comes when the answer to a `Look`, `Start` or `Withdraw` has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the engine, then say [`Event::Looked`].
    Look,
    /// Start workers, then say [`Event::Started`].
    Start {
        /// How many.
        workers: u32,
        /// Whether they stay where there is nothing to do.
        stay: bool,
    },
    /// Take back those of these that have not begun, then say [`Event::Withdrawn`].
    Withdraw {
        /// What they are called.
        jobs: Vec<String>,
    },
    /// Write this to the log: something is wrong.
    Log(String),
    /// The same, where nothing is.
    Note(String),
}

/// The keeper's state. See the [module](self) for the states of a worker.
#[derive(Debug)]
pub struct Keeper {
    /// What the engine is called.
    engine: String,
    wish: Wish,
    now: Time,
    backlog: Backlog,
    /// The slots of all workers that the master has, and how many those are.
    slots: u32,
    here: u32,
    /// Those of them that an engine has started.
    launched: Vec<Here>,
    jobs: BTreeMap<String, Job>,
    /// Whether an answer is waited for.
    is_asking: bool,
    /// When the engine last answered; none if something was done since of which it has not told.
    looked: Option<Time>,
    /// Whether it has ever answered: what had ended before that ended under another master, or none.
    has_looked: bool,
    /// It is not asked before.
    look_at: Time,
    /// How often in a row it has not answered, and what it said last.
    unanswered: (u32, String),
    /// When the last step was taken.
    stepped: Time,
    pace: Pace,
    /// Whether those that are being started stay.
    stay: bool,
    surplus: Option<Surplus>,
    /// What the last look said of what was to be taken back: what is no more, and how many pend as before.
    took_back: (Vec<String>, usize),
    backoff: Backoff,
    /// Nothing is started before, as somebody has cancelled workers.
    hold: Time,
    logs: Vec<String>,
    notes: Vec<String>,
}

impl Keeper {
    /// A keeper of what an engine of this name has started and is to start.
    pub fn new(engine: &str, wish: Wish) -> Self {
        Self {
            engine: engine.to_owned(),
            wish,
            now: Time::ZERO,
            backlog: Backlog::default(),
            slots: 0,
            here: 0,
            launched: Vec::new(),
            jobs: BTreeMap::new(),
            is_asking: false,
            looked: None,
            has_looked: false,
            look_at: Time::ZERO,
            unanswered: (0, String::new()),
            stepped: Time::ZERO,
            pace: Pace::default(),
            stay: false,
            surplus: None,
            took_back: (Vec::new(), 0),
            backoff: Backoff::default(),
            hold: Time::ZERO,
            logs: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Time, event: Event) {
        self.now = now;
        match event {
            Event::Wished(wish) => self.on_wished(wish),
            Event::Master { backlog, workers } => self.on_master(backlog, workers),
            Event::Looked(answer) => self.on_looked(answer),
            Event::Started(answer) => self.on_started(answer),
            Event::Withdrawn(answer) => self.on_withdrawn(answer),
        }
    }

    /// The next thing to do; drain it after each event.
    pub fn poll_action(&mut self) -> Option<Action> {
        if !self.logs.is_empty() {
            return Some(Action::Log(self.logs.remove(0)));
        }
        if !self.notes.is_empty() {
            return Some(Action::Note(self.notes.remove(0)));
        }
        if self.is_asking {
            return None;
        }
        let action = self.next_start().or_else(|| self.next_withdraw());
        let action = action.or_else(|| self.is_look_due().then_some(Action::Look))?;
        self.is_asking = true;
        self.note_begun(&action);
        Some(action)
    }

    fn note_begun(&mut self, action: &Action) {
        match action {
            Action::Start { stay, .. } => self.stay = *stay,
            Action::Withdraw { jobs } => self.note_withdrawn(jobs),
            Action::Look | Action::Log(_) | Action::Note(_) => {}
        }
    }

    /// Whoever wants something else may have started workers itself.
    fn on_wished(&mut self, wish: Wish) {
        self.wish = wish;
        if self.unanswered.0 == 0 {
            (self.looked, self.look_at) = (None, self.now);
        }
    }

    fn on_looked(&mut self, answer: Result<Vec<Seen>, String>) {
        self.is_asking = false;
        match answer {
            Ok(seen) => {
                self.unanswered = (0, String::new());
                (self.looked, self.look_at) = (Some(self.now), self.now + SOON);
                self.take_in(seen);
                self.has_looked = true;
            }
            Err(why) => {
                let times = self.unanswered.0 + 1;
                self.look_at = self.now + pace::growing(SOON, times - 1);
                if self.unanswered.0 == 0 {
                    self.logs.push(format!("{} does not answer: {why}", self.engine));
                }
                self.unanswered = (times, why);
            }
        }
    }

    fn on_started(&mut self, answer: Result<Vec<String>, String>) {
        self.is_asking = false;
        self.stepped = self.now;
        match answer {
            Ok(names) if !names.is_empty() => {
                self.pace.note_started();
                for name in names {
                    self.jobs.entry(name).or_insert_with(|| Job::own(self.now, self.stay));
                }
            }
            answer => {
                // It may have started some nevertheless.
                self.looked = None;
                let why = answer.err().unwrap_or_else(|| "it named none that it had started".to_owned());
                let time = self.pace.refuse(self.now, &why);
                let (engine, time) = (&self.engine, words::time(time));
                self.logs.push(format!("{engine} starts no workers: {why}; it is asked again in {time}"));
            }
        }
    }

    /// Whether the engine is to be asked what it has.
    fn is_look_due(&self) -> bool {
        if self.now < self.look_at {
            return false;
        }
        let Some(looked) = self.looked.filter(|_| self.unanswered.0 == 0) else { return true };
        let matters = self.jobs.values().any(Job::matters) || self.may_start() && self.missing().is_some();
        let any = self.jobs.values().any(Job::is_alive);
        matters || any && looked + LATE <= self.now
    }

    /// Whether nothing is in the way of a start, but that it may be too early to know.
    fn may_start(&self) -> bool {
        let step = self.stepped + STEP_PAUSE;
        let coming = || self.jobs.values().filter(|job| job.is_coming());
        let is_next = coming().next().is_none() || step <= self.now && coming().all(Job::pends);
        self.wish.grows && is_next && self.hold <= self.now && !self.pace.is_paused(self.now)
    }

    /// Whether the engine has said a moment ago what there is.
    fn is_known(&self) -> bool {
        self.looked.is_some_and(|looked| self.now < looked + SOON) && self.unanswered.0 == 0
    }

    fn next_start(&self) -> Option<Action> {
        let (workers, stay) =
            if self.is_known() && self.may_start() { self.missing()? } else { return None };
        let alive = self.alive();
        // After failures one is enough to see whether that is over; and so it is where most do not join.
        let silent = self.jobs.values().filter(|job| job.is_silent).count();
        let all = self.jobs.values().filter(|job| job.is_alive()).count();
        let is_well = self.pace.is_well() && (silent == 0 || 2 * silent < all);
        let step = match alive {
            _ if !is_well => 1,
            0 => FIRST,
            some => some,
        };
        Some(Action::Start { workers: workers.min(step), stay })
    }

    /// How many workers are missing, if any, and whether they are to stay.
    fn missing(&self) -> Option<(u32, bool)> {
        let alive = self.alive();
        let Wish { min, max, slots, .. } = self.wish;
        if alive < min.min(max) {
            return Some((min.min(max) - alive, true));
        }
        let lacking = wanted(&self.backlog).saturating_sub(self.counted_on());
        let more = lacking.div_ceil(slots.max(1)).min(max - alive.min(max));
        (more > 0).then_some((more, false))
    }

    /// The slots that are here, and those that are coming.
    fn counted_on(&self) -> u32 {
        let coming = count(self.jobs.values().filter(|job| job.is_coming()).count());
        self.slots.saturating_add(coming.saturating_mul(self.wish.slots))
    }
}

/// Slots that get the backlog done in time. No more than tasks: each runs in one.
fn wanted(backlog: &Backlog) -> u32 {
    let known = backlog.tasks.saturating_sub(backlog.unlearned);
    let slots = backlog.learned.as_micros().div_ceil(DRAIN.as_micros());
    let slots = u64::try_from(slots).unwrap_or(u64::MAX).min(known);
    u32::try_from(slots.saturating_add(backlog.unlearned)).unwrap_or(u32::MAX)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
