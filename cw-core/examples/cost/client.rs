//! A client whose master has each task done at once, and whose program calls another when it has a result.

use std::collections::VecDeque;

use cw_core::{
    Payload, Time,
    client::{Action, Client, Event, Resumed},
    ids::{Attempt, SpecIndex, TaskId, WorkerId},
    wire::{Class, FromClient, ToClient},
};

use super::{Options, WINDOW, args, counted, ends, spec};

struct Program {
    options: Options,
    client: Client,
    next: u64,
    /// Tasks that the master has.
    sent: VecDeque<TaskId>,
    done: usize,
}

/// Gives the number of tasks that were done.
pub(super) fn run(options: Options) -> usize {
    let (client, sent) = (Client::default(), VecDeque::new());
    let mut program = Program { options, client, next: 0, sent, done: 0 };
    program.hear(Event::Declare { what: spec() });
    program.hear(Event::Connected { window: WINDOW, session: Resumed::No });
    (0..options.open).for_each(|_| program.call());
    program.act();
    while program.done < options.tasks {
        program.finish();
        program.act();
    }
    program.done
}

impl Program {
    fn hear(&mut self, event: Event) {
        let client = &mut self.client;
        counted(|| client.handle(Time::ZERO, event));
    }

    fn call(&mut self) {
        let (task, args) = (TaskId(self.next), args(1));
        self.next += 1;
        self.hear(Event::Submit { task, spec: SpecIndex(0), durable: false, args });
    }

    /// A wake-up that brings results.
    fn finish(&mut self) {
        let words = self.options.words.min(self.sent.len());
        let ended: Vec<TaskId> = self.sent.drain(..words).collect();
        for run in ended.chunk_by(|task, next| task.0 + 1 == next.0) {
            let mut task = run[0];
            for tasks in self.options.parts(run.len()) {
                self.tell(task, tasks);
                task.0 += tasks as u64;
            }
        }
    }

    /// The master says that so many consecutive tasks have ended.
    fn tell(&mut self, first: TaskId, tasks: usize) {
        let (attempt, attempts, worker, micros) = (Attempt(1), 1, WorkerId(1), self.options.micros);
        let (message, body) = if tasks == 1 {
            let (task, worker, class, output) = (first, Some(worker), Class::Ok, 0);
            let message = ToClient::Finished { task, attempt, attempts, worker, class, micros, output };
            (message, Payload::from_static(&[7]))
        } else {
            let message = ToClient::Finishes { first, tasks: tasks as u32, attempt, attempts, worker };
            (message, ends(tasks, micros))
        };
        self.hear(Event::MasterSaid { message, body });
    }

    fn act(&mut self) {
        while let Some(action) = counted(|| self.client.poll_action()) {
            match action {
                Action::Tell { message: FromClient::Submit { task, .. }, .. } => self.sent.push_back(task),
                Action::Tell { message: FromClient::Submits { first, tasks, .. }, .. } => {
                    self.sent.extend((first.0..).take(tasks as usize).map(TaskId));
                }
                Action::Complete { .. } => {
                    self.done += 1;
                    self.call();
                }
                _ => {}
            }
        }
        counted(|| self.client.poll_timeout());
    }
}
