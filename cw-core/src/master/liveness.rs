//! Which workers live: beats, suspicion, loss; and who is to blame for a loss.
//!
//! A worker is *heard* when it has acknowledged something: then both ways of its connection carry. One that was not
//! heard for a while is suspect: it is sent nothing new, and what it has not begun goes elsewhere. It begins nothing
//! more by itself, as each beat lets it begin tasks only for less than the time after which it is suspected. One that
//! was not heard for long is lost. The end of a connection makes suspect at once, and is no loss: a worker may come back.
//!
//! A worker that has nothing to do *rests*: it is sent every second beat only, and if all rest the master looks half as
//! often too, as a cluster that is not used should cost next to nothing. Its lease may run out meanwhile, so the first task
//! brings another, and its silence is noticed up to one beat later than that of a worker with tasks.
//!
//! Tasks that ran on a lost worker are suspects: each runs next alone on a worker (see `parked`), and ends as `Lost` at
//! its limit. Which ran is known from the worker, which tells of each task that has run for a few hundredths of a second.
//! A task that was not told of is only taken to have run when this happens to it a second time.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Action, Master,
    clients::{Charge, GivenUp},
    parked::Wish,
    stall::Left,
    tasks::{State, Task},
    workers::Worker,
};
use crate::{
    Payload, Time, gathered,
    ids::{ClientId, TaskId, WorkerId},
    wire::{Failure, ToClient, ToWorker},
};

/// Tasks that are expected to take less are taken to be done by the time their worker is suspected.
const SHORT: u32 = 20_000;

/// So many losses in doubt make a task a suspect.
const EXPOSURES: u8 = 2;

/// What was moved away from so many silent workers stays with the next until that is heard or lost: where the network is
/// slower than suspicion, moving brings no task anywhere.
const MOVES_MAX: u8 = 8;

/// No session is kept for longer than this.
const KEEP_MAX: Duration = Duration::from_secs(3_600);

impl Master {
    fn beat_every(&self) -> Duration {
        self.config.suspect_after / 4
    }

    /// When the next beat is due.
    pub(super) fn next_beat(&self) -> Option<Time> {
        self.beat_at.filter(|_| !self.workers.is_empty())
    }

    /// Sends each worker a sign of life, and looks which of them were not heard.
    pub(super) fn beat(&mut self) {
        let Some(due) = self.beat_at.filter(|due| *due <= self.now) else { return };
        // While this master did not run itself, nobody could be heard.
        let late = self.now.since(due);
        if late > self.beat_every() {
            let now = self.now;
            self.workers.values_mut().for_each(|worker| worker.heard = (worker.heard + late).min(now));
        }
        let resumes = self.clients.values().map(|client| &client.resume);
        let claimants: BTreeSet<WorkerId> =
            gathered(resumes.flat_map(|resume| resume.unclaimed.values().flatten()).map(|it| it.worker));
        for id in self.workers.keys().copied().collect::<Vec<_>>() {
            self.look_after(id, &claimants);
        }
        let all_rest = self.workers.iter().all(|(id, it)| !claimants.contains(id) && self.is_at_rest(it));
        let beats = if all_rest { 2 } else { 1 };
        self.beat_at = Some(self.now + self.beat_every() * beats);
    }

    /// Whether a worker has nothing to do, and there is no doubt about it.
    fn is_at_rest(&self, worker: &Worker) -> bool {
        let is_free = worker.sent == 0 && worker.accounting.is_none();
        is_free && worker.connected && !worker.suspect && self.now.since(worker.heard) < self.trust()
    }

    /// For how long after it was heard a worker may begin tasks.
    fn trust(&self) -> Duration {
        self.config.suspect_after * 3 / 4
    }

    /// A worker that has what no client has handed in again yet does not rest: it may be about to go on with it.
    fn look_after(&mut self, id: WorkerId, claimants: &BTreeSet<WorkerId>) {
        let worker = &self.workers[&id];
        let silence = self.now.since(worker.heard);
        if silence >= self.config.lost_after && !planted!(NeverLost) {
            return self.lose_worker(id);
        }
        if silence >= self.config.suspect_after && !worker.suspect {
            self.suspect(id);
        }
        let worker = &self.workers[&id];
        // Half a beat more or less, so that none is left out because the one before went out late.
        let is_at_rest = !claimants.contains(&id) && self.is_at_rest(worker);
        if !(is_at_rest && self.now.since(worker.beaten) < self.beat_every() * 3 / 2) {
            self.send_beat(id);
        }
    }

    /// A worker that has nothing to do is about to be given a task: it may begin that at once, and is looked after as one
    /// with tasks from now on.
    pub(super) fn rouse(&mut self, id: WorkerId) {
        let (soon, now) = (self.now + self.beat_every(), self.now);
        let Some(worker) = self.workers.get(&id).filter(|worker| worker.sent == 0) else { return };
        // Its lease is to last until the next beat, and is as good as new if it is.
        let lasts = worker.leased >= soon || worker.beaten == now;
        self.beat_at = self.beat_at.map(|due| due.min(soon));
        if !lasts {
            self.send_beat(id);
        }
    }

    /// Says for how long the worker may begin tasks: not for as long as it takes to be suspected.
    pub(super) fn send_beat(&mut self, id: WorkerId) {
        if !self.config.liveness {
            return;
        }
        let (trust, now) = (self.trust(), self.now);
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.connected) else { return };
        let left = trust.saturating_sub(now.since(worker.heard));
        // One that is back learns first what of its tasks is still wanted.
        let may_begin = !worker.suspect && worker.accounting.is_none();
        let lease = if may_begin { left } else { Duration::ZERO };
        (worker.beaten, worker.leased) = (now, now + lease);
        let lease = u32::try_from(lease.as_millis()).unwrap_or(u32::MAX);
        self.tell_worker(id, ToWorker::Beat { lease });
    }

    /// A worker has joined: its first lease, and the next beats.
    pub(super) fn begin_beats(&mut self, id: WorkerId) {
        if self.config.liveness {
            let next = self.now + self.beat_every();
            // Nobody was looked after as long as there was nobody.
            let due = self.beat_at.filter(|_| self.workers.len() > 1);
            self.beat_at = Some(due.map_or(next, |due| due.min(next)));
            self.send_beat(id);
        }
    }

    pub(super) fn on_worker_heard(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.connected) else { return };
        worker.heard = self.now;
        if worker.suspect {
            self.set_suspect(id, false);
            self.note_load(id);
            self.send_beat(id);
        }
    }

    /// The connection has ended. Whoever cannot be looked after is lost at once.
    pub(super) fn on_worker_lost(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.connected = false;
        self.forget_questions(id);
        if !self.config.liveness {
            return self.lose_worker(id);
        }
        if !self.workers[&id].suspect {
            self.suspect(id);
        }
    }

    /// Moves what a silent worker has not begun.
    fn suspect(&mut self, id: WorkerId) {
        self.spread_at(id);
        self.workers.get_mut(&id).expect("the caller looked it up").recalling = false;
        self.set_suspect(id, true);
        self.note_load(id);
        for client in self.clients.keys().copied().collect::<Vec<_>>() {
            let state = &self.clients[&client];
            let moves = |task: &Task| {
                let spec = state.spec_of(task);
                let is_short = spec.learned.is_known() && spec.learned.expected() < SHORT;
                let may_run = task.started || is_short;
                // What has failed as often as it may is waited for.
                let speculates = spec.what.speculate && task.has_tries(&spec.what);
                task.state == State::Sent { worker: id }
                    && task.moves < MOVES_MAX
                    && spec.what.rerun
                    && (!may_run || speculates || planted!(SuspectRuns))
            };
            // Last first, as each goes to the front of the queue.
            let moving = state.tasks.sorted_keys(moves);
            // Whose workers fall silent one after the other may be to blame: it stays, to be lost with this one.
            let moving = moving.into_iter().filter(|task| !self.is_silent_elsewhere(client, *task, id));
            for task in moving.collect::<Vec<_>>().into_iter().rev() {
                self.move_away(client, task, id);
            }
        }
        self.unplaced = true;
    }

    /// Whether a task was moved away from another worker that is still silent, or lost.
    fn is_silent_elsewhere(&self, id: ClientId, task: TaskId, here: WorkerId) -> bool {
        let is_silent = |it: &GivenUp| {
            it.worker != here && self.workers.get(&it.worker).is_none_or(|worker| worker.suspect)
        };
        self.clients[&id].given_up.get(&task).is_some_and(|all| all.iter().any(is_silent))
    }

    /// Gives an attempt up that may still end; it is called back unless both are wanted.
    fn move_away(&mut self, id: ClientId, task_id: TaskId, from: WorkerId) {
        let client = self.clients.get_mut(&id).expect("listed by the caller");
        let task = client.tasks.get_mut(task_id).expect("listed by the caller");
        task.moves = task.moves.saturating_add(1);
        let task = client.tasks.get(task_id).expect("just seen");
        let (attempt, charge, started) = (task.attempt, task.charge, task.started);
        let bytes = client.bytes_of(task);
        let speculates = client.spec_of(task).what.speculate;
        let given_up = GivenUp { worker: from, attempt, charge: Charge::None };
        client.given_up.entry(task_id).or_default().push(given_up);
        self.relieve(from, id, Left { charge, bytes, ran: started, started });
        if !(speculates && started) {
            self.tell_worker(from, ToWorker::Cancel { client: id, task: task_id, attempt });
        }
        self.requeue(id, task_id);
    }

    /// A worker was silent for too long.
    fn lose_worker(&mut self, id: WorkerId) {
        let why = "it was not heard for too long";
        let name = self.workers.get(&id).map_or_else(|| id.to_string(), |worker| worker.name.clone());
        self.actions.push_back(Action::DisconnectWorker { worker: id, name, why });
        self.note_absent(id.0);
        self.drop_worker(id, false);
    }

    /// A worker is no longer there: what it had goes back to the queue, or ends. Nobody is to blame if it was planned.
    pub(super) fn drop_worker(&mut self, id: WorkerId, is_planned: bool) {
        let before = self.window();
        self.spread_at(id);
        self.set_suspect(id, true);
        let Some(mut worker) = self.workers.remove(&id) else { return };
        [&mut self.idle, &mut self.laden, &mut self.troubled].into_iter().for_each(|list| {
            list.remove(&id);
        });
        for (client, state) in &mut self.clients {
            state.at_workers -= worker.shares.of(*client);
        }
        self.forget_end(id);
        if !is_planned {
            self.former.insert(id, (worker.inherited, std::mem::take(&mut worker.worked_for)));
        }
        if worker.is_open() {
            self.set_open_workers(self.open_workers - 1);
        }
        for (program, rank) in &worker.listed {
            self.room.get_mut(program).map(|room| room.remove(&(*rank, id)));
        }
        // Its allocation was over: it could not say goodbye.
        let is_over = worker.left(self.now).is_some_and(|left| left.is_zero());
        let obituary = format!("{}: not heard for {:.1?}", worker.name, self.now.since(worker.heard));
        for client in self.clients.keys().copied().collect::<Vec<_>>() {
            self.on_held(id, client, false);
            self.take_from(client, id, &worker.name, (!is_planned && !is_over).then_some(&obituary));
        }
        self.forget_asked(id);
        self.forget_questions(id);
        self.note_accounted(id);
        self.unplaced = true;
        self.announce_window(before);
    }

    fn take_from(&mut self, id: ClientId, worker: WorkerId, name: &str, obituary: Option<&String>) {
        let client = self.clients.get_mut(&id).expect("listed by the caller");
        if obituary.is_some() {
            client.expose_moved(worker);
        }
        let there = |task: &Task| task.state.worker() == Some(worker);
        // Last first, as each goes to the front of the queue.
        for task in client.tasks.sorted_keys(there).into_iter().rev() {
            match obituary {
                Some(obituary) => self.bereave(id, task, worker, obituary),
                None => {
                    self.requeue(id, task);
                    // What has not begun was handed back before: this has, and its result goes with the worker.
                    if self.state_of(id, task).is_some() && self.needs_free_slot(id, task) {
                        self.bury(id, task, name);
                    }
                }
            }
        }
        self.forget_if_done(id);
    }

    /// A task's worker was lost.
    fn bereave(&mut self, id: ClientId, task_id: TaskId, worker: WorkerId, obituary: &str) {
        let client = self.clients.get_mut(&id).expect("listed by the caller");
        let task = client.tasks.get_mut(task_id).expect("listed by the caller");
        let attempt = task.attempt;
        if matches!(task.state, State::Cancelling { .. }) {
            return self.requeue(id, task_id);
        }
        let is_held = matches!(task.state, State::Held { .. });
        task.exposures = task.exposures.saturating_add(u8::from(!is_held && !task.started));
        let is_suspect = !is_held && (task.started || task.exposures >= EXPOSURES || planted!(ChargeAll));
        task.losses = task.losses.saturating_add(u8::from(is_suspect));
        let losses = u32::from(task.losses);
        let charge = match (is_suspect, is_held) {
            (true, _) => Charge::Loss,
            (false, true) => Charge::None,
            (false, false) => Charge::Exposure,
        };
        let given_up = GivenUp { worker, attempt, charge };
        client.given_up.entry(task_id).or_default().push(given_up);
        let limits = client.specs[task.spec.0 as usize].what.clone();
        if !limits.rerun || is_suspect {
            client.obituaries.entry(task_id).or_default().push((Some(worker), obituary.to_owned()));
        }
        if (!limits.rerun && !planted!(RerunAll)) || (is_suspect && losses >= limits.loss_limit) {
            return self.end_as_lost(id, task_id);
        }
        self.requeue(id, task_id);
        if is_suspect {
            self.park(id, task_id, Wish { alone: true, ..Wish::default() });
        }
    }

    /// Ends a task whose attempts were lost.
    pub(super) fn end_as_lost(&mut self, id: ClientId, task_id: TaskId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let lines = client.obituaries.remove(&task_id).unwrap_or_default();
        let workers = lines.into_iter().map(|(_, line)| line).collect();
        let Some(task) = self.end_task(id, task_id) else { return };
        let attempts = task.ended().max(1);
        self.end_here(id, task_id, attempts, &Failure::Lost { workers });
        self.forget_if_done(id);
    }

    /// Calls back what else runs of a task that has ended.
    pub(super) fn forget_given_up(&mut self, id: ClientId, task: TaskId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        client.obituaries.remove(&task);
        for GivenUp { worker, attempt, .. } in client.given_up.remove(&task).unwrap_or_default() {
            self.tell_worker(worker, ToWorker::Cancel { client: id, task, attempt });
        }
    }

    /// Lets the sessions end of clients that were away for too long.
    pub(super) fn end_sessions(&mut self) {
        if planted!(GraceForEver) {
            return;
        }
        let grace = self.config.client_grace;
        let over = self.ends(grace).filter(|(_, end)| *end <= self.now);
        for client in over.map(|(id, _)| id).collect::<Vec<_>>() {
            self.trim(client);
            if self.clients[&client].ends(grace).is_some_and(|end| end <= self.now) {
                self.end_session(client);
            }
        }
    }

    /// A client's results are recorded, so another process of its program may go on with its session.
    pub(super) fn on_keep(&mut self, id: ClientId, seconds: u32) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.keep_for = Duration::from_secs(u64::from(seconds)).min(KEEP_MAX);
        }
    }

    pub(super) fn next_session_end(&self) -> Option<Time> {
        if planted!(GraceForEver) {
            return None;
        }
        let grace = self.config.client_grace;
        self.ends(grace).map(|(_, end)| end).min()
    }

    /// Clients whose sessions end, and when.
    fn ends(&self, grace: Duration) -> impl Iterator<Item = (ClientId, Time)> {
        self.away.iter().filter_map(move |id| Some((*id, self.clients[id].ends(grace)?)))
    }

    /// A client's connection broke: it has a while to come back.
    pub(super) fn on_client_lost(&mut self, id: ClientId) {
        if !self.config.liveness || planted!(NoGrace) {
            return self.end_session(id);
        }
        if let Some(client) = self.clients.get_mut(&id) {
            client.spread_all();
            client.detached = Some(self.now);
            client.watch = Default::default();
            self.away.insert(id);
            self.watching.remove(&id);
        }
    }

    /// Tells a client that is here. One that is away finds its results when it is back: workers keep them.
    pub(super) fn tell_client(&mut self, id: ClientId, message: ToClient, body: Payload) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.gone || client.detached.is_some() {
            return;
        }
        if let ToClient::Finished { task, .. } = message {
            client.resume.note_passed(task);
        }
        self.actions.push_back(Action::TellClient { client: id, message, body });
    }
}
