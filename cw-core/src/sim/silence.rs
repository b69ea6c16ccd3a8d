//! Nobody waits without a word: a client of which nothing runs is told why, in time.

use std::{collections::BTreeMap, time::Duration};

use super::{checks::Ledger, hosts::Role, world::World};
use crate::{Time, ids::TaskId, wire::Stall};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a client sees of its tasks.
#[derive(Debug, Default)]
pub(super) struct Silence {
    /// When a task of a client last began or ended, or its answer came, or it was well for another reason that none did.
    moved: BTreeMap<usize, Time>,
    /// When a task of a client was last sent to a worker.
    sent: BTreeMap<usize, Time>,
    /// Which clients show a reason.
    told: BTreeMap<usize, bool>,
    looked: Time,
}

impl Ledger {
    /// A task of a client's has begun or ended, was handed in or answered.
    pub(super) fn note_motion(&mut self, peer: usize) {
        self.silence.moved.insert(peer, self.time);
    }

    /// A task of a client's is sent to a worker.
    pub(super) fn note_dispatched_of(&mut self, peer: usize) {
        self.silence.sent.insert(peer, self.time);
    }

    /// Whether one was since its tasks last moved: the master then gives it as long again to begin.
    fn was_sent(&self, peer: usize) -> bool {
        self.silence.sent.get(&peer).is_some_and(|sent| self.silence.moved.get(&peer) < Some(sent))
    }

    /// Processes or ways have changed: whoever waits may have to be told something else.
    pub(super) fn note_change(&mut self) {
        let now = self.time;
        self.silence.moved.values_mut().for_each(|moved| *moved = now);
    }

    /// A client was told why nothing moves, or that it moves again.
    pub(super) fn note_stalled(&mut self, peer: usize, is_stalled: bool) {
        self.silence.told.insert(peer, is_stalled);
        self.note_motion(peer);
    }

    fn silent_for(&self, peer: usize) -> Duration {
        self.time.since(self.silence.moved.get(&peer).copied().unwrap_or(self.time))
    }
}

impl World {
    /// How long it may take until a client is told: until a worker is suspected, and from then on.
    fn silence_max(&self) -> Duration {
        let (master, slow) = (&self.knobs.master, if self.knobs.faults.rates { 2 } else { 1 });
        let noticed = master.suspect_after * 5 / 4 + master.stall_after + Duration::from_millis(500);
        noticed.max(Duration::from_secs(5)) * slow + self.knobs.delay * 4
    }

    /// Looks now and then whether a client waits without having been told why.
    pub(super) fn look_for_silence(&mut self) {
        if self.now < self.ledger.silence.looked + LOOK_EVERY {
            return;
        }
        self.ledger.silence.looked = self.now;
        let most = self.silence_max();
        for peer in 0..self.hosts.len() {
            if !self.waits_in_silence(peer) {
                self.ledger.note_motion(peer);
                continue;
            }
            let silent_for = self.ledger.silent_for(peer);
            let again =
                if self.ledger.was_sent(peer) { self.knobs.master.stall_after * 2 } else { Duration::ZERO };
            let most = most + again;
            self.ledger.rule(silent_for <= most, "why nothing moves is said", || {
                format!("host {peer} has heard nothing for {silent_for:?}")
            });
        }
    }

    /// Whether a client is connected, has tasks, and neither does any of them run nor has it been told why not.
    fn waits_in_silence(&self, peer: usize) -> bool {
        let (host, link) = (&self.hosts[peer], &self.hosts[peer].link);
        let is_connected = link.at_peer.is_some() && link.at_peer == link.at_master && link.is_whole();
        matches!(host.role, Role::Client(_))
            && host.node.runs()
            && self.master.node.runs()
            && is_connected
            && !self.ledger.is_lied_to(peer)
            && !self.waits_for_itself(peer)
            && !self.ledger.silence.told.get(&peer).copied().unwrap_or_default()
            && !self.ledger.open(|owner| owner == peer).0.is_empty()
            && !self.runs_somewhere(peer)
    }

    /// What a client is told of a standstill is true: no task of it has been running all the while.
    pub(super) fn check_standstill(&mut self, peer: usize, why: &Stall) {
        // A word about a beginning, and one about the standstill, may have been under way.
        let recently = self.knobs.delay * 4 + Duration::from_secs(1);
        let long_ago = self.now.since_start().saturating_sub(recently);
        let is_heard = |host: usize| {
            let host = &self.hosts[host];
            host.node.runs() && host.link.is_whole() && host.link.at_master.is_some()
        };
        let runs: Vec<String> = self
            .ledger
            .known_runs(peer)
            .filter(|(host, told)| told.since_start() < long_ago && is_heard(*host))
            .map(|(host, told)| format!("host {host} since {told}"))
            .collect();
        // What waited for a client that was away is old news.
        let is_old = self.ledger.is_time_doubtful([peer, peer]);
        let is_true = runs.is_empty() || self.ledger.is_lied_to(peer) || is_old;
        self.ledger.rule(is_true, "what is said of a standstill is true", || {
            format!("host {peer} is told {why:?}, and its tasks run on {runs:?}")
        });
    }

    /// Whether a task of a client's runs on a worker that the master can hear.
    fn runs_somewhere(&self, peer: usize) -> bool {
        let is_heard = |host: usize| {
            let Some(host) = self.hosts.get(host) else { return false };
            host.node.carries() && host.link.is_whole() && host.link.at_master.is_some()
        };
        let is_dazed = |host: usize| self.hosts.get(host).is_some_and(|host| host.node.is_dazed);
        self.ledger.running().any(|(host, owner, _)| owner == peer && is_heard(host))
            || self.ledger.is_taken_to_run(peer, is_dazed)
    }
}

impl Ledger {
    /// What runs of a client's, as the master certainly knows: on which host, and since when it does.
    fn known_runs(&self, peer: usize) -> impl Iterator<Item = (usize, Time)> {
        let run = |(owner, task, run): &(usize, TaskId, usize)| {
            self.truths.get(owner)?.get(usize::try_from(task.0).ok()?)?.runs.get(*run)
        };
        let runs = self.live.values().filter(move |live| live.0 == peer).filter_map(run);
        let certain = runs.filter(|run| self.is_certain(run) && !run.is_excused);
        certain.filter_map(|run| Some((run.worker, run.told?)))
    }

    /// What runs: on which host, whose task, and which.
    fn running(&self) -> impl Iterator<Item = (usize, usize, TaskId)> {
        self.live.iter().map(|((host, _), (owner, task, _))| (*host, *owner, *task))
    }
}
