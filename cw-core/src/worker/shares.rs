//! Values that tasks share: fetched once, told to each executor once, before the first task that has it.
//!
//! ```text
//!           Declare, Run            Shared (Ok)
//!   (none) --------------> Fetching -----------> Here -----> executors are told where it lies
//!     ^                        |                   |
//!     +------- no client is left that has it ------+--- nor an executor that was told
//! ```
//!
//! A value that no task has shared for [a while](super::Config::share_time) is forgotten too: a program may share another in each of a thousand
//! rounds. Whoever shares it again has it from the node's cache. Arguments that lie apart from their tasks are brought in the
//! same way, and go with the last task here that has them.
//!
//! One that cannot be had is asked for again after a second, then two, four ..; after [`TRIES`] the tasks that share it are
//! refused. Its user is told at the second failure. While nobody is there who could give it that counts for nothing: its
//! client may be on its way back. That this node has no room for it is a reason to leave the program to others: at once for
//! a shared value, for arguments after as many tries. Arguments beyond all that it could have room for end their task.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{Action, Origin, Running, Worker, held::End, queue::Pending};
use crate::{
    Payload, Time, gathered,
    ids::{ClientId, ProgramId, ShareId, SpecIndex},
    wire::{Apart, Failure, Spec, ToExecutor},
};

/// So often a value is asked for.
const TRIES: u32 = 6;

/// The pause before the second time; each further one is twice as long.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a shared value is not here, in one line.
#[derive(Clone, Debug, PartialEq)]
pub enum NoShare {
    /// It is not there where it should be.
    There(String),
    /// Nobody is there who could give it.
    Away(String),
    /// This node cannot keep it.
    Here(String),
    /// This node could not keep it if there were nothing else.
    TooBig(String),
}

/// A shared value as its worker knows it.
#[derive(Debug)]
pub(super) enum Share {
    /// It is on its way, or is asked for again at that time; after so many failures, and when it was asked for so often.
    Fetching { failures: u32, asked: u32, again: Option<Time> },
    /// The path of its encoded form, and whether a task has shared it since that was last looked at.
    Here { path: Payload, is_used: bool },
}

impl Share {
    /// Whether it is here, for a task that shares it.
    fn is_here_and_used(&mut self) -> bool {
        let Self::Here { is_used, .. } = self else { return false };
        *is_used = true;
        true
    }
}

impl Worker {
    /// Has what the tasks of a spec share fetched, unless it is here or on its way.
    pub(super) fn want_shares(&mut self, client: ClientId, what: &Spec) {
        what.shares.iter().for_each(|share| self.want_share(client, *share));
    }

    fn want_share(&mut self, client: ClientId, share: ShareId) {
        if !self.shares.contains_key(&share) {
            let program = self.origin_of(client).program;
            self.shares.insert(share, Share::Fetching { failures: 0, asked: 0, again: None });
            self.fetch(share, program);
        }
    }

    /// Notes which arguments a task has that lie apart; says whether that makes sense. What does not ends the task.
    pub(super) fn take_apart(&mut self, pending: &mut Pending) -> bool {
        let spec = self.clients.get(&pending.client).and_then(|client| client.spec(pending.spec));
        if !spec.is_some_and(|spec| spec.what.apart) {
            return true;
        }
        if let Some(Apart { share, .. }) = Apart::decode(&pending.args) {
            let known = self.apart.entry(share).or_insert_with(|| Arc::new(share));
            pending.apart = Some(Arc::clone(known));
            return true;
        }
        let why = "its arguments are said to lie apart, and it is not said where".to_owned();
        self.finish(&Running::of(pending, 0, None), End::of(&Failure::Refused { why }, 0, &Payload::new()));
        false
    }

    /// Forgets arguments that no task here has any more. What is on its way is forgotten once it is here.
    pub(super) fn drop_apart(&mut self) {
        let before = self.apart.len();
        self.apart.retain(|_, task| Arc::strong_count(task) > 1);
        if self.apart.len() < before {
            self.tidy_shares();
            self.spent.retain(|share| self.apart.contains_key(share));
        }
    }

    /// Where the encoded form of a value lies; nowhere, of one that is not here.
    pub(super) fn place_of(&self, share: &ShareId) -> Payload {
        match self.shares.get(share) {
            Some(Share::Here { path, .. }) => path.clone(),
            _ => Payload::new(),
        }
    }

    pub(super) fn on_shared(&mut self, share: ShareId, result: Result<Payload, NoShare>) {
        let Some(Share::Fetching { failures, asked, again: None }) = self.shares.get(&share) else { return };
        let (before, failures, asked) = (*failures, failures + 1, asked.wrapping_add(1));
        let is_apart = self.apart.contains_key(&share);
        match result {
            Ok(path) => {
                self.shares.insert(share, Share::Here { path, is_used: true });
                self.look_at_shares.get_or_insert(self.now + self.config.share_time);
                self.release_shared();
            }
            Err(_) if self.programs_of(share).is_empty() => drop(self.shares.remove(&share)),
            Err(NoShare::Away(_)) => {
                let again = Some(self.now + PAUSE);
                self.shares.insert(share, Share::Fetching { failures: before, asked, again });
            }
            Err(NoShare::TooBig(why)) if is_apart => self.refuse_shared(share, &why),
            Err(NoShare::Here(why) | NoShare::TooBig(why)) if !is_apart || failures >= TRIES => {
                self.shares.remove(&share);
                let what = if is_apart { "arguments of its tasks" } else { "a value that its tasks share" };
                for program in self.programs_of(share) {
                    self.give_up(program, format!("{what} cannot be kept here: {why}"));
                }
            }
            Err(NoShare::There(why) | NoShare::Here(why) | NoShare::TooBig(why)) if failures < TRIES => {
                let again = Some(self.now + PAUSE * 2u32.pow(before));
                self.shares.insert(share, Share::Fetching { failures, asked, again });
                if failures == 2 {
                    self.tell_why(share, &why);
                }
            }
            Err(NoShare::There(why) | NoShare::Here(why) | NoShare::TooBig(why)) => {
                self.refuse_shared(share, &why);
            }
        }
        self.tidy();
    }

    /// Asks again for what could not be had.
    pub(super) fn try_shares(&mut self) {
        let now = self.now;
        let is_due = |state: &Share| matches!(state, Share::Fetching { again: Some(at), .. } if *at <= now);
        let due: Vec<ShareId> =
            self.shares.iter().filter(|(_, state)| is_due(state)).map(|(share, _)| *share).collect();
        for share in due {
            let programs = self.programs_of(share);
            let Some(Share::Fetching { again, asked, .. }) = self.shares.get_mut(&share) else { continue };
            *again = None;
            // The clients of each of them in turn: only some may have it.
            let turn = *asked as usize % programs.len().max(1);
            let Some(program) = programs.into_iter().nth(turn) else {
                self.shares.remove(&share);
                continue;
            };
            self.fetch(share, program);
        }
    }

    fn fetch(&mut self, share: ShareId, program: ProgramId) {
        let is_shared = || self.clients.values().any(|client| client.shares().contains(&share));
        let passing = self.apart.contains_key(&share) && !is_shared();
        self.actions.push_back(Action::FetchShare { share, program, passing });
    }

    pub(super) fn next_share(&self) -> Option<Time> {
        let again = |state: &Share| match state {
            Share::Fetching { again, .. } => *again,
            Share::Here { .. } => None,
        };
        self.shares.values().filter_map(again).chain(self.look_at_shares).min()
    }

    /// The programs with clients that have this value.
    fn programs_of(&self, share: ShareId) -> BTreeSet<ProgramId> {
        let has = |client: &&super::Client| client.shares().contains(&share);
        let own = self.config.own;
        let of_clients = self.clients.values().filter(has).map(|client| client.origin.unwrap_or(own));
        let of_tasks = self.queue.held().filter(|(_, pending)| pending.apart.as_deref() == Some(&share));
        gathered(of_clients.chain(of_tasks.map(|(origin, _)| *origin)).map(|origin| origin.program))
    }

    /// Tells the users of what waits for a value why it does not come.
    fn tell_why(&mut self, share: ShareId, why: &str) {
        let waits = |(_, pending): &&(Origin, Pending)| {
            let spec = self.clients.get(&pending.client).and_then(|client| client.spec(pending.spec));
            pending.apart.as_deref() == Some(&share)
                || spec.is_some_and(|spec| spec.what.shares.contains(&share))
        };
        let clients: BTreeSet<ClientId> =
            gathered(self.queue.held().filter(waits).map(|(_, pending)| pending.client));
        let what = format!("what tasks need does not come to a worker, and is asked for again: {why}");
        self.remark(clients, what.into());
    }

    /// Ends the tasks that share what nobody has.
    fn refuse_shared(&mut self, share: ShareId, why: &str) {
        self.shares.remove(&share);
        let clients = &self.clients;
        let has = |pending: &Pending| {
            let spec = clients.get(&pending.client).and_then(|client| client.spec(pending.spec));
            spec.is_none_or(|spec| spec.what.shares.contains(&share))
                || pending.apart.as_deref() == Some(&share)
        };
        for (_, pending) in self.queue.release(has) {
            let is_apart = pending.apart.as_deref() == Some(&share);
            let what = if is_apart { "its arguments" } else { "a value that its tasks share" };
            let failure = Failure::Refused { why: format!("{what} cannot be had: {why}") };
            let running = Running::of(&pending, 0, None);
            self.finish(&running, End::of(&failure, 0, &Payload::new()));
        }
    }

    /// Lets the tasks go on of which all is here that they share.
    fn release_shared(&mut self) {
        let (clients, shares) = (&self.clients, &self.shares);
        let is_here = |share: &ShareId| matches!(shares.get(share), Some(Share::Here { .. }));
        let is_free = |pending: &Pending| {
            let spec = clients.get(&pending.client).and_then(|client| client.spec(pending.spec));
            spec.is_none_or(|spec| spec.what.shares.iter().all(is_here))
                && pending.apart.as_deref().is_none_or(is_here)
        };
        for (origin, pending) in self.queue.release(is_free) {
            self.enqueue(origin, pending);
        }
    }

    /// Whether all is here that tasks of a spec share, which is noted as used if so.
    pub(super) fn has_shares_of(&mut self, client: ClientId, spec: SpecIndex) -> bool {
        let Some(spec) = self.clients.get(&client).and_then(|client| client.spec(spec)) else { return false };
        let known = &mut self.shares;
        spec.what.shares.iter().all(|share| known.get_mut(share).is_some_and(Share::is_here_and_used))
    }

    /// Whether all is here that a task shares with others; what is not is fetched.
    pub(super) fn has_shares(&mut self, pending: &Pending) -> bool {
        let spec = self.clients.get(&pending.client).and_then(|client| client.spec(pending.spec));
        let shares = spec.map_or(&[][..], |spec| &spec.what.shares);
        let all = || shares.iter().chain(pending.apart.as_deref());
        let known = &mut self.shares;
        if all().all(|share| known.get_mut(share).is_some_and(Share::is_here_and_used)) {
            return true;
        }
        let all: Vec<ShareId> = all().copied().collect();
        all.iter().for_each(|share| self.want_share(pending.client, *share));
        planted!(SkipShares)
    }

    /// Tells the executor of a slot where what a task shares lies, if it does not know.
    pub(super) fn tell_shares(&mut self, slot: usize, shares: &[ShareId]) {
        for share in shares {
            let slot = &mut self.slots[slot];
            let executor = slot.id.expect("an executor that takes tasks has a number");
            if let Some(Share::Here { path, .. }) = self.shares.get(share)
                && slot.told.insert(*share)
            {
                let message = ToExecutor::Share { share: *share };
                self.actions.push_back(Action::Feed { executor, message, body: path.clone() });
            }
        }
    }

    /// Forgets, from time to time, what no task has shared since the last time.
    pub(super) fn drop_unused(&mut self) {
        if self.look_at_shares.is_none_or(|at| at > self.now) {
            return;
        }
        let here = if planted!(DropUsed) { BTreeSet::new() } else { self.shares_of_tasks() };
        let mut unused = Vec::new();
        for (share, state) in &mut self.shares {
            let Share::Here { is_used, .. } = state else { continue };
            if !std::mem::take(is_used) && !here.contains(share) && !self.apart.contains_key(share) {
                unused.push(*share);
            }
        }
        for share in unused {
            self.shares.remove(&share);
            for slot in &mut self.slots {
                slot.told.remove(&share);
            }
            self.actions.push_back(Action::DropShare { share, spent: false });
        }
        let any = self.shares.values().any(|state| matches!(state, Share::Here { .. }));
        self.look_at_shares = any.then(|| self.now + self.config.share_time);
    }

    /// What the tasks share that are here.
    fn shares_of_tasks(&self) -> BTreeSet<ShareId> {
        let waiting = self.queue.iter().map(|pending| (pending.client, pending.spec));
        let running = self.slots.iter().flat_map(|slot| slot.batch().kinds());
        let running = running.map(|running| (running.client, running.spec));
        let specs: BTreeSet<(ClientId, SpecIndex)> = gathered(waiting.chain(running));
        let specs = specs.into_iter().filter_map(|(client, spec)| self.clients.get(&client)?.spec(spec));
        gathered(specs.flat_map(|spec| spec.what.shares.iter().copied()))
    }

    /// Forgets what no client's tasks share any more, and no executor was told of.
    pub(super) fn tidy_shares(&mut self) {
        let of_clients = self.clients.values().flat_map(|client| client.shares());
        let of_slots = self.slots.iter().filter(|slot| slot.id.is_some()).flat_map(|slot| &slot.told);
        let used: BTreeSet<ShareId> = gathered(of_clients.chain(of_slots).chain(self.apart.keys()).copied());
        let gone = |(share, state): (&ShareId, &Share)| {
            (matches!(state, Share::Here { .. }) && !used.contains(share)).then_some(*share)
        };
        for share in self.shares.iter().filter_map(gone).collect::<Vec<_>>() {
            self.shares.remove(&share);
            let spent = self.spent.contains(&share);
            self.actions.push_back(Action::DropShare { share, spent });
        }
    }
}
