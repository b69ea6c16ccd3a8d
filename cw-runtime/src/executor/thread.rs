//! Executors that are threads of this process: for tests and for programs that ask for `--threads`.
//!
//! Weaker than processes: what ends a process ends everything, statics are shared, and a running task
//! cannot be killed. A task that is cancelled or runs out of time is left behind, and its thread with it.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};

use bytes::Bytes;
use cw_core::{
    ids::ExecutorId,
    wire::{Ending, ToExecutor},
    worker::ExecutorSaid,
};

use super::{
    context::{self, Desk},
    run::Runner,
    scratch::Scratch,
};
use crate::{hooks, job::Registry, worker::pool::Said};

/// Stack of a thread that runs jobs: what a main thread has.
const STACK_BYTES: usize = 8 << 20;

/// A thread that runs tasks, as seen by its worker.
pub(crate) struct ThreadExecutor {
    tasks: mpsc::Sender<(ToExecutor, Bytes)>,
    desk: Arc<Desk>,
}

impl ThreadExecutor {
    /// Starts a thread; all it has to say goes to `said`.
    pub(crate) fn start(
        id: ExecutorId,
        registry: &'static Registry,
        said: tokio::sync::mpsc::Sender<Said>,
    ) -> Self {
        let (tasks, inbox) = mpsc::channel::<(ToExecutor, Bytes)>();
        let report = said.clone();
        let desk = Arc::new(desk_of(id, said.clone()));
        let own = Arc::clone(&desk);
        let body = move || {
            context::settle_thread(&own);
            let mut runner = Runner::new(registry, own);
            let mut out = Vec::new();
            if hooks::are_left() && report.blocking_send((id, vec![ExecutorSaid::Starting])).is_ok() {
                hooks::run_at_start();
            }
            let mut alive = report.blocking_send((id, vec![ExecutorSaid::Ready])).is_ok();
            while alive && let Ok(first) = inbox.recv() {
                let mut done = Vec::new();
                let mut next = Some(first);
                while let Some((message, args)) = next {
                    let start = Instant::now();
                    let class = runner.run(&message, &args, &mut out);
                    let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
                    done.push(ExecutorSaid::Done { class, micros, body: Bytes::copy_from_slice(&out) });
                    // Short tasks share a message; a longer one is told at once.
                    next = if micros < 50 && done.len() < 64 { inbox.try_recv().ok() } else { None };
                }
                alive = report.blocking_send((id, done)).is_ok();
            }
        };
        let named = thread::Builder::new().name(format!("cw-{id}")).stack_size(STACK_BYTES);
        if let Err(error) = named.spawn(body) {
            let ended = ExecutorSaid::Ended {
                ending: Ending::Unknown,
                hint: None,
                stderr: format!("no thread could be started: {error}"),
                worker: crate::program::process_name(),
            };
            tokio::spawn(async move { said.send((id, vec![ended])).await });
        }
        Self { tasks, desk }
    }

    /// Gives it a task. A thread that has ended was reported to have.
    pub(crate) fn feed(&self, message: ToExecutor, body: Bytes) {
        let _ = self.tasks.send((message, body));
    }

    /// Tells the job that runs that nobody waits for it.
    pub(crate) fn leave_behind(&self) {
        self.desk.cancel();
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
