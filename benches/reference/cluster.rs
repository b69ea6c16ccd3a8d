//! A cluster of `cw` as a bench sees it: a master and one-slot workers, mostly two, under keys of their own, and a client
//! for each leg. All of them are this executable again, told apart by the flags that users have.

use std::{
    path::Path,
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

pub(crate) struct Cluster {
    // Before `home`: fields drop in order, and the processes must be gone before their files.
    _workers: Vec<Process>,
    master: Process,
    home: TempDir,
}

impl Cluster {
    /// The workers may still be on their way; a client finds them when they come.
    pub(crate) fn start() -> anyhow::Result<Self> {
        Self::start_with(2)
    }

    /// The same with so many workers.
    pub(crate) fn start_with(workers: usize) -> anyhow::Result<Self> {
        Self::start_as(workers, master_command)
    }

    /// The same with a master of which nothing is read.
    pub(crate) fn start_silent(workers: usize) -> anyhow::Result<Self> {
        Self::start_as(workers, |home| {
            let mut command = master_command(home)?;
            command.stderr(Stdio::null());
            Ok(command)
        })
    }

    fn start_as(workers: usize, master: fn(&Path) -> anyhow::Result<Command>) -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        let mut master = start("the master", master(home.path())?)?;
        wait_for_files(home.path(), &mut master)?;
        let workers = start_workers(home.path(), workers)?;
        Ok(Self { _workers: workers, master, home })
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
        let client = start_client(self.home.path(), leg, environment)?;
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
        let client = start_client(self.home.path(), leg, environment)?;
        let _: String = client.hear(START_DEADLINE)?;
        Ok(client)
    }

    /// Many such clients, started at once. What they say of what they wait for is not shown.
    pub(crate) fn crowd(&self, clients: usize, environment: &[(&str, &str)]) -> anyhow::Result<Vec<Process>> {
        let leg = Leg { warm_up: 0, tasks: 0 };
        let start = |_| start_quiet_client(self.home.path(), leg, environment);
        let crowd = (0..clients).map(start).collect::<anyhow::Result<Vec<_>>>()?;
        for client in &crowd {
            let _: String = client.hear(LEG_DEADLINE)?;
        }
        Ok(crowd)
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
        let master = start("the master", master_command(home.path())?)?;
        let workers = start_workers(home.path(), 2)?;
        let client = start_client(home.path(), Leg { warm_up: 0, tasks: 1 }, &[])?;
        Ok(Self { client, _cluster: Cluster { _workers: workers, master, home } })
    }

    /// Returns when the client has its first result.
    pub(crate) fn first_result<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        self.client.hear(START_DEADLINE)
    }
}

fn master_command(home: &Path) -> anyhow::Result<Command> {
    command(home, &["--role", "master", "--listen", "127.0.0.1:0"])
}

fn start_workers(home: &Path, workers: usize) -> anyhow::Result<Vec<Process>> {
    let flags = &["--role", "worker", "--slots", "1"];
    (0..workers).map(|_| start("a worker", command(home, flags)?)).collect()
}

/// What the bench's own client function measures in a process that has no cluster.
pub(crate) fn alone<T: DeserializeOwned>(
    flags: &[&str],
    leg: Leg,
    environment: &[(&str, &str)],
) -> anyhow::Result<T> {
    let mut command = process::this_bench()?;
    command.args(flags).env(LEG, serde_json::to_string(&leg)?).envs(environment.iter().copied());
    let client = start("the client", command)?;
    let measured = client.hear(LEG_DEADLINE)?;
    client.end(START_DEADLINE)?;
    Ok(measured)
}

fn start_client(home: &Path, leg: Leg, environment: &[(&str, &str)]) -> anyhow::Result<Process> {
    start("the client", client_command(home, leg, environment)?)
}

fn start_quiet_client(home: &Path, leg: Leg, environment: &[(&str, &str)]) -> anyhow::Result<Process> {
    let mut command = client_command(home, leg, environment)?;
    command.stderr(Stdio::null());
    start("a client", command)
}

fn client_command(home: &Path, leg: Leg, environment: &[(&str, &str)]) -> anyhow::Result<Command> {
    let mut command = command(home, &["--cluster", "default"])?;
    command.env(LEG, serde_json::to_string(&leg)?).envs(environment.iter().copied());
    Ok(command)
}

fn command(home: &Path, flags: &[&str]) -> anyhow::Result<Command> {
    let mut command = process::this_bench()?;
    command.args(flags).env("CW_HOME", home);
    Ok(command)
}

fn start(name: &str, mut command: Command) -> anyhow::Result<Process> {
    Process::start(name, &mut command)
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
