//! What comes of many tasks at once. Bursts are of short tasks, of which there are many: whatever is the same for all of a
//! burst is looked up, or noted, once.

use super::{
    Action, Worker,
    executors::{Executor, Running},
    held::End,
    queue::Pending,
};
use crate::{
    Payload,
    ids::{Attempt, ClientId, ExecutorId, SpecIndex, TaskId},
    wire::{Class, Entries, Entry, ToExecutor},
};

impl Worker {
    pub(super) fn on_runs(
        &mut self,
        client: ClientId,
        (first, tasks): (TaskId, u32),
        (attempt, spec): (Attempt, SpecIndex),
        body: Payload,
    ) {
        let entries = Entries::of_args(first, tasks, body).map(|Entry { task, bytes: args, .. }| {
            let (alone, apart, at) = (false, None, 0);
            Pending { client, task, attempt, spec, alone, args, apart, at }
        });
        if !self.takes_plainly(client, spec) {
            return entries.for_each(|pending| self.on_run(pending));
        }
        let origin = self.origin_of(client);
        self.queue.extend(origin, entries);
        self.want(origin);
    }

    /// Whether tasks of a spec go to the end of their line, whatever they are.
    fn takes_plainly(&self, client: ClientId, spec: SpecIndex) -> bool {
        let Some(client) = self.clients.get(&client).filter(|client| !client.blocked) else { return false };
        let is_plain = client.spec(spec).is_some_and(|it| it.what.shares.is_empty() && !it.what.apart);
        is_plain && !self.leaving && !client.has_lower_than(spec)
    }

    /// As many tasks as there are ends, the next of an executor, have succeeded.
    pub(super) fn on_dones(&mut self, executor: ExecutorId, tasks: u32, body: Payload) {
        for Entry { micros, bytes: body, .. } in Entries::of_ends(TaskId(0), tasks, body) {
            self.on_done(executor, End { class: Class::Ok, micros, output: 0, body });
        }
    }

    /// Feeds a busy executor what is like the last task that it was fed, as far as all of it is short. Only where nothing else
    /// waits, whose turn might come between.
    pub(super) fn feed_alike(&mut self, slot: usize) {
        if self.queue.lines().nth(1).is_some() {
            return;
        }
        let Self { clients, queue, slots, actions, config, .. } = self;
        let state = &mut slots[slot];
        let (Some(line), Some(executor)) = (queue.line_of(state.origin), state.id) else { return };
        let Executor::Busy { batch, expected, .. } = &mut state.executor else { return };
        let Some((client, spec)) = batch.back().map(|last| (last.client, last.spec)) else { return };
        let Some(known) = clients.get(&client).and_then(|client| client.spec(spec)) else { return };
        if !known.what.shares.is_empty() || known.what.apart {
            return;
        }
        let (each, timeout, job) = (known.learned.expected(), known.what.timeout, known.what.job);
        let most = u64::try_from(config.batch_time.as_micros()).unwrap_or(u64::MAX);
        while batch.len() < config.batch_tasks
            && *expected + u64::from(each) <= most
            && let Some(pending) = line.pop_front_if(|it| it.client == client && it.spec == spec && !it.alone)
        {
            *expected += u64::from(each);
            batch.push_back(Running::of(&pending, each, timeout));
            let Pending { task, attempt, args, .. } = pending;
            let message = ToExecutor::Run { job, task, attempt };
            actions.push_back(Action::Feed { executor, message, body: args });
        }
    }
}
