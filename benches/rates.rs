//! How many no-ops a second, where a program is written in another way or runs in another place than `throughput` measures?
//! Calls whose handles are awaited one by one, beside the reference's flood; `map` with one and with eight workers, beside
//! two; and `--threads`, beside two threads that are fed through channels and encode and decode the same.
//!
//! ```text
//! cargo bench --bench rates               CW_BENCH_PAIRS=3 for a quick look
//! ```

mod reference;

use std::{
    env, iter,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Instant,
};

use anyhow::{Context, bail, ensure};
use reference::{Cluster, Figure, Leg, Plan, Reference, alone, measuring, pairs};

/// Which way a client takes.
const WAY: &str = "CW_BENCH_WAY";

const SECONDS: f64 = 2.0;
const CALIBRATION: Leg = Leg { warm_up: 2_000, tasks: 20_000 };

/// Of the pool: as many as `--threads` has with two slots.
const THREADS: usize = 2;

/// What a map has under way.
const IN_FLIGHT: usize = 4_096;

#[cw::job]
fn noop(n: u64) -> u64 {
    n
}

fn main() -> anyhow::Result<()> {
    if reference::child(client)? {
        return Ok(());
    }
    handles()?.report()?;
    workers()?.iter().try_for_each(Figure::report)?;
    threads()?.report()
}

fn figure(name: &'static str, what: &'static str, floor: f64, goal: f64) -> Figure {
    Figure { name, what, unit: "tasks/s", floor, goal, reference: Vec::new(), cw: Vec::new() }
}

fn handles() -> anyhow::Result<Figure> {
    let mut handles = figure("handles", "no-ops whose handles are awaited one by one", 0.125, 0.25);
    let (standing, cluster) = (Reference::start()?, Cluster::start()?);
    let flood = Rate::new(|leg| standing.flood(leg))?;
    let calls = Rate::new(|leg| cluster.client_with(leg, &[(WAY, "handles")]))?;
    for _ in pairs()? {
        handles.reference.push(flood.measure()?);
        handles.cw.push(calls.measure()?);
    }
    Ok(handles)
}

fn workers() -> anyhow::Result<[Figure; 2]> {
    let mut one = figure("workers_1", "map with one worker; the reference is cw with two", 0.5, 0.7);
    let mut eight = figure("workers_8", "map with eight workers; the reference is cw with two", 0.5, 0.7);
    let of = |workers| {
        let cluster = Plan { workers, ..Plan::default() }.start()?;
        Rate::new(move |leg| cluster.client_with(leg, &[(WAY, "map")]))
    };
    let [of_one, of_two, of_eight] = [of(1)?, of(2)?, of(8)?];
    for _ in pairs()? {
        let two = of_two.measure()?;
        for (figure, rate) in [(&mut one, &of_one), (&mut eight, &of_eight)] {
            figure.reference.push(two);
            figure.cw.push(rate.measure()?);
        }
    }
    Ok([one, eight])
}

fn threads() -> anyhow::Result<Figure> {
    let mut threads =
        figure("threads", "map with --threads on 2 slots; the reference is a pool of 2 threads", 0.25, 0.5);
    let flags = ["--threads", "--slots", "2"];
    let pool = Rate::new(|leg| alone(&flags, leg, &[(WAY, "pool")]))?;
    let map = Rate::new(|leg| alone(&flags, leg, &[(WAY, "map")]))?;
    for _ in pairs()? {
        threads.reference.push(pool.measure()?);
        threads.cw.push(map.measure()?);
    }
    Ok(threads)
}

/// Legs of one kind, and how long they are to be.
struct Rate<F> {
    run: F,
    leg: Leg,
}

impl<F: Fn(Leg) -> anyhow::Result<f64>> Rate<F> {
    /// Legs that take `SECONDS`, at the rate of a first short one; or that one again, where nobody measures.
    fn new(run: F) -> anyhow::Result<Self> {
        let seconds = run(CALIBRATION)?;
        let tasks = (CALIBRATION.tasks as f64 * SECONDS / seconds) as u64;
        let leg = if measuring() { Leg { warm_up: tasks / 10, tasks } } else { CALIBRATION };
        Ok(Self { run, leg })
    }

    /// Tasks a second.
    fn measure(&self) -> anyhow::Result<f64> {
        Ok(self.leg.tasks as f64 / (self.run)(self.leg)?)
    }
}

/// Seconds for the leg's tasks.
fn client(leg: Leg) -> anyhow::Result<f64> {
    let run = match env::var(WAY)?.as_str() {
        "handles" => await_each,
        "map" => map,
        "pool" => pool,
        other => bail!("no such way: {other}"),
    };
    run(leg.warm_up)?;
    let start = Instant::now();
    let sum = run(leg.tasks)?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(sum == 7 * leg.tasks, "a wrong result");
    Ok(seconds)
}

fn await_each(tasks: u64) -> anyhow::Result<u64> {
    let handles: Vec<_> = (0..tasks).map(|_| cw::spawn(noop, 7)).collect();
    Ok(handles.into_iter().map(cw::TaskHandle::wait).sum::<Result<u64, _>>()?)
}

fn map(tasks: u64) -> anyhow::Result<u64> {
    let results = cw::map(noop, iter::repeat_n(7, tasks as usize)).unordered();
    Ok(results.into_iter().map(|(_, result)| result).sum::<Result<u64, _>>()?)
}

/// The same work with channels in place of all else.
fn pool(tasks: u64) -> anyhow::Result<u64> {
    thread::scope(|scope| {
        let (result, results) = channel();
        let threads: Vec<Sender<Vec<u8>>> = (0..THREADS)
            .map(|_| {
                let (task, tasks) = channel();
                let result = result.clone();
                scope.spawn(move || serve(&tasks, &result));
                task
            })
            .collect();
        let mut sum = 0;
        for number in 0..tasks as usize + IN_FLIGHT {
            if number < tasks as usize {
                threads[number % THREADS].send(postcard::to_stdvec(&7u64)?)?;
            }
            if number >= IN_FLIGHT {
                sum += postcard::from_bytes::<u64>(&results.recv().context("the pool has ended")?)?;
            }
        }
        Ok(sum)
    })
}

fn serve(tasks: &Receiver<Vec<u8>>, results: &Sender<Vec<u8>>) {
    for task in tasks {
        let argument = postcard::from_bytes(&task).expect("it was encoded");
        let result = postcard::to_stdvec(&noop(argument)).expect("it can be encoded");
        if results.send(result).is_err() {
            return;
        }
    }
}
