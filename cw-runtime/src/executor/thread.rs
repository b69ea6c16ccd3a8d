//! Executors that are threads of this process: for tests and for programs that ask for `--threads`.
//!
//! Weaker than processes: what ends a process ends everything, statics are shared, and a running task
//! cannot be killed. A task that is cancelled or runs out of time is left behind, and its thread with it.
//!
//! As a process does, a thread bundles the results of short tasks; and one [`watch`] for all threads sends what a long
//! task would keep back, and hands back the tasks that were fed behind it.

mod watch;

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, Weak},
    thread,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use cw_core::{
    Payload,
    ids::ExecutorId,
    wire::{self, Answer, Class, Ending, Entries, FromExecutor, ToExecutor},
    worker::ExecutorSaid,
};

use tokio::sync::mpsc::error::TrySendError;

use super::{
    checkpoint::{Question, Way},
    context::{self, Desk},
    run::{Assigned, Runner},
    scratch::Scratch,
};
use crate::{hooks, job::Registry, worker::pool::Said};

/// Stack of a thread that runs jobs: what a main thread has.
const STACK_BYTES: usize = 8 << 20;

/// How long a result may wait for others before it is sent.
const BUNDLE_TIME: Duration = Duration::from_micros(100);

/// Bytes of results that are sent at once, however young.
const BUNDLE_BYTES: usize = 16 << 10;

/// How long is waited where the worker has much to hear.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// A thread that runs tasks, as seen by its worker.
pub(crate) struct ThreadExecutor {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
}

/// What the thread, its worker and the watch have in common.
struct Shared {
    id: ExecutorId,
    /// Apart from what goes out: the worker, which takes that, must never wait for one who waits for it.
    inbox: Mutex<Inbox>,
    fed: Condvar,
    outbox: Mutex<Outbox>,
    said: tokio::sync::mpsc::Sender<Said>,
}

#[derive(Default)]
struct Inbox {
    tasks: VecDeque<(Assigned, Payload)>,
    /// The last answer to what a task has asked, by the question's number.
    answer: Option<(u32, Answer, Payload)>,
    /// Nobody waits for what it runs, or feeds it any more.
    closed: bool,
}

#[derive(Default)]
struct Outbox {
    /// Results that were not sent, and since when the oldest waits.
    done: Vec<ExecutorSaid>,
    since: Option<Instant>,
    /// The ends of so many tasks, which are told in one word after those.
    burst: BytesMut,
    dones: u32,
    /// Since when the task that runs does. Ends with its result, under one lock.
    running: Option<Instant>,
}

impl ThreadExecutor {
    /// Starts a thread; all it has to say goes to `said`.
    pub(crate) fn start(
        id: ExecutorId,
        registry: &'static Registry,
        said: tokio::sync::mpsc::Sender<Said>,
    ) -> Self {
        let desk = Arc::new(desk_of(id, said.clone()));
        let shared = Arc::new(Shared::new(id, said.clone()));
        let (own, theirs) = (Arc::clone(&desk), Arc::clone(&shared));
        desk.questions.go(Arc::downgrade(&shared));
        watch::add(&shared);
        let named = thread::Builder::new().name(format!("cw-{id}")).stack_size(STACK_BYTES);
        if let Err(error) = named.spawn(move || serve(&theirs, registry, &own)) {
            let ended = ExecutorSaid::Ended {
                output: Payload::new(),
                ending: Ending::Unknown,
                hint: None,
                stderr: format!("no thread could be started: {error}"),
                worker: crate::program::process_name(),
            };
            tokio::spawn(async move { said.send((id, vec![ended])).await });
        }
        Self { shared, desk }
    }

    /// Gives it a task. A thread that has ended was reported to have.
    pub(crate) fn feed(&self, message: ToExecutor, body: Payload) {
        let mut inbox = self.shared.inbox();
        match message {
            ToExecutor::Run { job, task, attempt } => {
                inbox.tasks.push_back((Assigned { job, task, attempt, is_apart: false }, body));
            }
            ToExecutor::RunApart { job, task, attempt } => {
                inbox.tasks.push_back((Assigned { job, task, attempt, is_apart: true }, body));
            }
            ToExecutor::Runs { job, first, tasks, attempt } => {
                let entries = Entries::of_args(first, tasks, body);
                let assigned = |task| Assigned { job, task, attempt, is_apart: false };
                inbox.tasks.extend(entries.map(|entry| (assigned(entry.task), entry.bytes)));
            }
            // What tasks share is this process's own, and found without a word.
            ToExecutor::Share { .. } => return,
            ToExecutor::Answers { number, answer } => inbox.answer = Some((number, answer, body)),
        }
        drop(inbox);
        self.shared.fed.notify_one();
        watch::wake();
    }

    /// Tells the job that runs that nobody waits for it, and the thread to end with it.
    pub(crate) fn leave_behind(&self) {
        self.desk.cancel();
        self.shared.close();
    }
}

impl Drop for ThreadExecutor {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    fn new(id: ExecutorId, said: tokio::sync::mpsc::Sender<Said>) -> Self {
        Self { id, inbox: Mutex::default(), fed: Condvar::new(), outbox: Mutex::default(), said }
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().expect("no holder panics")
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().expect("no holder panics")
    }

    fn close(&self) {
        let mut inbox = self.inbox();
        inbox.closed = true;
        inbox.tasks.clear();
        drop(inbox);
        self.fed.notify_one();
    }

    /// The next task, once there is one; none at the end. Before it waits, what is done goes out.
    fn next(&self) -> Option<(Assigned, Payload)> {
        if let Some(next) = self.inbox().tasks.pop_front() {
            return Some(next);
        }
        if !self.send(&mut self.outbox()) {
            return None;
        }
        let waiting = |inbox: &mut Inbox| inbox.tasks.is_empty() && !inbox.closed;
        self.fed.wait_while(self.inbox(), waiting).expect("no holder panics").tasks.pop_front()
    }

    /// A task begins.
    fn begin(&self) -> Instant {
        let now = Instant::now();
        self.outbox().running = Some(now);
        now
    }

    /// Adds the end of the task that ran since then; says whether anybody hears it.
    fn add(&self, class: Class, began: Instant, result: &[u8]) -> bool {
        let now = Instant::now();
        let micros = u64::try_from((now - began).as_micros()).unwrap_or(u64::MAX);
        let mut outbox = self.outbox();
        let since = *outbox.since.get_or_insert(now);
        outbox.running = None;
        if wire::is_burst_done(&FromExecutor::Done { class, micros, output: 0 }, result) {
            wire::put_done(micros, result, &mut outbox.burst);
            outbox.dones += 1;
        } else {
            outbox.close_burst();
            let body = Payload::copy_from_slice(result);
            outbox.done.push(ExecutorSaid::Done { class, micros, output: 0, body });
        }
        let is_due = now - since >= BUNDLE_TIME || outbox.burst.len() >= BUNDLE_BYTES;
        !is_due || self.send(&mut outbox)
    }

    /// Sends what is done; says whether anybody hears it. Under the lock, so that all of it stays in order.
    fn send(&self, outbox: &mut Outbox) -> bool {
        outbox.since = None;
        outbox.close_burst();
        let done = mem::take(&mut outbox.done);
        done.is_empty() || self.said.blocking_send((self.id, done)).is_ok()
    }
}

impl Outbox {
    fn close_burst(&mut self) {
        let tasks = mem::take(&mut self.dones);
        if tasks > 0 {
            self.done.push(ExecutorSaid::Dones { tasks, body: self.burst.split().freeze().into() });
        }
    }
}

/// Runs tasks until the worker has no more.
fn serve(shared: &Shared, registry: &'static Registry, desk: &Arc<Desk>) {
    context::settle_thread(desk);
    let mut runner = Runner::new(registry, Arc::clone(desk));
    let mut out = Vec::new();
    let say = |said| shared.said.blocking_send((shared.id, vec![said])).is_ok();
    if hooks::are_left() && say(ExecutorSaid::Starting) {
        hooks::run_at_start();
    }
    let mut alive = say(ExecutorSaid::Ready);
    while alive && let Some((task, args)) = shared.next() {
        let began = shared.begin();
        let class = runner.run(&task, &args, &mut out);
        alive = shared.add(class, began, &out);
    }
}

impl Shared {
    /// Says what a task asks, after all that was said before. The job may run within a runtime, in which the channel's own
    /// way of waiting is not allowed.
    fn say_question(&self, Question { task, attempt, number, ask }: Question, body: &[u8]) -> bool {
        let mut outbox = self.outbox();
        outbox.close_burst();
        let tasks = u32::try_from(mem::take(&mut self.inbox().tasks).len()).unwrap_or(u32::MAX);
        if tasks > 0 {
            outbox.done.push(ExecutorSaid::NotStarted { tasks });
        }
        let body = Payload::copy_from_slice(body);
        outbox.done.push(ExecutorSaid::Asks { task, attempt, number, ask, body });
        outbox.since = None;
        let mut words = (self.id, mem::take(&mut outbox.done));
        loop {
            words = match self.said.try_send(words) {
                Ok(()) => return true,
                Err(TrySendError::Closed(_)) => return false,
                Err(TrySendError::Full(words)) => words,
            };
            thread::sleep(FULL_PAUSE);
        }
    }

    fn wait_for_answer(&self, number: u32) -> Option<(Answer, Payload)> {
        let waits =
            |inbox: &mut Inbox| !inbox.closed && inbox.answer.as_ref().is_none_or(|(of, ..)| *of != number);
        let mut inbox = self.fed.wait_while(self.inbox(), waits).expect("no holder panics");
        inbox.answer.take().filter(|(of, ..)| *of == number).map(|(_, answer, body)| (answer, body))
    }
}

impl Way for Weak<Shared> {
    fn ask(
        &self,
        question: Question,
        body: &[u8],
        is_current: &dyn Fn() -> bool,
    ) -> Result<(Answer, Payload), String> {
        // Only its own thread asks, so the task goes on until this returns.
        let shared = self.upgrade().filter(|shared| is_current() && !shared.inbox().closed);
        let shared = shared.ok_or("its attempt has ended")?;
        if !shared.say_question(question, body) {
            return Err("the program ends".to_owned());
        }
        shared.wait_for_answer(question.number).ok_or_else(|| "nobody waits for its task any more".to_owned())
    }
}

fn desk_of(id: ExecutorId, said: tokio::sync::mpsc::Sender<Said>) -> Desk {
    let tell = move |thousandths| {
        // Another word comes soon; a worker that is busy need not hear each.
        let _ = said.try_send((id, vec![ExecutorSaid::Progress { thousandths }]));
    };
    let worker = crate::program::process_name();
    Desk::new(worker, Scratch::of_thread(id), Some(Box::new(tell)))
}
