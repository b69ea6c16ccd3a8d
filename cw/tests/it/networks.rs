//! Stores on a file system that several machines share, of which none sees the others' locks. The machines are two mounts
//! (FUSE) of one folder, and names of their own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    stores::{Runs, count},
    support::{Finished, Process, Signal, program},
};

/// Two machines' views of one folder.
struct Shared {
    runs: Runs,
    mounts: [PathBuf; 2],
}

impl Drop for Shared {
    fn drop(&mut self) {
        for mount in &self.mounts {
            let _ = Command::new("fusermount").arg("-uz").arg(mount).output();
        }
    }
}

impl Shared {
    /// None where nobody may mount, or name a machine.
    fn new() -> Option<Self> {
        let runs = Runs::new();
        let folder = runs.home.path().join("server");
        let mounts = ["one", "two"].map(|name| runs.home.path().join(name));
        let is_well = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        fs::create_dir(&folder).expect("a temporary folder");
        let may = mounts.iter().all(|mount| {
            fs::create_dir(mount).expect("a temporary folder");
            is_well(Command::new("bindfs").arg(&folder).arg(mount))
        });
        let may_name = is_well(Command::new("unshare").args(["-u", "hostname", "node7"]));
        let shared = Self { runs, mounts };
        if may && may_name {
            return Some(shared);
        }
        eprintln!("skipped: bindfs cannot mount here, or unshare not name a machine");
        None
    }

    /// Starts the program on one of the machines; the second has a name of its own.
    fn start(&self, machine: usize, words: &[&str]) -> Process {
        let mut command = match machine {
            0 => self.runs.home.command(&program("it_store"), &["--threads"]),
            _ => {
                let name = "hostname node7; exec \"$@\"";
                let mut command =
                    self.runs.home.command(Path::new("unshare"), &["-u", "sh", "-ec", name, "sh"]);
                command.arg(program("it_store")).arg("--threads");
                command
            }
        };
        command.args(words).arg("--store").arg(self.store(machine)).arg("--log").arg(self.runs.log());
        Process::start(&mut command)
    }

    fn store(&self, machine: usize) -> PathBuf {
        self.mounts[machine].join("x.db")
    }

    fn show(&self, machine: usize, words: &[&str]) -> Finished {
        let cw = env!("CARGO_BIN_EXE_cw");
        let mut command = match machine {
            0 => self.runs.home.command(Path::new(cw), &["results"]),
            _ => {
                let name = ["-u", "sh", "-ec", "hostname node7; exec \"$@\"", "sh", cw, "results"];
                self.runs.home.command(Path::new("unshare"), &name)
            }
        };
        Process::start(command.arg(self.store(machine)).args(words)).finish()
    }
}

#[test]
fn a_store_is_one_programs_on_whichever_machine_and_the_next_ones_when_that_is_dead() {
    let Some(shared) = Shared::new() else { return };
    let words = ["map", "--to", "400", "--millis", "20"];
    let first = shared.start(0, &words);
    first.complained("it lies on a network file system");
    first.said("10 results");
    let second = shared.start(1, &["weigh"]).finish().with_code(1);
    let line = format!("it is in use by process {} on ", first.pid());
    assert!(second.stderr.contains(&line), "{second:?}");
    first.signal(Signal::KILL);
    drop(first);
    let third = shared.start(1, &words).finish().well();
    assert!(third.stderr.contains("has not closed it; looking for a sign of life for 10 s"), "{third:?}");
    assert!(third.stdout.contains("ended=400 failed=0"), "{third:?}");
    assert!(!shared.mounts[0].join("x.db.owner").exists());
    // On its own machine what a dead program left is nothing to wait for.
    let fourth = shared.start(0, &["map", "--to", "500", "--millis", "20"]);
    fourth.said("410 results");
    fourth.signal(Signal::KILL);
    drop(fourth);
    let last = shared.start(0, &["map", "--to", "500"]).finish().well();
    assert!(!last.stderr.contains("sign of life"), "{last:?}");
}

#[test]
fn a_program_that_stood_still_and_lost_its_store_writes_nothing_any_more() {
    let Some(shared) = Shared::new() else { return };
    let words = ["map", "--to", "200", "--millis", "20"];
    let first = shared.start(0, &words);
    first.said("10 results");
    first.signal(Signal::STOP);
    let second = shared.start(1, &words);
    second.complained("looking for a sign of life");
    let finished = second.finish().well();
    assert!(finished.stdout.contains("ended=200 failed=0"), "{finished:?}");
    let before = fs::read(shared.store(0)).expect("it is closed");
    first.signal(Signal::CONT);
    let stopped = first.finish().with_code(16);
    assert!(stopped.stderr.contains("another program has taken it"), "{stopped:?}");
    assert!(fs::read(shared.store(0)).expect("it is closed") == before, "it is as the second left it");
}

#[test]
fn what_is_recorded_is_read_through_the_program_that_has_the_store() {
    let Some(shared) = Shared::new() else { return };
    let first = shared.start(0, &["map", "--to", "100000", "--millis", "20"]);
    first.said("30 results");
    let lines = shared.show(0, &["--format", "jsonl"]).with_code(0).stdout;
    assert!(lines.lines().count() >= 30, "{lines}");
    let squares: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    assert!(squares.iter().all(|row| row["value"]["n"] == row["arguments"]["n"]));
    assert!(shared.show(0, &[]).with_code(0).stdout.contains("it_store::square: "));
    let verified = shared.show(0, &["verify"]);
    assert!(verified.stderr.contains("can be verified once that has ended"), "{verified:?}");
    let elsewhere = shared.show(1, &[]).with_code(16);
    let line = format!("process {} on ", first.pid());
    assert!(elsewhere.stderr.contains(&line) && elsewhere.stderr.contains("read it there"), "{elsewhere:?}");
    first.signal(Signal::INT);
    first.finish().with_code(130);
    let sound = shared.show(1, &["verify"]).with_code(0);
    assert!(sound.stdout.contains("all as they were written"), "{sound:?}");
    assert!(count(&shared.runs.ran(), "ends") >= 30);
}
