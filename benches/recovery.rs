//! How soon does a task that lost its executor have its result? The executor is killed by the task itself, the clock
//! starts just before, and stops at the client when the second attempt's result is there.
//!
//! ```text
//! cargo bench --bench recovery            CW_BENCH_PAIRS=3 for a quick look
//! ```

mod reference;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::ensure;
use reference::{Cluster, Figure, Leg, pairs};
use rustix::process::{Signal, getpid, kill_process};

/// Kills its own process the first time; then gives the time at which it did.
#[cw::job]
fn die_once(death: &Path) -> Duration {
    if let Ok(text) = fs::read_to_string(death) {
        return Duration::from_nanos(text.parse().expect("it was written whole"));
    }
    fs::write(death, now().as_nanos().to_string()).expect("the folder is there");
    kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
    unreachable!("nothing outlives SIGKILL")
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970")
}

fn main() -> anyhow::Result<()> {
    if reference::child(client)? {
        return Ok(());
    }
    let mut figure = Figure {
        name: "recovery",
        what: "an executor is killed; until its task has its result",
        unit: "ms",
        floor: 500.0,
        goal: 200.0,
        reference: Vec::new(),
        cw: Vec::new(),
    };
    let cluster = Cluster::start()?;
    for _ in pairs()? {
        let seconds: f64 = cluster.client(Leg { warm_up: 0, tasks: 1 })?;
        ensure!(seconds > 0.0, "a result before its task");
        figure.cw.push(seconds * 1e3);
    }
    figure.report()
}

fn client(_: Leg) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir()?;
    let death: PathBuf = folder.path().join("death");
    let died: Duration = cw::spawn(die_once, (death.as_path(),)).wait()?;
    Ok(now().saturating_sub(died).as_secs_f64())
}
