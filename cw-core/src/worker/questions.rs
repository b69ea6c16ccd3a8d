//! What running tasks ask of their clients, until they are answered. See `wire/checkpoint.rs`.

use super::{Action, Worker, executors::Executor, executors::Slot};
use crate::{
    Payload,
    ids::{Attempt, ClientId, ExecutorId, TaskId},
    wire::{Answer, Ask, FromWorker, STATE_BYTES_MAX, ToExecutor},
};

/// What the first task of an executor's batch has asked.
#[derive(Debug)]
pub(super) struct Question {
    number: u32,
    ask: Ask,
    body: Payload,
}

impl Slot {
    /// The attempt that runs here, if it has asked something and was not answered.
    fn asks(&self) -> Option<(ClientId, TaskId, Attempt)> {
        let Executor::Busy { batch, .. } = &self.executor else { return None };
        let first = batch.front().filter(|_| self.question.is_some())?;
        Some((first.client, first.task, first.attempt))
    }
}

impl Worker {
    /// A task asks: from now on nothing is fed behind it, as nobody knows when it is answered.
    pub(super) fn on_asks(
        &mut self,
        executor: ExecutorId,
        (task, attempt): (TaskId, Attempt),
        (number, ask): (u32, Ask),
        body: Payload,
    ) {
        let Some(slot) = self.slot_of(executor) else { return };
        let Executor::Busy { batch, stuck, .. } = &mut slot.executor else { return };
        let is_it = |it: &&super::Running| (it.task, it.attempt) == (task, attempt) && !it.cancelled;
        let Some(client) = batch.front().filter(is_it).map(|it| it.client) else { return };
        *stuck = true;
        if body.len() > STATE_BYTES_MAX {
            let why = format!("{} bytes, over the limit of {STATE_BYTES_MAX}", body.len());
            return self.answer(executor, number, Answer::Failed, why.into_bytes().into());
        }
        slot.question = Some(Box::new(Question { number, ask, body: body.clone() }));
        self.tell(FromWorker::Asks { client, task, attempt, number, ask }, body);
    }

    /// The client has answered. Only the very question that waits is.
    pub(super) fn on_answers(
        &mut self,
        of: (ClientId, TaskId, Attempt),
        (number, answer): (u32, Answer),
        body: Payload,
    ) {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.asks() == Some(of)) else { return };
        if slot.question.as_ref().is_some_and(|it| it.number == number || planted!(AnswerAny))
            && let Some(executor) = slot.id
        {
            slot.question = None;
            self.answer(executor, number, answer, body);
        }
    }

    fn answer(&mut self, executor: ExecutorId, number: u32, answer: Answer, body: Payload) {
        let message = ToExecutor::Answers { number, answer };
        self.actions.push_back(Action::Feed { executor, message, body });
    }

    /// The master has, or may have, dropped a question.
    pub(super) fn on_ask_again(&mut self, client: ClientId, task: TaskId, attempt: Attempt) {
        match self.slots.iter().position(|slot| slot.asks() == Some((client, task, attempt))) {
            Some(place) => self.say_question(place),
            None => self.tell(FromWorker::AsksNothing { client, task, attempt }, Payload::new()),
        }
    }

    /// Asks all again, of another master, or on another connection.
    pub(super) fn say_questions(&mut self) {
        if !planted!(AskOnce) {
            (0..self.slots.len()).for_each(|place| self.say_question(place));
        }
    }

    fn say_question(&mut self, place: usize) {
        let slot = &self.slots[place];
        let (Some((client, task, attempt)), Some(question)) = (slot.asks(), &slot.question) else { return };
        let (number, ask, body) = (question.number, question.ask, question.body.clone());
        self.tell(FromWorker::Asks { client, task, attempt, number, ask }, body);
    }
}
