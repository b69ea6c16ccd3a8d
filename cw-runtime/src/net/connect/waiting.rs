//! What is told while a process waits for its master: to its user, in its log, and in a note in the cluster's folder.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Joined, Patience,
    board::{QUIET, gist},
};
use crate::{
    access::{
        ClusterDir,
        notes::{self, Note},
    },
    client::notice::say,
    flag::flag,
};

/// A note is left anew at least this often, so that nobody takes it for one of a process that is gone.
const NOTE_AGAIN: Duration = Duration::from_secs(60);

/// When those hear of it first who did not start a cluster.
const SLOW: Duration = Duration::from_secs(5);

/// So many different things are told as soon as they are known.
const NEW_MAX: usize = 16;

/// A line soon, then whenever there is something new, and else ever more rarely.
pub(super) struct Waiting {
    next: Duration,
    said: bool,
    is_quiet: bool,
    patience: Patience,
    /// What was told, without times.
    told: BTreeSet<String>,
    notes: Option<Notes>,
}

struct Notes {
    folder: ClusterDir,
    /// The last note, and when it was left.
    left: Option<(String, Duration)>,
}

impl Waiting {
    /// `said`: whether the user knows already that the master is looked for. Notes are left in `folder`.
    pub(super) fn new(patience: Patience, said: bool, is_quiet: bool, folder: Option<ClusterDir>) -> Self {
        let notes = folder.filter(|_| !is_quiet).map(|folder| Notes { folder, left: None });
        // Processes that are started together find each other within this; no need to worry anybody.
        let next = Duration::from_millis(500);
        Self { next, said, is_quiet, patience, told: BTreeSet::new(), notes }
    }

    /// Has it begin later: its user has not asked for a cluster.
    pub(super) fn be_slow(&mut self) {
        (self.next, self.said) = (SLOW, false);
    }

    /// Tells why the master is not reached yet.
    pub(super) fn say(&mut self, waited: Duration, why: &str) {
        // Whoever begins late has said nothing that could be new.
        let is_early = self.told.is_empty() && self.next > QUIET;
        let gist = gist(why);
        let is_new = !self.told.contains(&gist) && self.told.len() < NEW_MAX;
        if waited >= QUIET
            && let Some(notes) = &mut self.notes
        {
            notes.leave(waited, why, &gist);
        }
        if self.is_quiet || waited < self.next && (is_early || waited < QUIET || !is_new) {
            return;
        }
        let left = self.patience.time.saturating_sub(waited).as_secs();
        if left == 0 {
            // The last word is about to come.
            return;
        }
        let see = flag(self.patience.flag);
        say(&format!("waiting for the master: {why} (for {left} s more; see {see})"));
        self.told.insert(gist);
        self.said = true;
        self.next = (waited * 2).max(Duration::from_secs(5));
    }

    pub(super) fn over(&self, joined: &Joined) {
        if self.said && !self.is_quiet {
            say(&format!("connected to the master at {}", joined.address));
        }
    }
}

impl Notes {
    fn leave(&mut self, waited: Duration, why: &str, gist: &str) {
        let is_there = self.left.as_ref().is_some_and(|(last, at)| last == gist && waited < *at + NOTE_AGAIN);
        if !is_there {
            self.left = Some((gist.to_owned(), waited));
            notes::leave_soon(&self.folder, Note::new(why, false));
        }
    }
}

impl Drop for Notes {
    /// The wait is over: the process was let in, or whoever waited says why it ends.
    fn drop(&mut self) {
        if self.left.is_some() {
            notes::remove_soon(&self.folder);
        }
    }
}
