//! What a task of a job is expected to take, learned from those that ran: on average, and for nine of ten.

/// No run is taken to be longer, a year in microseconds, whatever a worker says.
const LONGEST: u64 = 31_536_000_000_000;

/// Shorter runs are all the same to a [`Habit`]: no end of an allocation is so near that they would not fit, and that more
/// tasks are begun.
pub(crate) const LONG: u64 = 1_000_000;

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
        let new = micros.clamp(1, LONGEST) * Self::PARTS;
        self.0 = Some(self.0.map_or(new, |old| (old * 7 + new) / 8));
    }

    /// The expected run time in microseconds, at least 1.
    pub(crate) fn expected(self) -> u32 {
        let micros = self.0.map(|parts| u32::try_from(parts / Self::PARTS).unwrap_or(u32::MAX));
        micros.unwrap_or(Self::UNKNOWN).max(1)
    }

    /// The same, however long it is.
    pub(crate) fn mean(self) -> Option<u64> {
        self.0.map(|parts| parts / Self::PARTS)
    }

    /// Whether any task of the job has run.
    pub(crate) fn is_known(self) -> bool {
        self.0.is_some()
    }
}

/// How many counts a [`Habit`] has: one for all short runs, two for each doubling up to a year.
const COUNTS: usize = 51;

/// More runs than this are not counted: then all counts are halved, so that a change of habit shows.
const RUNS_MAX: u32 = 1_024;

/// Nine of ten runs of a job are done in this time.
///
/// It is kept as counts of runs that took about as long: each count is for what takes up to the square root of two as long
/// as the one before. So it errs by that at most, on the long side, and never beyond the longest run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Habit {
    counts: [u32; COUNTS],
    runs: u32,
    longest: u64,
    p90: u64,
}

impl Default for Habit {
    fn default() -> Self {
        Self { counts: [0; COUNTS], runs: 0, longest: 0, p90: 0 }
    }
}

impl Habit {
    /// Takes in so many runs.
    pub(crate) fn add(&mut self, micros: u64, runs: u32) {
        let micros = micros.min(LONGEST);
        let place = place(micros);
        self.counts[place] = self.counts[place].saturating_add(runs);
        self.runs = self.runs.saturating_add(runs);
        let is_short = place == 0 && self.longest == 0;
        while self.runs > RUNS_MAX {
            self.halve();
        }
        if !is_short {
            self.longest = self.longest.max(if place == 0 { 0 } else { micros });
            self.p90 = self.look();
        }
    }

    /// Takes in one that was cut off after so long. Where that says nothing new it is no run at all: it might have
    /// gone on for long, or not.
    pub(crate) fn add_cut(&mut self, micros: u64) {
        let at_least = micros.saturating_mul(1_414) / 1_000;
        if micros >= LONG && at_least > self.p90 {
            self.add(at_least, 1);
        }
    }

    /// What nine of ten take at most, in microseconds; 0 if that is short, or nobody knows.
    pub(crate) fn p90(&self) -> u64 {
        self.p90
    }

    /// How many runs it is of.
    pub(crate) fn runs(&self) -> u32 {
        self.runs
    }

    fn halve(&mut self) {
        self.counts.iter_mut().for_each(|count| *count /= 2);
        self.runs = self.counts.iter().sum();
        let last = self.counts.iter().rposition(|count| *count > 0).unwrap_or(0);
        self.longest = if last == 0 { 0 } else { self.longest.min(end(last)) };
    }

    fn look(&self) -> u64 {
        let mut above = 0;
        for place in (1..COUNTS).rev() {
            above += self.counts[place];
            if u64::from(above) * 10 > u64::from(self.runs) {
                return end(place).min(self.longest);
            }
        }
        0
    }
}

/// The count that a run belongs to.
fn place(micros: u64) -> usize {
    let Some(doublings) = (micros / LONG).checked_ilog2() else { return 0 };
    let is_beyond = micros >= half_beyond(LONG << doublings);
    (1 + 2 * doublings as usize + usize::from(is_beyond)).min(COUNTS - 1)
}

/// What is longer than all runs of a count.
fn end(place: usize) -> u64 {
    let doubled = LONG << (place / 2);
    if place.is_multiple_of(2) { doubled } else { half_beyond(doubled) }
}

/// The square root of two as long.
fn half_beyond(micros: u64) -> u64 {
    micros / 1_000_000 * 1_414_214
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

    #[test]
    fn nine_of_ten_are_done_in_time() {
        let mut habit = Habit::default();
        habit.add(20_000, 100);
        assert_eq!(habit.p90(), 0, "all are short");
        habit.add(60_000_000, 10);
        assert_eq!(habit.p90(), 0, "still nine of ten are");
        habit.add(60_000_000, 2);
        assert_eq!(habit.p90(), 60_000_000, "never beyond the longest");
        habit.add(600_000_000, 1);
        assert!((60_000_000..91_000_000).contains(&habit.p90()), "one that is longer is not one of ten");
    }

    #[test]
    fn it_errs_by_little_and_on_the_long_side() {
        for seconds in (1..400_000u64).step_by(777) {
            let mut habit = Habit::default();
            let micros = seconds * 1_000_000;
            habit.add(micros, 19);
            habit.add(micros * 3, 1);
            let p90 = habit.p90();
            assert!(p90 >= micros && p90 <= micros * 142 / 100, "{seconds} s: {p90}");
        }
    }

    #[test]
    fn a_change_of_habit_shows() {
        let mut habit = Habit::default();
        habit.add(3_600_000_000, 1_000);
        (0..4).for_each(|_| habit.add(2_000_000, 1_000));
        assert!(habit.p90() < 3_000_000, "{}", habit.p90());
        (0..9).for_each(|_| habit.add(1_000, u32::MAX));
        assert_eq!((habit.p90(), habit.runs() <= RUNS_MAX), (0, true));
        habit.add(u64::MAX, u32::MAX);
        assert!(habit.p90() <= LONGEST);
    }

    #[test]
    fn what_was_cut_off_takes_longer_than_that() {
        let mut habit = Habit::default();
        habit.add_cut(500_000);
        assert_eq!(habit.runs(), 0, "that may be a short one");
        habit.add_cut(7_140_000_000);
        assert!(habit.p90() > 7_200_000_000);
        habit.add_cut(60_000_000);
        assert_eq!(habit.runs(), 1, "that is nothing new");
    }
}
