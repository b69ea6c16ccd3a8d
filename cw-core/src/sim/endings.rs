//! Workers whose allocation ends, in a share of the seeds. There tasks of a job take about as long as each other, so that
//! it is known what machines can have learned.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    hosts::Input,
    plan::{Act, Plan},
    rng::Rng,
    world::{Happening, World},
};
use crate::{
    Time,
    ids::{ClientId, JobIndex, ProgramId, SpecIndex, TaskId, WorkerId},
    wire::{Class, FromWorker},
};

/// What is true of ends, and what machines can know.
pub(super) struct Endings {
    chance: Rng,
    /// What tasks of a job take, by its number.
    takes: [Duration; 4],
    /// By host: when it ends by its own clock, how often it fed a task, and which specs it has seen end well.
    here: BTreeMap<usize, Here>,
    /// The same as the master knows it. Of jobs, which have ended well.
    there: BTreeMap<WorkerId, There>,
    learned: BTreeSet<(ProgramId, JobIndex)>,
    /// How long all has once all is healed; for ever in a half of the seeds.
    pub(super) healed_to: Option<Duration>,
}

#[derive(Default)]
struct Here {
    ends: Option<Time>,
    fed: u32,
    learned: BTreeSet<(ClientId, SpecIndex)>,
}

#[derive(Default)]
struct There {
    ends: Option<Time>,
    sent: u32,
    returned: u32,
}

/// Longer than any seed.
const HEALED_TO: Duration = Duration::from_secs(1_000_000);

/// Shorter tasks are all the same.
const LONG: Duration = Duration::from_secs(1);

impl Endings {
    /// Those of a seed, if it has any. Draws from nothing that others draw from.
    pub(super) fn draw(seed: u64) -> Option<Self> {
        let mut chance = Rng::new(!seed);
        let lengths = [200, 1_500, 4_000, 15_000, 40_000].map(Duration::from_millis);
        chance.permille(200).then(|| {
            let takes = [(); 4].map(|()| chance.pick(&lengths));
            let healed_to = Rng::new(seed.rotate_left(32)).permille(500).then_some(HEALED_TO);
            let (here, there, learned) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
            Self { chance, takes, here, there, learned, healed_to }
        })
    }

    /// Has all tasks of a job take about as long.
    pub(super) fn settle(&mut self, plan: &mut Plan) {
        for (_, act) in &mut plan.acts {
            let Act::Submit { client, tasks } = act else { continue };
            for task in tasks {
                let job = plan.specs[*client].get(task.spec).map_or(JobIndex(0), |spec| spec.job);
                let about = self.chance.between(1_000, 1_200) as u32;
                task.runs_for = self.least(job) * about / 1_000;
            }
        }
    }

    /// What no task of a job takes less than.
    fn least(&self, job: JobIndex) -> Duration {
        self.takes[job.0 as usize % self.takes.len()]
    }

    /// The master is another, and knows nothing.
    pub(super) fn forget_master(&mut self) {
        self.there.clear();
        self.learned.clear();
    }

    pub(super) fn forget_client(&mut self, host: usize, client: Option<ClientId>) {
        if let Some(here) = self.here.get_mut(&host) {
            here.learned.retain(|(of, _)| client.is_some_and(|client| client != *of));
        }
    }
}

impl World {
    /// A worker that has just started learns when it ends, and perhaps later that this moves.
    pub(super) fn draw_end(&mut self, peer: usize) {
        if self.healed {
            return;
        }
        let Some(endings) = &mut self.endings else { return };
        if !endings.chance.permille(700) {
            return;
        }
        let left = Duration::from_secs(endings.chance.between(3, 60));
        let moves = endings.chance.permille(300).then(|| {
            let when = left * endings.chance.between(0, 1_000) as u32 / 1_000;
            let more = Duration::from_secs(endings.chance.between(1, 40));
            (when, endings.chance.permille(800).then_some(more))
        });
        self.input(Some(peer), Input::Ends { left: Some(left) });
        if let Some((when, left)) = moves {
            self.after(when, Happening::Input { who: Some(peer), input: Input::Ends { left } });
        }
    }

    /// A worker is told when it ends.
    pub(super) fn note_end(&mut self, peer: usize, local: Time, left: Option<Duration>) {
        self.say(|| format!("worker host {peer} ends in {left:?}"));
        if let Some(endings) = &mut self.endings {
            endings.here.entry(peer).or_default().ends = left.map(|left| local + left);
        }
    }

    /// All has time enough from now on: `own_business` makes that of any end.
    pub(super) fn heal_ends(&mut self) {
        let ending = self.endings.iter().flat_map(|endings| endings.here.keys().copied());
        for peer in ending.collect::<Vec<_>>() {
            self.input(Some(peer), Input::Ends { left: None });
        }
    }

    /// A worker says that a task has ended well: it knows what those of its spec take.
    pub(super) fn note_end_told(&mut self, host: usize, message: &FromWorker) {
        let FromWorker::Finished { client, task, class: Class::Ok, .. } = *message else { return };
        let spec = self.spec_of(client, task);
        if let (Some(endings), Some((spec, _))) = (&mut self.endings, spec) {
            endings.here.entry(host).or_default().learned.insert((client, spec));
        }
    }

    /// A worker feeds a task: it is one that can be done in time, as far as it can know.
    pub(super) fn check_fed_in_time(&mut self, host: usize, client: ClientId, task: TaskId) {
        let local = self.hosts[host].node.clock.local(self.now);
        let Some((spec, job)) = self.spec_of(client, task) else { return };
        let Some((slots, bad)) = self.hosts[host].worker().map(|worker| (worker.slots, worker.bad)) else {
            return;
        };
        let Some(endings) = &mut self.endings else { return };
        let least = endings.least(job);
        let here = endings.here.entry(host).or_default();
        here.fed += 1;
        let is_fresh = here.fed <= slots;
        let is_known = here.learned.contains(&(client, spec)) && least >= LONG;
        let fits = here.ends.is_none_or(|ends| local + least <= ends);
        let may = is_fresh || !is_known || fits || bad.is_some() || self.knobs.faults.rates || self.healed;
        self.ledger.rule(may, "nothing begins that cannot be done in time", || {
            format!("{task} takes {least:?}, on host {host}")
        });
    }

    /// The master hears of an end, of a task or of a worker.
    pub(super) fn note_end_heard(&mut self, worker: WorkerId, message: &FromWorker) {
        let local = self.master.node.clock.local(self.now);
        if let Some(endings) = &mut self.endings {
            let there = endings.there.entry(worker).or_default();
            match message {
                FromWorker::Ends { left } => {
                    there.ends = left.map(|left| local + Duration::from_secs(left.into()));
                }
                FromWorker::Returned { .. } => there.returned += 1,
                _ => {}
            }
        }
        let FromWorker::Finished { client, task, class: Class::Ok, .. } = *message else { return };
        let job = self.job_of(client, task);
        if let (Some(endings), Some(job)) = (&mut self.endings, job) {
            endings.learned.insert(job);
        }
    }

    /// The master sends a task: there is time for it, as far as it can know.
    pub(super) fn check_sent_in_time(&mut self, worker: WorkerId, client: ClientId, task: TaskId) {
        let local = self.master.node.clock.local(self.now);
        let Some(job) = self.job_of(client, task) else { return };
        let slots = self.ledger.owner(worker.0).and_then(|peer| Some(self.hosts[peer].worker()?.slots));
        let (Some(endings), Some(slots)) = (&mut self.endings, slots) else { return };
        let least = endings.least(job.1);
        let there = endings.there.entry(worker).or_default();
        there.sent += 1;
        let is_fresh = there.sent - there.returned.min(there.sent) <= slots;
        let is_known = endings.learned.contains(&job) && least >= LONG;
        let fits = there.ends.is_none_or(|ends| local + least <= ends);
        let may = is_fresh || !is_known || fits || !self.knobs.is_calm_but_for_ends() || self.healed;
        self.ledger.rule(may, "nothing is sent that cannot be done in time", || {
            format!("{task} takes {least:?}, to {worker}")
        });
    }

    fn spec_of(&mut self, client: ClientId, task: TaskId) -> Option<(SpecIndex, JobIndex)> {
        let owner = self.ledger.owner(client.0)?;
        let truth = self.ledger.truth(owner, task)?;
        Some((SpecIndex(truth.plan.spec as u32), truth.spec.job))
    }

    fn job_of(&mut self, client: ClientId, task: TaskId) -> Option<(ProgramId, JobIndex)> {
        let program = self.hosts[self.ledger.owner(client.0)?].program;
        self.spec_of(client, task).map(|(_, job)| (program, job))
    }
}
