//! Processes of this machine that are not ours to wait for: found again by process id and start time, as another may
//! have the number by now.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal};

/// A process id, and when the process began: clock ticks since boot on Linux, some number of that moment elsewhere.
pub(crate) type Known = (u32, u64);

/// How often it is looked whether processes that were told to end have ended.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// Of a log so much is read from its end.
const TAIL_BYTES: i64 = 16 << 10;

/// When the process began; none if there is none of this id, or it has ended and only nobody has waited for it yet.
#[cfg(target_os = "linux")]
pub(crate) fn began(pid: u32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    began_in(&String::from_utf8_lossy(&stat))
}

/// The 22nd field. The second is the command's name in brackets, with whatever in it.
#[cfg(target_os = "linux")]
fn began_in(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// When the process began; none if there is none of this id.
#[cfg(not(target_os = "linux"))]
pub(crate) fn began(pid: u32) -> Option<u64> {
    use std::process::Command;
    let mut ask = Command::new("ps");
    ask.args(["-o", "stat=,lstart=", "-p", &pid.to_string()]);
    let said = super::command::run(&mut ask, b"", super::command::LIMIT).ok()?.stdout;
    let (state, moment) = said.trim().split_once(char::is_whitespace)?;
    let hash = blake3::hash(moment.trim().as_bytes());
    let number = hash.as_bytes()[..8].try_into().expect("eight bytes");
    (!state.starts_with('Z')).then(|| u64::from_le_bytes(number))
}

/// Whether this very process runs.
pub(crate) fn is_alive((pid, start): Known) -> bool {
    began(pid) == Some(start)
}

/// Sends a signal to this very process. Whether it was there.
#[cfg(target_os = "linux")]
pub(crate) fn signal(known: Known, signal: Signal) -> bool {
    use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
    let Some(pid) = i32::try_from(known.0).ok().and_then(Pid::from_raw) else { return false };
    match pidfd_open(pid, PidfdFlags::empty()) {
        // What is held is one process for good, so it is looked at after it was opened.
        Ok(process) => is_alive(known) && pidfd_send_signal(process, signal).is_ok(),
        Err(rustix::io::Errno::SRCH) => false,
        // Kernels before 5.3.
        Err(_) => is_alive(known) && rustix::process::kill_process(pid, signal).is_ok(),
    }
}

/// Sends a signal to this very process. Whether it was there.
#[cfg(not(target_os = "linux"))]
pub(crate) fn signal(known: Known, signal: Signal) -> bool {
    let Some(pid) = i32::try_from(known.0).ok().and_then(Pid::from_raw) else { return false };
    is_alive(known) && rustix::process::kill_process(pid, signal).is_ok()
}

/// Has processes end: politely, and after `patience` for good. Gives those that run nevertheless.
pub(crate) fn end(all: &[Known], patience: Duration) -> Vec<Known> {
    tell(all, Signal::TERM);
    let left = wait(all, patience);
    tell(&left, Signal::KILL);
    // A process that was killed may still have to come back from a disk.
    wait(&left, patience)
}

fn tell(all: &[Known], word: Signal) {
    for it in all {
        signal(*it, word);
    }
}

/// Waits until they have ended, at most so long; gives those that have not.
pub(crate) fn wait(all: &[Known], patience: Duration) -> Vec<Known> {
    let deadline = Instant::now() + patience;
    let mut left = all.to_vec();
    loop {
        left.retain(|it| is_alive(*it));
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        std::thread::sleep(LOOK_PAUSE);
    }
}

/// This user's processes whose environment has this variable, as `NAME=VALUE`. None where the system does not tell.
pub(crate) fn with_variable(variable: &str) -> Vec<Known> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let known = pids.filter_map(|pid: u32| {
        let start = began(pid)?;
        // It was that process that was looked into, or it is not alive with this start any more.
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        environment.split(|byte| *byte == 0).any(|it| it == variable.as_bytes()).then_some((pid, start))
    });
    known.collect()
}

/// The last lines of a log, at most so many; none if it cannot be read.
pub(crate) fn last_lines(log: &Path, lines: usize) -> Vec<String> {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let bytes = i64::try_from(file.metadata()?.len()).unwrap_or(i64::MAX);
        file.seek(SeekFrom::End(-bytes.min(TAIL_BYTES)))?;
        let mut tail = Vec::new();
        // It may grow while it is read.
        file.take(TAIL_BYTES.unsigned_abs()).read_to_end(&mut tail)?;
        Ok(String::from_utf8_lossy(&tail).into_owned())
    };
    let text = read().unwrap_or_default();
    let all: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn shell(script: &str, mark: &str) -> (Child, Known) {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("CW_TEST_MARK", mark);
        // Nobody ever writes to it, or closes it while the child is held.
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("there is a shell");
        let mut said = [0; 1];
        child.stdout.as_mut().expect("just piped").read_exact(&mut said).expect("it says a letter");
        let known = (child.id(), began(child.id()).expect("it runs"));
        (child, known)
    }

    #[test]
    fn a_process_is_known_until_it_has_ended() {
        let (mut child, known) = shell("echo x; read x", "");
        assert!(is_alive(known));
        assert!(!is_alive((known.0, known.1 + 1)), "another one that got the number");
        assert!(!signal((known.0, known.1 + 1), Signal::KILL), "which is left alone");
        assert!(is_alive(known));
        assert!(signal(known, Signal::KILL));
        // Nobody has waited for it yet.
        assert_eq!(wait(&[known], Duration::from_secs(60)), []);
        child.wait().expect("it was a child");
        assert!(!signal(known, Signal::TERM));
    }

    #[test]
    fn one_that_does_not_listen_is_killed() {
        let (mut deaf, first) = shell("trap '' TERM; echo x; while :; do read x; done", "");
        let (mut polite, second) = shell("echo x; exec sleep 600", "");
        assert_eq!(end(&[first, second], Duration::from_millis(300)), []);
        let signals = [&mut deaf, &mut polite].map(|child| {
            std::os::unix::process::ExitStatusExt::signal(&child.wait().expect("it was a child"))
        });
        assert_eq!(signals, [Some(9), Some(15)]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_is_found_by_its_environment() {
        let mark = format!("test-{}", std::process::id());
        let (mut child, known) = shell("echo x; exec sleep 600", &mark);
        assert_eq!(with_variable(&format!("CW_TEST_MARK={mark}")), [known]);
        assert_eq!(with_variable(&format!("CW_TEST_MARK={mark}x")), []);
        child.kill().expect("it runs");
        child.wait().expect("it was a child");
        assert_eq!(with_variable(&format!("CW_TEST_MARK={mark}")), []);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_name_with_brackets_confuses_nobody() {
        let stat = "7 (a) b (S) c) S 1 7 7 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 9";
        assert_eq!(began_in(stat), Some(4711));
        assert_eq!(began_in(&stat.replace(") S 1", ") Z 1")), None);
        assert_eq!(began_in("7 (sh"), None);
        assert_eq!(began_in("7 (sh) S 1"), None);
    }

    #[test]
    fn the_last_lines_of_a_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        assert_eq!(last_lines(&log, 3), [""; 0]);
        std::fs::write(&log, "one\n\ntwo\nthree\nfour\n\n").unwrap();
        assert_eq!(last_lines(&log, 3), ["two", "three", "four"]);
        assert_eq!(last_lines(&log, 9).len(), 4);
        std::fs::write(&log, format!("{}\nlast\n", "x".repeat(1 << 20))).unwrap();
        assert_eq!(last_lines(&log, 1), ["last"]);
    }
}
