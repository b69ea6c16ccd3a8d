//! The connections to the sessions of earlier processes; [`cw_core::claims`] decides.
//!
//! When the program ends in order, what nobody has called is not wanted any more, and its sessions end with it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use cw_core::{
    claims::{Claims, Ended, Found, Key},
    client::{self, Completion},
    ids::{SpecIndex, TaskId},
    resume::Place,
    wire::{Class, Role, Session, Spec, Token},
};

use super::{
    Call, Store, Ticket, TicketOf,
    rows::{SentRow, SessionRow},
    sent::Entry,
};
use crate::{
    client::{
        hub::{Command, Hub},
        remote, session,
        sink::{Sink, StreamQueue},
    },
    net::connect::{Search, Wanted},
    program,
};

/// How long the master is looked for. This process's own client has found it.
const SEARCH: Duration = Duration::from_secs(10);

/// What no call has asked for, so long after the last that found anything, is given up: it is in the way of others.
const UNCALLED: Duration = Duration::from_secs(10);

/// So many tasks of one session are claimed at most, the oldest: far more than a master has of one client.
const CLAIMS_MAX: usize = 256 << 10;

/// How long the end of all sessions is waited for.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// All sessions that this process goes on with.
#[derive(Default)]
pub(super) struct Sessions {
    claims: Claims<Called>,
    /// By their numbers.
    all: Vec<Old>,
    /// The claims that calls wait for.
    called: HashMap<TaskId, Key>,
    /// When what was not called for is given up.
    until: Option<Instant>,
}

struct Old {
    /// Its row, until that is to go.
    row: Option<i64>,
    hub: Arc<Hub>,
}

/// A call that waits for what there is of it.
pub(super) struct Called {
    pub(super) call: Call,
    pub(super) place: Place,
}

impl Sessions {
    /// Goes on with a session, for the tasks of it that have no row.
    pub(super) fn go_on(
        &mut self,
        store: &Arc<Store>,
        row: &SessionRow,
        sent: &[SentRow],
        is_wanted: impl Fn(&SentRow, &Entry) -> bool,
    ) {
        let specs: Vec<Spec> = postcard::from_bytes(&row.specs).unwrap_or_default();
        let session = self.claims.new_session();
        let mut commands: Vec<Command> = specs.iter().cloned().map(Command::Declare).collect();
        for sent in sent.iter().filter(|sent| (sent.spec as usize) < specs.len()) {
            let wanted = Entry::read(&sent.tasks).filter(|entry| is_wanted(sent, entry));
            let wanted = wanted.take(CLAIMS_MAX.saturating_sub(commands.len()));
            let claims = &mut self.claims;
            let new = wanted.filter(|entry| claims.add((session, entry.task), (sent.job, entry.hash)));
            commands.extend(new.map(|entry| {
                let Entry { task, place, hash } = entry;
                let of = TicketOf::Claim { session, place, job: sent.job, hash };
                let ticket = Ticket { store: Arc::clone(store), of };
                let spec = SpecIndex(sent.spec);
                Command::Claim { task, spec, ticket: Box::new(ticket) }
            }));
        }
        let hub = Arc::new(Hub::new());
        hub.push(commands);
        self.until = Some(Instant::now() + UNCALLED);
        // What it brings is what this process can be told of, whose tasks are not among those that run.
        let introduction = session::remote_config().ok().and_then(|config| config.introduction);
        let keep_for = Some(session::KEPT_FOR);
        let config = client::Config { give_up_after: None, keep_for, introduction };
        let patience = session::cluster().map(|wanted| wanted.timeout).unwrap_or(SEARCH);
        let serve = |search| remote::serve_quietly(Arc::clone(&hub), search, config, patience);
        let is_served = start(&hub, row, serve);
        if !is_served {
            self.claims.give_up_session(session);
        }
        // A run on its cluster may yet go on with it.
        self.all.push(Old { row: is_served.then_some(row.id), hub });
    }

    /// Ends a session whose tasks nobody will take: another build's, or one before all was computed anew.
    pub(super) fn end_session(&mut self, row: &SessionRow) {
        self.claims.new_session();
        let hub = Arc::new(Hub::new());
        // What cannot be ended ends by itself, some minutes later.
        start(&hub, row, |search| remote::end_session(Arc::clone(&hub), search));
        self.all.push(Old { row: Some(row.id), hub });
    }

    /// What there is for a call that is about to run.
    pub(super) fn find(&mut self, job: i64, call: Call, place: Place) -> Found<Called> {
        let task = call.task;
        let found = self.claims.find((job, call.hash), Called { call, place });
        if let Found::Waits(key) = found {
            self.called.insert(task, key);
        }
        if !matches!(found, Found::Nothing(_)) {
            self.note_call();
        }
        found
    }

    /// A call has found what the run before had: the next may.
    pub(super) fn note_call(&mut self) {
        if self.until.is_some() {
            self.until = Some(Instant::now() + UNCALLED);
        }
    }

    /// A claim has ended.
    pub(super) fn end(&mut self, key: Key, completion: Completion) -> Ended<Called> {
        // The cluster is lost: a later run may find it, and end the session.
        if completion.class == Class::Disconnected {
            self.all[key.0].row = None;
        }
        let ended = self.claims.end(key, completion);
        if let Ended::Runs(called) | Ended::Result(called, _) = &ended {
            self.called.remove(&called.call.task);
        }
        if matches!(ended, Ended::Runs(_) | Ended::Gone) {
            self.acknowledge(key);
        }
        ended
    }

    /// A claim's result is on the disk.
    pub(super) fn recorded(&mut self, key: Key) {
        self.claims.recorded(key);
        self.acknowledge(key);
    }

    fn acknowledge(&self, (session, task): Key) {
        self.all[session].hub.push([Command::Recorded(vec![task])]);
    }

    /// When [`give_up_uncalled`](Self::give_up_uncalled) is due.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Gives up what no call has asked for yet, if it is time, but for results, which are there.
    pub(super) fn give_up_uncalled(&mut self) {
        if self.until.is_some_and(|until| until <= Instant::now()) {
            self.until = None;
            for key in self.claims.give_up_uncalled() {
                self.cancel_one(key);
                self.acknowledge(key);
            }
        }
    }

    /// Gives up calls that are not wanted any more.
    pub(super) fn cancel(&mut self, task: TaskId) -> Option<Call> {
        let key = self.called.remove(&task)?;
        let called = self.claims.cancel_one(key)?;
        self.cancel_one(key);
        Some(called.call)
    }

    /// The same of all that are such.
    pub(super) fn cancel_all(&mut self, is_it: impl Fn(&Call) -> bool) -> Vec<Call> {
        let cancelled = self.claims.cancel(|called| is_it(&called.call));
        for (key, called) in &cancelled {
            self.called.remove(&called.call.task);
            self.cancel_one(*key);
        }
        cancelled.into_iter().map(|(_, called)| called.call).collect()
    }

    fn cancel_one(&self, (session, task): Key) {
        self.all[session].hub.push([Command::Cancel(task)]);
    }

    /// Ends the sessions of which nothing is left; gives their rows.
    pub(super) fn end_over(&mut self) -> Vec<i64> {
        let mut rows = Vec::new();
        for (session, old) in self.all.iter_mut().enumerate() {
            if self.claims.is_over(session)
                && let Some(row) = old.row.take()
            {
                old.hub.push([Command::Close]);
                rows.push(row);
            }
        }
        rows
    }

    /// The program ends in order: what nobody has called is not wanted. Gives the rows of what is left.
    pub(super) fn close(&mut self) -> Vec<i64> {
        self.all.iter().for_each(|old| old.hub.push([Command::Close]));
        let until = Instant::now() + CLOSE_WAIT;
        let left = || until.saturating_duration_since(Instant::now());
        self.all.iter().for_each(|old| old.hub.close(left()));
        self.all.iter_mut().filter_map(|old| old.row.take()).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }
}

/// Whether a call is of this map.
pub(super) fn is_of(call: &Call, stream: &Arc<StreamQueue>) -> bool {
    matches!(&call.sink, Sink::Stream(of, ..) if Arc::ptr_eq(of, stream))
}

/// Starts the thread of a session, if this process's tasks run on a cluster; says whether.
fn start<S: Future<Output = ()> + Send + 'static>(
    hub: &Arc<Hub>,
    row: &SessionRow,
    serve: impl FnOnce(Search) -> S,
) -> bool {
    let Some(search) = search(row) else { return false };
    // Before its thread says so itself: it may be closed at once.
    hub.note_served();
    session::spawn_thread(hub, serve(search)).is_ok()
}

/// The way to a session, if this process's tasks run on a cluster.
fn search(row: &SessionRow) -> Option<Search> {
    let wanted = Wanted { timeout: SEARCH, ..session::cluster()? };
    let mut hello = program::hello(program::own_id().ok()?, Role::Client).ok()?;
    let token = Token(row.token.as_slice().try_into().ok()?);
    hello.session = Session { token, known: Some(row.number) };
    Some(Search::quiet(wanted, hello))
}
