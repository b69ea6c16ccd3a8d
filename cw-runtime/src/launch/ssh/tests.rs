//! What `remote.sh` does, run by a shell of this machine in a home of its own, and what is made of its answers. A real
//! `ssh` has its tests in `cw/tests/launch/ssh.rs`.

use std::{
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::{Command, Stdio},
};

use super::*;
use crate::launch::{
    fleet::{Host, tests::fleet},
    process,
    ssh::{reach::bootstrap, remote::Call},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A machine with a home of its own, and a fleet whose workers run a script.
struct Place {
    home: tempfile::TempDir,
    fleet: Fleet,
}

impl Place {
    fn new(script: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        for folder in [".cache", "tmp", "it's here"] {
            fs::create_dir(home.path().join(folder)).unwrap();
        }
        let program = home.path().join("it's here/sim");
        let version = "case $1 in --version) exit 0;; esac";
        write_program(&program, &format!("{version}\n{script}"));
        let fleet = Fleet {
            home: home.path().join("no cluster's"),
            command: vec![program.to_str().unwrap().to_owned(), "worker".to_owned()],
            idle: None,
            ..fleet()
        };
        Self { home, fleet }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn program(&self) -> Program {
        Program::of(&self.fleet).unwrap()
    }

    /// Does there what `ssh` would do.
    fn run(&self, Call { script, input, .. }: Call) -> Said {
        let mut shell = Command::new("sh");
        shell.args(["-c", &bootstrap(script.len())]).current_dir(self.home.path());
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        shell.env_clear().env("PATH", path);
        shell.env("HOME", self.home.path()).env("TMPDIR", self.path("tmp"));
        let mut child = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(script.as_bytes()).unwrap();
        // It need not be read to its end.
        let _ = input.feed(&mut pipe);
        drop(pipe);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        Said::read(&reach::marked(&String::from_utf8(output.stdout).unwrap()))
    }

    fn start_once(&self, remote: &Remote<'_>, program: &Program) -> Said {
        self.run(remote.starting(&self.fleet, Some(2), program, b"{}\n"))
    }

    fn start(&self, remote: &Remote<'_>, program: &Program) -> Said {
        let said = self.start_once(remote, program);
        if said.state == Some(Found::Needs) {
            assert_eq!(self.run(remote.putting(program)).state, Some(Found::Has));
            return self.start_once(remote, program);
        }
        said
    }

    fn hide_program(&self) {
        fs::rename(self.path("it's here"), self.path("elsewhere")).unwrap();
    }

    /// A program that is known here and not seen there.
    fn sent(&mut self) -> Program {
        let program = self.program();
        self.hide_program();
        program.from(self.path("elsewhere/sim"))
    }

    fn is_empty(&self) -> bool {
        let is_empty = |name: &str| fs::read_dir(self.path(name)).unwrap().next().is_none();
        is_empty(".cache") && is_empty("tmp")
    }

    /// The line of a worker's log, once it is there.
    fn logged(&self, folder: &str) -> String {
        let log = self.path(&format!(".cache/cw/{folder}/log"));
        let deadline = Instant::now() + PATIENCE;
        loop {
            match process::last_lines(&log, 1).pop() {
                Some(line) => return line,
                None => assert!(Instant::now() < deadline, "nothing in {}", log.display()),
            }
        }
    }
}

/// By another process: what this one has open for writing, a child of another test may hold.
fn write_program(path: &Path, script: &str) {
    let write = "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\" && chmod 755 \"$0\"";
    assert!(Command::new("sh").arg("-c").arg(write).arg(path).arg(script).status().unwrap().success());
}

fn remote(folder: &str) -> Remote<'static> {
    Remote { args: &[], host: "node7", folder: folder.to_owned() }
}

fn pid(said: &Said) -> u32 {
    match said.state {
        Some(Found::Started(pid) | Found::Running(pid)) => pid,
        _ => panic!("{said:?}"),
    }
}

#[test]
fn a_worker_runs_from_what_is_seen_there_and_leaves_nothing() {
    let place = Place::new("echo \"$CW_HOME|$TMPDIR|$*|$(umask)|$(cat)\"; exec sleep 600");
    let (remote, program) = (remote("3fa9-1"), place.program());
    let said = place.start_once(&remote, &program);
    let folder = place.path(".cache/cw/3fa9-1");
    assert_eq!(said.folder.as_deref(), folder.to_str());
    let worker = (pid(&said), process::began(pid(&said)).unwrap());
    let (home, temporary) = (folder.join("home"), place.path("tmp/cw-3fa9-1"));
    let words = "worker --cluster default --slots 2";
    let umask = String::from_utf8(Command::new("sh").args(["-c", "umask"]).output().unwrap().stdout).unwrap();
    assert_eq!(
        place.logged("3fa9-1"),
        format!("{}|{}|{words}|{}|", home.display(), temporary.display(), umask.trim())
    );
    assert!(!place.path(".cache/cw/bin").exists(), "nothing was sent");
    let access = fs::metadata(home.join("default/worker.json")).unwrap();
    assert_eq!((access.mode() & 0o777, access.len()), (0o600, 3));
    for private in [folder.clone(), home, temporary] {
        assert_eq!(fs::metadata(private).unwrap().mode() & 0o777, 0o700);
    }
    assert_eq!(place.start_once(&remote, &program).state, Some(Found::Running(worker.0)));
    assert_eq!(place.run(remote.looking()).state, Some(Found::Running(worker.0)));
    assert_eq!(place.run(remote.stopping()).state, Some(Found::Stopped));
    assert!(!process::is_alive(worker) && place.is_empty());
    assert_eq!(place.run(remote.looking()).state, Some(Found::Nothing));
    assert_eq!(place.run(remote.stopping()).state, Some(Found::Stopped));
}

#[test]
fn a_program_is_sent_once_and_removed_with_its_last_fleet() {
    let mut place = Place::new("exec sleep 600");
    let program = place.sent();
    let (first, second) = (remote("3fa9-1"), remote("77aa-1"));
    assert_eq!(place.start_once(&first, &program).state, Some(Found::Needs));
    pid(&place.start(&first, &program));
    let sent = place.path(&format!(".cache/cw/bin/{}", program.name()));
    let inode = fs::metadata(&sent).unwrap().ino();
    // Nothing needs to be sent to the next.
    pid(&place.start_once(&second, &program));
    assert_eq!(fs::metadata(&sent).unwrap().ino(), inode);
    assert_eq!(place.run(first.stopping()).state, Some(Found::Stopped));
    assert!(sent.exists(), "another fleet has it");
    assert!(matches!(place.run(second.looking()).state, Some(Found::Running(_))));
    assert_eq!(place.run(second.stopping()).state, Some(Found::Stopped));
    assert!(place.is_empty());
}

#[test]
fn what_comes_damaged_or_does_not_run_is_not_kept() {
    let mut place = Place::new("exec sleep 600");
    let program = place.sent();
    let failed = |program: &Program, said: &str| {
        let Some(Found::Failed(why)) = place.run(remote("3fa9-1").putting(program)).state else { panic!() };
        assert!(why.contains(said), "{why}");
        assert_eq!(fs::read_dir(place.path(".cache/cw/bin")).unwrap().count(), 0);
    };
    let other = place.path("other");
    let bytes = program.bytes();
    fs::write(&other, vec![b'x'; bytes as usize]).unwrap();
    failed(&program.clone().from(other.clone()), "the program was changed while it was sent");
    fs::write(&other, "x").unwrap();
    failed(&program.clone().from(other.clone()), &format!("1 of {bytes} bytes of the program came"));
    write_program(&other, "echo 'no libc of that age' >&2\nexit 1");
    let fleet = Fleet { command: vec![other.to_str().unwrap().to_owned(), "worker".to_owned()], ..fleet() };
    failed(&Program::of(&fleet).unwrap(), "the program does not run there: no libc of that age");
}

#[test]
fn the_folder_of_the_cluster_is_used_where_it_is_seen() {
    let mut place = Place::new("echo \"$CW_HOME\"; exec sleep 600");
    place.fleet.home = place.path("shared home");
    let dir = ClusterDir::in_home(&place.fleet.home, "default").unwrap();
    dir.make().unwrap();
    dir.write_fleet(&place.fleet).unwrap();
    fs::write(dir.access_file(Peer::Worker), "{}").unwrap();
    let (shared, program) = (remote("3fa9-1"), place.program());
    pid(&place.start(&shared, &program));
    assert_eq!(place.logged("3fa9-1"), place.fleet.home.to_str().unwrap());
    assert!(!place.path(".cache/cw/3fa9-1/home").exists());
    // One of another fleet by the same name is another cluster.
    place.fleet.id = "77aa".to_owned();
    pid(&place.start(&remote("77aa-1"), &program));
    assert_eq!(place.logged("77aa-1"), place.path(".cache/cw/77aa-1/home").to_str().unwrap());
    assert_eq!(place.run(remote("77aa-1").stopping()).state, Some(Found::Stopped));
    assert_eq!(place.run(shared.stopping()).state, Some(Found::Stopped));
    assert!(place.is_empty() && dir.access_file(Peer::Worker).exists());
}

#[test]
fn how_a_worker_ended_is_told() {
    let place = Place::new("echo one; echo 'error: two' >&2; exit 12");
    let (remote, program) = (remote("3fa9-1"), place.program());
    pid(&place.start(&remote, &program));
    let deadline = Instant::now() + PATIENCE;
    let said = loop {
        let said = place.run(remote.looking());
        if matches!(said.state, Some(Found::Ended(_))) {
            break said;
        }
        assert!(Instant::now() < deadline, "{said:?}");
    };
    assert_eq!(
        (said.state.clone(), said.log.clone()),
        (Some(Found::Ended(Some(12))), vec!["one".into(), "error: two".into()])
    );
    let State::Ended(end) = state("node7", Ok(said)) else { panic!() };
    assert_eq!((end.is_well, end.how.as_str(), end.on.as_deref()), (false, "exit code 12", Some("node7")));
    assert_eq!(place.run(remote.stopping()).state, Some(Found::Stopped));
    assert!(place.is_empty());
}

#[test]
fn one_that_is_killed_is_told_and_a_stranger_of_its_number_is_left_alone() {
    let place = Place::new("exec sleep 600");
    let (remote, program) = (remote("3fa9-1"), place.program());
    let said = place.start(&remote, &program);
    let worker = (pid(&said), process::began(pid(&said)).unwrap());
    assert!(process::signal(worker, rustix::process::Signal::KILL));
    let deadline = Instant::now() + PATIENCE;
    while process::is_alive(worker) {
        assert!(Instant::now() < deadline);
    }
    let said = place.run(remote.looking());
    let State::Ended(end) = state("node7", Ok(said)) else { panic!() };
    assert_eq!((end.is_well, end.how.as_str()), (false, "killed by signal 9"));
    // The number is this process's now, whose start is another.
    let start = process::began(std::process::id()).unwrap();
    fs::write(place.path(".cache/cw/3fa9-1/worker"), format!("{} {}\n", std::process::id(), start + 1))
        .unwrap();
    assert!(matches!(place.run(remote.looking()).state, Some(Found::Ended(_))));
    assert_eq!(place.run(remote.stopping()).state, Some(Found::Stopped));
    assert!(place.is_empty());
}

#[test]
fn one_that_does_not_listen_is_killed() {
    let place = Place::new("trap '' TERM; echo deaf; while :; do sleep 0.05; done");
    let (remote, program) = (remote("3fa9-1"), place.program());
    let said = place.start(&remote, &program);
    let worker = (pid(&said), process::began(pid(&said)).unwrap());
    assert_eq!(place.logged("3fa9-1"), "deaf");
    assert_eq!(place.run(remote.stopping()).state, Some(Found::Stopped));
    assert!(!process::is_alive(worker) && place.is_empty());
}

#[test]
fn without_a_cache_in_the_home_temporary_files_do() {
    let place = Place::new("exec sleep 600");
    fs::remove_dir(place.path(".cache")).unwrap();
    let (remote, program) = (remote("3fa9-1"), place.program());
    let user = rustix::process::geteuid().as_raw();
    let said = place.start(&remote, &program);
    let base = place.path(&format!("tmp/cw-ssh-{user}"));
    assert_eq!(said.folder.as_deref(), base.join("3fa9-1").to_str());
    assert_eq!(place.run(remote.stopping()).state, Some(Found::Stopped));
    // A folder that others may enter is not trusted.
    fs::create_dir(&base).unwrap();
    fs::set_permissions(&base, fs::Permissions::from_mode(0o777)).unwrap();
    let Some(Found::Failed(why)) = place.start_once(&remote, &program).state else { panic!() };
    assert!(why.contains("can be a private folder"), "{why}");
}

#[test]
fn what_another_user_has_put_there_is_neither_believed_nor_removed() {
    let place = Place::new("exec sleep 600");
    // Then all that is here is somebody else's.
    fs::create_dir(place.path("bin")).unwrap();
    write_program(&place.path("bin/id"), "echo 4711");
    let base = place.path("tmp/cw-ssh-4711");
    let folder = base.join("3fa9-1");
    fs::create_dir_all(&folder).unwrap();
    fs::create_dir(base.join("bin")).unwrap();
    for private in [&base, &folder] {
        fs::set_permissions(private, fs::Permissions::from_mode(0o700)).unwrap();
    }
    fs::write(place.path("precious"), "").unwrap();
    fs::write(folder.join("program"), "../../../precious\n").unwrap();
    let mut victim = Command::new("sleep").arg("600").spawn().unwrap();
    let known = (victim.id(), process::began(victim.id()).unwrap());
    fs::write(folder.join("worker"), format!("{} {}\n", known.0, known.1)).unwrap();
    let said = [remote("3fa9-1").looking(), remote("3fa9-1").stopping()].map(|call| place.run(call).state);
    let is_alive = process::is_alive(known);
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert_eq!(said, [Some(Found::Nothing), Some(Found::Stopped)]);
    assert!(is_alive && place.path("precious").exists() && folder.exists());
}

#[test]
fn a_folder_of_ours_that_is_open_or_has_odd_words_is_not_believed() {
    let place = Place::new("exec sleep 600");
    let remote = remote("3fa9-1");
    let said = place.start(&remote, &place.program());
    let worker = (pid(&said), process::began(pid(&said)).unwrap());
    let folder = place.path(".cache/cw/3fa9-1");
    let mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o770);
    for call in [remote.looking(), remote.stopping()] {
        let Some(Found::Failed(why)) = place.run(call).state else { panic!() };
        assert!(why.starts_with(&format!("{} is open to others", folder.display())), "{why}");
    }
    mode(0o700);
    let noted = fs::read_to_string(folder.join("worker")).unwrap();
    fs::write(folder.join("worker"), format!("../proc/{noted}")).unwrap();
    assert!(matches!(place.run(remote.looking()).state, Some(Found::Ended(_))));
    fs::write(folder.join("worker"), noted).unwrap();
    fs::create_dir(place.path(".cache/cw/bin")).unwrap();
    fs::write(place.path("precious"), "").unwrap();
    fs::write(folder.join("program"), "../../../precious\n").unwrap();
    assert_eq!(place.run(remote.stopping()).state, Some(Found::Stopped));
    assert!(!process::is_alive(worker) && place.is_empty());
    assert!(place.path("precious").exists());
}

fn over(hosts: &[(&str, Option<&str>)]) -> OverSsh {
    let hosts = hosts.iter().map(|(name, folder)| Host {
        name: (*name).to_owned(),
        folder: folder.map(str::to_owned),
        ..Host::default()
    });
    let how = How::Ssh(Ssh { hosts: hosts.collect(), args: Vec::new() });
    OverSsh::new(&Fleet { how, ..fleet() }, &ClusterDir::in_home(Path::new("/h"), "default").unwrap())
}

#[test]
fn where_nothing_runs_yet_comes_first() {
    let over = over(&[("a", Some("f")), ("b", None), ("c", Some("f")), ("d", None)]);
    assert_eq!(over.candidates(2), [1, 3]);
    assert_eq!(over.candidates(3), [0, 1, 3]);
    assert_eq!(over.candidates(9), [0, 1, 2, 3]);
}

#[test]
fn what_a_host_says_is_noted() {
    let mut over = over(&[("a", None), ("b", None), ("c", None), ("d", None)]);
    let said = |state| Ok(Said { state: Some(state), folder: Some("/f".to_owned()), log: Vec::new() });
    assert!(over.on_started(0, said(Found::Started(7))));
    assert!(over.on_started(1, said(Found::Failed("no room".to_owned()))));
    assert!(over.on_started(2, Err(Lost::Unreached("No route to host".to_owned()))));
    assert!(over.on_started(3, Err(Lost::Broken("no answer".to_owned()))));
    let noted: Vec<_> =
        over.ssh.hosts.iter().map(|it| (it.folder.as_deref(), it.failed.as_deref())).collect();
    assert_eq!(
        noted,
        [
            (Some("/f"), None),
            (Some("/f"), Some("no room")),
            (None, Some("No route to host")),
            (Some(""), Some("no answer"))
        ]
    );
    assert_eq!(over.failures(&[0, 2, 3]), "c: No route to host; d: no answer");
    let State::Ended(end) = over.ask(2).state else { panic!() };
    assert_eq!(end.how, "was not started: No route to host");
    assert!(!over.on_started(1, said(Found::Running(8))), "there is no new one");
    assert_eq!(over.ssh.hosts[1].failed, None);
}
