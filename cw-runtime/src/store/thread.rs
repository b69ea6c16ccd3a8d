//! The thread of a store: takes calls and results in order, and writes many results in one transaction.
//!
//! A transaction costs a sync of the disk, whatever it holds. So the first result after a pause is written at once, and
//! those after it three times as long later as the last transaction took, 1 to 10 ms; or as soon as there are
//! [`WRITES_MAX`] or [`BYTES_MAX`].

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use cw_core::{
    Payload,
    claims::Key,
    client::Completion,
    gathered,
    ids::{Attempt, TaskId},
    resume::{Here, Index, Place, Step, Walk},
    wire::{Class, Failure},
};
use rusqlite::ErrorCode;

use super::{
    Call, Kept, Store, Ticket, TicketOf, ToStore,
    claims::Sessions,
    file::{StoreFile, in_words},
    owner::{Owner, Standing},
    reads::{self, Answer, Question},
    rows::{self, Head, JobRow, Write},
    sent::{Entry, Sent},
    size,
    words::Words,
};
use crate::{
    api::refused,
    client::{
        hub::{Command, Hub},
        session,
    },
    exit::{self, Trouble},
    job::{self, Registry},
    program,
};

/// So much is written at once at most.
const WRITES_MAX: usize = 4_096;
const BYTES_MAX: usize = 8 << 20;

/// How long is waited until a write that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// So long what nobody waits for is left to be written with results.
const UNHURRIED: Duration = Duration::from_millis(50);

/// The stack that jobs may count on: their values are read here for people.
const STACK_BYTES: usize = 8 << 20;

/// Starts a store's thread.
///
/// # Errors
/// A line: the file cannot be read, or the system has no more threads.
pub(super) fn start(store: Arc<Store>, file: StoreFile, path: PathBuf) -> Result<(), String> {
    let named = |what: String| format!("store {}: {what}", path.display());
    let keeper = Keeper::new(store, file, path.clone()).map_err(|error| named(in_words(&error)))?;
    let thread = std::thread::Builder::new().name("cw-store".to_owned()).stack_size(STACK_BYTES);
    let body = || {
        if panic::catch_unwind(AssertUnwindSafe(|| keeper.run())).is_err() {
            // Every result would be waited for in vain.
            let fault = Trouble::new(exit::SYSTEM, "a fault in cw: the thread of a store has ended");
            std::process::exit(i32::from(fault.report()));
        }
    };
    thread.spawn(body).map(drop).map_err(|error| named(error.to_string()))
}

/// How soon what waits is to be written.
#[derive(Clone, Copy, Debug)]
enum Hurry {
    /// Nothing waits.
    None,
    /// Only what no caller waits for, since then.
    Some { since: Instant },
    /// At once.
    All,
}

/// What is written and what is known of the file.
pub(super) struct Keeper {
    pub(super) store: Arc<Store>,
    pub(super) file: StoreFile,
    pub(super) words: Words,
    pub(super) hub: Option<Arc<Hub>>,
    /// Words for the hub, which get there together.
    pub(super) out: Vec<Command>,
    writes: Vec<Write>,
    bytes: usize,
    hurry: Hurry,
    /// When a row of this run was last recorded, of those that are on the disk.
    newest: Option<i64>,
    /// Tasks that are recorded once the writes are.
    recorded: Vec<TaskId>,
    /// Calls whose results came from an earlier process's session, which have them then, and their claims.
    pub(super) answers: Vec<Command>,
    pub(super) claimed: Vec<Key>,
    sent: Sent,
    pub(super) sessions: Sessions,
    last: (Instant, Duration),
    pub(super) build: i64,
    run: i64,
    /// How often all was computed anew by the user's wish, this time included.
    generation: i64,
    /// Jobs by their index in the registry.
    jobs: HashMap<u32, i64>,
    /// The path of each job row, and its highest number.
    paths: HashMap<i64, String>,
    /// Each block's map, and whether it is that map's present one.
    blocks: BTreeMap<u32, (u32, bool)>,
    /// From which block to which so many first inputs have moved in this run.
    moved: Vec<(u32, u32, u32)>,
    cursors: HashMap<u32, Cursor>,
    indices: HashMap<i64, Index>,
}

/// A map's calls beside the rows of its block.
struct Cursor {
    walk: Walk,
    block: u32,
    ahead: VecDeque<Head>,
    /// From where on rows have not been read.
    from: Place,
    is_end: bool,
    next: u64,
}

impl Keeper {
    fn new(store: Arc<Store>, file: StoreFile, path: PathBuf) -> rusqlite::Result<Self> {
        let words = Words::new(path);
        if file.is_on_network {
            words.on_network();
        }
        let db = &file.connection;
        let mut paths = HashMap::new();
        let mut statement = db.prepare("SELECT id, path FROM job")?;
        for row in statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
            let (id, path) = row?;
            paths.insert(id, path);
        }
        drop(statement);
        let blocks = gathered(rows::blocks(db)?);
        let program = program::own_id().map(|id| id.0.to_vec()).unwrap_or_default();
        let known = db.query_row("SELECT id FROM build WHERE program = ?", [&program], |row| row.get(0));
        let next_build = db.query_row("SELECT coalesce(max(id), 0) + 1 FROM build", [], |row| row.get(0))?;
        let run = db.query_row("SELECT coalesce(max(id), 0) + 1 FROM run", [], |row| row.get(0))?;
        let build = known.unwrap_or(next_build);
        let sent = Sent::new(build, rows::next_session(db)?);
        let generation = rows::generation(db)? + i64::from(session::is_fresh());
        let mut keeper = Self {
            store,
            file,
            words,
            hub: None,
            out: Vec::new(),
            writes: Vec::new(),
            bytes: 0,
            hurry: Hurry::None,
            newest: None,
            recorded: Vec::new(),
            answers: Vec::new(),
            claimed: Vec::new(),
            sent,
            sessions: Sessions::default(),
            last: (Instant::now(), Duration::ZERO),
            build,
            run,
            generation,
            jobs: HashMap::new(),
            paths,
            blocks,
            moved: Vec::new(),
            cursors: HashMap::new(),
            indices: HashMap::new(),
        };
        keeper.introduce(program);
        Ok(keeper)
    }

    /// Says which program writes here from now on.
    fn introduce(&mut self, program: Vec<u8>) {
        self.write(Write::ForgetBlocks);
        let (build, now) = (self.build, now_micros());
        let name = program::file_name();
        self.write(Write::Build { id: build, program, name, cw: program::VERSION, now });
        let command = std::env::args().collect::<Vec<_>>().join(" ");
        let host = program::host_name();
        let (id, pid, generation) = (self.run, std::process::id(), self.generation);
        self.write(Write::Run { id, build, command, host, pid, generation, now });
    }

    fn run(mut self) {
        self.go_on();
        // So that whoever finds the file taken learns by whom.
        self.commit();
        let mut messages = Vec::new();
        let mut is_closing = false;
        while !is_closing {
            let until = [self.due(), self.sessions.until()].into_iter().flatten().min();
            self.store.inbox.take(until, &mut messages);
            for message in messages.drain(..) {
                is_closing |= matches!(message, ToStore::Close);
                self.on(message);
                if self.writes.len() >= WRITES_MAX || self.bytes >= BYTES_MAX {
                    self.commit();
                }
            }
            if self.due().is_some_and(|due| due <= Instant::now()) {
                self.commit();
            }
            self.sessions.give_up_uncalled();
            self.forget_sessions();
            self.tell_hub();
        }
        self.end();
    }

    /// Writes the rest, and leaves one file.
    fn end(mut self) {
        self.commit();
        let left = self.sessions.close().into_iter().map(|id| Write::ForgetSession { id });
        let all: Vec<Write> = left.chain(self.sent.close()).collect();
        all.into_iter().for_each(|write| self.write(write));
        let now = now_micros();
        self.write(Write::RunEnded { id: self.run, now });
        self.commit();
        self.tell_hub();
        self.words.summary();
        // Whoever still reads is not waited for: all is on the disk.
        let _ = self.file.connection.execute_batch("PRAGMA busy_timeout=0; PRAGMA wal_checkpoint(TRUNCATE)");
        let store = Arc::clone(&self.store);
        drop(self);
        store.inbox.note_closed();
    }

    /// When what waits is written.
    fn due(&self) -> Option<Instant> {
        let (at, took) = self.last;
        let pause = (took * 3).clamp(Duration::from_millis(1), Duration::from_millis(10));
        match self.hurry {
            Hurry::None => None,
            Hurry::Some { since } => Some(since + UNHURRIED),
            Hurry::All => Some(at + pause),
        }
    }

    fn on(&mut self, message: ToStore) {
        match message {
            ToStore::Calls { hub, map, calls } => {
                let size = size(&calls);
                self.hub = Some(Arc::clone(&hub));
                calls.into_iter().for_each(|call| self.on_call(map, call));
                hub.store_passed(size);
            }
            ToStore::Record { task, ticket, completion } => self.on_ended(task, ticket.of, completion),
            ToStore::Forward { hub, command } => {
                self.hub = Some(hub);
                self.cancel_claimed(&command);
                self.out.push(command);
            }
            ToStore::Read { question, answer } => {
                let read = match (&question, self.newest) {
                    // To look for it takes all of the file.
                    (Question::Until, Some(newest)) => Ok(Answer::Until(Some(newest))),
                    _ => reads::answer(&self.file.connection, &question),
                };
                let _ = answer.send(read.map_err(|error| self.words.named(&in_words(&error))));
            }
            ToStore::Close => {}
        }
    }

    fn tell_hub(&mut self) {
        let Some(hub) = self.hub.clone().filter(|_| !self.out.is_empty()) else { return };
        self.sent.take(&hub).into_iter().for_each(|write| self.write(write));
        hub.push(self.out.drain(..));
    }

    pub(super) fn write(&mut self, write: Write) {
        self.hurry = match (self.hurry, write.is_waited_for()) {
            (_, true) | (Hurry::All, _) => Hurry::All,
            (Hurry::None, false) => Hurry::Some { since: Instant::now() },
            (Hurry::Some { since }, false) => Hurry::Some { since },
        };
        self.bytes += write.bytes();
        self.writes.push(write);
    }

    /// Writes all that waits, however often that has to be tried.
    fn commit(&mut self) {
        let began = Instant::now();
        loop {
            match self.file.owner.as_ref().map_or(Standing::Ours, Owner::standing) {
                Standing::Ours => match self.try_commit() {
                    Ok(()) => break,
                    Err(error) => self.on_failed_commit(&error),
                },
                Standing::Unknown(why) => self.words.waiting(&why),
                Standing::Lost(why) => self.die(&why),
            }
            std::thread::sleep(RETRY);
        }
        self.words.going_on();
        let newest = self.writes.iter().filter_map(Write::recorded).max();
        self.newest = self.newest.max(newest);
        let ended = Instant::now();
        // Nobody waited for the others, so nobody waits after them.
        if matches!(std::mem::replace(&mut self.hurry, Hurry::None), Hurry::All) {
            self.last = (ended, ended - began);
        }
        self.writes.clear();
        self.bytes = 0;
        if !self.recorded.is_empty() {
            self.out.push(Command::Recorded(std::mem::take(&mut self.recorded)));
        }
        self.out.append(&mut self.answers);
        let claimed = std::mem::take(&mut self.claimed);
        claimed.into_iter().for_each(|key| self.sessions.recorded(key));
        self.forget_sessions();
    }

    fn try_commit(&mut self) -> rusqlite::Result<()> {
        let transaction = self.file.connection.transaction()?;
        self.writes.iter().try_for_each(|write| write.run(&transaction))?;
        transaction.commit()
    }

    /// A full disk, or another program that has the file locked, is waited for; after anything else nobody knows what is
    /// on the disk.
    fn on_failed_commit(&mut self, error: &rusqlite::Error) {
        const IO_WRITE: i32 = rusqlite::ffi::SQLITE_IOERR_WRITE;
        // The log's index cannot grow: nothing of this was written.
        const IO_SHARED: i32 = rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
        match (error.sqlite_error_code(), error.sqlite_error().map(|error| error.extended_code)) {
            (Some(ErrorCode::DiskFull), _) => self.words.waiting("its disk is full"),
            (Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked), _) => {
                self.words.waiting("another program has it locked");
            }
            (_, Some(IO_WRITE | IO_SHARED)) => {
                self.words.waiting(&format!("it cannot be written ({})", in_words(error)))
            }
            _ => self.die(&in_words(error)),
        }
    }

    /// Whatever is not recorded was acknowledged by nobody: it is computed again by the next run.
    fn die(&self, why: &str) -> ! {
        let line =
            format!("{}; what is not recorded yet is computed again by the next run", self.words.named(why));
        std::process::exit(i32::from(Trouble::new(exit::STORE, line).report()))
    }

    /// What is read, or the end.
    pub(super) fn read<T>(&self, read: rusqlite::Result<T>) -> T {
        read.unwrap_or_else(|error| self.die(&in_words(&error)))
    }

    fn on_call(&mut self, map: u32, call: Call) {
        let job = self.job(call.job);
        let cursor = self.cursor(map);
        let input = call.input.unwrap_or(cursor.next);
        let Ok(input) = u32::try_from(input) else { return self.refuse(call) };
        cursor.next = u64::from(input) + 1;
        let place = Place::new(cursor.block, input);
        let head = if cursor.walk.looks() { self.look(map, place) } else { None };
        let here = match &head {
            None => Here::Nothing,
            Some(head) if head.hash == call.hash && self.paths.get(&head.job) == self.paths.get(&job) => {
                Here::Same
            }
            Some(_) => Here::Other,
        };
        // Where a program has changed, a call's row may lie in a block that no map reads.
        let has_leftovers = self.blocks.len() > self.cursors.len();
        let step = self.cursors.get_mut(&map).expect("it was looked up above").walk.step(here, has_leftovers);
        let is_own = |head: &Head| head.job == job && head.is_ok;
        match (step, head) {
            (Step::Take, Some(head)) if is_own(&head) => self.answer(call, head),
            (Step::Take | Step::Run, _) => self.begin(call, job, place),
            (Step::Search, _) => self.search(call, job, place),
            (Step::Diverge, _) => {
                let block = self.diverge(map, input);
                self.search(call, job, Place::new(block, input));
            }
        }
    }

    fn refuse(&mut self, call: Call) {
        let why = format!("a store keeps {} inputs of one map at most", Place::INPUTS_MAX);
        let completion = refused(&Failure::Refused { why });
        self.out.push(Command::Answer { task: call.task, sink: call.sink, completion });
    }

    /// The row of a job of this program, as it is now.
    pub(super) fn job(&mut self, index: u32) -> i64 {
        if let Some(id) = self.jobs.get(&index) {
            return *id;
        }
        let registry = Registry::global().expect("the session did not start with two jobs of one name");
        let entry = registry.entry(index).expect("the caller has it from there");
        let row = JobRow {
            path: entry.path,
            signature: entry.signature,
            schema: rows::signed(job::schema_hash(index)),
            body: rows::signed(entry.body),
            version: entry.version,
        };
        let generation = self.generation;
        let id = match self.read(rows::known_job(&self.file.connection, &row, generation)) {
            Some(id) => id,
            None => {
                let id = self.paths.keys().max().map_or(1, |last| last + 1);
                // It has no rows to be found.
                self.indices.insert(id, Index::default());
                id
            }
        };
        self.write(Write::Job { id, row, generation });
        self.paths.insert(id, entry.path.to_owned());
        self.jobs.insert(index, id);
        id
    }

    fn cursor(&mut self, map: u32) -> &mut Cursor {
        if !self.cursors.contains_key(&map) {
            let of_map = |(_, (of, _)): &(&u32, &(u32, bool))| *of == map;
            let current = self.blocks.iter().filter(of_map).find(|(_, (_, is_current))| *is_current);
            let block = current.map(|(block, _)| *block);
            let block = block.unwrap_or_else(|| self.new_block(map));
            let walk = Walk::default();
            let (ahead, from) = (VecDeque::new(), Place::new(block, 0));
            self.cursors.insert(map, Cursor { walk, block, ahead, from, is_end: false, next: 0 });
        }
        self.cursors.get_mut(&map).expect("just inserted")
    }

    fn new_block(&mut self, map: u32) -> u32 {
        let id = self.blocks.keys().last().map_or(0, |last| last + 1);
        let of_map = self.blocks.values_mut().filter(|(of, _)| *of == map);
        of_map.for_each(|(_, is_current)| *is_current = false);
        self.blocks.insert(id, (map, true));
        self.write(Write::Block { id, map });
        id
    }

    /// What lies at a call's place.
    fn look(&mut self, map: u32, place: Place) -> Option<Head> {
        loop {
            let cursor = self.cursors.get_mut(&map).expect("the caller looked it up");
            while cursor.ahead.front().is_some_and(|head| head.place < place) {
                cursor.ahead.pop_front();
            }
            if let Some(head) = cursor.ahead.front() {
                return if head.place == place { cursor.ahead.pop_front() } else { None };
            }
            if cursor.is_end {
                return None;
            }
            let from = cursor.from.max(place);
            self.settle_moves();
            let rows = self.read(rows::ahead(&self.file.connection, from));
            let cursor = self.cursors.get_mut(&map).expect("just seen");
            // Whatever is recorded from now on belongs to calls that were made already.
            cursor.is_end = rows.is_empty();
            cursor.from = rows.last().map_or(from, |last| Place(last.place.0 + 1));
            cursor.ahead = rows.into();
        }
    }

    /// Rows that are about to move must not be found where they were.
    fn settle_moves(&mut self) {
        let moves = |write: &Write| matches!(write, Write::Move { .. } | Write::MoveBlock { .. });
        if self.writes.iter().any(moves) {
            self.commit();
        }
    }

    /// The calls are not those of the run before: from this input on they have a block of their own.
    fn diverge(&mut self, map: u32, input: u32) -> u32 {
        let to = self.new_block(map);
        let cursor = self.cursors.get_mut(&map).expect("the caller looked it up");
        let from = std::mem::replace(&mut cursor.block, to);
        cursor.ahead.clear();
        // Results that were recorded in this run may be among them.
        self.write(Write::MoveBlock { from, to, inputs: input });
        self.moved.push((from, to, input));
        self.settle_moves();
        to
    }

    fn search(&mut self, call: Call, job: i64, place: Place) {
        if !self.indices.contains_key(&job) {
            self.settle_moves();
            let rows = self.read(rows::results_of(&self.file.connection, job));
            self.indices.insert(job, Index::new(rows));
        }
        let (db, cursors) = (&self.file.connection, &self.cursors);
        // Those of a map that is being read are its own calls'.
        let is_live = |block: u32| cursors.values().any(|cursor| cursor.block == block);
        let mut found = None;
        let is_it = |place: Place| match rows::at(db, place) {
            _ if is_live(place.block()) => false,
            Ok(head) => {
                found = head.filter(|head| head.hash == call.hash && head.job == job && head.is_ok);
                found.is_some()
            }
            Err(_) => false,
        };
        self.indices.get_mut(&job).expect("just inserted").take(rows::prefix(&call.hash), is_it);
        match found {
            Some(head) => {
                self.write(Write::Move { from: head.place, to: place });
                self.answer(call, head);
            }
            None => self.begin(call, job, place),
        }
    }

    /// The result was there.
    fn answer(&mut self, call: Call, head: Head) {
        let body = match head.value {
            Some(value) => value,
            None => self.read(rows::value(&self.file.connection, head.place)),
        };
        self.words.reused(head.build != self.build);
        self.sessions.note_call();
        let Head { attempts, micros, .. } = head;
        let (class, attempt, worker) = (Class::Ok, Attempt(0), None);
        // It was shown when it was new.
        let output = Payload::new();
        let completion = Completion { class, attempt, attempts, worker, micros, output, body };
        self.out.push(Command::Answer { task: call.task, sink: call.sink, completion });
    }

    pub(super) fn submit(&mut self, call: Call, row: i64, place: Place) {
        let Call { task, spec, job, hash, args, sink, .. } = call;
        let kept = Kept { job, hash, args: args.clone() };
        let bytes = args.len() as u64;
        let (spec, args) = match &self.hub {
            Some(hub) => hub.part(spec, args),
            None => (spec, args),
        };
        let is_remote = self.hub.as_ref().is_some_and(|hub| hub.session().is_some());
        let sent = (is_remote && self.store.notes_sent())
            .then(|| self.sent.add(spec, row, Entry { task, place, hash }));
        let of = TicketOf::Call { place, job: row, kept, sent };
        let ticket = Ticket { store: Arc::clone(&self.store), of };
        let ticket = Some(Box::new(ticket));
        self.out.push(Command::Submit { task, spec, args, bytes, sink, ticket });
    }

    fn on_ended(&mut self, task: TaskId, of: TicketOf, completion: Completion) {
        let (place, kept, sent) = match of {
            TicketOf::Claim { session, .. } => return self.on_claim_ended((session, task), completion),
            TicketOf::Call { place, kept, sent, .. } => (place, kept, sent),
        };
        let last = sent.and_then(|row| self.sent.end(row));
        if matches!(completion.class, Class::Cancelled | Class::Disconnected) {
            // It has no end that is worth a row: it runs again.
            self.out.push(Command::Recorded(vec![task]));
        } else {
            self.recorded.push(task);
            self.record(kept, self.place_now(place), task, completion);
        }
        last.into_iter().for_each(|write| self.write(write));
    }

    /// Where a task's row lies by now.
    pub(super) fn place_now(&self, mut place: Place) -> Place {
        for (from, to, inputs) in &self.moved {
            if place.block() == *from && place.input() < *inputs {
                place = Place::new(*to, place.input());
            }
        }
        place
    }
}

pub(super) fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
