//! Placing tasks: whose turn it is, where there is room, what to fetch back.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Action, Master,
    once::{Kept, Turn},
    parked::Wish,
    tasks::State,
    workers::{Tasks, Worker},
};
use crate::{
    Payload, Time, gathered,
    ids::{Attempt, ClientId, ProgramId, SpecIndex, TaskId, WorkerId},
    wire::ToWorker,
};

/// An idle slot fetches what waits at a worker once nothing has moved there for this long. While things
/// move, what waits there starts soon; and a recall that brought nothing is not repeated at once.
const RECALL_PAUSE: Duration = Duration::from_millis(5);

/// How often it is looked for what idle slots can fetch, at most: that looks at each worker.
const RECALL_EVERY: Duration = Duration::from_millis(1);

impl Master {
    /// Sends queued tasks out while there is room, then balances what was sent ahead.
    pub(super) fn assign(&mut self) {
        self.relist();
        if !(self.wishful.is_empty() && self.exclusives.is_empty()) {
            self.place_wishful();
        }
        self.take_up();
        let any_once = !self.once.is_empty();
        if any_once {
            self.announce_once();
        }
        let (mut any_sent, mut kept) = (false, Kept::new());
        while let Some((client, turn)) = self.next_turn(&kept) {
            match turn {
                Turn::Send(worker) => self.send_run(client, worker),
                Turn::LayAside => self.lay_aside(client),
                Turn::Keep(worker) => {
                    self.announce_next(client);
                    kept.push((client, worker));
                }
            }
            any_sent |= matches!(turn, Turn::Send(_));
        }
        self.kept_until = self.kept_until(&kept);
        // The next ones are to be announced, or are laid aside.
        self.unplaced |= any_sent && (any_once || !self.untimely.is_empty());
        self.recall_for_idle();
        self.make_way(any_sent);
        self.accrue();
    }

    /// The client with least slot time used that a worker has room for, and that worker; or that it is to be laid aside, if
    /// workers have room, and none of them has the time.
    ///
    /// While one waits whose next task must begin at once, nothing of the others' is sent ahead: it would have each slot
    /// that frees.
    fn next_turn(&self, kept: &Kept) -> Option<(ClientId, Turn)> {
        if self.room.values().all(BTreeSet::is_empty) {
            return None;
        }
        let mut slots_only: Vec<ProgramId> = Vec::new();
        let mut turn_of = |(_, client): &(u64, ClientId)| {
            let state = &self.clients[client];
            let room = self.room_for(state.program)?;
            let needs_slot = self.must_begin_at_once(*client);
            let awaits_note = needs_slot && self.awaits_note(*client);
            if awaits_note && (self.is_mute(*client) || kept.iter().any(|(it, _)| it == client)) {
                return None;
            }
            let only_slots = needs_slot || slots_only.contains(&self.pool_of(state.program));
            let need = self.next_need(*client);
            let fits = |worker: &WorkerId| {
                let kept = kept.iter().filter(|(_, it)| it == worker).count();
                let may_wait = !only_slots && kept == 0;
                !state.held_by.contains(worker)
                    && (may_wait || self.workers[worker].free_slots() as usize > kept)
            };
            let found = room.iter().find(|(_, worker)| fits(worker) && self.has_time(*worker, need));
            let Some((_, worker)) = found else {
                if room.iter().any(|(_, worker)| fits(worker)) {
                    return Some((*client, Turn::LayAside));
                }
                // Not for one that nobody may serve, as its results pile up.
                let may = state.detached.is_none() && room.iter().any(|(_, it)| !state.held_by.contains(it));
                if only_slots && may && !planted!(OnceLast) {
                    slots_only.push(self.pool_of(state.program));
                }
                return None;
            };
            let turn = match awaits_note {
                _ if needs_slot && self.is_behind(*client) => Turn::LayAside,
                // Nobody who is away answers.
                true if state.detached.is_some() => return None,
                true => Turn::Keep(*worker),
                false => Turn::Send(*worker),
            };
            Some((*client, turn))
        };
        if planted!(MostUsedFirst) {
            return self.waiting.iter().rev().find_map(turn_of);
        }
        self.waiting.iter().find_map(&mut turn_of)
    }

    /// Whether what is called back for a client would be sent again in its place: slots are kept free for nobody who is
    /// away.
    pub(super) fn is_passed_over(&self, id: ClientId) -> bool {
        let is_away = self.clients[&id].detached.is_some();
        self.awaits_note(id) || (is_away && self.must_begin_at_once(id))
    }

    /// The workers of a program that have room.
    fn room_for(&self, program: ProgramId) -> Option<&BTreeSet<(u64, WorkerId)>> {
        if planted!(AnyProgram) {
            return self.room.values().find(|room| !room.is_empty());
        }
        self.room.get(&program)
    }

    /// Sends a client's next tasks to a worker: one, or several as long as together they are short. Runs keep
    /// the lists of who waits and who has room from changing with every task, and acknowledgements together.
    fn send_run(&mut self, id: ClientId, to: WorkerId) {
        self.note_served(id);
        let before = self.clients[&id].usage;
        let run_time = u64::try_from(self.config.run_time.as_micros()).unwrap_or(u64::MAX);
        let (mut expected, mut known) = (0, None);
        loop {
            let stretch = self.next_stretch(id, to);
            let (task, spec) = stretch.unwrap_or_else(|| self.next_task(id));
            if Some(spec) != known || task >= self.clients[&id].dispatched {
                self.acquaint(id, (task, spec), to);
                known = Some(spec);
            }
            expected += match stretch {
                Some(_) => self.send_stretch(id, to, run_time - expected),
                None => self.send_next(id, task, to),
            };
            let client = &self.clients[&id];
            let has_more = client.queued > 0
                && !client.has_once
                && self.workers[&to].has_room(client.program, self.is_shared(client.program), &self.config)
                && self.has_time(to, self.next_need(id));
            if !has_more || expected >= run_time {
                break;
            }
        }
        self.waiting.remove(&(before, id));
        self.list_waiting(id);
        self.note_room(to);
    }

    /// A client's next task, which stands by itself.
    fn next_task(&self, id: ClientId) -> (TaskId, SpecIndex) {
        let client = &self.clients[&id];
        let task = client.first().expect("listed as waiting, so something is queued");
        (task, client.tasks.get(task).expect("what is queued is in the table").spec)
    }

    fn send_next(&mut self, id: ClientId, task: TaskId, to: WorkerId) -> u64 {
        self.clients.get_mut(&id).expect("listed as waiting").pop();
        self.send_acquainted(id, task, to).into()
    }

    /// Sends a task that is on no list.
    pub(super) fn send_task(&mut self, id: ClientId, task: TaskId, to: WorkerId) {
        let spec = self.clients[&id].tasks.get(task).expect("what is to be sent is in the table").spec;
        self.acquaint(id, (task, spec), to);
        self.send_acquainted(id, task, to);
    }

    /// Tells whoever does not know what goes before a task: the client, that it is dispatched; the worker, that it may begin
    /// it, whose it is, and what it is.
    fn acquaint(&mut self, id: ClientId, (task, spec): (TaskId, SpecIndex), to: WorkerId) {
        self.rouse(to);
        let client = &self.clients[&id];
        if task >= client.dispatched_of(spec) {
            match client.specs[spec.0 as usize].what.rerun {
                true => self.tell_dispatched(id, task),
                false => self.tell_dispatched_once(id, task, spec),
            }
        }
        if self.workers.get_mut(&to).expect("listed as having room").introduce(id) {
            self.introduce(id, to);
        }
        if self.workers.get_mut(&to).expect("listed as having room").declare(id, spec) {
            let client = &self.clients[&id];
            let what = Box::new(client.specs[spec.0 as usize].what.clone());
            let message = ToWorker::Declare { client: id, spec, what };
            self.actions.push_back(Action::TellWorker { worker: to, message, body: Payload::new() });
        }
    }

    /// Sends a task that is on no list, to a worker that knows what goes before it; gives its expected run time in
    /// microseconds.
    fn send_acquainted(&mut self, id: ClientId, task_id: TaskId, to: WorkerId) -> u32 {
        let client = self.clients.get_mut(&id).expect("the caller looked it up");
        client.note_sent(self.now);
        client.at_workers += 1;
        let task = client.tasks.get_mut(task_id).expect("what is to be sent is in the table");
        let spec = &client.specs[task.spec.0 as usize];
        if !planted!(ReuseAttempt) || task.latest == Attempt(0) {
            task.latest = Attempt(task.latest.0.saturating_add(1));
        }
        task.attempt = task.latest;
        task.state = State::Sent { worker: to };
        (task.started, task.was_cut, task.inherited) = (false, false, false);
        let charge = spec.learned.expected();
        task.charge = charge;
        client.usage = client.usage.saturating_add(u64::from(charge));
        client.outstanding += u64::from(charge);
        let bytes = spec.what.args_bytes(&task.args);
        let message = ToWorker::Run {
            client: id,
            task: task_id,
            attempt: task.attempt,
            spec: task.spec,
            alone: task.alone || !spec.what.rerun,
        };
        let worker = self.workers.get_mut(&to).expect("listed as having room");
        worker.take_on(id, client.program, Tasks::one(charge, bytes));
        self.actions.push_back(Action::TellWorker { worker: to, message, body: task.args.clone() });
        charge
    }

    /// Asks for un-started tasks back where they would wait while slots elsewhere are idle.
    fn recall_for_idle(&mut self) {
        self.recall_at = None;
        // What is called back for a slot that is kept for somebody would be sent there again, and not to that.
        if self.idle.is_empty() || self.laden.is_empty() || self.kept_until.is_some() {
            return;
        }
        let due = self.recalled + RECALL_EVERY;
        if self.now < due {
            self.recall_at = Some(due);
            return;
        }
        self.recalled = self.now;
        let programs: Vec<_> = self.programs.keys().copied().collect();
        for program in programs {
            let of_program = || self.workers.values().filter(|worker| worker.serves(program));
            let idle = of_program().any(|worker| worker.free_slots() > 0);
            if !idle || of_program().any(|worker| worker.recalling) {
                continue;
            }
            let Some((worker, message)) = self.fetchable(program) else { continue };
            let due = self.workers[&worker].moved + RECALL_PAUSE;
            if self.now < due {
                self.recall_at = Some(self.recall_at.map_or(due, |other| other.min(due)));
            } else {
                self.workers.get_mut(&worker).expect("just found").recalling = true;
                self.tell_worker(worker, message);
            }
        }
    }

    /// What idle slots of a program can fetch: from the worker with most to do whatever it has to give; or, where all of
    /// them are at workers that keep some client's results, what is another's.
    fn fetchable(&self, program: ProgramId) -> Option<(WorkerId, ToWorker)> {
        let of_program = || self.workers.iter().filter(|(_, worker)| worker.serves(program));
        let idle = |may: &dyn Fn(&WorkerId) -> bool| {
            let takers = of_program().filter(|(id, _)| may(id));
            takers.fold(0u32, |idle, (_, worker)| idle.saturating_add(worker.free_slots()))
        };
        let of_other = |client: &ClientId| self.clients.get(client).is_some_and(|it| it.program != program);
        let busy = || of_program().filter(|(_, worker)| worker.is_well() && worker.ahead() > 0);
        let has_others = |worker: &Worker| worker.shares.has_ahead(of_other);
        let keepers: BTreeSet<WorkerId> =
            gathered(self.clients.values().flat_map(|client| &client.held_by).copied());
        let keeps = |id: &WorkerId| keepers.contains(id);
        let for_all = idle(&|id| !keeps(id));
        if for_all > 0 {
            let fetched = busy()
                .filter(|(_, worker)| !has_others(worker))
                .max_by_key(|(id, worker)| (worker.backlog(), std::cmp::Reverse(**id)));
            if let Some((id, worker)) = fetched {
                return Some((*id, ToWorker::Recall { tasks: worker.ahead().min(for_all) }));
            }
        }
        busy().find_map(|(id, worker)| {
            worker.shares.clients_ahead().into_iter().filter(|it| !of_other(it)).find_map(|client| {
                let held_by = &self.clients.get(&client)?.held_by;
                let for_it = idle(&|taker| !held_by.contains(taker));
                let tasks = worker.shares.ahead_of(client).min(for_it);
                (tasks > 0).then_some((*id, ToWorker::MakeWay { client, below: None, tasks }))
            })
        })
    }

    pub(super) fn on_recalled(&mut self, worker: WorkerId) {
        let now = self.now;
        if let Some(worker) = self.workers.get_mut(&worker) {
            worker.recalling = false;
            worker.moved = now;
        }
        self.unplaced = true;
    }

    pub(super) fn on_held(&mut self, worker: WorkerId, id: ClientId, held: bool) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if held {
            client.held_by.insert(worker);
        } else {
            client.held_by.remove(&worker);
            self.level_waiting(id);
            self.unplaced = true;
        }
    }

    /// A client whose results piled up could not be served, whatever it wanted: that earned it no turns either.
    fn level_waiting(&mut self, id: ClientId) {
        let before = self.clients[&id].usage;
        let was_listed = self.waiting.remove(&(before, id));
        self.level(id);
        if was_listed {
            self.waiting.insert((self.clients[&id].usage, id));
        }
    }

    /// Puts a client on the list of those who wait, if it does.
    pub(super) fn note_waiting(&mut self, id: ClientId) {
        self.unplaced |= self.list_waiting(id);
    }

    fn list_waiting(&mut self, id: ClientId) -> bool {
        let usage = self.clients.get(&id).filter(|client| client.queued > 0).map(|client| client.usage);
        self.waiting.extend(usage.map(|usage| (usage, id)));
        usage.is_some()
    }

    /// Corrects what a client has used, keeping its place among those who wait.
    pub(super) fn charge(&mut self, id: ClientId, charged: u32, used: u64) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let before = client.usage;
        client.correct(charged, used);
        self.note_usage(id, before);
    }

    /// What a client has used is not what it was.
    pub(super) fn note_usage(&mut self, id: ClientId, before: u64) {
        let usage = self.clients[&id].usage;
        if usage != before && self.waiting.remove(&(before, id)) {
            self.waiting.insert((usage, id));
        }
    }

    /// Notes that a worker's load has changed; it is listed anew before the next pass.
    pub(super) fn note_load(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id)
            && !std::mem::replace(&mut worker.changed, true)
        {
            self.changed.push(id);
        }
        self.unplaced = true;
    }

    /// Lists the workers whose load has changed.
    pub(super) fn relist(&mut self) {
        for id in std::mem::take(&mut self.changed) {
            self.note_room(id);
        }
    }

    /// Lists a worker under its present load with each program it has room for.
    pub(super) fn note_room(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.changed = false;
        let is_laden = worker.is_well() && worker.ahead() > 0;
        for (list, is_in) in [(&mut self.idle, worker.free_slots() > 0), (&mut self.laden, is_laden)] {
            if is_in {
                list.insert(id)
            } else {
                list.remove(&id)
            };
        }
        // Whether it was listed before has a say in whether it has room.
        let has_room =
            |(program, clients): &(&ProgramId, &u32)| worker.has_room(**program, **clients > 1, &self.config);
        let listed = &mut self.listing;
        listed.clear();
        listed.extend(self.programs.iter().filter(has_room).map(|(it, _)| (*it, worker.rank(*it))));
        if *listed == worker.listed {
            return;
        }
        // The room of the one list is for the next, as this comes with each few tasks.
        std::mem::swap(listed, &mut worker.listed);
        for (program, rank) in listed {
            if let Some(room) = self.room.get_mut(program) {
                room.remove(&(*rank, id));
            }
        }
        for (program, rank) in &worker.listed {
            self.room.entry(*program).or_default().insert((*rank, id));
        }
    }

    /// Puts a task that was sent back to the front of the queue, for another attempt.
    ///
    /// A task whose client no longer wants it is dropped instead.
    pub(super) fn requeue(&mut self, id: ClientId, task_id: TaskId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Some(task) = client.tasks.get_mut(task_id) else { return };
        let charge = std::mem::take(&mut task.charge);
        client.outstanding -= u64::from(charge);
        if client.gone || matches!(task.state, State::Cancelling { .. }) {
            client.take_out(task_id);
        } else {
            (task.started, task.settled, task.is_last) = (false, false, false);
            let priority = client.specs[task.spec.0 as usize].what.priority;
            client.turn(task_id, State::Queued);
            client.push_front(priority, task_id);
            client.ended.remove(&task_id);
            self.forget_progress(id, task_id);
        }
        self.charge(id, charge, 0);
        self.note_waiting(id);
        // It may be long since anything of its client's moved.
        self.stalls_at = Time::ZERO;
        if self.is_claim(id, task_id) {
            return self.end_as_lost(id, task_id);
        }
        self.keep_alone(id, task_id);
    }

    /// A task that may have ended a worker takes no others down with the next, however it came back.
    fn keep_alone(&mut self, id: ClientId, task: TaskId) {
        let entry = self.clients.get(&id).and_then(|client| client.tasks.get(task));
        if entry.is_some_and(|entry| entry.losses > 0) {
            self.park(id, task, Wish { alone: true, ..Wish::default() });
        }
    }
}
