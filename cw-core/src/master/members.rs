//! Who is known: numbers that are given once, and the secrets that prove a peer is the one it says it was.

use std::collections::BTreeMap;

use super::{Action, Master, Member, RosterLine};
use crate::{
    Time, gathered,
    ids::{ClientId, WorkerId},
    wire::Session,
};

/// Members beyond those connected that are remembered, as they may come back.
const ABSENT_MAX: usize = 4_096;

/// A peer was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Its number.
    pub id: u32,
    /// Whether it had that number before, and may have work from then.
    pub returned: bool,
}

/// All peers with a number that they may come back under.
#[derive(Debug, Default)]
pub(super) struct Members {
    all: BTreeMap<u32, Member>,
    /// The first number that this master gives, and the next.
    first: u32,
    next_id: u32,
}

impl Members {
    /// Those of the master before, and numbers that it has not given.
    pub(super) fn new(roster: &[Member], first_id: u32) -> Self {
        let all: BTreeMap<u32, Member> = gathered(roster.iter().map(|member| (member.id, *member)));
        let next_id = all.last_key_value().map_or(0, |(id, _)| id + 1).max(first_id);
        Self { all, first: next_id, next_id }
    }

    /// No client of a former master has this number or a higher one.
    pub(super) fn first(&self) -> ClientId {
        ClientId(self.first)
    }

    fn find(&self, is_worker: bool, session: &Session) -> Option<Member> {
        let member = self.all.get(&session.known?)?;
        (member.token == session.token && member.is_worker == is_worker).then_some(*member)
    }
}

impl Master {
    /// Lets a peer in, under the number it had if it proves that. To be followed by the event that it has joined.
    pub fn admit(&mut self, now: Time, is_worker: bool, session: &Session) -> Admitted {
        self.now = now;
        let known = self.members.find(is_worker, session).filter(|member| self.goes_on(*member));
        let member = known.unwrap_or_else(|| {
            let id = self.members.next_id;
            self.members.next_id += 1;
            Member { id, token: session.token, is_worker }
        });
        self.members.all.insert(member.id, member);
        self.note(RosterLine::Joined(member));
        self.forget_absent();
        Admitted { id: member.id, returned: known.is_some() }
    }

    /// Whether there is anything for it to come back to. A worker may have results even after it was given up.
    fn goes_on(&self, member: Member) -> bool {
        member.is_worker || self.clients.get(&ClientId(member.id)).is_some_and(|client| !client.gone)
    }

    /// A client's session has ended, or a worker has left.
    pub(super) fn drop_member(&mut self, id: u32) {
        self.members.all.remove(&id);
        self.former.remove(&WorkerId(id));
        self.note(RosterLine::Left { id });
    }

    /// A worker was given up; it may come back to this master, and the next need not wait for it.
    pub(super) fn note_absent(&mut self, id: u32) {
        self.note(RosterLine::Left { id });
    }

    fn note(&mut self, line: RosterLine) {
        if self.config.liveness {
            self.actions.push_back(Action::Note(line));
        }
    }

    /// Workers that were given up long ago need not be known for ever.
    fn forget_absent(&mut self) {
        if self.members.all.len() <= self.clients.len() + self.workers.len() + ABSENT_MAX {
            return;
        }
        let (clients, workers) = (&self.clients, &self.workers);
        let is_here = |id: u32| clients.contains_key(&ClientId(id)) || workers.contains_key(&WorkerId(id));
        let oldest = self.members.all.keys().copied().find(|id| !is_here(*id));
        if let Some(id) = oldest {
            self.members.all.remove(&id);
            self.former.remove(&WorkerId(id));
        }
    }
}
