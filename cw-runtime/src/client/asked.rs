//! What tasks of this client ask, and under which names that is kept.

use std::collections::BTreeMap;

use cw_core::{
    Payload,
    ids::TaskId,
    wire::{Ask, Class},
};

use super::hub::Desk;
use crate::checkpoints::{self, Key, Of};

/// The tasks that have asked anything and not ended.
pub(super) type Asked = BTreeMap<TaskId, Key>;

impl Desk {
    pub(super) fn ask(&mut self, of: Of, ask: Ask, body: Payload) {
        let task = of.0;
        let ticket = self.tickets.get(task);
        let name = || ticket.map_or_else(|| Key::of_run(task), |ticket| ticket.checkpoints());
        let key = *self.asked.entry(task).or_insert_with(name);
        checkpoints::ask(self.hub(), key, of, ask, body);
    }

    pub(super) fn end_asked(&mut self, task: TaskId, class: Class) {
        if let Some(key) = self.asked.remove(&task) {
            checkpoints::end(key, class);
        }
    }
}
