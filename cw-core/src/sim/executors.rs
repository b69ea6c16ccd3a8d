//! Executors: processes that run one task after the other and do what the task's plan says.

use std::time::Duration;

use bytes::BytesMut;

use super::{
    checks::Ledger,
    hosts::{Input, Process, Role},
    plan::Does,
    programs::prints,
    truth::{Run, named},
    world::{Doing, Happening, World},
};
use crate::{
    Payload, Time,
    ids::{Attempt, ExecutorId, TaskId},
    wire::{BURST_BYTES_MAX, Class, Ending, Failure, FromExecutor, is_burst_done, put_done},
    worker::{ExecutorSaid, Origin},
};

/// After so long an executor hands back what it was fed behind the task that runs.
pub(super) const LONG: Duration = Duration::from_millis(10);

/// The longest that an executor keeps a result back while it runs the next task.
const KEPT_BACK: Duration = Duration::from_millis(2);

impl World {
    pub(super) fn start_executor(&mut self, host: usize, executor: ExecutorId, origin: Origin) {
        let Origin { program, setting } = origin;
        let own = self.hosts[host].program;
        let Some(worker) = self.hosts[host].worker() else { return };
        worker.processes.insert(executor, Process { program, setting, ..Process::default() });
        let is_here = program == own || worker.fetched.contains(&program);
        self.ledger.rule(is_here, "only what is there is started", || format!("{program} on host {host}"));
        let worker = self.hosts[host].worker().expect("just seen");
        let (processes, slots) = (worker.processes.len(), worker.slots as usize);
        self.ledger.rule(processes <= slots, "never more executors than slots", || {
            format!("host {host} has {processes} of {slots}")
        });
        let start = Duration::from_micros(self.chance.between(500, 20_000));
        self.after(start, Happening::Executor { host, executor, what: Doing::Ready });
    }

    pub(super) fn feed_executor(
        &mut self,
        host: usize,
        executor: ExecutorId,
        task: TaskId,
        attempt: Attempt,
        args: Payload,
    ) {
        let client = self.ledger.note_fed(&mut self.hosts, host, task, attempt, &args);
        if let Some(client) = client {
            self.check_fed_in_time(host, client, task);
        }
        let worker = self.hosts[host].worker().expect("only workers feed");
        let is_blocked = client.is_some_and(|client| worker.machine.is_blocked(client));
        self.ledger.rule(!is_blocked, "whose results pile up starts no task there", || {
            format!("{task} on host {host}")
        });
        let worker = self.hosts[host].worker().expect("only workers feed");
        let Some(process) = worker.processes.get_mut(&executor) else { return };
        // What comes behind a task that has run long is handed back like what was there before.
        let (run, runs) = (process.run, process.runs);
        if runs && self.now.since(process.started) > LONG {
            self.after(LONG, Happening::Executor { host, executor, what: Doing::IsLong { run } });
        }
        let Some(process) = self.process(host, executor) else { return };
        process.queue.push_back((task, attempt, args));
        if process.queue.len() == 1 && !process.dying {
            self.begin_next(host, executor);
        }
    }

    pub(super) fn kill_executor(&mut self, host: usize, executor: ExecutorId) {
        let now = self.now;
        let clock = self.hosts[host].node.clock;
        let worker = self.hosts[host].worker().expect("only workers kill");
        let Some(process) = worker.processes.get_mut(&executor) else { return };
        let ran = clock.local(now).since(clock.local(process.started));
        process.dying = true;
        if process.runs
            && let Some((_, _, args)) = process.queue.front().cloned()
        {
            self.ledger.note_killed(host, executor, ran, &args);
            self.ledger.note_unheard(host, executor, |began| clock.local(now).since(clock.local(began)));
        }
        let delay = Duration::from_micros(self.chance.between(100, 3_000));
        let what = Doing::Dies(Ending::Signal(9));
        self.after(delay, Happening::Executor { host, executor, what });
    }

    pub(super) fn executor(&mut self, host: usize, executor: ExecutorId, what: Doing) {
        let Host { frozen, up } = self.state_of(host);
        if !up {
            return;
        }
        if let Some(since) = frozen {
            let offset = self.now.since(since);
            let worker = self.hosts[host].worker().expect("only workers have executors");
            worker.thaw.push((offset, Happening::Executor { host, executor, what }));
            return;
        }
        match what {
            Doing::Ready => {
                let exists = self.process(host, executor).is_some_and(|process| !process.dying);
                if exists {
                    self.executor_says(host, executor, ExecutorSaid::Ready);
                }
            }
            Doing::Asks { run } => self.task_asks(host, executor, run),
            Doing::Ends { run } => self.task_ends(host, executor, run),
            Doing::IsLong { run } => self.task_is_long(host, executor, run),
            Doing::Flushes => self.flush(host, executor),
            Doing::TakesNode { run } => {
                if self.process(host, executor).is_some_and(|process| process.run == run && process.runs) {
                    self.say(|| format!("a task takes host {host} with it"));
                    self.kill_host(host, false);
                    let (program, slots) = (self.hosts[host].program, self.knobs.slots);
                    let pause = Duration::from_millis(self.chance.between(10, 5_000));
                    self.after(pause, Happening::StartWorker { program, slots });
                }
            }
            Doing::Dies(ending) => self.executor_ended(host, executor, ending),
        }
    }

    fn state_of(&self, host: usize) -> Host {
        let it = &self.hosts[host];
        let freezes = matches!(&it.role, Role::Worker(worker) if worker.freezes);
        Host { frozen: it.node.paused.filter(|_| freezes), up: it.node.up }
    }

    pub(super) fn process(&mut self, host: usize, executor: ExecutorId) -> Option<&mut Process> {
        self.hosts[host].worker()?.processes.get_mut(&executor)
    }

    pub(super) fn executor_says(&mut self, host: usize, executor: ExecutorId, said: ExecutorSaid) {
        self.input(Some(host), Input::Executor { executor, said });
    }

    fn begin_next(&mut self, host: usize, executor: ExecutorId) {
        self.sequence += 1;
        let (now, run) = (self.now, self.sequence);
        let worker = self.hosts[host].worker().expect("only workers have executors");
        let bad = worker.bad;
        let Some(process) = worker.processes.get_mut(&executor) else { return };
        let Some((task, attempt, args)) = process.queue.front().cloned() else { return };
        (process.started, process.run, process.runs) = (now, run, true);
        process.saving = None;
        self.say(|| format!("host {host}: {executor} begins {task} {attempt}"));
        let aside =
            self.master.machine.as_ref().map(crate::master::Master::set_aside_ever).unwrap_or_default();
        let aside: Vec<usize> = aside.into_iter().filter_map(|id| self.ledger.owner(id.0)).collect();
        self.ledger.set_aside.extend(aside);
        let (mut does, mut takes) = self.ledger.note_begun(&self.hosts, host, executor, task, attempt, &args);
        if bad.is_some() {
            (does, takes) = (Does::Return, Duration::from_micros(500));
        } else if does != Does::KillNode
            && self.begin_saving((host, executor), (task, attempt), &args, (does, takes))
        {
            return;
        }
        let mut after = |delay, what| self.after(delay, Happening::Executor { host, executor, what });
        if does == Does::Hang || takes > LONG {
            after(LONG, Doing::IsLong { run });
        }
        match does {
            Does::Hang => {}
            Does::KillNode => after(takes.min(Duration::from_millis(200)), Doing::TakesNode { run }),
            _ => after(takes, Doing::Ends { run }),
        }
    }

    fn task_ends(&mut self, host: usize, executor: ExecutorId, run: u64) {
        let (now, bundle) = (self.now, self.knobs.bundle);
        let bad = self.hosts[host].worker().and_then(|worker| worker.bad);
        let Some(process) = self.process(host, executor) else { return };
        if process.run != run || process.dying {
            return;
        }
        let ran = now.since(process.started);
        let (task, attempt, args) = process.queue.front().cloned().expect("it ran");
        let outcome = self.ledger.note_ended(host, executor, task, &args, bad);
        self.say(|| {
            format!("host {host}: {executor} ends {task} {attempt}: {:?}", outcome.as_ref().map(|it| it.0))
        });
        let process = self.process(host, executor).expect("just seen");
        let Some((class, body)) = outcome else {
            // It takes its executor with it; what was not flushed is lost.
            process.dying = true;
            let what = Doing::Dies(Ending::Signal(11));
            return self.after(Duration::from_micros(50), Happening::Executor { host, executor, what });
        };
        process.queue.pop_front();
        process.runs = false;
        let printed = prints(task);
        let output = u32::try_from(printed.len()).expect("a few bytes");
        let body = if output == 0 { body } else { Payload::from([&body[..], &printed].concat()) };
        process.unflushed.push((class, u64::try_from(ran.as_micros()).expect("minutes"), output, body));
        let is_first = process.unflushed.len() == 1;
        if process.queue.is_empty() || process.unflushed.len() >= bundle {
            self.flush(host, executor);
        } else if is_first {
            self.after(KEPT_BACK, Happening::Executor { host, executor, what: Doing::Flushes });
        }
        let is_idle = self.process(host, executor).is_some_and(|process| !process.runs && !process.dying);
        if is_idle {
            self.begin_next(host, executor);
        }
    }

    pub(super) fn flush(&mut self, host: usize, executor: ExecutorId) {
        let Some(process) = self.process(host, executor) else { return };
        let ends = std::mem::take(&mut process.unflushed);
        let is_plain = |(class, micros, output, body): &(Class, u64, u32, Payload)| {
            let (class, micros, output) = (*class, *micros, *output);
            is_burst_done(&FromExecutor::Done { class, micros, output }, body)
        };
        let bytes: usize = ends.iter().map(|(.., body)| body.len()).sum();
        if ends.len() > 1 && bytes < BURST_BYTES_MAX / 2 && ends.iter().all(is_plain) {
            let mut body = BytesMut::new();
            ends.iter().for_each(|(_, micros, _, result)| put_done(*micros, result, &mut body));
            let (tasks, body) = (u32::try_from(ends.len()).expect("a batch is short"), body.freeze().into());
            return self.executor_says(host, executor, ExecutorSaid::Dones { tasks, body });
        }
        for (class, micros, output, body) in ends {
            self.executor_says(host, executor, ExecutorSaid::Done { class, micros, output, body });
        }
    }

    fn task_is_long(&mut self, host: usize, executor: ExecutorId, run: u64) {
        let now = self.now;
        let Some(process) = self.process(host, executor) else { return };
        if process.run != run || process.dying || !process.runs {
            return;
        }
        let is_first = now.since(process.started) <= LONG;
        let tasks = u32::try_from(process.queue.len() - 1).expect("a batch is short");
        process.queue.truncate(1);
        let task = process.queue[0].0;
        self.flush(host, executor);
        if is_first {
            let said = ExecutorSaid::Output { from: 0, body: prints(task) };
            self.executor_says(host, executor, said);
        }
        if tasks > 0 {
            self.executor_says(host, executor, ExecutorSaid::NotStarted { tasks });
        }
    }

    fn executor_ended(&mut self, host: usize, executor: ExecutorId, ending: Ending) {
        let Some(worker) = self.hosts[host].worker() else { return };
        if worker.processes.remove(&executor).is_none() {
            return;
        }
        self.ledger.note_executor_gone(host, executor);
        let (hint, stderr, worker) = (None, "last words".to_owned(), format!("node{host}:1"));
        self.executor_says(
            host,
            executor,
            ExecutorSaid::Ended { ending, hint, stderr, output: Payload::new(), worker },
        );
    }
}

impl Ledger {
    /// A worker kills an executor in which this runs, or has just taken it down: then only the worker can say which of
    /// the two came first.
    pub(super) fn note_killed(&mut self, host: usize, executor: ExecutorId, ran: Duration, args: &[u8]) {
        let live = self.live.get(&(host, executor)).map(|(owner, task, _)| (*owner, *task));
        let is_dead = live.is_none();
        let Some((owner, task)) = live.or_else(|| named(args)) else { return };
        let Some(truth) = self.truth(owner, task) else { return };
        let is_over = truth.spec.timeout.is_some_and(|timeout| ran >= timeout);
        let there = |run: &&mut Run| (run.worker, run.executor) == (host, executor);
        if let Some(run) = truth.runs.iter_mut().rev().find(there)
            && is_over
            && (is_dead || !run.is_bad)
        {
            truth.timed_out += 1;
            (run.is_bad, run.is_failed) = (true, true);
        }
    }

    /// The same where the one that ran before in it had ended, which the worker was not told in time.
    pub(super) fn note_unheard(
        &mut self,
        host: usize,
        executor: ExecutorId,
        since: impl Fn(Time) -> Duration,
    ) {
        let unheard = |run: &Run| {
            (run.worker, run.executor) == (host, executor)
                && run.told_end.is_none()
                && run.is_over
                && !run.is_bad
        };
        for truth in self.truths.values_mut().flatten() {
            let Some(timeout) = truth.spec.timeout else { continue };
            for run in truth.runs.iter_mut().filter(|run| unheard(run) && since(run.began) >= timeout) {
                truth.timed_out += 1;
                (run.is_bad, run.is_failed) = (true, true);
            }
        }
    }

    pub(super) fn note_executor_gone(&mut self, host: usize, executor: ExecutorId) {
        self.live.remove(&(host, executor));
        // What it had not flushed is lost too.
        let there = |run: &&mut Run| run.worker == host && run.executor == executor && run.told_end.is_none();
        self.runs().filter(there).for_each(|run| (run.is_over, run.is_bad) = (true, true));
    }
}

struct Host {
    frozen: Option<Time>,
    up: bool,
}

/// A failure as a job returns it.
pub(super) fn failed() -> (Class, Payload) {
    let failure = Failure::Failed { message: "no".to_owned(), chain: vec![], value: None };
    (Class::Failed, failure.encode())
}
