//! How many transfers go on at once: so many for each program, so that what one client sends slowly keeps back nobody else's.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use cw_core::ids::ProgramId;
use tokio::sync::Semaphore;

/// Programs without a transfer that are remembered.
const SPARE_MAX: usize = 256;

/// Room for transfers of each program.
pub(crate) struct Rooms {
    most: usize,
    of: Mutex<HashMap<ProgramId, Arc<Semaphore>>>,
}

impl Rooms {
    /// Room for so many transfers of each program.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, of: Mutex::default() }
    }

    /// A program's room.
    pub(crate) fn of(&self, program: ProgramId) -> Arc<Semaphore> {
        let mut all = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= SPARE_MAX {
            all.retain(|_, room| Arc::strong_count(room) > 1);
        }
        Arc::clone(all.entry(program).or_insert_with(|| Arc::new(Semaphore::new(self.most))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_program_takes_no_room_of_another() {
        let rooms = Rooms::new(2);
        let (one, other) = (rooms.of(ProgramId([1; 16])), rooms.of(ProgramId([2; 16])));
        let held = [Arc::clone(&one).try_acquire_owned().unwrap(), one.try_acquire_owned().unwrap()];
        assert!(rooms.of(ProgramId([1; 16])).try_acquire().is_err());
        assert!(other.try_acquire().is_ok());
        drop(held);
        assert!(rooms.of(ProgramId([1; 16])).try_acquire().is_ok());
    }
}
