//! A standing cluster of the installed binary: any program and any build of it, several at once, whatever becomes of the
//! files they were started from.

use std::{fs, os::unix::fs::MetadataExt, path::Path, process::Command};

use crate::support::{
    Finished, Home, Process, Standing, build, may_mount,
    proc::{executors, kill_all},
    program, stripped,
};

const OTHER_BUILD: i32 = 14;

/// Waits for results of a client that are not there yet.
fn goes_on(client: &Process) {
    let so_far = client.so_far().lines().filter(|line| line.ends_with(" results")).count();
    client.said(&format!("{} results", so_far + 50));
}

/// Kills all executors, so that the next ones are started from what the worker has now.
fn renew_executors(home: &Home) {
    let victims = executors(home.path());
    assert!(!victims.is_empty());
    kill_all(&victims);
}

#[track_caller]
fn assert_build(finished: &Finished, number: u32) {
    assert!(finished.stdout.contains(&format!("all of build {number:06}\n")), "{finished:?}");
}

/// A client of `it_build` that goes on until there is a file.
fn endless(standing: &Standing, program: &Path, stop: &Path) -> Process {
    standing.client(program, &["until", stop.to_str().expect("a plain path")])
}

#[test]
fn the_installed_binary_serves_any_programs_at_once() {
    let standing = Standing::start();
    let mut worker = standing.worker("one", &[]);
    let dir = standing.home.path().to_str().expect("a plain path");
    let clients = [
        standing.client(&program("it_program"), &["--dir", dir, "naps", "100"]),
        standing.client(&program("it_hooks"), &["order"]),
        standing.client(&program("it_build"), &["run", "100"]),
        standing.client(&program("it_contract"), &[]),
    ];
    for client in clients {
        client.finish().well();
    }
    standing.assert_no_blob("one");
    assert!(worker.is_running());
}

#[test]
fn an_executable_that_no_worker_sees_comes_once_to_each_node() {
    let standing = Standing::start();
    let program = stripped(&standing.home, "it_program", "sim");
    let dir = standing.home.path().to_str().expect("a plain path");
    let client = standing.hidden_client(&program, &["--dir", dir, "spread", "3"]);
    let first = standing.worker("one", &[]);
    assert!(first.complained("was fetched").contains("sim, build "));
    client.said("1 workers");
    let blob = standing.only_blob("one");
    let inode = |blob: &Path| fs::metadata(blob).expect("it is there").ino();
    let before = inode(&blob);
    let _second = standing.worker("one", &[]);
    client.said("2 workers");
    let _third = standing.worker("two", &[]);
    client.said("3 workers");
    client.finish().well();
    assert_eq!((standing.only_blob("one"), inode(&blob)), (blob.clone(), before));
    let name = blob.file_name();
    for node in ["two", "master"] {
        assert_eq!(standing.only_blob(node).file_name(), name);
    }
    let original = fs::read(program.with_extension("moved")).expect("it is there");
    assert!(fs::read(&blob).expect("it is there") == original);
}

#[test]
fn workers_of_one_node_that_want_a_program_at_once_get_it_once() {
    let standing = Standing::start();
    let program = stripped(&standing.home, "it_program", "sim");
    let dir = standing.home.path().to_str().expect("a plain path");
    let client = standing.hidden_client(&program, &["--dir", dir, "spread", "4"]);
    // The master keeps its programs on that node too.
    let starts = (0..4).map(|_| {
        Process::start(&mut standing.on(
            "master",
            Path::new(env!("CARGO_BIN_EXE_cw")),
            &["worker", "--slots", "1"],
        ))
    });
    let _workers: Vec<_> = starts.collect();
    client.finish().well();
    standing.only_blob("master");
}

#[test]
fn a_new_build_runs_while_the_one_before_goes_on_beside_it() {
    let mut standing = Standing::start();
    let mut worker = standing.worker("one", &[]);
    let home = &standing.home;
    let path = build(home, "sim", 1);
    let stops = ["stop 1", "stop 2"].map(|name| home.path().join(name));
    let first = endless(&standing, &path, &stops[0]);
    first.said("20 results");

    // As a linker does it that writes a file of another name.
    fs::rename(build(home, "next", 2), &path).expect("both are there");
    assert_build(&standing.client(&path, &["run", "50"]).finish().well(), 2);
    let second = endless(&standing, &path, &stops[1]);
    second.said("20 results");
    goes_on(&first);

    // As one does it that writes to the file itself; where that is refused, since a client runs it, to a new one.
    let next = build(home, "next", 3);
    let in_place = "cat \"$0\" > \"$1\" || { rm \"$1\" && cp \"$0\" \"$1\"; }";
    let copied = Command::new("sh").args(["-c", in_place]).args([&next, &path]).output();
    assert!(copied.expect("there is a shell").status.success());
    assert_build(&standing.client(&path, &["run", "50"]).finish().well(), 3);

    renew_executors(home);
    goes_on(&first);
    goes_on(&second);
    stops.iter().for_each(|stop| fs::write(stop, "").expect("the home can be written to"));
    assert_build(&first.finish().well(), 1);
    assert_build(&second.finish().well(), 2);
    assert!(worker.is_running() && standing.master.is_running());
}

#[test]
fn a_file_that_is_overwritten_in_place_during_a_run_changes_nothing() {
    if !may_mount() {
        return;
    }
    let standing = Standing::start();
    let (home, worker) = (&standing.home, standing.worker("one", &[]));
    let path = build(home, "sim", 1);
    let other = build(home, "next", 2);
    // On its own machine the client runs another file of that path, so that nobody is kept from writing to this one.
    let own = build(home, "own", 1);
    let stop = home.path().join("stop");
    let script = "mount --bind \"$1\" \"$2\"; shift; exec \"$@\"";
    let mut command = standing.on("client", Path::new("unshare"), &["-m", "sh", "-ec", script, "sh"]);
    command.args([&own, &path]).args(["--cluster", "default", "until"]).arg(&stop);
    let client = Process::start(&mut command);
    client.said("20 results");
    standing.assert_no_blob("one");

    let overwritten = Command::new("sh").args(["-c", "cat \"$0\" > \"$1\""]).args([&other, &path]).status();
    assert!(overwritten.expect("there is a shell").success(), "nobody runs it");
    renew_executors(home);
    goes_on(&client);
    // A worker that finds the other build there gets this one from the client.
    drop(worker);
    let worker = standing.worker("two", &[]);
    worker.complained("was fetched");
    goes_on(&client);
    fs::write(&stop, "").expect("the home can be written to");
    assert_build(&client.finish().well(), 1);
}

#[test]
fn another_file_at_the_clients_path_is_not_taken_for_its_program() {
    let standing = Standing::start();
    let home = &standing.home;
    let path = build(home, "sim", 1);
    for (node, spoil) in [("one", "truncated"), ("two", "altered")] {
        let client = standing.hidden_client(&path, &["run", "50"]);
        if spoil == "truncated" {
            let head = "head -c 100000 \"$0\" > \"$1\" && chmod 755 \"$1\"";
            let cut =
                Command::new("sh").args(["-c", head]).arg(path.with_extension("moved")).arg(&path).status();
            assert!(cut.expect("there is a shell").success());
        } else {
            fs::rename(build(home, "next", 2), &path).expect("both are there");
        }
        let worker = standing.worker(node, &[]);
        worker.complained("was fetched");
        assert_build(&client.finish().well(), 1);
        standing.only_blob(node);
        drop(worker);
        fs::rename(path.with_extension("moved"), &path).expect("both are there");
    }
}

#[test]
fn a_worker_of_a_users_program_that_is_built_anew_has_its_own_build_still() {
    let standing = Standing::start();
    let home = &standing.home;
    let path = build(home, "sim", 1);
    let stop = home.path().join("stop");
    let same = build(home, "same", 1);
    let client = standing.hidden_client(&same, &["until", stop.to_str().expect("a plain path")]);
    let worker = Process::start(&mut standing.on("one", &path, &["--role", "worker", "--slots", "2"]));
    worker.complained("joined the master");
    client.said("20 results");
    fs::rename(build(home, "next", 2), &path).expect("both are there");
    renew_executors(home);
    goes_on(&client);
    assert_build(&standing.client(&path, &["run", "50"]).finish().well(), 2);
    goes_on(&client);
    fs::write(&stop, "").expect("the home can be written to");
    assert_build(&client.finish().well(), 1);
    standing.assert_no_blob("one");
}

#[test]
fn a_worker_of_its_own_program_only_refuses_others_naming_both() {
    let standing = Standing::start();
    let flags = ["--role", "worker", "--slots", "1", "--programs", "own"];
    let mut worker = Process::start(&mut standing.on("one", &program("it_build"), &flags));
    worker.complained("joined the master");
    let other = standing.client(&program("it_hooks"), &["order"]);
    // Its own runs meanwhile.
    standing.client(&program("it_build"), &["run", "20"]).finish().well();
    let finished = other.finish().with_code(OTHER_BUILD);
    let line = finished.stderr.lines().find(|line| line.contains("no worker runs this build"));
    let line = line.unwrap_or_else(|| panic!("nobody says why: {finished:?}"));
    assert!(line.contains("the client is build ") && line.contains("with it_build, build "), "{line}");
    assert!(worker.is_running());
}

#[test]
fn a_worker_of_shared_programs_only_runs_what_it_sees_and_says_why_not_else() {
    let standing = Standing::start();
    let home = &standing.home;
    let (seen, unseen) = (build(home, "seen", 1), build(home, "unseen", 2));
    let hidden = standing.hidden_client(&unseen, &["run", "20"]);
    let mut worker = standing.worker("one", &["--programs", "shared"]);
    assert_build(&standing.client(&seen, &["run", "20"]).finish().well(), 1);
    let finished = hidden.finish().with_code(OTHER_BUILD);
    let line = finished.stderr.lines().find(|line| line.contains("--programs shared"));
    let line = line.unwrap_or_else(|| panic!("nobody says why: {finished:?}"));
    assert!(line.contains(unseen.to_str().expect("a plain path")) && line.contains("No such file"), "{line}");
    standing.assert_no_blob("one");
    assert!(worker.is_running());
}
