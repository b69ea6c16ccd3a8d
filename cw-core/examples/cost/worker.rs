//! A worker whose executors do each task at once, and whose master sends another for each result.

use std::collections::{BTreeMap, VecDeque};

use cw_core::{
    Payload, Time,
    ids::{Attempt, ClientId, ExecutorId, SpecIndex, TaskId},
    wire::{Class, FromWorker, ToExecutor, ToWorker},
    worker::{Action, Config, Event, ExecutorSaid, Worker},
};

use super::{Options, args, counted, ends, spec};

const CLIENT: ClientId = ClientId(1);

struct Node {
    options: Options,
    worker: Worker,
    next: u64,
    /// How many tasks each executor was fed and has not answered.
    fed: BTreeMap<ExecutorId, usize>,
    started: VecDeque<ExecutorId>,
    /// Results that the master has been told of since it last spoke.
    ended: Vec<TaskId>,
    done: usize,
}

/// Gives the number of tasks that were done. The workers of the options are the slots of this one.
pub(super) fn run(options: Options) -> usize {
    let config = Config { slots: options.workers as u32, ..Config::default() };
    let mut node = Node {
        options,
        worker: Worker::new(config),
        next: 0,
        fed: BTreeMap::new(),
        started: VecDeque::new(),
        ended: Vec::new(),
        done: 0,
    };
    node.begin();
    while node.done < options.tasks {
        node.finish();
        node.take_more();
    }
    node.done
}

impl Node {
    fn hear(&mut self, event: Event) {
        let worker = &mut self.worker;
        counted(|| worker.handle(Time::ZERO, event));
    }

    fn told(&mut self, message: ToWorker, body: Payload) {
        self.hear(Event::MasterSaid { message, body });
    }

    fn begin(&mut self) {
        self.hear(Event::Joined { returned: false });
        self.told(ToWorker::Beat { lease: u32::MAX }, Payload::new());
        let declare = ToWorker::Declare { client: CLIENT, spec: SpecIndex(0), what: Box::new(spec()) };
        self.told(declare, Payload::new());
        self.told(ToWorker::Credit { client: CLIENT, bytes: 64 << 20 }, Payload::new());
        self.act();
        while let Some(executor) = self.started.pop_front() {
            self.hear(Event::ExecutorSaid { executor, said: ExecutorSaid::Ready });
        }
        self.send(self.options.open);
        self.act();
    }

    /// The master sends so many tasks.
    fn send(&mut self, tasks: usize) {
        for tasks in self.options.parts(tasks) {
            let (client, first, attempt, spec) = (CLIENT, TaskId(self.next), Attempt(1), SpecIndex(0));
            self.next += tasks as u64;
            let message = if tasks == 1 {
                ToWorker::Run { client, task: first, attempt, spec, alone: false }
            } else {
                ToWorker::Runs { client, first, tasks: tasks as u32, attempt, spec }
            };
            self.told(message, args(tasks));
        }
    }

    /// A wake-up that brings results, of each executor in turn.
    fn finish(&mut self) {
        let most = self.options.words;
        let mut left = most;
        let fed: Vec<(ExecutorId, usize)> = self.fed.iter().map(|(id, fed)| (*id, *fed)).collect();
        for (executor, fed) in fed {
            let ended = fed.min(left);
            *self.fed.get_mut(&executor).expect("just listed") -= ended;
            left -= ended;
            self.options.parts(ended).for_each(|tasks| self.end(executor, tasks));
        }
        assert!(left < most, "the worker keeps all tasks to itself");
        self.act();
    }

    /// An executor says that its next tasks have ended.
    fn end(&mut self, executor: ExecutorId, tasks: usize) {
        let micros = self.options.micros;
        let said = if tasks == 1 {
            let body = Payload::from_static(&[7]);
            ExecutorSaid::Done { class: Class::Ok, micros, output: 0, body }
        } else {
            ExecutorSaid::Dones { tasks: tasks as u32, body: ends(tasks, micros) }
        };
        self.hear(Event::ExecutorSaid { executor, said });
    }

    /// A wake-up that brings the next tasks and acknowledgements.
    fn take_more(&mut self) {
        let ended = std::mem::take(&mut self.ended);
        self.done += ended.len();
        self.send(ended.len());
        for run in ended.chunk_by(|task, next| task.0 + 1 == next.0) {
            let (first, tasks) = (run[0], run.len() as u32);
            let received = ToWorker::Received { client: CLIENT, first, tasks, attempt: Attempt(1) };
            self.told(received, Payload::new());
        }
        self.act();
    }

    fn act(&mut self) {
        while let Some(action) = counted(|| self.worker.poll_action()) {
            match action {
                Action::Start { executor, .. } => self.started.push_back(executor),
                Action::Feed { executor, message: ToExecutor::Runs { tasks, .. }, .. } => {
                    *self.fed.entry(executor).or_default() += tasks as usize;
                }
                Action::Feed { executor, .. } => *self.fed.entry(executor).or_default() += 1,
                Action::Tell { message: FromWorker::Finished { task, .. }, .. } => self.ended.push(task),
                Action::Tell { message: FromWorker::Finishes { first, tasks, .. }, .. } => {
                    self.ended.extend((first.0..).take(tasks as usize).map(TaskId));
                }
                _ => {}
            }
        }
        counted(|| self.worker.poll_timeout());
    }
}
