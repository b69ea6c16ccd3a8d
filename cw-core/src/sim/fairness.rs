//! Slots are shared by time used, also after all that has happened: of two clients that want as much, neither has to
//! wait until the other is done.

use std::time::Duration;

use super::{
    checks::Ledger,
    hosts::Role,
    plan::{self, TaskPlan},
    truth::NAME_BYTES,
    world::World,
};
use crate::{
    ids::{ProgramId, TaskId},
    wire::Programs,
};

/// How much of what the one that is done first has had, the other must have had by then, in hundredths.
const LEAST: u32 = 33;

impl World {
    /// Two clients of one program hand in as much work each, in tasks of different length.
    pub(super) fn probe_fairness(&mut self) {
        // Where workers leave that are idle, long tasks before may have left few, and slots come meanwhile.
        let comes_and_goes = self.knobs.worker.idle_end.is_some();
        if comes_and_goes
            || self.knobs.faults.rates
            || self.knobs.delay > Duration::from_millis(20)
            || !self.knobs.seed.is_multiple_of(4)
        {
            return;
        }
        let Some((first, second)) = self.two_clients() else { return };
        let slots = self.slots_of_program(self.hosts[first].program) as usize;
        if self.knobs.master.window.bytes < (4 * slots * NAME_BYTES) as u64 {
            return;
        }
        // Whoever used less in the past has the first turns, until it is served where the other stood; and how long tasks
        // take is learned from those before.
        let specs = [first, second].map(|client| self.probe_spec(client));
        for (client, spec, seconds) in [(first, specs[0], 1), (second, specs[1], 2)] {
            self.hand_in_seconds(client, spec, 2, seconds);
            self.run_until_done(&[client]);
        }
        self.ledger.used.clear();
        self.hand_in_seconds(first, specs[0], 8 * slots, 1);
        self.hand_in_seconds(second, specs[1], 4 * slots, 2);
        self.run_until_done(&[first, second]);
        let is_any = self.is_done(first) || self.is_done(second);
        self.ledger.rule(is_any, "slots are shared by the time used", || "nobody is done in time".to_owned());
        let (one, other) = if self.is_done(first) { (first, second) } else { (second, first) };
        let (more, less) = (self.ledger.used(one), self.ledger.used(other));
        self.ledger.rule(less * 100 >= more * LEAST, "slots are shared by the time used", || {
            format!("when host {one} was done with {more:?}, host {other} had had {less:?}")
        });
    }

    fn hand_in_seconds(&mut self, client: usize, spec: usize, tasks: usize, seconds: u64) {
        let task = TaskPlan { runs_for: Duration::from_secs(seconds), ..plan::probe(spec) };
        self.hand_in(client, &vec![task; tasks]);
    }

    fn is_done(&self, client: usize) -> bool {
        self.ledger.open(|owner| owner == client).0.is_empty()
    }

    /// Until the first of these has all its answers.
    fn run_until_done(&mut self, clients: &[usize]) {
        let limit = self.now + Duration::from_secs(120);
        while self.ledger.broken.is_none()
            && self.now < limit
            && clients.iter().all(|client| !self.is_done(*client))
        {
            self.run_until(self.now + Duration::from_millis(500));
        }
    }

    fn two_clients(&self) -> Option<(usize, usize)> {
        let is_client = |index: &usize| {
            let host = &self.hosts[*index];
            host.node.up && matches!(host.role, Role::Client(_))
        };
        let clients: Vec<usize> = (0..self.hosts.len()).filter(is_client).collect();
        let of_one_program = |first: usize, second: usize| {
            first < second && self.hosts[first].program == self.hosts[second].program
        };
        let pairs = clients.iter().flat_map(|first| clients.iter().map(|second| (*first, *second)));
        pairs.into_iter().find(|(first, second)| of_one_program(*first, *second))
    }

    pub(super) fn slots_of_program(&self, program: ProgramId) -> u32 {
        let workers = self.hosts.iter().filter(|host| host.node.up);
        let slots = workers.map(|host| match &host.role {
            Role::Worker(worker) if host.program == program || worker.programs != Programs::Own => {
                worker.slots
            }
            _ => 0,
        });
        slots.sum()
    }
}

impl Ledger {
    /// The slot time that a client's tasks have used since it was last looked, with those that run.
    fn used(&self, owner: usize) -> Duration {
        let run = |(of, task, run): &(usize, TaskId, usize)| {
            self.truths.get(of)?.get(usize::try_from(task.0).ok()?)?.runs.get(*run)
        };
        let running = self.live.values().filter(|live| live.0 == owner).filter_map(run);
        let running: Duration = running.map(|run| self.time.since(run.began)).sum();
        self.used.get(&owner).copied().unwrap_or_default() + running
    }
}
