//! Keys and access files that are not what they should be: one line, a code of its own, and nobody else notices.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::support::{Cluster, Home, only_error, shared};

const ACCESS: i32 = 10;
const NO_MASTER: i32 = 12;
const REFUSED: i32 = 13;

/// A private file with this text.
fn private(home: &Home, name: &str, text: &str) -> PathBuf {
    let path = home.path().join(name);
    fs::write(&path, text).expect("the home can be written to");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("it is ours");
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// The line with which a client ends that uses this access file.
fn refused(home: &Home, file: &Path, code: i32) -> String {
    let flags = ["--access", text(file), "--connect-timeout", "30s"];
    let finished = home.program(&flags, &["spawn"]).finish().with_code(code);
    let line = only_error(&finished).to_owned();
    assert!(line.contains(text(file)), "it names the file: {line}");
    assert_eq!(finished.stdout, "", "{finished:?}");
    line
}

/// A field of an access file.
fn field(path: &Path, name: &str) -> serde_json::Value {
    let whole: serde_json::Value = serde_json::from_slice(&fs::read(path).expect("readable")).expect("JSON");
    whole[name].clone()
}

/// An access file with some fields changed.
fn forged(home: &Home, from: &Path, changes: &[(&str, serde_json::Value)]) -> PathBuf {
    let mut whole: serde_json::Value =
        serde_json::from_slice(&fs::read(from).expect("readable")).expect("JSON");
    for (name, value) in changes {
        whole[*name] = value.clone();
    }
    private(home, "forged.json", &whole.to_string())
}

#[test]
fn a_file_that_others_may_read_is_refused_with_the_remedy() {
    let (home, cluster) = (Home::new(), shared());
    let file = private(&home, "open.json", &fs::read_to_string(cluster.home.file("client.json")).unwrap());
    fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("it is ours");
    let line = refused(&home, &file, ACCESS);
    assert!(line.contains("0640") && line.contains(&format!("`chmod 600 {}`", file.display())), "{line}");
}

#[test]
fn a_file_that_is_none_of_ours_is_refused_without_being_repeated() {
    let home = Home::new();
    for (garbage, cause) in [("secret secret", "no JSON"), ("", "cut short"), ("{\"version\": 1}", "missing")]
    {
        let line = refused(&home, &private(&home, "garbage.json", garbage), ACCESS);
        assert!(line.contains(cause) && !line.contains("secret secret"), "{line}");
    }
    let line = refused(&home, &private(&home, "new.json", "{\"version\": 7}"), ACCESS);
    assert!(line.contains("version 7") && line.contains("version 1"), "{line}");
}

#[test]
fn a_file_that_cannot_be_read_is_refused() {
    let home = Home::new();
    let line = refused(&home, home.path(), ACCESS);
    assert!(line.contains("no regular file"), "{line}");
    let below = private(&home, "file", "").join("client.json");
    let line = refused(&home, &below, ACCESS);
    assert!(line.contains("not readable: Not a directory"), "{line}");
}

#[test]
fn a_cluster_that_never_appears_ends_the_wait_in_time_saying_how_to_start_it() {
    let home = Home::new();
    let flags = ["--cluster", "lab", "--connect-timeout", "1s"];
    let finished = home.program(&flags, &["spawn"]).finish().with_code(NO_MASTER);
    let line = only_error(&finished);
    assert!(line.contains("lab/client.json") && line.contains("gave up after 1s"), "{line}");
    assert!(line.contains("--role master --cluster lab)"), "{line}");
}

#[test]
fn a_file_that_was_named_and_is_not_there_is_not_waited_for() {
    let home = Home::new();
    let missing = home.path().join("missing.json");
    let line = refused(&home, &missing, ACCESS);
    assert!(line.contains(text(&missing)) && line.contains("copy client.json there"), "{line}");
}

#[test]
fn a_workers_file_is_no_clients_and_a_clients_no_workers() {
    let (home, mut cluster) = (Home::new(), Cluster::start(1));
    let (clients, workers) = (cluster.home.file("client.json"), cluster.home.file("worker.json"));
    let line = refused(&home, &workers, ACCESS);
    assert!(line.contains("of a worker; a client needs its own"), "{line}");
    let finished = home.start(&["--role", "worker", "--access", text(&clients)]).finish().with_code(ACCESS);
    assert!(only_error(&finished).contains("of a client; a worker needs its own"), "{finished:?}");

    // A file that lies about its role gets past this side, and no further.
    let lie = forged(&home, &workers, &[("role", "client".into())]);
    let flags = ["--access", text(&lie)];
    let finished = home.program(&flags, &["spawn"]).finish().with_code(REFUSED);
    let line = only_error(&finished);
    assert!(line.contains("the key is for a worker, and this process wants to be a client"), "{line}");
    cluster.assert_well();
}

#[test]
fn strangers_are_refused_on_both_sides() {
    let (away, mut cluster) = (Cluster::start(0), Cluster::start(1));
    let here = field(&cluster.home.file("client.json"), "addresses");
    let address = here[0].as_str().expect("an address").to_owned();

    // The address of this cluster's master with the keys of another's: the master is not the pinned one.
    let file = away.home.file("client.json");
    let flags = ["--cluster", "default", "--master", &address];
    let finished = away.home.program(&flags, &["spawn"]).finish().with_code(REFUSED);
    let line = only_error(&finished);
    assert!(
        line.contains(&address) && line.contains("another cluster") && line.contains(text(&file)),
        "{line}"
    );
    let flags = ["--role", "worker", "--master", &address];
    let finished = away.home.start(&flags).finish().with_code(REFUSED);
    assert!(only_error(&finished).contains(text(&away.home.file("worker.json"))), "{finished:?}");

    // This cluster's pin with the other's key: the master does not know it.
    for role in ["client", "worker"] {
        let foreign = field(&away.home.file(&format!("{role}.json")), "identity");
        let changes = [("identity", foreign)];
        let forged = forged(&away.home, &cluster.home.file(&format!("{role}.json")), &changes);
        let flags = ["--role", role, "--access", text(&forged)];
        let scenario: &[&str] = if role == "client" { &["spawn"] } else { &[] };
        let finished = away.home.program(&flags, scenario).finish().with_code(REFUSED);
        let line = only_error(&finished);
        assert!(line.contains(&address) && line.contains("does not know this process's key"), "{line}");
    }
    cluster.master.complained("refused 127.0.0.1:");
    cluster.assert_well();
}
