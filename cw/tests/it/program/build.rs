//! A program of which the tests make builds: a mark in the executable, which they replace, stands for its code.
//!
//! Each scenario checks what it got with assertions and prints `done` when all of them held.

use std::{
    collections::BTreeSet,
    env, fs,
    hint::black_box,
    path::{Path, PathBuf},
    time::Duration,
};

static MARK: [u8; 24] = *b"a build of tests: 000001";

/// The mark as it is in this executable, whatever the compiler knew of it.
fn mark() -> String {
    let text = String::from_utf8_lossy(black_box(&MARK)).into_owned();
    text.rsplit(' ').next().unwrap_or_default().to_owned()
}

/// Some milliseconds of a slot, and which build spent them.
#[cw::job]
fn nap(n: u64) -> (u64, String) {
    std::thread::sleep(Duration::from_millis(5));
    (n, mark())
}

/// Working directory, executable and environment.
#[cw::job]
fn look(_n: u64) -> (PathBuf, PathBuf, Vec<(String, String)>) {
    std::thread::sleep(Duration::from_millis(20));
    let folder = env::current_dir().expect("it is there");
    let image = fs::read_link("/proc/self/exe").expect("Linux has /proc");
    (folder, image, env::vars().collect())
}

#[derive(clap::Args)]
struct Opts {
    /// `run`, `until`, or `look`
    scenario: String,
    /// How often; or which file ends it
    limit: String,
}

#[cw::main]
async fn main(opts: Opts) -> cw::Result<()> {
    let count = || opts.limit.parse().expect("a number");
    match opts.scenario.as_str() {
        "run" => run(count()).await?,
        "until" => until(Path::new(&opts.limit)).await?,
        "look" => look_around(count()).await?,
        other => return Err(cw::Error::other(format!("no scenario {other}"))),
    }
    println!("done");
    Ok(())
}

async fn run(count: u64) -> cw::Result<()> {
    let naps = cw::map(nap, 0..count).await?;
    assert!(naps.iter().zip(0..).all(|(found, n)| *found == (n, mark())), "{naps:?}");
    println!("all of build {}", mark());
    Ok(())
}

/// Runs tasks until there is a file, and says how many it was.
async fn until(stop: &Path) -> cw::Result<()> {
    let mut runs = cw::map(nap, 0..).in_flight(8).unordered();
    let mut seen = 0;
    while !stop.exists() {
        let (index, result) = runs.next().await.expect("it is endless");
        assert_eq!(result?, (index as u64, mark()));
        seen += 1;
        println!("{seen} results");
    }
    println!("all of build {}", mark());
    Ok(())
}

async fn look_around(count: u64) -> cw::Result<()> {
    let seen: BTreeSet<_> = cw::map(look, 0..count).await?.into_iter().collect();
    for (folder, image, environment) in seen {
        println!("folder {}", folder.display());
        println!("image {}", image.display());
        environment.iter().for_each(|(name, value)| println!("{name}={value}"));
    }
    Ok(())
}
