//! Workers that come when there is work and go when there is none, with a real Slurm.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    site::Site,
    support::{Process, Signal, cw, proc, program, until},
};

/// Starts a cluster from this program, so that its workers are it.
fn start_from(site: &Site, from: &Path, words: &[&str]) -> Process {
    let listen = ["--listen", "127.0.0.1:0"];
    let verb: &[&str] = if from == cw() { &["start", "--slurm"] } else { &["cw", "start", "--slurm"] };
    Process::start(&mut site.command(from, &[verb, &listen, words].concat()))
}

fn start(site: &Site, words: &[&str]) {
    start_from(site, cw(), words).finish().with_code(0);
}

/// A client whose tasks all run at once, until it is told to end, and the folder of its files.
struct Held {
    process: Process,
    dir: PathBuf,
}

impl Held {
    fn start(site: &Site, name: &str, tasks: u32) -> Self {
        let dir = site.house.home.path().join(name);
        fs::create_dir(&dir).expect("each has a name of its own");
        let (path, tasks) = (dir.to_str().expect("a plain path"), tasks.to_string());
        let words = ["--cluster", "default", "--dir", path, "held", &tasks];
        let process = Process::start(&mut site.command(&program("it_program"), &words));
        Self { process, dir }
    }

    fn end(self) {
        fs::write(self.dir.join("open"), "").expect("the folder is there");
        self.process.finish().well();
    }
}

/// A client of so many short tasks, that waits for workers for as long as it takes.
fn naps(site: &Site, tasks: u32) -> Process {
    let dir = site.house.home.path().to_str().expect("a plain path");
    let words = ["--cluster", "default", "--dir", dir, "naps", &tasks.to_string()];
    Process::start(&mut site.command(&program("it_program"), &words))
}

/// Waits until so many jobs are there, and none pends; there are never more than that or `max`.
fn until_jobs(site: &Site, wanted: usize, max: usize) {
    until(&format!("{wanted} jobs run"), || {
        let jobs = site.jobs();
        assert!(jobs.len() <= max, "{jobs:?}");
        jobs.len() == wanted && jobs.iter().all(|job| job.ends_with("RUNNING"))
    });
}

fn log_of_master(site: &Site) -> String {
    fs::read_to_string(site.house.home.file("log").join("master.log")).expect("the master writes it")
}

#[test]
fn workers_come_with_the_work_and_go_without_it() {
    let Some(site) = Site::start(2) else { return };
    start(&site, &["-n", "1", "--min", "0", "--max", "6", "--idle", "5s"]);
    until_jobs(&site, 0, 1);
    let client = Held::start(&site, "first", 6);
    until_jobs(&site, 6, 6);
    client.process.said("all run");
    client.end();
    until_jobs(&site, 0, 6);
    // The master has stayed, and what comes later is served too.
    // One does for a task of a job that is known by now to take seconds.
    let client = Held::start(&site, "second", 1);
    client.process.said("all run");
    client.end();
    until_jobs(&site, 0, 1);
    until("it is in the log", || log_of_master(&site).contains(" workers by Slurm: "));
    site.cw(&["stop"]).with_code(0);
    site.assert_ended();
}

#[test]
fn workers_that_are_of_no_use_are_not_started_for_ever_and_the_client_hears_why() {
    let Some(site) = Site::start(1) else { return };
    // A program that is not there any more when the next workers are started.
    let copy = site.house.home.path().join("sim");
    fs::copy(program("it_program"), &copy).expect("there is room");
    start_from(&site, &copy, &["-n", "1", "--max", "3", "--idle", "5s"]).finish().with_code(0);
    fs::remove_file(&copy).expect("just made");
    until_jobs(&site, 0, 1);
    let client = naps(&site, 3);
    let line = client.complained("3 workers in a row were of no use");
    assert!(line.contains("exit code 127 on cw1: ") && line.contains("sim: not found"), "{line}");
    assert!(line.contains("so none is started for 1 min"), "{line}");
    assert!(!line.contains("start some with"), "{line}");
    until("it is in the log", || log_of_master(&site).contains("no more workers are started for 1 min"));
    assert_eq!(site.jobs(), [] as [&str; 0]);
    drop(client);
    site.cw(&["stop"]).with_code(0);
    site.assert_ended();
}

#[test]
fn why_workers_pend_is_told_in_slurms_words() {
    let Some(site) = Site::start(1) else { return };
    let words = ["-n", "2", "--wait", "1s", "--slurm-args", "--hold"];
    start_from(&site, cw(), &words).finish().with_code(17);
    let client = naps(&site, 1);
    client.complained("the cluster has no worker: 2 workers pend in Slurm: JobHeldUser");
    let released = site.command(Path::new("scontrol"), &["release", "Name=cw-default-worker"]).status();
    assert!(released.expect("it can be run").success());
    client.finish().well();
    site.cw(&["stop"]).with_code(0);
    site.assert_ended();
}

#[test]
fn a_controller_that_hangs_is_told_of_and_waited_for() {
    let Some(site) = Site::start(1) else { return };
    start(&site, &["-n", "1", "--max", "2", "--idle", "5s"]);
    until_jobs(&site, 0, 1);
    site.fault("pause", "slurmctld");
    let client = naps(&site, 2);
    client.complained("the cluster has no worker: Slurm does not answer: ");
    site.fault("resume", "slurmctld");
    client.finish().well();
    site.cw(&["stop"]).with_code(0);
    site.assert_ended();
}

#[test]
fn so_many_are_kept_whatever_there_is_to_do() {
    let Some(site) = Site::start(1) else { return };
    start(&site, &["-n", "1", "--min", "1", "--max", "2", "--idle", "5s"]);
    let client = Held::start(&site, "first", 2);
    client.process.said("all run");
    client.end();
    until_jobs(&site, 1, 2);
    let kept = site.jobs();
    let words = ["--signal=KILL", "--full", kept[0].split(' ').next().expect("it has an id")];
    assert!(site.command(Path::new("scancel"), &words).status().expect("it can be run").success());
    until("another is there", || site.jobs().len() == 1 && site.jobs() != kept);
    site.cw(&["stop"]).with_code(0);
    site.assert_ended();
}

#[test]
fn a_master_that_comes_back_goes_on_with_what_is_there() {
    let Some(site) = Site::start(1) else { return };
    start(&site, &["-n", "1", "--max", "3", "--idle", "5s"]);
    let client = Held::start(&site, "first", 3);
    client.process.said("all run");
    let before = site.jobs();
    let master = site.house.master();
    let pid = rustix::process::Pid::from_raw(master.cast_signed()).expect("a process id");
    rustix::process::kill_process(pid, Signal::KILL).expect("it runs");
    until("it has ended", || !proc::is_alive(site.house.home.path(), master));
    // Known by its memory, which goes before its lock does.
    let lock = fs::File::open(site.house.home.file("master.lock")).expect("it held it");
    until("its lock is free", || lock.try_lock_shared().is_ok());
    drop(lock);
    let words = ["master", "--cluster", "default", "--listen", "127.0.0.1:0"];
    let next = Process::start(&mut site.command(cw(), &words));
    next.said("join:");
    next.complained("came back");
    client.end();
    assert_eq!(site.jobs(), before, "it starts no others beside them");
    until_jobs(&site, 0, 3);
    let client = Held::start(&site, "second", 1);
    client.process.said("all run");
    client.end();
    drop(next);
    site.cw(&["stop"]).with_code(0);
    site.assert_ended();
}

/// Two of a job array run, and the third pends.
#[test]
fn what_pends_when_the_work_is_done_is_cancelled_and_what_runs_beside_it_is_not() {
    let Some(site) = Site::start(1) else { return };
    let filler = ["--parsable", "--wrap", "sleep 600"];
    let filler = site.command(Path::new("sbatch"), &filler).output().expect("it can be run").stdout;
    let filler = String::from_utf8(filler).expect("a number");
    start(&site, &["-n", "1", "--min", "1", "--max", "4", "--idle", "5s"]);
    let client = Held::start(&site, "first", 4);
    let workers = |state: &str| {
        let jobs = site.jobs().into_iter();
        jobs.filter(|job| job.ends_with(&format!("cw-default-worker {state}"))).collect::<Vec<_>>()
    };
    until("there is room for three", || (workers("RUNNING").len(), workers("PENDING").len()) == (3, 1));
    let (run, pend) = (workers("RUNNING"), workers("PENDING"));
    let array = pend[0].split('_').next().expect("there is a word");
    assert!(run.iter().any(|job| job.starts_with(&format!("{array}_"))), "{run:?} {pend:?}");
    // Those that run have something to do all the while.
    let next = Held::start(&site, "second", 3);
    client.end();
    next.process.said("all run");
    until("none pends", || workers("PENDING").is_empty());
    assert_eq!(workers("RUNNING"), run);
    let line = "so taken back: 1 of the workers: ";
    until("it is in the log", || log_of_master(&site).contains(line));
    next.end();
    site.command(Path::new("scancel"), &[filler.trim()]).output().expect("it can be run");
    site.cw(&["stop"]).with_code(0);
    site.assert_ended();
}
