//! What people read, as they read it.

use std::{net::SocketAddr, path::PathBuf};

use cw_core::ids::ClientId;

use super::*;
use crate::launch::fleet::Slurm;

fn worker(number: u32, state: WorkerState) -> WorkerStanding {
    WorkerStanding {
        worker: WorkerId(number),
        name: format!("cw{number}:71"),
        program_name: "cw".to_owned(),
        slots: 4,
        running: 4,
        ahead: 300,
        state,
        left: (number > 1).then_some(3_700),
        address: format!("10.0.0.{number}:40000"),
    }
}

fn client(number: u32, stall: Option<&str>) -> ClientStanding {
    ClientStanding {
        client: ClientId(number),
        name: format!("login:{number}"),
        program_name: "ising".to_owned(),
        queued: 12_345,
        running: 8,
        done: 1_234_567,
        failed: 3,
        stall: stall.map(str::to_owned),
        is_away: stall.is_none(),
    }
}

fn view(workers: Vec<WorkerStanding>, clients: Vec<ClientStanding>) -> View {
    let standing = Standing {
        epoch: 2,
        version: "0.1.0".to_owned(),
        name: "login:70".to_owned(),
        seconds: 90_000,
        workers,
        clients,
        outlook: Some("2 pend: Resources".to_owned()),
    };
    let address = SocketAddr::from(([10, 0, 0, 9], 5494));
    View {
        cluster: "lab".to_owned(),
        folder: PathBuf::from("/home/ada/.cw/lab"),
        master: Ok(Found { address, standing }),
        fleet: Ok(None),
        jobs: None,
        others: None,
        notes: Vec::new(),
    }
}

fn fleet() -> Fleet {
    Fleet {
        version: 1,
        id: "3fa9".to_owned(),
        cluster: "lab".to_owned(),
        home: PathBuf::from("/home/ada/.cw"),
        command: Vec::new(),
        master: MasterAt::Job { id: "70".to_owned() },
        how: How::Slurm(Slurm::default()),
        workers: 64,
        min: 0,
        max: 200,
        slots: 1,
        idle: Some(Duration::from_secs(300)),
        container: None,
        is_started: true,
        wait: Duration::from_secs(600),
    }
}

fn job(id: &str, what: What, state: State) -> Launched {
    Launched { id: id.to_owned(), what, state }
}

#[test]
fn nobody_is_there() {
    let shown = of(&view(Vec::new(), Vec::new()));
    assert_eq!(
        shown,
        "cluster `lab`: the master answers at 10.0.0.9:5494\n  login:70, up for 1d 01h, epoch 2, cw 0.1.0\n\n\
         no worker\n  2 pend: Resources\n\nno client\n"
    );
}

#[test]
fn those_who_are_there_are_not_being_started() {
    let shown = |workers| {
        let mut view = view(workers, Vec::new());
        view.master.as_mut().map(|found| found.standing.outlook = Some(STARTING.to_owned())).ok();
        of(&view).contains(STARTING)
    };
    assert!(shown(Vec::new()));
    assert!(!shown(vec![worker(1, WorkerState::Well)]));
}

#[test]
fn some_are_there() {
    let workers = vec![worker(1, WorkerState::Well), worker(2, WorkerState::SetAside)];
    let clients = vec![client(11, Some("the cluster has no worker: 2 pend: Resources")), client(12, None)];
    let shown = of(&view(workers, clients));
    let rest = shown.split_once("\n\n").unwrap().1;
    assert_eq!(
        rest,
        "\
2 workers (1 set aside), 8 slots: 8 running, 600 waiting
  worker  slots  running  waiting  state      time left  program  address
  cw1:71      4        4      300  well               -  cw       10.0.0.1:40000
  cw2:71      4        4      300  set aside     1h 01m  cw       10.0.0.2:40000

2 clients
  client    program       done  failed  running  queued
  login:11  ising    1,234,567       3        8  12,345
  login:12  ising    1,234,567       3        8  12,345  away
  login:11: nothing moves: the cluster has no worker: 2 pend: Resources
"
    );
}

#[test]
fn of_very_many_those_have_a_line_that_are_not_well() {
    let state = |n| if n % 100 == 7 { WorkerState::Away } else { WorkerState::Well };
    let shown = of(&view((0..1_000).map(|n| worker(n, state(n))).collect(), Vec::new()));
    assert!(
        shown.contains("1,000 workers (10 away), 4,000 slots: 4,000 running, 300,000 waiting\n"),
        "{shown}"
    );
    assert!(shown.contains("  and 990 workers, all well (--json names each)\n"), "{shown}");
    assert_eq!(shown.lines().filter(|line| line.contains(" away ")).count(), 10);
}

#[test]
fn what_was_started_is_told_in_groups() {
    let pends = |why: &str| State::Pending { why: why.to_owned(), in_line: true };
    let runs = |on: &str| State::Running { on: on.to_owned() };
    let ended = |is_well, how: &str, last: &[&str]| {
        let last = last.iter().map(|it| (*it).to_owned()).collect();
        State::Ended(End { is_well, how: how.to_owned(), on: Some("cw3".to_owned()), last })
    };
    let mut jobs = vec![job("70", What::Master, runs("cw1"))];
    jobs.extend((0..52).map(|n| job(&format!("77_{n}"), What::Worker, pends("Resources"))));
    let others = [runs("cw1"), runs("cw1"), runs("cw2"), pends("Priority"), ended(true, "TIMEOUT", &[])];
    jobs.extend(others.map(|state| job("78_1", What::Worker, state)));
    jobs.push(job("78_9", What::Worker, ended(false, "exit code 1", &["a", "b", "c", "error: no route"])));
    let others = Some("jobs of another".to_owned());
    let view =
        View { fleet: Ok(Some(fleet())), jobs: Some(Ok(jobs)), others, ..view(Vec::new(), Vec::new()) };
    let shown = of(&view);
    assert_eq!(
        shown.split_once("no client\n\n").unwrap().1,
        "\
started: 64 workers of 1 slot under Slurm, kept between 0 and 200; idle ones end after 5m 00s; the master as job 70
  the master, 70, runs on cw1
  3 running on cw1 (2), cw2
  1 pends: Priority
  52 pend: Resources
  1 ended well
  78_9 ended badly: exit code 1 on cw3
    b
    c
    error: no route
  and jobs of another
"
    );
}

#[test]
fn a_master_that_is_gone_is_told_of_with_its_last_words() {
    let gone = Gone {
        code: 12,
        why: "10.0.0.9:5494: no answer".to_owned(),
        has_ended: true,
        last: Some((70, "login".to_owned())),
        log: vec!["a fault".to_owned()],
    };
    let refused = Err("squeue: Unable to contact slurm controller".to_owned());
    let shown = of(&View {
        master: Err(gone),
        fleet: Ok(Some(fleet())),
        jobs: Some(refused),
        ..view(Vec::new(), Vec::new())
    });
    let begin = "\
cluster `lab`: the master has ended; the last was login:70
  10.0.0.9:5494: no answer
  the end of /home/ada/.cw/lab/log/master.log:
    a fault

started: ";
    assert!(shown.starts_with(begin), "{shown}");
    let end = "  what has become of it is not known: squeue: Unable to contact slurm controller\n";
    assert!(shown.ends_with(end), "{shown}");
}

#[test]
fn last_words_are_said_once() {
    let words = "2 workers were of no use; the last: worker 78_9: exit code 1 on cw3: no route";
    let end =
        End { is_well: false, how: "exit code 1".to_owned(), on: None, last: vec!["no route".to_owned()] };
    let shown = |id: &str, stall: Option<&str>| {
        let mut client = client(11, stall);
        client.name.clear();
        let mut view = view(Vec::new(), vec![client]);
        view.master.as_mut().map(|found| found.standing.outlook = Some(words.to_owned())).ok();
        view.fleet = Ok(Some(fleet()));
        view.jobs = Some(Ok(vec![job(id, What::Worker, State::Ended(end.clone()))]));
        of(&view)
    };
    let listed = shown("78_9", None);
    assert!(listed.contains("no worker\n  2 workers were of no use\n\n"), "{listed}");
    assert_eq!(listed.matches("no route").count(), 1, "{listed}");
    let stall = format!("the cluster has no worker: {words}");
    let listed = shown("78_9", Some(&stall));
    let line = "  client-11: nothing moves: the cluster has no worker: 2 workers were of no use\n";
    assert!(listed.contains(line), "{listed}");
    assert_eq!((listed.matches("no route").count(), listed.matches("of no use").count()), (1, 1), "{listed}");
    assert!(shown("77_1", None).contains(words), "of that one nothing is said elsewhere");
}
