//! What a caller sees when something goes wrong: [`TaskError`] for a task, [`Error`] for a program.

use std::{fmt, io, sync::Arc, time::Duration};

use cw_core::{
    Payload,
    ids::TaskId,
    wire::{Ending, Failure, PAYLOAD_BYTES_MAX, Printed},
};
use serde::de::DeserializeOwned;

use crate::job;

/// Why a task has no result. Small and cheap to clone.
///
/// `{}` is one line that names job and task; `{:#}` adds the chain of causes; `{:?}` is the same with a
/// line for each cause and the evidence of a crash or panic.
#[derive(Clone)]
pub struct TaskError(Arc<Inner>);

struct Inner {
    job: &'static str,
    task: TaskId,
    attempts: u32,
    kind: TaskErrorKind,
    /// Type hash and bytes of the job's own error.
    value: Option<(u64, Vec<u8>)>,
    /// What its last attempt printed.
    output: String,
}

/// How a task ended without a result, with the evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskErrorKind {
    /// The job returned an error. A retry helps only if the job can succeed with the same arguments.
    Failed {
        /// The error's own text.
        message: String,
        /// The texts of its sources, outermost first; empty where it has none.
        chain: Vec<String>,
    },
    /// The job panicked. A retry helps only if the panic was not about the arguments.
    Panicked {
        /// The panic's message.
        message: String,
        /// `file:line:column`.
        location: String,
        /// The backtrace, where `RUST_BACKTRACE` asks for one.
        backtrace: Option<String>,
    },
    /// The process that ran the task died under it, as often as the crash limit (3) allows.
    Crashed {
        /// The signal that ended it.
        signal: Option<i32>,
        /// The code it ended with, if no signal did.
        code: Option<i32>,
        /// What the worker saw beside it, such as the kernel's out-of-memory killer at work.
        hint: Option<String>,
        /// The last lines it wrote to stderr; may be empty.
        stderr: String,
        /// The worker it ran on, `host:pid`.
        worker: String,
    },
    /// An attempt ran longer than its timeout and was killed. A retry with more time may help.
    TimedOut {
        /// The timeout.
        after: Duration,
    },
    /// The task was aborted by its client.
    Cancelled,
    /// The workers it ran on were lost: three, or one if its job says `rerun = "never"`.
    Lost {
        /// Those workers, with their last words.
        workers: Vec<String>,
    },
    /// The task cannot run on this cluster. A retry cannot help.
    Refused {
        /// Why, with both sides named.
        why: String,
    },
    /// Arguments or result are over the job's limit, `#[cw::job(max_bytes = ..)]`. A retry cannot help.
    TooLarge {
        /// `arguments` or `result`.
        what: String,
        /// Their size in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The client lost its cluster and gave up. Running the program again may help.
    Disconnected {
        /// What happened to the connection.
        why: String,
    },
}

impl TaskError {
    pub(crate) fn new(job: &'static str, task: TaskId, attempts: u32, failure: Failure) -> Self {
        let (kind, value) = split(failure);
        Self(Arc::new(Inner { job, task, attempts, kind, value, output: String::new() }))
    }

    /// The same, with what its last attempt printed.
    pub(crate) fn with_output(mut self, output: &Payload) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.output = text(&Printed::decode(output));
        }
        self
    }

    /// What its last attempt printed to standard output and error, in order: the first and last 32 KiB, where it is more.
    /// Empty with `--output none` or `--threads`, where it is not kept, and where nothing ended that could have printed.
    pub fn output(&self) -> &str {
        &self.0.output
    }

    /// How it ended, with the evidence.
    pub fn kind(&self) -> &TaskErrorKind {
        &self.0.kind
    }

    /// The path of the job.
    pub fn job(&self) -> &'static str {
        self.0.job
    }

    /// The task.
    pub fn task(&self) -> TaskId {
        self.0.task
    }

    /// How many attempts ended with an outcome; 0 if it never ran. An attempt that was moved before it ran, or that
    /// was lost with its worker, is not counted.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// Whether the job returned an error.
    pub fn is_failed(&self) -> bool {
        matches!(self.0.kind, TaskErrorKind::Failed { .. })
    }

    /// Whether the job panicked.
    pub fn is_panic(&self) -> bool {
        matches!(self.0.kind, TaskErrorKind::Panicked { .. })
    }

    /// Whether the job's process died under it.
    pub fn is_crash(&self) -> bool {
        matches!(self.0.kind, TaskErrorKind::Crashed { .. })
    }

    /// Whether an attempt ran out of time.
    pub fn is_timeout(&self) -> bool {
        matches!(self.0.kind, TaskErrorKind::TimedOut { .. })
    }

    /// Whether the task was aborted.
    pub fn is_cancelled(&self) -> bool {
        matches!(self.0.kind, TaskErrorKind::Cancelled)
    }

    /// The job's own error, where its type is serde and exactly `E`.
    pub fn downcast<E: DeserializeOwned + 'static>(&self) -> Option<E> {
        let (hash, bytes) = self.0.value.as_ref()?;
        (*hash == job::type_hash::<E>()).then(|| postcard::from_bytes(bytes).ok())?
    }
}

fn split(failure: Failure) -> (TaskErrorKind, Option<(u64, Vec<u8>)>) {
    let kind = match failure {
        Failure::Failed { message, chain, value } => {
            return (TaskErrorKind::Failed { message, chain }, value);
        }
        Failure::Panicked { message, location, backtrace } => {
            TaskErrorKind::Panicked { message, location, backtrace }
        }
        Failure::Crashed { ending, hint, stderr, worker } => {
            let (signal, code) = match ending {
                Ending::Signal(signal) => (Some(signal), None),
                Ending::Exit(code) => (None, Some(code)),
                Ending::Unknown => (None, None),
            };
            TaskErrorKind::Crashed { signal, code, hint, stderr, worker }
        }
        Failure::TimedOut { after } => TaskErrorKind::TimedOut { after },
        Failure::Cancelled => TaskErrorKind::Cancelled,
        Failure::Lost { workers } => TaskErrorKind::Lost { workers },
        Failure::Refused { why } => TaskErrorKind::Refused { why },
        Failure::TooLarge { what, bytes, limit } => TaskErrorKind::TooLarge { what, bytes, limit },
        Failure::Disconnected { why } => TaskErrorKind::Disconnected { why },
    };
    (kind, None)
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {} ({}) ", self.0.job, self.0.task)?;
        self.predicate(f)
    }
}

impl TaskError {
    /// The sentence without its subject, and with the causes: the same for all tasks that ended alike.
    pub(crate) fn without_name(&self) -> String {
        struct Predicate<'a>(&'a TaskError);
        impl fmt::Display for Predicate<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.predicate(f)
            }
        }
        format!("{:#}", Predicate(self))
    }

    fn predicate(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.kind {
            TaskErrorKind::Failed { message, chain } => {
                write!(f, "failed: {message}")?;
                let shown = if f.alternate() { chain.as_slice() } else { &[] };
                shown.iter().try_for_each(|cause| write!(f, ": {cause}"))
            }
            TaskErrorKind::Panicked { message, location, .. } => {
                write!(f, "panicked at {location}: {message}")
            }
            TaskErrorKind::Crashed { signal, code, hint, worker, .. } => {
                write!(f, "crashed on {worker}: the process {}", Ended(*signal, *code))?;
                hint.iter().try_for_each(|hint| write!(f, " ({hint})"))?;
                write!(f, ", after {} attempts", self.0.attempts)
            }
            TaskErrorKind::TimedOut { after } => {
                write!(f, "timed out: it ran longer than {after:?}")
            }
            TaskErrorKind::Cancelled => f.write_str("was cancelled"),
            TaskErrorKind::Lost { workers } => write!(f, "was lost with its workers: {}", workers.join(", ")),
            TaskErrorKind::Refused { why } => write!(f, "was refused: {why}"),
            TaskErrorKind::TooLarge { what, bytes, limit } => {
                let verb = if what == "result" { "is" } else { "are" };
                let remedy = size_remedy(*bytes);
                write!(f, "was refused: its {what} {verb} {bytes} bytes, over the limit of {limit}; {remedy}")
            }
            TaskErrorKind::Disconnected { why } => write!(f, "has no result: {why}"),
        }
    }
}

/// So many of the last lines that a task printed are part of `{:?}`.
const OUTPUT_LINES: usize = 20;

/// What was printed, as text.
pub(crate) fn text(printed: &Printed) -> String {
    let mut text = String::from_utf8_lossy(&printed.head).into_owned();
    if printed.left_out() > 0 {
        text.push_str(&format!("\n.. {} bytes were left out\n", printed.left_out()));
    }
    text.push_str(&String::from_utf8_lossy(&printed.tail));
    text
}

/// What helps against arguments or a result of this size.
fn size_remedy(bytes: u64) -> &'static str {
    if bytes > PAYLOAD_BYTES_MAX as u64 {
        "no job takes more than 2 GiB: leave it in a file and pass the path"
    } else {
        "raise it with #[cw::job(max_bytes = ..)]"
    }
}

/// How a process ended, in words.
struct Ended(Option<i32>, Option<i32>);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Some(signal), _) => write!(f, "was ended by signal {signal} ({})", signal_name(signal)),
            (_, Some(code)) => write!(f, "ended by itself with code {code}"),
            _ => f.write_str("ended in a way that could not be observed"),
        }
    }
}

/// The name of a signal that ends processes, on Linux and macOS alike.
fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        31 => "SIGSYS",
        _ => "see `kill -l`",
    }
}

impl fmt::Debug for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        match &self.0.kind {
            TaskErrorKind::Failed { chain, .. } => {
                chain.iter().try_for_each(|cause| write!(f, "\n  caused by: {cause}"))
            }
            TaskErrorKind::Panicked { backtrace: Some(backtrace), .. } => write!(f, "\n{backtrace}"),
            TaskErrorKind::Crashed { stderr, .. } => {
                return stderr.lines().try_for_each(|line| write!(f, "\n  stderr: {line}"));
            }
            _ => Ok(()),
        }?;
        let lines: Vec<&str> = self.0.output.lines().collect();
        let last = &lines[lines.len().saturating_sub(OUTPUT_LINES)..];
        last.iter().try_for_each(|line| write!(f, "\n  printed: {line}"))
    }
}

impl std::error::Error for TaskError {}

/// What [`Result`] carries: any error a program that uses cw is likely to meet.
#[non_exhaustive]
pub enum Error {
    /// A task has no result.
    Task(TaskError),
    /// The system refused something.
    Io(io::Error),
    /// Anything else; see [`Error::other`].
    Other(Box<dyn std::error::Error + Send + Sync>),
}

/// A result whose error is, unless said otherwise, [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Wraps any error, or a text.
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }
}

impl From<TaskError> for Error {
    fn from(error: TaskError) -> Self {
        Self::Task(error)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::Other(error) => error.fmt(f),
        }
    }
}

/// The message and its causes, a line each: what `main` prints when it returns the error.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Task(error) = self {
            return fmt::Debug::fmt(error, f);
        }
        write!(f, "{self}")?;
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            write!(f, "\n  caused by: {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Task(_) => None,
            Self::Io(error) => error.source(),
            Self::Other(error) => error.source(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(failure: Failure) -> TaskError {
        TaskError::new("app::square", TaskId(7), 2, failure)
    }

    #[test]
    fn one_line_names_job_and_task_and_the_long_forms_add_the_rest() {
        let chain = vec!["disk".to_owned()];
        let failed = error(Failure::Failed { message: "no model".to_owned(), chain, value: None });
        assert_eq!(failed.to_string(), "job app::square (task-7) failed: no model");
        assert_eq!(format!("{failed:#}"), "job app::square (task-7) failed: no model: disk");
        assert_eq!(format!("{failed:?}"), "job app::square (task-7) failed: no model\n  caused by: disk");
        let large = |what: &str, bytes| {
            error(Failure::TooLarge { what: what.to_owned(), bytes, limit: 8 }).to_string()
        };
        let start = "job app::square (task-7) was refused: its";
        assert_eq!(
            large("result", 9),
            format!(
                "{start} result is 9 bytes, over the limit of 8; raise it with #[cw::job(max_bytes = ..)]"
            )
        );
        assert!(large("arguments", 3 << 30).ends_with("leave it in a file and pass the path"));
        let crashed = error(Failure::Crashed {
            ending: Ending::Signal(11),
            hint: None,
            stderr: "a\nb".to_owned(),
            worker: "n:1".to_owned(),
        });
        let line = "job app::square (task-7) crashed on n:1: the process was ended by signal 11 (SIGSEGV), after 2 attempts";
        assert_eq!(crashed.to_string(), line);
        assert_eq!(format!("{crashed:?}"), format!("{line}\n  stderr: a\n  stderr: b"));
    }

    #[test]
    fn the_jobs_own_error_comes_back_only_as_its_own_type() {
        let value = Some((job::type_hash::<u32>(), postcard::to_stdvec(&300u32).unwrap()));
        let failed = error(Failure::Failed { message: String::new(), chain: vec![], value });
        assert_eq!(failed.downcast::<u32>(), Some(300));
        assert_eq!(failed.downcast::<u64>(), None);
    }
}
