//! A map by task id that makes use of how ids come: nearly in order, and soon gone again.

use std::collections::VecDeque;

use crate::{idmap::IdMap, ids::TaskId};

/// Shorter rings are never thinned out.
const RING_MIN: usize = 1_024;

/// An id this far beyond the newest is not of this sequence; it is kept apart.
const JUMP_MAX: u64 = 1 << 16;

/// Values by task id. Recent tasks lie beside each other in the order of their ids, so that a burst is
/// walked, not searched; the few that outlive thousands of younger ones move to a hash map.
#[derive(Debug)]
pub struct TaskMap<V> {
    /// The id of the ring's first place.
    base: u64,
    ring: VecDeque<Option<V>>,
    /// Values in the ring.
    live: usize,
    old: IdMap<TaskId, V>,
}

impl<V> Default for TaskMap<V> {
    fn default() -> Self {
        Self { base: 0, ring: VecDeque::new(), live: 0, old: IdMap::default() }
    }
}

impl<V> TaskMap<V> {
    fn place(&self, task: TaskId) -> Option<usize> {
        usize::try_from(task.0.checked_sub(self.base)?).ok().filter(|place| *place < self.ring.len())
    }

    /// The value of a task.
    pub fn get(&self, task: TaskId) -> Option<&V> {
        // The ring may have begun anew below ids that were moved aside before.
        self.place(task).and_then(|place| self.ring[place].as_ref()).or_else(|| self.old.get(task))
    }

    /// The value of a task, to be changed.
    pub fn get_mut(&mut self, task: TaskId) -> Option<&mut V> {
        match self.place(task) {
            Some(place) if self.ring[place].is_some() => self.ring[place].as_mut(),
            _ => self.old.get_mut(task),
        }
    }

    /// Whether the task has a value.
    pub fn contains(&self, task: TaskId) -> bool {
        self.get(task).is_some()
    }

    /// Sets a task's value; gives the one it had.
    pub fn insert(&mut self, task: TaskId, value: V) -> Option<V> {
        if self.live == 0 {
            // Nothing to keep in order with: the ring may begin anywhere.
            self.ring.clear();
            self.base = task.0;
        }
        let Some(place) =
            task.0.checked_sub(self.base).filter(|place| *place < self.ring.len() as u64 + JUMP_MAX)
        else {
            return self.old.insert(task, value);
        };
        if let Some(older) = self.old.remove(task) {
            self.old.insert(task, value);
            return Some(older);
        }
        let place = usize::try_from(place).expect("bounded by the ring's length");
        while self.ring.len() <= place {
            self.ring.push_back(None);
        }
        let before = self.ring[place].replace(value);
        self.live += usize::from(before.is_none());
        self.thin_out();
        before
    }

    /// Takes a task's value out.
    pub fn remove(&mut self, task: TaskId) -> Option<V> {
        let Some(value) = self.place(task).and_then(|place| self.ring[place].take()) else {
            return self.old.remove(task);
        };
        self.live -= 1;
        while let Some(None) = self.ring.front() {
            self.ring.pop_front();
            self.base += 1;
        }
        Some(value)
    }

    /// Moves the oldest aside while most of the ring is empty because of them.
    fn thin_out(&mut self) {
        while self.ring.len() > RING_MIN && self.ring.len() > 8 * self.live {
            if let Some(Some(value)) = self.ring.pop_front() {
                self.live -= 1;
                self.old.insert(TaskId(self.base), value);
            }
            self.base += 1;
        }
    }

    /// How many tasks have a value.
    pub fn len(&self) -> usize {
        self.live + self.old.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the value of any task passes.
    pub fn any(&self, mut pass: impl FnMut(&V) -> bool) -> bool {
        self.ring.iter().flatten().any(&mut pass) || !self.old.sorted_keys(pass).is_empty()
    }

    /// All tasks whose value passes, in ascending order. Walks the whole map.
    pub fn sorted_keys(&self, mut pass: impl FnMut(&V) -> bool) -> Vec<TaskId> {
        let mut keys = self.old.sorted_keys(&mut pass);
        let ring = self.ring.iter().zip(self.base..);
        keys.extend(
            ring.filter(|(value, _)| value.as_ref().is_some_and(&mut pass)).map(|(_, id)| TaskId(id)),
        );
        keys.sort_unstable();
        keys
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn agrees_with_a_plain_map_whatever_is_done() {
        let mut map = TaskMap::default();
        let mut model = BTreeMap::new();
        let mut state = 7u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut next = 0;
        for step in 0..200_000u64 {
            let old = TaskId(random(next + 1));
            let id = match random(8) {
                0..4 => {
                    next += 1;
                    TaskId(next)
                }
                4 => TaskId(next + random(200_000)),
                _ => old,
            };
            // Most tasks end soon; some live on, so that the ring must be thinned out.
            if random(2) == 0 || id.0 % 1_000 == 0 {
                assert_eq!(map.insert(id, step), model.insert(id, step));
            } else {
                assert_eq!(map.remove(id), model.remove(&id));
                let recent = TaskId(next.saturating_sub(random(50)));
                if !recent.0.is_multiple_of(1_000) {
                    assert_eq!(map.remove(recent), model.remove(&recent));
                }
            }
            assert_eq!(map.get(old), model.get(&old));
            assert_eq!(map.len(), model.len());
        }
        let keys: Vec<TaskId> = model.keys().copied().collect();
        assert_eq!(map.sorted_keys(|_| true), keys);
    }

    #[test]
    fn agrees_with_a_plain_map_while_it_empties_again_and_again() {
        let mut map = TaskMap::default();
        let mut model = BTreeMap::new();
        let mut state = 3u64;
        for step in 0..100_000u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let id = TaskId((state >> 33) % 64);
            if (state >> 50) % 5 < 2 {
                assert_eq!(map.insert(id, step), model.insert(id, step));
            } else {
                assert_eq!(map.remove(id), model.remove(&id));
            }
            let keys: Vec<TaskId> = model.keys().copied().collect();
            assert_eq!(map.sorted_keys(|_| true), keys);
            assert_eq!(map.get(id), model.get(&id));
        }
    }

    #[test]
    fn one_old_task_among_millions_of_young_ones_costs_no_memory() {
        let mut map = TaskMap::default();
        map.insert(TaskId(0), 0);
        for id in 1..1_000_000 {
            map.insert(TaskId(id), 1);
            map.remove(TaskId(id));
        }
        assert!(map.ring.capacity() <= 4 * RING_MIN, "{}", map.ring.capacity());
        assert_eq!(map.get(TaskId(0)), Some(&0));
    }
}
