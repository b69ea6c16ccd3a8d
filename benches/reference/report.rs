//! What a bench found: a table for the reader, and an object a figure in `cw-bench.json` beside the build.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::Context;
use serde_json::{Map, Value, json};

const FILE: &str = "cw-bench.json";
const PAIRS: &str = "CW_BENCH_PAIRS";
const PAIRS_DEFAULT: usize = 7;

/// A figure of DESIGN section 8 with all its measurements.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    /// What is measured, in `unit`.
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) floor: f64,
    pub(crate) goal: f64,
    /// One a pair, or none: then the figure is what `cw` took, and no ratio.
    pub(crate) reference: Vec<f64>,
    pub(crate) cw: Vec<f64>,
}

/// How long one task takes, as two figures: the median and the 99th percentile, in microseconds.
pub(crate) struct Latency([(Figure, f64); 2]);

impl Latency {
    /// Each with its name, and what is measured.
    pub(crate) fn new(p50: [&'static str; 2], p99: [&'static str; 2]) -> Self {
        let figure = |[name, what]: [&'static str; 2], floor, goal| Figure {
            name,
            what,
            unit: "us",
            floor,
            goal,
            reference: Vec::new(),
            cw: Vec::new(),
        };
        Self([(figure(p50, 2.0, 1.5), 0.5), (figure(p99, 3.0, 2.0), 0.99)])
    }

    /// Takes in a pair: what each task took, in nanoseconds.
    pub(crate) fn add(&mut self, reference: Vec<u64>, cw: Vec<u64>) {
        let micros =
            |nanos: Vec<u64>| nanos.into_iter().map(|nanos| nanos as f64 / 1e3).collect::<Vec<f64>>();
        let (reference, cw) = (micros(reference), micros(cw));
        for (figure, q) in &mut self.0 {
            figure.reference.push(quantile(&reference, *q));
            figure.cw.push(quantile(&cw, *q));
        }
    }

    /// As [`Figure::report`].
    pub(crate) fn report(&self) -> anyhow::Result<()> {
        self.0.iter().try_for_each(|(figure, _)| figure.report())
    }
}

/// Counts the pairs to run (`CW_BENCH_PAIRS`; else 7, or 1 under `cargo test`) and says on standard error where it is.
pub(crate) fn pairs() -> anyhow::Result<impl Iterator<Item = usize>> {
    let pairs = match env::var(PAIRS) {
        Ok(pairs) => pairs.parse().with_context(|| format!("{PAIRS}={pairs} is no number"))?,
        Err(_) if measuring() => PAIRS_DEFAULT,
        Err(_) => 1,
    };
    Ok((1..=pairs.max(1)).inspect(move |pair| eprintln!("{pair} of {pairs}")))
}

/// `cargo bench` says `--bench`. `cargo test` does not: it asks whether the bench works, in a build not worth noting.
pub(crate) fn measuring() -> bool {
    env::args().any(|word| word == "--bench")
}

/// The value below which the share `q` of `values` lies, by the nearest rank.
pub(crate) fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted[rank.saturating_sub(1)]
}

/// Of an even number the mean of the middle two.
fn median(values: &[f64]) -> f64 {
    let mirrored: Vec<_> = values.iter().map(|value| -value).collect();
    (quantile(values, 0.5) - quantile(&mirrored, 0.5)) / 2.0
}

impl Figure {
    /// Prints the table and, if this is `cargo bench`, puts the figure into the file in place of an earlier one.
    pub(crate) fn report(&self) -> anyhow::Result<()> {
        self.print();
        if !measuring() {
            return Ok(());
        }
        let file = file()?;
        self.merge_into(&file).with_context(|| format!("failed to write {}", file.display()))
    }

    fn ratios(&self) -> Vec<f64> {
        let pairs = self.cw.iter().zip(&self.reference);
        pairs.map(|(cw, reference)| cw / reference).collect()
    }

    /// Median, least and greatest of the ratios, or of `cw` alone.
    fn summary(&self) -> [f64; 3] {
        let ratios = self.ratios();
        let values = if ratios.is_empty() { &self.cw } else { &ratios };
        [median(values), quantile(values, 0.0), quantile(values, 1.0)]
    }

    fn print(&self) {
        let Self { name, what, unit, floor, goal, .. } = self;
        let ratios = self.ratios();
        println!("\n{name}: {what}");
        if ratios.is_empty() {
            println!("{:>6} {:>18}", "run", format!("cw {unit}"));
        } else {
            let heads = ["reference", "cw"].map(|side| format!("{side} {unit}"));
            println!("{:>6} {:>18} {:>18} {:>8}", "pair", heads[0], heads[1], "ratio");
        }
        for (index, &cw) in self.cw.iter().enumerate() {
            print!("{:>6} ", index + 1);
            if let Some(&reference) = self.reference.get(index) {
                print!("{:>18} ", readable(reference));
            }
            print!("{:>18}", readable(cw));
            ratios.get(index).iter().for_each(|ratio| print!(" {ratio:>8.3}"));
            println!();
        }
        let [median, least, greatest] = self.summary().map(readable);
        println!("median {median} ({least} to {greatest}); floor {floor}, goal {goal}");
    }

    fn merge_into(&self, file: &Path) -> anyhow::Result<()> {
        let mut figures: Map<String, Value> = match fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(_) => Map::new(),
        };
        figures.insert(self.name.to_owned(), self.object());
        let whole = file.with_extension("json.new");
        fs::write(&whole, serde_json::to_string_pretty(&figures)? + "\n")?;
        Ok(fs::rename(whole, file)?)
    }

    fn object(&self) -> Value {
        let [median, least, greatest] = self.summary();
        json!({
            "what": self.what,
            "is": if self.reference.is_empty() { "cw" } else { "cw / reference" },
            "median": median,
            "min": least,
            "max": greatest,
            "floor": self.floor,
            "goal": self.goal,
            "unit": self.unit,
            "reference": self.reference,
            "cw": self.cw,
            "date": said_by("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
            "commit": said_by("git", &["rev-parse", "--short", "HEAD"]),
            "machine": { "cpu": cpu(), "cores": thread::available_parallelism().ok() },
        })
    }
}

/// Three or more digits, whatever the size.
fn readable(value: f64) -> String {
    match value {
        1000.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// In the build directory, two above this executable's `deps`.
fn file() -> anyhow::Result<PathBuf> {
    let bench = env::current_exe()?;
    let target = bench.ancestors().nth(3).context("the bench lies in no build directory")?;
    Ok(target.join(FILE))
}

/// Nothing if the command is missing or fails, as git does outside a repository.
fn said_by(command: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(command).args(arguments).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().to_owned())
}

fn cpu() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let model = info.lines().find(|line| line.starts_with("model name"))?;
    Some(model.split_once(':')?.1.trim().to_owned())
}
