//! Executables on their way to a node, and in its cache: whoever is killed, stands still or damages them meanwhile, each comes
//! once, and nothing half-written or damaged ever runs.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::support::{Process, Signal, Standing, build, large, proc::executors, until};

/// A client of a build of its own that goes on until there is the file `stop`, and whose executable no worker sees.
fn hidden(standing: &Standing) -> Process {
    let program = build(&standing.home, "sim", 2);
    fs::hard_link(&program, standing.home.path().join("original")).expect("the home can be written to");
    standing.lone_client(&program, &["until", stop(standing).to_str().expect("a plain path")])
}

fn stop(standing: &Standing) -> PathBuf {
    standing.home.path().join("stop")
}

#[track_caller]
fn ends_well(standing: &Standing, client: Process) {
    fs::write(stop(standing), "").expect("the home can be written to");
    let finished = client.finish().well();
    assert!(finished.stdout.contains("all of build 000002\n"), "{finished:?}");
}

/// Changes a byte in the midst of a file.
fn damage(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("it is ours");
    let file = File::options().read(true).write(true).open(path).expect("it is ours");
    let (middle, mut byte) = (file.metadata().expect("it is open").len() / 2, [0]);
    file.read_exact_at(&mut byte, middle).expect("it is that long");
    file.write_all_at(&[!byte[0]], middle).expect("it is ours");
}

/// Spoils the blob of a node that has no worker; the next worker there gets it anew.
fn is_mended(node: &str, spoil: impl Fn(&Path)) {
    let standing = Standing::start();
    let client = hidden(&standing);
    let worker = standing.worker(node, &[]);
    client.said("20 results");
    let blob = standing.only_blob(node);
    worker.signal(Signal::KILL);
    drop(worker);
    spoil(&blob);
    let worker = standing.worker(node, &[]);
    worker.complained("is damaged; it is fetched anew");
    worker.complained("was fetched");
    let original = standing.home.path().join("original");
    assert!(
        fs::read(standing.only_blob(node)).expect("it is there") == fs::read(original).expect("so is this")
    );
    ends_well(&standing, client);
}

#[test]
fn a_damaged_program_in_the_cache_of_a_node_is_fetched_anew() {
    is_mended("one", damage);
}

#[test]
fn a_damaged_program_in_a_cache_that_the_master_has_too_is_fetched_anew_from_the_client() {
    is_mended("master", damage);
}

#[test]
fn a_program_that_was_cut_short_in_the_cache_is_fetched_anew() {
    let cut = |path: &Path| {
        fs::set_permissions(path, Permissions::from_mode(0o600)).expect("it is ours");
        let file = File::options().write(true).open(path).expect("it is ours");
        file.set_len(2 << 20).expect("it is ours");
    };
    std::thread::scope(|scope| {
        let own = scope.spawn(|| is_mended("one", cut));
        is_mended("master", cut);
        own.join().expect("it is well too");
    });
}

/// The unfinished file of a node once it has so many bytes.
fn part(standing: &Standing, node: &str, bytes: u64) -> PathBuf {
    let mut found = None;
    until("a program is on its way", || {
        found = standing.cache(node).into_iter().find(|path| path.extension().is_some_and(|it| it == "part"));
        found.as_ref().is_some_and(|part| fs::metadata(part).is_ok_and(|part| part.len() > bytes))
    });
    found.expect("just seen")
}

/// Copies of a program that is on its way for a while.
fn copies<const N: usize>(standing: &Standing) -> [PathBuf; N] {
    let first = large(&standing.home, "it_build", "sim", 200);
    std::array::from_fn(|n| {
        let copy = standing.home.path().join(format!("sim {n}"));
        fs::hard_link(&first, &copy).expect("the home can be written to");
        copy
    })
}

#[test]
fn a_client_that_is_killed_while_it_uploads_leaves_the_rest_to_the_next() {
    let standing = Standing::start();
    let [first, second] = copies(&standing);
    let client = standing.lone_client(&first, &["run", "100"]);
    let _worker = standing.worker("one", &[]);
    let part = part(&standing, "master", 4 << 20);
    client.signal(Signal::KILL);
    drop(client);
    let (inode, whole) = (fs::metadata(&part).expect("it is on its way").ino(), part.with_extension(""));
    let finished = standing.lone_client(&second, &["run", "100"]).finish().well();
    assert!(!finished.stderr.contains("refused"), "{finished:?}");
    assert_eq!(fs::metadata(&whole).expect("it has come").ino(), inode, "it was gone on with");
}

#[test]
fn a_client_that_stands_still_while_it_uploads_does_not_keep_another_of_its_program() {
    let standing = Standing::start();
    let [first, second] = copies(&standing);
    let client = standing.lone_client(&first, &["run", "100"]);
    let _worker = standing.worker("one", &[]);
    part(&standing, "master", 4 << 20);
    client.signal(Signal::STOP);
    let finished = standing.lone_client(&second, &["run", "100"]).finish().well();
    assert!(!finished.stderr.contains("refused"), "{finished:?}");
    client.signal(Signal::CONT);
    client.finish().well();
}

#[test]
fn a_client_that_stands_still_before_it_uploads_does_not_keep_another_of_its_program() {
    let standing = Standing::start();
    let [first, second] = copies(&standing);
    let client = standing.lone_client(&first, &["run", "100"]);
    client.complained("the cluster has no worker");
    client.signal(Signal::STOP);
    let _worker = standing.worker("one", &[]);
    let finished = standing.lone_client(&second, &["run", "100"]).finish().well();
    assert!(!finished.stderr.contains("refused"), "{finished:?}");
    client.signal(Signal::CONT);
    client.finish().well();
}

#[test]
fn what_a_client_that_was_killed_did_not_give_comes_from_the_next() {
    let standing = Standing::start();
    let [first, second] = copies(&standing);
    let client = standing.lone_client(&first, &["run", "100"]);
    client.complained("the cluster has no worker");
    client.signal(Signal::STOP);
    let worker = standing.worker("one", &[]);
    worker.complained("cannot be run here: the client went away while it was fetched");
    client.signal(Signal::KILL);
    let finished = standing.lone_client(&second, &["run", "100"]).finish().well();
    assert!(!finished.stderr.contains("refused"), "{finished:?}");
}

#[test]
fn a_client_that_is_back_gives_what_it_did_not_give_before() {
    let standing = Standing::start();
    let [program] = copies(&standing);
    let client = standing.lone_client(&program, &["run", "100"]);
    client.complained("the cluster has no worker");
    client.signal(Signal::STOP);
    let worker = standing.worker("one", &[]);
    worker.complained("cannot be run here: the client went away while it was fetched");
    client.signal(Signal::CONT);
    let finished = client.finish().well();
    assert!(!finished.stderr.contains("refused"), "{finished:?}");
}

/// Bytes that a process has read.
fn has_read(process: &Process) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/io", process.pid())).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.and_then(|bytes| bytes.parse().ok()).expect("a number")
}

#[test]
fn two_clients_of_a_program_upload_it_once() {
    let standing = Standing::start();
    let copies: [_; 2] = copies(&standing);
    let bytes = fs::metadata(&copies[0]).expect("it is there").len();
    let stop = stop(&standing);
    let clients =
        copies.map(|copy| standing.lone_client(&copy, &["until", stop.to_str().expect("a plain path")]));
    clients.iter().for_each(|client| drop(client.complained("the cluster has no worker")));
    let before = clients.each_ref().map(has_read);
    let _worker = standing.worker("one", &[]);
    clients.iter().for_each(|client| drop(client.said("20 results")));
    let read: Vec<u64> =
        clients.iter().zip(before).map(|(client, before)| has_read(client) - before).collect();
    let [less, more] = [read.iter().min(), read.iter().max()].map(|read| *read.expect("two"));
    assert!(more >= bytes && less < bytes / 10, "{read:?} of {bytes}");
    fs::write(&stop, "").expect("the home can be written to");
    for client in clients {
        client.finish().well();
    }
}

#[test]
fn nodes_that_want_a_program_at_once_load_its_client_once() {
    const NODES: usize = 10;
    let standing = Standing::start();
    let program = large(&standing.home, "it_program", "sim", 40);
    let bytes = fs::metadata(&program).expect("it is there").len();
    let (dir, nodes) = (standing.home.path().to_str().expect("a plain path"), NODES.to_string());
    let client = standing.lone_client(&program, &["--dir", dir, "spread", &nodes]);
    client.complained("the cluster has no worker");
    let before = has_read(&client);
    let names: Vec<String> = (0..NODES).map(|n| n.to_string()).collect();
    let workers: Vec<_> = names.iter().map(|node| standing.worker(node, &[])).collect();
    workers.iter().for_each(|worker| drop(worker.complained("was fetched")));
    // Once to find out what its pieces are, once to send them.
    let read = has_read(&client) - before;
    assert!((bytes..5 * bytes / 2).contains(&read), "{read} of {bytes}");
    client.finish().well();
    let name = standing.only_blob("master");
    assert!(names.iter().all(|node| standing.only_blob(node).file_name() == name.file_name()));
}

#[test]
fn what_was_not_used_for_longest_makes_room() {
    let standing = Standing::start();
    let sizes = [30, 31].map(|mib| large(&standing.home, "it_build", &format!("sim {mib}"), mib));
    let again = standing.home.path().join("again");
    fs::hard_link(&sizes[0], &again).expect("the home can be written to");
    let [first, second] = sizes;
    // There is room for either.
    let bytes = fs::metadata(&first).expect("it is there").len() * 3 / 2;
    let limit = ["--cache-size", &format!("{}KiB", bytes >> 10)];
    let worker = standing.worker("one", &limit);
    standing.lone_client(&first, &["run", "20"]).finish().well();
    let blob = standing.only_blob("one");
    standing.lone_client(&second, &["run", "20"]).finish().well();
    assert_ne!(standing.only_blob("one"), blob);
    drop(worker);
    let _worker = standing.worker("one", &limit);
    standing.lone_client(&again, &["run", "20"]).finish().well();
    assert_eq!(standing.only_blob("one"), blob);
}

#[test]
fn a_worker_that_is_killed_while_it_fetches_leaves_nothing_half_written_that_runs() {
    let standing = Standing::start();
    let [program] = copies(&standing);
    let client = standing.lone_client(&program, &["run", "100"]);
    let worker = standing.worker("one", &[]);
    let part = part(&standing, "one", 4 << 20);
    worker.signal(Signal::KILL);
    drop(worker);
    let (inode, whole) = (fs::metadata(&part).expect("it is on its way").ino(), part.with_extension(""));
    assert!(executors(standing.home.path()).is_empty());
    let _worker = standing.worker("one", &[]);
    client.finish().well();
    assert_eq!(fs::metadata(&whole).expect("it has come").ino(), inode, "it was gone on with");
    assert!(
        fs::read(&whole).expect("it is whole")
            == fs::read(standing.home.path().join("sim")).expect("so is this")
    );
}

#[test]
fn what_is_half_written_and_damaged_is_written_anew_from_there() {
    let standing = Standing::start();
    let [program] = copies(&standing);
    let client = standing.lone_client(&program, &["run", "100"]);
    let worker = standing.worker("one", &[]);
    let part = part(&standing, "one", 8 << 20);
    worker.signal(Signal::KILL);
    drop(worker);
    damage(&part);
    let _worker = standing.worker("one", &[]);
    client.finish().well();
    let whole = part.with_extension("");
    assert!(
        fs::read(&whole).expect("it is whole")
            == fs::read(standing.home.path().join("sim")).expect("so is this")
    );
}
