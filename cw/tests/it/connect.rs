//! What stands between a process and its master: told with address and cause, to whoever reads its log and to whoever reads
//! the notes in the cluster's folder.

use std::{
    fs::{self, Permissions},
    net::UdpSocket,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::Duration,
};

use crate::support::{Home, Process, only_error, program, until};

/// Within this a process has to say what stands in its way.
const SOON: Duration = Duration::from_secs(10);

/// The notes there are in the default cluster's folder.
fn notes(home: &Home) -> Vec<serde_json::Value> {
    let entries = fs::read_dir(home.file("notes")).into_iter().flatten().flatten();
    // One that is being replaced is not there for a moment.
    entries.filter_map(|entry| serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()).collect()
}

/// The only note, once there is one that says so.
fn note(home: &Home, what: &str) -> serde_json::Value {
    let said = |note: &serde_json::Value| note["why"].as_str().is_some_and(|why| why.contains(what));
    until(&format!("a note says: {what}"), || notes(home).iter().any(said));
    let [note] = <[_; 1]>::try_from(notes(home)).expect("one note");
    note
}

/// Has an access file of the default cluster name other addresses.
fn readdress(home: &Home, role: &str, addresses: &[&str]) {
    let file = home.file(&format!("{role}.json"));
    let mut whole: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    whole["addresses"] = serde_json::json!(addresses);
    replace(&file, whole.to_string().as_bytes());
}

fn replace(file: &Path, bytes: &[u8]) {
    let new = file.with_extension("new");
    fs::write(&new, bytes).unwrap();
    fs::set_permissions(&new, Permissions::from_mode(0o600)).unwrap();
    fs::rename(new, file).unwrap();
}

#[test]
fn each_address_is_told_with_its_cause_in_the_log_and_in_a_note_until_the_master_is_reached() {
    let home = Home::new();
    let master = home.master();
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let silent_at = silent.local_addr().expect("bound").to_string();
    let closed_at = UdpSocket::bind("127.0.0.1:0").expect("a free port").local_addr().unwrap().to_string();
    let files =
        ["client", "worker"].map(|role| (role, fs::read(home.file(&format!("{role}.json"))).unwrap()));
    for role in ["client", "worker"] {
        readdress(&home, role, &[&silent_at, &closed_at, "no..such..host:5494"]);
    }
    let started = std::time::Instant::now();
    let (worker, client) = (home.worker(1), home.client(&["spawn"]));
    let causes = [
        format!("{silent_at}: no answer in "),
        format!("{closed_at}: nothing listens there (connection refused)"),
        "no..such..host:5494: the name cannot be resolved: ".to_owned(),
    ];
    for early in [&worker, &client] {
        let line = early.complained(&causes[1]);
        assert!(causes.iter().all(|cause| line.contains(cause)), "{line}");
        assert!(line.contains("addresses from ") && line.contains("see --connect-timeout"), "{line}");
    }
    let left = note(&home, &causes[1]);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    let why = left["why"].as_str().expect("a text");
    assert!(causes.iter().all(|cause| why.contains(cause)) && left["has_ended"] == false, "{left}");
    assert!(
        left["name"].as_str().is_some_and(|name| name.ends_with(&format!(":{}", worker.pid()))),
        "{left}"
    );

    for (role, bytes) in files {
        replace(&home.file(&format!("{role}.json")), &bytes);
    }
    worker.complained("connected to the master at 127.0.0.1:");
    client.finish().well();
    until("its note is gone", || notes(&home).is_empty());
    drop((worker, master));
}

#[test]
fn an_address_that_swallows_everything_keeps_nobody_from_another_of_the_same_master() {
    let home = Home::new();
    let _master = home.master();
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let good: serde_json::Value =
        serde_json::from_slice(&fs::read(home.file("worker.json")).unwrap()).unwrap();
    let good = good["addresses"][0].as_str().expect("an address").to_owned();
    readdress(&home, "worker", &[&silent.local_addr().unwrap().to_string(), &good]);
    let line = home.worker(1).complained("joined the master");
    assert!(line.contains(&good), "{line}");
}

#[test]
fn a_worker_that_ends_before_it_was_let_in_says_why_in_a_note() {
    let home = Home::new();
    let master = home.master();
    let file = home.file("worker.json");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("it is ours");
    let finished = home.start(&["--role", "worker"]).finish().with_code(10);
    let left = note(&home, "chmod 600");
    assert!(only_error(&finished).ends_with(left["why"].as_str().expect("a text")), "{left} {finished:?}");
    assert_eq!(left["has_ended"], true);
    fs::remove_dir_all(home.file("notes")).expect("it is there");

    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("it is ours");
    let cw = Path::new(env!("CARGO_BIN_EXE_cw"));
    let wrong: [(&Path, &[&str]); 3] = [
        (&program("it_program"), &["--role", "worker", "--slots", "none"]),
        (&program("it_plain"), &["--role=worker", "--slots=none"]),
        (cw, &["worker", "--slots", "none"]),
    ];
    for (program, words) in wrong {
        Process::start(&mut home.command(program, words)).finish().with_code(2);
        let left = note(&home, "invalid value 'none' for '--slots");
        assert_eq!(left["has_ended"], true);
        fs::remove_dir_all(home.file("notes")).expect("it is there");
    }

    drop(master);
    home.start(&["--role", "worker", "--connect-timeout", "1s"]).finish().with_code(12);
    assert_eq!(note(&home, "gave up after 1s")["has_ended"], true);
}

#[test]
fn a_worker_that_is_stopped_while_it_looks_leaves_no_note() {
    let home = Home::new();
    drop(home.master());
    let worker = home.worker(1);
    note(&home, "nothing listens there");
    worker.signal(crate::support::Signal::TERM);
    worker.finish().with_code(0);
    assert!(notes(&home).is_empty(), "{:?}", notes(&home));
}

#[test]
fn a_master_announces_the_interface_it_is_told_and_says_which_there_are() {
    let home = Home::new();
    let master = home.master_with(&["--listen", "0.0.0.0:0", "--interface", "lo"]);
    let file: serde_json::Value =
        serde_json::from_slice(&fs::read(home.file("worker.json")).unwrap()).unwrap();
    let addresses = file["addresses"].as_array().expect("a list");
    assert!(addresses.iter().all(|at| at.as_str().is_some_and(|at| at.starts_with("127."))), "{file}");
    home.worker(1).complained("joined the master at 127.");
    drop(master);

    for wrong in ["eth77", "192.0.2.77"] {
        let finished = home.start(&["--role", "master", "--interface", wrong]).finish().with_code(11);
        let line = only_error(&finished);
        assert!(line.contains(&format!("no interface `{wrong}`; there are ")), "{line}");
        assert!(line.contains("lo (127.0.0.1)"), "{line}");
    }
    let flags = ["--role", "master", "--listen", "127.0.0.2:0", "--interface", "127.0.0.1"];
    let finished = home.start(&flags).finish().with_code(11);
    assert!(only_error(&finished).contains("who listens on 127.0.0.2:"), "{finished:?}");
    let finished = Process::start(
        &mut home.command(Path::new(env!("CARGO_BIN_EXE_cw")), &["worker", "--interface", "lo"]),
    );
    finished.finish().with_code(2);
}
