//! How long is a lone task away? One no-op at a time, there and back, as a ratio to the reference's ping.
//!
//! ```text
//! cargo bench --bench latency             CW_BENCH_PAIRS=3 for a quick look
//! ```

mod reference;

use std::time::Instant;

use reference::{Cluster, Latency, Leg, Reference, pairs};

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
    let mut latency = Latency::new(
        ["latency_p50", "one task at a time, median"],
        ["latency_p99", "one task at a time, 99th percentile"],
    );
    for _ in pairs()? {
        latency.add(standing.ping(LEG)?, cluster.client(LEG)?);
    }
    latency.report()
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
