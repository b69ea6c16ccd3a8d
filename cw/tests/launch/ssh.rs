//! `cw start --ssh`, against a real server.

use std::{fs, path::PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    house::House,
    sshd::Machine,
    support::{Finished, proc, stripped, until},
};

/// A house, a machine, and a program in the house.
struct Place {
    // What runs there loses its master last.
    machine: Machine,
    house: House,
    program: PathBuf,
}

impl Place {
    /// One whose machine does not see the house's files.
    fn apart() -> Option<Self> {
        let house = House::new();
        let machine = Machine::start_without(house.home.path())?;
        Some(Self::of(house, machine))
    }

    fn together() -> Option<Self> {
        let house = House::new();
        let machine = Machine::start()?;
        Some(Self::of(house, machine))
    }

    fn of(house: House, machine: Machine) -> Self {
        let program = stripped(&house.home, "square", "sim");
        Self { machine, house, program }
    }

    /// The house's own program is told to start a cluster on these hosts.
    fn start(&self, hosts: &str, words: &[&str]) -> Finished {
        let file = self.house.home.path().join("hosts.txt");
        fs::write(&file, hosts).expect("it can be written");
        let config = self.machine.config("n1 n2");
        let start = ["cw", "start", "--ssh", file.to_str().expect("plain names"), "--ssh-args", &config];
        self.house.run(&self.program, &[&start, words].concat())
    }

    fn stop(&self) -> Finished {
        self.house.run(&self.program, &["cw", "stop"])
    }
}

const LISTEN: [&str; 2] = ["--listen", "127.0.0.1:0"];

#[test]
fn a_program_is_sent_where_it_is_not_seen_and_nothing_remains() {
    let Some(place) = Place::apart() else { return };
    let started = place.start("n1 slots=2\n# the other\nn2 slots=1\n", &LISTEN).with_code(0);
    assert!(started.stdout.contains("cluster `default` is up: 2 workers and 3 slots"), "{started:?}");
    let (sent, workers) = (place.machine.programs(), place.machine.workers());
    assert_eq!((sent.len(), workers.len()), (1, 2), "{sent:?} {workers:?}");
    assert_eq!(sent[0].0.len(), 64, "it is called by its hash");
    place.house.assert_squares(&place.program);
    // They run already, and have all they need.
    place.start("n1 slots=2\nn2 slots=1\n", &LISTEN).with_code(0);
    assert_eq!((place.machine.programs(), place.machine.workers()), (sent, workers));
    place.stop().with_code(0);
    place.machine.assert_empty();
    place.house.assert_ended();
}

#[test]
fn a_shared_home_is_used_and_nothing_is_sent() {
    let Some(place) = Place::together() else { return };
    place.start("n1 slots=1", &LISTEN).with_code(0);
    assert_eq!(place.machine.programs(), []);
    let [(folder, _)] = &place.machine.workers()[..] else { panic!("one worker") };
    assert!(!place.machine.cache().join(folder).join("home").exists(), "it has no key of its own");
    place.house.assert_squares(&place.program);
    place.stop().with_code(0);
    place.machine.assert_empty();
    place.house.assert_ended();
}

#[test]
fn a_host_that_is_not_reached_is_named_and_the_others_go_on() {
    let Some(place) = Place::apart() else { return };
    let started = place.start("dead7\nn1\n", &LISTEN).with_code(0);
    let line = "dead7 ended: was not started: ssh: connect to host 127.0.0.1 port 1: Connection refused";
    assert!(started.stderr.contains(line), "{started:?}");
    assert!(started.stdout.contains("is up: 1 worker "), "{started:?}");
    place.house.assert_squares(&place.program);
    place.stop().with_code(0);
    place.machine.assert_empty();
    place.house.assert_ended();
}

#[test]
fn where_no_host_is_reached_nothing_is_started() {
    let Some(place) = Place::together() else { return };
    let started = place.start("dead1\ndead2\n", &LISTEN).with_code(17);
    let said = |host: &str| format!("{host}: ssh: connect to host 127.0.0.1 port 1: Connection refused");
    assert!(
        started.stderr.contains(&said("dead1")) && started.stderr.contains(&said("dead2")),
        "{started:?}"
    );
    place.house.assert_ended();
    place.machine.assert_empty();
}

#[test]
fn a_worker_that_was_killed_is_started_again() {
    let Some(place) = Place::apart() else { return };
    place.start("n1\nn2\n", &LISTEN).with_code(0);
    let before = place.machine.workers();
    let killed = before[0].1;
    kill_process(Pid::from_raw(killed.cast_signed()).expect("a process id"), Signal::KILL).expect("it runs");
    let status = || place.house.run(&place.program, &["cw", "status"]).with_code(0);
    until("it is told of", || status().stdout.contains("n1 ended badly: killed by signal 9"));
    let sent = place.machine.programs();
    place.start("n1\nn2\n", &LISTEN).with_code(0);
    let after = place.machine.workers();
    assert_ne!(after[0], before[0]);
    assert_eq!((&after[1], place.machine.programs()), (&before[1], sent));
    place.house.assert_squares(&place.program);
    place.stop().with_code(0);
    place.machine.assert_empty();
    place.house.assert_ended();
}

#[test]
fn what_cannot_be_reached_any_more_is_left_and_named_until_it_can() {
    let Some(place) = Place::apart() else { return };
    place.start("n1\nn2\n", &LISTEN).with_code(0);
    // n2 cannot be reached from now on, and its worker finds no master to be told by.
    let master = place.house.master();
    kill_process(Pid::from_raw(master.cast_signed()).expect("a process id"), Signal::KILL).expect("it runs");
    until("it has ended", || !proc::is_alive(place.house.home.path(), master));
    let config = place.machine.config("n1");
    let config_file = config.trim_start_matches("-F ").to_owned();
    let text = fs::read_to_string(&config_file).expect("it is there");
    fs::write(&config_file, format!("Host n2\n  HostName 127.0.0.1\n  Port 1\n{text}"))
        .expect("it can be written");
    let stopped = place.stop().with_code(17);
    let line = "on 1 of 2 hosts: n2: ssh: connect to host 127.0.0.1 port 1: Connection refused";
    assert!(stopped.stderr.contains(line), "{stopped:?}");
    assert_eq!(place.machine.workers().len(), 1);
    place.machine.config("n1 n2");
    place.stop().with_code(0);
    place.machine.assert_empty();
    place.house.assert_ended();
}

#[test]
fn a_hosts_file_that_makes_no_sense_starts_nothing() {
    let Some(place) = Place::together() else { return };
    let started = place.start("n1\nn2 cores=4\n", &LISTEN).with_code(2);
    assert!(started.stderr.contains("hosts.txt: line 2: what is `cores=4`?"), "{started:?}");
    place.house.assert_ended();
}
