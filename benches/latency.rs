//! How long is a lone task away? One no-op at a time, there and back, as a ratio to the reference's ping.
//!
//! ```text
//! cargo bench --bench latency             CW_BENCH_PAIRS=3 for a quick look
//! ```

mod reference;

use std::time::Instant;

use reference::{Cluster, Figure, Leg, Reference, pairs, quantile};

const LEG: Leg = Leg { warm_up: 200, tasks: 2_000 };

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
    let mut p50 = figure("latency_p50", "one task at a time, median", 2.0, 1.5);
    let mut p99 = figure("latency_p99", "one task at a time, 99th percentile", 3.0, 2.0);
    for _ in pairs()? {
        let reference = micros(standing.ping(LEG)?);
        let cw = micros(cluster.client(LEG)?);
        for (figure, q) in [(&mut p50, 0.5), (&mut p99, 0.99)] {
            figure.reference.push(quantile(&reference, q));
            figure.cw.push(quantile(&cw, q));
        }
    }
    p50.report()?;
    p99.report()
}

fn figure(name: &'static str, what: &'static str, floor: f64, goal: f64) -> Figure {
    Figure { name, what, unit: "us", floor, goal, reference: Vec::new(), cw: Vec::new() }
}

fn micros(nanos: Vec<u64>) -> Vec<f64> {
    nanos.into_iter().map(|nanos| nanos as f64 / 1e3).collect()
}

/// Nanoseconds of each task.
fn client(leg: Leg) -> anyhow::Result<Vec<u64>> {
    for _ in 0..leg.warm_up {
        cw::spawn(noop, 7).wait()?;
    }
    let mut took = Vec::new();
    for _ in 0..leg.tasks {
        let start = Instant::now();
        cw::spawn(noop, 7).wait()?;
        took.push(start.elapsed().as_nanos() as u64);
    }
    Ok(took)
}
