//! How soon are a thousand workers in, and what do they cost then? All connect at once to one master, each with an endpoint
//! of its own, all from one process, as a thousand processes of their own would measure the machine. Then no-ops go through
//! `map` on two other workers, beside the rate before they came.
//!
//! ```text
//! cargo bench --bench joins               CW_BENCH_PAIRS=3 for a quick look
//! ```
//!
//! With the small buffers that systems have by default it is another figure: run it again after
//! `sysctl -w net.core.rmem_max=212992 net.core.wmem_max=212992`.

mod reference;

use std::{env, fs, iter, path::Path, time::Instant};

use anyhow::ensure;
use cw::__private::bench::IdleWorker;
use reference::{Figure, LEG_DEADLINE, Leg, Plan, measuring, pairs, say};

/// The access file with which a client's process has workers join.
const JOIN: &str = "CW_BENCH_JOIN";

const SECONDS: f64 = 2.0;
const CALIBRATION: Leg = Leg { warm_up: 2_000, tasks: 20_000 };

/// What systems grant by default.
const SMALL_BUFFER_BYTES: u64 = 208 << 10;

#[cw::job]
fn noop(n: u64) -> u64 {
    n
}

fn main() -> anyhow::Result<()> {
    if reference::child(client)? {
        return Ok(());
    }
    let workers = if measuring() { 1_000 } else { 20 };
    let mut joins = joins(buffer_bytes()?);
    let mut rate = Figure {
        name: "joined_rate",
        what: "no-ops through map on 2 workers while 1,000 others are connected; the reference is without",
        unit: "tasks/s",
        floor: 0.5,
        goal: 0.7,
        reference: Vec::new(),
        cw: Vec::new(),
    };
    for _ in pairs()? {
        let cluster = Plan { silent: true, ..Plan::default() }.start()?;
        let leg = calibrated(cluster.client(CALIBRATION)?);
        rate.reference.push(leg.tasks as f64 / cluster.client::<f64>(leg)?);
        let access = cluster.folder().join("default").join("worker.json");
        let access = access.to_str().expect("a temporary folder");
        let others = Leg { warm_up: 0, tasks: workers };
        let joined = cluster.load_with(others, &[(JOIN, access)])?;
        joins.cw.push(joined.hear(LEG_DEADLINE)?);
        rate.cw.push(leg.tasks as f64 / cluster.client::<f64>(leg)?);
    }
    joins.report()?;
    rate.report()
}

fn joins(buffer_bytes: u64) -> Figure {
    let (name, what) = match buffer_bytes <= SMALL_BUFFER_BYTES {
        true => ("joins_small", "1,000 workers connect at once, with socket buffers of 208 KiB"),
        false => ("joins", "1,000 workers connect at once"),
    };
    Figure { name, what, unit: "s", floor: 10.0, goal: 5.0, reference: Vec::new(), cw: Vec::new() }
}

/// What a socket gets at most for what it receives.
fn buffer_bytes() -> anyhow::Result<u64> {
    Ok(fs::read_to_string("/proc/sys/net/core/rmem_max")?.trim().parse()?)
}

/// The leg that takes `SECONDS` at the rate of the calibration, or that one again where nobody measures.
fn calibrated(seconds: f64) -> Leg {
    let tasks = (CALIBRATION.tasks as f64 * SECONDS / seconds) as u64;
    if measuring() { Leg { warm_up: tasks / 10, tasks } } else { CALIBRATION }
}

/// Seconds for the leg's tasks.
fn client(leg: Leg) -> anyhow::Result<f64> {
    if let Ok(access) = env::var(JOIN) {
        return join(Path::new(&access), leg.tasks);
    }
    let run = |tasks: u64| cw::map(noop, iter::repeat_n(7, tasks as usize)).collect::<Vec<u64>>().wait();
    run(leg.warm_up)?;
    let start = Instant::now();
    let results = run(leg.tasks)?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(results.len() as u64 == leg.tasks, "{} results of {}", results.len(), leg.tasks);
    Ok(seconds)
}

/// Says that it begins, then how many seconds it took until so many workers were in, and stays until it is killed.
fn join(access: &Path, workers: u64) -> anyhow::Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        say(&"joins")?;
        let start = Instant::now();
        let join = |_| tokio::spawn(IdleWorker::join(access.to_owned(), LEG_DEADLINE));
        let joining: Vec<_> = (0..workers).map(join).collect();
        let mut joined = Vec::new();
        for worker in joining {
            joined.push(worker.await??);
        }
        say(&start.elapsed().as_secs_f64())?;
        std::future::pending().await
    })
}
