//! The whole life of a cluster under a real Slurm of three nodes.

use std::{fs, path::Path, time::Duration};

use crate::{
    site::Site,
    support::{Process, program, until},
};

const LISTEN: [&str; 2] = ["--listen", "127.0.0.1:0"];

/// A client of the default cluster with a folder of its own, where it does this.
fn client(site: &Site, scenario: &[&str]) -> (Process, std::path::PathBuf) {
    let folder = tempfile::tempdir_in(site.house.home.path()).expect("the home is there").keep();
    let mut command = site.command(&program("it_program"), &["--cluster", "default"]);
    (Process::start(command.arg("--dir").arg(&folder).args(scenario)), folder)
}

/// The jobs of workers in this state, by their ids.
fn workers(site: &Site, state: &str) -> Vec<String> {
    let jobs = site.jobs();
    let found = jobs.iter().filter_map(|job| match job.split(' ').collect::<Vec<_>>()[..] {
        [id, "cw-default-worker", is] if is == state => Some(id.to_owned()),
        _ => None,
    });
    found.collect()
}

/// One of these jobs that runs on a node.
fn one_on(site: &Site, node: &str, jobs: &[String]) -> String {
    let words = ["-h", "-w", node, "-t", "R", "-n", "cw-default-worker", "-o", "%i"];
    let said = site.command(Path::new("squeue"), &words).output().expect("it can be run");
    let there = String::from_utf8(said.stdout).expect("numbers");
    there.lines().find(|job| jobs.iter().any(|it| it == job)).expect("of eight four run there").to_owned()
}

fn status(site: &Site) -> serde_json::Value {
    let said = site.cw(&["status", "--json"]);
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"))
}

/// How many workers are connected.
fn connected(site: &Site) -> usize {
    status(site)["workers"].as_array().map_or(0, Vec::len)
}

#[test]
fn the_whole_life_of_a_cluster() {
    let Some(site) = Site::start(3) else { return };
    let words = ["start", "--slurm", "-n", "3", "--max", "12", "--idle", "5s"];
    let started = site.cw(&[&words, &LISTEN[..]].concat()).with_code(0);
    assert!(started.stdout.contains("is up: 3 workers and 3 slots"), "{started:?}");

    // The main job of all.
    let digits = Process::start(&mut site.command(&program("digits"), &["--cluster", "default"]));
    let digits = digits.finish().with_code(0);
    assert!(digits.stdout.contains("k=1 distance=euclidean correct=1776/1797\n"), "{digits:?}");

    // More to do than three can, and so more workers, but no more than there are tasks.
    let (busy, folder) = client(&site, &["held", "8"]);
    busy.said("all run");
    let first = workers(&site, "RUNNING");
    assert_eq!((connected(&site), first.len()), (8, 8));

    // A node dies with what ran there; a job is cancelled by hand: both run again elsewhere.
    let begun = || fs::read_to_string(folder.join("begun")).unwrap_or_default().lines().count();
    site.fault("crash", "cw1");
    until("what ran there runs elsewhere", || begun() > 8);
    let now = begun();
    let cancelled = site.command(Path::new("scancel"), &[&one_on(&site, "cw2", &first)]).status();
    assert!(cancelled.expect("it can be run").success());
    until("what ran in the job runs elsewhere", || begun() > now);

    // Nobody who runs needs the controller.
    site.fault("pause", "slurmctld");
    fs::write(folder.join("open"), "").expect("the test's own folder");
    let finished = busy.finish().well();
    (0..8).for_each(|n| assert!(finished.stdout.contains(&format!("{n} gave {n}\n")), "{finished:?}"));
    let told = status(&site);
    let trouble = told["fleet"]["trouble"].as_str().unwrap_or_default().to_owned();
    assert!(trouble.contains("squeue"), "{told}");
    site.fault("resume", "slurmctld");

    // All end when there is nothing to do, and come when there is.
    until("nobody is paid for doing nothing", || connected(&site) == 0);
    until("no job is left", || workers(&site, "RUNNING").is_empty() && workers(&site, "PENDING").is_empty());
    let (again, _) = client(&site, &["spawn"]);
    // For a minute after a job was cancelled by hand none is started, and that was seen only once the controller answered.
    again.finish_within(Duration::from_secs(150)).well();

    site.fault("start", "cw1");
    let stopped = site.cw(&["stop"]).with_code(0);
    assert!(stopped.stdout.contains("no job is left"), "{stopped:?}");
    site.assert_ended();
}

/// Slurm's shortest limit is a minute, so this takes a while.
#[test]
fn a_task_longer_than_its_allocation_goes_on_in_the_next() {
    let Some(site) = Site::start(1) else { return };
    let words = ["start", "--slurm", "-n", "1", "--time", "1", "--idle", "30s"];
    site.cw(&[&words, &LISTEN[..]].concat()).with_code(0);
    let folder = tempfile::tempdir_in(site.house.home.path()).expect("the home is there").keep();
    let mut command = site.command(&program("it_checkpoints"), &["--cluster", "default", "seconds", "--dir"]);
    let client = Process::start(command.arg(&folder));
    let finished = client.finish_within(Duration::from_secs(240)).well();
    assert!(finished.stdout.contains("counted 75\n"), "{finished:?}");
    let log = fs::read_to_string(folder.join("log")).expect("it ran");
    let began: Vec<u64> =
        log.lines().map(|line| line["begins at ".len()..].parse().expect("a number")).collect();
    assert!(began.len() > 1 && began[0] == 0, "{log}");
    assert!(began.windows(2).all(|two| two[0] < two[1]), "each goes on where it was: {log}");
    site.cw(&["stop"]).with_code(0);
    site.assert_ended();
}
