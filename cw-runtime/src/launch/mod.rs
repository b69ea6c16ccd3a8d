//! Starting a cluster's processes somewhere, seeing what becomes of them, and ending them.
//!
//! What was started and how is a [`Fleet`](fleet::Fleet), a file in the cluster's folder: `cw start` writes it, `cw stop`,
//! `cw status` and the master's [keeper] read it. A [`Launcher`] is one way of starting: on this machine,
//! under Slurm, by SSH. It blocks, so it is called from threads of its own, and what it says is never all there is to
//! believe: a worker counts once the master has it.

pub(crate) mod command;
pub(crate) mod container;
pub(crate) mod fleet;
pub(crate) mod keeper;
pub(crate) mod local;
mod outlook;
pub(crate) mod process;
pub(crate) mod shell;
pub(crate) mod slurm;
pub(crate) mod ssh;
pub(crate) mod variables;

use std::fmt;

use fleet::{Fleet, How};

use crate::access::ClusterDir;

/// One way of starting a cluster's processes. All calls may take as long as the commands behind them, each of which has
/// a [limit](command::LIMIT).
pub(crate) trait Launcher: Send {
    /// Starts so many workers more. Gives what they are called there, as [`Launched::id`] has it.
    ///
    /// # Errors
    /// In the engine's own words; nothing was started.
    fn start(&mut self, workers: u32) -> Result<Vec<String>, Refused>;

    /// Takes back those of these that have not begun. Where all begin at once there is none.
    ///
    /// # Errors
    /// In the engine's own words; some may have been taken back.
    fn withdraw(&mut self, _ids: &[String]) -> Result<(), Refused> {
        Ok(())
    }

    /// What has become of all that was started for this cluster, as far as it is still known there.
    ///
    /// # Errors
    /// In the engine's own words. It says nothing about what was started.
    fn look(&mut self) -> Result<Vec<Launched>, Refused>;

    /// Ends all that was started for this cluster and leaves nothing behind.
    ///
    /// # Errors
    /// What is left, and why.
    fn stop(&mut self) -> Result<(), Refused>;

    /// How it starts workers, with what it knows of them by now: whoever called one of the others writes it into the
    /// [`Fleet`](fleet::Fleet)'s file, also if that failed.
    fn how(&self) -> How;

    /// What it would do to start so many workers more, in lines that could be typed. Does nothing.
    fn plan(&self, workers: u32) -> String;
}

/// What starts the workers of this fleet, all with its idle time: those that are to stay are started by the launcher of a
/// fleet that has none.
pub(crate) fn launcher(fleet: &Fleet, dir: &ClusterDir) -> Box<dyn Launcher> {
    match &fleet.how {
        How::Slurm(_) => Box::new(slurm::Slurm::new(fleet, dir)),
        How::Local(_) => Box::new(local::Processes::new(fleet, dir)),
        How::Ssh(_) => Box::new(ssh::OverSsh::new(fleet, dir)),
    }
}

/// Why an engine did not do what it was asked to, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<command::Failed> for Refused {
    fn from(failed: command::Failed) -> Self {
        Self(failed.to_string())
    }
}

/// One thing that was started, as its engine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Launched {
    /// Its name there: a Slurm job (`77` or `77_3`), a host, a process.
    pub(crate) id: String,
    pub(crate) what: What,
    pub(crate) state: State,
}

/// What was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Master,
    Worker,
}

/// What has become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It has not begun, and why, in the engine's words.
    Pending {
        why: String,
        /// Whether it does nothing but wait in line, so that it can be taken back.
        in_line: bool,
    },
    /// It runs, on this node.
    Running { on: String },
    /// It has ended.
    Ended(End),
    /// Nobody can say just now, and why, in the engine's words.
    Unknown { why: String },
}

/// How something ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// Whether it did what it was to do: ended by itself, by order, or at its time limit.
    pub(crate) is_well: bool,
    /// In the engine's words: `exit code 1`, `NODE_FAIL`, `TIMEOUT`.
    pub(crate) how: String,
    /// Where it ran, if that is known.
    pub(crate) on: Option<String>,
    /// The last lines it wrote, if they can be read here.
    pub(crate) last: Vec<String>,
}
