//! What a master says to have sent to workers. The next master is not told that by anybody else: what may have run is
//! looked for, and never begun anew where it must not run twice.

use super::{Client, Completion};
use crate::{
    Payload,
    ids::TaskId,
    wire::{Failure, FromClient},
};

impl Client {
    /// What must not run twice is dispatched only once the client knows of that.
    pub(super) fn on_dispatched(&mut self, below: TaskId) {
        self.dispatched = self.dispatched.max(below);
        if self.specs.iter().any(|spec| !spec.rerun) {
            self.tell(FromClient::Noted { below }, Payload::new());
        }
    }

    /// Whether a task must not run twice and may have run.
    pub(super) fn may_have_begun_once(&self, task: TaskId) -> bool {
        let spec = self.tasks.get(task).and_then(|entry| self.specs.get(entry.spec.0 as usize));
        task < self.dispatched && spec.is_some_and(|spec| !spec.rerun)
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
