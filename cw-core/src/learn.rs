//! What a task of a job is expected to take, learned from those that ran.

/// A moving average of run times, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Learned(Option<u32>);

impl Learned {
    /// What a job is taken for before it ran once: long enough that few are sent ahead.
    const UNKNOWN: u32 = 10_000;

    /// Takes in one run. The newest run weighs one eighth, so a change of habit shows after a few.
    pub(crate) fn learn(&mut self, micros: u64) {
        let new = u32::try_from(micros).unwrap_or(u32::MAX).max(1);
        let next = match self.0 {
            None => new,
            Some(old) => u32::try_from((u64::from(old) * 7 + u64::from(new)).div_ceil(8)).unwrap_or(u32::MAX),
        };
        self.0 = Some(next);
    }

    /// The expected run time in microseconds, at least 1.
    pub(crate) fn expected(self) -> u32 {
        self.0.unwrap_or(Self::UNKNOWN)
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
        assert!(learned.expected() < 20);
    }
}
