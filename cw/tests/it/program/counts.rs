//! A program that counts its allocations, in each of its processes.
//!
//! Whatever a process becomes, it first listens at a socket with its number in a folder that all of them share, and says
//! there how often it has allocated. The client asks them all before and after tasks that do nothing, and prints the number
//! of each process and its allocations per task.
#![forbid(unsafe_code)]

use std::{
    alloc::System,
    collections::BTreeMap,
    env, fs,
    io::{self, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    thread,
};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts as `System` allocates: a whole crate for it, as an allocator of our own would be unsafe code.
#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Until what grows has grown, and the job is known to be short.
const WARM_UP: u64 = 10_000;

/// So many that what is not done for tasks, such as signs of life, does not show.
const TASKS: u64 = 50_000;

/// Runs, of which the least count of each process is told. What a task costs is there in each of them. The rest comes with each
/// batch of messages, and where other programs wake up all the time a batch may be of a few tasks instead of hundreds: of
/// forty runs beside eight such, in single ones, a master's allocations per task were from 0.03 to 0.20.
const RUNS: usize = 5;

#[cw::job]
fn noop(n: u64) -> u64 {
    n
}

fn main() -> cw::Result<()> {
    // The one variable of the test's that executors have too.
    let folder = Path::new(&env::var_os("LC_TEST_HOME").expect("the test sets it")).join("counts");
    tell_whoever_asks(&folder).map_err(cw::Error::other)?;
    cw::init()?;
    map(WARM_UP)?;
    let mut least = BTreeMap::new();
    for _ in 0..RUNS {
        let before = counts(&folder).map_err(cw::Error::other)?;
        map(TASKS)?;
        for (process, count) in counts(&folder).map_err(cw::Error::other)? {
            let during = count - before.get(&process).copied().unwrap_or(0);
            let found = least.entry(process).or_insert(during);
            *found = during.min(*found);
        }
    }
    for (process, during) in least {
        println!("{process} {:.4}", during as f64 / TASKS as f64);
    }
    println!("done");
    Ok(())
}

fn map(tasks: u64) -> cw::Result<()> {
    let results: Vec<u64> = cw::map(noop, 0..tasks).wait()?;
    assert!(results.into_iter().eq(0..tasks));
    Ok(())
}

/// Allocations of this process so far.
fn own_count() -> u64 {
    let stats = COUNTED.stats();
    (stats.allocations + stats.reallocations) as u64
}

/// Says to everyone who connects how often this process has allocated.
fn tell_whoever_asks(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let listener = UnixListener::bind(folder.join(std::process::id().to_string()))?;
    thread::Builder::new().name("counts".to_owned()).spawn(move || {
        // Who asks and does not wait for the answer is no trouble of this process.
        let answer = |mut asker: UnixStream| drop(asker.write_all(&own_count().to_le_bytes()));
        listener.incoming().flatten().for_each(answer);
    })?;
    Ok(())
}

/// Allocations so far of each process that answers, by its number.
fn counts(folder: &Path) -> io::Result<BTreeMap<u32, u64>> {
    let mut counts = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if let (Some(process), Ok(count)) = (number(&path), ask(&path)) {
            counts.insert(process, count);
        }
    }
    Ok(counts)
}

fn number(socket: &Path) -> Option<u32> {
    socket.file_name()?.to_str()?.parse().ok()
}

fn ask(socket: &Path) -> io::Result<u64> {
    let mut bytes = [0; 8];
    UnixStream::connect(socket)?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}
