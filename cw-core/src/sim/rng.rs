//! Chance, from a seed.

use std::time::Duration;

/// The generator of Steele, Lea and Flood (`SplitMix`, OOPSLA 2014): 64 bits of state, no bad seeds.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Another generator, so that what one part draws does not move what another does.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// Less than `below`, which is at least 1. The bias of the remainder does not matter here.
    pub(crate) fn below(&mut self, below: u64) -> u64 {
        self.next() % below
    }

    pub(crate) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// True in so many of a thousand cases.
    pub(crate) fn permille(&mut self, of_thousand: u64) -> bool {
        self.below(1_000) < of_thousand
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.permille(500)
    }

    /// Every order of magnitude is as likely as another.
    pub(crate) fn spread(&mut self, least: u64, most: u64) -> u64 {
        let least = least.max(1);
        let doublings = u64::from((most / least).max(1).ilog2());
        let low = least << self.below(doublings + 1);
        (low + self.below(low)).min(most)
    }

    /// A time of any order of magnitude between two, in microseconds.
    pub(crate) fn time(&mut self, least: Duration, most: Duration) -> Duration {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.spread(micros(least), micros(most)))
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
