//! A Slurm of several nodes on this machine, and a house whose programs know it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    house::House,
    support::{Finished, Process, cw},
};

/// A Slurm of its own, and a house beside it.
pub(crate) struct Site {
    // Dropped first: what runs there is killed before its Slurm is.
    pub(crate) house: House,
    slurm: PathBuf,
}

impl Site {
    /// So many nodes of 4 cores each; none where there can be none, which is said. `CW_SLURM` asks for it: nobody's machine
    /// is to have its daemons started by a plain `cargo test`.
    pub(crate) fn start(nodes: u32) -> Option<Self> {
        Self::start_with(nodes, &[], &["slurmctld", "slurmd", "munged", "sbatch"])
    }

    /// One that knows accounts and their limits.
    pub(crate) fn with_accounts(nodes: u32) -> Option<Self> {
        Self::start_with(nodes, &["--sacct"], &["slurmctld", "slurmd", "munged", "slurmdbd", "mariadbd"])
    }

    fn start_with(nodes: u32, words: &[&str], needed: &[&str]) -> Option<Self> {
        if env::var_os("CW_SLURM").is_none() {
            eprintln!("skipped: set CW_SLURM=1 to have a Slurm started");
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can start a Slurm");
            return None;
        }
        let is_there = |name: &&str| {
            let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
            folders.iter().any(|folder| Path::new(folder).join(name).exists())
        };
        if let Some(missing) = needed.iter().find(|it| !is_there(it)) {
            eprintln!("skipped: no {missing}");
            return None;
        }
        let said = Command::new(script("up")).args(words).args([&nodes.to_string(), "4"]).output();
        let said = said.expect("the script can be run");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let folder = String::from_utf8(said.stdout).expect("a path");
        Some(Self { house: House::new(), slurm: folder.trim().into() })
    }

    /// A command of a program that knows this Slurm.
    pub(crate) fn command(&self, program: &Path, words: &[&str]) -> Command {
        let mut command = self.house.home.command(program, words);
        command.env("SLURM_CONF", self.slurm.join("slurm.conf"));
        command
    }

    /// Runs a verb of the installed binary's to its end.
    pub(crate) fn cw(&self, words: &[&str]) -> Finished {
        Process::start(&mut self.command(cw(), words)).finish()
    }

    /// Ids, names and states of all jobs that are there: a line each.
    pub(crate) fn jobs(&self) -> Vec<String> {
        let mut squeue = self.command(Path::new("squeue"), &["-h", "-r", "-o", "%i %j %T"]);
        let said = squeue.output().expect("it can be run");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8_lossy(&said.stdout).lines().map(str::to_owned).collect()
    }

    /// What a fault is done to: a node, or `slurmctld`.
    pub(crate) fn fault(&self, what: &str, whom: &str) {
        let said = Command::new(script("node")).arg(&self.slurm).args([what, whom]).output();
        let said = said.expect("the script can be run");
        assert!(said.status.success(), "{what} {whom}: {}", String::from_utf8_lossy(&said.stderr));
    }

    /// Nothing runs, and nothing is about to.
    #[track_caller]
    pub(crate) fn assert_ended(&self) {
        let jobs = self.jobs();
        assert!(jobs.is_empty(), "{jobs:?}");
        self.house.assert_ended();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.slurm.join("log/slurmctld.log")).unwrap_or_default();
            let from = log.lines().count().saturating_sub(20);
            log.lines().skip(from).for_each(|line| eprintln!("{line}"));
        }
        let ended = Command::new(script("down")).arg(&self.slurm).output();
        if !std::thread::panicking() {
            assert!(ended.is_ok_and(|said| said.status.success()), "a Slurm that is started is also ended");
        }
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/slurm").join(name)
}
