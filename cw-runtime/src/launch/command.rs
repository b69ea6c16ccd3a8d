//! Commands of other systems (Slurm, SSH, containers): each has a time limit, and none is believed to answer.

use std::{
    fmt,
    io::{self, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::outlook::in_line;

/// No command of an engine may take longer: a controller that hangs is asked again later.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// How long what a process wrote before its end may take to be read.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What is read of an answer; of a longer one the rest is left out.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// So many lines of a refusal are shown at most.
const LINES_MAX: usize = 100;

/// What a command said that ended well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failed {
    /// There is no such command on this machine.
    Missing {
        command: String,
    },
    /// It was killed after so long.
    Overtime {
        command: String,
        limit: Duration,
        /// What it had said until then.
        words: String,
    },
    /// It ended badly, in its own words.
    Refused {
        command: String,
        status: ExitStatus,
        words: String,
    },
    System {
        command: String,
        error: io::Error,
    },
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { command } => write!(f, "there is no `{command}` on this machine"),
            Self::Overtime { command, limit, words } => {
                write!(f, "`{command}` did not answer within {} s", limit.as_secs())?;
                if words.is_empty() { Ok(()) } else { write!(f, ": {words}") }
            }
            Self::Refused { command, status, words } if words.is_empty() => {
                write!(f, "`{command}` ended with {status} and said nothing")
            }
            Self::Refused { command, words, .. } => write!(f, "{command}: {words}"),
            Self::System { command, error } => write!(f, "cannot run `{command}`: {error}"),
        }
    }
}

/// Runs a command with this on its standard input, in a process group of its own that is killed when the time is over.
///
/// # Errors
/// [`Failed`]; only after [`Failed::Overtime`] another try is of use by itself.
pub(crate) fn run(command: &mut Command, input: &[u8], limit: Duration) -> Result<Answer, Failed> {
    let input = input.to_vec();
    run_fed(command, move |mut pipe| pipe.write_all(&input), limit)
}

/// As [`run`], for input that is not kept in memory.
pub(crate) fn run_fed(
    command: &mut Command,
    feed: impl FnOnce(ChildStdin) -> io::Result<()> + Send + 'static,
    limit: Duration,
) -> Result<Answer, Failed> {
    let name = command.get_program().to_string_lossy().into_owned();
    let deadline = Instant::now() + limit;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failed::Missing { command: name.clone() },
        _ => Failed::System { command: name.clone(), error },
    })?;
    let stdout = read(child.stdout.take().expect("just piped"));
    let stderr = read(child.stderr.take().expect("just piped"));
    let stdin = child.stdin.take().expect("just piped");
    // A command that reads nothing must not stop us.
    thread::spawn(move || feed(stdin));
    let ended = wait(&mut child, deadline);
    if matches!(ended, Ok(None)) {
        end(&mut child);
    }
    let left = || deadline.saturating_duration_since(Instant::now()).max(LAST_WORDS);
    let said = [stdout.recv_timeout(left()), stderr.recv_timeout(left())];
    let status = match ended {
        Ok(Some(status)) => status,
        Ok(None) => {
            let words = in_one_line(&said[1].clone().unwrap_or_default());
            return Err(Failed::Overtime { command: name, limit, words });
        }
        Err(error) => return Err(Failed::System { command: name, error }),
    };
    // What it left running may hold its pipes; that is nobody's answer.
    let [stdout, stderr] = said.map(|said: Result<String, RecvTimeoutError>| said.unwrap_or_default());
    if status.success() {
        return Ok(Answer { stdout, stderr });
    }
    let words = if stderr.trim().is_empty() { stdout } else { stderr };
    Err(Failed::Refused { command: name, status, words: in_one_line(&words) })
}

/// Text of several lines as one that harms no terminal, and that is not too long.
pub(crate) fn in_one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    // Of what a command may say in all, so many lines are more than are shown.
    in_line(&lines.take(LINES_MAX).collect::<Vec<_>>().join("; "))
}

fn read(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (said, hear) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes);
        // Whoever asked may have given up.
        let _ = said.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    hear
}

/// The end of a process; none if it did not come in time.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn end(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, input: &[u8], limit: Duration) -> Result<Answer, Failed> {
        run(Command::new("sh").args(["-c", script]), input, limit)
    }

    #[test]
    fn an_answer_is_what_it_said() {
        let answer = sh("cat; echo oh >&2", b"in", LIMIT).unwrap();
        assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("in", "oh\n"));
    }

    #[test]
    fn a_refusal_has_its_own_words() {
        let failed =
            sh("echo 'no partition'; echo 'error: bad' >&2; echo 'error: worse' >&2; exit 3", b"", LIMIT);
        assert_eq!(failed.unwrap_err().to_string(), "sh: error: bad; error: worse");
        let silent = sh("exit 4", b"", LIMIT).unwrap_err().to_string();
        assert_eq!(silent, "`sh` ended with exit status: 4 and said nothing");
    }

    #[test]
    fn a_refusal_is_short_and_harms_no_terminal() {
        let said = |script: &str| sh(script, b"", LIMIT).unwrap_err().to_string();
        assert_eq!(said("printf 'a\\033[2Jb\\rc\\n' >&2; exit 1"), "sh: a [2Jb c");
        for much in ["head -c 3000000 /dev/zero", "yes 'error: again' | head -n 300000"] {
            let said = said(&format!("{much} >&2; exit 1"));
            assert!(said.chars().count() <= 1_010 && !said.contains(char::is_control), "{}", said.len());
        }
    }

    #[test]
    fn what_is_not_there_is_said() {
        let failed = run(&mut Command::new("no-such-command-of-cw"), b"", LIMIT).unwrap_err();
        assert_eq!(failed.to_string(), "there is no `no-such-command-of-cw` on this machine");
    }

    #[test]
    fn one_that_hangs_is_killed_with_its_children() {
        let began = Instant::now();
        let script = "echo 'retrying' >&2; sleep 600 & sleep 600";
        let failed = sh(script, b"", Duration::from_secs(2)).unwrap_err();
        assert!(matches!(failed, Failed::Overtime { .. }), "{failed}");
        assert_eq!(failed.to_string(), "`sh` did not answer within 2 s: retrying");
        assert!(began.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn one_that_leaves_a_child_with_its_pipes_has_answered() {
        assert!(sh("sleep 600 & exit 0", b"", Duration::from_secs(1)).is_ok());
    }
}
