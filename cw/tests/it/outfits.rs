//! What executors are started with on a standing cluster: folder and environment of their client, and some of their node's.

use std::{collections::BTreeSet, fs, path::Path};

use crate::support::{Finished, Home, Process, Signal, Standing, may_mount, only_error, program};

const USAGE: i32 = 2;

/// What a task of `it_build look` saw, as lines.
fn lines<'a>(finished: &'a Finished, beginning: &str) -> BTreeSet<&'a str> {
    finished.stdout.lines().filter_map(|line| line.strip_prefix(beginning)).collect()
}

#[test]
fn executors_have_folder_and_environment_of_their_client_and_some_of_their_node() {
    let standing = Standing::start();
    let home = &standing.home;
    let mut command = standing.on("one", Path::new(env!("CARGO_BIN_EXE_cw")), &["worker", "--slots", "1"]);
    command.envs([
        ("SECRET", "worker"),
        ("LC_TIME", "worker"),
        ("HOME", "/worker"),
        ("CUDA_VISIBLE_DEVICES", "3"),
    ]);
    command.envs([("SLURM_JOB_ID", "77"), ("RUST_LOG", "worker"), ("LANG", "worker")]).env_remove("TZ");
    let worker = Process::start(&mut command);
    worker.complained("joined the master");

    let folder = home.path().join("project");
    fs::create_dir(&folder).expect("the home can be written to");
    let path = format!("/nowhere:{}", std::env::var("PATH").expect("a path"));
    let start = |flags: &[&str]| {
        let words = [&["--cluster", "default"], flags, &["look", "1"]].concat();
        let mut command = standing.on("client", &program("it_build"), &words);
        command.current_dir(&folder).env("PATH", &path).env_remove("LANG").env_remove("USER");
        command.envs([("SECRET", "client"), ("OTHER", "x"), ("LC_TIME", "C"), ("LC_WHATEVER", "a b")]);
        command.envs([
            ("HOME", "/client"),
            ("RUST_LOG", "debug"),
            ("TZ", "UTC"),
            ("CUDA_VISIBLE_DEVICES", "0"),
        ]);
        Process::start(command.env("SLURM_JOB_ID", "1").env("OMP_NUM_THREADS", "5"))
    };
    let tmp = standing.private("one");
    let node = format!("TMPDIR={}", tmp.parent().expect("the node's folder").display());
    let has = |finished: &Finished, line: &str| finished.stdout.lines().any(|it| it == line);
    let finished = start(&[]).finish().well();
    assert_eq!(lines(&finished, "folder "), BTreeSet::from([folder.to_str().expect("a plain path")]));
    for line in
        [&format!("PATH={path}"), "HOME=/client", "LC_TIME=C", "LC_WHATEVER=a b", "RUST_LOG=debug", "TZ=UTC"]
    {
        assert!(has(&finished, line), "{line}: {finished:?}");
    }
    for line in [&node, "CUDA_VISIBLE_DEVICES=3", "SLURM_JOB_ID=77", "OMP_NUM_THREADS=5"] {
        assert!(has(&finished, line), "{line}: {finished:?}");
    }
    for name in ["SECRET=", "OTHER=", "LANG=", "USER=", "CW_HOME=", "PWD="] {
        assert_eq!(lines(&finished, name), BTreeSet::new(), "{name}");
    }
    let named = start(&["--env", "SECRET", "--env", "OTHER"]).finish().well();
    assert!(has(&named, "SECRET=client") && has(&named, "OTHER=x"), "{named:?}");
    // Others are as before.
    assert_eq!(lines(&start(&[]).finish().well(), "SECRET="), BTreeSet::new());
}

#[test]
fn a_variable_that_is_not_there_cannot_be_passed_on() {
    let home = Home::new();
    for (name, why) in
        [("MISSING_ONE", "there is no such variable here"), ("A=b", "write the name of a variable")]
    {
        let words = ["--cluster", "default", "--env", name, "run", "1"];
        let finished =
            Process::start(&mut home.command(&program("it_build"), &words)).finish().with_code(USAGE);
        let line = only_error(&finished);
        assert!(line.contains(name) && line.contains("--env") && line.contains(why), "{line}");
    }
}

#[test]
fn tasks_of_a_client_whose_folder_was_removed_begin_in_a_scratch_folder() {
    let standing = Standing::start();
    let worker = standing.worker("one", &[]);
    let script = "mkdir \"$1\"; cd \"$1\"; rmdir \"$1\"; shift; exec \"$@\"";
    let mut command = standing.on("client", Path::new("sh"), &["-ec", script, "sh"]);
    command.arg(standing.home.path().join("removed")).arg(program("it_build"));
    let finished = Process::start(command.args(["--cluster", "default", "look", "20"])).finish().well();
    let said: Vec<&str> = finished
        .stderr
        .lines()
        .filter(|line| line.contains("tasks begin in a scratch folder there"))
        .collect();
    assert!(said.len() == 1 && said[0].starts_with("cw: worker "), "{finished:?}");
    assert!(said[0].contains(": the client's working directory is not on "), "{finished:?}");
    let folders = lines(&finished, "folder ");
    assert!(
        !folders.is_empty() && folders.iter().all(|it| Path::new(it).starts_with(standing.private("one")))
    );
    worker.signal(Signal::TERM);
    worker.finish().with_code(0);
    assert!(!folders.iter().any(|folder| Path::new(folder).exists()), "{folders:?}");
}

#[test]
fn tasks_of_a_client_whose_folder_is_not_on_a_node_begin_in_a_scratch_folder() {
    if !may_mount() {
        return;
    }
    let standing = Standing::start();
    let folder = standing.home.path().join("projects");
    let project = folder.join("ising");
    fs::create_dir_all(&project).expect("the home can be written to");
    let hide = "mount -t tmpfs none \"$1\"";
    let workers = ["one", "two"].map(|node| standing.worker_amid(hide, [&folder, &folder], node, &[]));
    let mut command = standing.on("client", &program("it_build"), &["--cluster", "default", "look", "60"]);
    let finished = Process::start(command.current_dir(&project)).finish().well();
    let said = finished.stderr.matches("tasks begin in a scratch folder there").count();
    assert_eq!(said, 1, "once for all nodes: {finished:?}");
    assert!(finished.stderr.contains(&format!("{} is not on ", project.display())), "{finished:?}");
    let nodes = standing.home.path().join("nodes");
    assert!(lines(&finished, "folder ").iter().all(|folder| Path::new(folder).starts_with(&nodes)));
    drop(workers);
}
