//! Calls of `ssh`: what it is told, many at once, and what came back.
//!
//! On the other side only `sh` and the usual small tools are needed, whatever the login shell is: the command line is one
//! that `csh` and `fish` read as well, and the script comes in on the standard input, with its data behind it.

use std::{
    fs::File,
    io::{self, Write},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use crate::launch::{
    command::{self, Failed},
    shell,
};

/// So many calls at a time: each is a process here, and a burst of logins looks like an attack.
const AT_ONCE: usize = 16;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// Ours, ahead of the user's: nobody is there to be asked for a password.
const FIRST: [&str; 2] = ["-o", "BatchMode=yes"];

/// Ours that the user's own words overrule. A shared connection is used, but none is left behind; and forwardings in a
/// user's settings would stand in each other's way.
const LAST: [&str; 12] = [
    "-o",
    "ConnectTimeout=10",
    "-o",
    "ServerAliveInterval=5",
    "-o",
    "ServerAliveCountMax=3",
    "-o",
    "ControlMaster=no",
    "-o",
    "ClearAllForwardings=yes",
    "-T",
    "-x",
];

/// The exit code by which `ssh` tells that there was no connection, or that it broke.
const NO_CONNECTION: i32 = 255;

/// What it says of one that never came to a login.
const UNREACHED: [&str; 7] = [
    "connect to host",
    "Could not resolve",
    "No route to host",
    CROWDED,
    "banner exchange",
    "Host key verification failed",
    "Permission denied",
];

/// What it says where a server, perhaps one that all calls have to pass, has too many logins at once (`MaxStartups`).
const CROWDED: &str = "kex_exchange_identification";

/// Such a server is tried so often.
const TRIES: u32 = 5;

/// How long it is left alone then, at first.
const PAUSE: Duration = Duration::from_millis(500);

/// What is marked as being for us in what a host says.
const MARK: &str = "cw:";

/// Why nothing came back from a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It was not reached, so nothing was done.
    Unreached(String),
    /// It may be that something was done.
    Broken(String),
}

impl Lost {
    pub(crate) fn words(&self) -> &str {
        match self {
            Self::Unreached(words) | Self::Broken(words) => words,
        }
    }
}

/// The command that runs a script of so many bytes on a host.
pub(crate) fn ssh(args: &[String], host: &str, script_bytes: usize) -> Command {
    let mut command = Command::new("ssh");
    command.args(FIRST).args(args).args(LAST).args(["--", host, &bootstrap(script_bytes)]);
    command
}

/// Reads the script and no byte more: a shell that reads its script itself may read ahead.
pub(super) fn bootstrap(script_bytes: usize) -> String {
    format!("sh -c 'eval \"$(dd bs=1 count={script_bytes} 2>/dev/null)\"'")
}

/// The command as it could be typed.
pub(crate) fn typed(command: &Command) -> String {
    shell::line(std::iter::once(command.get_program()).chain(command.get_args()))
}

/// What a script finds behind itself.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Bytes(Vec<u8>),
    /// What is in a file, which may be large.
    File {
        path: PathBuf,
        bytes: u64,
    },
}

impl Input {
    /// How long the call may take: what is sent has to go at 1 MiB a second.
    fn limit(&self) -> Duration {
        let bytes = match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { bytes, .. } => *bytes,
        };
        Duration::from_secs(bytes >> 20)
    }

    pub(super) fn feed(self, pipe: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => pipe.write_all(&bytes),
            Self::File { path, .. } => io::copy(&mut File::open(path)?, pipe).map(drop),
        }
    }
}

/// Runs a script on a host, at most `limit` beside the time to connect and to send; gives the lines that are for us.
pub(crate) fn call(
    args: &[String],
    host: &str,
    script: String,
    input: Input,
    limit: Duration,
) -> Result<Vec<String>, Lost> {
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        match call_once(args, host, script.clone(), input.clone(), limit) {
            Err(Lost::Unreached(why)) if why.contains(CROWDED) => {}
            came => return came,
        }
        thread::sleep(pause);
        pause *= 2;
    }
    call_once(args, host, script, input, limit)
}

fn call_once(
    args: &[String],
    host: &str,
    script: String,
    input: Input,
    limit: Duration,
) -> Result<Vec<String>, Lost> {
    let limit = CONNECT + limit + input.limit();
    let mut ssh = ssh(args, host, script.len());
    let feed = move |mut pipe: std::process::ChildStdin| {
        pipe.write_all(script.as_bytes())?;
        input.feed(&mut pipe)
    };
    command::run_fed(&mut ssh, feed, limit).map(|answer| marked(&answer.stdout)).map_err(lost)
}

fn lost(failed: Failed) -> Lost {
    match failed {
        Failed::Refused { status, words, .. } if status.code() == Some(NO_CONNECTION) => {
            let words = trim(&words);
            match UNREACHED.iter().any(|it| words.contains(it)) {
                true => Lost::Unreached(words),
                false => Lost::Broken(words),
            }
        }
        failed @ Failed::Missing { .. } => Lost::Unreached(failed.to_string()),
        Failed::Refused { words, .. } if !words.is_empty() => Lost::Broken(trim(&words)),
        failed => Lost::Broken(failed.to_string()),
    }
}

pub(super) fn marked(stdout: &str) -> Vec<String> {
    stdout.lines().filter_map(|line| line.strip_prefix(MARK)).map(|it| it.trim_end().to_owned()).collect()
}

/// Without the frames that `ssh` draws around its warnings, and without what it says to all whose host has another key.
fn trim(words: &str) -> String {
    let words = words.find("Offending ").map_or(words, |at| &words[at..]);
    let words = words.split("; ").map(|it| it.trim_matches('@').trim()).filter(|it| !it.is_empty());
    let words: Vec<&str> = words.collect();
    if words.is_empty() { "ssh said nothing".to_owned() } else { words.join("; ") }
}

/// Does something for each, [`AT_ONCE`] at a time, and gives what came of it in their order.
pub(crate) fn for_each<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        while let Some((index, it)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|it| Some((it, all.get(it)?)))
        {
            done.push((index, work(it)));
        }
        done
    };
    let mut done: Vec<(usize, R)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..all.len().min(AT_ONCE)).map(|_| scope.spawn(take)).collect();
        threads.into_iter().flat_map(|it| it.join().expect("no call panics")).collect()
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, it)| it).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn nobody_is_asked_and_the_users_words_overrule_ours() {
        let args = ["-F".to_owned(), "my config".to_owned()];
        let line = typed(&ssh(&args, "ada@node7", 12));
        let start = "ssh -o BatchMode=yes -F 'my config' -o ConnectTimeout=10 ";
        assert!(line.starts_with(start), "{line}");
        assert!(line.contains(" -T -x -- ada@node7 'sh -c "), "{line}");
    }

    #[test]
    fn a_script_is_read_to_its_last_byte_and_its_data_are_left() {
        let script = "printf 'cw:%s\\n' \"it's $(cat)\"";
        let mut shell = Command::new("sh");
        shell.args(["-c", &bootstrap(script.len())]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{script}data\nof lines").as_bytes()).unwrap();
        let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert_eq!(said, "cw:it's data\nof lines\n");
        assert_eq!(marked(&format!("Welcome!\n{said}")), ["it's data"]);
    }

    #[test]
    fn warnings_lose_their_frames() {
        let said =
            "@@@@@; @    WARNING: UNPROTECTED PRIVATE KEY FILE!     @; @@@@@; Permissions 0666 are too open.";
        assert_eq!(trim(said), "WARNING: UNPROTECTED PRIVATE KEY FILE!; Permissions 0666 are too open.");
        let said = "@@@@@; @ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @; Offending key in f:1; Host key verification failed.";
        assert_eq!(trim(said), "Offending key in f:1; Host key verification failed.");
        assert_eq!(trim(""), "ssh said nothing");
    }

    #[test]
    fn a_connection_that_broke_may_have_done_something() {
        let said = |script: &str| {
            lost(command::run(Command::new("sh").args(["-c", script]), b"", PAUSE * 60).unwrap_err())
        };
        let refused = "ssh: connect to host n1 port 22: Connection refused";
        assert_eq!(said(&format!("echo '{refused}' >&2; exit 255")), Lost::Unreached(refused.to_owned()));
        let broke = "client_loop: send disconnect: Broken pipe";
        assert_eq!(said(&format!("echo '{broke}' >&2; exit 255")), Lost::Broken(broke.to_owned()));
        assert_eq!(said("echo 'sh: not found' >&2; exit 127"), Lost::Broken("sh: not found".to_owned()));
    }

    #[test]
    fn so_many_at_a_time_and_all_in_their_order() {
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let all: Vec<usize> = (0..100).collect();
        let done = for_each(&all, |it| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::yield_now();
            now.fetch_sub(1, Ordering::SeqCst);
            it * 2
        });
        assert_eq!(done, (0..200).step_by(2).collect::<Vec<_>>());
        assert!(most.load(Ordering::SeqCst) <= AT_ONCE);
        assert_eq!(for_each(&[] as &[usize], |it| *it), [0; 0]);
    }
}
