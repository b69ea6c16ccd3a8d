//! Children of a bench: what they say arrives a line at a time with a deadline, and none outlives its handle.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde::de::DeserializeOwned;

use super::role::PARENT;

/// Between two looks whether a child that has said its last word is gone.
const EXIT_POLL: Duration = Duration::from_millis(2);

pub(crate) struct Process {
    name: String,
    child: Child,
    /// Held open: its end is the end of the child.
    stdin: ChildStdin,
    lines: Receiver<String>,
}

/// This executable again, with none of the user's own settings of `cw`.
pub(super) fn this_bench() -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(PARENT, std::process::id().to_string());
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"CW_") {
            command.env_remove(name);
        }
    }
    Ok(command)
}

impl Process {
    pub(super) fn start(name: impl Into<String>, command: &mut Command) -> anyhow::Result<Self> {
        let name = name.into();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (line, lines) = mpsc::channel();
        // Reads to the end whoever listens, so that no child ever waits on a full pipe.
        thread::spawn(move || {
            for said in stdout.lines().map_while(Result::ok) {
                let _ = line.send(said);
            }
        });
        Ok(Self { name, child, stdin, lines })
    }

    pub(super) fn tell(&mut self, line: &str) -> anyhow::Result<()> {
        writeln!(self.stdin, "{line}").with_context(|| format!("failed to tell {}", self.name))
    }

    /// The next line, which must be JSON.
    pub(crate) fn hear<T: DeserializeOwned>(&self, deadline: Duration) -> anyhow::Result<T> {
        let line = match self.lines.recv_timeout(deadline) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                bail!("{} has said nothing for {deadline:?}", self.name)
            }
            Err(RecvTimeoutError::Disconnected) => bail!("{} has ended early", self.name),
        };
        serde_json::from_str(&line).with_context(|| format!("{} said {line:?}", self.name))
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a child that is about to end by itself.
    pub(super) fn end(mut self, deadline: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "{} ended with {status}", self.name);
                return Ok(());
            }
            ensure!(start.elapsed() < deadline, "{} has not ended for {deadline:?}", self.name);
            thread::sleep(EXIT_POLL);
        }
    }

    /// Fails if the child is gone, so that a wait for what it would do can end early.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended with {status}", self.name),
            None => Ok(()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
