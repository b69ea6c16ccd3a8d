//! What does a large task cost? 64 tasks of 4 MiB in and 4 MiB out, all handed in at once, as a ratio to the same payloads
//! with nothing behind them. And for information: one shared value of 1 GiB, on two workers of one machine.
//!
//! ```text
//! cargo bench --bench bulk                CW_BENCH_PAIRS=3 for a quick look
//! ```

mod reference;

use std::{env, time::Instant};

use anyhow::ensure;
use reference::{BULK_BYTES, Cluster, Figure, Leg, Plan, Reference, measuring, pairs, payloads};
use serde_bytes::ByteBuf;

/// Set for a client that shares a value.
const SHARES: &str = "CW_BENCH_SHARES";

const SHARED_BYTES: usize = 1 << 30;

#[cw::job]
fn echo(bytes: ByteBuf) -> ByteBuf {
    bytes
}

#[cw::job]
fn length(shared: cw::Shared<ByteBuf>) -> (usize, u32) {
    (shared.len(), std::process::id())
}

fn main() -> anyhow::Result<()> {
    if reference::child(client)? {
        return Ok(());
    }
    let leg = Leg { warm_up: 4, tasks: if measuring() { 64 } else { 8 } };
    let mib = (2 * leg.tasks * (BULK_BYTES as u64 >> 20)) as f64;
    let standing = Reference::start_bulk()?;
    // Else a payload that the master has is in the workers' cache as well, and crosses once less than the reference's.
    let (apart, together) = (Plan { apart: true, ..Plan::default() }.start()?, Cluster::start()?);
    let mut bulk = figure("bulk", "64 tasks of 4 MiB in and 4 MiB out: client, master, 2 workers", 0.6, 0.8);
    let mut share =
        figure("bulk_share", "1 GiB, shared with 2 workers of this machine; for information", 0.0, 0.0);
    for _ in pairs()? {
        bulk.reference.push(mib / standing.bulk(leg)?);
        bulk.cw.push(mib / apart.client::<f64>(leg)?);
        if measuring() {
            let seconds: f64 = together.client_with(leg, &[(SHARES, "1")])?;
            share.cw.push((SHARED_BYTES >> 20) as f64 / seconds);
        }
    }
    bulk.report()?;
    if measuring() { share.report() } else { Ok(()) }
}

fn figure(name: &'static str, what: &'static str, floor: f64, goal: f64) -> Figure {
    Figure { name, what, unit: "MiB/s", floor, goal, reference: Vec::new(), cw: Vec::new() }
}

/// Seconds for the leg's payloads, or for the shared value.
fn client(leg: Leg) -> anyhow::Result<f64> {
    run(leg.warm_up)?;
    if env::var_os(SHARES).is_some() { share() } else { run(leg.tasks) }
}

fn run(tasks: u64) -> anyhow::Result<f64> {
    let payloads: Vec<ByteBuf> = payloads(tasks, BULK_BYTES).into_iter().map(ByteBuf::from).collect();
    let sent = payloads.clone();
    let start = Instant::now();
    let results = cw::map(echo, payloads).collect::<Vec<ByteBuf>>().wait()?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(results == sent, "a wrong result");
    Ok(seconds)
}

/// Seconds from a value in memory to a task on each worker that has looked at it.
fn share() -> anyhow::Result<f64> {
    let value = payloads(1, SHARED_BYTES).remove(0);
    let start = Instant::now();
    let shared = cw::share(ByteBuf::from(value));
    let results = cw::map(length, [shared.clone(), shared]).collect::<Vec<_>>().wait()?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(results.iter().all(|(bytes, _)| *bytes == SHARED_BYTES), "another value");
    ensure!(results[0].1 != results[1].1, "one executor ran both tasks");
    Ok(seconds)
}
