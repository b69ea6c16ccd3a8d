//! Workers as processes of this machine: `cw start --local -n 4`.
//!
//! They live on when `cw start` has ended. Each leads a process group of its own, which no terminal's signals reach, has
//! nothing to read, and writes to `log/worker-K.log` in the cluster's folder. What they are found by later is in the
//! fleet's file: process ids and start times. Should that not have been written, because `cw start` was killed in
//! between, their environment still tells (Linux).

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io,
    os::unix::{
        fs::OpenOptionsExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use super::{
    End, Launched, Launcher, Refused, State, What, container,
    fleet::{Fleet, How, Local},
    process::{self, Known},
    shell, variables,
};
use crate::{access::ClusterDir, program};

/// How long a worker that was told to end may take: it hands back what it has, and waits for its executors to die.
const END_WAIT: Duration = Duration::from_secs(10);

/// So many lines of a log are shown.
const LINES_SHOWN: usize = 5;

/// The variable by which all that was started for a fleet is known. Executors are not given it, so tasks do not have it.
pub(crate) const MARK: &str = "CW_FLEET";

/// What a worker writes last that has ended as it should.
pub(crate) const WELL: &str = "the worker has ended";

/// Starts processes of this machine.
pub(crate) struct Processes {
    fleet: Fleet,
    logs: PathBuf,
    local: Local,
    /// Those this process started itself, whose exit code it is told.
    children: BTreeMap<u32, Child>,
}

impl Processes {
    /// Whatever the fleet's file says of its processes is known. One that has none yet begins on this machine.
    pub(crate) fn new(fleet: &Fleet, dir: &ClusterDir) -> Self {
        let mut local = match &fleet.how {
            How::Local(local) => local.clone(),
            _ => Local::default(),
        };
        if local.host.is_empty() {
            local.host = program::host_name();
        }
        Self { fleet: fleet.clone(), logs: dir.log_folder(), local, children: BTreeMap::new() }
    }

    fn log(&self, index: usize) -> PathBuf {
        self.logs.join(format!("worker-{}.log", index + 1))
    }

    fn mark(&self) -> String {
        format!("{MARK}={}", self.fleet.id)
    }

    /// Process ids mean something on one machine only.
    fn check_host(&self) -> Result<(), Refused> {
        let (there, here) = (&self.local.host, program::host_name());
        if *there == here {
            return Ok(());
        }
        Err(Refused(format!("the workers are processes of {there}, and this is {here}: do it there")))
    }

    fn command(&self) -> Command {
        let program = self.fleet.command.first().map_or("cw", String::as_str);
        let words =
            std::iter::once(program.to_owned()).chain(self.fleet.worker_words(Some(self.fleet.slots.max(1))));
        // Where it starts is where it works.
        let working = std::env::current_dir().unwrap_or_default();
        let words = container::around(&self.fleet, &working, words.collect());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        variables::remove_from(&mut command);
        command.env("CW_HOME", &self.fleet.home).env(MARK, &self.fleet.id);
        command
    }

    fn spawn(&mut self) -> io::Result<u32> {
        let log = new_log(&self.log(self.local.processes.len()))?;
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn()?;
        let pid = child.id();
        // It is there until it is waited for. One that has ended already began at no time that matters.
        self.local.processes.push((pid, process::began(pid).unwrap_or_default()));
        self.children.insert(pid, child);
        Ok(pid)
    }

    fn state(&mut self, index: usize, known: Known) -> State {
        let here = self.local.host.clone();
        let ended = match self.children.get_mut(&known.0) {
            Some(child) => child.try_wait().ok().flatten(),
            None => None,
        };
        if ended.is_none() && process::is_alive(known) {
            return State::Running { on: here };
        }
        let last = process::last_lines(&self.log(index), LINES_SHOWN);
        let (is_well, how) = match ended {
            Some(status) => (status.success(), how(status)),
            None => how_by_its_log(&last),
        };
        State::Ended(End { is_well, how, on: Some(here), last })
    }

    /// Those in the file, and those that did not get into it.
    fn all(&self) -> Vec<Known> {
        let mut all = self.local.processes.clone();
        all.extend(
            process::with_variable(&self.mark()).into_iter().filter(|it| !self.local.processes.contains(it)),
        );
        all
    }

    fn end(&mut self, all: &[Known]) -> Vec<Known> {
        let left = process::end(all, END_WAIT);
        // Only now: until then a child that has ended keeps its number from others.
        self.children.retain(|_, child| !matches!(child.try_wait(), Ok(Some(_))));
        self.local.processes.retain(|it| left.contains(it));
        left
    }
}

impl Launcher for Processes {
    fn start(&mut self, workers: u32) -> Result<Vec<String>, Refused> {
        self.check_host()?;
        let first = self.local.processes.len();
        for _ in 0..workers {
            if let Err(error) = self.spawn() {
                let begun = self.local.processes.split_off(first);
                self.local.processes.extend(process::end(&begun, END_WAIT));
                let program = self.command().get_program().to_string_lossy().into_owned();
                return Err(Refused(format!("cannot start `{program}` for a worker: {error}")));
            }
        }
        Ok(self.local.processes[first..].iter().map(|(pid, _)| name(*pid)).collect())
    }

    fn look(&mut self) -> Result<Vec<Launched>, Refused> {
        self.check_host()?;
        let known: Vec<Known> = self.local.processes.clone();
        let launched = known.iter().enumerate().map(|(index, it)| Launched {
            id: name(it.0),
            what: What::Worker,
            state: self.state(index, *it),
        });
        Ok(launched.collect())
    }

    fn stop(&mut self) -> Result<(), Refused> {
        self.check_host()?;
        let left = self.end(&self.all());
        if left.is_empty() {
            return Ok(());
        }
        let pids: Vec<String> = left.iter().map(|(pid, _)| pid.to_string()).collect();
        Err(Refused(format!(
            "still running on {} although killed {} s ago: process {}",
            self.local.host,
            END_WAIT.as_secs(),
            pids.join(", ")
        )))
    }

    fn how(&self) -> How {
        How::Local(self.local.clone())
    }

    fn plan(&self, workers: u32) -> String {
        let command = self.command();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let line = format!("CW_HOME={} {}", shell::quote(&self.fleet.home), shell::line(words));
        let first = self.local.processes.len();
        (first..first + workers as usize)
            .map(|index| format!("{line} < /dev/null > {} 2>&1 &\n", shell::quote(self.log(index))))
            .collect()
    }
}

fn name(pid: u32) -> String {
    format!("process {pid}")
}

/// In words, as the other launchers have them.
fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// How one ended whose exit code went to nobody, and whether it did well.
fn how_by_its_log(last: &[String]) -> (bool, String) {
    let has_error = last.iter().any(|line| line.starts_with("error: "));
    match last.last() {
        Some(line) if line.ends_with(WELL) => (true, "by itself".to_owned()),
        _ if has_error => (false, "with an error".to_owned()),
        _ => (false, "without a last word".to_owned()),
    }
}

/// An empty log that only this user may read: what one of a fleet before said is nothing this one says.
fn new_log(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .append(false)
        .mode(0o600)
        .open(path)
        .map_err(|error| io::Error::new(error.kind(), format!("its log {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use rustix::process::Signal;

    use super::*;
    use crate::launch::fleet::{Container, Engine, tests::fleet};

    const PATIENCE: Duration = Duration::from_secs(60);

    struct Place {
        _home: tempfile::TempDir,
        dir: ClusterDir,
        fleet: Fleet,
    }

    /// A fleet whose workers run a script. It finds its words in `$@`.
    fn place(script: &str) -> Place {
        let home = tempfile::tempdir().unwrap();
        let dir = ClusterDir::in_home(home.path(), "default").unwrap();
        dir.make().unwrap();
        let file = home.path().join("a worker's program");
        // By another process: what this one has open for writing, a child of another test may hold.
        let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\" && chmod 755 \"$0\"";
        assert!(Command::new("sh").arg("-c").arg(write).arg(&file).arg(script).status().unwrap().success());
        let fleet = Fleet {
            id: format!("t{}", home.path().file_name().unwrap().to_string_lossy()),
            home: home.path().to_owned(),
            command: vec![file.to_str().unwrap().to_owned(), "worker".to_owned()],
            how: How::Local(Local::default()),
            idle: None,
            ..fleet()
        };
        Place { _home: home, dir, fleet }
    }

    impl Place {
        fn launcher(&self) -> Processes {
            Processes::new(&self.fleet, &self.dir)
        }

        /// One that knows only what is in the fleet's file.
        fn next(&mut self, before: &Processes) -> Processes {
            self.fleet.how = before.how();
            self.launcher()
        }

        fn log(&self, number: u32) -> Vec<String> {
            process::last_lines(&self.dir.log_folder().join(format!("worker-{number}.log")), 9)
        }

        fn until_log(&self, number: u32, line: &str) {
            let deadline = std::time::Instant::now() + PATIENCE;
            while !self.log(number).iter().any(|it| it.contains(line)) {
                assert!(std::time::Instant::now() < deadline, "{:?}", self.log(number));
                std::thread::yield_now();
            }
        }
    }

    fn until_ended(launcher: &mut Processes, index: usize) -> End {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            if let State::Ended(end) = launcher.look().unwrap().swap_remove(index).state {
                return end;
            }
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
    }

    #[test]
    fn they_are_told_what_to_be_and_end_when_told_to() {
        let mut place = place("echo \"$CW_HOME: $@\"; exec sleep 600");
        let mut launcher = place.launcher();
        assert_eq!(launcher.start(2).unwrap().len(), 2);
        place.until_log(2, &format!("{}: worker --cluster default --slots 1", place.fleet.home.display()));
        let mut next = place.next(&launcher);
        let running =
            |it: &Launched| matches!(&it.state, State::Running { on } if *on == program::host_name());
        assert!(next.look().unwrap().iter().all(running));
        let known = next.local.processes.clone();
        next.stop().unwrap();
        assert!(!known.iter().any(|it| process::is_alive(*it)));
        assert_eq!(next.how(), How::Local(Local { host: program::host_name(), processes: Vec::new() }));
        next.stop().unwrap();
    }

    #[test]
    fn an_exit_code_is_known_to_who_started_it() {
        let place = place("echo 'error: cannot read x' >&2; exit 3");
        let mut launcher = place.launcher();
        launcher.start(1).unwrap();
        let end = until_ended(&mut launcher, 0);
        assert_eq!((end.is_well, end.how.as_str()), (false, "exit code 3"));
        assert_eq!(end.last, ["error: cannot read x"]);
    }

    #[test]
    fn one_of_a_start_before_tells_by_its_log_how_it_ended() {
        let mut place = place("exec sleep 600");
        let mut launcher = place.launcher();
        launcher.start(1).unwrap();
        let mut next = place.next(&launcher);
        let known = next.local.processes[0];
        assert!(process::signal(known, Signal::KILL));
        let end = until_ended(&mut next, 0);
        assert_eq!((end.is_well, end.how.as_str()), (false, "without a last word"));
        let mut ended_with = |line: &str| {
            std::fs::write(place.dir.log_folder().join("worker-1.log"), format!("{line}\n")).unwrap();
            let end = until_ended(&mut next, 0);
            (end.is_well, end.how)
        };
        assert_eq!(ended_with(&format!("INFO {WELL}")), (true, "by itself".to_owned()));
        assert_eq!(ended_with("error: no master"), (false, "with an error".to_owned()));
        assert_eq!(until_ended(&mut launcher, 0).how, "killed by signal 9");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn one_that_was_not_noted_is_stopped_too() {
        let place = place("echo up; sleep 600 & wait");
        let mut lost = place.launcher();
        lost.start(1).unwrap();
        let known = lost.local.processes[0];
        // While it is being executed its environment cannot be read.
        place.until_log(1, "up");
        place.launcher().stop().unwrap();
        assert!(!process::is_alive(known));
        assert_eq!(process::with_variable(&lost.mark()), []);
    }

    #[test]
    fn what_cannot_be_started_leaves_nothing() {
        let mut place = place("exec sleep 600");
        place.fleet.command[0] = "/no/such/program".to_owned();
        let mut launcher = place.launcher();
        let refused = launcher.start(3).unwrap_err().to_string();
        assert!(
            refused.starts_with("cannot start `/no/such/program` for a worker: No such file"),
            "{refused}"
        );
        assert_eq!(launcher.look().unwrap(), []);
    }

    #[test]
    fn a_worker_may_be_in_a_container() {
        let mut place = place("exec sleep 600");
        let args = vec!["--nv".to_owned()];
        place.fleet.container =
            Some(Container { engine: Engine::Apptainer, image: "i.sif".to_owned(), args });
        let plan = place.launcher().plan(1);
        let program = shell::quote(&place.fleet.command[0]);
        let inner = format!("--nv i.sif {program} worker --cluster default --slots 1 < /dev/null");
        assert!(plan.contains(" apptainer exec --bind ") && plan.contains(&inner), "{plan}");
    }

    #[test]
    fn processes_of_another_machine_are_left_alone() {
        let mut place = place("exec sleep 600");
        let own = vec![(std::process::id(), process::began(std::process::id()).unwrap())];
        place.fleet.how = How::Local(Local { host: "elsewhere".to_owned(), processes: own });
        let mut launcher = place.launcher();
        for refused in
            [launcher.look().unwrap_err(), launcher.stop().unwrap_err(), launcher.start(1).unwrap_err()]
        {
            assert!(refused.to_string().starts_with("the workers are processes of elsewhere"), "{refused}");
        }
    }

    #[test]
    fn variables_of_a_shell_do_not_reach_a_worker() {
        let place = place("");
        let command = place.launcher().command();
        let of =
            |name: &str| command.get_envs().find(|(it, _)| *it == name).map(|(_, value)| value.is_some());
        assert_eq!(
            [of("CW_HOME"), of("CW_MASTER"), of("CW_IDLE"), of("CW_ACCESS")],
            [Some(true), Some(false), Some(false), None]
        );
    }

    #[test]
    fn a_plan_is_what_could_be_typed() {
        let place = place("echo \"$@\"");
        let plan = place.launcher().plan(2);
        assert_eq!(plan.lines().count(), 2, "{plan}");
        let typed = Command::new("sh").arg("-c").arg(format!("{plan} wait")).status().unwrap();
        assert!(typed.success());
        assert_eq!(place.log(2), ["worker --cluster default --slots 1"]);
    }
}
