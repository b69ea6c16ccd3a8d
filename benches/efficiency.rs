//! How much of the machine does the work itself get? 400 tasks of 10 ms on 2 slots, and tasks of 1 s and of 1 ms mixed, each
//! against two plain threads.
//!
//! ```text
//! cargo bench --bench efficiency          CW_BENCH_PAIRS=3 for a quick look
//! ```

mod reference;

use std::{
    collections::HashSet,
    env, iter, process,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use reference::{Cluster, Figure, Leg, START_DEADLINE, measuring, pairs};
use rustix::time::{ClockId, clock_gettime};

const TASK_MILLIS: u64 = 10;
const SLOTS: u64 = 2;
const LEG: Leg = Leg { warm_up: 20, tasks: 400 };

/// Set for a client of mixed tasks: what they are shuffled by.
const SEED: &str = "CW_BENCH_SEED";

const LONG_MILLIS: u64 = 1_000;
const SHORT_MILLIS: u64 = 1;

/// Short tasks for each long one.
const SHORT_EACH: u64 = 333;

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
    let mut equal = Figure {
        name: "efficiency",
        what: "400 tasks of 10 ms of CPU on 2 slots; the reference is two plain threads",
        unit: "tasks/s",
        floor: 0.90,
        goal: 0.95,
        reference: Vec::new(),
        cw: Vec::new(),
    };
    let mut mixed = Figure {
        name: "mixed",
        what: "6 tasks of 1 s and 2,000 of 1 ms, shuffled, on 2 slots; the reference is two plain threads",
        unit: "s",
        floor: 1.2,
        goal: 1.1,
        reference: Vec::new(),
        cw: Vec::new(),
    };
    let mix = Leg { tasks: if measuring() { 2_000 } else { 2 * SHORT_EACH }, ..LEG };
    for pair in pairs()? {
        equal.reference.push(LEG.tasks as f64 / two_threads(equal_tasks(LEG)));
        equal.cw.push(LEG.tasks as f64 / cluster.client::<f64>(LEG)?);
        mixed.reference.push(two_threads(mixed_tasks(mix, pair as u64)));
        mixed.cw.push(cluster.client_with(mix, &[(SEED, &pair.to_string())])?);
    }
    equal.report()?;
    mixed.report()
}

/// How long each of the leg's tasks is.
fn equal_tasks(leg: Leg) -> Vec<u64> {
    vec![TASK_MILLIS; leg.tasks as usize]
}

/// The same where some are long, and nobody knows which.
fn mixed_tasks(leg: Leg, seed: u64) -> Vec<u64> {
    let long = iter::repeat_n(LONG_MILLIS, (leg.tasks / SHORT_EACH) as usize);
    let mut tasks: Vec<u64> = long.chain(iter::repeat_n(SHORT_MILLIS, leg.tasks as usize)).collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut tasks);
    tasks
}

/// Seconds for the same work with nobody to hand it out: whoever is free takes the next.
fn two_threads(tasks: Vec<u64>) -> f64 {
    let start = Instant::now();
    let tasks = Mutex::new(tasks.into_iter());
    let next = || tasks.lock().expect("no task panics").next();
    thread::scope(|scope| {
        for _ in 0..SLOTS {
            scope.spawn(|| iter::from_fn(next).for_each(|millis| _ = spin(millis)));
        }
    });
    start.elapsed().as_secs_f64()
}

/// Seconds for the leg's tasks, once both executors have been heard of.
fn client(leg: Leg) -> anyhow::Result<f64> {
    let run = |tasks: Vec<u64>| cw::map(spin, tasks).collect::<Vec<u32>>().wait();
    let tasks = match env::var(SEED) {
        Ok(seed) => mixed_tasks(leg, seed.parse()?),
        Err(_) => equal_tasks(leg),
    };
    let start = Instant::now();
    let warm_up = vec![SHORT_MILLIS; leg.warm_up as usize];
    while run(warm_up.clone())?.into_iter().collect::<HashSet<_>>().len() < SLOTS as usize {
        if start.elapsed() > START_DEADLINE {
            bail!("only one executor has answered for {START_DEADLINE:?}");
        }
    }
    let count = tasks.len();
    let start = Instant::now();
    let results = run(tasks)?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(results.len() == count, "{} results of {count}", results.len());
    Ok(seconds)
}

fn thread_cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
