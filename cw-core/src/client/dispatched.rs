//! What a master says to have sent to workers. The next master is not told that by anybody else: what may have run is
//! looked for, and never begun anew where it must not run twice.

use super::{Client, Completion};
use crate::{
    Payload,
    ids::{SpecIndex, TaskId},
    wire::{Failure, FromClient},
};

impl Client {
    pub(super) fn on_dispatched(&mut self, below: TaskId) {
        self.dispatched = self.dispatched.max(below);
    }

    /// What must not run twice is dispatched only once the client knows of that.
    pub(super) fn on_dispatched_once(&mut self, spec: SpecIndex, below: TaskId) {
        if self.is_once(spec) {
            let known = self.dispatched_once.entry(spec).or_insert(below);
            *known = below.max(*known);
            self.tell(FromClient::Noted { spec, below }, Payload::new());
        }
    }

    /// In a new session nothing has been dispatched.
    pub(super) fn forget_dispatched(&mut self) {
        self.dispatched = TaskId(0);
        self.dispatched_once.clear();
    }

    fn is_once(&self, spec: SpecIndex) -> bool {
        self.specs.get(spec.0 as usize).is_some_and(|spec| !spec.rerun)
    }

    /// Whether a worker may have had a task, by what masters have said. Tasks of a spec that must not run twice are told of
    /// apart: what was laid aside of one has not begun, whatever was sent of the others.
    pub(super) fn may_have_begun(&self, task: TaskId) -> bool {
        let Some(spec) = self.tasks.get(task).map(|entry| entry.spec) else { return false };
        match self.is_once(spec) {
            true => self.dispatched_once.get(&spec).is_some_and(|below| task < *below),
            false => task < self.dispatched,
        }
    }

    /// Whether a task must not run twice and may have run.
    pub(super) fn may_have_begun_once(&self, task: TaskId) -> bool {
        let is_once = self.tasks.get(task).is_some_and(|entry| self.is_once(entry.spec));
        is_once && self.may_have_begun(task)
    }

    /// Ends a task that may have run in a session that is over.
    pub(super) fn lose(&mut self, task: TaskId) {
        let Some(entry) = self.tasks.get(task) else { return };
        let (bytes, durable) = (self.size(entry.spec, &entry.args).bytes, entry.durable);
        self.drop_again(bytes);
        let workers = vec!["its worker was told that this program had ended".to_owned()];
        self.conclude(task, durable, Completion::local(&Failure::Lost { workers }));
    }
}
