//! A hash map for ids. It cannot be iterated, so no order that depends on hashing reaches an action.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
};

/// A hasher for maps whose keys are ids: ours, small, and never chosen by a stranger.
pub type IdHash = BuildHasherDefault<IdHasher>;

/// Look-up by id in constant time; what must be walked is walked sorted, by [`IdMap::sorted_keys`].
#[derive(Debug)]
pub(crate) struct IdMap<K, V>(HashMap<K, V, IdHash>);

impl<K, V> Default for IdMap<K, V> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<K: Copy + Eq + Ord + Hash, V> IdMap<K, V> {
    pub(crate) fn get(&self, key: K) -> Option<&V> {
        self.0.get(&key)
    }

    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.0.get_mut(&key)
    }

    pub(crate) fn contains(&self, key: K) -> bool {
        self.0.contains_key(&key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.0.insert(key, value)
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<V> {
        self.0.remove(&key)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// All keys whose value passes, in ascending order. Walks the whole map.
    pub(crate) fn sorted_keys(&self, mut pass: impl FnMut(&V) -> bool) -> Vec<K> {
        let mut keys: Vec<K> = self.0.iter().filter(|(_, value)| pass(value)).map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys
    }
}

/// Multiplies and rotates. See [`IdHash`].
#[derive(Clone, Debug, Default)]
pub struct IdHasher(u64);

impl IdHasher {
    fn mix(&mut self, word: u64) {
        // The odd constant is 2^64 divided by the golden ratio (Knuth, TAOCP 3, 6.4).
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        // The map takes its bucket from the low bits and its tag from the high ones.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.mix(u64::from(*byte)));
    }

    fn write_u32(&mut self, word: u32) {
        self.mix(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TaskId;

    #[test]
    fn dense_ids_are_found_again_and_listed_in_order() {
        let mut map = IdMap::default();
        (0..10_000u64).for_each(|n| assert!(map.insert(TaskId(n), n * 2).is_none()));
        assert_eq!(map.get(TaskId(77)), Some(&154));
        assert_eq!(map.remove(TaskId(77)), Some(154));
        assert!(!map.contains(TaskId(77)));
        assert_eq!(map.len(), 9_999);
        assert_eq!(map.sorted_keys(|v| *v < 6), [TaskId(0), TaskId(1), TaskId(2)]);
    }
}
