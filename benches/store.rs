//! What do results on disk cost? Results a second, how soon one is there, what a run with a store takes beside one
//! without, and how fast a finished run is walked through again.
//!
//! ```text
//! cargo bench --bench store               CW_BENCH_PAIRS=3 for a quick look
//! ```

mod reference;

use std::{
    env, fs,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use reference::{Cluster, Figure, Leg, pairs, quantile};

/// Which part a client measures.
const PART: &str = "CW_BENCH_STORE";

/// Of each run whose rate counts.
const TASKS: u64 = 200_000;

/// Of the run that is walked through again.
const RESUMED: u64 = 1_000_000;

/// Of tasks that take 100 us each.
const SHORT: u64 = 20_000;

/// A second at 10,000 tasks a second.
const PACED: u64 = 20_000;

/// A result of 100 bytes.
#[cw::job(json = false)]
fn bytes(n: u64) -> Vec<u8> {
    vec![n as u8; 100]
}

/// The same, with what people read.
#[cw::job]
fn number(n: u64) -> f64 {
    n as f64
}

/// Computes for so long.
#[cw::job]
fn compute(micros: u64) -> u64 {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(micros) {}
    micros
}

fn main() -> anyhow::Result<()> {
    if reference::child(client)? {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    let store = cluster.folder().join("bench.db");
    let part = |part: &str, tasks: u64| -> anyhow::Result<f64> {
        let store = store.to_str().expect("a temporary folder");
        cluster.client_with(Leg { warm_up: 0, tasks }, &[(PART, part), ("CW_BENCH_FILE", store)])
    };
    let figure = |name, what, unit, floor, goal| Figure {
        name,
        what,
        unit,
        floor,
        goal,
        reference: Vec::new(),
        cw: Vec::new(),
    };
    let mut rate = figure("store", "results of 100 B on disk", "results/s", 50_000.0, 100_000.0);
    let mut delay = figure(
        "store_delay",
        "p99 from the call to its result on disk, at 10,000 a second",
        "ms",
        25.0,
        25.0,
    );
    let mut resume = figure("store_resume", "1,000,000 recorded results walked through", "s", 4.0, 2.0);
    let mut cost =
        figure("store_cost", "time of tasks of 100 us with a store; the reference is without", "s", 1.3, 1.3);
    let mut syncs = Vec::new();
    for _ in pairs()? {
        syncs.push(time_of_sync(&store)? * 1e3);
        remove(&store);
        rate.cw.push(TASKS as f64 / part("bytes", TASKS)?);
        remove(&store);
        delay.cw.push(part("paced", PACED)? * 1e3);
        remove(&store);
        cost.reference.push(part("without", SHORT)?);
        cost.cw.push(part("compute", SHORT)?);
        remove(&store);
    }
    part("number", RESUMED)?;
    for _ in pairs()? {
        resume.cw.push(part("number", RESUMED)?);
    }
    println!("\none write and sync of 4 KiB on this disk takes {:.3} ms (median)", quantile(&syncs, 0.5));
    [rate, delay, cost, resume].iter().try_for_each(Figure::report)
}

fn remove(store: &Path) {
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{end}", store.display()));
    }
}

/// Seconds that the disk takes for a small write, the median of some.
fn time_of_sync(store: &Path) -> anyhow::Result<f64> {
    let mut file = File::create(store.with_extension("sync"))?;
    let mut one = || -> anyhow::Result<f64> {
        let start = Instant::now();
        file.write_all(&[1; 4_096])?;
        file.sync_data()?;
        Ok(start.elapsed().as_secs_f64())
    };
    let times: Vec<f64> = (0..100).map(|_| one()).collect::<anyhow::Result<_>>()?;
    Ok(quantile(&times, 0.5))
}

fn client(leg: Leg) -> anyhow::Result<f64> {
    let store = PathBuf::from(env::var("CW_BENCH_FILE")?);
    // Both executors are there.
    cw::map(compute, [1; 1_000]).wait()?;
    let start = Instant::now();
    let count = match env::var(PART)?.as_str() {
        "bytes" => count(cw::map(bytes, 0..leg.tasks).store(&store)),
        "number" => count(cw::map(number, 0..leg.tasks).store(&store)),
        "compute" => count(cw::map(compute, (0..leg.tasks).map(|_| 100)).store(&store)),
        "without" => count(cw::map(compute, (0..leg.tasks).map(|_| 100))),
        "paced" => return paced(leg.tasks, &store),
        other => anyhow::bail!("no such part: {other}"),
    };
    let seconds = start.elapsed().as_secs_f64();
    ensure!(count == leg.tasks, "{count} results of {}", leg.tasks);
    Ok(seconds)
}

fn count<R: Send + 'static>(map: cw::Map<'_, R>) -> u64 {
    map.unordered().into_iter().filter(|(_, result)| result.is_ok()).count() as u64
}

/// Seconds from a call to its result below which 99 of 100 stay, at ten calls each millisecond.
fn paced(tasks: u64, store: &Path) -> anyhow::Result<f64> {
    let (options, times) = (cw::options().store(store), Arc::new(Mutex::new(Vec::new())));
    let start = Instant::now();
    for n in 0..tasks {
        let due = start + Duration::from_micros(n * 100);
        if n % 10 == 0 {
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let (times, called) = (Arc::clone(&times), Instant::now());
        options.submit(bytes, n, move |_, result| {
            assert!(result.is_ok(), "{result:?}");
            times.lock().expect("no callback panics").push(called.elapsed().as_secs_f64());
        });
    }
    cw::wait_all().wait();
    let times = times.lock().expect("no callback panics");
    Ok(quantile(&times, 0.99))
}
