//! How long is a lone task away while another client floods the cluster? One no-op at a time, there and back, as a ratio
//! to the reference's ping while another client of the reference floods that.
//!
//! ```text
//! cargo bench --bench flood               CW_BENCH_PAIRS=3 for a quick look
//! ```

mod reference;

use std::{env, iter, time::Instant};

use reference::{Cluster, Latency, Leg, Reference, measuring, pairs, say};

/// Set for the client that floods.
const FLOODS: &str = "CW_BENCH_FLOODS";

/// Results that the flooding client has when it says that it floods.
const FLOODED: u64 = 20_000;

#[cw::job]
fn noop(n: u64) -> u64 {
    n
}

fn main() -> anyhow::Result<()> {
    if reference::child(client)? {
        return Ok(());
    }
    let leg = Leg { warm_up: 100, tasks: if measuring() { 1_000 } else { 100 } };
    let standing = Reference::start()?;
    let cluster = Cluster::start()?;
    let mut latency = Latency::new(
        ["flood_p50", "one task at a time beside a client that floods, median"],
        ["flood_p99", "one task at a time beside a client that floods, 99th percentile"],
    );
    for _ in pairs()? {
        let reference = {
            let _flood = standing.load(Leg { warm_up: FLOODED, tasks: 0 })?;
            standing.ping(leg)?
        };
        let cw = {
            let _flood = cluster.load(&[(FLOODS, "1")])?;
            cluster.client(leg)?
        };
        latency.add(reference, cw);
    }
    latency.report()
}

/// Nanoseconds of each task; or no end, if this is the client that floods.
fn client(leg: Leg) -> anyhow::Result<Vec<u64>> {
    if env::var_os(FLOODS).is_some() {
        flood()?;
    }
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

/// Keeps its window full until it is killed, and says once that it does.
fn flood() -> anyhow::Result<()> {
    for (done, (_, result)) in (1..).zip(cw::map(noop, iter::repeat(7)).unordered()) {
        result?;
        if done == FLOODED {
            say(&"floods")?;
        }
    }
    Ok(())
}
