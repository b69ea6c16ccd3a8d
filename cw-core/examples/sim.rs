//! Runs seeds of the simulator.
//!
//! `sim --seeds 0..5000 [--jobs 2] [--bug NAME]` runs seeds and stops at the first that breaks a rule;
//! `sim --trace SEED [--bug NAME]` tells what happens in one;
//! `sim --bugs` looks how many seeds it takes to find each deliberate fault, 3,000 at most;
//! `--ledger FILE --commit HASH --date DATE` adds a line to a file when all seeds were clean.

use std::{
    fs::OpenOptions,
    io::Write,
    ops::Range,
    process::exit,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use cw_core::sim::{
    self, Outcome,
    bugs::{ALL, Bug},
};

/// Each deliberate fault is to be found within so many seeds.
const BUG_SEEDS: u64 = 3_000;

#[derive(Default)]
struct Options {
    seeds: Option<Range<u64>>,
    jobs: Option<usize>,
    trace: Option<u64>,
    bug: Option<Bug>,
    bugs: bool,
    all: bool,
    ledger: Option<String>,
    commit: String,
    date: String,
}

fn main() {
    let options = read_options().unwrap_or_else(|why| {
        eprintln!("{why}");
        exit(2)
    });
    // A panic is a broken rule, and is told of with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let clean = match (options.trace, options.bugs) {
        (Some(seed), _) => trace(seed, options.bug.unwrap_or(Bug::None)),
        (None, true) => find_bugs(options.jobs.unwrap_or(2)),
        (None, false) => run_seeds(&options),
    };
    exit(i32::from(!clean));
}

fn read_options() -> Result<Options, String> {
    let mut options = Options::default();
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        if flag == "--bugs" {
            options.bugs = true;
            continue;
        }
        if flag == "--all" {
            options.all = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{flag} needs a value"))?;
        let number = |text: &str| text.parse::<u64>().map_err(|why| format!("{flag} {text}: {why}"));
        match flag.as_str() {
            "--seeds" => {
                let (first, last) = value.split_once("..").ok_or("--seeds needs A..B")?;
                options.seeds = Some(number(first)?..number(last)?);
            }
            "--jobs" => options.jobs = Some(number(&value)? as usize),
            "--trace" => options.trace = Some(number(&value)?),
            "--bug" => {
                let named = ALL.iter().find(|bug| format!("{bug:?}") == value);
                options.bug = Some(*named.ok_or_else(|| format!("there is no {value}, but {ALL:?}"))?);
            }
            "--ledger" => options.ledger = Some(value),
            "--commit" => options.commit = value,
            "--date" => options.date = value,
            _ => return Err(format!("unknown: {flag}")),
        }
    }
    Ok(options)
}

fn trace(seed: u64, bug: Bug) -> bool {
    let outcome = sim::run(seed, bug, true);
    outcome.trace.iter().for_each(|line| println!("{line}"));
    report(&outcome);
    outcome.broken.is_none()
}

fn report(outcome: &Outcome) {
    println!("{}", outcome.knobs);
    println!(
        "{} events, {} runs of tasks, {:?}, sum {:016x}",
        outcome.steps, outcome.begun, outcome.time, outcome.hash
    );
    if let Some(broken) = &outcome.broken {
        println!("BROKEN: {}: {}", broken.rule, broken.what);
        println!("again with: sim --trace {}", outcome.seed);
    }
}

/// The lowest seed that breaks a rule, and how many events and runs there were. Goes on after one if `all`.
fn search(seeds: Range<u64>, jobs: usize, bug: Bug, all: bool) -> (Vec<Outcome>, u64, u64) {
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicU64::new(seeds.end));
    let (steps, begun) = (AtomicU64::new(0), AtomicU64::new(0));
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let outcome = sim::run(seed, bug, false);
                    steps.fetch_add(outcome.steps, Ordering::Relaxed);
                    begun.fetch_add(outcome.begun, Ordering::Relaxed);
                    if outcome.broken.is_some() {
                        if !all {
                            stop.fetch_min(seed, Ordering::Relaxed);
                        }
                        failed.lock().expect("nobody panics here").push(outcome);
                    }
                }
            });
        }
    });
    let mut failed = failed.into_inner().expect("all threads have ended");
    failed.sort_by_key(|outcome| outcome.seed);
    (failed, steps.into_inner(), begun.into_inner())
}

fn run_seeds(options: &Options) -> bool {
    let seeds = options.seeds.clone().unwrap_or(0..1_000);
    let (jobs, bug) = (options.jobs.unwrap_or(2), options.bug.unwrap_or(Bug::None));
    let began = Instant::now();
    let (failed, steps, begun) = search(seeds.clone(), jobs, bug, options.all);
    let rate = (seeds.end - seeds.start) as f64 / began.elapsed().as_secs_f64();
    if options.all {
        for outcome in &failed {
            let broken = outcome.broken.as_ref().expect("only those are kept");
            let what: String = broken.what.chars().take(300).collect();
            println!("{} {}: {what}", outcome.seed, broken.rule);
        }
        println!("{} of {} failed; {rate:.0} seeds/s", failed.len(), seeds.end - seeds.start);
        return failed.is_empty();
    }
    if let Some(first) = failed.first() {
        report(first);
        return false;
    }
    println!(
        "{}..{} clean: {steps} events, {begun} runs of tasks, {rate:.0} seeds/s",
        seeds.start, seeds.end
    );
    if let Some(path) = &options.ledger {
        let line = format!(
            "{}..{} {} {} {rate:.0} seeds/s clean",
            seeds.start, seeds.end, options.commit, options.date
        );
        let mut file =
            OpenOptions::new().append(true).create(true).open(path).expect("the ledger can be opened");
        writeln!(file, "{line}").expect("the ledger can be written");
    }
    true
}

fn find_bugs(jobs: usize) -> bool {
    let mut all_found = true;
    for bug in ALL {
        let (failed, ..) = search(0..BUG_SEEDS, jobs, *bug, false);
        match failed.first() {
            Some(first) => {
                let broken = first.broken.as_ref().expect("only those are kept");
                println!("{bug:?}: found after {} seeds: {}", first.seed + 1, broken.rule);
            }
            None => {
                println!("{bug:?}: NOT FOUND in {BUG_SEEDS} seeds");
                all_found = false;
            }
        }
    }
    println!("{} deliberate faults", ALL.len());
    all_found
}
