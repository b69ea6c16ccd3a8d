//! What a store's thread does with the sessions of processes that were killed, and with calls that those had made.

use cw_core::{
    claims::{Ended, Found, Key},
    client::Completion,
    resume::Place,
    wire::Failure,
};

use super::{
    Call, Kept,
    claims::{self, Called},
    rows::{self, SentRow, Write},
    sent::Entry,
    thread::Keeper,
};
use crate::{
    api::refused,
    client::{hub::Command, session},
};

/// So many earlier processes' sessions are gone on with at most, the newest.
const SESSIONS_MAX: usize = 8;

impl Keeper {
    /// Goes on with the sessions of processes that were killed, as far as their tasks are of any use.
    pub(super) fn go_on(&mut self) {
        let all = self.read(rows::sessions(&self.file.connection));
        let newest = all.len().saturating_sub(SESSIONS_MAX);
        let cluster = session::cluster().map(|wanted| wanted.name());
        for (number, row) in all.into_iter().enumerate() {
            if number < newest {
                self.write(Write::ForgetSession { id: row.id });
                continue;
            }
            if cluster.as_ref() != Some(&row.cluster) {
                // A run there may yet go on with it.
                continue;
            }
            if row.build != self.build || session::is_fresh() {
                self.sessions.end_session(&row);
                continue;
            }
            let sent = self.read(rows::sent(&self.file.connection, row.id));
            let db = &self.file.connection;
            let is_there = |sent: &SentRow, entry: &Entry| match rows::at(db, entry.place) {
                Ok(head) => {
                    head.is_some_and(|head| head.is_ok && head.hash == entry.hash && head.job == sent.job)
                }
                Err(_) => false,
            };
            self.sessions.go_on(&self.store, &row, &sent, |sent, entry| !is_there(sent, entry));
        }
        self.forget_sessions();
    }

    pub(super) fn forget_sessions(&mut self) {
        for id in self.sessions.end_over() {
            self.write(Write::ForgetSession { id });
        }
    }

    /// No row has the call's result. An earlier process may have handed it in.
    pub(super) fn begin(&mut self, mut call: Call, job: i64, place: Place) {
        // A worker that has the task of the earlier process may yet ask for the arguments.
        if let Some(hub) = self.hub.as_ref().filter(|_| !self.sessions.is_empty()) {
            call.args = hub.offer(call.args);
        }
        match self.sessions.find(job, call, place) {
            Found::Nothing(Called { call, place }) => self.submit(call, job, place),
            Found::Waits(_) => {}
            Found::Result(key, called, completion) => self.take_claimed(key, called, completion),
        }
    }

    /// A call has the result that an earlier process's session brought, once it is recorded.
    fn take_claimed(&mut self, key: Key, called: Called, completion: Completion) {
        let Called { call: Call { task, job, hash, args, sink, .. }, place } = called;
        self.words.drained += 1;
        self.record(Kept { job, hash, args }, self.place_now(place), task, completion.clone());
        self.answers.push(Command::Answer { task, sink, completion });
        self.claimed.push(key);
    }

    pub(super) fn on_claim_ended(&mut self, key: Key, completion: Completion) {
        match self.sessions.end(key, completion) {
            Ended::Kept | Ended::Gone => {}
            Ended::Result(called, completion) => self.take_claimed(key, called, completion),
            Ended::Runs(Called { call, place }) => {
                // A run between may have handed it in as well.
                let job = self.job(call.job);
                self.begin(call, job, self.place_now(place));
            }
        }
        self.forget_sessions();
    }

    /// Calls that wait for what an earlier process left are not with the hub.
    pub(super) fn cancel_claimed(&mut self, command: &Command) {
        if self.sessions.is_empty() {
            return;
        }
        let calls = match command {
            Command::Cancel(task) => self.sessions.cancel(*task).into_iter().collect(),
            Command::CancelStream(stream) => self.sessions.cancel_all(|call| claims::is_of(call, stream)),
            _ => return,
        };
        for call in calls {
            let completion = refused(&Failure::Cancelled);
            self.out.push(Command::Answer { task: call.task, sink: call.sink, completion });
        }
        self.forget_sessions();
    }
}
