//! What earlier processes of a program left with a cluster when they were killed: results that workers keep, tasks that run.
//!
//! ```text
//!   Open: claimed from the cluster  --a result--> Here: kept until it is called, and acknowledged to nobody
//!     |  a call of the same                          |  a call of the same: recorded, then its caller has it
//!     v                                              v
//!   Called: the call waits  ------------a result--> (none)
//!     |
//!     +-- lost, or failed: the call runs as if there had been nothing
//! ```
//!
//! Each session of an earlier process has a connection and a [`Client`](crate::client::Client) of its own, which says
//! `Claim` for its tasks. Results that nobody has called for are kept back with the workers and take up their credit, so
//! whoever calls later may wait for them: after a while without any call all that is not called for is given up.

use std::collections::{BTreeMap, VecDeque};

use crate::{client::Completion, ids::TaskId, wire::Class};

/// Which claim: the how-manieth session, and the task's name there.
pub type Key = (usize, TaskId);

/// What tells calls apart: the job, and a hash of the arguments.
pub type What = (i64, [u8; 16]);

/// All claims of a process; `C` is a call.
#[derive(Debug)]
pub struct Claims<C> {
    /// Those that no call has taken. May name some that are gone.
    free: BTreeMap<What, VecDeque<Key>>,
    all: BTreeMap<Key, Claim<C>>,
    /// How many of each session are neither recorded nor given up.
    open: Vec<usize>,
}

#[derive(Debug)]
enum Claim<C> {
    Open,
    Here(Completion),
    Called(C),
}

/// What a call finds.
#[derive(Debug, PartialEq)]
pub enum Found<C> {
    /// Nothing: it runs.
    Nothing(C),
    /// It waits for this.
    Waits(Key),
    /// Its result. Once that is recorded, say [`Claims::recorded`].
    Result(Key, C, Completion),
}

/// What becomes of a claim that has ended.
#[derive(Debug, PartialEq)]
pub enum Ended<C> {
    /// Its result waits for a call.
    Kept,
    /// The result of this call. Once that is recorded, say [`Claims::recorded`].
    Result(C, Completion),
    /// There is none, and this call runs. It can be acknowledged.
    Runs(C),
    /// There is none, and nobody waits. It can be acknowledged.
    Gone,
}

impl<C> Default for Claims<C> {
    fn default() -> Self {
        Self { free: BTreeMap::new(), all: BTreeMap::new(), open: Vec::new() }
    }
}

impl<C> Claims<C> {
    /// One more session; gives its number.
    pub fn new_session(&mut self) -> usize {
        self.open.push(0);
        self.open.len() - 1
    }

    /// A task of a session is claimed; says whether it was not before.
    pub fn add(&mut self, (session, task): Key, what: What) -> bool {
        let is_new = !self.all.contains_key(&(session, task));
        if is_new {
            self.all.insert((session, task), Claim::Open);
            self.free.entry(what).or_default().push_back((session, task));
            self.open[session] += 1;
        }
        is_new
    }

    /// A session cannot be gone on with.
    pub fn give_up_session(&mut self, session: usize) {
        self.all.retain(|(of, _), _| *of != session);
        self.open[session] = 0;
    }

    /// What there is for a call that is about to run.
    pub fn find(&mut self, what: What, call: C) -> Found<C> {
        let Some(keys) = self.free.get_mut(&what) else { return Found::Nothing(call) };
        while let Some(key) = keys.pop_front() {
            match self.all.remove(&key) {
                Some(Claim::Here(completion)) => return Found::Result(key, call, completion),
                Some(Claim::Open) => {
                    self.all.insert(key, Claim::Called(call));
                    return Found::Waits(key);
                }
                // What was called is not free.
                None | Some(Claim::Called(_)) => {}
            }
        }
        self.free.remove(&what);
        Found::Nothing(call)
    }

    /// A claim has ended. What is no result is of no use, as what failed runs again in any case.
    pub fn end(&mut self, key: Key, completion: Completion) -> Ended<C> {
        let is_result = completion.class == Class::Ok;
        match self.all.remove(&key) {
            Some(Claim::Called(call)) if is_result => Ended::Result(call, completion),
            Some(Claim::Open | Claim::Here(_)) if is_result => {
                self.all.insert(key, Claim::Here(completion));
                Ended::Kept
            }
            None => Ended::Gone,
            Some(claim) => {
                self.open[key.0] -= 1;
                match claim {
                    Claim::Called(call) => Ended::Runs(call),
                    Claim::Open | Claim::Here(_) => Ended::Gone,
                }
            }
        }
    }

    /// A call has taken a claim's result, which is on the disk by now.
    pub fn recorded(&mut self, key: Key) {
        self.open[key.0] -= 1;
    }

    /// Gives up what has no call, as it is in the way of others: all of it is to be cancelled, and to be acknowledged where
    /// its result is here.
    pub fn give_up_uncalled(&mut self) -> Vec<Key> {
        let dropped = self.drop_all(|claim| !matches!(claim, Claim::Called(_)));
        dropped.into_iter().map(|(key, _)| key).collect()
    }

    /// Gives up the claims of calls that are not wanted any more.
    pub fn cancel(&mut self, is_it: impl Fn(&C) -> bool) -> Vec<(Key, C)> {
        let dropped = self.drop_all(|claim| matches!(claim, Claim::Called(call) if is_it(call)));
        dropped.into_iter().filter_map(|(key, claim)| Some((key, claim.call()?))).collect()
    }

    /// Gives up a claim whose call is not wanted any more.
    pub fn cancel_one(&mut self, key: Key) -> Option<C> {
        if !matches!(self.all.get(&key), Some(Claim::Called(_))) {
            return None;
        }
        self.open[key.0] -= 1;
        self.all.remove(&key).and_then(Claim::call)
    }

    fn drop_all(&mut self, is_theirs: impl Fn(&Claim<C>) -> bool) -> Vec<(Key, Claim<C>)> {
        let theirs: Vec<Key> =
            self.all.iter().filter(|(_, claim)| is_theirs(claim)).map(|(key, _)| *key).collect();
        let take = |key: Key| {
            self.open[key.0] -= 1;
            self.all.remove(&key).map(|claim| (key, claim))
        };
        theirs.into_iter().filter_map(take).collect()
    }

    /// Whether a session has nothing left that is of any use.
    pub fn is_over(&self, session: usize) -> bool {
        self.open[session] == 0
    }

    /// Whether a claim's result waits for its call.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn is_here(&self, key: Key) -> bool {
        matches!(self.all.get(&key), Some(Claim::Here(_)))
    }

    /// Whether there is no claim at all.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl<C> Claim<C> {
    fn call(self) -> Option<C> {
        match self {
            Self::Called(call) => Some(call),
            Self::Open | Self::Here(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Payload;

    use super::*;
    use crate::ids::Attempt;

    const WHAT: What = (1, [7; 16]);

    fn ended(class: Class) -> Completion {
        Completion {
            class,
            attempt: Attempt(1),
            attempts: 1,
            worker: None,
            micros: 5,
            output: Payload::new(),
            body: Payload::new(),
        }
    }

    fn one_claim() -> (Claims<&'static str>, Key) {
        let mut claims = Claims::default();
        let key = (claims.new_session(), TaskId(3));
        assert!(claims.add(key, WHAT));
        assert!(!claims.add(key, WHAT));
        (claims, key)
    }

    #[test]
    fn a_result_that_comes_before_its_call_is_kept_for_it() {
        let (mut claims, key) = one_claim();
        assert_eq!(claims.end(key, ended(Class::Ok)), Ended::Kept);
        assert_eq!(claims.find((1, [8; 16]), "other"), Found::Nothing("other"));
        assert_eq!(claims.find(WHAT, "call"), Found::Result(key, "call", ended(Class::Ok)));
        assert!(!claims.is_over(0), "it is not recorded");
        claims.recorded(key);
        assert!(claims.is_over(0));
        assert_eq!(claims.find(WHAT, "again"), Found::Nothing("again"));
    }

    #[test]
    fn a_call_waits_for_what_runs() {
        let (mut claims, key) = one_claim();
        assert!(matches!(claims.find(WHAT, "call"), Found::Waits(_)));
        assert_eq!(claims.give_up_uncalled(), []);
        assert_eq!(claims.end(key, ended(Class::Ok)), Ended::Result("call", ended(Class::Ok)));
        claims.recorded(key);
        assert!(claims.is_over(0) && claims.is_empty());
    }

    #[test]
    fn a_call_runs_if_there_is_nothing_after_all() {
        for class in [Class::Lost, Class::Failed, Class::Disconnected] {
            let (mut claims, key) = one_claim();
            assert!(matches!(claims.find(WHAT, "call"), Found::Waits(_)));
            assert_eq!(claims.end(key, ended(class)), Ended::Runs("call"));
            assert!(claims.is_over(0));
        }
    }

    #[test]
    fn equal_calls_take_a_claim_each() {
        let (mut claims, _) = one_claim();
        claims.add((0, TaskId(4)), WHAT);
        let waits = [(0, TaskId(3)), (0, TaskId(4))].map(Found::Waits);
        assert_eq!([claims.find(WHAT, "a"), claims.find(WHAT, "b")], waits);
        assert_eq!(claims.find(WHAT, "c"), Found::Nothing("c"));
    }

    #[test]
    fn a_result_that_nobody_calls_for_is_given_up_too() {
        let (mut claims, key) = one_claim();
        assert_eq!(claims.end(key, ended(Class::Ok)), Ended::Kept);
        assert_eq!(claims.give_up_uncalled(), [key]);
        assert!(claims.is_over(0));
        assert_eq!(claims.find(WHAT, "call"), Found::Nothing("call"), "it is computed again");
    }

    #[test]
    fn what_nobody_calls_and_what_is_not_wanted_any_more_is_given_up() {
        let (mut claims, key) = one_claim();
        claims.add((0, TaskId(4)), (2, [0; 16]));
        assert!(matches!(claims.find(WHAT, "call"), Found::Waits(_)));
        assert_eq!(claims.give_up_uncalled(), [(0, TaskId(4))]);
        assert_eq!(claims.cancel_one((0, TaskId(4))), None);
        assert_eq!(claims.cancel(|call| *call == "call"), [(key, "call")]);
        assert_eq!(claims.cancel_one(key), None);
        assert!(claims.is_over(0));
        assert_eq!(claims.end(key, ended(Class::Ok)), Ended::Gone, "too late");
    }
}
