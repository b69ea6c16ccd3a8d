//! The master of a start: a process in the background of this machine, or a job.

use std::{
    fs::{self, OpenOptions},
    os::unix::{
        fs::{MetadataExt, OpenOptionsExt},
        process::CommandExt,
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use super::{Halt, Place, Starting, own_verb};
use crate::{
    access::ClusterDir,
    exit::{self, Trouble},
    launch::{
        Launched, State, What,
        fleet::{Fleet, How, MasterAt},
        process, shell,
        slurm::Slurm,
        variables,
    },
    net::tls::Peer,
    observe::Observer,
    program,
};

/// How long one try to reach a master takes, of several.
pub(super) const TRY: Duration = Duration::from_secs(2);

/// How long one is waited for that was told to end.
pub(super) const END_WAIT: Duration = Duration::from_secs(15);

/// How often it is looked what has become of it.
const PAUSE: Duration = Duration::from_millis(50);

/// So many lines of its log are shown.
const LINES_SHOWN: usize = 2;

/// The background process as text.
pub(super) fn plan(fleet: &Fleet, dir: &ClusterDir, words: &[String]) -> String {
    let (home, log) = (shell::quote(&fleet.home), shell::quote(log(dir)));
    format!("CW_HOME={home} setsid {} < /dev/null >> {log} 2>&1 &\n", shell::line(words))
}

fn log(dir: &ClusterDir) -> PathBuf {
    dir.log_folder().join("master.log")
}

impl Starting<'_> {
    /// Starts a master, or waits for one that was started before; until it answers.
    pub(super) fn start_master(&mut self) -> Result<Observer, Halt> {
        if let MasterAt::Job { .. } = self.fleet.master
            && let Some(id) = self.master_job()?
        {
            return self.wait_for_job(&id);
        }
        if self.dir.has_live_master() {
            let status = own_verb("status");
            let line = format!(
                "a master holds {} and does not answer: see `{status}`, or end it and start again",
                self.dir.path().display()
            );
            return Err(Trouble::new(exit::LAUNCH, line).into());
        }
        match self.flags.master {
            Place::Here => self.start_here(),
            Place::Job => self.start_job(),
        }
    }

    fn start_here(&mut self) -> Result<Observer, Halt> {
        // Known to `cw stop` before there is anything to stop.
        let host = program::host_name();
        self.fleet.master = MasterAt::Here { host: host.clone(), pid: 0 };
        self.save()?;
        self.screen.show("starting the master");
        // Not by the lock: to look at that could be what keeps the master from it.
        let file = |dir: &ClusterDir| {
            fs::metadata(dir.access_file(Peer::Client)).map(|it| (it.ino(), it.mtime_nsec())).ok()
        };
        let before = file(&self.dir);
        let (mut child, from) = self.spawn()?;
        self.fleet.master = MasterAt::Here { host, pid: child.id() };
        self.save()?;
        loop {
            if let Some(status) = child.try_wait()? {
                let said = last_words(&self.dir, from);
                self.give_up();
                return Err(
                    Trouble::new(exit::LAUNCH, format!("the master ended at once ({status}){said}")).into()
                );
            }
            // A file of a master before may still be there, and name where nobody answers.
            if file(&self.dir) != before
                && let Ok(master) = Observer::connect(&self.fleet.cluster, TRY)
            {
                return Ok(master);
            }
            if self.is_late() {
                return Err(self.too_late(&format!("the master, process {}, does not answer", child.id())));
            }
            self.pause(PAUSE)?;
        }
    }

    /// A process that outlives this one and its terminal. Also gives where in the log its words begin.
    fn spawn(&mut self) -> Result<(Child, u64), Trouble> {
        let path = log(&self.dir);
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        let from = log.metadata()?.len();
        let words = self.flags.master_words()?;
        let mut command = detached(&words);
        variables::remove_from(&mut command);
        command.env("CW_HOME", &self.fleet.home);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn();
        child.map(|child| (child, from)).map_err(|error| {
            Trouble::new(exit::LAUNCH, format!("cannot start `{}` as the master: {error}", words[0]))
        })
    }

    fn start_job(&mut self) -> Result<Observer, Halt> {
        self.fleet.master = MasterAt::Job { id: String::new() };
        self.save()?;
        self.screen.show("submitting the master");
        let words = self.flags.master_words()?;
        match Slurm::new(&self.fleet, &self.dir).start_master(&words) {
            Ok(id) => {
                self.fleet.master = MasterAt::Job { id: id.clone() };
                self.save()?;
                self.wait_for_job(&id)
            }
            Err(refused) => {
                self.give_up();
                Err(Trouble::new(exit::LAUNCH, format!("no master was started: {refused}")).into())
            }
        }
    }

    /// The master's job if it has not ended.
    fn master_job(&mut self) -> Result<Option<String>, Trouble> {
        let How::Slurm(_) = self.fleet.how else { return Ok(None) };
        self.screen.show("looking for the master's job");
        let looked = crate::launch::launcher(&self.fleet, &self.dir).look().map_err(super::launch_trouble)?;
        let job =
            looked.into_iter().find(|job| job.what == What::Master && !matches!(job.state, State::Ended(_)));
        Ok(job.map(|job| job.id))
    }

    fn wait_for_job(&mut self, id: &str) -> Result<Observer, Halt> {
        self.inbox.watch(crate::launch::launcher(&self.fleet, &self.dir));
        // It may pend for hours, and others may want to end it.
        self.turn = None;
        loop {
            let looked =
                self.inbox.looked.as_ref().map(|looked| looked.as_deref().map_err(ToString::to_string));
            let state = match looked {
                Some(Ok(jobs)) => said_of(jobs, id),
                Some(Err(refused)) => Ok((false, refused)),
                None => Ok((false, "submitted".to_owned())),
            };
            let (runs, how) = match state {
                Ok(state) => state,
                Err(line) => {
                    self.give_up();
                    return Err(Trouble::new(exit::LAUNCH, line).into());
                }
            };
            self.screen.show(&format!("the master is job {id}: {how}"));
            if runs && let Ok(master) = Observer::connect(&self.fleet.cluster, TRY) {
                return Ok(master);
            }
            if self.is_late() {
                return Err(self.too_late(&format!("the master, job {id}: {how}")));
            }
            self.pause(PAUSE)?;
        }
    }

    /// Nothing is left of what was begun.
    fn give_up(&mut self) {
        // Another one may have begun a fleet of its own while this one waited.
        if self.before.is_none() && self.take_turn().is_ok() && self.before.is_none() && self.is_ours() {
            let _ = self.dir.remove_fleet();
        }
    }

    fn too_late(&self, what: &str) -> Halt {
        let (wait, stop) = (humantime::format_duration(self.flags.wait), own_verb("stop"));
        let line = format!(
            "after {wait}: {what}; it stays: the same command again goes on waiting, `{stop}` ends it"
        );
        Trouble::new(exit::LAUNCH, line).into()
    }
}

/// Whether the master's job runs, and how it is; in one line why it has ended.
fn said_of(jobs: &[Launched], id: &str) -> Result<(bool, String), String> {
    let Some(job) = jobs.iter().find(|job| job.id == id) else {
        return Ok((false, "not known there yet".to_owned()));
    };
    match &job.state {
        State::Pending { why, .. } => Ok((false, format!("pends: {why}"))),
        State::Running { on } => Ok((true, format!("runs on {on}, and is not reached yet"))),
        State::Unknown { why } => Ok((false, why.clone())),
        State::Ended(end) => {
            let last = if end.last.is_empty() { String::new() } else { format!(": {}", end.last.join("; ")) };
            Err(format!("the master's job {id} ended with {}{last}", end.how))
        }
    }
}

/// What the master has written last, beyond this place in its log, as the end of a line.
pub(super) fn last_words(dir: &ClusterDir, from: u64) -> String {
    let log = &log(dir);
    let has_more = log.metadata().is_ok_and(|found| found.len() > from);
    let lines = if has_more { process::last_lines(log, LINES_SHOWN) } else { Vec::new() };
    if lines.is_empty() { String::new() } else { format!(": {}", lines.join("; ")) }
}

/// A command in a session of its own, as far as there is a `setsid` here: no terminal's end reaches it. Else in a
/// process group of its own, which only a terminal's foreground is not.
fn detached(words: &[String]) -> Command {
    let has_setsid = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join("setsid").is_file()));
    let mut command = Command::new(if has_setsid { "setsid" } else { &words[0] });
    if has_setsid {
        command.arg(&words[0]);
    } else {
        // A leader of a group could not begin a session without a process between.
        command.process_group(0);
    }
    command.args(&words[1..]);
    command
}
