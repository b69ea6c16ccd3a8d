//! What was started for a cluster, and how: `fleet.json` in its folder.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::slurm::former;
use crate::access::{AccessError, ClusterDir};

/// What `cw start` was asked for, and what has come of it. A cluster has one at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fleet {
    /// That of the files of a cluster.
    pub(crate) version: u64,
    /// Drawn at random by the `cw start` that began it; marks all that was started for it.
    pub(crate) id: String,
    pub(crate) cluster: String,
    /// `CW_HOME` as `cw start` had it, where the cluster's folder lies.
    pub(crate) home: PathBuf,
    /// The command that workers are started with, program first: `[".../cw", "worker"]` or `[".../sim", "cw", "worker"]`,
    /// and what flags `cw start` was given for them. `--cluster NAME` and `--idle TIME` are added.
    pub(crate) command: Vec<String>,
    pub(crate) master: MasterAt,
    pub(crate) how: How,
    /// Workers that are started at once.
    pub(crate) workers: u32,
    /// So many workers are kept, whatever there is to do.
    pub(crate) min: u32,
    /// More are not asked for, but one other for each that was lost or does not join, until the engine notices.
    pub(crate) max: u32,
    /// Slots of each, as far as that is known before it runs.
    pub(crate) slots: u32,
    /// A worker without tasks ends after so long, and one that pends and is not needed is taken back; none is for that
    /// without it.
    pub(crate) idle: Option<Duration>,
    pub(crate) container: Option<Container>,
    /// Whether `cw start` has started its workers: until then nobody else starts any.
    #[serde(default)]
    pub(crate) is_started: bool,
    /// How long it may wait for them from then on: nobody takes back those that have not begun.
    #[serde(default)]
    pub(crate) wait: Duration,
}

/// Where the master is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MasterAt {
    /// It was there already, and `cw stop` leaves it.
    There,
    /// A process of this machine.
    Here { host: String, pid: u32 },
    /// A job of the engine's.
    Job { id: String },
}

/// By what, and with what of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum How {
    Local(Local),
    Slurm(Slurm),
    Ssh(Ssh),
}

/// Processes of one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Local {
    pub(crate) host: String,
    /// Process ids, each with its start time in clock ticks since boot, as another process may get the number later.
    pub(crate) processes: Vec<(u32, u64)>,
}

/// Slurm jobs, found by their names (`cw-CLUSTER-worker`, `cw-CLUSTER-master`) and their comment, `cw:ID` with the fleet's id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Slurm {
    /// `--time`, as Slurm reads it.
    pub(crate) time: Option<String>,
    /// `--slurm-args`, in words; they come last, so they overrule ours.
    pub(crate) args: Vec<String>,
    /// `--master-args`: these in place of those for the master's job.
    #[serde(default)]
    pub(crate) master_args: Option<Vec<String>>,
    /// Cores of each worker.
    pub(crate) cores: u32,
    /// Where jobs run: where `cw start` did.
    #[serde(default)]
    pub(crate) folder: PathBuf,
}

/// Machines that are reached by SSH.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ssh {
    pub(crate) hosts: Vec<Host>,
    /// `--ssh-args`, in words: what `ssh` is told beside ours.
    #[serde(default)]
    pub(crate) args: Vec<String>,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Host {
    /// As `ssh` is given it.
    pub(crate) name: String,
    /// What its worker is told, if not all its cores.
    #[serde(default)]
    pub(crate) slots: Option<u32>,
    /// Folder made there for this fleet, with all that is left there; none before it was started.
    pub(crate) folder: Option<String>,
    /// Why nothing was started there, if that was tried.
    #[serde(default)]
    pub(crate) failed: Option<String>,
}

/// In what workers run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Container {
    pub(crate) engine: Engine,
    pub(crate) image: String,
    /// `--container-args`, in words.
    pub(crate) args: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Engine {
    Docker,
    Apptainer,
}

impl Fleet {
    /// The command of a worker without its program, with what is not in [`command`](Self::command) yet.
    pub(crate) fn worker_words(&self, slots: Option<u32>) -> Vec<String> {
        let mut words = self.command.get(1..).unwrap_or_default().to_vec();
        let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        add("--cluster", self.cluster.clone());
        if let Some(idle) = self.idle {
            add("--idle", humantime::format_duration(idle).to_string());
        }
        if let Some(slots) = slots
            && !self.command.iter().any(|word| word == "--slots" || word.starts_with("--slots="))
        {
            add("--slots", slots.to_string());
        }
        words
    }
}

impl ClusterDir {
    pub(super) fn fleet_file(&self) -> PathBuf {
        self.path().join("fleet.json")
    }

    /// The fleet that was started for this cluster, if there is one.
    ///
    /// # Errors
    /// The file cannot be read, is not private, or damaged.
    pub(crate) fn read_fleet(&self) -> Result<Option<Fleet>, AccessError> {
        self.read_own(&self.fleet_file())
    }

    /// For how much longer those may wait that have written this fleet.
    pub(crate) fn still_waited(&self, fleet: &Fleet) -> Duration {
        let written = fs::metadata(self.fleet_file()).and_then(|file| file.modified());
        let age = written.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        fleet.wait.saturating_sub(age.unwrap_or_default())
    }

    /// Notes a fleet in place of the one before.
    ///
    /// # Errors
    /// The file cannot be written; the one before is then still whole.
    pub(crate) fn write_fleet(&self, fleet: &Fleet) -> Result<(), AccessError> {
        self.write_own(&self.fleet_file(), fleet)
    }

    /// The fleet is no more; should Slurm have jobs of it again, they are known.
    ///
    /// # Errors
    /// The file is there and cannot be removed.
    pub(crate) fn remove_fleet(&self) -> Result<(), AccessError> {
        if let Ok(Some(Fleet { id, how: How::Slurm(_), .. })) = self.read_fleet() {
            former::note(self, &id);
        }
        self.remove_own(&self.fleet_file())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn fleet() -> Fleet {
        Fleet {
            version: 1,
            id: "3fa9".to_owned(),
            cluster: "default".to_owned(),
            home: PathBuf::from("/home/u/.cw"),
            command: vec!["/home/u/sim".to_owned(), "cw".to_owned(), "worker".to_owned()],
            master: MasterAt::Here { host: "login1".to_owned(), pid: 7 },
            how: How::Slurm(Slurm {
                time: Some("2:00:00".to_owned()),
                args: vec!["-p".to_owned(), "long".to_owned()],
                cores: 1,
                ..Slurm::default()
            }),
            workers: 64,
            min: 0,
            max: 64,
            slots: 1,
            idle: Some(Duration::from_secs(300)),
            container: None,
            is_started: false,
            wait: Duration::from_secs(600),
        }
    }

    #[test]
    fn a_worker_is_told_its_cluster_and_what_it_was_given() {
        let words = fleet().worker_words(Some(2));
        assert_eq!(words, ["cw", "worker", "--cluster", "default", "--idle", "5m", "--slots", "2"]);
        let mut given = fleet();
        given.command.extend(["--slots".to_owned(), "8".to_owned()]);
        given.idle = None;
        assert_eq!(given.worker_words(Some(2)), ["cw", "worker", "--slots", "8", "--cluster", "default"]);
    }

    #[test]
    fn who_has_waited_waits_no_longer() {
        let home = tempfile::tempdir().unwrap();
        let dir = ClusterDir::in_home(home.path(), "default").unwrap();
        dir.make().unwrap();
        let fleet = fleet();
        assert_eq!(dir.still_waited(&fleet), fleet.wait, "it is about to be written");
        dir.write_fleet(&fleet).unwrap();
        let written = |age| {
            let file = fs::File::options().write(true).open(dir.fleet_file()).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
            dir.still_waited(&fleet).as_secs()
        };
        assert!((290..=300).contains(&written(300)));
        assert_eq!(written(700), 0);
    }

    #[test]
    fn what_was_started_is_found_again_until_it_is_no_more() {
        let home = tempfile::tempdir().unwrap();
        let dir = ClusterDir::in_home(home.path(), "default").unwrap();
        dir.make().unwrap();
        assert_eq!(dir.read_fleet().unwrap(), None);
        dir.write_fleet(&fleet()).unwrap();
        assert_eq!(dir.read_fleet().unwrap(), Some(fleet()));
        dir.remove_fleet().unwrap();
        dir.remove_fleet().unwrap();
        assert_eq!(dir.read_fleet().unwrap(), None);
    }
}
