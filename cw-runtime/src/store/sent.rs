//! What was handed to a cluster and has not ended: should this process be killed, the next run asks for it.
//!
//! Tasks that are handed in together lie in one row of the file, which goes with the last of them. Nothing waits for these
//! rows: a task whose row did not reach the disk is computed again.

use std::collections::HashMap;

use cw_core::{
    ids::{SpecIndex, TaskId},
    resume::Place,
    wire::{Session, Spec},
};

use super::rows::{Hash, SentRow, SessionRow, Write};
use crate::client::{hub::Hub, session};

/// A task as it lies in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) task: TaskId,
    pub(super) place: Place,
    pub(super) hash: Hash,
}

impl Entry {
    const BYTES: usize = 32;

    fn put(self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.task.0.to_le_bytes());
        into.extend_from_slice(&self.place.0.to_le_bytes());
        into.extend_from_slice(&self.hash);
    }

    /// All of a row.
    pub(super) fn read(tasks: &[u8]) -> impl Iterator<Item = Self> {
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight"));
        tasks.chunks_exact(Self::BYTES).map(move |entry| Self {
            task: TaskId(number(&entry[..8])),
            place: Place(number(&entry[8..16])),
            hash: entry[16..].try_into().expect("the rest of a chunk"),
        })
    }
}

/// What this process has handed in.
#[derive(Debug)]
pub(super) struct Sent {
    build: i64,
    session: i64,
    /// As it was last written.
    known: Option<(Session, usize)>,
    next: i64,
    /// Rows that are being filled.
    filling: Vec<SentRow>,
    /// How many tasks of a row have not ended.
    open: HashMap<i64, u32>,
}

impl Sent {
    pub(super) fn new(build: i64, (session, next): (i64, i64)) -> Self {
        Self { build, session, known: None, next, filling: Vec::new(), open: HashMap::new() }
    }

    /// Notes that a task is handed in; gives the row that it is in.
    pub(super) fn add(&mut self, spec: SpecIndex, job: i64, entry: Entry) -> i64 {
        if self.filling.last().is_none_or(|row| (row.spec, row.job) != (spec.0, job)) {
            let (id, session) = (self.next, self.session);
            self.next += 1;
            self.filling.push(SentRow { id, session, spec: spec.0, job, tasks: Vec::new() });
        }
        let row = self.filling.last_mut().expect("just pushed");
        entry.put(&mut row.tasks);
        *self.open.entry(row.id).or_default() += 1;
        row.id
    }

    /// What is to be written before those tasks are handed in.
    pub(super) fn take(&mut self, hub: &Hub) -> Vec<Write> {
        let mut writes: Vec<Write> = self.session(hub).map(Write::Session).into_iter().collect();
        writes.extend(self.filling.drain(..).map(Write::Sent));
        writes
    }

    /// The session, if it is not what was last written.
    fn session(&mut self, hub: &Hub) -> Option<SessionRow> {
        let session = hub.session()?;
        let declared = self.filling.iter().map(|row| row.spec as usize + 1).max().unwrap_or(0);
        let is_known = |(known, specs): (Session, usize)| known == session && declared <= specs;
        if self.known.is_some_and(is_known) {
            return None;
        }
        let specs: Vec<Spec> = hub.specs();
        self.known = Some((session, specs.len()));
        let specs =
            postcard::to_allocvec(&specs).expect("specs are plain data, which postcard always encodes");
        let (id, build, token) = (self.session, self.build, session.token.0.to_vec());
        let cluster = session::cluster().map(|wanted| wanted.name()).unwrap_or_default();
        Some(SessionRow { id, cluster, build, token, number: session.known?, specs })
    }

    /// A task of a row has ended; gives what is to be written if it was the last.
    pub(super) fn end(&mut self, row: i64) -> Option<Write> {
        let open = self.open.get_mut(&row)?;
        *open -= 1;
        (*open == 0).then(|| {
            self.open.remove(&row);
            Write::ForgetSent { id: row }
        })
    }

    /// The program ends in order, and with it its session.
    pub(super) fn close(&mut self) -> Option<Write> {
        self.known.take().map(|_| Write::ForgetSession { id: self.session })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_the_way_there() {
        let entry = |n: u8| Entry {
            task: TaskId(u64::from(n) << 40),
            place: Place::new(u32::from(n), 7),
            hash: [n; 16],
        };
        let mut bytes = Vec::new();
        [1, 2, 3].map(entry).into_iter().for_each(|entry| entry.put(&mut bytes));
        assert_eq!(Entry::read(&bytes).collect::<Vec<_>>(), [1, 2, 3].map(entry));
        assert_eq!(Entry::read(&bytes[..40]).count(), 1, "what is cut short is not there");
    }

    #[test]
    fn a_row_goes_with_its_last_task() {
        let mut sent = Sent::new(1, (1, 5));
        let entry = |n: u64| Entry { task: TaskId(n), place: Place(n), hash: [0; 16] };
        let add = |sent: &mut Sent, spec: u32, n: u64| sent.add(SpecIndex(spec), 3, entry(n));
        assert_eq!([add(&mut sent, 0, 1), add(&mut sent, 0, 2), add(&mut sent, 1, 3)], [5, 5, 6]);
        assert!(sent.end(5).is_none());
        assert!(matches!(sent.end(6), Some(Write::ForgetSent { id: 6 })));
        assert!(matches!(sent.end(5), Some(Write::ForgetSent { id: 5 })));
        assert!(sent.end(5).is_none());
    }
}
