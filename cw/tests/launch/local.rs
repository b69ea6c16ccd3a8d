//! `cw start --local`.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    house::{House, number},
    support::{Process, cw, proc, program, until},
};

const LISTEN: [&str; 2] = ["--listen", "127.0.0.1:0"];

fn start(house: &House, words: &[&str]) -> String {
    let finished = house.cw(&[&["start", "--local"], &LISTEN[..], words].concat()).with_code(0);
    finished.stdout
}

/// The processes of its workers.
fn workers(house: &House) -> Vec<u32> {
    let fleet = house.fleet().expect("a fleet was started");
    let processes = fleet["how"]["local"]["processes"].as_array().expect("a list").clone();
    processes.iter().map(|it| number(&it[0])).collect()
}

fn kill(pid: u32) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process id");
    kill_process(pid, Signal::KILL).expect("it runs");
}

#[test]
fn a_cluster_of_this_machine_runs_programs_until_it_is_stopped() {
    let house = House::new();
    let said = start(&house, &["-n", "3"]);
    assert!(said.contains("cluster `default` is up: 3 workers and 3 slots"), "{said}");
    let all = workers(&house);
    assert_eq!(all.len(), 3);
    house.assert_squares(&program("square"));
    // One is lost; the others go on.
    kill(all[1]);
    let line = format!("process {} ended badly: without a last word", all[1]);
    until("it is told of", || house.cw(&["status"]).with_code(0).stdout.contains(&line));
    house.assert_squares(&program("square"));
    let stopped = house.cw(&["stop"]).with_code(0);
    assert!(stopped.stdout.contains("the cluster `default` has ended"), "{stopped:?}");
    house.assert_ended();
    let again = house.cw(&["stop"]).with_code(0);
    assert!(again.stdout.contains("nothing of the cluster `default` is left to end"), "{again:?}");
}

#[test]
fn the_master_is_told_by_the_address_that_others_find_it_at() {
    let house = House::new();
    let said = house.cw(&["start", "--local", "-n", "1"]).with_code(0).stdout;
    // This machine may have been let in at any of them, 127.0.0.1 among them.
    let access = fs::read_to_string(house.home.file("client.json")).expect("the master wrote it");
    let access: serde_json::Value = serde_json::from_str(&access).expect("it is whole");
    let best = access["addresses"][0].as_str().expect("there is one");
    assert!(said.contains(&format!(" at {best}\n")), "{best}: {said}");
    house.cw(&["stop"]).with_code(0);
}

#[test]
fn more_workers_are_added_to_those_there_are() {
    let house = House::new();
    start(&house, &["-n", "1"]);
    let (first, master) = (workers(&house), house.master());
    let said = start(&house, &["-n", "2", "--slots", "2"]);
    assert!(said.contains("is up: 3 workers and 5 slots"), "{said}");
    assert_eq!((workers(&house).len(), workers(&house)[0]), (3, first[0]));
    assert_eq!(house.master(), master);
    house.cw(&["stop"]).with_code(0);
    house.assert_ended();
}

#[test]
fn workers_of_starts_at_once_are_all_written_down() {
    let house = House::new();
    let starts = ["1", "2", "3"].map(|count| {
        let words = [&["start", "--local", "-n", count], &LISTEN[..]].concat();
        Process::start(&mut house.home.command(cw(), &words))
    });
    let all = starts.map(|start| start.finish().with_code(0).stderr);
    assert_eq!(workers(&house).len(), 6, "{all:?}");
    assert!(
        all.iter().any(|said| said.contains("waiting for another `cw start` of this cluster")),
        "{all:?}"
    );
    let standing = house.cw(&["status"]).with_code(0);
    assert!(standing.stdout.contains("6 workers"), "{standing:?}");
    house.cw(&["stop"]).with_code(0);
    house.assert_ended();
}

#[test]
fn what_a_dead_master_left_is_stopped() {
    let house = House::new();
    start(&house, &["-n", "2"]);
    let (all, master) = (workers(&house), house.master());
    kill(master);
    until("it has ended", || !proc::is_alive(house.home.path(), master));
    assert!(all.iter().all(|pid| proc::is_alive(house.home.path(), *pid)), "they look for the next one");
    house.cw(&["stop"]).with_code(0);
    house.assert_ended();
}

#[test]
fn a_client_is_told_what_became_of_the_only_worker() {
    let house = House::new();
    start(&house, &["-n", "1"]);
    kill(workers(&house)[0]);
    let mut client = house.home.command(&program("square"), &["--cluster", "default"]);
    let client = Process::start(&mut client);
    let line = client.complained("the cluster has no worker: ");
    let words = ["all that were started have ended; `cw start` starts others", "without a last word"];
    assert!(words.iter().any(|it| line.contains(it)), "{line}");
    drop(client);
    house.cw(&["stop"]).with_code(0);
    house.assert_ended();
}

#[test]
fn a_users_own_program_starts_its_workers_from_itself() {
    let house = House::new();
    let square = program("square");
    let words = [&["cw", "start", "--local", "-n", "2", "--programs", "own"], &LISTEN[..]].concat();
    let started = house.run(&square, &words).with_code(0);
    assert!(started.stdout.contains("square --cluster default"), "{started:?}");
    house.assert_squares(&square);
    house.run(&square, &["cw", "stop"]).with_code(0);
    house.assert_ended();
}

#[test]
fn a_cluster_outlives_the_terminal_it_was_started_on() {
    let house = House::new();
    let script = format!("'{}' start --local -n 2 --listen 127.0.0.1:0", cw().display());
    let mut terminal = house.home.command(Path::new("script"), &["-qec", &script, "/dev/null"]);
    if Command::new("script").arg("--version").output().is_err() {
        return eprintln!("skipped: no script");
    }
    // Its end closes the terminal, and all in its foreground are hung up.
    let finished = Process::start(&mut terminal).finish().with_code(0);
    assert!(finished.stdout.contains("is up: 2 workers"), "{finished:?}");
    house.assert_squares(&program("square"));
    assert!(workers(&house).iter().all(|pid| proc::is_alive(house.home.path(), *pid)));
    house.cw(&["stop"]).with_code(0);
    house.assert_ended();
}

#[test]
fn workers_that_cannot_start_are_told_with_their_last_words() {
    let house = House::new();
    // They are told of an access file that is not there, and have nothing else of their caller's.
    let mut command = house.home.command(cw(), &["start", "--local", "-n", "2", "--listen", "127.0.0.1:0"]);
    command.env("CW_ACCESS", "/no/such/file").env("CW_MASTER", "127.0.0.1:1").env("CW_IDLE", "bad");
    let finished = Process::start(&mut command).finish().with_code(17);
    assert!(finished.stderr.contains("exit code 10"), "{finished:?}");
    assert!(finished.stderr.contains("/no/such/file"), "{finished:?}");
    house.cw(&["stop"]).with_code(0);
    house.assert_ended();
}

#[test]
fn a_dry_run_shows_what_would_be_run_and_starts_nothing() {
    let house = House::new();
    let said = start(&house, &["-n", "2", "--dry-run"]);
    let worker = format!("{} worker --cluster default --slots 1 < /dev/null > ", cw().display());
    assert_eq!(said.matches(&worker).count(), 2, "{said}");
    assert!(!house.home.file("").exists());
    house.assert_ended();
}

/// The cluster was one of Slurm's before.
#[test]
fn where_there_is_no_slurm_nothing_is_said_of_its_jobs() {
    let house = House::new();
    start(&house, &["-n", "1"]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs();
    let ended = house.home.file("ended.json");
    fs::write(&ended, format!(r#"{{"version": 1, "ids": [["aa", {now}]]}}"#)).expect("there is room");
    fs::set_permissions(&ended, Permissions::from_mode(0o600)).expect("just made");
    let mut stop = house.home.command(cw(), &["stop"]);
    let stopped = Process::start(stop.env("PATH", "/nowhere")).finish().with_code(0);
    assert!(stopped.stdout.contains("has ended") && !stopped.stdout.contains("Slurm"), "{stopped:?}");
    house.assert_ended();
}
