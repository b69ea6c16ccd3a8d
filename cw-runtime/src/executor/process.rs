//! An executor's process: reads tasks off its socket, runs them in order, sends the results back over another.
//!
//! Results go out in bundles: when there is nothing more to run, or when the oldest of them has waited for
//! [`BUNDLE_TIME`]. That is looked at between tasks; while a task runs, a second thread looks after what
//! was left unsent before it, so a long task never keeps back the results of short ones; and it hands back the
//! tasks that came behind a long one.

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    os::unix::{ffi::OsStringExt, net::UnixStream},
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use cw_core::{
    ids::ShareId,
    wire::{self, FromExecutor, PAYLOAD_BYTES_DEFAULT, Printed, ToExecutor},
};
use rustix::net::RecvFlags;

use super::{
    context::{self, Desk},
    nonce,
    prints::Prints,
    run::Runner,
    scratch::Scratch,
};
use crate::{hooks, job::Registry, shared};

/// How long a result may wait for others before it is sent.
const BUNDLE_TIME: Duration = Duration::from_micros(100);

/// How often the second thread looks, while tasks run.
const TICK: Duration = Duration::from_millis(1);

/// A task that runs for longer keeps back none that came after it.
const LONG: Duration = Duration::from_millis(10);

/// How often the progress of a task is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Bytes of results that are sent at once, however young.
const BUNDLE_BYTES: usize = 64 << 10;

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
    let tasks = Arc::new(Mutex::new(Tasks { socket, buffer: BytesMut::new() }));
    let bundle = Arc::new(Bundle::new(results, Arc::clone(&desk), Prints::own()?));
    bundle.start_watching(Arc::clone(&tasks));
    let mut runner = Runner::new(registry, desk);
    if hooks::are_left() {
        // Else the worker would take a long one for a process that hangs.
        bundle.add(&FromExecutor::Starting, &[], Instant::now())?;
        bundle.send()?;
        hooks::run_at_start();
    }
    let jobs = u32::try_from(registry.entries().len()).expect("a program has far fewer jobs");
    bundle.add(&FromExecutor::Ready { jobs }, &[], Instant::now())?;
    bundle.send()?;

    let mut out = Vec::new();
    let lock = || tasks.lock().expect("no holder panics");
    loop {
        // A task's end is the next one's start, so the clock is read once for each.
        let mut now = Instant::now();
        loop {
            // Not in the loop's condition: the lock must be free while the task runs.
            let next = lock().next()?;
            let Some((message, args)) = next else { break };
            if let ToExecutor::Share { share } = message {
                note_share(share, &args);
                continue;
            }
            let start = now;
            bundle.note_start(start);
            let class = runner.run(&message, &args, &mut out);
            now = Instant::now();
            let micros = u64::try_from((now - start).as_micros()).unwrap_or(u64::MAX);
            let output = bundle.prints.take().map_or(0, |printed| append(&printed, &mut out));
            bundle.add(&FromExecutor::Done { class, micros, output }, &out, now)?;
            // What a very long result needed is not kept for the next; nor by the bundle.
            if out.capacity() > PAYLOAD_BYTES_DEFAULT {
                out = Vec::new();
            }
        }
        bundle.send()?;
        if !lock().read()? {
            return Ok(());
        }
    }
}

/// Notes where a value lies that tasks share.
fn note_share(share: ShareId, path: &[u8]) {
    shared::note(share, PathBuf::from(OsString::from_vec(path.to_vec())));
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

/// Tasks that have come and were not begun. Held by the runner between tasks, and while it waits for one.
struct Tasks {
    socket: UnixStream,
    buffer: BytesMut,
}

impl Tasks {
    fn next(&mut self) -> io::Result<Option<(ToExecutor, Bytes)>> {
        let Some(frame) = wire::next_frame(&mut self.buffer).map_err(io::Error::other)? else {
            return Ok(None);
        };
        wire::decode(frame).map(Some).map_err(io::Error::other)
    }

    /// Reads what is there; false at the end.
    fn read(&mut self) -> io::Result<bool> {
        let had = self.buffer.len();
        let missing = self
            .buffer
            .first_chunk::<4>()
            .map_or(0, |length| (u32::from_le_bytes(*length) as usize + 4).saturating_sub(had));
        self.buffer.resize(had + missing.clamp(16 << 10, 1 << 20), 0);
        let read = loop {
            match self.socket.read(&mut self.buffer[had..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        // The worker is gone, whether it said so or not.
        let read = match read {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            other => other?,
        };
        self.buffer.truncate(had + read);
        Ok(read > 0)
    }

    /// Throws away the whole tasks that have come, read or not; gives how many.
    fn drop_all(&mut self) -> io::Result<u32> {
        let mut chunk = [0; 16 << 10];
        while let Ok((read, _)) = rustix::net::recv(&self.socket, &mut chunk[..], RecvFlags::DONTWAIT)
            && read > 0
        {
            self.buffer.extend_from_slice(&chunk[..read]);
        }
        let mut dropped = 0;
        while let Some((message, body)) = self.next()? {
            match message {
                ToExecutor::Run { .. } | ToExecutor::RunApart { .. } => dropped += 1,
                // It is not said again.
                ToExecutor::Share { share } => note_share(share, &body),
            }
        }
        Ok(dropped)
    }
}

/// Results on their way out. Shared with the thread that watches over long tasks.
struct Bundle {
    pending: Mutex<Pending>,
    filled: Condvar,
    /// When the task that runs began, in microseconds since `epoch`, plus 1; 0 between tasks. Set back to 0
    /// only together with the task's result, under the lock of `pending`.
    began: AtomicU64,
    epoch: Instant,
    /// `asleep` of `pending`, to be seen without the lock.
    dozing: AtomicBool,
    desk: Arc<Desk>,
    prints: Prints,
}

struct Pending {
    socket: UnixStream,
    bytes: BytesMut,
    /// When the oldest of them was added.
    since: Instant,
    /// Whether the watching thread sleeps until it is called.
    asleep: bool,
    /// How much was told of what the task that runs has printed.
    told: u64,
}

impl Bundle {
    fn new(socket: UnixStream, desk: Arc<Desk>, prints: Prints) -> Self {
        let pending =
            Pending { socket, bytes: BytesMut::new(), since: Instant::now(), asleep: false, told: 0 };
        let (began, epoch) = (AtomicU64::new(0), Instant::now());
        let dozing = AtomicBool::new(false);
        Self { pending: Mutex::new(pending), filled: Condvar::new(), began, epoch, dozing, desk, prints }
    }

    fn note_start(&self, start: Instant) {
        let micros = u64::try_from((start - self.epoch).as_micros()).unwrap_or(u64::MAX - 1);
        // In one order with `dozing`: either this sees it set, or the watching thread sees the task.
        self.began.store(micros + 1, Ordering::SeqCst);
        if self.dozing.load(Ordering::SeqCst) {
            self.wake(&mut self.lock());
        }
    }

    fn wake(&self, pending: &mut Pending) {
        if std::mem::take(&mut pending.asleep) {
            self.dozing.store(false, Ordering::SeqCst);
            self.filled.notify_one();
        }
    }

    /// How long the task that runs has been running; none between tasks.
    fn running_for(&self) -> Option<Duration> {
        let began = self.began.load(Ordering::SeqCst).checked_sub(1)?;
        Some(self.epoch.elapsed().saturating_sub(Duration::from_micros(began)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().expect("no holder panics")
    }

    /// Adds a result, and sends the bundle if it is old or big enough.
    fn add(&self, message: &FromExecutor, body: &[u8], now: Instant) -> io::Result<()> {
        let mut pending = self.lock();
        if pending.bytes.is_empty() {
            pending.since = now;
            self.wake(&mut pending);
        }
        self.began.store(0, Ordering::Relaxed);
        pending.told = 0;
        wire::encode(message, body, &mut pending.bytes);
        if pending.bytes.len() >= BUNDLE_BYTES || now - pending.since >= BUNDLE_TIME {
            pending.send()?;
        }
        Ok(())
    }

    fn send(&self) -> io::Result<()> {
        self.lock().send()
    }

    /// Starts the thread that sends what a long task would keep back. While results come it looks every
    /// [`TICK`]; after some ticks without any it sleeps until it is called.
    fn start_watching(self: &Arc<Self>, tasks: Arc<Mutex<Tasks>>) {
        const IDLE_TICKS: u32 = 20;
        let bundle = Arc::clone(self);
        let watch = move || {
            let mut idle = 0;
            let mut told = Instant::now();
            loop {
                // A task of hours is not looked at every millisecond of them.
                std::thread::sleep(if idle > IDLE_TICKS { LONG } else { TICK });
                if bundle.running_for().is_some_and(|time| time > LONG) && bundle.hand_back(&tasks).is_err() {
                    return;
                }
                if told.elapsed() >= PROGRESS_EVERY && (bundle.tell_output() | bundle.tell_progress()) {
                    told = Instant::now();
                }
                let mut pending = bundle.lock();
                idle = if pending.bytes.is_empty() { idle + 1 } else { 0 };
                let late = pending.since.elapsed() >= TICK && bundle.running_for().is_some();
                if !pending.bytes.is_empty() && late && pending.send().is_err() {
                    return;
                }
                if idle > IDLE_TICKS {
                    pending.asleep = true;
                    bundle.dozing.store(true, Ordering::SeqCst);
                    if bundle.running_for().is_some() {
                        bundle.wake(&mut pending);
                    }
                    let woken = bundle.filled.wait_while(pending, |pending| pending.asleep);
                    drop(woken.expect("no holder panics"));
                    // While it still runs, what it ran before stays counted.
                    idle = if bundle.running_for().is_some_and(|time| time > LONG) { idle } else { 0 };
                }
            }
        };
        let named = std::thread::Builder::new().name("cw-results".to_owned());
        if let Err(error) = named.spawn(watch) {
            eprintln!("cw executor: no thread for results ({error}); those before a long task may come late");
        }
    }
}

impl Bundle {
    /// Tells the worker how far the task that runs has come, if it has said so since.
    fn tell_progress(&self) -> bool {
        let Some(thousandths) = self.desk.take_progress() else { return false };
        let mut pending = self.lock();
        // The word of a task whose result is on its way is of no use.
        if self.running_for().is_some() {
            wire::encode(&FromExecutor::Progress { thousandths }, &[], &mut pending.bytes);
            // If it cannot be sent the next result cannot either, and that is seen.
            let _ = pending.send();
        }
        true
    }

    /// Tells the worker what the task that runs has printed since, if it has run for a while.
    fn tell_output(&self) -> bool {
        let mut pending = self.lock();
        if self.running_for().is_none_or(|time| time < LONG) {
            return false;
        }
        let Some((from, body)) = self.prints.next(pending.told) else { return false };
        pending.told = from + body.len() as u64;
        wire::encode(&FromExecutor::Output { from }, &body, &mut pending.bytes);
        // If it cannot be sent the next result cannot either, and that is seen.
        let _ = pending.send();
        true
    }

    /// Tells the worker that what waits behind the task that runs will not be run here.
    fn hand_back(&self, tasks: &Mutex<Tasks>) -> io::Result<()> {
        // Whoever holds it is about to begin the next task, or waits for one: nothing is stuck.
        let Ok(mut tasks) = tasks.try_lock() else { return Ok(()) };
        let mut pending = self.lock();
        // Its result may have been added meanwhile; under both locks it cannot be.
        if self.running_for().is_none() {
            return Ok(());
        }
        let dropped = tasks.drop_all()?;
        if dropped > 0 {
            wire::encode(&FromExecutor::NotStarted { tasks: dropped }, &[], &mut pending.bytes);
            pending.send()?;
        }
        Ok(())
    }
}

impl Pending {
    fn send(&mut self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        self.socket.write_all(&self.bytes)?;
        self.bytes.clear();
        if self.bytes.capacity() > PAYLOAD_BYTES_DEFAULT {
            self.bytes = BytesMut::new();
        }
        Ok(())
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
