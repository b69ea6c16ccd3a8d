//! What comes to an executor's process and what goes out: tasks that were not begun, results that were not sent.
//!
//! Results go out in bundles: when there is nothing more to run, or when the oldest of them has waited for
//! [`BUNDLE_TIME`], or when they are [many](BUNDLE_TASKS). That is looked at between tasks; while a task runs, a second thread looks after what
//! was left unsent before it, so a long task never keeps back the results of short ones; and it hands back the
//! tasks that came behind a long one.
//!
//! All of it is under one lock, which is taken once between two tasks.

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    os::unix::{ffi::OsStringExt, net::UnixStream},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use cw_core::{
    Payload,
    ids::{Attempt, JobIndex, ShareId},
    wire::{self, Answer, BURST_BYTES_MAX, Entries, FromExecutor, PAYLOAD_BYTES_DEFAULT, ToExecutor},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::RecvFlags,
};

use super::{
    checkpoint::{Question, Way},
    context::Desk,
    prints::Prints,
    run::Assigned,
};
use crate::shared;

/// How long a result may wait for others before it is sent.
const BUNDLE_TIME: Duration = Duration::from_micros(250);

/// So many results wait for no others: the worker is to send more before all that is here has run.
const BUNDLE_TASKS: u32 = 256;

/// How often the second thread looks, while tasks run.
const TICK: Duration = Duration::from_millis(1);

/// After so many looks at nothing it looks less often, or sleeps until something runs.
const IDLE_TICKS: u32 = 20;

/// A task that runs for longer keeps back none that came after it.
const LONG: Duration = Duration::from_millis(10);

/// How often the progress of a task is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// For how long at most who waits for an answer does not look whether its attempt goes on.
const ANSWER_LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Bytes of results that are sent at once, however young.
const BUNDLE_BYTES: usize = 64 << 10;

/// Room that is made for each read, at least and at most.
const READ_BYTES: (usize, usize) = (16 << 10, 1 << 20);

pub(super) struct Line {
    work: Mutex<Work>,
    /// Rouses the second thread.
    roused: Condvar,
    /// Read by the runner while nothing runs, and by the second thread while something does.
    socket: UnixStream,
    desk: Arc<Desk>,
    pub(super) prints: Prints,
}

struct Work {
    tasks: Tasks,
    results: Results,
    /// Since when the task that runs does.
    running: Option<Instant>,
    /// How much was told of what it has printed.
    told: u64,
    /// Whether the second thread sleeps until it is roused.
    asleep: bool,
    /// Whether the task waits for an answer, and so reads the socket itself.
    asks: bool,
}

/// Tasks that have come and were not begun.
#[derive(Default)]
struct Tasks {
    buffer: BytesMut,
    /// They come before those in the buffer.
    burst: Option<Burst>,
    /// The last answer to what a task has asked, by the question's number.
    answer: Option<(u32, Answer, Payload)>,
    /// Whether the worker has closed the socket.
    closed: bool,
}

struct Burst {
    job: JobIndex,
    attempt: Attempt,
    entries: Entries,
}

/// Results that were not sent.
struct Results {
    socket: UnixStream,
    /// Whole messages.
    bytes: BytesMut,
    /// The ends of so many tasks, which will be one message after those.
    burst: BytesMut,
    dones: u32,
    /// When the oldest of them was added.
    since: Instant,
}

impl Line {
    pub(super) fn new(socket: UnixStream, results: UnixStream, desk: Arc<Desk>, prints: Prints) -> Self {
        let (bytes, burst) = (BytesMut::new(), BytesMut::new());
        let results = Results { socket: results, bytes, burst, dones: 0, since: Instant::now() };
        let work =
            Work { tasks: Tasks::default(), results, running: None, told: 0, asleep: false, asks: false };
        Self { work: Mutex::new(work), roused: Condvar::new(), socket, desk, prints }
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().expect("no holder panics")
    }

    /// Says something at once.
    pub(super) fn say(&self, message: &FromExecutor) -> io::Result<()> {
        let results = &mut self.lock().results;
        wire::encode(message, &[], &mut results.bytes);
        results.send()
    }

    /// Takes in the end of the task that ran, if one did, with its result, and gives the next. If there is none, all
    /// results are sent.
    pub(super) fn next(
        &self,
        ended: Option<&FromExecutor>,
        out: &[u8],
        now: Instant,
    ) -> io::Result<Option<(Assigned, Payload)>> {
        let mut work = self.lock();
        if let Some(ended) = ended {
            (work.running, work.told) = (None, 0);
            work.results.add(ended, out, now)?;
        }
        let next = work.tasks.next()?;
        if next.is_none() {
            work.results.send()?;
            return Ok(None);
        }
        work.running = Some(now);
        if std::mem::take(&mut work.asleep) {
            self.roused.notify_one();
        }
        Ok(next)
    }

    /// Waits for more and reads what is there; false at the end. Nothing runs meanwhile, so nobody else wants the buffer.
    pub(super) fn read(&self) -> io::Result<bool> {
        self.prints.time_a_look();
        let mut buffer = std::mem::take(&mut self.lock().tasks.buffer);
        let had = buffer.len();
        let missing = buffer
            .first_chunk::<4>()
            .map_or(0, |length| (u32::from_le_bytes(*length) as usize + 4).saturating_sub(had));
        buffer.resize(had + missing.clamp(READ_BYTES.0, READ_BYTES.1), 0);
        let read = loop {
            match (&self.socket).read(&mut buffer[had..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        // The worker is gone, whether it said so or not.
        let read = match read {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            other => other?,
        };
        buffer.truncate(had + read);
        self.lock().tasks.buffer = buffer;
        Ok(read > 0)
    }
}

impl Tasks {
    fn next(&mut self) -> io::Result<Option<(Assigned, Payload)>> {
        loop {
            if let Some(Burst { job, attempt, entries }) = &mut self.burst {
                if let Some(entry) = entries.next() {
                    let (job, attempt, task) = (*job, *attempt, entry.task);
                    return Ok(Some((Assigned { job, task, attempt, is_apart: false }, entry.bytes)));
                }
                self.burst = None;
            }
            let Some(frame) = wire::next_frame(&mut self.buffer).map_err(io::Error::other)? else {
                return Ok(None);
            };
            let (message, body) = wire::decode(&frame).map_err(io::Error::other)?;
            match message {
                ToExecutor::Runs { job, first, tasks, attempt } => {
                    let entries = Entries::of_args(first, tasks, body);
                    self.burst = Some(Burst { job, attempt, entries });
                }
                ToExecutor::Run { job, task, attempt } => {
                    return Ok(Some((Assigned { job, task, attempt, is_apart: false }, body)));
                }
                ToExecutor::RunApart { job, task, attempt } => {
                    return Ok(Some((Assigned { job, task, attempt, is_apart: true }, body)));
                }
                ToExecutor::Share { share } => note_share(share, &body),
                ToExecutor::Answers { number, answer } => self.answer = Some((number, answer, body)),
            }
        }
    }

    /// Throws away the whole tasks that have come, read or not; gives how many.
    fn drop_all(&mut self, socket: &UnixStream) -> io::Result<u32> {
        let mut chunk = [0; 16 << 10];
        loop {
            match rustix::net::recv(socket, &mut chunk[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => self.closed = true,
                Ok((read, _)) => {
                    self.buffer.extend_from_slice(&chunk[..read]);
                    continue;
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {}
                Err(_) => self.closed = true,
            }
            break;
        }
        let mut dropped = 0;
        while self.next()?.is_some() {
            dropped += 1;
        }
        Ok(dropped)
    }
}

/// Notes where a value lies that tasks share.
fn note_share(share: ShareId, path: &[u8]) {
    shared::note(share, PathBuf::from(OsString::from_vec(path.to_vec())));
}

impl Results {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.dones == 0
    }

    /// Adds the end of a task, and sends all if the oldest is old or they are many.
    fn add(&mut self, ended: &FromExecutor, result: &[u8], now: Instant) -> io::Result<()> {
        if self.is_empty() {
            self.since = now;
        }
        match ended {
            FromExecutor::Done { micros, .. } if wire::is_burst_done(ended, result) => {
                wire::put_done(*micros, result, &mut self.burst);
                self.dones += 1;
                if self.burst.len() > BURST_BYTES_MAX {
                    self.close_burst();
                }
            }
            _ => {
                self.close_burst();
                wire::encode(ended, result, &mut self.bytes);
            }
        }
        let is_due = self.dones >= BUNDLE_TASKS || now - self.since >= BUNDLE_TIME;
        if is_due || self.bytes.len() + self.burst.len() >= BUNDLE_BYTES { self.send() } else { Ok(()) }
    }

    fn close_burst(&mut self) {
        let tasks = std::mem::take(&mut self.dones);
        if tasks > 0 {
            wire::encode(&FromExecutor::Dones { tasks }, &self.burst, &mut self.bytes);
            self.burst.clear();
        }
    }

    fn send(&mut self) -> io::Result<()> {
        self.close_burst();
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

impl Line {
    /// Starts the thread that sends what a long task would keep back. While results come it looks every
    /// [`TICK`]; after some ticks without any it looks less often, or sleeps until something runs.
    pub(super) fn start_watching(self: &Arc<Self>) {
        let line = Arc::clone(self);
        let watch = move || {
            let (mut idle, mut told) = (0, Instant::now());
            loop {
                // A task of hours is not looked at every millisecond of them.
                std::thread::sleep(if idle > IDLE_TICKS { LONG } else { TICK });
                let mut work = line.lock();
                if line.look(&mut work, &mut told).is_err() {
                    return;
                }
                idle = if work.results.is_empty() { idle + 1 } else { 0 };
                if idle > IDLE_TICKS && work.running.is_none() {
                    work.asleep = true;
                    drop(line.roused.wait_while(work, |work| work.asleep).expect("no holder panics"));
                    idle = 0;
                }
            }
        };
        let named = std::thread::Builder::new().name("cw-results".to_owned());
        if let Err(error) = named.spawn(watch) {
            eprintln!("cw executor: no thread for results ({error}); those before a long task may come late");
        }
    }

    /// Looks after what the task that runs keeps back.
    fn look(&self, work: &mut Work, told: &mut Instant) -> io::Result<()> {
        let Some(since) = work.running else { return Ok(()) };
        if since.elapsed() > LONG {
            if !work.asks {
                self.hand_back(work)?;
            }
            if told.elapsed() >= PROGRESS_EVERY && (self.tell_output(work) | self.tell_progress(work)) {
                *told = Instant::now();
            }
        }
        if work.results.since.elapsed() >= TICK { work.results.send() } else { Ok(()) }
    }

    /// Tells the worker how far the task that runs has come, if it has said so since.
    fn tell_progress(&self, work: &mut Work) -> bool {
        let Some(thousandths) = self.desk.take_progress() else { return false };
        work.results.close_burst();
        wire::encode(&FromExecutor::Progress { thousandths }, &[], &mut work.results.bytes);
        // If it cannot be sent the next result cannot either, and that is seen.
        let _ = work.results.send();
        true
    }

    /// Tells the worker what the task that runs has printed since.
    fn tell_output(&self, work: &mut Work) -> bool {
        let Some((from, body)) = self.prints.next(work.told) else { return false };
        work.told = from + body.len() as u64;
        work.results.close_burst();
        wire::encode(&FromExecutor::Output { from }, &body, &mut work.results.bytes);
        // If it cannot be sent the next result cannot either, and that is seen.
        let _ = work.results.send();
        true
    }

    /// Tells the worker that what waits behind the task that runs will not be run here.
    fn hand_back(&self, work: &mut Work) -> io::Result<()> {
        let tasks = work.tasks.drop_all(&self.socket)?;
        if tasks == 0 {
            return Ok(());
        }
        work.results.close_burst();
        wire::encode(&FromExecutor::NotStarted { tasks }, &[], &mut work.results.bytes);
        work.results.send()
    }
}

/// Why there is no answer: nobody waits for the attempt that asks.
const OVER: &str = "its attempt has ended";

impl Line {
    /// Says what a task asks, after all that was said before; false if its attempt has ended.
    fn say_question(
        &self,
        Question { task, attempt, number, ask }: Question,
        body: &[u8],
        is_current: &dyn Fn() -> bool,
    ) -> io::Result<bool> {
        let mut work = self.lock();
        // Its end is told under this lock: what is said now is of this task.
        if !is_current() {
            return Ok(false);
        }
        self.hand_back(&mut work)?;
        work.results.close_burst();
        wire::encode(&FromExecutor::Asks { task, attempt, number, ask }, body, &mut work.results.bytes);
        work.asks = true;
        work.results.send().map(|()| true)
    }

    /// Reads what has come; gives the answer to a question if it has, or an error if it will not.
    fn look_for_answer(
        &self,
        number: u32,
        is_current: &dyn Fn() -> bool,
    ) -> Result<Option<(Answer, Payload)>, String> {
        let mut work = self.lock();
        if !is_current() {
            return Err(OVER.to_owned());
        }
        self.hand_back(&mut work).map_err(|error| format!("the socket to the worker failed: {error}"))?;
        match work.tasks.answer.take() {
            Some((of, answer, body)) if of == number => Ok(Some((answer, body))),
            _ if work.tasks.closed => Err("the worker has gone".to_owned()),
            _ => Ok(None),
        }
    }

    fn wait_for_answer(
        &self,
        number: u32,
        is_current: &dyn Fn() -> bool,
    ) -> Result<(Answer, Payload), String> {
        loop {
            if let Some(answer) = self.look_for_answer(number, is_current)? {
                return Ok(answer);
            }
            // Whatever this ends with, it is looked again.
            let _ = poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&ANSWER_LOOK));
        }
    }
}

impl Way for Arc<Line> {
    fn ask(
        &self,
        question: Question,
        body: &[u8],
        is_current: &dyn Fn() -> bool,
    ) -> Result<(Answer, Payload), String> {
        match self.say_question(question, body, is_current) {
            Ok(true) => {}
            Ok(false) => return Err(OVER.to_owned()),
            Err(error) => return Err(format!("the socket to the worker failed: {error}")),
        }
        let answer = self.wait_for_answer(question.number, is_current);
        self.lock().asks = false;
        answer
    }
}
