//! `srun ./sim`: a program that is started as several tasks of a step, and runs once, on all of them.

use std::{
    fs,
    net::UdpSocket,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::{Pid, kill_process};

use crate::{
    site::Site,
    support::{Finished, Home, Process, Signal, program, until},
};

/// Within this all of a run end whose first rank was killed.
const SECONDS: Duration = Duration::from_secs(30);

/// A Slurm of three nodes, and what runs on it.
struct Step(Site);

impl Step {
    fn new() -> Option<Self> {
        Site::start(3).map(Self)
    }

    fn home(&self) -> &Home {
        &self.0.house.home
    }

    fn srun(&self, words: &[&str]) -> Command {
        self.0.command(Path::new("srun"), words)
    }

    /// Starts a scenario with these flags of srun's.
    fn scenario(&self, flags: &[&str], scenario: &[&str]) -> Process {
        let mut command = self.srun(flags);
        Process::start(command.arg(program("it_program")).arg("--dir").arg(self.home().path()).args(scenario))
    }

    /// Makes sure that nothing is left of a run.
    #[track_caller]
    fn assert_tidy(&self) {
        until("no process is left", || self.processes().is_empty());
        let entries = fs::read_dir(self.home().path()).expect("it is there");
        let names = entries.map(|entry| entry.expect("it can be read").file_name().into_string().unwrap());
        let left: Vec<_> = names.filter(|name| name.contains("srun-")).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    /// All processes of this home's steps: what Slurm has told them, by name.
    fn processes(&self) -> Vec<Vec<(String, String)>> {
        let home = format!("CW_HOME={}", self.home().path().display());
        let entries = fs::read_dir("/proc").expect("Linux has /proc").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let environments = pids.filter_map(|pid| fs::read(format!("/proc/{pid}/environ")).ok());
        let ours = environments.filter_map(|environment| {
            let text = String::from_utf8_lossy(&environment).into_owned();
            let variables = text.split('\0').filter_map(|variable| variable.split_once('='));
            let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
            (text.contains(&home) && text.contains("SLURM_PROCID=")).then(|| variables.collect())
        });
        ours.collect()
    }

    /// Kills the process that Slurm has started as this rank.
    fn kill(&self, rank: u32) {
        let is = |process: &[(String, String)], name: &str, value: &str| {
            process.iter().any(|(it, its)| it == name && its == value)
        };
        let processes = self.processes();
        let process = processes.iter().find(|it| is(it, "SLURM_PROCID", &rank.to_string()));
        let task = process.expect("it runs").iter().find(|(name, _)| name == "SLURM_TASK_PID");
        let pid: i32 = task.expect("Slurm says it").1.parse().expect("a number");
        kill_process(Pid::from_raw(pid).expect("a process"), Signal::KILL).expect("it is there");
    }
}

/// Makes sure that only Slurm said something.
#[track_caller]
fn assert_silent(finished: &Finished) {
    assert!(finished.stderr.lines().all(|line| line.starts_with("srun: ")), "{finished:?}");
}

#[test]
fn a_program_runs_once_on_all_nodes_and_nothing_is_said_of_that() {
    let Some(step) = Step::new() else { return };
    let finished = step.scenario(&["-N3"], &["spread", "3"]).finish().well();
    assert_eq!(finished.stdout.matches("done").count(), 1, "{finished:?}");
    assert_silent(&finished);
    step.assert_tidy();
    // As the only task it is a program by itself.
    let finished = step.scenario(&["-n1"], &["spread", "1"]).finish().well();
    assert_silent(&finished);
    // Told anything of where to run, each is.
    let finished = step.scenario(&["-N3"], &["end", "well"]).finish().well();
    assert_eq!(finished.stdout.matches("done").count(), 1, "{finished:?}");
    let mut command = step.srun(&["-N3"]);
    let words = ["--slots", "1", "end", "well"];
    command.arg(program("it_program")).arg("--dir").arg(step.home().path()).args(words);
    let finished = Process::start(&mut command).finish().well();
    assert_eq!(finished.stdout.matches("done").count(), 3, "{finished:?}");
    step.assert_tidy();
}

#[test]
fn digits_are_read_on_three_nodes() {
    let Some(step) = Step::new() else { return };
    let digits = program("digits");
    let finished = Process::start(step.srun(&["-N3", "-n6"]).arg(digits)).finish().with_code(0);
    let lines: Vec<_> = finished.stdout.lines().collect();
    assert_eq!(lines.len(), 30, "{finished:?}");
    assert_eq!(lines[0], "k=1 distance=euclidean correct=1776/1797");
    assert_eq!(lines[29], "k=15 distance=manhattan correct=1753/1797");
    step.assert_tidy();
}

#[test]
fn the_programs_exit_code_is_that_of_srun_whatever_way_it_ends() {
    let Some(step) = Step::new() else { return };
    for (how, code) in [("exit", 3), ("panic", 101), ("abort", 134)] {
        let finished = step.scenario(&["-N3"], &["end", how]).finish().with_code(code);
        assert_eq!(finished.stdout, format!("in the end {how}: 25\n"), "{finished:?}");
        assert!(!finished.stderr.contains("lost the master"), "{finished:?}");
        step.assert_tidy();
    }
    // What is wrong with the command line is told by one of them.
    let finished = step.scenario(&["-N3"], &["--slots", "none"]).finish().with_code(2);
    assert_eq!(finished.stderr.matches("invalid value 'none'").count(), 1, "{finished:?}");
    step.assert_tidy();
}

#[test]
fn a_run_goes_on_without_a_rank_that_is_killed() {
    let Some(step) = Step::new() else { return };
    let run = step.scenario(&["-N3"], &["naps", "400"]);
    run.said("30 results");
    step.kill(2);
    let finished = run.finish();
    assert!(finished.stdout.ends_with("400 results\ndone\n"), "{finished:?}");
    // So srun tells of a task that was killed.
    finished.with_code(137);
    step.assert_tidy();
}

#[test]
fn all_of_a_run_end_soon_whose_first_rank_is_killed() {
    let Some(step) = Step::new() else { return };
    let run = step.scenario(&["-N3"], &["hold"]);
    run.said("it runs");
    let killed = Instant::now();
    step.kill(0);
    run.finish_within(SECONDS).with_code(137);
    assert!(killed.elapsed() < SECONDS);
    step.assert_tidy();
}

#[test]
fn a_signal_is_the_programs_to_heed() {
    let Some(step) = Step::new() else { return };
    let run = step.scenario(&["-N3", "-J", "held"], &["hold"]);
    run.said("it runs");
    let mut cancel = step.0.command(Path::new("scancel"), &["-s", "INT", "-n", "held"]);
    assert!(cancel.status().expect("it is there").success());
    let finished = run.finish().with_code(130);
    assert_eq!(finished.stderr.matches("interrupted: tasks are cancelled").count(), 1, "{finished:?}");
    step.assert_tidy();
}

#[test]
fn a_rank_that_comes_too_late_finds_that_the_run_is_over() {
    let Some(step) = Step::new() else { return };
    let go = step.home().path().join("go");
    let script = "while [ $SLURM_PROCID = 1 ] && ! [ -e \"$0\" ]; do sleep 0.02; done; exec \"$@\"";
    let mut command = step.srun(&["-N2", "sh", "-c", script]);
    command.arg(&go).arg(program("it_program")).arg("--dir").arg(step.home().path()).args(["end", "exit"]);
    let run = Process::start(&mut command);
    run.said("in the end exit");
    run.complained("task 0: Exited with exit code 3");
    fs::write(&go, "").expect("the home can be written to");
    run.finish().with_code(3);
    step.assert_tidy();
}

#[test]
fn ranks_that_share_no_home_say_which_file_they_miss() {
    let Some(step) = Step::new() else { return };
    let script = "[ $SLURM_PROCID = 0 ] || export CW_HOME=$CW_HOME/of-its-own; exec \"$@\"";
    let mut command = step.srun(&["-N2", "sh", "-c", script, "sh"]);
    command.arg(program("it_program")).arg("--dir").arg(step.home().path());
    let run = Process::start(command.args(["--connect-timeout", "1s", "end", "well"]));
    let finished = run.finish().with_code(12);
    assert!(finished.stdout.ends_with("done\n"), "{finished:?}");
    let line = finished.stderr.lines().find(|line| line.starts_with("error: rank 1 on cw2 found no "));
    let line = line.unwrap_or_else(|| panic!("{finished:?}"));
    assert!(line.contains("of-its-own/srun-") && line.contains("CW_HOME names another"), "{line}");
}

#[test]
fn a_worker_in_a_job_finds_the_masters_job_where_its_file_is_wrong() {
    let Some(step) = Step::new() else { return };
    let it = program("it_program");
    let free = UdpSocket::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port();
    let listen = format!("0.0.0.0:{free}");
    let mut command = step.srun(&["-n1", "-w", "cw2", "-J", "cw-default-master"]);
    let master = Process::start(command.arg(&it).args(["--role", "master", "--listen", &listen]));
    master.said("join:");
    // As it would be if it was carried to a node that knows the master under no such address.
    let file = fs::read(step.home().file("worker.json")).expect("it was written");
    let mut carried: serde_json::Value = serde_json::from_slice(&file).expect("JSON");
    carried["addresses"] = serde_json::json!([format!("192.0.2.77:{free}")]);
    let path = step.home().path().join("carried.json");
    fs::write(&path, carried.to_string()).expect("the home can be written to");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
    let mut command = step.srun(&["-n1", "-w", "cw3", "-J", "worker"]);
    let worker = Process::start(command.arg(&it).args(["--role", "worker", "--access"]).arg(&path));
    worker.complained("joined the master at 127.0.0.1:");
    drop(worker);
    drop(master);
}

#[test]
fn of_two_programs_in_one_step_the_second_is_refused_and_the_first_is_well() {
    let Some(step) = Step::new() else { return };
    let mut command = step.srun(&["-N2", "-n3", "sh", "-c", "\"$@\" & \"$@\" & wait", "sh"]);
    let words = ["naps", "100"];
    command.arg(program("it_program")).arg("--dir").arg(step.home().path()).args(words);
    let finished = Process::start(&mut command).finish().with_code(0);
    assert_eq!(finished.stdout.matches("done").count(), 1, "{finished:?}");
    let errors: Vec<_> = finished.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{finished:?}");
    assert!(errors[0].contains("another program of this step runs already under srun"), "{finished:?}");
    assert!(!finished.stderr.contains("takeover"), "{finished:?}");
    step.assert_tidy();
}
