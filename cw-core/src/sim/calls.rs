//! What a client's program does: it calls, and has its answers.

use bytes::BytesMut;

use super::world::World;
use crate::{
    client::{Completion, Event},
    ids::{SpecIndex, TaskId},
    wire::{Stretch, is_burst_args, put_args},
};

/// Calls that are handed in together.
#[derive(Debug, Default)]
struct Together {
    first: TaskId,
    tasks: u32,
    spec: SpecIndex,
    body: BytesMut,
}

impl Together {
    /// Takes a call in if it can be; else gives it back.
    fn take(&mut self, event: Event) -> Option<Event> {
        let Event::Submit { task, spec, durable: false, args } = event else { return Some(event) };
        let goes_on = task.0 == self.first.0 + u64::from(self.tasks) && spec == self.spec;
        if !is_burst_args(&args) || (self.tasks > 0 && !goes_on) {
            return Some(Event::Submit { task, spec, durable: false, args });
        }
        if self.tasks == 0 {
            (self.first, self.spec) = (task, spec);
        }
        put_args(&args, &mut self.body);
        self.tasks += 1;
        None
    }

    fn event(&mut self) -> Option<Event> {
        let Self { first, tasks, spec, body } = std::mem::take(self);
        let args = Stretch::of_args(first, tasks, body.freeze().into());
        args.map(|args| Event::Submits { spec, args })
    }
}

impl World {
    /// In most seeds what can be is handed in together, as a map does it.
    pub(super) fn submit(&mut self, peer: usize, first: TaskId, tasks: u32) {
        let joins = !(self.knobs.seed / 2).is_multiple_of(3);
        let mut together = Together::default();
        for task in (first.0..first.0 + u64::from(tasks)).map(TaskId) {
            let mut event = Some(self.ledger.submission(peer, task));
            if joins {
                event = event.and_then(|event| together.take(event));
                if event.is_some() {
                    self.call(peer, together.event());
                    event = event.and_then(|event| together.take(event));
                }
            }
            self.call(peer, event);
        }
        self.call(peer, together.event());
    }

    fn call(&mut self, peer: usize, event: Option<Event>) {
        let local = self.hosts[peer].node.clock.local(self.now);
        let client = self.hosts[peer].client().expect("only clients submit");
        event.into_iter().for_each(|event| client.machine.handle(local, event));
    }

    /// The program has an answer.
    pub(super) fn complete(&mut self, host: usize, task: TaskId, completion: Completion) {
        self.say(|| format!("client host {host}: {task} is complete: {:?}", completion.class));
        self.mix(&[task.0, completion.class as u64, u64::from(completion.attempt.0)]);
        let client = self.hosts[host].client().expect("it has just said so");
        client.in_flight.remove(&task);
        let is_recorded = client.recorded.contains(&task);
        self.ledger.note_complete(host, task, &completion, is_recorded);
        self.check_output(host, task, &completion);
        self.keep_complete(host, task, &completion);
        self.forget_saved(host, task, &completion);
        let client = self.hosts[host].client().expect("it has just said so");
        let before = client.done.insert(task, completion);
        self.ledger.rule(before.is_none(), "every task is reported once", || format!("{task} again"));
    }
}
