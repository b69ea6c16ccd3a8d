//! An executor's process: reads tasks off its socket, runs them in order, sends the results back over another.

use std::{
    ffi::OsString,
    io,
    os::unix::ffi::OsStringExt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use cw_core::wire::{FromExecutor, PAYLOAD_BYTES_DEFAULT, Printed};

use super::{
    context::{self, Desk},
    line::Line,
    nonce,
    prints::Prints,
    run::Runner,
    scratch::Scratch,
};
use crate::{hooks, job::Registry};

/// Runs this process as an executor until its worker closes the socket; gives the exit code.
pub(crate) fn main() -> u8 {
    SERVING.store(true, Ordering::Relaxed);
    match Registry::global() {
        Ok(registry) => match serve(registry) {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("cw executor: the socket to the worker failed: {error}");
                crate::exit::SYSTEM
            }
        },
        Err(duplicate) => {
            eprintln!("cw executor: {duplicate}");
            crate::exit::USAGE
        }
    }
}

fn serve(registry: &'static Registry) -> io::Result<()> {
    let (socket, results, birth) = nonce::take_sockets()?;
    outlive_nobody();
    let scratch = Scratch::under(PathBuf::from(OsString::from_vec(birth.scratch)), "");
    let desk = Arc::new(Desk::new(birth.worker, scratch, None));
    context::settle_process(&desk);
    let line = Arc::new(Line::new(socket, results, Arc::clone(&desk), Prints::own()?));
    line.start_watching();
    desk.questions.go(Arc::clone(&line));
    let mut runner = Runner::new(registry, desk);
    if hooks::are_left() {
        // Else the worker would take a long one for a process that hangs.
        line.say(&FromExecutor::Starting)?;
        hooks::run_at_start();
    }
    let jobs = u32::try_from(registry.entries().len()).expect("a program has far fewer jobs");
    line.say(&FromExecutor::Ready { jobs })?;
    let mut out = Vec::new();
    while line.read()? {
        // A task's end is the next one's start, so the clock is read once for each.
        let mut now = Instant::now();
        let mut ended = None;
        while let Some((task, args)) = line.next(ended.take().as_ref(), &out, now)? {
            let class = runner.run(&task, &args, &mut out);
            let (printed, end, after) = line.prints.take(now);
            let micros = u64::try_from((end - now).as_micros()).unwrap_or(u64::MAX);
            let output = printed.map_or(0, |printed| append(&printed, &mut out));
            now = after;
            ended = Some(FromExecutor::Done { class, micros, output });
        }
        // What a very long result needed is not kept for the next.
        if out.capacity() > PAYLOAD_BYTES_DEFAULT {
            out = Vec::new();
        }
    }
    Ok(())
}

/// Puts what a task printed behind its result; gives how long it is.
fn append(printed: &Printed, out: &mut Vec<u8>) -> u32 {
    let encoded = printed.encode();
    out.extend_from_slice(&encoded);
    u32::try_from(encoded.len()).expect("little is kept")
}

/// Dies with its worker, and offers itself to the out-of-memory killer before its worker.
fn outlive_nobody() {
    #[cfg(target_os = "linux")]
    {
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
        // Any process may make itself a likelier victim; where that is forbidden nothing is lost.
        let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    }
}

static SERVING: AtomicBool = AtomicBool::new(false);

/// Ends this process if it was started as an executor and its `main` did not become one.
///
/// Else it would start executors of its own, and they theirs.
pub(crate) fn exit_if_stray() {
    if nonce::is_executor() && !SERVING.load(Ordering::Relaxed) {
        eprintln!(
            "cw: this process was started to run jobs, but its `main` did not call `cw::init()?` first"
        );
        std::process::exit(i32::from(crate::exit::USAGE));
    }
}
