//! Keeps results in a store. Each run of a task leaves a line in a file, so that tests see what ran.

use std::{collections::HashMap, fs::OpenOptions, io::Write, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Point {
    n: u64,
    squared: u64,
}

fn note(log: &str, line: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(log).expect("the test's own file");
    file.write_all(format!("{line}\n").as_bytes()).expect("the test's own file");
}

/// The square, which fails for a number that a file of the log's folder names.
#[cw::job]
fn square(n: u64, millis: u64, log: String) -> Result<Point, String> {
    note(&log, &format!("begins {n}"));
    std::thread::sleep(Duration::from_millis(millis));
    if std::fs::read_to_string(format!("{log}.bad")).is_ok_and(|bad| bad.trim() == n.to_string()) {
        return Err(format!("{n} is bad today"));
    }
    note(&log, &format!("ends {n}"));
    Ok(Point { n, squared: n * n })
}

/// A map for an argument, whose entries come in another order in each process.
#[cw::job]
fn weigh(weights: HashMap<String, u32>, log: String) -> u32 {
    note(&log, "begins weigh");
    weights.values().sum()
}

/// Told from others by its number alone.
#[cw::job(key = number_of, json = false)]
fn keyed(n: u64, remark: &str, log: &str) -> String {
    note(log, &format!("begins keyed {n}"));
    format!("{n} {remark}")
}

fn number_of(n: &u64, _remark: &str, _log: &str) -> u64 {
    *n
}

/// As small as can be.
#[cw::job]
fn half(n: u64) -> u64 {
    n / 2
}

/// The most memory that this process has had at once, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
}

#[derive(clap::Args)]
struct Opts {
    /// What to do
    what: String,
    /// The store
    #[arg(long)]
    store: PathBuf,
    /// Where runs leave a line
    #[arg(long)]
    log: String,
    /// The first input, and the one after the last
    #[arg(long, default_value_t = 0)]
    from: u64,
    #[arg(long, default_value_t = 100)]
    to: u64,
    /// How long a task takes
    #[arg(long, default_value_t = 0)]
    millis: u64,
}

#[cw::main]
async fn main(opts: Opts) -> cw::Result<()> {
    let Opts { what, store, log, from, to, millis } = opts;
    match what.as_str() {
        "map" => {
            let inputs = (from..to).map(|n| (n, millis, log.clone()));
            let mut runs = cw::map(square, inputs).store(&store).unordered();
            let (mut ended, mut failed, mut sum) = (0u64, 0u64, 0u64);
            while let Some((_, result)) = runs.next().await {
                ended += 1;
                match result {
                    Ok(point) => sum += point.squared,
                    Err(error) => {
                        failed += 1;
                        println!("{error:#}");
                    }
                }
                if ended % 10 == 0 {
                    println!("{ended} results");
                }
            }
            println!("ended={ended} failed={failed} sum={sum}");
        }
        "spawn" => {
            let options = cw::options().store(&store);
            let handles: Vec<_> =
                (from..to).map(|n| options.spawn(square, (n, millis, log.clone()))).collect();
            let mut sum = 0;
            for handle in handles {
                sum += handle.await?.squared;
            }
            println!("sum={sum}");
        }
        // What memory is needed for a tenth of the inputs, and for all.
        "many" => {
            let mut runs = cw::map(half, from..to).store(&store).unordered();
            let (mut ended, mut early) = (from, 0);
            while let Some((_, result)) = runs.next().await {
                result?;
                ended += 1;
                if ended == to / 10 {
                    early = peak();
                }
            }
            println!("early={early} late={}", peak());
        }
        // The same argument many times over, and an order that is each run's own.
        "equal" => {
            let runs = cw::map(square, (from..to).map(|_| (7, millis, log.clone()))).store(&store);
            println!("count={}", runs.await?.len());
        }
        "weigh" => {
            let weights: HashMap<String, u32> = (0..50).map(|n| (format!("weight {n}"), n)).collect();
            println!("weight={}", cw::options().store(&store).spawn(weigh, (weights, log)).await?);
        }
        "keyed" => {
            let remark = if std::env::var_os("REMARK").is_some() { "again" } else { "first" };
            let inputs: Vec<_> = (from..to).map(|n| (n, remark, log.as_str())).collect();
            println!("{:?}", cw::map(keyed, inputs).store(&store).await?);
        }
        "in-place" => {
            let job = cw::job_fn!(|x: u64| -> u64 { x + 1 });
            println!("{:?}", cw::options().store(&store).spawn(job, 1).await);
        }
        // Aborts a call without a store, while a store may not be able to write.
        "abort-elsewhere" => {
            let kept = cw::options().store(&store).spawn(half, 1);
            let handle = cw::spawn(square, (1, 600_000, log));
            handle.abort();
            println!("{:?}", handle.await.map_err(|error| error.is_cancelled()));
            kept.await?;
        }
        "abort" => {
            let handle = cw::options().store(&store).spawn(square, (1, 600_000, log));
            handle.abort();
            println!("{:?}", handle.await.map_err(|error| error.is_cancelled()));
        }
        other => return Err(cw::Error::other(format!("no such thing: {other}"))),
    }
    println!("done");
    Ok(())
}
