//! What is said while somebody waits: one line that is drawn again on a terminal, else a line when there is news.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// Without a terminal lines about what changes often come no faster.
const LINES_APART: Duration = Duration::from_secs(1);

/// A place on stderr for one line.
pub(crate) struct Screen {
    draws: bool,
    shown: String,
    at: Option<Instant>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let draws = io::stderr().is_terminal() && std::env::var("TERM").is_ok_and(|term| term != "dumb");
        Self { draws, shown: String::new(), at: None }
    }

    /// How things stand, where that changes often.
    pub(crate) fn follow(&mut self, line: &str) {
        if self.draws || self.at.is_none_or(|at| at.elapsed() >= LINES_APART) {
            self.show(line);
        }
    }

    /// What is being done.
    pub(crate) fn show(&mut self, line: &str) {
        if line == self.shown {
            return;
        }
        self.shown = line.to_owned();
        self.at = Some(Instant::now());
        if self.draws {
            let cut: String = line.chars().take(columns()).collect();
            self.write(&format!("\r\x1b[K{cut}"));
        } else {
            self.write(&format!("{line}\n"));
        }
    }

    /// Something that stays.
    pub(crate) fn say(&mut self, line: &str) {
        self.clear();
        self.write(&format!("{line}\n"));
    }

    /// The line is over.
    pub(crate) fn clear(&mut self) {
        if self.draws && !self.shown.is_empty() {
            self.write("\r\x1b[K");
        }
        self.shown.clear();
    }

    fn write(&self, text: &str) {
        // Each in one write; a closed stderr is no reason to stop.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.clear();
    }
}

/// One less than the terminal has: a line that fills it wraps on some.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    let columns = size.map_or(80, |size| usize::from(size.ws_col));
    if columns < 20 { 79 } else { columns - 1 }
}
