//! Running one task: decode, call, encode; an error, a panic, an oversized result become data.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    cell::RefCell,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::{Arc, Once},
};

use cw_core::{
    ids::{Attempt, JobIndex, TaskId},
    wire::{Class, Failure},
};
use mmap_guard::FileData;

use super::context::Desk;
use crate::{
    executor::JobScope,
    hooks,
    job::{Fail, FailKind, JobEntry, Registry, Run},
    mapped,
};

thread_local! {
    /// Where and how the last panic of this thread happened; set by the hook, taken after the unwind.
    static LAST_PANIC: RefCell<Option<(String, Option<String>)>> = const { RefCell::new(None) };
}

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Assigned {
    pub(crate) job: JobIndex,
    pub(crate) task: TaskId,
    pub(crate) attempt: Attempt,
    /// Whether in place of the arguments there is the path of them.
    pub(crate) is_apart: bool,
}

/// Runs tasks on the thread that owns it.
pub(crate) struct Runner {
    registry: &'static Registry,
    desk: Arc<Desk>,
    /// Made when the first async job comes.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Runner {
    pub(crate) fn new(registry: &'static Registry, desk: Arc<Desk>) -> Self {
        note_panics();
        Self { registry, desk, runtime: None }
    }

    /// Runs a task and says how it ended; `out` is emptied and filled with the encoded result or failure.
    pub(crate) fn run(&mut self, assigned: &Assigned, args: &[u8], out: &mut Vec<u8>) -> Class {
        out.clear();
        let Assigned { job, task, attempt, is_apart } = *assigned;
        self.desk.begin(task, attempt);
        let result = match self.registry.entry(job.0) {
            Some(entry) => hooks::run_all().and_then(|()| match is_apart {
                true => self.call(entry, &lying_at(args)?, out),
                false => self.call(entry, args, out),
            }),
            None => Err(Failure::Refused { why: format!("the program has no job of index {}", job.0) }),
        };
        self.desk.end(task, attempt);
        match result {
            Ok(()) => Class::Ok,
            Err(failure) => {
                *out = failure.encode().to_vec();
                failure.class()
            }
        }
    }

    fn call(&mut self, entry: &JobEntry, args: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
        let scope = JobScope::enter();
        // What a panic leaves behind is dropped with the buffers; the job's own state is the job's own care.
        let called = panic::catch_unwind(AssertUnwindSafe(|| match entry.run {
            Run::Sync(run) => run(args, out),
            Run::Async(run) => {
                *out = self.runtime()?.block_on(run(args.to_vec()))?;
                Ok(())
            }
        }));
        drop(scope);
        match called {
            Ok(Ok(())) => check_size("result", out.len(), entry.max_bytes),
            Ok(Err(fail)) => Err(failed(fail)),
            Err(payload) => Err(panicked(payload.as_ref())),
        }
    }

    fn runtime(&mut self) -> Result<&tokio::runtime::Runtime, Fail> {
        if self.runtime.is_none() {
            let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
            self.runtime = Some(built.map_err(|error| Fail {
                kind: FailKind::Failed,
                message: "the executor cannot make a runtime for async jobs".to_owned(),
                chain: vec![error.to_string()],
                value: None,
            })?);
        }
        Ok(self.runtime.as_ref().expect("just made"))
    }
}

/// Arguments that lie apart.
fn lying_at(path: &[u8]) -> Result<FileData, Failure> {
    let path = Path::new(OsStr::from_bytes(path));
    mapped::open(path).map_err(|error| Failure::Refused {
        why: format!("its arguments cannot be read: {}: {error}", path.display()),
    })
}

/// Refuses arguments or a result over the job's limit.
pub(crate) fn check_size(what: &str, bytes: usize, limit: usize) -> Result<(), Failure> {
    if bytes <= limit {
        return Ok(());
    }
    Err(Failure::TooLarge { what: what.to_owned(), bytes: bytes as u64, limit: limit as u64 })
}

/// The failure of a call that returned an error or could not be coded.
pub(crate) fn failed(fail: Fail) -> Failure {
    let Fail { kind, message, chain, value } = fail;
    match kind {
        FailKind::Failed => Failure::Failed {
            message: cut(message),
            chain: chain.into_iter().take(CAUSES_MAX).map(cut).collect(),
            value: value.filter(|(_, bytes)| bytes.len() <= VALUE_BYTES_MAX),
        },
        FailKind::Undecodable => {
            Failure::Refused { why: format!("its arguments cannot be decoded: {message}") }
        }
        FailKind::Unencodable => Failure::Refused { why: format!("its result cannot be encoded: {message}") },
    }
}

/// The failure of a call that panicked on this thread.
pub(crate) fn panicked(payload: &(dyn std::any::Any + Send)) -> Failure {
    let message = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned());
    let (location, backtrace) = LAST_PANIC.take().unwrap_or_default();
    Failure::Panicked { message: cut(message), location, backtrace: backtrace.map(cut) }
}

/// Longest text of an error that crosses, in bytes.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// Most causes of an error that cross.
const CAUSES_MAX: usize = 64;

/// Biggest error value that crosses, in bytes; of a bigger one only the texts do.
const VALUE_BYTES_MAX: usize = 1 << 20;

/// A text that is not longer than [`TEXT_BYTES_MAX`], and says so if it was.
fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push_str(" .. (cut)");
    }
    text
}

/// Notes place and backtrace of each panic before the hook that was there prints it.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let location = info.location().map(ToString::to_string).unwrap_or_default();
            let backtrace = Backtrace::capture();
            let captured = backtrace.status() == BacktraceStatus::Captured;
            LAST_PANIC.set(Some((location, captured.then(|| frames_of_job(&backtrace.to_string())))));
            before(info);
        }));
    });
}

/// The frames of a backtrace that are the job's: not those of the panic itself, and not ours below it.
fn frames_of_job(backtrace: &str) -> String {
    let is_frame = |line: &str| line.trim_start().starts_with(|c: char| c.is_ascii_digit());
    let mut frames: Vec<String> = Vec::new();
    for line in backtrace.lines() {
        match frames.last_mut() {
            Some(frame) if !is_frame(line) => *frame = format!("{frame}\n{line}"),
            _ => frames.push(line.to_owned()),
        }
    }
    let of_panic =
        |frame: &String| frame.contains("core::panicking::") || frame.contains("rust_begin_unwind");
    let first = frames.iter().rposition(of_panic).map_or(0, |place| place + 1);
    let ours = |frame: &String| frame.contains("__cw_finish") || frame.contains("cw_runtime::");
    let last = frames[first..].iter().position(ours).map_or(frames.len(), |place| first + place);
    frames[first..last].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backtrace_shows_the_job_and_neither_the_panic_nor_us() {
        let text = "   0: cw_runtime::executor::run::note_panics\n             at run.rs:1\n   1: std::panicking::hook\n   \
                    2: rust_begin_unwind\n   3: core::panicking::panic_fmt\n   4: app::inner\n             at app.rs:7\n   \
                    5: app::_::__cw_run\n   6: cw_runtime::executor::run::Runner::run\n   7: main";
        let shown = "   4: app::inner\n             at app.rs:7\n   5: app::_::__cw_run";
        assert_eq!(frames_of_job(text), shown);
        assert_eq!(frames_of_job("disabled"), "disabled");
    }
}
