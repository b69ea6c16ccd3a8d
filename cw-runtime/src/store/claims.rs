//! What earlier processes left with a cluster when they were killed: results that workers keep, tasks that run.
//!
//! ```text
//!   Open: claimed from the cluster  --a result--> Here: kept until it is called; not acknowledged until it is recorded
//!     |  a call with the same job and arguments      |  the call: recorded, then the caller has it
//!     v                                              v
//!   Called: the call waits  ------------a result--> (none)
//!     |
//!     +-- lost, or failed: the call runs as if it had never been
//! ```
//!
//! Each session has a connection and a machine of its own, beside this process's. Of what nobody calls the results stay
//! with the workers, within the credit of one client; when the program ends in order it is not wanted any more.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use cw_core::{
    client::{self, Completion},
    ids::{SpecIndex, TaskId},
    resume::Place,
    wire::{Class, Role, Session, Spec, Token},
};

use super::{
    Call, Hash, Store, Ticket, TicketOf,
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

/// Tasks that run and that no call has asked for by then are not waited for: they are in the way of others.
const UNCALLED: Duration = Duration::from_secs(10);

/// How long the end of all sessions is waited for.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Which claim: the how-manieth session, and the task's name there.
pub(super) type Key = (usize, TaskId);

/// All sessions that this process goes on with.
#[derive(Default)]
pub(super) struct Claims {
    sessions: Vec<Old>,
    /// Claims that no call has taken, by job and arguments. May name some that are gone.
    free: HashMap<(i64, Hash), VecDeque<Key>>,
    all: HashMap<Key, Claim>,
    /// When what was not called for is given up.
    until: Option<Instant>,
}

struct Old {
    row: i64,
    hub: Arc<Hub>,
    /// Claims that are neither recorded nor given up.
    open: usize,
}

enum Claim {
    Open,
    Here(Completion),
    Called(Box<Called>),
}

/// A call that waits for what there is of it.
pub(super) struct Called {
    pub(super) call: Call,
    pub(super) place: Place,
}

/// What a call finds.
pub(super) enum Found {
    /// Nothing: it runs.
    Nothing(Call),
    /// It waits.
    Waits,
    /// Its result.
    Result(Key, Call, Completion),
}

/// What becomes of a claim that has ended.
pub(super) enum Ended {
    /// Nothing more, for now.
    Done,
    /// The result of this call.
    Result(Box<Called>, Completion),
    /// The call runs.
    Runs(Box<Called>),
}

impl Claims {
    /// Goes on with a session, for the tasks of it that have no row.
    pub(super) fn go_on(
        &mut self,
        store: &Arc<Store>,
        row: &SessionRow,
        sent: &[SentRow],
        is_wanted: impl Fn(&Entry) -> bool,
    ) {
        let Ok(specs) = postcard::from_bytes::<Vec<Spec>>(&row.specs) else { return };
        let number = self.sessions.len();
        let hub = Arc::new(Hub::new());
        let mut open = 0;
        let mut commands: Vec<Command> = specs.iter().cloned().map(Command::Declare).collect();
        for sent in sent.iter().filter(|sent| (sent.spec as usize) < specs.len()) {
            for entry in Entry::read(&sent.tasks).filter(&is_wanted) {
                let key = (number, entry.task);
                if self.all.insert(key, Claim::Open).is_some() {
                    continue;
                }
                open += 1;
                self.free.entry((sent.job, entry.hash)).or_default().push_back(key);
                let ticket = Ticket { store: Arc::clone(store), of: TicketOf::Claim { session: number } };
                let (task, spec) = (entry.task, SpecIndex(sent.spec));
                commands.push(Command::Claim { task, spec, ticket: Box::new(ticket) });
            }
        }
        self.sessions.push(Old { row: row.id, hub: Arc::clone(&hub), open });
        hub.push(commands);
        let config = client::Config { give_up_after: None, keep_for: Some(session::KEPT_FOR) };
        self.until = Some(Instant::now() + UNCALLED);
        let serve = |search| remote::serve_quietly(Arc::clone(&hub), search, config);
        if !start(&hub, row, serve) {
            self.all.retain(|(session, _), _| *session != number);
            self.sessions[number].open = 0;
        }
    }

    /// Ends a session whose tasks nobody will take: another build's, or one before all was computed anew.
    pub(super) fn end_session(&mut self, row: &SessionRow) {
        let hub = Arc::new(Hub::new());
        // What cannot be ended ends by itself, some minutes later.
        start(&hub, row, |search| remote::end_session(Arc::clone(&hub), search));
        self.sessions.push(Old { row: row.id, hub, open: 0 });
    }

    /// What a call that is about to run finds.
    pub(super) fn find(&mut self, job: i64, call: Call, place: Place) -> Found {
        let Some(keys) = self.free.get_mut(&(job, call.hash)) else { return Found::Nothing(call) };
        while let Some(key) = keys.pop_front() {
            match self.all.remove(&key) {
                Some(Claim::Here(completion)) => return Found::Result(key, call, completion),
                Some(Claim::Open) => {
                    self.all.insert(key, Claim::Called(Box::new(Called { call, place })));
                    return Found::Waits;
                }
                // What was called is not free.
                None | Some(Claim::Called(_)) => {}
            }
        }
        self.free.remove(&(job, call.hash));
        Found::Nothing(call)
    }

    /// A claim has ended. What is no result is of no use: the call runs.
    pub(super) fn end(&mut self, key: Key, completion: Completion) -> Ended {
        let Some(claim) = self.all.remove(&key) else { return Ended::Done };
        if completion.class == Class::Ok && !matches!(claim, Claim::Called(_)) {
            self.all.insert(key, Claim::Here(completion));
            return Ended::Done;
        }
        match claim {
            Claim::Called(called) if completion.class == Class::Ok => Ended::Result(called, completion),
            other => {
                self.release(key);
                match other {
                    Claim::Called(called) => Ended::Runs(called),
                    Claim::Open | Claim::Here(_) => Ended::Done,
                }
            }
        }
    }

    /// Lets a claim be acknowledged: its result is on the disk, or not wanted.
    pub(super) fn release(&mut self, (session, task): Key) {
        let old = &mut self.sessions[session];
        old.open -= 1;
        old.hub.push([Command::Recorded(vec![task])]);
    }

    /// When [`give_up_uncalled`](Self::give_up_uncalled) is due.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Gives up what no call has asked for yet, if it is time, but for results, which are there.
    pub(super) fn give_up_uncalled(&mut self) {
        if self.until.is_some_and(|until| until <= Instant::now()) {
            self.until = None;
            self.drop_claims(|claim| matches!(claim, Claim::Open));
        }
    }

    /// Calls that are not wanted any more are answered at once.
    pub(super) fn cancel(&mut self, is_it: impl Fn(&Call) -> bool) -> Vec<Call> {
        self.drop_claims(|claim| matches!(claim, Claim::Called(called) if is_it(&called.call)))
    }

    fn drop_claims(&mut self, is_theirs: impl Fn(&Claim) -> bool) -> Vec<Call> {
        let keys: Vec<Key> =
            self.all.iter().filter(|(_, claim)| is_theirs(claim)).map(|(key, _)| *key).collect();
        let mut calls = Vec::new();
        for key in keys {
            let old = &mut self.sessions[key.0];
            old.open -= 1;
            old.hub.push([Command::Cancel(key.1)]);
            if let Some(Claim::Called(called)) = self.all.remove(&key) {
                calls.push(called.call);
            }
        }
        calls
    }

    /// Ends the sessions of which nothing is left; gives their rows.
    pub(super) fn end_empty(&mut self) -> Vec<i64> {
        let mut rows = Vec::new();
        for old in self.sessions.iter_mut().filter(|old| old.open == 0 && old.row != 0) {
            old.hub.push([Command::Close]);
            rows.push(std::mem::take(&mut old.row));
        }
        rows
    }

    /// The program ends in order: what nobody has called is not wanted. Gives the rows of what is left.
    pub(super) fn close(&mut self) -> Vec<i64> {
        self.sessions.iter().for_each(|old| old.hub.push([Command::Close]));
        let until = Instant::now() + CLOSE_WAIT;
        let left = || until.saturating_duration_since(Instant::now());
        self.sessions.iter().for_each(|old| old.hub.close(left()));
        self.sessions.iter_mut().map(|old| std::mem::take(&mut old.row)).filter(|row| *row != 0).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
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
