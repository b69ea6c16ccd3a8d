//! How soon does anything come back? Master, two workers and a client are started at once, keys and all; the clock
//! stops when the client has its first result.
//!
//! ```text
//! cargo bench --bench cold_start          CW_BENCH_PAIRS=3 for a quick look
//! ```

mod reference;

use std::time::Instant;

use anyhow::ensure;
use reference::{Figure, Leg, Starting, pairs};

#[cw::job]
fn noop(n: u64) -> u64 {
    n
}

fn main() -> anyhow::Result<()> {
    if reference::child(client)? {
        return Ok(());
    }
    let mut figure = Figure {
        name: "cold_start",
        what: "nothing to first result: master, 2 workers, client",
        unit: "ms",
        floor: 150.0,
        goal: 50.0,
        reference: Vec::new(),
        cw: Vec::new(),
    };
    for _ in pairs()? {
        let start = Instant::now();
        let starting = Starting::new()?;
        let result: u64 = starting.first_result()?;
        figure.cw.push(start.elapsed().as_secs_f64() * 1e3);
        ensure!(result == 7, "a wrong result");
    }
    figure.report()
}

fn client(_: Leg) -> anyhow::Result<u64> {
    Ok(cw::spawn(noop, 7).wait()?)
}
