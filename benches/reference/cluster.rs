//! A cluster of `cw` as a bench sees it: a master and one-slot workers, mostly two, under keys of their own, and a client
//! for each leg. All of them are this executable again, told apart by the flags that users have.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use super::{
    LEG_DEADLINE, START_DEADLINE,
    process::{self, Process},
    role::{LEG, Leg},
};

/// Between two looks whether the master has written its files.
const FILES_POLL: Duration = Duration::from_millis(2);

/// What a cluster is to be.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) workers: usize,
    /// Whether nothing is read of what its master says.
    pub(crate) silent: bool,
    /// Whether each process has a folder for temporary files of its own, and with that a cache, as on a node of its own.
    pub(crate) apart: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self { workers: 2, silent: false, apart: false }
    }
}

pub(crate) struct Cluster {
    // Before `home`: fields drop in order, and the processes must be gone before their files.
    _workers: Vec<Process>,
    master: Process,
    home: TempDir,
    plan: Plan,
}

impl Plan {
    /// The workers may still be on their way; a client finds them when they come.
    pub(crate) fn start(self) -> anyhow::Result<Cluster> {
        let home = tempfile::tempdir()?;
        let mut master = self.start_master(home.path())?;
        wait_for_files(home.path(), &mut master)?;
        let workers = self.start_workers(home.path())?;
        Ok(Cluster { _workers: workers, master, home, plan: self })
    }

    fn start_master(self, home: &Path) -> anyhow::Result<Process> {
        let mut command = self.command(home, &["--role", "master", "--listen", "127.0.0.1:0"])?;
        if self.silent {
            command.stderr(Stdio::null());
        }
        Process::start("the master", &mut command)
    }

    fn start_workers(self, home: &Path) -> anyhow::Result<Vec<Process>> {
        let flags = &["--role", "worker", "--slots", "1"];
        let start = |_| Process::start("a worker", &mut self.command(home, flags)?);
        (0..self.workers).map(start).collect()
    }

    fn client_command(self, home: &Path, leg: Leg, environment: &[(&str, &str)]) -> anyhow::Result<Command> {
        let mut command = self.command(home, &["--cluster", "default"])?;
        command.env(LEG, serde_json::to_string(&leg)?).envs(environment.iter().copied());
        Ok(command)
    }

    fn command(self, home: &Path, flags: &[&str]) -> anyhow::Result<Command> {
        let mut command = process::this_bench()?;
        command.args(flags).env("CW_HOME", home).env("TMPDIR", self.node(home)?);
        Ok(command)
    }

    /// Where a process has its temporary files: they go with the cluster.
    fn node(self, home: &Path) -> anyhow::Result<PathBuf> {
        let own = || Ok(tempfile::Builder::new().prefix("node-").tempdir_in(home)?.keep());
        if self.apart { own() } else { Ok(home.to_owned()) }
    }
}

impl Cluster {
    /// The usual one.
    pub(crate) fn start() -> anyhow::Result<Self> {
        Plan::default().start()
    }

    /// What the bench's own client function measures, in a process of its own.
    pub(crate) fn client<T: DeserializeOwned>(&self, leg: Leg) -> anyhow::Result<T> {
        self.client_with(leg, &[])
    }

    /// The same with words of the bench's own in its environment.
    pub(crate) fn client_with<T: DeserializeOwned>(
        &self,
        leg: Leg,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<T> {
        let client = self.start_client(leg, environment)?;
        let measured = client.hear(LEG_DEADLINE)?;
        client.end(START_DEADLINE)?;
        Ok(measured)
    }

    /// A client that says one word and then goes on until it is dropped.
    pub(crate) fn load(&self, environment: &[(&str, &str)]) -> anyhow::Result<Process> {
        self.load_with(Leg { warm_up: 0, tasks: 0 }, environment)
    }

    /// The same with a leg.
    pub(crate) fn load_with(&self, leg: Leg, environment: &[(&str, &str)]) -> anyhow::Result<Process> {
        let client = self.start_client(leg, environment)?;
        let _: String = client.hear(START_DEADLINE)?;
        Ok(client)
    }

    /// Many such clients, started at once. What they say of what they wait for is not shown.
    pub(crate) fn crowd(&self, clients: usize, environment: &[(&str, &str)]) -> anyhow::Result<Vec<Process>> {
        let leg = Leg { warm_up: 0, tasks: 0 };
        let start = |_| {
            let mut command = self.plan.client_command(self.home.path(), leg, environment)?;
            Process::start("a client", command.stderr(Stdio::null()))
        };
        let crowd = (0..clients).map(start).collect::<anyhow::Result<Vec<_>>>()?;
        for client in &crowd {
            let _: String = client.hear(LEG_DEADLINE)?;
        }
        Ok(crowd)
    }

    fn start_client(&self, leg: Leg, environment: &[(&str, &str)]) -> anyhow::Result<Process> {
        Process::start("the client", &mut self.plan.client_command(self.home.path(), leg, environment)?)
    }

    /// The master's process.
    pub(crate) fn master(&self) -> u32 {
        self.master.id()
    }

    /// A folder that goes with the cluster.
    pub(crate) fn folder(&self) -> &Path {
        self.home.path()
    }
}

/// A cluster and a client, all four processes started at once.
pub(crate) struct Starting {
    client: Process,
    _cluster: Cluster,
}

impl Starting {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        let (plan, leg) = (Plan::default(), Leg { warm_up: 0, tasks: 1 });
        let master = plan.start_master(home.path())?;
        let workers = plan.start_workers(home.path())?;
        let client = Process::start("the client", &mut plan.client_command(home.path(), leg, &[])?)?;
        Ok(Self { client, _cluster: Cluster { _workers: workers, master, home, plan } })
    }

    /// Returns when the client has its first result.
    pub(crate) fn first_result<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        self.client.hear(START_DEADLINE)
    }
}

/// What the bench's own client function measures in a process that has no cluster.
pub(crate) fn alone<T: DeserializeOwned>(
    flags: &[&str],
    leg: Leg,
    environment: &[(&str, &str)],
) -> anyhow::Result<T> {
    let mut command = process::this_bench()?;
    command.args(flags).env(LEG, serde_json::to_string(&leg)?).envs(environment.iter().copied());
    let client = Process::start("the client", &mut command)?;
    let measured = client.hear(LEG_DEADLINE)?;
    client.end(START_DEADLINE)?;
    Ok(measured)
}

/// The access files are written whole, so their names say enough.
fn wait_for_files(home: &Path, master: &mut Process) -> anyhow::Result<()> {
    let start = Instant::now();
    let files = ["client.json", "worker.json"].map(|file| home.join("default").join(file));
    while !files.iter().all(|file| file.exists()) {
        master.check()?;
        ensure!(
            start.elapsed() < START_DEADLINE,
            "the master has written no access files for {START_DEADLINE:?}"
        );
        thread::sleep(FILES_POLL);
    }
    Ok(())
}
