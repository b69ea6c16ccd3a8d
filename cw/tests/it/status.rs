//! `cw status`: what it shows is what is there, and where nothing answers it says so soon.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Cluster, Finished, Home, Process, Signal, only_error, until};

const NO_MASTER: i32 = 12;
const REFUSED: i32 = 13;

fn start(home: &Home, words: &[&str]) -> Process {
    home.start(&[&["cw", "status"], words].concat())
}

fn status(home: &Home, words: &[&str]) -> Finished {
    start(home, words).finish()
}

fn object(home: &Home) -> Value {
    let finished = status(home, &["--json"]).with_code(0);
    serde_json::from_str(&finished.stdout).expect("it is JSON")
}

/// The numbers of tasks of the only client there is.
fn counts(seen: &Value) -> Option<[u64; 4]> {
    let [client] = &seen["clients"].as_array()?[..] else { return None };
    Some(["queued", "running", "done", "failed"].map(|name| client[name].as_u64().expect("a number")))
}

fn sum(seen: &Value, name: &str) -> u64 {
    let workers = seen["workers"].as_array().expect("a list");
    workers.iter().map(|worker| worker[name].as_u64().expect("a number")).sum()
}

#[test]
fn what_runs_is_shown_as_it_is() {
    let cluster = Cluster::start(2);
    let client = cluster.client(&["held", "4"]);
    client.said("all run");
    let behind = cluster.client(&["naps", "30"]);
    let mut seen = Value::Null;
    until("the other client's tasks wait", || {
        seen = object(&cluster.home);
        seen["clients"].as_array().is_some_and(|clients| clients.len() == 2 && clients[1]["queued"] == 30)
    });
    let process =
        |of: &Process| format!("{}:{}", rustix::system::uname().nodename().to_str().unwrap(), of.pid());
    let master = &seen["master"];
    assert_eq!((&master["is_up"], &master["name"]), (&json!(true), &json!(process(&cluster.master))));
    assert!(master["address"].as_str().is_some_and(|it| it.starts_with("127.0.0.1:")), "{master}");
    let names: Vec<&Value> = seen["workers"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert!(
        names.len() == 2 && cluster.workers.iter().all(|it| names.contains(&&json!(process(it)))),
        "{seen}"
    );
    assert_eq!((sum(&seen, "slots"), sum(&seen, "running")), (4, 4), "{seen}");
    assert!(seen["workers"].as_array().unwrap().iter().all(|it| it["state"] == "well"), "{seen}");
    let [first, second] = &seen["clients"].as_array().unwrap()[..] else { panic!("{seen}") };
    assert_eq!((&first["name"], &first["program"]), (&json!(process(&client)), &json!("it_program")));
    assert_eq!((&first["running"], &first["queued"], &first["done"]), (&json!(4), &json!(0), &json!(0)));
    assert_eq!((&second["running"], &second["done"], &second["failed"]), (&json!(0), &json!(0), &json!(0)));

    let shown = status(&cluster.home, &[]).with_code(0).stdout;
    for line in
        ["cluster `default`: the master answers at 127.0.0.1:", "2 workers, 4 slots: 4 running", "2 clients"]
    {
        assert!(shown.lines().any(|it| it.starts_with(line)), "{line}: {shown}");
    }
    let row = format!("  {} ", process(&client));
    let row: Vec<&str> =
        shown.lines().find(|it| it.starts_with(&row)).expect(&shown).split_whitespace().collect();
    assert_eq!(row[1..], ["it_program", "0", "0", "4", "0"], "{shown}");

    let dir = client.said("dir ");
    fs::write(format!("{}/open", dir.strip_prefix("dir ").unwrap()), "").unwrap();
    client.finish().well();
    behind.finish().well();
    assert_eq!(object(&cluster.home)["clients"], json!([]), "they have left");
}

#[test]
fn what_has_ended_is_counted() {
    let cluster = Cluster::start(1);
    // It fails 4 tasks, crashes at some, and then stands still.
    let client = cluster.client(&["hold"]);
    let mut seen = Value::Null;
    until("it runs", || {
        seen = object(&cluster.home);
        counts(&seen).is_some_and(|[_, running, ..]| running == 1)
    });
    assert_eq!(counts(&seen), Some([0, 1, 0, 0]));
    client.signal(Signal::INT);
    client.finish();
    let naps = cluster.client(&["naps", "500"]);
    naps.said("100 results");
    let [queued, running, done, failed] = counts(&object(&cluster.home)).expect("one client");
    assert!(
        (100..=500).contains(&done) && queued + running + done <= 500 && failed == 0,
        "{queued} {running} {done}"
    );
    naps.finish().well();
}

#[test]
fn without_such_a_cluster_it_says_which_there_are() {
    let home = Home::new();
    let finished = status(&home, &[]).with_code(NO_MASTER);
    let line = only_error(&finished);
    assert!(
        line.contains("there is no cluster `default`")
            && line.contains("`cw start` or `cw master` makes one"),
        "{line}"
    );
    let _master =
        home.start(&["--role", "master", "--cluster", "lab", "--listen", "127.0.0.1:0"]).said("join:");
    let finished = status(&home, &["--json"]).with_code(NO_MASTER);
    assert!(only_error(&finished).contains("there is `lab`: add --cluster lab"), "{finished:?}");
    let bad = status(&home, &["--cluster", "../x"]).with_code(10);
    assert!(only_error(&bad).contains("not a name for a cluster"), "{bad:?}");
}

#[test]
fn a_master_that_was_killed_is_missed_at_once_and_the_end_of_its_log_is_shown() {
    let cluster = Cluster::start(0);
    let pid = cluster.master.pid();
    cluster.master.signal(Signal::KILL);
    cluster.master.finish();
    let log = cluster.home.file("log");
    fs::create_dir(&log).unwrap();
    fs::write(log.join("master.log"), "its first line\nits last words\n").unwrap();
    let began = Instant::now();
    let finished = status(&cluster.home, &[]).with_code(NO_MASTER);
    assert!(began.elapsed() < Duration::from_secs(10));
    for part in ["the master has ended", &format!(":{pid}"), "127.0.0.1:", "    its last words"] {
        assert!(finished.stdout.contains(part), "{part}: {finished:?}");
    }
    assert_eq!(finished.stderr, "");
    let finished = status(&cluster.home, &["--json"]).with_code(NO_MASTER);
    let seen: Value = serde_json::from_str(&finished.stdout).expect("it is JSON");
    assert_eq!((&seen["master"]["is_up"], &seen["master"]["has_ended"]), (&json!(false), &json!(true)));
    assert_eq!((&seen["workers"], &seen["clients"], &seen["fleet"]), (&json!([]), &json!([]), &Value::Null));
}

#[test]
fn a_master_that_hangs_is_not_waited_for_long() {
    let cluster = Cluster::start(0);
    cluster.master.signal(Signal::STOP);
    let finished = status(&cluster.home, &["--connect-timeout", "1s"]).with_code(NO_MASTER);
    assert!(finished.stdout.contains("no master answers; the last was"), "{finished:?}");
    cluster.master.signal(Signal::CONT);
    status(&cluster.home, &["--connect-timeout", "30s"]).with_code(0);
}

#[test]
fn a_strangers_key_looks_at_nothing() {
    let (cluster, other) = (Cluster::start(0), Cluster::start(0));
    let read = |home: &Home| -> Value {
        serde_json::from_slice(&fs::read(home.file("client.json")).unwrap()).unwrap()
    };
    let mut forged = read(&cluster.home);
    forged["identity"] = read(&other.home)["identity"].clone();
    let home = Home::new();
    fs::create_dir(home.path().join("default")).unwrap();
    fs::write(home.file("client.json"), forged.to_string()).unwrap();
    fs::set_permissions(home.file("client.json"), Permissions::from_mode(0o600)).unwrap();
    let finished = status(&home, &["--connect-timeout", "30s"]).with_code(REFUSED);
    assert!(
        finished.stdout.contains("no master answers\n") && finished.stdout.contains("127.0.0.1:"),
        "{finished:?}"
    );
    cluster.master.complained("refused 127.0.0.1:");
}

#[test]
fn a_watcher_tells_of_changes_goes_on_with_the_next_master_and_ends_well() {
    let home = Home::new();
    let master = home.master();
    let (watch, lines) = (start(&home, &["--watch"]), start(&home, &["--watch", "--json"]));
    watch.said("no worker");
    let worker = home.worker(2);
    watch.said("1 worker, 2 slots: 0 running");
    let before = watch.so_far().matches("the master answers at").count();
    master.signal(Signal::KILL);
    master.finish();
    watch.said("the master has ended");
    let _next = home.master();
    until("it sees the next master and its worker", || {
        let shown = watch.so_far();
        let (_, since) = shown.split_once("the master has ended").unwrap();
        since.contains("epoch 2") && since.contains("1 worker, 2 slots: 0 running")
    });
    assert!(before <= 4, "only what has changed is told: {}", watch.so_far());
    until("so do the lines", || {
        let said = lines.so_far();
        let whole = said.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let seen: Vec<Value> =
            whole.map(|line| serde_json::from_str(line).expect("each is an object")).collect();
        let ups: Vec<bool> = seen.iter().map(|it| it["master"]["is_up"] == true).collect();
        ups.first() == Some(&true) && ups.contains(&false) && ups.last() == Some(&true)
    });
    for watcher in [watch, lines] {
        watcher.signal(Signal::INT);
        watcher.finish().with_code(0);
    }
    drop(worker);
}

#[test]
fn a_cluster_that_is_stopped_ends_well_and_a_client_is_told_why() {
    let cluster = Cluster::start(2);
    let client = cluster.client(&["held", "4"]);
    client.said("all run");
    let began = Instant::now();
    let stopped = cluster.home.start(&["cw", "stop"]).finish().with_code(0);
    assert!(stopped.stdout.contains("2 workers"), "{stopped:?}");
    client.complained("the cluster was stopped");
    for worker in cluster.workers {
        let worker = worker.finish().with_code(0);
        assert!(worker.stderr.contains("the cluster is stopped; leaving"), "{worker:?}");
    }
    let master = cluster.master.finish().with_code(0);
    assert!(master.stderr.contains("waiting for 2 workers to leave"), "{master:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "nobody was waited for in vain");
    // Tasks that were cut off count as never tried: the next workers run them.
    let home = cluster.home;
    let (_master, _worker) = (home.master(), home.worker(4));
    let dir = client.said("dir ");
    fs::write(format!("{}/open", dir.strip_prefix("dir ").unwrap()), "").unwrap();
    let finished = client.finish().well();
    assert!((0..4).all(|n| finished.stdout.contains(&format!("{n} gave "))), "{finished:?}");
}

#[test]
fn who_cannot_reach_the_master_is_named_with_address_and_cause() {
    let cluster = Cluster::start(0);
    let lost = cluster.home.start(&["--role", "worker", "--master", "127.0.0.1:1"]);
    let mut seen = Value::Null;
    until("its note is there", || {
        seen = object(&cluster.home)["notes"].clone();
        seen != json!([])
    });
    assert!(seen[0]["name"].as_str().unwrap().ends_with(&format!(":{}", lost.pid())), "{seen}");
    assert!(seen[0]["why"].as_str().unwrap().contains("127.0.0.1:1"), "{seen}");
    let shown = status(&cluster.home, &[]).with_code(0).stdout;
    assert!(shown.contains("1 process is not connected") && shown.contains("127.0.0.1:1"), "{shown}");
}
