//! How a process of cw ends when it cannot do its work: one line, and a code that says what kind of trouble.
//!
//! | code | meaning |
//! | --- | --- |
//! | 2 | wrong flags, two jobs under one name, or a job whose types cannot cross the wire |
//! | 10 | an access file that was named is missing; or one, or the cluster's folder, is unreadable, not private or damaged |
//! | 11 | the address cannot be listened on: in use, not permitted, not of this machine |
//! | 12 | no master answered, or was there at all, in time; or a worker lost its master for too long |
//! | 13 | the master is of another cluster, or refused this process; or another master took this one's place |
//! | 14 | no worker runs this build of the program |
//! | 15 | the system refused something else (memory, threads, the executable cannot be read) |
//! | 16 | a store cannot be read, has no such job, or could not be written any more |
//! | 17 | Slurm, SSH or the system did not start what `cw start` asked for, or `cw stop` left something |

use std::{fmt, process::ExitCode, sync::atomic::AtomicU8, sync::atomic::Ordering};

use crate::{
    access::AccessError,
    net::{endpoint::BindError, identity::KeyError},
};

/// Why a process of cw cannot do its work.
#[derive(Debug)]
pub(crate) struct Trouble {
    code: u8,
    line: String,
}

/// Exit code of wrong flags.
pub(crate) const USAGE: u8 = 2;
/// Exit code of a cluster's files.
pub(crate) const ACCESS: u8 = 10;
/// Exit code of an address that cannot be listened on.
pub(crate) const LISTEN: u8 = 11;
/// Exit code of a master that does not answer.
pub(crate) const NO_MASTER: u8 = 12;
/// Exit code of a master that refuses.
pub(crate) const REFUSED: u8 = 13;
/// Exit code of a build that no worker runs.
pub(crate) const OTHER_BUILD: u8 = 14;
/// Exit code of a store.
pub(crate) const STORE: u8 = 16;
/// Exit code of a launcher.
pub(crate) const LAUNCH: u8 = 17;
/// Exit code of all else.
pub(crate) const SYSTEM: u8 = 15;

impl Trouble {
    pub(crate) fn new(code: u8, line: impl Into<String>) -> Self {
        Self { code, line: line.into() }
    }

    /// Trouble with its chain of causes on the one line.
    pub(crate) fn because(code: u8, error: &dyn std::error::Error) -> Self {
        let mut line = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            line = format!("{line}: {error}");
            cause = error.source();
        }
        Self { code, line }
    }

    /// Makes a sentence of an error whose text says what was tried.
    fn cannot(self) -> Self {
        Self { line: format!("cannot {}", self.line), ..self }
    }

    /// Prints the line, or one for each job that cannot run, and gives the code.
    pub(crate) fn report(&self) -> u8 {
        let text: String = self.line.lines().map(|line| format!("error: {line}\n")).collect();
        crate::stderr::write(text.as_bytes());
        crate::stderr::flush();
        self.code
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl std::error::Error for Trouble {}

impl From<AccessError> for Trouble {
    fn from(error: AccessError) -> Self {
        Self::because(ACCESS, &error).cannot()
    }
}

impl From<BindError> for Trouble {
    fn from(error: BindError) -> Self {
        Self::because(LISTEN, &error).cannot()
    }
}

impl From<KeyError> for Trouble {
    fn from(error: KeyError) -> Self {
        Self::because(ACCESS, &error)
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::because(SYSTEM, &error)
    }
}

/// The code a failing program ends with, if cw knows better than the program why it fails.
static FATAL: AtomicU8 = AtomicU8::new(0);

/// Notes that the program may be about to fail for a reason with a code of its own; 0 takes that back.
pub(crate) fn note_fatal(code: u8) {
    FATAL.store(code, Ordering::Relaxed);
}

/// The code for a program whose `main` ended with `own`.
pub(crate) fn with_fatal(own: ExitCode) -> ExitCode {
    match FATAL.load(Ordering::Relaxed) {
        code if code != 0 && own == ExitCode::FAILURE => ExitCode::from(code),
        _ => own,
    }
}
