//! What a task saves is there for its next attempt, whatever ended the one before.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::{Cluster, Home, Process, Signal, program, until};

/// Where tasks leave what they have to say, and the working directory of programs.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("there is a place for temporary folders"))
    }

    fn start(&self, home: &Home, flags: &[&str], words: &[&str]) -> Process {
        let mut command = home.command(&program("it_checkpoints"), flags);
        command.arg("--dir").arg(self.0.path()).args(words).current_dir(self.0.path());
        Process::start(&mut command)
    }

    fn client(&self, cluster: &Cluster, words: &[&str]) -> Process {
        self.start(&cluster.home, &["--cluster", "default"], words)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.0.path().join("log")).unwrap_or_default()
    }

    /// Where its attempts began, in order.
    fn begun(&self) -> Vec<String> {
        let log = self.log();
        log.lines().filter_map(|line| line.split_once("begins at ")).map(|(_, at)| at.to_owned()).collect()
    }

    fn wait_for_five(&self) {
        until("five are saved", || self.log().contains("five are saved"));
    }

    fn open(&self) {
        fs::write(self.0.path().join("open"), "").expect("the folder is there");
    }

    fn root(&self) -> PathBuf {
        self.0.path().join(".cw-checkpoints")
    }

    /// How many things are kept there.
    fn kept(&self) -> usize {
        fs::read_dir(self.root()).map_or(0, Iterator::count)
    }
}

/// Runs it by itself, with these ways of running, and on a cluster; each has to end well and leave nothing.
fn everywhere(words: &[&str], ways: &[&[&str]], check: impl Fn(&Desk, &str)) {
    let (home, mut cluster) = (Home::new(), Cluster::start(2));
    for flags in ways.iter().copied().map(Some).chain([None]) {
        let desk = Desk::new();
        let process = match flags {
            Some(flags) => desk.start(&home, &[&["--slots", "2"], flags].concat(), words),
            None => desk.client(&cluster, words),
        };
        let finished = process.finish().well();
        check(&desk, &finished.stdout);
        assert!(!desk.root().exists(), "{flags:?}: nothing is left in {}", desk.root().display());
    }
    cluster.assert_well();
}

const PROCESSES: &[&[&str]] = &[&[]];
const BOTH: &[&[&str]] = &[&[], &["--threads"]];

#[test]
fn a_task_whose_executor_dies_goes_on_where_it_was() {
    everywhere(&["count", "--way", "abort"], PROCESSES, |desk, said| {
        assert!(said.contains("counted 5"), "{said}");
        assert_eq!(desk.begun(), ["0", "5"]);
    });
}

#[test]
fn a_task_that_fails_goes_on_where_it_was() {
    everywhere(&["count", "--way", "fail"], BOTH, |desk, said| {
        assert!(said.contains("counted 5"), "{said}");
        assert_eq!(desk.begun(), ["0", "5"]);
    });
}

#[test]
fn an_async_job_saves_too() {
    everywhere(&["async"], BOTH, |desk, said| {
        assert!(said.contains("counted 1"), "{said}");
        assert_eq!(desk.begun(), ["0", "1"]);
    });
}

#[test]
fn the_folder_is_the_same_in_all_attempts_and_gone_with_the_result() {
    everywhere(&["folder"], BOTH, |desk, said| {
        let log = desk.log();
        let folders: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("folder ")).collect();
        assert!(folders.len() == 2 && folders[0] == folders[1], "{folders:?}");
        assert!(
            Path::new(folders[0]).starts_with(desk.root().canonicalize().unwrap_or(desk.root())),
            "{said}"
        );
        assert!(!Path::new(folders[0]).exists());
    });
}

#[test]
fn a_state_of_a_mebibyte_is_kept_and_a_longer_one_refused_with_both_sizes() {
    everywhere(&["bytes"], BOTH, |_, said| {
        assert!(said.contains("1048573\n"), "{said}");
        assert!(said.contains("a state of 1048577 bytes is over the limit of 1048576 for `save`"), "{said}");
    });
}

#[test]
fn many_tasks_save_at_once() {
    everywhere(&["many"], BOTH, |_, _| {});
}

#[test]
fn a_state_of_another_type_fails_the_attempt_and_is_named() {
    everywhere(&["mistake"], BOTH, |_, said| {
        let why = "the saved state of type alloc::string::String: the bytes end too early";
        assert!(said.contains("panicked") && said.contains(why), "{said}");
    });
}

#[test]
fn a_task_whose_worker_is_killed_goes_on_where_it_was() {
    let soon = ["--suspect-after", "500ms", "--lost-after", "1s"];
    let (mut cluster, desk) = (Cluster::start_with(&soon, 2), Desk::new());
    let client = desk.client(&cluster, &["count", "--way", "wait"]);
    desk.wait_for_five();
    let log = desk.log();
    let is_its = |worker: &Process| log.contains(&format!(":{} begins", worker.pid()));
    let place = cluster.workers.iter().position(is_its).expect("one of them runs it");
    cluster.workers.remove(place).signal(Signal::KILL);
    desk.open();
    assert!(client.finish().well().stdout.contains("counted 5"));
    assert_eq!(desk.begun(), ["0", "5"]);
    assert!(!desk.root().exists());
    cluster.assert_well();
}

#[test]
fn a_task_that_saves_while_the_master_is_away_waits_and_goes_on() {
    let (home, desk) = (Home::new(), Desk::new());
    let address = crate::restarts::free_address();
    let master = home.master_at(&address);
    let worker = home.worker(2);
    worker.complained("joined the master");
    let client = desk.start(&home, &["--cluster", "default"], &["count", "--way", "wait"]);
    desk.wait_for_five();
    master.signal(Signal::KILL);
    drop(master);
    worker.complained("lost the master");
    desk.open();
    let master = home.master_at(&address);
    assert!(client.finish().well().stdout.contains("counted 10"));
    assert_eq!(desk.begun(), ["0"]);
    Cluster { workers: vec![worker], master, home }.assert_well();
}

#[test]
fn a_program_with_a_store_that_is_killed_goes_on_where_its_tasks_were() {
    let (home, desk) = (Home::new(), Desk::new());
    let words = ["count", "--way", "wait", "--store", "runs.db"];
    let client = desk.start(&home, &["--slots", "2"], &words);
    desk.wait_for_five();
    client.signal(Signal::KILL);
    drop(client);
    assert_eq!(desk.kept(), 1, "its state is kept");
    desk.open();
    assert!(desk.start(&home, &["--slots", "2"], &words).finish().well().stdout.contains("counted 5"));
    assert_eq!(desk.begun(), ["0", "5"]);
    assert!(!desk.root().exists());
}

#[test]
fn an_interrupted_program_with_a_store_goes_on_and_one_without_leaves_nothing() {
    for store in [true, false] {
        let (home, desk) = (Home::new(), Desk::new());
        let words =
            [&["count", "--way", "wait"][..], if store { &["--store", "runs.db"] } else { &[] }].concat();
        let client = desk.start(&home, &["--slots", "2"], &words);
        desk.wait_for_five();
        client.signal(Signal::INT);
        client.finish().with_code(130);
        assert_eq!(desk.kept(), usize::from(store));
        desk.open();
        desk.start(&home, &["--slots", "2"], &words).finish().well();
        assert_eq!(desk.begun(), ["0", if store { "5" } else { "0" }]);
        assert!(!desk.root().exists());
    }
}

#[test]
fn what_a_killed_client_left_at_a_cluster_is_gone_on_with_or_begun_where_it_was() {
    for worker_dies in [true, false] {
        let soon = ["--suspect-after", "500ms", "--lost-after", "1s"];
        let (mut cluster, desk) = (Cluster::start_with(&soon, 1), Desk::new());
        let words = ["count", "--way", "wait", "--store", "runs.db"];
        let client = desk.client(&cluster, &words);
        desk.wait_for_five();
        client.signal(Signal::KILL);
        drop(client);
        if worker_dies {
            cluster.workers.pop().expect("there is one").signal(Signal::KILL);
            cluster.add_worker(&[]);
        }
        desk.open();
        let counted = if worker_dies { "counted 5" } else { "counted 10" };
        let finished = desk.client(&cluster, &words).finish().well();
        assert!(finished.stdout.contains(counted), "{finished:?}");
        assert_eq!(desk.begun(), if worker_dies { vec!["0", "5"] } else { vec!["0"] });
        assert!(!desk.root().exists());
        cluster.assert_well();
    }
}

#[test]
fn a_folder_of_the_users_choice_is_used_and_one_that_cannot_be_made_fails_the_attempt() {
    let (home, desk) = (Home::new(), Desk::new());
    let (chosen, blocked) = (desk.0.path().join("chosen"), desk.0.path().join("file"));
    let flags = ["--slots", "1", "--checkpoints", chosen.to_str().expect("a plain path")];
    let finished = desk.start(&home, &flags, &["folder"]).finish().well();
    assert!(finished.stdout.contains(&format!("folder {}", chosen.display())), "{finished:?}");
    assert!(!chosen.exists());
    fs::write(&blocked, "").expect("the folder is there");
    let flags = ["--slots", "1", "--checkpoints", blocked.to_str().expect("a plain path")];
    let finished = desk.start(&home, &flags, &["folder"]).finish().with_code(1);
    let why = "no checkpoint folder for task-1: the client on ";
    assert!(finished.stderr.contains(why) && finished.stderr.contains("file"), "{finished:?}");
}
