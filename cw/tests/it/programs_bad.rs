//! Executables that do not start, and nodes that cannot keep or execute them: one clear line at the client, and the cluster
//! is well.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{Finished, Process, Signal, Standing, altered, build, may_mount, program};

const OTHER_BUILD: i32 = 14;

/// The one line that says, before the client ended with its code, why its program cannot be run.
#[track_caller]
fn refused(client: Process) -> String {
    let finished = client.finish().with_code(OTHER_BUILD);
    let lines: Vec<&str> =
        finished.stderr.lines().filter(|line| line.contains("cannot run this program: ")).collect();
    assert_eq!(lines.len(), 1, "{finished:?}");
    let (_, why) = lines[0].split_once("cannot run this program: ").expect("just seen");
    let why = why.trim_end_matches("; the tasks are refused in 10 s");
    let last = finished.stderr.lines().last().unwrap_or_default();
    assert!(last.contains(why), "the program ends with it: {finished:?}");
    why.to_owned()
}

/// The cluster runs what is at its client's path.
#[track_caller]
fn assert_well(standing: &mut Standing, worker: &mut Process) {
    assert!(standing.master.is_running() && worker.is_running());
    standing.client(&program("it_build"), &["run", "20"]).finish().well();
}

/// A client of a build of its own whose executable no worker sees.
fn hidden(standing: &Standing) -> Process {
    standing.lone_client(&build(&standing.home, "sim", 2), &["run", "20"])
}

#[test]
fn a_cache_that_is_too_small_is_told_with_its_limit() {
    for (of_master, of_worker, who) in [
        (&[][..], &["--cache-size", "1MiB"][..], "cannot"),
        (&["--cache-size", "1MiB"], &[], "the master cannot"),
    ] {
        let mut standing = Standing::start_with(of_master);
        let client = hidden(&standing);
        let mut worker = standing.worker("one", of_worker);
        let line = refused(client);
        assert!(line.starts_with(&format!("{who} keep a blob of ")), "{line}");
        let node = if who == "cannot" { "one" } else { "master" };
        let folder = standing.private(node).join("blobs");
        assert!(line.contains(folder.to_str().expect("a plain path")), "{line}");
        assert!(line.ends_with("the limit there is 1048576 bytes"), "{line}");
        standing.assert_no_blob(node);
        assert_well(&mut standing, &mut worker);
    }
}

/// Does something to a folder that is not there yet.
type Spoil = fn(&Path);

#[test]
fn a_folder_that_is_not_private_is_told_with_the_remedy_and_used_for_nothing() {
    let cases: [(Spoil, &str); 4] = [
        (|root| make(root, 0o755), "others have rights on it (mode 0755); run `chmod 700 "),
        (|root| make(root, 0o777), "others have rights on it (mode 0777); run `chmod 700 "),
        (|root| fs::write(root, "").expect("it is ours"), "it is no folder"),
        (|root| std::os::unix::fs::symlink("/tmp", root).expect("it is ours"), "it is a symbolic link"),
    ];
    std::thread::scope(|scope| {
        for (spoil, why) in cases {
            scope.spawn(move || {
                let mut standing = Standing::start();
                let client = hidden(&standing);
                let root = standing.private("one");
                spoil(&root);
                let mut worker = standing.worker("one", &[]);
                let line = refused(client);
                assert!(line.contains(root.to_str().expect("a plain path")) && line.contains(why), "{line}");
                standing.assert_no_blob("one");
                assert_well(&mut standing, &mut worker);
            });
        }
    });
}

fn make(folder: &Path, mode: u32) {
    fs::create_dir(folder).expect("the home can be written to");
    fs::set_permissions(folder, Permissions::from_mode(mode)).expect("it is ours");
}

#[test]
fn a_folder_for_temporary_files_that_is_not_there_is_told() {
    let mut standing = Standing::start();
    let client = hidden(&standing);
    let missing = standing.home.path().join("missing");
    let mut command = standing.on("one", Path::new(env!("CARGO_BIN_EXE_cw")), &["worker", "--slots", "1"]);
    let mut worker = Process::start(command.env("TMPDIR", &missing));
    worker.complained("joined the master");
    let line = refused(client);
    assert!(
        line.contains(missing.to_str().expect("a plain path")) && line.contains("No such file"),
        "{line}"
    );
    assert_well(&mut standing, &mut worker);
}

#[test]
fn a_full_disk_is_told() {
    if !may_mount() {
        return;
    }
    let mut standing = Standing::start();
    let client = hidden(&standing);
    let node = standing.home.path().join("nodes/one");
    let mut worker =
        standing.worker_amid("mount -t tmpfs -o size=4m none \"$1\"", [&node, &node], "one", &[]);
    let line = refused(client);
    let folder = standing.private("one").join("blobs");
    assert!(line.starts_with(&format!("cannot write to {}: it is full (", folder.display())), "{line}");
    assert_well(&mut standing, &mut worker);
}

#[test]
fn the_loaders_word_on_a_missing_library_reaches_the_client() {
    let maps = fs::read_to_string("/proc/self/maps").expect("Linux has /proc");
    let mut paths = maps.lines().filter_map(|line| Some(&line[line.find('/')?..]));
    let Some(library) = paths.find(|path| path.ends_with("/libgcc_s.so.1")) else {
        return eprintln!("skipped: programs need no library here that could be missing");
    };
    let mut standing = Standing::start();
    let libraries = standing.home.path().join("libraries");
    fs::create_dir(&libraries).expect("the home can be written to");
    fs::copy(library, libraries.join("libgcc_x.so.1")).expect("it can be read");
    let program = altered(&standing.home, "it_build", "sim", "s/libgcc_s\\.so\\.1/libgcc_x.so.1/g");
    let words = ["--cluster", "default", "run", "20"];
    let client = Process::start(standing.on("client", &program, &words).env("LD_LIBRARY_PATH", &libraries));
    client.complained("the cluster has no worker");
    fs::rename(&libraries, libraries.with_extension("moved")).expect("it was there");
    let mut worker = standing.worker("one", &[]);
    let line = refused(client);
    let word = "error while loading shared libraries: libgcc_x.so.1: cannot open shared object file";
    assert!(line.contains(word) && line.contains("ended with code 127"), "{line}");
    assert!(line.starts_with("executors do not start on ") && !line.contains("CW_EXECUTOR"), "{line}");
    assert_well(&mut standing, &mut worker);
}

/// The executable of the tasks of `it_build look`.
fn images(finished: &Finished) -> Vec<&str> {
    finished.stdout.lines().filter_map(|line| line.strip_prefix("image ")).collect()
}

/// A build that is too big to be kept in memory.
fn big(standing: &Standing) -> PathBuf {
    let path = build(&standing.home, "big", 2);
    assert!(
        Command::new("truncate").args(["-s", "300M"]).arg(&path).status().expect("there is one").success()
    );
    path
}

#[test]
fn a_program_that_is_too_big_for_memory_runs_from_a_private_file() {
    let standing = Standing::start();
    let program = big(&standing);
    let worker = standing.worker("one", &[]);
    let finished = standing.client(&program, &["look", "20"]).finish().well();
    let images = images(&finished);
    assert!(!images.is_empty());
    for image in &images {
        let metadata = fs::metadata(image).expect("it is there as long as the worker is");
        assert!(Path::new(image).starts_with(standing.private("one")), "{image}");
        assert_eq!((metadata.len(), metadata.mode() & 0o777), (300 << 20, 0o700));
    }
    standing.client(&program, &["run", "50"]).finish().well();
    worker.signal(Signal::TERM);
    worker.finish().with_code(0);
    assert!(!images.iter().any(|image| Path::new(image).exists()), "{images:?}");
}

#[test]
fn where_nothing_may_be_executed_what_is_too_big_for_memory_is_refused_and_the_rest_runs() {
    if !may_mount() {
        return;
    }
    let mut standing = Standing::start();
    let program = big(&standing);
    let node = standing.home.path().join("nodes/one");
    let mut worker = standing.worker_amid("mount -t tmpfs -o noexec none \"$1\"", [&node, &node], "one", &[]);
    let line = refused(standing.client(&program, &["run", "20"]));
    let folder = standing.private("one");
    assert!(line.contains(&format!("nothing can be executed in {}", folder.display())), "{line}");
    assert!(line.contains("mounted noexec") && line.contains("set TMPDIR to another folder"), "{line}");
    assert_well(&mut standing, &mut worker);
}

#[test]
fn where_nothing_in_memory_may_be_executed_programs_lie_in_private_files() {
    let forbid = "echo 2 > /proc/sys/vm/memfd_noexec";
    let unshare = ["-p", "-f", "--kill-child", "sh", "-ec"];
    let may = Command::new("unshare").args(unshare).arg(forbid).output();
    if !may.is_ok_and(|output| output.status.success()) {
        return eprintln!("skipped: nobody may forbid that here");
    }
    let standing = Standing::start();
    let mut command = standing.on("one", Path::new("unshare"), &unshare);
    command.args([&format!("{forbid}; exec \"$@\""), "sh"]);
    let worker = Process::start(command.arg(env!("CARGO_BIN_EXE_cw")).args(["worker", "--slots", "2"]));
    worker.complained("joined the master");
    // One that the worker sees, and one that comes to it.
    let seen = standing.client(&program("it_build"), &["look", "20"]);
    let fetched = standing.lone_client(&build(&standing.home, "sim", 2), &["look", "20"]);
    for client in [seen, fetched] {
        let finished = client.finish().well();
        let images = images(&finished);
        assert!(!images.is_empty());
        assert!(
            images.iter().all(|image| Path::new(image).starts_with(standing.private("one"))),
            "{images:?}"
        );
    }
}
