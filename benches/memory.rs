//! What memory do tasks take? A `map` over 10,000,000 no-ops, in its client and in its master, and how soon its first result
//! is there; and tasks that wait in the master, as no worker is there to take them.
//!
//! ```text
//! cargo bench --bench memory              CW_BENCH_PAIRS=3 for a quick look
//! ```

mod reference;

use std::{env, fs, iter, path::Path, process, thread, time::Duration, time::Instant};

use anyhow::{Context, ensure};
use reference::{Cluster, Figure, Leg, Plan, measuring, memory, pairs, say};

/// The process of the master, for a client that measures a map.
const MASTER: &str = "CW_BENCH_MASTER";

/// A file at which clients hand in what is to wait.
const SIGNAL: &str = "CW_BENCH_SIGNAL";

/// Tasks of one client that a master takes in while there are no slots.
const WINDOW: u64 = 16_384;

const MIB: f64 = (1 << 20) as f64;

#[cw::job]
fn noop(n: u64) -> u64 {
    n
}

fn main() -> anyhow::Result<()> {
    if reference::child(client)? {
        return Ok(());
    }
    let (mapped, clients) = if measuring() { (10_000_000, 62) } else { (20_000, 2) };
    let mut in_client =
        figure("memory_client", "a map of 10,000,000 no-ops: its client's peak beyond idle", "MiB", 64.0);
    let mut in_master = figure("memory_master", "the same: its master's peak beyond idle", "MiB", 64.0);
    let mut first = figure("map_first", "the same: from its start to its first result", "ms", 50.0);
    let mut queued =
        figure("memory_queued", "1,000,000 tasks in the master, each beside its byte", "B", 100.0);
    queued.floor = 200.0;
    for _ in pairs()? {
        let [client, master, millis] = map(mapped)?;
        in_client.cw.push(client / MIB);
        in_master.cw.push(master / MIB);
        first.cw.push(millis);
        queued.cw.push(queue(clients)?);
    }
    [in_client, in_master, first, queued].iter().try_for_each(Figure::report)
}

fn figure(name: &'static str, what: &'static str, unit: &'static str, goal: f64) -> Figure {
    Figure { name, what, unit, floor: goal, goal, reference: Vec::new(), cw: Vec::new() }
}

/// What a client says of a map, on a cluster that has done nothing yet.
fn map(tasks: u64) -> anyhow::Result<[f64; 3]> {
    let cluster = Cluster::start()?;
    cluster.client_with(Leg { warm_up: 2, tasks }, &[(MASTER, &cluster.master().to_string())])
}

/// Bytes of the master for each task that waits there, beside its argument of one byte. Each client has one task there
/// when the memory before is looked at.
fn queue(clients: usize) -> anyhow::Result<f64> {
    let cluster = Plan { workers: 0, ..Plan::default() }.start()?;
    let signal = cluster.folder().join("signal");
    let path = signal.to_str().context("a temporary folder")?;
    let crowd = cluster.crowd(clients, &[(SIGNAL, path)])?;
    let before = memory::settled(cluster.master())?;
    fs::write(&signal, "")?;
    let deadline = reference::LEG_DEADLINE;
    let tasks = crowd.iter().map(|client| client.hear::<u64>(deadline)).sum::<anyhow::Result<u64>>()?;
    let after = memory::settled(cluster.master())?;
    Ok(after.saturating_sub(before) as f64 / tasks as f64 - 1.0)
}

fn client(leg: Leg) -> anyhow::Result<[f64; 3]> {
    if let Ok(signal) = env::var(SIGNAL) {
        wait_in_line(Path::new(&signal))?;
    }
    let (client, master) = (process::id(), env::var(MASTER)?.parse()?);
    for _ in 0..leg.warm_up {
        cw::spawn(noop, 7).wait()?;
    }
    let idle = [memory::settled(client)?, memory::settled(master)?];
    memory::forget_peak(client)?;
    memory::forget_peak(master)?;
    let first = run(leg.tasks)?;
    let beyond = |process, idle| Ok::<_, anyhow::Error>(memory::peak(process)?.saturating_sub(idle) as f64);
    Ok([beyond(client, idle[0])?, beyond(master, idle[1])?, first.as_secs_f64() * 1e3])
}

/// The time to the first result of a map whose results nobody keeps.
fn run(tasks: u64) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let (mut first, mut done) = (None, 0);
    for (_, result) in cw::map(noop, iter::repeat_n(7, tasks as usize)).unordered() {
        ensure!(result? == 7, "a wrong result");
        first.get_or_insert_with(|| start.elapsed());
        done += 1;
    }
    ensure!(done == tasks, "{done} results of {tasks}");
    first.context("a map of no tasks")
}

/// Hands one task in, at the signal as many as the master takes, says how many that were, and waits to be killed.
fn wait_in_line(signal: &Path) -> anyhow::Result<()> {
    let first = cw::spawn(noop, 7);
    say(&"ready")?;
    while !signal.exists() {
        thread::sleep(Duration::from_millis(5));
    }
    let others: Vec<_> = (1..WINDOW).map(|_| cw::spawn(noop, 7)).collect();
    say(&others.len())?;
    first.wait()?;
    Ok(())
}
