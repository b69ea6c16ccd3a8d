//! A program with hooks and a cached function.
//!
//! Each scenario checks what it got with assertions and prints `done` when all of them held. How the hook `fragile`
//! fails, the environment says: executors have it from the process that starts them.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs, io,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use cw::TaskErrorKind;

static CALLED: Mutex<Vec<&str>> = Mutex::new(Vec::new());

fn note(hook: &'static str) {
    CALLED.lock().expect("no holder panics").push(hook);
}

#[cw::on_start(order = 10)]
fn last() {
    note("last");
}

#[cw::on_start]
fn between() -> anyhow::Result<()> {
    note("between");
    Ok(())
}

#[cw::on_start(-1)]
fn first() {
    note("first");
}

/// Succeeds, unless told otherwise.
#[cw::on_start(5)]
fn fragile() -> Result<(), cw::Error> {
    note("fragile");
    match env::var("HOOK_FAILS").as_deref() {
        Ok("chain") => Err(cw::Error::other(Broken(io::Error::other("disk on fire")))),
        Ok("panic") => panic!("no luck"),
        Ok(file) => count_to_three(Path::new(file)),
        Err(_) => Ok(()),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the model cannot be read")]
struct Broken(#[source] io::Error);

/// Fails until it has been called three times.
fn count_to_three(file: &Path) -> Result<(), cw::Error> {
    let calls = fs::read(file).unwrap_or_default().len() + 1;
    fs::write(file, "x".repeat(calls))?;
    if calls < 3 { Err(cw::Error::other(format!("call {calls} of 3"))) } else { Ok(()) }
}

#[cw::job]
fn called() -> Vec<String> {
    CALLED.lock().expect("no holder panics").iter().map(|hook| (*hook).to_owned()).collect()
}

static COMPUTED: AtomicUsize = AtomicUsize::new(0);

#[cw::cache]
fn model(name: &str) -> String {
    COMPUTED.fetch_add(1, Ordering::Relaxed);
    name.to_uppercase()
}

#[cw::cache]
fn even(n: u64) -> Result<u64, String> {
    COMPUTED.fetch_add(1, Ordering::Relaxed);
    if n.is_multiple_of(2) { Ok(n) } else { Err(format!("{n} is odd")) }
}

/// The process, what it has computed so far, and the model.
#[cw::job]
fn use_model(name: &str) -> (u32, usize, String) {
    let model = model(name);
    (std::process::id(), COMPUTED.load(Ordering::Relaxed), model.to_string())
}

#[derive(clap::Args)]
struct Opts {
    /// `order`, `fails`, `mends`, or `cache`
    scenario: String,
}

#[cw::main]
async fn main(opts: Opts) -> cw::Result<()> {
    match opts.scenario.as_str() {
        "order" => order().await?,
        "fails" => fails().await,
        "mends" => mends().await?,
        "cache" => cache().await?,
        other => return Err(cw::Error::other(format!("no scenario {other}"))),
    }
    println!("done");
    Ok(())
}

/// Once per process and in order: what all tasks see is the same, however many ran before them.
async fn order() -> cw::Result<()> {
    for seen in cw::map(called, (0..50).map(|_| ())).await? {
        assert_eq!(seen, ["first", "between", "fragile", "last"]);
    }
    Ok(())
}

/// Prints how it failed, for the test to judge.
async fn fails() {
    let error = cw::options().retries(1).spawn(called, ()).await.unwrap_err();
    assert_eq!(error.attempts(), 2, "it counts as an attempt: {error}");
    match error.kind() {
        TaskErrorKind::Failed { message, chain } => println!("failed: {message} {chain:?}"),
        TaskErrorKind::Panicked { message, location, .. } => println!("panicked: {message} {location}"),
        _ => panic!("{error:?}"),
    }
}

/// The first tries fail, each with a task; then the hook is mended, and those before it ran once.
async fn mends() -> cw::Result<()> {
    for call in 1..=2 {
        let error = cw::spawn(called, ()).await.unwrap_err();
        let why = format!("the on_start hook `it_hooks::fragile` failed: call {call} of 3");
        assert!(error.to_string().ends_with(&why), "{error}");
    }
    let seen = cw::spawn(called, ()).await?;
    assert_eq!(seen, ["first", "between", "fragile", "fragile", "fragile", "last"]);
    assert_eq!(cw::spawn(called, ()).await?, seen);
    Ok(())
}

async fn cache() -> cw::Result<()> {
    let names = ["ising", "potts", "xy"];
    let mut processes: BTreeMap<u32, (BTreeSet<usize>, usize)> = BTreeMap::new();
    let mut runs = cw::map(use_model, (0..300).map(|n| names[n % 3])).unordered();
    while let Some((index, result)) = runs.next().await {
        let (process, computed, model) = result?;
        assert_eq!(model, names[index % 3].to_uppercase());
        let (seen, most) = processes.entry(process).or_default();
        seen.insert(index % 3);
        *most = computed.max(*most);
    }
    for (process, (seen, computed)) in processes {
        assert_eq!(computed, seen.len(), "{process} computed each model that it was asked for, once");
    }
    // Outside of jobs it is once per process too, and errors are not kept.
    COMPUTED.store(0, Ordering::Relaxed);
    assert_eq!([even(4), even(4)].map(|even| even.map(|n| *n)), [Ok(4), Ok(4)]);
    assert_eq!(COMPUTED.load(Ordering::Relaxed), 1);
    assert_eq!([even(5), even(5)], [Err("5 is odd".to_owned()), Err("5 is odd".to_owned())]);
    assert_eq!(COMPUTED.load(Ordering::Relaxed), 3);
    Ok(())
}
