//! `cw start`: a cluster with one line.
//!
//! ```text
//!   flags -> Fleet ---- --dry-run: shown, nothing is done
//!     | the fleet's file is written: from here on `cw stop` finds what there is
//!     v
//!   master: one that answers is used; else a process here, or a job: until it answers, or has ended
//!     v
//!   workers: the launcher starts them
//!     v
//!   until all are connected: the master says who is there, the engine why others are not
//!     v
//!   how to use it, and how to end it
//! ```
//!
//! What it changes, it changes alone (`launch.lock`); while it only waits, for a master's job or for workers, others may. What
//! they have changed by then is what it goes on from.
//!
//! Ctrl-C ends the waiting only, and what was started stays; so does the end of `--wait`. Where nothing could be started at
//! all, a master that was started for it is ended again. The exit code is 17 where no worker is there at the end.

mod flags;
mod master;
mod news;
mod screen;
mod turn;
mod watch;

use std::time::{Duration, Instant};

pub(super) use flags::Start;
pub(super) use screen::Screen;
pub(super) use turn::Turn;

use flags::Place;
use news::Inbox;

use super::stop;
use crate::{
    access::{ClusterDir, lock::FolderLock},
    cli,
    exit::{self, Trouble},
    flag,
    launch::{
        self, Launched, Refused, State, What, container,
        fleet::{Fleet, How, MasterAt},
        slurm::{Slurm, ours_in_line},
    },
    net::tls::Peer,
    observe::Observer,
    program,
};

/// Exit code after Ctrl-C.
const INTERRUPTED: u8 = 130;

impl Start {
    pub(super) fn run(&self) -> Result<u8, Trouble> {
        let dir = ClusterDir::locate(&self.cluster)?;
        flag::set_cluster(&self.cluster);
        let mut survey = self.survey(&dir)?;
        if self.dry_run {
            return self.show_plan(&survey.fleet, survey.kept, &dir);
        }
        check(&survey.fleet, &dir).map_err(launch_trouble)?;
        dir.make()?;
        let mut screen = Screen::new();
        let turn = Turn::of("start").take(&dir, &mut screen)?;
        // Another one may have started some by now.
        if dir.read_fleet()? != survey.before || turn.waited {
            survey = self.survey(&dir)?;
            check(&survey.fleet, &dir).map_err(launch_trouble)?;
        }
        let Survey { before, kept, fleet } = survey;
        Starting {
            flags: self,
            deadline: Instant::now() + self.wait,
            screen,
            inbox: Inbox::new(),
            turn: Some(turn.lock),
            known: before.clone(),
            before,
            kept,
            fleet,
            dir,
        }
        .run()
    }

    /// What there is, and what is to be.
    fn survey(&self, dir: &ClusterDir) -> Result<Survey, Trouble> {
        let before = dir.read_fleet()?;
        let there = before.as_ref().map_or(0, |before| there(before, dir));
        let fleet = self.fleet(dir, before.as_ref(), there)?;
        let kept = fleet.min.saturating_sub(before.as_ref().map_or(0, |before| before.min));
        Ok(Survey { before, kept, fleet })
    }

    fn show_plan(&self, fleet: &Fleet, kept: u32, dir: &ClusterDir) -> Result<u8, Trouble> {
        let words = self.master_words()?;
        let master = match (self.master, &fleet.how) {
            (Place::Job, How::Slurm(_)) => Slurm::new(fleet, dir).plan_master(&words),
            _ => master::plan(fleet, dir, &words),
        };
        let mut plan = format!("# the master, unless one of `{}` answers\n{master}", self.cluster);
        for (count, fleet) in shares(fleet, self.count(fleet), kept) {
            let named = if count == 1 { "a worker".to_owned() } else { format!("{count} workers") };
            plan += &format!("\n# {named}\n{}", launch::launcher(&fleet, dir).plan(count));
        }
        plan += &later(fleet);
        cli::print(&plan)
    }
}

/// What the master's keeper does by itself.
fn later(fleet: &Fleet) -> String {
    if !matches!(fleet.how, How::Slurm(_)) {
        return String::new();
    }
    let mut later = format!(
        "\n# later, with the work: others as above, up to {} workers in all, and one more for each that is lost until Slurm notices\n",
        fleet.max
    );
    if let Some(idle) = fleet.idle {
        let (idle, which) = (humantime::format_duration(idle), ours_in_line(&fleet.cluster).join(" "));
        later += &format!("\n# those that pend and have not been needed for {idle}\nscancel {which} JOB..\n");
    }
    later
}

/// What there is as a start begins, and what is to be.
struct Survey {
    before: Option<Fleet>,
    /// Those that are to stay whatever there is to do, beside those that were started before.
    kept: u32,
    fleet: Fleet,
}

/// How many workers of a fleet are there, or are to come.
fn there(fleet: &Fleet, dir: &ClusterDir) -> u32 {
    // All hosts are named each time.
    if matches!(fleet.how, How::Ssh(_)) {
        return 0;
    }
    // An engine that does not answer is told of by what follows.
    let Ok(launched) = launch::launcher(fleet, dir).look() else { return fleet.workers };
    let is_there = |it: &&Launched| it.what == What::Worker && !matches!(it.state, State::Ended(_));
    u32::try_from(launched.iter().filter(is_there).count()).unwrap_or(u32::MAX)
}

/// What cannot work is said before anything is begun.
fn check(fleet: &Fleet, dir: &ClusterDir) -> Result<(), Refused> {
    match &fleet.how {
        How::Slurm(slurm) => {
            container::check(fleet, &slurm.folder)?;
            Slurm::new(fleet, dir).check()
        }
        How::Local(_) => container::check(fleet, &std::env::current_dir().unwrap_or_default()),
        How::Ssh(_) if fleet.container.is_some() => Err(Refused(
            "--container is for --slurm and --local: a container sees the program where it is here"
                .to_owned(),
        )),
        How::Ssh(_) => Ok(()),
    }
}

/// Those that stay whatever there is to do, so many, and the others, each as a fleet of which all are alike.
fn shares(fleet: &Fleet, count: u32, kept: u32) -> Vec<(u32, Fleet)> {
    let kept = kept.min(count);
    let keeping = Fleet { idle: None, ..fleet.clone() };
    let shares = [(kept, keeping), (count - kept, fleet.clone())];
    shares.into_iter().filter(|(count, _)| *count > 0).collect()
}

fn not_started(count: u32, refused: &Refused) -> String {
    let verb = if count == 1 { "was" } else { "were" };
    format!("{} {verb} not started: {refused}", watch::counted(count.into(), "worker"))
}

fn launch_trouble(refused: Refused) -> Trouble {
    Trouble::new(exit::LAUNCH, refused.0)
}

/// A start that is under way.
struct Starting<'a> {
    flags: &'a Start,
    fleet: Fleet,
    dir: ClusterDir,
    /// Held while something is changed.
    turn: Option<FolderLock>,
    /// What the fleet's file was when this start last had its turn.
    known: Option<Fleet>,
    /// What was started for this cluster before.
    before: Option<Fleet>,
    /// So many of those that are started stay whatever there is to do.
    kept: u32,
    deadline: Instant,
    screen: Screen,
    inbox: Inbox,
}

/// Why a start goes no further.
enum Halt {
    /// The user wants no more of it, or it took too long; what was started stays.
    Interrupted,
    Failed(Trouble),
}

impl From<Trouble> for Halt {
    fn from(trouble: Trouble) -> Self {
        Self::Failed(trouble)
    }
}

impl From<std::io::Error> for Halt {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl Starting<'_> {
    fn run(mut self) -> Result<u8, Trouble> {
        match self.steps() {
            Ok(code) => Ok(code),
            Err(Halt::Failed(trouble)) => Err(trouble),
            Err(Halt::Interrupted) => {
                let stop = own_verb("stop");
                self.screen.say(&format!("what was started stays; `{stop}` ends it"));
                Ok(INTERRUPTED)
            }
        }
    }

    fn steps(&mut self) -> Result<u8, Halt> {
        let (mut master, was_there) = match self.master_that_answers() {
            Some(master) => (master, true),
            None => (self.start_master()?, false),
        };
        self.take_turn()?;
        // Hosts that have a worker already are among those that are waited for.
        let is_ssh = matches!(self.fleet.how, How::Ssh(_));
        let connected = if is_ssh { 0 } else { watch::connected(&master.look()?) };
        self.save()?;
        let ids = match self.start_workers() {
            Ok(ids) => ids,
            Err(refused) => return Err(self.take_back(master, was_there, &refused).into()),
        };
        self.turn = None;
        let code = self.watch(&mut master, connected, &ids)?;
        if code == 0 {
            self.tell_use(&mut master)?;
        }
        Ok(code)
    }

    /// Whatever it was started by.
    fn master_that_answers(&mut self) -> Option<Observer> {
        if !self.dir.exists(Peer::Client) || self.dir.has_dead_master() {
            return None;
        }
        self.screen.show("looking for the master");
        let master = Observer::connect(&self.fleet.cluster, master::TRY).ok();
        if master.is_some() && self.before.is_none() {
            self.fleet.master = MasterAt::There;
        }
        master
    }

    fn save(&mut self) -> Result<(), Trouble> {
        self.dir.write_fleet(&self.fleet)?;
        self.known = Some(self.fleet.clone());
        Ok(())
    }

    /// Whether the fleet's file is of this start, or of one that it adds to: not of a later one.
    fn is_ours(&self) -> bool {
        matches!(self.dir.read_fleet(), Ok(Some(fleet)) if fleet.id == self.fleet.id)
    }

    /// Waits for its turn again, and goes on from what others have changed meanwhile.
    fn take_turn(&mut self) -> Result<(), Halt> {
        if self.turn.is_some() {
            return Ok(());
        }
        let turn = Turn::of("start");
        while self.turn.is_none() {
            self.turn = turn.try_take(&self.dir, &mut self.screen)?;
            if self.turn.is_none() {
                self.pause(turn::PAUSE)?;
            }
        }
        let now = self.dir.read_fleet().map_err(Trouble::from)?;
        if now == self.known {
            return Ok(());
        }
        let Some(now) = now.filter(|now| now.id == self.fleet.id) else {
            let line =
                format!("the cluster `{}` was ended while this waited for its master", self.fleet.cluster);
            return Err(Trouble::new(exit::LAUNCH, line).into());
        };
        self.fleet = self.flags.fleet(&self.dir, Some(&now), there(&now, &self.dir))?;
        (self.known, self.before) = (Some(now.clone()), Some(now));
        Ok(())
    }

    /// Starts them. Gives what they are called at their engine.
    fn start_workers(&mut self) -> Result<Vec<String>, Refused> {
        let mut ids = Vec::new();
        let is_ssh = matches!(self.fleet.how, How::Ssh(_));
        for (count, share) in shares(&self.fleet, self.flags.count(&self.fleet), self.kept) {
            let share = Fleet { how: self.fleet.how.clone(), ..share };
            let mut launcher = launch::launcher(&share, &self.dir);
            let mut left = count;
            while left > 0 {
                let started = launcher.start(left);
                self.fleet.how = launcher.how();
                match started {
                    // Hosts that were not reached are told of by the engine, and tried again only when asked to.
                    Ok(some) if is_ssh => {
                        ids.extend(some);
                        break;
                    }
                    Ok(some) => {
                        left = left.saturating_sub(u32::try_from(some.len()).unwrap_or(u32::MAX).max(1));
                        ids.extend(some);
                    }
                    Err(refused) if ids.is_empty() => return Err(refused),
                    Err(refused) => {
                        self.screen.say(&not_started(left, &refused));
                        break;
                    }
                }
            }
            self.inbox.watch(launcher);
        }
        if let How::Ssh(ssh) = &self.fleet.how {
            ids = ssh.hosts.iter().map(|host| host.name.clone()).collect();
        }
        self.fleet.is_started = true;
        let saved = self.save();
        saved.map_err(|trouble| Refused(trouble.to_string())).map(|()| ids)
    }

    /// Nothing was started: all is as it was before.
    fn take_back(&mut self, master: Observer, was_there: bool, refused: &Refused) -> Trouble {
        let line = format!("no worker was started: {refused}");
        let stop = own_verb("stop");
        Trouble::new(
            exit::LAUNCH,
            match (&self.before, self.undo(master, was_there)) {
                (None, true) => line,
                (Some(_), true) => format!("{line}; what was started before stays, and `{stop}` ends it"),
                (_, false) => format!("{line}; what was begun is not all ended: `{stop}` ends the rest"),
            },
        )
    }

    /// Ends what this call began, and makes the fleet what it was. Whether that went well.
    fn undo(&self, master: Observer, was_there: bool) -> bool {
        if let Some(before) = &self.before {
            let fleet = Fleet { master: self.fleet.master.clone(), is_started: true, ..before.clone() };
            return self.is_ours() && self.dir.write_fleet(&fleet).is_ok();
        }
        let process = stop::master_here(&self.dir);
        let ended = was_there || master.stop(master::END_WAIT).is_ok() && stop::await_end(process).is_none();
        // What was not answered in time may have been done nevertheless.
        let cleared = launch::launcher(&self.fleet, &self.dir).stop().is_ok();
        ended && cleared && (!self.is_ours() || self.dir.remove_fleet().is_ok())
    }

    fn tell_use(&mut self, master: &mut Observer) -> Result<(), Halt> {
        let standing = master.look()?;
        self.screen.clear();
        let slots: u64 = standing.workers.iter().map(|worker| u64::from(worker.slots)).sum();
        let cluster = &self.fleet.cluster;
        let user = match cli::is_called() {
            true => program::typed(),
            false => "PROGRAM".to_owned(),
        };
        let text = format!(
            "cluster `{cluster}` is up: {} and {}, master {} at {}\n  run:   {user} {} {cluster}\n  look:  {}\n  end:   {}\n",
            watch::counted(standing.workers.len() as u64, "worker"),
            watch::counted(slots, "slot"),
            standing.name,
            master.announced(),
            flag::flag("cluster"),
            own_verb("status"),
            own_verb("stop"),
        );
        cli::print(&text)?;
        Ok(())
    }

    fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// A while, unless the user has had enough.
    fn pause(&mut self, time: Duration) -> Result<(), Halt> {
        if self.inbox.wait(time) { Ok(()) } else { Err(Halt::Interrupted) }
    }
}

/// A verb as it is typed for this cluster: `cw stop --cluster lab`, `./sim cw stop`.
fn own_verb(verb: &str) -> String {
    let verb = flag::verb(verb);
    match cli::is_called() {
        true => format!("{} {verb}", program::typed()),
        false => verb,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_started_is_counted() {
        let said = |count| not_started(count, &Refused("sbatch: no".to_owned()));
        assert_eq!(said(1), "1 worker was not started: sbatch: no");
        assert_eq!(said(2), "2 workers were not started: sbatch: no");
    }
}
