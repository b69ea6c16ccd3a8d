//! Every way a task can fail on one machine, what its caller gets, and what to do about it.
//!
//! Each task runs in a process of its own slot, so the ones that exit, abort, overflow their stack or are killed take
//! nothing with them. They are tried three times before they are given up. What dying executors write goes to stderr,
//! here and in the error; run with `2>/dev/null` to read the rest in peace.
//!
//! In one process tree, on threads of one process (where a crash would end the program, so those are left out), and
//! on a cluster (three terminals):
//!
//! ```text
//! cargo run --release --example failures
//! cargo run --release --example failures -- --threads
//!
//! target/release/examples/failures --role master
//! target/release/examples/failures --role worker
//! target/release/examples/failures --cluster default
//! ```
//!
//! prints to stdout (the first, long lines cut here; on a cluster with the name of its worker)
//!
//! ```text
//! Failed    job failures::simulate (task-1) failed: run 7 cannot be simulated
//!           -> the job said no: mend the arguments, or retry
//!           with its causes: job failures::simulate (task-1) failed: run 7 cannot be simulated: -3 K is below ..
//!           as its own type: Some(BadRun { run: 7, cause: TooCold { kelvin: -3.0 } })
//! Panicked  job failures::pick (task-2) panicked at cw/../examples/failures.rs:86:5: index out of bounds: the ..
//!           -> mend the job at the line named
//! Crashed   job failures::crash (task-4) crashed on vm:20415: the process ended by itself with code 3, after 3 ..
//!           -> a library may call `exit`
//! Crashed   job failures::crash (task-5) crashed on vm:20415: the process was ended by signal 6 (SIGABRT), after ..
//!           -> read the last lines of its stderr
//! Crashed   job failures::crash (task-6) crashed on vm:20415: the process was ended by signal 6 (SIGABRT), after ..
//!           -> read the last lines of its stderr
//!           its last words: fatal runtime error: stack overflow, aborting
//! Crashed   job failures::crash (task-7) crashed on vm:20415: the process was ended by signal 9 (SIGKILL), after ..
//!           -> out of memory? start fewer slots
//! TimedOut  job failures::stall (task-8) timed out: it ran longer than 200ms
//!           -> give it more time, or less work
//! Cancelled job failures::stall (task-9) was cancelled
//!           -> none: we asked for it
//! TooLarge  job failures::zeros (task-10) was refused: its result is 68157444 bytes, over the limit of ..
//!           -> return the name of a file
//! Refused   job failures::pick (task-1) was refused: a job cannot call jobs yet: call them from the program's ..
//!           -> change the program: no retry can help
//! ```

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use cw::{TaskError, TaskErrorKind};
use rustix::process::{Signal, getpid, kill_process};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[error("run {run} cannot be simulated")]
struct BadRun {
    run: u32,
    #[source]
    cause: TooCold,
}

#[derive(Debug, PartialEq, thiserror::Error, Serialize, Deserialize)]
#[error("{kelvin} K is below absolute zero")]
struct TooCold {
    kelvin: f64,
}

/// Set by `main`, so a job sees it only where it runs in `main`'s own process.
static MAIN_RUNS_HERE: AtomicBool = AtomicBool::new(false);

#[cw::job]
fn runs_in_thread() -> bool {
    MAIN_RUNS_HERE.load(Ordering::Relaxed)
}

#[cw::job]
fn simulate(run: u32, kelvin: f64) -> Result<f64, BadRun> {
    if kelvin < 0.0 { Err(BadRun { run, cause: TooCold { kelvin } }) } else { Ok(kelvin.sqrt()) }
}

#[cw::job]
fn pick(index: usize) -> u32 {
    [2, 3, 5][index]
}

#[cw::job]
fn crash(how: &str) {
    match how {
        "exit" => std::process::exit(3),
        "abort" => std::process::abort(),
        // In a thread, whose stack is small everywhere; a cluster may give `main` a stack without end.
        "overflow" => drop(thread::spawn(|| dig(0)).join()),
        // As the kernel does where memory runs out.
        _ => kill_process(getpid(), Signal::KILL).expect("a process may signal itself"),
    }
}

#[cw::job]
fn stall() {
    loop {
        thread::park();
    }
}

#[cw::job]
fn zeros(count: usize) -> Vec<u8> {
    vec![0; count]
}

/// Calls a job from within a job, which is not possible yet, and tells what came of it.
#[cw::job]
fn delegate() -> String {
    cw::spawn(pick, 1).wait().map_or_else(|error| report(&error), |prime| prime.to_string())
}

#[cw::main]
async fn main() -> cw::Result<()> {
    MAIN_RUNS_HERE.store(true, Ordering::Relaxed);

    let error = expect("Failed", cw::spawn(simulate, (7, -3.0)).await)?;
    println!("          with its causes: {error:#}");
    let own: Option<BadRun> = error.downcast();
    println!("          as its own type: {own:?}");

    expect("Panicked", cw::spawn(pick, 3).await)?;

    if cw::spawn(runs_in_thread, ()).await? {
        println!("Crashed   left out: in a thread it would end this program");
    } else {
        for how in ["exit", "abort", "overflow", "kill"] {
            let error = expect("Crashed", cw::spawn(crash, how).await)?;
            if let TaskErrorKind::Crashed { stderr, .. } = error.kind()
                && let Some(line) = stderr.lines().last()
            {
                println!("          its last words: {line}");
            }
        }
    }

    let hasty = cw::options().timeout(Duration::from_millis(200));
    expect("TimedOut", hasty.spawn(stall, ()).await)?;

    let handle = cw::spawn(stall, ());
    handle.abort();
    expect("Cancelled", handle.await)?;

    expect("TooLarge", cw::spawn(zeros, 65 << 20).await)?;

    // The only one that a job sees, and not the program.
    let refused = cw::spawn(delegate, ()).await?;
    println!("{refused}");
    if refused.starts_with("Refused") { Ok(()) } else { Err(cw::Error::other("a job called a job")) }
}

/// Prints a failure, and fails unless it is of the kind that was to be shown.
fn expect<R>(kind: &str, result: Result<R, TaskError>) -> cw::Result<TaskError> {
    let Err(error) = result else { return Err(cw::Error::other(format!("{kind} did not happen"))) };
    println!("{}", report(&error));
    if explain(error.kind()).0 == kind { Ok(error) } else { Err(error.into()) }
}

fn report(error: &TaskError) -> String {
    let (kind, advice) = explain(error.kind());
    format!("{kind:<9} {error}\n{:9} -> {advice}", "")
}

/// The name of a kind, and what its caller may do.
fn explain(kind: &TaskErrorKind) -> (&'static str, &'static str) {
    match kind {
        TaskErrorKind::Failed { .. } => ("Failed", "the job said no: mend the arguments, or retry"),
        TaskErrorKind::Panicked { .. } => ("Panicked", "mend the job at the line named"),
        TaskErrorKind::Crashed { signal: Some(9), .. } => ("Crashed", "out of memory? start fewer slots"),
        TaskErrorKind::Crashed { signal: Some(6), .. } => ("Crashed", "read the last lines of its stderr"),
        TaskErrorKind::Crashed { .. } => ("Crashed", "a library may call `exit`"),
        TaskErrorKind::TimedOut { .. } => ("TimedOut", "give it more time, or less work"),
        TaskErrorKind::Cancelled => ("Cancelled", "none: we asked for it"),
        TaskErrorKind::TooLarge { .. } => ("TooLarge", "return the name of a file"),
        TaskErrorKind::Refused { .. } => ("Refused", "change the program: no retry can help"),
        // Needs a cluster: the workers that ran the task died or went silent while it ran, one after the other.
        TaskErrorKind::Lost { .. } => ("Lost", "does it bring whole machines down?"),
        // Needs a cluster: the master was gone for longer than `--connect-timeout`.
        TaskErrorKind::Disconnected { .. } => ("Disconnected", "start the master, then the program again"),
        _ => ("Unknown", "a kind that is newer than this program"),
    }
}

/// Recurses until there is no stack left.
#[expect(unconditional_recursion, reason = "that is its purpose")]
fn dig(depth: u64) -> u64 {
    let frame = std::hint::black_box([depth; 512]);
    dig(frame[7] + 1) + frame[9]
}
