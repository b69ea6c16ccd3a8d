//! The executors of a worker: started, fed, killed as the machine says; what they say, in one stream.

use std::collections::HashMap;

use cw_core::{
    IdHash, Payload,
    ids::{ExecutorId, ProgramId},
    wire::{Ending, Particulars, ToExecutor},
    worker::ExecutorSaid,
};
use tokio::sync::mpsc;

use super::process::{Dress, ProcessExecutor};
use crate::{executor::thread::ThreadExecutor, image::Image, job::Registry, particulars::Outfit};

/// Words of one executor, in order.
pub(crate) type Said = (ExecutorId, Vec<ExecutorSaid>);

/// Batches of words that may wait for the worker's loop. A full channel makes executors wait.
const SAID_MAX: usize = 256;

/// What executors are made of.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Processes of this program, with these variables on top of its own.
    Processes {
        /// What to execute.
        image: Image,
        /// Variables to set.
        environment: Vec<(String, String)>,
    },
    /// Processes of any program, started as their clients want them to be.
    Programs(Wardrobe),
    /// Threads of this process.
    Threads(&'static Registry),
}

/// What a worker's executors are started with.
#[derive(Clone, Debug)]
pub(crate) struct Wardrobe {
    /// The programs that are here.
    pub(crate) images: HashMap<ProgramId, Image>,
    /// What is usual in this process: for executors of no client yet.
    pub(crate) own: Particulars,
    /// Variables for those that their clients have not set.
    pub(crate) limits: Vec<(String, String)>,
}

/// All executors of one worker.
pub(crate) struct Pool {
    kind: Kind,
    running: HashMap<ExecutorId, Executor, IdHash>,
    /// Fed since the last flush.
    fresh: Vec<ExecutorId>,
    said: mpsc::Sender<Said>,
    worker: String,
}

enum Executor {
    Process(ProcessExecutor),
    Thread(ThreadExecutor),
}

impl Pool {
    /// No executors yet, and the stream of what they will say.
    pub(crate) fn new(kind: Kind) -> (Self, mpsc::Receiver<Said>) {
        let (said, hear) = mpsc::channel(SAID_MAX);
        let worker = crate::program::process_name();
        (Self { kind, running: HashMap::default(), fresh: Vec::new(), said, worker }, hear)
    }

    /// Starts an executor. If that fails, it is reported as its end.
    pub(crate) fn start(&mut self, id: ExecutorId, program: ProgramId, body: &Payload) {
        let executor = match &self.kind {
            Kind::Processes { image, environment } => {
                match self.process(id, image, &Dress::Inherited(environment)) {
                    Ok(process) => Executor::Process(process),
                    Err(why) => return self.report_end(id, why),
                }
            }
            Kind::Programs(wardrobe) => match self.start_dressed(wardrobe, id, program, body) {
                Ok(process) => Executor::Process(process),
                Err(why) => return self.report_end(id, why),
            },
            Kind::Threads(registry) => {
                Executor::Thread(ThreadExecutor::start(id, registry, self.said.clone()))
            }
        };
        self.running.insert(id, executor);
    }

    fn start_dressed(
        &self,
        wardrobe: &Wardrobe,
        id: ExecutorId,
        program: ProgramId,
        body: &Payload,
    ) -> Result<ProcessExecutor, String> {
        let image = wardrobe.images.get(&program).ok_or("a fault in cw: the program is not here")?;
        let said = if body.is_empty() { Some(wardrobe.own.clone()) } else { Particulars::decode(body) };
        let particulars = said.ok_or("its client says nothing of itself that makes sense")?;
        self.process(id, image, &Dress::Of(Outfit::of(particulars, &wardrobe.limits)))
    }

    fn process(&self, id: ExecutorId, image: &Image, dress: &Dress<'_>) -> Result<ProcessExecutor, String> {
        ProcessExecutor::start(id, image, dress, self.worker.clone(), self.said.clone())
            .map_err(|error| format!("cannot start a process: {error}"))
    }

    /// A program is here from now on.
    pub(crate) fn add(&mut self, program: ProgramId, image: Image) {
        if let Kind::Programs(wardrobe) = &mut self.kind {
            wardrobe.images.insert(program, image);
        }
    }

    /// A program is not wanted any more.
    pub(crate) fn drop_program(&mut self, program: ProgramId) {
        if let Kind::Programs(wardrobe) = &mut self.kind {
            wardrobe.images.remove(&program);
        }
    }

    /// Gives an executor a task; it leaves with the next [`flush`](Self::flush).
    pub(crate) fn feed(&mut self, id: ExecutorId, message: &ToExecutor, body: Payload) {
        match self.running.get_mut(&id) {
            Some(Executor::Process(process)) => {
                process.feed(message, &body);
                if self.fresh.last() != Some(&id) {
                    self.fresh.push(id);
                }
            }
            Some(Executor::Thread(thread)) => thread.feed(message.clone(), body),
            None => {}
        }
    }

    /// Kills an executor; its end is reported when it is dead. A thread is only left behind.
    pub(crate) fn kill(&mut self, id: ExecutorId) {
        match self.running.get(&id) {
            Some(Executor::Process(process)) => process.kill(),
            Some(Executor::Thread(thread)) => {
                thread.leave_behind();
                self.running.remove(&id);
                self.report_end(id, String::new());
            }
            None => {}
        }
    }

    /// Forgets an executor whose end was heard.
    pub(crate) fn forget(&mut self, id: ExecutorId) {
        self.running.remove(&id);
    }

    /// Sends what was fed.
    pub(crate) fn flush(&mut self) {
        for id in self.fresh.drain(..) {
            if let Some(Executor::Process(process)) = self.running.get_mut(&id) {
                process.flush();
            }
        }
    }

    fn report_end(&self, id: ExecutorId, stderr: String) {
        let (said, worker) = (self.said.clone(), self.worker.clone());
        let ended = ExecutorSaid::Ended {
            ending: Ending::Unknown,
            hint: None,
            stderr,
            output: Payload::new(),
            worker,
        };
        tokio::spawn(async move { said.send((id, vec![ended])).await });
    }
}
