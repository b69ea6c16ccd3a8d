//! `cw start --slurm`, with a real Slurm.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    house::House,
    site::Site,
    support::{Finished, Process, cw, only_error, proc, program, until},
};

const LISTEN: [&str; 2] = ["--listen", "127.0.0.1:0"];

fn start(site: &Site, words: &[&str]) -> Finished {
    site.cw(&[&["start", "--slurm"], &LISTEN[..], words].concat())
}

/// Jobs of this kind.
fn count(jobs: &[String], kind: &str) -> usize {
    jobs.iter().filter(|job| job.contains(&format!("cw-default-{kind} "))).count()
}

#[test]
fn a_cluster_under_slurm_runs_programs_and_leaves_no_job() {
    let Some(site) = Site::start(2) else { return };
    let started = start(&site, &["-n", "5"]).with_code(0);
    assert!(started.stdout.contains("cluster `default` is up: 5 workers and 5 slots"), "{started:?}");
    assert!(started.stdout.contains("end:   cw stop\n"), "{started:?}");
    assert_eq!(count(&site.jobs(), "worker"), 5);
    site.house.assert_squares(&program("square"));
    let stopped = site.cw(&["stop"]).with_code(0);
    assert!(stopped.stdout.contains("and 5 workers; no job is left"), "{stopped:?}");
    site.assert_ended();
    let again = site.cw(&["stop"]).with_code(0);
    assert!(again.stdout.contains("nothing of the cluster `default` is left to end"), "{again:?}");
}

#[test]
fn those_that_find_no_room_are_told_why_and_more_can_be_added() {
    let Some(site) = Site::start(1) else { return };
    let started = start(&site, &["-n", "6", "--wait", "6s"]).with_code(0);
    let line = "after 6s: 4 of 6 workers connected; 2 pend: Resources; the others join when they come";
    assert!(started.stderr.contains(line), "{started:?}");
    let more = start(&site, &["-n", "1", "--wait", "3s"]).with_code(17);
    assert!(only_error(&more).contains("after 3s: 0 of 1 worker connected; 1 pends: "), "{more:?}");
    assert_eq!(count(&site.jobs(), "worker"), 7);
    let refused = start(&site, &["-n", "1", "--slurm-args", "-p nowhere"]).with_code(17);
    assert!(only_error(&refused).contains("what was started before stays"), "{refused:?}");
    let fleet = site.house.fleet().expect("it is still there");
    assert_eq!((&fleet["workers"], &fleet["how"]["slurm"]["args"]), (&7.into(), &serde_json::json!([])));
    let other = site.cw(&["start", "--local", "-n", "1"]).with_code(2);
    assert!(only_error(&other).contains("was started by `cw start --slurm`: end it first"), "{other:?}");
    let stopped = site.cw(&["stop"]).with_code(0);
    assert!(
        stopped.stdout.contains("and 4 workers, 3 jobs that did not run yet; no job is left"),
        "{stopped:?}"
    );
    site.assert_ended();
}

#[test]
fn a_master_can_be_a_job() {
    let Some(site) = Site::start(1) else { return };
    let started = start(&site, &["-n", "2", "--master", "job", "--time", "10"]).with_code(0);
    assert!(started.stderr.contains("the master is job "), "{started:?}");
    let jobs = site.jobs();
    assert_eq!((count(&jobs, "master"), count(&jobs, "worker")), (1, 2), "{jobs:?}");
    site.house.assert_squares(&program("square"));
    site.cw(&["stop"]).with_code(0);
    site.assert_ended();
}

#[test]
fn starts_that_wait_for_a_masters_job_share_it_and_a_stop_need_not_wait_for_them() {
    let Some(site) = Site::start(2) else { return };
    let begin = |count| {
        let held = ["start", "--slurm", "-n", count, "--master", "job", "--master-args", "-H"];
        let start = Process::start(&mut site.command(cw(), &[&held[..], &LISTEN].concat()));
        start.complained("pends: JobHeldUser");
        start
    };
    let job = || {
        site.jobs()
            .iter()
            .find(|job| job.contains("-master "))
            .map(|job| job.split(' ').next().unwrap().to_owned())
    };
    let starts = [begin("1"), begin("2")];
    assert_eq!(count(&site.jobs(), "master"), 1);
    site.cw(&["stop"]).with_code(0);
    for start in starts {
        let finished = start.finish().with_code(17);
        assert!(only_error(&finished).contains("the master's job "), "{finished:?}");
    }
    site.assert_ended();

    let starts = [begin("1"), begin("2")];
    let release = site.command(Path::new("scontrol"), &["release", &job().expect("it pends")]).status();
    assert!(release.expect("it can be run").success());
    let all = starts.map(|start| start.finish().with_code(0).stderr);
    assert_eq!((count(&site.jobs(), "master"), count(&site.jobs(), "worker")), (1, 3), "{all:?}");
    let fleet = site.house.fleet().expect("it was started");
    assert_eq!((&fleet["workers"], &fleet["max"]), (&3.into(), &3.into()), "{all:?}");
    site.cw(&["stop"]).with_code(0);
    site.assert_ended();
}

#[test]
fn what_slurm_refuses_is_said_in_its_words_and_nothing_is_left() {
    let Some(site) = Site::start(1) else { return };
    for (words, said) in [
        (["--slurm-args", "-p nowhere"], "sbatch: invalid partition specified: nowhere; "),
        (["--time", "soon"], "sbatch: Invalid --time specification"),
    ] {
        let refused = start(&site, &[&["-n", "2"][..], &words].concat()).with_code(17);
        assert!(only_error(&refused).contains(&format!("no worker was started: {said}")), "{refused:?}");
        site.assert_ended();
        let refused = start(&site, &[&["-n", "2", "--master", "job"][..], &words].concat()).with_code(17);
        assert!(only_error(&refused).contains(&format!("no master was started: {said}")), "{refused:?}");
        site.assert_ended();
    }
}

#[test]
fn workers_that_end_at_their_start_are_told_with_code_and_last_words() {
    let Some(site) = Site::start(1) else { return };
    // They are told of an access file that is not there, and have nothing else of their caller's.
    let mut command = site.command(cw(), &[&["start", "--slurm", "-n", "2"], &LISTEN[..]].concat());
    command.env("CW_ACCESS", "/no/such/file").env("CW_MASTER", "127.0.0.1:1").env("CW_IDLE", "bad");
    let failed = Process::start(&mut command).finish().with_code(17);
    assert!(failed.stderr.contains(" on cw1 ended: exit code 10: "), "{failed:?}");
    assert!(failed.stderr.contains("/no/such/file"), "{failed:?}");
    assert!(only_error(&failed).contains("none of 2 workers is left; the master stays"), "{failed:?}");
    site.cw(&["stop"]).with_code(0);
    site.assert_ended();
}

#[test]
fn a_start_is_told_that_somebody_has_stopped_its_cluster() {
    let Some(site) = Site::start(1) else { return };
    let words = ["start", "--slurm", "-n", "2", "--slurm-args", "--hold", "--wait", "5m"];
    let start = Process::start(&mut site.command(cw(), &[&words[..], &LISTEN].concat()));
    start.complained("0 of 2 workers connected; 2 pend: ");
    site.cw(&["stop"]).with_code(0);
    let stopped = start.finish().with_code(17);
    assert!(only_error(&stopped).ends_with(": the cluster was stopped meanwhile"), "{stopped:?}");
    site.assert_ended();
}

/// Submits what looks like a worker of this fleet's, and pends.
fn held(site: &Site, fleet: &str) -> String {
    let comment = format!("--comment=cw:{fleet}");
    let words = ["--hold", "--parsable", "--job-name=cw-default-worker", &comment, "--wrap=true"];
    let submitted = site.command(Path::new("sbatch"), &words).output().expect("there is Slurm");
    String::from_utf8(submitted.stdout).expect("a number").trim().to_owned()
}

#[test]
fn jobs_of_another_fleet_by_the_same_name_are_named_and_left_alone() {
    let Some(site) = Site::start(1) else { return };
    let job = held(&site, "old");
    let scancel =
        format!("a job of another `cw start` by this name: unless it has another CW_HOME, `scancel {job}`");
    start(&site, &["-n", "1"]).with_code(0);
    let status = site.cw(&["status"]).with_code(0);
    assert!(status.stdout.contains(&format!("  and {scancel}\n")), "{status:?}");
    let stopped = site.cw(&["stop"]).with_code(0);
    assert!(stopped.stdout.contains(&format!("; no job is left, but {scancel}\n")), "{stopped:?}");
    assert_eq!(count(&site.jobs(), "worker"), 1, "it is not ours");
    site.command(Path::new("scancel"), &[&job]).output().expect("there is Slurm");
}

/// A controller that was down while its jobs were ended may come back from an older state. Here the like of them is
/// submitted.
#[test]
fn jobs_of_an_earlier_fleet_of_this_home_that_are_there_again_are_ended_and_no_others() {
    let Some(site) = Site::start(1) else { return };
    start(&site, &["-n", "1"]).with_code(0);
    let id = site.house.fleet().expect("it was started")["id"].as_str().expect("a word").to_owned();
    site.cw(&["stop"]).with_code(0);
    // One of a cluster by the same name in another home.
    let theirs = held(&site, "00c0ffee0000");

    let ours = held(&site, &id);
    let stopped = site.cw(&["stop"]).with_code(0);
    assert!(
        stopped.stdout.contains("has ended: 1 job of an earlier `cw start`; no job is left\n"),
        "{stopped:?}"
    );
    let left = |job: &str| site.jobs().iter().any(|line| line.starts_with(&format!("{job} ")));
    assert!(!left(&ours) && left(&theirs), "{:?}", site.jobs());

    start(&site, &["-n", "1"]).with_code(0);
    let again = held(&site, &id);
    let status = site.cw(&["status"]).with_code(0);
    let named =
        format!("  and a job of an earlier `cw start`, which `cw stop` ends: {again}; a job of another");
    assert!(status.stdout.contains(&named), "{status:?}");
    let stopped = site.cw(&["stop"]).with_code(0);
    assert!(stopped.stdout.contains(", 1 job of an earlier `cw start`; no job is left, but "), "{stopped:?}");
    assert!(!left(&again) && left(&theirs), "{:?}", site.jobs());

    site.fault("kill", "slurmctld");
    let unknown = site.cw(&["stop"]).with_code(0);
    assert!(
        unknown.stdout.contains("left to end; whether Slurm has jobs of it again is not known (squeue: "),
        "{unknown:?}"
    );
}

#[test]
fn what_a_dead_master_left_is_cancelled() {
    let Some(site) = Site::start(1) else { return };
    start(&site, &["-n", "3"]).with_code(0);
    let master = site.house.master();
    kill_process(Pid::from_raw(master.cast_signed()).expect("a process id"), Signal::KILL).expect("it runs");
    until("it has ended", || !proc::is_alive(site.house.home.path(), master));
    let stopped = site.cw(&["stop"]).with_code(0);
    assert!(stopped.stdout.contains("has ended: 3 jobs; no job is left"), "{stopped:?}");
    site.assert_ended();
}

#[test]
fn a_controller_that_is_down_or_hangs_is_said_and_stop_can_be_said_again() {
    let Some(site) = Site::start(1) else { return };
    start(&site, &["-n", "2"]).with_code(0);
    for (fault, end, words) in [
        ("pause", "resume", "Socket timed out on send/recv operation"),
        ("kill", "start", "Unable to contact slurm controller"),
    ] {
        site.fault(fault, "slurmctld");
        let more = start(&site, &["-n", "1"]).with_code(17);
        assert!(only_error(&more).contains(words), "{more:?}");
        let left = site.cw(&["stop"]).with_code(17);
        assert!(
            only_error(&left).contains(words)
                && only_error(&left).contains("run `cw stop` again once it answers"),
            "{left:?}"
        );
        assert!(site.house.fleet().is_some(), "what may be left is still known");
        site.fault(end, "slurmctld");
        until("it answers", || {
            site.command(Path::new("squeue"), &[]).output().is_ok_and(|it| it.status.success())
        });
    }
    site.cw(&["stop"]).with_code(0);
    site.assert_ended();
}

#[test]
fn without_slurm_it_is_said_before_anything_is_started() {
    let house = House::new();
    let mut command = house.home.command(cw(), &["start", "--slurm", "-n", "2"]);
    let refused = Process::start(command.env("PATH", house.home.path())).finish().with_code(17);
    assert!(
        only_error(&refused).contains("there is no Slurm here: `sbatch` is not to be found"),
        "{refused:?}"
    );
    house.assert_ended();
}

#[test]
fn a_dry_run_shows_the_very_submission() {
    let house = House::new();
    let words =
        ["start", "--slurm", "-n", "64", "--time", "2:00:00", "--slurm-args", "-p 'a b'", "--dry-run"];
    let shown = house.cw(&words).with_code(0).stdout;
    assert!(
        shown.contains("\n# 64 workers\nsbatch --parsable --job-name=cw-default-worker --comment=cw:"),
        "{shown}"
    );
    assert!(shown.contains(" --time=2:00:00 "), "{shown}");
    assert!(shown.contains("-p 'a b' <<'EOF'\n#!/bin/sh\nexport CW_HOME="), "{shown}");
    assert!(shown.contains("\nunset CW_ROLE "), "{shown}");
    let worker = format!("\nexec {} worker --cluster default --idle 5m\nEOF\n", cw().display());
    assert!(shown.contains(&worker), "{shown}");
    let later = "up to 64 workers in all, and one more for each that is lost until Slurm notices\n\n\
         # those that pend and have not been needed for 5m\nscancel --state=PENDING --name=cw-default-worker --user=";
    assert!(shown.contains(later) && shown.ends_with(" JOB..\n"), "{shown}");
    assert!(!house.home.file("").exists());
}
