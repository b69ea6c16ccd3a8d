//! How much of the machine does the work itself get? 400 tasks of 10 ms on 2 slots, against two plain threads.
//!
//! ```text
//! cargo bench --bench efficiency          CW_BENCH_PAIRS=3 for a quick look
//! ```

mod reference;

use std::{
    collections::HashSet,
    iter, process, thread,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use reference::{Cluster, Figure, Leg, START_DEADLINE, pairs};
use rustix::time::{ClockId, clock_gettime};

const TASK_MILLIS: u64 = 10;
const SLOTS: u64 = 2;
const LEG: Leg = Leg { warm_up: 20, tasks: 400 };

/// Uses so much CPU time, however long that takes, and says which executor it ran in.
#[cw::job]
fn spin(millis: u64) -> u32 {
    let until = thread_cpu_time() + Duration::from_millis(millis);
    while thread_cpu_time() < until {}
    process::id()
}

fn main() -> anyhow::Result<()> {
    if reference::child(client)? {
        return Ok(());
    }
    let cluster = Cluster::start()?;
    let mut figure = Figure {
        name: "efficiency",
        what: "400 tasks of 10 ms of CPU on 2 slots; the reference is two plain threads",
        unit: "tasks/s",
        floor: 0.90,
        goal: 0.95,
        reference: Vec::new(),
        cw: Vec::new(),
    };
    for _ in pairs()? {
        figure.reference.push(LEG.tasks as f64 / two_threads());
        figure.cw.push(LEG.tasks as f64 / cluster.client::<f64>(LEG)?);
    }
    figure.report()
}

/// Seconds for the same work with nobody to hand it out.
fn two_threads() -> f64 {
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..SLOTS {
            scope.spawn(|| (0..LEG.tasks / SLOTS).for_each(|_| _ = spin(TASK_MILLIS)));
        }
    });
    start.elapsed().as_secs_f64()
}

/// Seconds for the leg's tasks, once both executors have been heard of.
fn client(leg: Leg) -> anyhow::Result<f64> {
    let run = |tasks: u64, millis: u64| {
        let inputs = iter::repeat_n(millis, tasks as usize);
        cw::map(spin, inputs).collect::<Vec<u32>>().wait()
    };
    let start = Instant::now();
    while run(leg.warm_up, 1)?.into_iter().collect::<HashSet<_>>().len() < SLOTS as usize {
        if start.elapsed() > START_DEADLINE {
            bail!("only one executor has answered for {START_DEADLINE:?}");
        }
    }
    let start = Instant::now();
    let results = run(leg.tasks, TASK_MILLIS)?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(results.len() as u64 == leg.tasks, "{} results of {}", results.len(), leg.tasks);
    Ok(seconds)
}

fn thread_cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
