//! Flags, addresses, sizes, builds and datagrams that are wrong: one line, a code of its own, and nobody else notices.

use std::{
    fs,
    net::UdpSocket,
    process::Command,
    time::{Duration, Instant},
};

use crate::support::{Cluster, Home, Process, Signal, everywhere, only_error, program};

const USAGE: i32 = 2;
const ACCESS: i32 = 10;
const LISTEN: i32 = 11;
const NO_MASTER: i32 = 12;
const OTHER_BUILD: i32 = 14;

/// What has to end by itself ends this soon; the machine may be busy.
const SOON: Duration = Duration::from_secs(8);

#[test]
fn wrong_flags_are_told() {
    let home = Home::new();
    for (flags, named) in [
        (&["--nonsense"][..], "--nonsense"),
        (&["--slots", "0"], "--slots"),
        (&["--slots", "many"], "--slots"),
        (&["--role", "king"], "--role"),
        (&["--connect-timeout", "soon"], "--connect-timeout"),
        (&["--listen", "here"], "--listen"),
        (&["--threads", "--cluster", "default"], "--threads"),
    ] {
        let finished = home.program(flags, &["spawn"]).finish_within(SOON).with_code(USAGE);
        assert!(only_error(&finished).contains(named), "{finished:?}");
        assert_eq!(finished.stdout, "", "{finished:?}");
    }
    for role in ["master", "worker"] {
        let finished = home.start(&["--role", role, "--slots", "0"]).finish_within(SOON).with_code(USAGE);
        assert!(only_error(&finished).contains("--slots"), "{finished:?}");
    }
    for times in [["--lost-after", "1s"], ["--suspect-after", "50ms"]] {
        let finished = home.start(&["--role", "master", times[0], times[1]]);
        let finished = finished.finish_within(SOON).with_code(USAGE);
        assert!(only_error(&finished).contains(times[0]), "{finished:?}");
    }
    let mut command = home.command(&program("it_program"), &["--role", "worker"]);
    let finished = Process::start(command.env("CW_SLOTS", "0")).finish_within(SOON).with_code(USAGE);
    assert!(only_error(&finished).contains("'0'"), "{finished:?}");
}

#[test]
fn a_client_needs_the_programs_own_flags() {
    let home = Home::new();
    let finished = home.start(&["--cluster", "default", "spawn"]).finish_within(SOON).with_code(USAGE);
    assert!(only_error(&finished).contains("required") && finished.stderr.contains("--dir"), "{finished:?}");
}

#[test]
fn a_name_that_is_no_folders_is_refused() {
    let home = Home::new();
    for role in ["master", "worker", "client"] {
        let flags = ["--role", role, "--cluster", "../elsewhere"];
        let finished = home.program(&flags, &["spawn"]).finish_within(SOON).with_code(ACCESS);
        assert!(only_error(&finished).contains("../elsewhere: not a name"), "{finished:?}");
    }
}

#[test]
fn a_master_that_does_not_answer_is_given_up_in_time() {
    let home = Home::new();
    let master = home.master();
    let line = master.said("join:");
    let address = line.split_whitespace().nth(5).expect("an address").trim_end_matches(';').to_owned();
    master.signal(Signal::KILL);
    drop(master);
    // Once with a port that is closed, once with one that swallows everything.
    let closed = home.program(&["--cluster", "default", "--connect-timeout", "1s"], &["spawn"]);
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let silent = silent.local_addr().expect("bound").to_string();
    let flags = ["--cluster", "default", "--master", &silent, "--connect-timeout", "1s"];
    let swallowed = home.program(&flags, &["spawn"]);
    let worker = home.start(&["--role", "worker", "--connect-timeout", "1s"]);
    for (process, address) in [(closed, &address), (worker, &address), (swallowed, &silent)] {
        let finished = process.finish_within(SOON).with_code(NO_MASTER);
        let line = only_error(&finished);
        assert!(line.contains(address.as_str()) && line.contains("gave up after 1s"), "{line}");
    }
}

#[test]
fn a_port_in_use_is_told() {
    let home = Home::new();
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let finished =
        home.start(&["--role", "master", "--listen", &address]).finish_within(SOON).with_code(LISTEN);
    let line = only_error(&finished);
    assert!(line.contains(&address) && line.contains("in use"), "{line}");

    // Nor is an address of another machine one of ours.
    let flags = ["--role", "master", "--listen", "192.0.2.1:5494"];
    let finished = home.start(&flags).finish_within(SOON).with_code(LISTEN);
    assert!(only_error(&finished).contains("192.0.2.1:5494"), "{finished:?}");
}

#[test]
fn a_second_master_of_a_cluster_is_refused() {
    let mut cluster = Cluster::start(1);
    let flags = ["--role", "master", "--listen", "127.0.0.1:0"];
    let finished = cluster.home.start(&flags).finish_within(SOON).with_code(ACCESS);
    let line = only_error(&finished);
    let holder = format!("in use by a running master (process {} on ", cluster.master.pid());
    assert!(line.contains(&holder), "{line}");
    cluster.assert_well();
}

#[test]
fn arguments_and_results_over_the_limit_are_refused_and_hurt_nobody() {
    everywhere(&["large"]);
}

#[test]
fn a_job_may_set_its_own_limit_below_and_above_the_default() {
    everywhere(&["own-limits"]);
}

#[test]
fn another_build_is_told_soon_and_refused_in_the_end_where_workers_run_their_own_only() {
    let mut cluster = Cluster::start(0);
    cluster.add_worker(&["--programs", "own"]);
    let copy = cluster.home.path().join("it_program");
    // By a process of its own: what this one has open for writing, a child of another test may hold and so keep
    // from being executed.
    let mut copied = Command::new("sh");
    copied.args(["-c", "cp \"$0\" \"$1\" && echo >> \"$1\""]);
    assert!(copied.arg(program("it_program")).arg(&copy).status().expect("there is a shell").success());

    let start = Instant::now();
    let flags = ["--cluster", "default", "--dir", ".", "spawn"];
    let other = Process::start(&mut cluster.home.command(&copy, &flags));
    let line = other.complained("none of the 1 connected workers runs this build");
    assert!(start.elapsed() < SOON, "said after {:?}", start.elapsed());
    assert!(line.contains("build"), "{line}");
    // Meanwhile the cluster serves those it can serve.
    cluster.assert_well();

    let builds = [build_in(&cluster.master.complained("client")), build_in(&line)];
    let finished = other.finish().with_code(OTHER_BUILD);
    let line = finished.stderr.lines().find(|line| line.contains("no worker runs this build"));
    let line = line.unwrap_or_else(|| panic!("nobody says why: {finished:?}"));
    assert!(builds.iter().all(|build| line.contains(build)), "{line} names {builds:?}");
    assert_ne!(builds[0], builds[1]);
    cluster.assert_well();
}

/// The build a line names.
fn build_in(line: &str) -> String {
    let (_, after) = line.rsplit_once("build ").unwrap_or_else(|| panic!("no build in: {line}"));
    after.chars().take_while(char::is_ascii_hexdigit).collect()
}

#[test]
fn garbage_datagrams_change_nothing() {
    let mut cluster = Cluster::start(1);
    let file = fs::read(cluster.home.file("client.json")).expect("the master wrote it");
    let access: serde_json::Value = serde_json::from_slice(&file).expect("JSON");
    let address = access["addresses"][0].as_str().expect("an address");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.connect(address).expect("an address of this machine");

    let client = cluster.client(&["naps", "200"]);
    client.said("20 results");
    let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
    for _ in 0..10_000 {
        let datagram = noise.datagram();
        // A full buffer drops it, as it should.
        let _ = socket.send(&datagram);
    }
    client.finish().well();
    cluster.assert_well();
}

/// Random numbers (xorshift, Marsaglia 2003), the same in each run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn datagram(&mut self) -> Vec<u8> {
        let bytes = 1 + self.next() as usize % 1400;
        let mut datagram: Vec<u8> = (0..bytes).map(|_| self.next() as u8).collect();
        // Half of them look like the long header of QUIC version 1 (RFC 9000, section 17.2).
        if self.next().is_multiple_of(2) && bytes > 5 {
            datagram[0] |= 0xC0;
            datagram[1..5].copy_from_slice(&[0, 0, 0, 1]);
        }
        datagram
    }
}

#[test]
fn an_inherited_executors_environment_makes_no_executor() {
    let home = Home::new();
    let mut command = home.command(&program("it_program"), &["--dir", ".", "--slots", "1", "spawn"]);
    Process::start(command.env("CW_EXECUTOR", "1-2")).finish().well();
}
