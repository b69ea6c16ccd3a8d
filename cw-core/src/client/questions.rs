//! What running tasks ask. See `wire/checkpoint.rs`.

use std::collections::BTreeMap;

use super::{Action, Client, State};
use crate::{
    Payload,
    ids::{Attempt, TaskId},
    wire::{Answer, Ask, FromClient},
};

/// What each task asked last, by attempt and number; of those that have asked anything.
pub(super) type Asked = BTreeMap<TaskId, (Attempt, u32)>;

impl Client {
    pub(super) fn on_asks(
        &mut self,
        (task, attempt, number): (TaskId, Attempt, u32),
        ask: Ask,
        body: Payload,
    ) {
        self.set_apart(task);
        if !self.tasks.get(task).is_some_and(|entry| entry.state != State::Recording) {
            let why = Payload::from_static(b"its task has ended");
            return self.say_answer((task, attempt, number), Answer::Failed, why);
        }
        let last = self.asked.entry(task).or_default();
        let is_old = (attempt, number) < *last;
        *last = (*last).max((attempt, number));
        if is_old && ask == Ask::Save && !planted!(TakeOldSaves) {
            // What a later attempt has counts for more.
            return self.say_answer((task, attempt, number), Answer::Done, Payload::new());
        }
        self.actions.push_back(Action::Ask { task, attempt, number, ask, body });
    }

    /// The program's disk has done what was asked. Without a master nobody hears, and it is asked again.
    pub(super) fn say_answer(
        &mut self,
        (task, attempt, number): (TaskId, Attempt, u32),
        answer: Answer,
        body: Payload,
    ) {
        if self.connected {
            self.tell(FromClient::Answers { task, attempt, number, answer }, body);
        }
    }
}
