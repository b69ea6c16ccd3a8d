//! Which results of a store a program takes for its calls, when it is run again.
//!
//! Rows lie at *places*: the how-manieth input of which block, a block being one map, or all single calls. A program that
//! is run again makes the same calls in the same order, so a [`Walk`] compares each with the row at its place:
//!
//! ```text
//!            the same arguments                      other arguments
//!  In order ------------------> that row counts     ----------------> a new block begins, to which the rows walked
//!      |                                                              so far move; By hash from here on
//!      | no row: the call has not ended yet and runs; where rows were left in older blocks it is looked for there
//! ```
//!
//! By hash, a call takes the first row of its job with the same arguments that no other call has taken: so equal
//! arguments are told apart by their occurrence, and inputs may be added, removed and reordered.

/// Where a row lies: the block, and the input's number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub u64);

impl Place {
    /// Inputs of one block at most.
    pub const INPUTS_MAX: u64 = 1 << 32;

    /// Blocks of one store at most: places are positive numbers in SQLite.
    pub const BLOCKS_MAX: u64 = 1 << 31;

    /// The place of an input.
    pub fn new(block: u32, input: u32) -> Self {
        Self(u64::from(block) << 32 | u64::from(input))
    }

    /// The block.
    pub fn block(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The input's number.
    pub fn input(self) -> u32 {
        self.0 as u32
    }
}

/// What lies at a call's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Here {
    /// Nothing.
    Nothing,
    /// A row of the same job and arguments.
    Same,
    /// A row of other arguments, or of another job.
    Other,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The row at its place is its own.
    Take,
    /// It runs, and its row will lie at its place.
    Run,
    /// It is looked for by its hash; if it is not found, it runs.
    Search,
    /// As `Search`, after a new block was begun and the rows before it were moved there.
    Diverge,
}

/// The calls of one block, in order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    by_hash: bool,
}

impl Walk {
    /// Whether the next call is compared with the row at its place.
    pub fn looks(&self) -> bool {
        !self.by_hash
    }

    /// The next call, what lies at its place, and whether there are rows in older blocks.
    pub fn step(&mut self, here: Here, has_leftovers: bool) -> Step {
        match here {
            _ if self.by_hash => Step::Search,
            Here::Same => Step::Take,
            Here::Nothing if has_leftovers => Step::Search,
            Here::Nothing => Step::Run,
            Here::Other => {
                self.by_hash = true;
                Step::Diverge
            }
        }
    }
}

/// The rows of one job that calls may take, by their hash.
#[derive(Debug, Default)]
pub struct Index {
    /// The first bytes of the hash, and the place; sorted.
    rows: Vec<(u64, Place)>,
    taken: Vec<bool>,
    /// Beside the first row of a hash: how many from there on are taken without a gap.
    past: Vec<u32>,
}

impl Index {
    /// Of these rows, in any order.
    pub fn new(mut rows: Vec<(u64, Place)>) -> Self {
        rows.sort_unstable();
        let (taken, past) = (vec![false; rows.len()], vec![0; rows.len()]);
        Self { rows, taken, past }
    }

    /// The first row with this hash that was not taken and passes a closer look, which is taken by that.
    pub fn take(&mut self, hash: u64, mut is_it: impl FnMut(Place) -> bool) -> Option<Place> {
        let first = self.rows.partition_point(|(other, _)| *other < hash);
        let from = first + *self.past.get(first)? as usize;
        let is_same = |at: &usize| self.rows.get(*at).is_some_and(|(other, _)| *other == hash);
        let free = (from..).take_while(is_same).filter(|at| !self.taken[*at]);
        let found = { free }.find(|at| is_it(self.rows[*at].1))?;
        self.taken[found] = true;
        let gap = self.taken[from..].iter().position(|taken| !taken).unwrap_or(self.taken.len() - from);
        // Rows of another hash may follow; whoever looks there finds them taken or not.
        self.past[first] += u32::try_from(gap).unwrap_or(0);
        Some(self.rows[found].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_keep_their_parts() {
        let place = Place::new(7, u32::MAX);
        assert_eq!((place.block(), place.input()), (7, u32::MAX));
        assert!(Place::new(7, u32::MAX) < Place::new(8, 0));
    }

    #[test]
    fn an_unchanged_program_never_searches() {
        let mut walk = Walk::default();
        let steps = [Here::Same, Here::Nothing, Here::Same].map(|here| walk.step(here, false));
        assert_eq!(steps, [Step::Take, Step::Run, Step::Take]);
        assert!(walk.looks());
    }

    #[test]
    fn after_the_first_other_call_all_are_found_by_hash() {
        let mut walk = Walk::default();
        let steps = [Here::Other, Here::Nothing, Here::Same].map(|here| walk.step(here, false));
        assert_eq!(steps, [Step::Diverge, Step::Search, Step::Search]);
        assert!(!walk.looks());
    }

    #[test]
    fn what_was_left_in_an_older_block_is_looked_for() {
        let mut walk = Walk::default();
        assert_eq!([Here::Nothing, Here::Same].map(|here| walk.step(here, true)), [Step::Search, Step::Take]);
    }

    #[test]
    fn equal_rows_are_taken_once_each_in_their_order() {
        let rows = vec![(9, Place(3)), (5, Place(2)), (9, Place(1)), (9, Place(8))];
        let mut index = Index::new(rows);
        let mut take = |hash, not: Place| index.take(hash, |place| place != not);
        assert_eq!(take(9, Place(1)), Some(Place(3)), "the first was not it");
        assert_eq!(take(9, Place(0)), Some(Place(1)));
        assert_eq!(take(9, Place(0)), Some(Place(8)));
        assert_eq!(take(9, Place(0)), None);
        assert_eq!(take(7, Place(0)), None);
        assert_eq!(take(5, Place(0)), Some(Place(2)));
    }
}
