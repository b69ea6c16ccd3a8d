//! The program that the tests start as master, worker and client.
//!
//! Each scenario checks what it got with assertions and prints `done` when all of them held. It says nothing of
//! where its tasks run: the tests give the same scenario to each mode.

mod bulk;
mod calls;
mod chaos;
mod inside;
mod jobs;
mod losses;
mod maps;
mod sets;
mod submits;
mod trouble;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

#[derive(clap::Args)]
struct Opts {
    /// Where jobs and scenarios leave files for each other. Required of clients, and of no other role
    #[arg(long)]
    dir: PathBuf,

    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(clap::Subcommand)]
enum Scenario {
    /// One argument, a tuple, none; awaited and waited for
    Spawn,
    /// Arguments that borrow
    Borrow,
    /// Jobs that return errors
    Fail,
    /// Retries and timeouts
    Limits,
    /// The order in which one slot runs tasks
    Priority,
    /// A handle that is dropped
    Detach,
    /// Handles that are aborted
    Abort,
    /// Calls from within a job
    Inside,
    /// A panic
    Panic,
    /// `main` returns an error
    Err,
    /// Maps that are awaited and collected
    Map,
    /// Maps that are streamed
    Stream,
    /// How far a map reads its input
    Lazy,
    /// Callbacks
    Submit,
    /// Jobs that end their process, each in one of these ways, beside healthy ones
    Crash {
        /// What each does
        ways: Vec<String>,
    },
    /// A map of which some tasks end their process
    CrashAmong,
    /// Short tasks, a line for each result
    Behind,
    Naps {
        /// How many
        count: u64,
    },
    /// Tasks until so many workers have run one
    Spread {
        /// How many
        workers: usize,
    },
    /// A task whose process has a child; then it is ended so, and the program stays
    Kill {
        /// `abort`, `timeout`, or `never`
        by: String,
    },
    /// A task that waits at one worker and runs at another
    Moved,
    /// Ends while a task runs whose process has a child
    Leave,
    /// Arguments and a result over the limit
    Large,
    /// Sets of calls
    Set,
    /// Calls that wait for room
    Ready,
    /// The memory of calls that wait for room
    Backlog,
    /// A task that does not end
    Hold,
    /// What a job sees of itself
    Ctx,
    /// What is left of a task's folder once it is killed so
    Left {
        /// `abort` or `cancel`
        how: String,
    },
    /// A task that learns that it is cancelled
    Asked,
    /// Maps that show how far they are
    Progress,
    /// A map that is shown beside another
    ProgressBeside,
    /// Limits that jobs set for themselves
    OwnLimits,
    /// Tasks until it is enough, through whatever befalls the processes
    Chaos {
        /// Where results are kept
        dir: PathBuf,
    },
    /// Results of a MiB
    Bulk {
        /// How many
        count: u64,
        /// Where each run leaves a byte
        runs: PathBuf,
    },
    /// Tasks that run until there is a file, and how often each ran
    Held {
        /// How many
        count: usize,
    },
    /// The same, of a job that must not run twice
    HeldOnce {
        /// How many
        count: usize,
    },
    /// A task that kills its worker, beside others
    Slay,
    /// Tasks that take so long, and how often each began
    Slow {
        /// How many
        count: usize,
        /// How long
        millis: u64,
    },
    /// Ends the program so
    End {
        /// `well`, `exit` with code 3, `panic`, or `abort`
        how: String,
    },
}

#[cw::main]
async fn main(opts: Opts) -> cw::Result<()> {
    let dir = &opts.dir;
    match opts.scenario {
        Scenario::Spawn => calls::spawn().await?,
        Scenario::Borrow => calls::borrow().await?,
        Scenario::Fail => calls::fail().await,
        Scenario::Limits => calls::limits(dir).await?,
        Scenario::Priority => calls::priority(dir).await?,
        Scenario::Detach => calls::detach(dir),
        Scenario::Abort => calls::abort(dir).await?,
        Scenario::Inside => calls::inside().await,
        Scenario::Panic => trouble::panic().await?,
        Scenario::Err => return Err(cw::Error::other("the model does not converge")),
        Scenario::Map => maps::whole(dir).await?,
        Scenario::Stream => maps::streamed(dir).await?,
        Scenario::Lazy => maps::lazy().await?,
        Scenario::Submit => submits::submit(dir).await,
        Scenario::Crash { ways } => trouble::crash(dir, &ways).await?,
        Scenario::CrashAmong => trouble::crash_among().await,
        Scenario::Behind => trouble::behind(&opts.dir).await?,
        Scenario::Naps { count } => trouble::naps(count).await?,
        Scenario::Spread { workers } => trouble::spread(workers).await?,
        Scenario::Kill { by } => trouble::kill(dir, &by).await,
        Scenario::Moved => trouble::moved(dir).await?,
        Scenario::Leave => trouble::leave(dir),
        Scenario::Large => trouble::large().await?,
        Scenario::Set => sets::set(dir).await?,
        Scenario::Ready => sets::ready(dir).await?,
        Scenario::Backlog => sets::backlog(dir).await?,
        Scenario::Hold => sets::hold_for_ever(dir).await?,
        Scenario::Ctx => inside::ctx(dir).await?,
        Scenario::Left { how } => inside::left(dir, &how).await,
        Scenario::Asked => inside::asked(dir).await,
        Scenario::Progress => inside::progress(dir).await?,
        Scenario::ProgressBeside => inside::progress_beside(dir).await?,
        Scenario::Held { count } => losses::held(dir, count, |call| cw::spawn(jobs::hold, call)).await?,
        Scenario::HeldOnce { count } => {
            losses::held(dir, count, |call| cw::spawn(jobs::hold_once, call)).await?
        }
        Scenario::Slay => losses::slay(dir).await?,
        Scenario::Slow { count, millis } => losses::slow(dir, count, millis).await?,
        Scenario::End { how } => trouble::end(&how).await?,
        Scenario::OwnLimits => trouble::own_limits().await?,
        Scenario::Chaos { dir } => chaos::chaos(&dir).await?,
        Scenario::Bulk { count, runs } => bulk::bulk(count, &runs).await?,
    }
    println!("done");
    Ok(())
}

/// Waits for a condition, but not for ever: longer than the tests do, which say more when they wait in vain.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn until_there(path: &Path) {
    until(&format!("{} is there", path.display()), || path.exists());
}
