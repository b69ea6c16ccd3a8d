//! What the loop answers to the keeper, and how the keeper's work ends.

use std::sync::atomic::Ordering;

use cw_core::{ids::WorkerId, keeper::Here, master::Event};

use super::Shell;
use crate::launch::keeper::{KeeperLink, View, Word};

/// Names of workers that may have gone, beyond one for each that is here.
const SPARE_NAMES: usize = 64;

/// What the next word is; there is none without a keeper.
pub(super) async fn next_word(keeper: &mut Option<KeeperLink>) -> Option<Word> {
    keeper.as_mut()?.words.recv().await
}

impl Shell {
    pub(super) fn on_word(&mut self, word: Word) {
        match word {
            Word::How(answer) => {
                // There is room for it; whoever asked may have ended.
                let _ = answer.try_send(self.view());
            }
            Word::Outlook(why) => {
                match &why {
                    Some(why) => tracing::debug!("outlook: {why}"),
                    None => tracing::debug!("outlook: nothing is in the way"),
                }
                self.machine.handle(self.clock.now(), Event::Outlook { why });
            }
        }
    }

    fn view(&self) -> View {
        let here =
            |(worker, slots, is_proven)| Here { job: self.launched.get(&worker).cloned(), slots, is_proven };
        View { backlog: self.machine.backlog(), workers: self.machine.workforce().map(here).collect() }
    }

    /// Keeps what a worker is called by the engine that started it, and not much longer than it may come back.
    pub(super) fn note_launched(&mut self, worker: WorkerId, name: Option<String>) {
        let Some(name) = name else { return };
        self.launched.insert(worker, name);
        if self.launched.len() > 2 * self.workers.all.len() + SPARE_NAMES {
            let here: std::collections::HashSet<WorkerId> =
                self.machine.workforce().map(|(worker, ..)| worker).collect();
            self.launched.retain(|worker, _| here.contains(worker));
        }
    }

    /// Lets the keeper know whether there is a worker, without being asked.
    pub(super) fn note_workers(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.has_workers.store(!self.workers.all.is_empty(), Ordering::Relaxed);
        }
    }

    /// From now on nothing is started.
    pub(super) fn close_keeper(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.closer.close();
        }
    }
}
