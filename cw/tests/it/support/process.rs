//! A started process and what it has said so far.

use std::{
    io::Read,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;

/// A process that is killed when it is dropped.
pub(crate) struct Process {
    name: String,
    child: Child,
    stdout: Arc<Said>,
    stderr: Arc<Said>,
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Process {
    /// Starts it. Its standard input stays open as long as it is held.
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("{command:?}: {error}; the programs of these tests are examples: `cargo build --examples`")
        });
        let stdout = Said::hear(child.stdout.take().expect("just piped"));
        let stderr = Said::hear(child.stderr.take().expect("just piped"));
        Self { name: format!("{:?}", command.get_args()), child, stdout, stderr }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of standard output with this in it.
    pub(crate) fn said(&self, what: &str) -> String {
        self.stdout.wait_for(what, &self.stderr)
    }

    /// Waits for a line of standard error with this in it.
    pub(crate) fn complained(&self, what: &str) -> String {
        self.stderr.wait_for(what, &self.stdout)
    }

    /// What it has said on standard output so far.
    pub(crate) fn so_far(&self) -> String {
        self.stdout.text()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a child has a process id");
        kill_process(pid, signal).expect("a child that was not waited for can be signalled");
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Waits for its end.
    pub(crate) fn finish(self) -> Finished {
        self.finish_within(PATIENCE)
    }

    /// Waits for its end, which has to come this soon.
    pub(crate) fn finish_within(mut self, patience: Duration) -> Finished {
        let deadline = Instant::now() + patience;
        let status = loop {
            match self.child.try_wait().expect("a child can be waited for") {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    panic!("still running after {patience:?}, having said: {}", self.stdout.text());
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        Finished { status, stdout: self.stdout.whole(), stderr: self.stderr.whole() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.child.try_wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            // Whatever the test was about, this may tell why.
            let (name, pid, said) = (&self.name, self.child.id(), self.stderr.text());
            eprintln!("--- {name}, process {pid}, ended before: {ended:?}\n{said}");
        }
    }
}

impl Finished {
    /// Makes sure that it ended with success, and that a scenario came to its end.
    #[track_caller]
    pub(crate) fn well(self) -> Self {
        assert!(self.status.success() && self.stdout.ends_with("done\n"), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn with_code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self:?}");
        self
    }
}

/// What came out of a pipe.
#[derive(Default)]
struct Said {
    text: Mutex<(String, bool)>,
    more: Condvar,
}

impl Said {
    fn hear(mut pipe: impl Read + Send + 'static) -> Arc<Self> {
        let said = Arc::new(Self::default());
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let read = pipe.read(&mut buffer).unwrap_or(0);
                let mut text = heard.text.lock().expect("no holder panics");
                text.0.push_str(&String::from_utf8_lossy(&buffer[..read]));
                text.1 = read == 0;
                heard.more.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        said
    }

    fn text(&self) -> String {
        self.text.lock().expect("no holder panics").0.clone()
    }

    /// The text once the pipe has ended.
    fn whole(&self) -> String {
        let text = self.text.lock().expect("no holder panics");
        let (text, timeout) =
            self.more.wait_timeout_while(text, PATIENCE, |text| !text.1).expect("no holder panics");
        let said = text.0.clone();
        drop(text);
        assert!(!timeout.timed_out(), "the process has ended, and somebody holds its pipe: {said}");
        said
    }

    fn wait_for(&self, what: &str, other: &Self) -> String {
        let found = |text: &(String, bool)| complete_lines(&text.0).any(|line| line.contains(what));
        let waiting = |text: &mut (String, bool)| !text.1 && !found(text);
        let text = self.text.lock().expect("no holder panics");
        let (text, _) = self.more.wait_timeout_while(text, PATIENCE, waiting).expect("no holder panics");
        // Who panics must not hold the lock.
        let said = text.0.clone();
        drop(text);
        let line = complete_lines(&said).find(|line| line.contains(what)).map(str::to_owned);
        line.unwrap_or_else(|| panic!("nobody said {what:?} but: {said}\n{}", other.text()))
    }
}

fn complete_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::trim_end)
}
