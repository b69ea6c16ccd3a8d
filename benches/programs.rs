//! How soon does a program begin that the cluster has not seen? A client of a new build of 50 MB comes to a standing
//! cluster of eight workers on one machine, which do not see its file; the clock starts with its process, and stops when it
//! has its first result. Then another client of that build comes.
//!
//! And what do tasks cost that share a large value? 1,000 tasks that each look at 64 MiB, on two workers, beside as many that
//! look at nothing.
//!
//! ```text
//! cargo bench --bench programs            CW_BENCH_PAIRS=3 for a quick look
//! ```

mod reference;

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};

use anyhow::{Context, ensure};
use reference::{Figure, pairs};

const WORKERS: usize = 8;
const PROGRAM_BYTES: u64 = 50_000_000;

/// The word that makes this program the client.
const CLIENT: &str = "--one-task";

#[cw::job]
fn noop(n: u64) -> u64 {
    n
}

/// The word that makes this program the client that shares.
const SHARER: &str = "--share";

const SHARED_BYTES: usize = 64 << 20;
const TASKS: u64 = 1_000;

#[cw::job]
fn look(at: usize, shared: cw::Shared<serde_bytes::ByteBuf>) -> u8 {
    shared[at]
}

/// A process that goes with the bench.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> anyhow::Result<()> {
    cw::init()?;
    if std::env::args().any(|word| word == CLIENT) {
        println!("{}", cw::spawn(noop, 7).wait()?);
        return Ok(());
    }
    if std::env::args().any(|word| word == SHARER) {
        let (shared, plain) = share()?;
        println!("{shared} {plain}");
        return Ok(());
    }
    let figure = |name, what, goal| Figure {
        name,
        what,
        unit: "ms",
        floor: goal,
        goal,
        reference: Vec::new(),
        cw: Vec::new(),
    };
    let mut new = figure(
        "program_new",
        "a new program of 50 MB on 8 workers of one machine, to its first result",
        1_000.0,
    );
    let mut again = figure("program_again", "the same program once more", 50.0);
    let home = tempfile::tempdir()?;
    let _standing = stand(home.path())?;
    for round in pairs()? {
        let build = build(home.path(), round)?;
        let before = looped()?;
        new.cw.push(first_result(home.path(), &build)?);
        let sent = (looped()? - before) as f64 / PROGRAM_BYTES as f64;
        ensure!(sent < 1.5, "the program crossed the network {sent:.1} times");
        again.cw.push(first_result(home.path(), &build)?);
    }
    new.report()?;
    again.report()?;
    shares(home.path())
}

/// Tasks that share a value, on two workers of one machine, of the time of tasks that share nothing.
fn shares(home: &Path) -> anyhow::Result<()> {
    let mut figure = Figure {
        name: "share_cost",
        what: "1,000 tasks that look at a shared value of 64 MiB, of the time of 1,000 no-ops",
        unit: "",
        floor: 1.5,
        goal: 1.1,
        reference: Vec::new(),
        cw: Vec::new(),
    };
    for _ in pairs()? {
        let before = looped()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args([SHARER, "--cluster", "default"]).env("CW_HOME", home).env("TMPDIR", home);
        let output = command.stderr(Stdio::inherit()).output()?;
        let sent = (looped()? - before) as f64 / SHARED_BYTES as f64;
        ensure!(sent < 1.5, "the value crossed the network {sent:.1} times");
        let text = String::from_utf8(output.stdout)?;
        let (shared, plain) = text.trim().split_once(' ').context("two times")?;
        figure.cw.push(shared.parse::<f64>()? / plain.parse::<f64>()?);
    }
    figure.report()
}

/// Seconds for tasks that share a value, once it is there, and for tasks that share nothing. In turn, three times each.
fn share() -> anyhow::Result<(f64, f64)> {
    let mut bytes = vec![0; SHARED_BYTES];
    fastrand::fill(&mut bytes);
    let wanted = bytes[12_345];
    let shared = cw::share(serde_bytes::ByteBuf::from(bytes));
    let shared_tasks = || cw::map(look, (0..TASKS).map(|_| (12_345, shared.clone()))).wait();
    let plain_tasks = || cw::map(noop, 0..TASKS).wait();
    // All executors have decoded it, and know how long each job takes.
    for _ in 0..3 {
        ensure!(shared_tasks()?.iter().all(|byte| *byte == wanted), "a wrong byte");
        plain_tasks()?;
    }
    let (mut with, mut without) = (0.0, 0.0);
    for _ in 0..20 {
        let start = Instant::now();
        shared_tasks()?;
        with += start.elapsed().as_secs_f64();
        let start = Instant::now();
        plain_tasks()?;
        without += start.elapsed().as_secs_f64();
    }
    Ok((with, without))
}

/// Starts a master and workers that are no program's, and waits until all have joined.
fn stand(home: &Path) -> anyhow::Result<Vec<Running>> {
    let mut all = vec![start(home, &["master", "--listen", "127.0.0.1:0"], false, "join:")?];
    for _ in 0..WORKERS {
        all.push(start(home, &["worker", "--slots", "1"], true, "joined the master")?);
    }
    Ok(all)
}

fn start(home: &Path, words: &[&str], on_stderr: bool, until: &str) -> anyhow::Result<Running> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cw"));
    command.args(words).env("CW_HOME", home).env("TMPDIR", home);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (stdout, stderr) = (child.stdout.take().context("piped")?, child.stderr.take().context("piped")?);
    let running = Running(child);
    let lines: Box<dyn BufRead + Send> =
        if on_stderr { Box::new(BufReader::new(stderr)) } else { Box::new(BufReader::new(stdout)) };
    let mut lines = lines.lines();
    ensure!(lines.by_ref().map_while(Result::ok).any(|line| line.contains(until)), "nobody says {until}");
    // Whatever it says later is read, so that it can say it.
    std::thread::spawn(move || lines.for_each(drop));
    Ok(running)
}

/// Another build of this program, of the size that is wanted.
fn build(home: &Path, round: usize) -> anyhow::Result<PathBuf> {
    let build = home.join(format!("build-{round}"));
    let own = fs::read(std::env::current_exe()?)?;
    let bytes = usize::try_from(PROGRAM_BYTES)?.max(own.len() + 8) - own.len();
    let mut noise = vec![0; bytes];
    fastrand::fill(&mut noise);
    let mut file = File::create(&build)?;
    file.write_all(&own)?;
    file.write_all(&noise)?;
    let mut mode = file.metadata()?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o700);
    file.set_permissions(mode)?;
    Ok(build)
}

/// Milliseconds from the start of a client of that build until it has its first result. Workers do not find its file.
fn first_result(home: &Path, build: &Path) -> anyhow::Result<f64> {
    let run = home.join("run");
    fs::hard_link(build, &run)?;
    let start = Instant::now();
    let mut command = Command::new(&run);
    command.args([CLIENT, "--cluster", "default"]).env("CW_HOME", home).env("TMPDIR", home);
    let mut client = command.stdout(Stdio::piped()).spawn()?;
    fs::remove_file(&run)?;
    let mut line = String::new();
    BufReader::new(client.stdout.take().context("piped")?).read_line(&mut line)?;
    let took = start.elapsed().as_secs_f64() * 1e3;
    ensure!(client.wait()?.success() && line.trim() == "7", "the client said {line:?}");
    Ok(took)
}

/// Bytes that have crossed the loopback network.
fn looped() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/net/dev")?;
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("lo:"))
        .context("there is a loopback network")?;
    Ok(line.split_whitespace().next().context("a count")?.parse()?)
}
