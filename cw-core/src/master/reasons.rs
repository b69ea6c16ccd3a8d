//! Why a client's tasks do not move: the first of the reasons that holds, in the order in which they are asked for.
//!
//! Each costs a look at the workers, not at the tasks: other clients' messages may have it asked for often.

use super::{
    Client, Master, Worker,
    ending::{given, needed},
};
use crate::{
    ids::{ClientId, WorkerId},
    wire::Stall,
};

impl Master {
    /// Why a client's tasks do not move.
    pub(super) fn why_stalled(&self, id: ClientId) -> Stall {
        let client = &self.clients[&id];
        let is_queued = client.queued > 0;
        let in_queue = || self.why_queued(id, client);
        if is_queued {
            let begins = || self.why_not_begun(id, client);
            return self
                .why_held(client)
                .or_else(begins)
                .or_else(|| self.why_no_time(id, client))
                .unwrap_or_else(in_queue);
        }
        self.why_awaited(client)
            .or_else(|| self.why_held(client))
            .or_else(|| self.why_alone(client))
            .or_else(|| self.why_silent(id, client))
            .or_else(|| self.why_not_begun(id, client))
            .or_else(|| self.why_no_time(id, client))
            .unwrap_or_else(in_queue)
    }

    fn fitting(&self, client: &Client) -> impl Iterator<Item = (&WorkerId, &Worker)> {
        let program = client.program;
        self.workers.iter().filter(move |(_, worker)| worker.serves(program))
    }

    /// Workers that may have its tasks have not said so.
    fn why_awaited(&self, client: &Client) -> Option<Stall> {
        if !client.parked.any_awaited() {
            return None;
        }
        let awaited = &client.resume.awaited;
        let workers = count(awaited.len());
        let is_restart = awaited.is_empty() || awaited.intersection(&self.missing).next().is_some();
        Some(if is_restart { Stall::Recovering { workers } } else { Stall::Silent { workers } })
    }

    /// Its results wait: nothing else of it is anywhere, or they pile up wherever it could be served.
    fn why_held(&self, client: &Client) -> Option<Stall> {
        let takes = |(id, worker): (&WorkerId, &Worker)| worker.is_well() && !client.held_by.contains(id);
        let piles_up = self.fitting(client).any(|(_, worker)| worker.is_well())
            && !self.fitting(client).any(takes)
            && client.held.total() > 0;
        let is_alone =
            client.queued == 0 && client.out() == 0 && client.parked.alone() == 0 && client.held.total() > 0;
        let is_suspect = |worker: &WorkerId| self.workers.get(worker).is_some_and(|it| it.suspect);
        let is_there = is_alone && !client.held.workers().all(is_suspect);
        (piles_up || is_there).then(|| Stall::Held { tasks: client.held.total() })
    }

    /// Each may have ended a worker, and no worker is free of other tasks.
    fn why_alone(&self, client: &Client) -> Option<Stall> {
        let tasks = count(client.parked.alone());
        let any = tasks > 0 && self.fitting(client).any(|(_, worker)| worker.is_well());
        any.then_some(Stall::Quarantined { tasks })
    }

    /// All that it has is at workers that are not heard.
    fn why_silent(&self, id: ClientId, client: &Client) -> Option<Stall> {
        let silent = self.silent(client);
        let is_heard = |(worker, state): (&WorkerId, &Worker)| {
            !state.suspect && state.shares.of(id) > client.called_back.at(*worker)
        };
        let any = silent > 0 && client.parked.alone() == 0 && !self.fitting(client).any(is_heard);
        any.then_some(Stall::Silent { workers: silent })
    }

    /// A worker that is heard has tasks of it, and of nobody else, and begins none.
    fn why_not_begun(&self, id: ClientId, client: &Client) -> Option<Stall> {
        let hangs = |(worker, state): (&WorkerId, &Worker)| {
            !state.suspect && state.shares.are_of(id) && state.shares.of(id) > client.called_back.at(*worker)
        };
        let any = client.out() > 0 && self.fitting(client).any(hangs);
        any.then(|| Stall::NotBegun { tasks: client.out() })
    }

    /// All workers that are there, and that it can have, end too soon: for what it has, or for anything.
    fn why_no_time(&self, id: ClientId, client: &Client) -> Option<Stall> {
        let is_there = |worker: &Worker| worker.connected && !worker.suspect && !worker.leaving;
        let there = || self.fitting(client).map(|(_, worker)| worker).filter(|worker| is_there(worker));
        let needs = client.parked.untimely().map(|spec| self.need_of(id, spec));
        let need = needs.min().filter(|_| client.queued == 0).unwrap_or_default();
        let takes = |worker: &Worker| {
            !worker.allotment.is_over && worker.is_long_enough(need, self.now, self.config.end_grace)
        };
        if there().next().is_none() || there().any(takes) {
            return None;
        }
        let left = there().filter_map(|worker| worker.left(self.now)).max().unwrap_or_default();
        let (p90_seconds, left_seconds) = (needed(need.micros), given(left));
        Some(Stall::NoTime { p90_seconds, left_seconds })
    }

    /// There is no worker that it can have, or they have others' tasks.
    fn why_queued(&self, id: ClientId, client: &Client) -> Stall {
        let well = self.fitting(client).filter(|(_, worker)| worker.is_well());
        let slots = well.fold(0u32, |slots, (_, worker)| slots.saturating_add(worker.slots));
        let has_some = |(_, worker): (&WorkerId, &Worker)| !worker.suspect && worker.shares.of(id) > 0;
        if slots > 0 || self.fitting(client).any(has_some) {
            return Stall::Busy { slots };
        }
        let silent = self.silent(client);
        if silent > 0 {
            return Stall::Silent { workers: silent };
        }
        let aside = || self.fitting(client).filter_map(|(_, worker)| worker.record.aside());
        if let Some((_, why)) = aside().next() {
            return Stall::SetAside { workers: count(aside().count()), why: why.clone() };
        }
        if !self.missing.is_empty() {
            return Stall::Recovering { workers: count(self.missing.len()) };
        }
        let stays = |(_, worker): &(&WorkerId, &Worker)| !worker.leaving;
        let staying = self.fitting(client).filter(stays).count();
        if staying > 0 {
            // They are back, and have not said yet what they have.
            return Stall::Silent { workers: count(staying) };
        }
        self.why_no_worker(client)
    }

    fn why_no_worker(&self, client: &Client) -> Stall {
        let mut others = self.workers.values().filter(|worker| !worker.serves(client.program));
        let Some(worker) = others.next().filter(|_| self.fitting(client).next().is_none()) else {
            return Stall::NoWorker { why: self.outlook.clone() };
        };
        let unfit = || self.workers.values().filter_map(|it| Some((it, it.unfit.get(&client.program)?)));
        if let Some((worker, (_, why))) = unfit().next() {
            let (worker, why) = (worker.name.clone(), why.to_string());
            return Stall::Unfit { workers: count(unfit().count()), worker, why };
        }
        Stall::OtherProgram {
            workers: count(1 + others.count()),
            program: worker.of.program,
            program_name: worker.of.program_name.clone(),
            worker: worker.name.clone(),
        }
    }

    /// How many workers of its program are not heard.
    fn silent(&self, client: &Client) -> u32 {
        count(self.fitting(client).filter(|(_, worker)| worker.suspect).count())
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
