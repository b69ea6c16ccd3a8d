//! The programs a worker runs: which it has, which it fetches, which it cannot run here.
//!
//! ```text
//!           Meet, Run             Fetched (Ok)
//!  Missing -----------> Fetching --------------> Here -----> executors start
//!     ^                  ^    |                   |
//!     | no client left,  |    | Fetched (Err)     | executors die before they are ready
//!     | too many spare   |    v                   v
//!     +----------------  +-- Unfit: the master is told, tasks go back <--+
//!                       Run
//! ```
//!
//! Executors are of an [`Origin`]: two clients of one program that were started in different folders have executors of
//! their own.

use std::collections::BTreeSet;

use super::{Action, Worker, held::End};
use crate::{
    Payload, Time, gathered,
    ids::{ClientId, ExecutorId, ProgramId, SettingId},
    wire::{Failure, FromWorker, Output, Programs, Returned},
};

/// So many different remarks are passed on to a client.
const REMARKS_MAX: usize = 16;

/// A program, and what its executors are started with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The program.
    pub program: ProgramId,
    /// Working directory and environment, by hash.
    pub setting: SettingId,
}

/// A program as its worker knows it.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) image: Image,
    /// When its last client had gone.
    left: Time,
}

/// Executors of one kind that died before they were ready, in a row.
#[derive(Debug, Default)]
pub(super) struct Starts {
    pub(super) failures: u32,
    /// No other is started before then.
    pub(super) after: Time,
}

/// Whether a program can be executed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Image {
    Fetching,
    Here,
    /// It could not be had, or its executors do not start.
    Unfit,
}

impl Program {
    /// One that is there.
    pub(super) fn here() -> Self {
        Self { image: Image::Here, left: Time::ZERO }
    }
}

impl Worker {
    /// A client whose tasks will come. It comes on every lane, so perhaps twice.
    pub(super) fn on_meet(&mut self, id: ClientId, origin: Origin, output: Output, body: Payload) {
        let client = self.clients.entry(id).or_default();
        client.output = output;
        // Another process may go on with the client's session; what is here began as the first one said.
        let origin = *client.origin.get_or_insert(origin);
        self.bodies.entry(origin).or_insert(body);
        self.want(origin);
    }

    /// Of what a client's executors are.
    pub(super) fn origin_of(&self, client: ClientId) -> Origin {
        self.clients.get(&client).and_then(|client| client.origin).unwrap_or(self.config.own)
    }

    /// Has a program fetched, unless it is here or on its way. What could not be had may be by now.
    pub(super) fn want(&mut self, origin: Origin) {
        let program = origin.program;
        let known = self.programs.get(&program).map(|program| program.image);
        if matches!(known, Some(Image::Here | Image::Fetching)) {
            return;
        }
        self.programs.entry(program).or_insert_with(Program::here).image = Image::Fetching;
        if self.config.programs == Programs::Own && program != self.config.own.program {
            let why = "this worker runs its own program only".to_owned();
            return self.on_fetched(program, Err(why));
        }
        let body = self.bodies.get(&origin).cloned().unwrap_or_default();
        self.actions.push_back(Action::Fetch { program, body });
    }

    pub(super) fn on_fetched(&mut self, id: ProgramId, result: Result<(), String>) {
        let Some(program) = self.programs.get_mut(&id).filter(|it| it.image == Image::Fetching) else {
            return;
        };
        match result {
            Ok(()) => {
                program.image = Image::Here;
                self.tidy();
            }
            Err(why) => self.give_up(id, why),
        }
    }

    /// A program cannot be run here: others may do better.
    pub(super) fn give_up(&mut self, id: ProgramId, why: String) {
        if let Some(program) = self.programs.get_mut(&id) {
            program.image = Image::Unfit;
        }
        self.starts.retain(|origin, _| origin.program != id);
        // Before the tasks, which would come back at once.
        self.tell(FromWorker::Unfit { program: id, why: why.into() }, Payload::new());
        for pending in self.take_pending(id) {
            self.give_back(&pending, Returned::NotStarted);
        }
        self.tidy();
    }

    /// Whether clients have executors of the same program that differ from these.
    pub(super) fn has_other_origin(&self, origin: Origin) -> bool {
        let mut origins = self.clients.values().filter_map(|client| client.origin);
        origins.any(|other| other.program == origin.program && other != origin)
    }

    /// Executors of this kind do not start, and there is nowhere else, or it is the client's own doing.
    pub(super) fn refuse(&mut self, origin: Origin, failure: &Failure) {
        self.starts.remove(&origin);
        for pending in self.queue.take_all(origin, |_| true) {
            let running = super::Running::of(&pending, 0, None);
            self.finish(&running, End::of(failure, 0, &Payload::new()));
        }
    }

    fn take_pending(&mut self, id: ProgramId) -> Vec<super::Pending> {
        let of_program = |origin: &Origin| origin.program == id;
        let origins: BTreeSet<Origin> = gathered(self.queue.origins().filter(of_program));
        origins.into_iter().flat_map(|origin| self.queue.take_all(origin, |_| true)).collect()
    }

    /// Passes on what the users of an executor's clients should know, to each once.
    pub(super) fn on_remark(&mut self, executor: ExecutorId, what: Box<str>) {
        let Some(slot) = self.executors.get(executor) else { return };
        let (origin, own) = (self.slots[*slot].origin, self.config.own);
        let of_origin = self.clients.iter().filter(|(_, client)| client.origin.unwrap_or(own) == origin);
        let clients = gathered(of_origin.map(|(id, _)| *id));
        self.remark(clients, what);
    }

    /// Tells the users of these clients something, once.
    pub(super) fn remark(&mut self, clients: BTreeSet<ClientId>, what: Box<str>) {
        for id in clients {
            let Some(client) = self.clients.get_mut(&id) else { continue };
            if client.remarks.len() < REMARKS_MAX && client.remarks.insert(what.clone()) {
                self.tell(FromWorker::Remark { client: id, what: what.clone() }, Payload::new());
            }
        }
    }

    /// Whether executors of a kind can be started now.
    pub(super) fn can_start(&self, origin: Origin) -> bool {
        self.is_here(origin) && !self.is_put_off(origin)
    }

    fn is_here(&self, origin: Origin) -> bool {
        self.programs.get(&origin.program).is_some_and(|program| program.image == Image::Here)
    }

    /// Whether executors of a kind are not started only since one has just died.
    pub(super) fn is_put_off(&self, origin: Origin) -> bool {
        self.is_here(origin) && self.starts.get(&origin).is_some_and(|starts| starts.after > self.now)
    }

    /// Forgets what no client and no executor is of any more, but for some programs that may be wanted again.
    pub(super) fn tidy(&mut self) {
        let own = self.config.own;
        self.tidy_shares();
        let (clients, slots) = (&self.clients, &self.slots);
        let is_used = |origin: Origin| {
            let of_slot = slots.iter().any(|slot| slot.id.is_some() && slot.origin == origin);
            of_slot || clients.values().any(|client| client.origin.unwrap_or(own) == origin)
        };
        self.bodies.retain(|origin, _| is_used(*origin));
        self.starts.retain(|origin, _| *origin == own || is_used(*origin));
        self.queue.tidy(|origin| origin == own || is_used(origin));
        let used: Vec<ProgramId> =
            self.bodies.keys().map(|origin| origin.program).chain([own.program]).collect();
        for (id, program) in &mut self.programs {
            if used.contains(id) {
                program.left = self.now;
            }
        }
        let is_spare =
            |(id, program): &(&ProgramId, &Program)| !used.contains(id) && program.image != Image::Fetching;
        let mut spare: Vec<(Time, ProgramId)> =
            self.programs.iter().filter(is_spare).map(|(id, program)| (program.left, *id)).collect();
        spare.sort_unstable();
        let excess = spare.len().saturating_sub(self.config.spare_programs);
        for (_, program) in spare.into_iter().take(excess) {
            self.programs.remove(&program);
            self.actions.push_back(Action::Drop { program });
        }
    }
}
