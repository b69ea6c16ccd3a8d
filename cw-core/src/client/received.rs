//! What workers may forget.

use super::Client;
use crate::{
    Payload,
    ids::{Attempt, TaskId, WorkerId},
    wire::FromClient,
};

/// Results of consecutive tasks that one worker may forget.
#[derive(Debug)]
pub(super) struct Received {
    worker: WorkerId,
    attempt: Attempt,
    first: TaskId,
    tasks: u32,
}

impl Received {
    /// Whether it goes on with this task.
    fn goes_on(&self, task: TaskId, attempt: Attempt, worker: WorkerId) -> bool {
        self.worker == worker && self.attempt == attempt && self.first.0 + u64::from(self.tasks) == task.0
    }
}

impl Client {
    /// The results of so many consecutive tasks from the first on may be forgotten.
    pub(super) fn acknowledge(
        &mut self,
        (first, tasks): (TaskId, u32),
        attempt: Attempt,
        worker: Option<WorkerId>,
    ) {
        let Some(worker) = worker.filter(|_| self.connected) else { return };
        match &mut self.received {
            Some(received) if received.goes_on(first, attempt, worker) => received.tasks += tasks,
            _ => {
                self.say_received();
                self.received = Some(Received { worker, attempt, first, tasks });
            }
        }
    }

    pub(super) fn say_received(&mut self) {
        if let Some(Received { worker, attempt, first, tasks }) = self.received.take() {
            self.tell(FromClient::Received { first, tasks, attempt, worker }, Payload::new());
        }
    }
}
