//! What does a task cost? No-op tasks a second through `map`, as a ratio to the same frames with nothing behind them.
//!
//! ```text
//! cargo bench --bench throughput          CW_BENCH_PAIRS=3 for a quick look
//! ```

mod reference;

use std::{iter, time::Instant};

use anyhow::ensure;
use reference::{Cluster, Figure, Leg, Reference, pairs};

/// For the length of a leg: long enough that start and end do not show.
const LEG_SECONDS: f64 = 3.0;

const CALIBRATION: Leg = Leg { warm_up: 2_000, tasks: 20_000 };

#[cw::job]
fn noop(n: u64) -> u64 {
    n
}

fn main() -> anyhow::Result<()> {
    if reference::child(client)? {
        return Ok(());
    }
    let standing = Reference::start()?;
    let cluster = Cluster::start()?;
    let reference_leg = calibrated(standing.flood(CALIBRATION)?);
    let cw_leg = calibrated(cluster.client(CALIBRATION)?);

    let mut figure = Figure {
        name: "throughput",
        what: "no-op tasks through map: client, master, 2 workers",
        unit: "tasks/s",
        floor: 0.25,
        goal: 0.5,
        reference: Vec::new(),
        cw: Vec::new(),
    };
    for _ in pairs()? {
        figure.reference.push(reference_leg.tasks as f64 / standing.flood(reference_leg)?);
        figure.cw.push(cw_leg.tasks as f64 / cluster.client::<f64>(cw_leg)?);
    }
    figure.report()
}

/// The leg that takes `LEG_SECONDS` at the rate of the calibration.
fn calibrated(seconds: f64) -> Leg {
    let tasks = (CALIBRATION.tasks as f64 * LEG_SECONDS / seconds) as u64;
    Leg { warm_up: tasks / 10, tasks }
}

/// Seconds for the leg's tasks. The argument is one byte on the wire, as the reference's.
fn client(leg: Leg) -> anyhow::Result<f64> {
    let run = |tasks: u64| cw::map(noop, iter::repeat_n(7, tasks as usize)).collect::<Vec<u64>>().wait();
    run(leg.warm_up)?;
    let start = Instant::now();
    let results = run(leg.tasks)?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(results.len() as u64 == leg.tasks, "{} results of {}", results.len(), leg.tasks);
    ensure!(results.iter().all(|&n| n == 7), "a wrong result");
    Ok(seconds)
}
