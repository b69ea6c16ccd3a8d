//! Limits of a site's on what its users may have, with a real Slurm that has accounts.

use std::{fs, path::Path};

use crate::{
    site::Site,
    support::{Process, cw, only_error, program, until},
};

const LISTEN: [&str; 2] = ["--listen", "127.0.0.1:0"];

/// A site with limits of these names, which its user may ask for.
fn site(limits: &[(&str, &str)]) -> Option<Site> {
    let site = Site::with_accounts(1)?;
    for (name, limit) in limits {
        set(&site, &["add", "qos", name, limit]);
        set(&site, &["modify", "user", "root", "set", &format!("qos+={name}")]);
    }
    Some(site)
}

fn set(site: &Site, words: &[&str]) {
    let said = site.command(Path::new("sacctmgr"), &[&["-i"], words].concat()).output();
    let said = said.expect("it can be run");
    assert!(said.status.success(), "{said:?}");
}

fn start(site: &Site, words: &[&str]) -> crate::support::Finished {
    site.cw(&[&["start", "--slurm"], &LISTEN[..], words].concat())
}

/// A client of so many tasks that are held until the file `open` is there.
fn held(site: &Site, tasks: &str) -> Process {
    let dir = site.house.home.path().to_str().expect("a plain path");
    let words = ["--cluster", "default", "--dir", dir, "held", tasks];
    Process::start(&mut site.command(&program("it_program"), &words))
}

fn open(site: &Site) {
    fs::write(site.house.home.path().join("open"), "").expect("the folder is there");
}

#[test]
fn as_many_are_submitted_as_a_user_may_have_and_why_no_more_are_is_told() {
    let Some(site) = site(&[("few", "MaxSubmitJobsPerUser=2")]) else { return };
    let started = start(&site, &["-n", "3", "--max", "8", "--slurm-args", "--qos=few"]).with_code(0);
    assert!(started.stderr.contains("1 worker was not started: sbatch: QOSMaxSubmitJobPerUserLimit"));
    assert!(started.stdout.contains("is up: 2 workers"), "{started:?}");
    let client = held(&site, "8");
    until("why there are no more is told", || {
        let said = site.cw(&["status"]).stdout;
        said.contains("Slurm starts no workers: sbatch: QOSMaxSubmitJobPerUserLimit")
    });
    let log =
        fs::read_to_string(site.house.home.file("log").join("master.log")).expect("the master writes it");
    let refusals: Vec<&str> = log.lines().filter(|line| line.contains("starts no workers: ")).collect();
    assert!(refusals.iter().any(|line| line.contains("it is asked again in 1 min")), "{refusals:?}");
    open(&site);
    client.finish().well();
    site.cw(&["stop"]).with_code(0);
    site.assert_ended();
}

#[test]
fn limits_by_which_jobs_pend_are_told_in_slurms_words() {
    let Some(site) = site(&[("one", "MaxJobsPerUser=1"), ("short", "MaxWall=00:05:00")]) else { return };
    let started = start(&site, &["-n", "2", "--wait", "5s", "--slurm-args", "--qos=one"]).with_code(0);
    let line = "after 5s: 1 of 2 workers connected; 1 pends: QOSMaxJobsPerUserLimit; the others join when they come, unless \
                the work is done by then";
    assert!(started.stderr.contains(line), "{started:?}");
    let status = site.cw(&["status"]).with_code(0);
    assert!(status.stdout.contains("  1 worker pends in Slurm: QOSMaxJobsPerUserLimit\n"), "{status:?}");
    let stopped = site.cw(&["stop"]).with_code(0);
    assert!(
        stopped.stdout.contains("and 1 worker, 1 job that did not run yet; no job is left"),
        "{stopped:?}"
    );
    site.assert_ended();

    let words = ["-n", "1", "--time", "10", "--wait", "1s", "--slurm-args", "--qos=short"];
    start(&site, &words).with_code(17);
    let client = held(&site, "1");
    client.complained("the cluster has no worker: 1 worker pends in Slurm: QOSMaxWallDurationPerJobLimit");
    drop(client);
    site.cw(&["stop"]).with_code(0);
    site.assert_ended();
}

#[test]
fn what_an_account_may_not_have_is_said_in_slurms_words_and_nothing_is_left() {
    let Some(site) = site(&[("none", "MaxSubmitJobsPerUser=0")]) else { return };
    for (args, words) in [
        ("--qos=none", "QOSMaxSubmitJobPerUserLimit"),
        ("--qos=unheard", "Invalid qos specification"),
        ("--account=unheard", "Invalid account"),
    ] {
        let mut command = site.command(cw(), &[&["start", "--slurm", "-n", "4"], &LISTEN[..]].concat());
        let refused = Process::start(command.args(["--slurm-args", args])).finish().with_code(17);
        let line = only_error(&refused);
        assert!(line.contains("no worker was started: sbatch: ") && line.contains(words), "{line}");
        site.assert_ended();
    }
}
