//! The programs that clients are of, and the workers that run them.
//!
//! A worker that runs any program stands in the list of each that has clients. Where it finds that it cannot run one, it
//! is sent no tasks of it for [`UNFIT_FOR`], or until the last client of that program is gone.

use std::time::Duration;

use super::{Action, Master, clients::Introduction};
use crate::{
    Payload, Time,
    ids::{ClientId, ProgramId, WorkerId},
    wire::{ToClient, ToWorker},
};

/// For how long a worker's word that it cannot run a program is believed: its disk may have room again.
const UNFIT_FOR: Duration = Duration::from_secs(30);

/// Longest word of a worker's that is passed on, in characters.
const WORD_MAX: usize = 600;

impl Master {
    /// Another client is of this program.
    pub(super) fn open_program(&mut self, program: ProgramId) {
        let clients = self.programs.entry(program).or_default();
        *clients += 1;
        if *clients <= 2 {
            self.list_all();
        }
    }

    /// A client of this program is gone.
    pub(super) fn close_program(&mut self, program: ProgramId) {
        self.drop_clock(program);
        let Some(clients) = self.programs.get_mut(&program) else { return };
        *clients -= 1;
        let left = *clients;
        if left > 0 {
            // What is left of the clients may be one, which shares with nobody.
            return self.list_all();
        }
        self.programs.remove(&program);
        self.workers.values_mut().for_each(|worker| worker.forget_program(program));
        self.list_all();
        self.room.remove(&program);
    }

    /// A client of this program is here, or here again: what could not be had before may be now.
    pub(super) fn forgive(&mut self, program: ProgramId) {
        let was_unfit = |worker: &mut super::Worker| worker.unfit.remove(&program).is_some();
        let again: Vec<WorkerId> =
            self.workers.iter_mut().filter_map(|(id, worker)| was_unfit(worker).then_some(*id)).collect();
        for worker in again {
            self.note_room(worker);
            self.unplaced = true;
        }
    }

    /// It turns out of which program a client is.
    pub(super) fn change_program(&mut self, id: ClientId, from: ProgramId, to: ProgramId) {
        if from == to {
            return;
        }
        self.workers.values_mut().for_each(|worker| worker.move_load(id, from, to));
        for spec in self.clients.get_mut(&id).into_iter().flat_map(|client| &mut client.specs) {
            self.habits.close(spec.habit);
            spec.habit = self.habits.open(to, spec.what.job);
            if !spec.learned.is_known() {
                spec.learned = self.habits.learned(spec.habit);
            }
        }
        self.open_program(to);
        self.close_program(from);
    }

    /// Whether several clients are of a program.
    pub(super) fn is_shared(&self, program: ProgramId) -> bool {
        self.programs.get(&program).is_some_and(|clients| *clients > 1)
    }

    fn list_all(&mut self) {
        for worker in self.workers.keys().copied().collect::<Vec<_>>() {
            self.note_room(worker);
        }
    }

    /// What stands for all programs that may run on the same workers.
    pub(super) fn pool_of(&self, program: ProgramId) -> ProgramId {
        if self.open_workers > 0 { ProgramId::default() } else { program }
    }

    /// With the first worker that runs any program all programs share a clock, and with the last each has its own again:
    /// it goes on where the furthest of those before stood.
    pub(super) fn set_open_workers(&mut self, workers: u32) {
        let were_shared = std::mem::replace(&mut self.open_workers, workers) > 0;
        if were_shared == (workers > 0) {
            return;
        }
        let before = std::mem::take(&mut self.clocks);
        let furthest = before.values().copied().max().unwrap_or_default();
        for program in self.programs.keys().copied().collect::<Vec<_>>() {
            self.clocks.insert(self.pool_of(program), furthest);
        }
        for (id, client) in &mut self.clients {
            // Each stays where it stood beside the clock.
            let pool = if were_shared { ProgramId::default() } else { client.program };
            let behind = furthest - before.get(&pool).copied().unwrap_or_default();
            let was_listed = self.waiting.remove(&(client.usage, *id));
            client.usage = client.usage.saturating_add(behind);
            if was_listed {
                self.waiting.insert((client.usage, *id));
            }
        }
    }

    /// Whether two workers run the same programs.
    pub(super) fn are_alike(&self, one: WorkerId, other: WorkerId) -> bool {
        let of = |id| self.workers.get(&id).map(|worker| (worker.is_open(), worker.of.program));
        match (of(one), of(other)) {
            (Some((false, one)), Some((false, other))) => one == other,
            (Some((one, _)), Some((other, _))) => one == other,
            _ => false,
        }
    }

    /// Tells a worker of a client whose tasks will come.
    pub(super) fn introduce(&mut self, id: ClientId, to: WorkerId) {
        let client = &self.clients[&id];
        let Introduction { setting, output, body } = client.introduction.clone();
        let message = ToWorker::Meet { client: id, program: client.program, setting, output };
        self.actions.push_back(Action::TellWorker { worker: to, message, body });
        let bytes = self.config.credit(self.workers.len());
        if self.workers.get_mut(&to).expect("it is about to be sent a task").meet(id) {
            self.tell_worker(to, ToWorker::Credit { client: id, bytes });
        }
    }

    /// A worker cannot run a program.
    pub(super) fn on_unfit(&mut self, id: WorkerId, program: ProgramId, why: Box<str>) {
        let until = self.now + UNFIT_FOR;
        let is_known = self.programs.contains_key(&program);
        if let Some(worker) = self.workers.get_mut(&id)
            && (is_known && !planted!(IgnoreUnfit))
        {
            worker.unfit.insert(program, (until, tamed(&why)));
            self.troubled.insert(id);
            self.note_room(id);
            self.unplaced = true;
        }
    }

    /// Lets workers try again what they could not run.
    pub(super) fn try_unfit(&mut self) {
        let now = self.now;
        let mut again = Vec::new();
        for id in &self.troubled {
            let Some(worker) = self.workers.get_mut(id) else { continue };
            let before = worker.unfit.len();
            worker.unfit.retain(|_, (until, _)| *until > now);
            again.extend((worker.unfit.len() < before).then_some(*id));
        }
        for worker in again {
            self.note_room(worker);
            self.unplaced = true;
        }
    }

    pub(super) fn next_try(&self) -> Option<Time> {
        self.troubled().flat_map(|worker| worker.unfit.values()).map(|(until, _)| *until).min()
    }

    /// Whether any client is of this program.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn has_clients_of(&self, program: ProgramId) -> bool {
        self.programs.contains_key(&program)
    }

    pub(super) fn on_remark(&mut self, id: WorkerId, client: ClientId, what: Box<str>) {
        let Some(worker) = self.workers.get(&id).filter(|worker| worker.knows(client)) else { return };
        let (worker, what) = (worker.name.clone(), tamed(&what));
        self.tell_client(client, ToClient::Remark { worker, what }, Payload::new());
    }
}

/// A worker's word, fit to be shown.
fn tamed(word: &str) -> Box<str> {
    let fit: String = word.chars().filter(|c| !c.is_control()).take(WORD_MAX).collect();
    fit.into()
}
