//! What a task of a job is expected to take, learned from those that ran.

/// A moving average of run times.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Learned(Option<u64>);

impl Learned {
    /// What a job is taken for before it ran once, in microseconds: long enough that few are sent ahead.
    const UNKNOWN: u32 = 10_000;

    /// Parts of a microsecond that are kept, so that the average can creep below the newest whole one.
    const PARTS: u64 = 256;

    /// Takes in one run. The newest run weighs one eighth, so a change of habit shows after a few.
    pub(crate) fn learn(&mut self, micros: u64) {
        let new = micros.clamp(1, u64::from(u32::MAX)) * Self::PARTS;
        self.0 = Some(self.0.map_or(new, |old| (old * 7 + new) / 8));
    }

    /// The expected run time in microseconds, at least 1.
    pub(crate) fn expected(self) -> u32 {
        let micros = self.0.map(|parts| u32::try_from(parts / Self::PARTS).unwrap_or(u32::MAX));
        micros.unwrap_or(Self::UNKNOWN).max(1)
    }

    /// Whether any task of the job has run.
    pub(crate) fn is_known(self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_a_change_and_never_reaches_zero() {
        let mut learned = Learned::default();
        assert!(!learned.is_known());
        learned.learn(0);
        assert_eq!(learned.expected(), 1);
        (0..64).for_each(|_| learned.learn(8_000));
        assert!(learned.expected() > 7_900);
        (0..200).for_each(|_| learned.learn(0));
        assert_eq!(learned.expected(), 1, "an average that rounds up never comes down again");
    }
}
