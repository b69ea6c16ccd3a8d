//! A cluster whose every trouble is drawn from a seed: processes that die, stop and start again, links that delay, break
//! and are cut one way, clocks that disagree, peers that lie. The machines are the real ones, time is virtual, and one
//! seed is one run, to the last message.
//!
//! A run has two parts. First faults come as the schedule has them, while rules are checked that must always hold
//! (`checks`). Then all is healed, and within a bounded time every task of every living client must have its answer and
//! nobody may hold anything any more.

mod calls;
mod carry;
mod checks;
mod endings;
mod executors;
mod fairness;
mod faults;
mod hosts;
mod keeper;
mod knobs;
mod net;
mod plan;
mod programs;
pub(crate) mod rng;
mod saves;
mod silence;
mod truth;
mod world;

pub mod bugs;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use bugs::Bug;
pub use checks::Broken;
use hosts::{Input, Role};
use keeper::Keeper;
use truth::NAME_BYTES;
use world::World;

use crate::{Time, master::Master, wire::Spec};

/// What became of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// All that was drawn from it, in words.
    pub knobs: String,
    /// The rule that did not hold, if any.
    pub broken: Option<Broken>,
    /// A sum over all that happened: equal for equal runs.
    pub hash: u64,
    /// How many events there were.
    pub steps: u64,
    /// How many times a task began.
    pub begun: u64,
    /// The time that passed in the world.
    pub time: Duration,
    /// What happened, where it was asked for.
    pub trace: Vec<String>,
}

/// Runs a seed, with a deliberate fault or [`Bug::None`].
pub fn run(seed: u64, bug: Bug, traced: bool) -> Outcome {
    bugs::plant(bug);
    let mut world = World::new(seed, traced);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    bugs::plant(Bug::None);
    if let Err(panic) = result {
        let text = panic.downcast_ref::<String>().cloned();
        let what = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = what.unwrap_or_default();
        world.ledger.broken = Some(Broken { rule: "machines do not panic", what });
    }
    Outcome {
        seed,
        knobs: world.knobs.to_string(),
        broken: world.ledger.broken.take(),
        hash: world.hash,
        steps: world.steps,
        begun: world.ledger.begun,
        time: world.now.since_start(),
        trace: world.trace.take().unwrap_or_default(),
    }
}

/// By so much longer takes what is moved again and again, as the ways alone make workers suspect: it is chance when
/// enough words in a row are quick.
const PATIENT: u32 = 2;

/// For how long at most a worker is not tried again that could not run a program.
const UNFIT_FOR: Duration = Duration::from_secs(31);

impl World {
    fn run(&mut self) {
        self.run_until(Time::from_start(self.knobs.trouble_for));
        self.finish();
        if self.ledger.broken.is_none() {
            self.probe();
        }
        if self.ledger.broken.is_none() {
            self.probe_fairness();
        }
    }

    /// Once all is healed, all work is done and everybody is quiet within a bounded time.
    fn finish(&mut self) {
        let is_up = |world: &Self, owner: usize| world.hosts[owner].node.up;
        let (_, work) = self.ledger.open(|owner| is_up(self, owner));
        let kept = self.keepers.iter().flat_map(Keeper::open);
        let work = work + kept.map(|(plan, spec)| truth::longest(plan, spec)).sum::<Duration>();
        let master = &self.knobs.master;
        let keep_for = self.knobs.client.keep_for.unwrap_or_default();
        let patience = (master.lost_after + master.client_grace + master.recover_for + keep_for) * 2;
        let limit = self.now + work + patience + Duration::from_secs(420) + self.knobs.delay * 20;
        while self.ledger.broken.is_none() && !self.is_quiet() {
            let (open, _) = self.ledger.open(|owner| is_up(self, owner));
            let busy = self.keepers.iter().filter(|keeper| !keeper.is_quiet()).count();
            let words = format!("{open:?}, {}{busy} programs with a store", self.restless());
            self.ledger.rule(self.now < limit, "all work ends once all is well", || words);
            self.run_until(self.now + Duration::from_secs(1));
        }
        self.check_machines();
        self.check_tables();
    }

    fn is_quiet(&self) -> bool {
        let (open, _) = self.ledger.open(|owner| self.hosts[owner].node.up);
        open.is_empty() && self.restless().is_empty() && self.keepers.iter().all(Keeper::is_quiet)
    }

    /// Who still holds something.
    fn restless(&self) -> String {
        let mut words = String::new();
        if !self.master.machine.as_ref().is_some_and(Master::is_quiet) {
            words.push_str("the master; ");
        }
        for (index, host) in self.hosts.iter().enumerate().filter(|(_, host)| host.node.up) {
            if let Role::Worker(worker) = &host.role
                && !worker.machine.is_quiet()
            {
                words.push_str(&format!("worker host {index}; "));
            }
        }
        words
    }

    /// All slots can be used again: as many tasks as there are slots are done in little more time than one.
    fn probe(&mut self) {
        // Whoever is not yet back, or on probation, is waited for.
        let patience = if self.knobs.faults.bad_fetch { UNFIT_FOR } else { Duration::ZERO };
        self.run_until(self.now + Duration::from_secs(1) + patience);
        for program in 0..self.knobs.programs {
            self.probe_program(program);
        }
    }

    fn probe_program(&mut self, number: u32) {
        let of_program = |host: &hosts::Host| u32::from(host.program.0[0]) == number + 1 && host.node.up;
        let client =
            self.hosts.iter().position(|host| of_program(host) && matches!(host.role, Role::Client(_)));
        let Some(client) = client else { return };
        let slots = self.slots_of_program(self.hosts[client].program);
        let spec = self.probe_spec(client);
        let tasks = vec![plan::probe(spec); slots as usize];
        let began = self.now;
        self.hand_in(client, &tasks);
        let open = |world: &Self| world.ledger.open(|owner| world.hosts[owner].node.up).0.len();
        let slack = self.probe_slack(slots);
        while open(self) > 0 && self.ledger.broken.is_none() && self.now < began + slack * PATIENT {
            self.run_until(self.now + Duration::from_secs(1));
        }
        let took = self.now.since(began);
        let doubted = |peer: usize| self.hosts[peer].node.up && self.ledger.is_doubted_since(peer, began);
        // Where the ways alone make workers suspect, tasks are moved again and again before one is known to have begun.
        let is_moved = self.knobs.is_suspiciously_slow() && (0..self.hosts.len()).any(doubted);
        let limit = if is_moved { slack * PATIENT } else { slack };
        let machine = self.master.machine.as_ref();
        let was_set_aside = machine.is_some_and(|machine| !machine.set_aside_ever().is_empty());
        self.ledger.rule(took < limit || was_set_aside, "in the end all slots work", || {
            format!("{slots} tasks of 10 s on {slots} slots take {took:?}")
        });
    }

    /// For how long tasks of 10 s may take, as many as there are slots: what does not fit the client's window at once comes
    /// in rounds.
    fn probe_slack(&self, slots: u32) -> Duration {
        let fit = (self.knobs.master.window.bytes / NAME_BYTES as u64).max(1);
        let rounds = u64::from(slots).div_ceil(fit).max(1) as u32;
        let ways = self.knobs.delay * 5;
        // A task may go from one worker that has just died to another, and the master's clock may run at half speed.
        let lost = (self.knobs.master.lost_after * 5 / 2).max(Duration::from_secs(35));
        lost + ways + (Duration::from_secs(10) + ways) * rounds
    }

    /// A spec like the client's first, of which nothing is learned yet, and without its timeout: a task that is ended before
    /// its time and tried again says nothing of the slots.
    fn probe_spec(&mut self, client: usize) -> usize {
        let host = self.hosts[client].client().expect("the caller chose a client");
        let spec = host.specs.len();
        // What takes seconds to come has nothing to do with whose turn it is.
        let what = Spec { timeout: None, shares: Vec::new(), apart: false, ..host.specs[0].clone() };
        self.input(Some(client), Input::Declare { what });
        spec
    }
}
