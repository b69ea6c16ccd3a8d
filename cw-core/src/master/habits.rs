//! How long tasks of each job take, for all specs of the job and all clients of the program: a second map of a job knows
//! what the first has learned.

use std::collections::BTreeMap;

use super::{Master, clients::SpecState};
use crate::{
    Payload,
    ids::{ClientId, JobIndex, ProgramId, SpecIndex},
    learn::{Habit, Learned},
    wire::ToClient,
};

/// So many jobs are remembered; of those beyond nothing is learned.
const JOBS_MAX: usize = 1_024;

/// Where a job's habit is. Specs have it, as it is looked up with every task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u32);

#[derive(Debug, Default)]
pub(super) struct Habits {
    all: Vec<Known>,
    places: BTreeMap<(ProgramId, JobIndex), Place>,
}

#[derive(Debug)]
struct Known {
    of: (ProgramId, JobIndex),
    /// Specs that clients have of it. Without any it makes way for another job.
    specs: u32,
    habit: Habit,
    /// What they take on average, as far as the specs of it have learned.
    learned: Learned,
}

impl Habits {
    /// A client has another spec of a job.
    pub(super) fn open(&mut self, program: ProgramId, job: JobIndex) -> Place {
        let of = (program, job);
        let place = self.places.get(&of).copied().unwrap_or_else(|| self.insert(of));
        if let Some(known) = self.all.get_mut(place.0 as usize) {
            known.specs += 1;
        }
        place
    }

    /// That spec is gone. What was learned stays as long as there is room.
    pub(super) fn close(&mut self, place: Place) {
        if let Some(known) = self.all.get_mut(place.0 as usize) {
            known.specs = known.specs.saturating_sub(1);
        }
    }

    /// What was learned of a job.
    pub(super) fn get(&self, place: Place) -> Option<&Habit> {
        self.all.get(place.0 as usize).map(|known| &known.habit)
    }

    /// What nine of ten of a job's tasks take at most, in microseconds; 0 if that is short, or nobody knows.
    pub(super) fn need(&self, place: Place) -> u64 {
        self.get(place).map_or(0, Habit::p90)
    }

    /// What a spec of a job starts with.
    pub(super) fn learned(&self, place: Place) -> Learned {
        self.all.get(place.0 as usize).map(|known| known.learned).unwrap_or_default()
    }

    /// So many tasks of a job have run, each about as long.
    pub(super) fn add(&mut self, place: Place, micros: u64, runs: u32) {
        if let Some(known) = self.all.get_mut(place.0 as usize) {
            known.habit.add(micros, runs);
        }
    }

    /// A spec of a job has learned so much: whoever is next to have one of that job starts with it.
    pub(super) fn note_learned(&mut self, place: Place, learned: Learned) {
        if let Some(known) = self.all.get_mut(place.0 as usize) {
            known.learned = learned;
        }
    }

    /// A former master has learned so much of a job. Whatever was learned here counts for more.
    fn take_over(&mut self, place: Place, p90: u64, mean: u64) {
        if let Some(known) = self.all.get_mut(place.0 as usize)
            && known.habit.runs() == 0
            && !known.learned.is_known()
        {
            known.habit.add(p90, 1);
            if mean > 0 {
                known.learned.learn(mean);
            }
        }
    }

    /// One was cut off after so long.
    pub(super) fn add_cut(&mut self, place: Place, micros: u64) {
        if let Some(known) = self.all.get_mut(place.0 as usize) {
            known.habit.add_cut(micros);
        }
    }

    fn insert(&mut self, of: (ProgramId, JobIndex)) -> Place {
        let new = Known { of, specs: 0, habit: Habit::default(), learned: Learned::default() };
        let at = if self.all.len() < JOBS_MAX {
            self.all.push(new);
            self.all.len() - 1
        } else if let Some(at) = self.all.iter().position(|known| known.specs == 0) {
            let old = std::mem::replace(&mut self.all[at], new);
            self.places.remove(&old.of);
            at
        } else {
            return Place(u32::MAX);
        };
        let place = Place(u32::try_from(at).expect("jobs are bounded"));
        self.places.insert(of, place);
        place
    }
}

impl Master {
    /// Tells a client what was learned of one of its jobs, unless it was told much the same before.
    pub(super) fn tell_learned(&mut self, id: ClientId, spec: SpecIndex) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Some(SpecState { what, habit, .. }) = client.specs.get(spec.0 as usize) else { return };
        let (p90, mean) = (self.habits.need(*habit), self.habits.learned(*habit).mean().unwrap_or(0));
        let is_near = |told: u64, now: u64| told.abs_diff(now) <= told / 4;
        let job = what.job;
        let told = client.lore.get(&job);
        if told.is_some_and(|told| is_near(told.0, p90) && is_near(told.1, mean)) {
            return;
        }
        client.lore.insert(job, (p90, mean));
        self.tell_client(id, ToClient::Learned { spec, p90, mean }, Payload::new());
    }

    /// A client says what a former master has learned of one of its jobs.
    pub(super) fn on_learned(&mut self, id: ClientId, spec: SpecIndex, p90: u64, mean: u64) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Some(SpecState { what, habit, .. }) = client.specs.get(spec.0 as usize) else { return };
        let (job, habit) = (what.job, *habit);
        self.habits.take_over(habit, p90, mean);
        client.lore.insert(job, (p90, mean));
        let learned = self.habits.learned(habit);
        for spec in client.specs.iter_mut().filter(|spec| spec.habit == habit && !spec.learned.is_known()) {
            spec.learned = learned;
        }
        self.unplaced = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(number: u32) -> ProgramId {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_le_bytes());
        ProgramId(id)
    }

    #[test]
    fn what_was_learned_stays_and_makes_way() {
        let mut habits = Habits::default();
        let first = habits.open(program(0), JobIndex(1));
        assert_eq!(habits.open(program(0), JobIndex(1)), first);
        habits.add(first, 7_000_000, 1);
        (0..2).for_each(|_| habits.close(first));
        let again = habits.open(program(0), JobIndex(1));
        assert_eq!((again, habits.need(again)), (first, 7_000_000));
        assert!(!habits.learned(again).is_known());
        let mut learned = Learned::default();
        learned.learn(7_000_000);
        habits.note_learned(again, learned);
        assert_eq!(habits.learned(again), learned);
        assert_ne!(habits.open(program(0), JobIndex(2)), first, "another job");
        let jobs = u32::try_from(JOBS_MAX).unwrap();
        let last = (1..jobs - 1).map(|number| habits.open(program(number), JobIndex(0))).last().unwrap();
        let beyond = habits.open(program(jobs), JobIndex(0));
        habits.add(beyond, 7_000_000, 1);
        assert!(!habits.learned(beyond).is_known());
        assert_eq!(habits.need(beyond), 0, "nothing is learned of what is beyond");
        habits.close(last);
        let instead = habits.open(program(jobs + 1), JobIndex(0));
        assert_eq!((instead, habits.need(instead), habits.need(first)), (last, 0, 7_000_000));
    }
}
