//! What must hold between events, for tests.

use std::collections::BTreeSet;

use super::{
    Master,
    clients::{Client, Stalling},
    tally::Tally,
    tasks::{State, Task},
};
use crate::ids::{ClientId, SpecIndex, TaskId, WorkerId};

impl Master {
    /// Re-derives what is kept incrementally; panics where the two differ.
    pub(crate) fn check(&self) {
        for (id, client) in &self.clients {
            client.stretches.check(client);
            client.questions.check();
            let in_stretches = |id: &WorkerId| client.stretches.at(*id);
            let sent = self.workers.keys().map(in_stretches).sum::<usize>();
            assert_eq!(
                client.stretches.tasks(),
                client.stretches.queued() + sent,
                "{id}: at workers that are here"
            );
            let all = client.tasks.sorted_keys(|_| true);
            let bytes =
                all.iter().map(|task| client.tasks.get(*task).unwrap().args.len() as u64).sum::<u64>();
            assert_eq!(client.bytes, bytes + client.stretches.bytes(), "{id}: bytes");
            let single = |task: &&TaskId| !client.stretches.has(**task);
            let singles = client.queue.values().flatten().filter(single).count();
            assert_eq!(client.queued, singles + client.stretches.queued());
            for (spec, state) in client.specs.iter().enumerate() {
                let single = client.tasks.sorted_keys(|task| task.spec.0 as usize == spec).len();
                let tasks = single + client.stretches.of_spec(spec);
                assert_eq!(state.tasks as usize, tasks, "{id}: tasks of spec {spec}");
            }
            let parked = client.tasks.sorted_keys(|task| matches!(task.state, State::Parked));
            assert_eq!(parked, client.parked.keys().collect::<Vec<_>>(), "{id}: parked tasks");
            let queued = client.tasks.sorted_keys(|task| matches!(task.state, State::Queued));
            assert_eq!(queued.len(), singles, "{id}: queued tasks and the queue differ");
            assert_eq!(self.waiting.contains(&(client.usage, *id)), client.queued > 0, "{id}: waiting list");
            let charged =
                all.iter().map(|task| u64::from(client.tasks.get(*task).unwrap().charge)).sum::<u64>();
            assert_eq!(client.outstanding, charged + client.stretches.charged(), "{id}: charges");
            let there = |task: &Task| task.state.takes_room();
            assert_eq!(
                client.at_workers as usize,
                client.tasks.sorted_keys(there).len() + sent,
                "{id}: at workers"
            );
            let of = |is: fn(State) -> bool| client.tasks.sorted_keys(|task| is(task.state)).len();
            assert_eq!(client.out() as usize, of(|it| matches!(it, State::Sent { .. })) + sent, "{id}: out");
            let held = of(|it| matches!(it, State::Held { .. }));
            assert_eq!(client.held.total() as usize, held, "{id}: held");
            let called_back = of(|it| matches!(it, State::Cancelling { held: false, .. }));
            assert_eq!(client.called_back.total() as usize, called_back, "{id}: called back");
            let counted = |tally: &Tally| self.workers.keys().map(|it| tally.at(*it)).sum::<u32>();
            for tally in [&client.held, &client.called_back] {
                assert_eq!(counted(tally), tally.total(), "{id}: only at workers that are here");
            }
            let is_heard = |worker: &WorkerId| !self.workers[worker].suspect;
            let untimely = client.parked.untimely().flat_map(|spec| client.parked.untimely_of(spec));
            assert!(client.parked.are_whole(), "{id}: parked tasks, by what they wait for");
            assert!(untimely.count() == 0 || self.untimely.contains(id), "{id}: without time");
            self.check_once(*id, client);
            let runs = |task: &Task| {
                there(task) && task.started && task.state.worker().as_ref().is_some_and(is_heard)
            };
            assert_eq!(client.running as usize, client.tasks.sorted_keys(runs).len(), "{id}: running");
        }
        self.check_lists();
        let is_laden = |worker: &super::Worker| worker.is_well() && worker.ahead() > 0;
        let is_troubled = |worker: &super::Worker| worker.record.is_set_aside() || !worker.unfit.is_empty();
        for (id, worker) in &self.workers {
            assert_eq!(self.idle.contains(id), worker.free_slots() > 0, "{id}: idle");
            assert_eq!(self.laden.contains(id), is_laden(worker), "{id}: laden");
            assert!(self.troubled.contains(id) || !is_troubled(worker), "{id}: troubled");
            let mut sent = 0;
            for client in self.clients.values() {
                let there = |task: &Task| task.state.worker() == Some(*id) && task.state.takes_room();
                sent += client.tasks.sorted_keys(there).len() + client.stretches.at(*id);
            }
            let is_known = worker.left(self.now).is_some();
            assert_eq!(self.enders.contains_key(id), is_known, "{id}: its end");
            assert_eq!(worker.sent as usize, sent, "{id}: tasks there");
            assert!(worker.allotment.long <= worker.sent, "{id}: long tasks there");
            assert_eq!(worker.shares.tasks(), sent, "{id}: tasks there, by client");
            for program in self.programs.keys() {
                let has_room = worker.has_room(*program, self.is_shared(*program), &self.config);
                assert_eq!(worker.is_listed(*program), has_room, "{id}: room");
                let of = |client: &ClientId| self.clients[client].program == *program;
                let there =
                    self.clients.keys().filter(|it| of(it)).map(|it| worker.shares.of(*it)).sum::<u32>();
                assert_eq!(worker.load_of(*program).sent, there, "{id}: tasks of {program}");
            }
        }
    }

    /// A task that must not run twice was announced if this master has sent it.
    fn check_once(&self, id: ClientId, client: &Client) {
        let of = |task: &Task| &client.specs[task.spec.0 as usize];
        let sent = client.tasks.sorted_keys(|task| !of(task).what.rerun && task.was_sent_here());
        for task in sent {
            assert!(task < of(client.tasks.get(task).unwrap()).dispatched, "{id}: {task} was not announced");
        }
    }

    fn check_lists(&self) {
        for (id, client) in &self.clients {
            assert_eq!(self.away.contains(id), client.detached.is_some(), "{id}: away");
            assert_eq!(self.watching.contains(id), client.watch.due.is_some(), "{id}: watching");
            assert_eq!(self.once.contains(id), client.has_once, "{id}: once");
            assert!(self.resuming.contains(id) || client.resume.awaited.is_empty(), "{id}: resuming");
            let was_told = matches!(client.stall, Stalling::Since { told: Some(_), .. });
            let is_early = was_told || self.stall_due(client).is_some_and(|due| due < self.stalls_at);
            assert!(self.now >= self.stalls_at || !is_early, "{id}: stands still, and is not looked at");
        }
        assert!(self.enders.keys().all(|id| self.workers.contains_key(id)), "only workers that are here end");
        let is_to_come = |(over, id): &(_, _)| self.enders.get(id) == Some(over);
        assert!(self.overs.iter().all(is_to_come), "each end once");
        let known = |list: &BTreeSet<ClientId>| list.iter().all(|id| self.clients.contains_key(id));
        assert!(
            [&self.away, &self.resuming, &self.watching, &self.once, &self.untimely].into_iter().all(known)
        );
    }

    /// The workers that are here and were ever set aside.
    pub(crate) fn set_aside_ever(&self) -> Vec<WorkerId> {
        let aside = self.workers.iter().filter(|(_, worker)| worker.record.was_set_aside());
        aside.map(|(id, _)| *id).collect()
    }

    /// Whether nothing is queued, sent or owed.
    pub(crate) fn is_quiet(&self) -> bool {
        self.clients.values().all(|client| client.is_empty() && client.queued == 0)
    }
}

impl Client {
    /// A mark does not pass what is laid aside: what lies below was, when it was told ahead.
    pub(super) fn check_mark(&self, spec: SpecIndex, below: TaskId) {
        let told = self.specs[spec.0 as usize].dispatched;
        let passed = self.parked.untimely_from(spec, told).filter(|aside| *aside < below);
        assert_eq!(passed, None, "told as dispatched below {below}, and is laid aside");
    }
}

impl Task {
    /// Whether this master has sent it to the worker that has it.
    fn was_sent_here(&self) -> bool {
        matches!(self.state, State::Sent { .. }) && !self.inherited && !self.is_claim
    }
}
