//! Jobs of every kind.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use rustix::process::{Signal, getpid, getppid, kill_process};

#[cw::job]
pub(crate) fn square(n: u64) -> u64 {
    n * n
}

#[cw::job]
pub(crate) fn add(a: u64, b: u64) -> u64 {
    a + b
}

#[cw::job]
pub(crate) fn answer() -> u64 {
    42
}

#[cw::job]
pub(crate) fn pair(n: u64) -> (u64, String) {
    (n, n.to_string())
}

#[cw::job]
pub(crate) async fn later(n: u64) -> u64 {
    tokio::time::sleep(Duration::from_millis(1)).await;
    n
}

#[cw::job]
pub(crate) fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

#[cw::job]
pub(crate) fn weigh(numbers: &[u64], name: &str, path: &Path) -> (u64, String, PathBuf) {
    (numbers.iter().sum(), name.to_uppercase(), path.join("weight"))
}

/// Some milliseconds of a slot.
#[cw::job]
pub(crate) fn nap(n: u64) -> u64 {
    std::thread::sleep(Duration::from_millis(10));
    n
}

/// Nothing, at once; unless told to wait for a file.
#[cw::job]
pub(crate) fn quick(n: u64, wait_for: Option<PathBuf>) -> u64 {
    while wait_for.as_ref().is_some_and(|path| !path.exists()) {
        std::thread::yield_now();
    }
    n
}

/// The worker whose executor runs this.
#[cw::job]
pub(crate) fn whereabouts(_n: u64) -> i32 {
    std::thread::sleep(Duration::from_millis(10));
    getppid().map_or(0, |pid| pid.as_raw_nonzero().get())
}

#[cw::job]
pub(crate) fn process() -> i32 {
    getpid().as_raw_nonzero().get()
}

#[derive(Debug, PartialEq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("{n} is odd")]
pub(crate) struct Odd {
    pub(crate) n: u64,
}

#[cw::job]
pub(crate) fn halve(n: u64) -> Result<u64, Odd> {
    if n.is_multiple_of(2) { Ok(n / 2) } else { Err(Odd { n }) }
}

#[cw::job]
pub(crate) fn simulate(model: &Path) -> anyhow::Result<usize> {
    let text = fs::read(model).context("the model cannot be read").context("the simulation failed")?;
    Ok(text.len())
}

/// Fails until it has been called so often; the file counts.
#[cw::job]
pub(crate) fn flaky(count: &Path, successful: u64) -> Result<u64, String> {
    count_up(count, successful)
}

#[cw::job(retries = 2)]
pub(crate) fn stubborn(count: &Path, successful: u64) -> Result<u64, String> {
    count_up(count, successful)
}

fn count_up(count: &Path, successful: u64) -> Result<u64, String> {
    append(count, "x");
    match fs::metadata(count).expect("just written").len() {
        calls if calls == successful => Ok(calls),
        calls => Err(format!("call {calls} of {successful}")),
    }
}

#[cw::job]
pub(crate) fn note(log: &Path, line: &str) {
    append(log, &format!("{line}\n"));
}

fn append(path: &Path, text: &str) {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).expect("the test's folder can be written to");
}

/// Makes one file, then waits for another.
#[cw::job]
pub(crate) fn gate(made: &Path, awaited: &Path) {
    fs::write(made, "").expect("the test's folder can be written to");
    crate::until_there(awaited);
}

/// Says in a file that it runs, and is done once there is another. In a third it says that it is.
#[cw::job]
pub(crate) fn hold(begun: &Path, open: &Path, ended: &Path, n: usize) -> usize {
    hold_on(begun, open, ended, n)
}

/// The same, which must not happen twice.
#[cw::job(rerun = "never")]
pub(crate) fn hold_once(begun: &Path, open: &Path, ended: &Path, n: usize) -> usize {
    hold_on(begun, open, ended, n)
}

/// Takes so long.
#[cw::job]
pub(crate) fn take(begun: &Path, n: usize, millis: u64) -> usize {
    append(begun, &format!("{n}\n"));
    std::thread::sleep(Duration::from_millis(millis));
    n
}

fn hold_on(begun: &Path, open: &Path, ended: &Path, n: usize) -> usize {
    append(begun, &format!("{n}\n"));
    crate::until_there(open);
    append(ended, &format!("{n}\n"));
    n
}

/// Kills the worker that runs it.
#[cw::job]
pub(crate) fn slay(marks: &Path) {
    append(marks, "x");
    // A worker says of no task that it runs before it has run for a while.
    std::thread::sleep(Duration::from_millis(200));
    kill_process(getppid().expect("a worker"), Signal::KILL).expect("it is of the same user");
    stand_still();
}

/// Never ends by itself.
#[cw::job]
pub(crate) fn stall() {
    stand_still();
}

/// Starts a process, leaves both their ids in a file, and never ends by itself.
#[cw::job]
pub(crate) fn bear_child(pids: &Path) {
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("there is `sleep`");
    let whole = pids.with_extension("new");
    let (worker, own) = (getppid().expect("a worker"), getpid());
    let line = format!("{} {} {}", worker.as_raw_nonzero(), own.as_raw_nonzero(), child.id());
    fs::write(&whole, line).and_then(|()| fs::rename(&whole, pids)).expect("the test's folder is writable");
    drop(child.wait());
    stand_still();
}

fn stand_still() {
    loop {
        std::thread::park();
    }
}

#[cw::job]
pub(crate) fn call_within(how: &str) -> Result<(), cw::TaskError> {
    match how {
        "spawn" => cw::spawn(square, 2).wait().map(drop),
        "map" => cw::map(square, 0..3).wait().map(drop),
        "set" => {
            let mut set = cw::TaskSet::new();
            let ids = [set.spawn(square, 2), set.spawn(square, 3)];
            assert!(ids[0] != ids[1] && set.len() == 2);
            set.abort_all();
            set.join_next().wait().unwrap().map(drop)
        }
        _ => {
            let (tell, told) = std::sync::mpsc::channel();
            cw::submit(square, 2, move |_, result| tell.send(result).expect("it is waited for"));
            told.recv().expect("every callback is called").map(drop)
        }
    }
}

#[cw::job]
pub(crate) fn explode(n: u64) -> u64 {
    panic!("no {n} today");
}

/// Ends its own process, having left a mark in a file.
#[cw::job]
pub(crate) fn crash(marks: &Path, way: &str) {
    append(marks, "x");
    eprintln!("about to {way}");
    end_process(way);
}

/// A square, or for a few the end of the process.
#[cw::job]
pub(crate) fn fragile(n: u64) -> u64 {
    if is_fragile(n) {
        end_process("abort");
    }
    n * n
}

pub(crate) fn is_fragile(n: u64) -> bool {
    n % 67 == 13
}

fn end_process(way: &str) {
    let signal = |signal| kill_process(getpid(), signal).expect("a process may signal itself");
    match way {
        "leave" => std::process::exit(0),
        "exit" => std::process::exit(3),
        "abort" => std::process::abort(),
        "overflow" => println!("{}", dig(1)),
        // Rust's own handler takes the first for a full stack, finds that it is not, and puts itself away.
        "segfault" => (0..2).for_each(|_| signal(Signal::SEGV)),
        "kill" => signal(Signal::KILL),
        _ => panic!("{way} is no way to end"),
    }
}

/// Recurses until there is no stack left.
#[expect(unconditional_recursion, reason = "that is its purpose")]
fn dig(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 512]);
    dig(frame[7] + 1) + frame[9]
}

#[cw::job]
pub(crate) fn inflate(bytes: usize) -> String {
    "x".repeat(bytes)
}

#[cw::job]
pub(crate) fn measure(text: &str) -> usize {
    text.len()
}

/// As many bytes as are asked for, with a low limit.
#[cw::job(max_bytes = "1 KiB")]
pub(crate) fn swell(bytes: &[u8], wanted: usize) -> String {
    "x".repeat(wanted.max(bytes.len()))
}

pub(crate) const MANY: usize = 96 << 20;

#[cw::job(max_bytes = MANY)]
pub(crate) fn turn(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.rotate_left(1);
    bytes
}
