//! Results on disk as they arrive, and runs that go on where they stopped.
//!
//! ```text
//!  cw::map(..).store(p)  --Calls-->  store's thread  --Submit-->  hub -> Client (machine)
//!                                       |  ^   |                       |
//!                     a row is there:   |  |   +------Record-----------+  a task has ended
//!                     Answer -> hub <---+  |
//!                                          +-- written and synced: Recorded -> hub -> the caller has it, acknowledged
//! ```
//!
//! Each store has one thread and one connection. Calls go through it in order, and it alone decides, by the rules of
//! [`cw_core::resume`], which run. What is to be written is kept in order until a transaction with it has succeeded:
//! many at a time (see `thread`), and again and again while the disk is full.
//!
//! The file (`file`): a row per task, keyed by its place; `job` and `build` say whose code it is, `block` which map. A
//! row counts for a call if its job has the same path, types, text and version: another build's results are taken, as
//! long as the job itself was not edited, and the user is told.
//!
//! What was handed to a cluster is noted too (`sent`), with what the masters know the client by. If the program is killed,
//! the next run of the same build goes on with that session over a connection of its own (`claims`): a call that was handed
//! in before takes what there is of it, and runs only if there is nothing.

mod claims;
mod file;
mod inbox;
mod owner;
mod place;
mod reads;
mod record;
mod rows;
mod sent;
mod serve;
pub(crate) mod show;
mod takeover;
#[cfg(test)]
mod tests;
mod thread;
mod words;

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use cw_core::{
    Payload,
    client::Completion,
    ids::{SpecIndex, TaskId},
    resume::Place,
};

use crate::{
    checkpoints::{self, Key, Owner},
    client::{
        hub::{Command, Hub},
        notice::say,
        sink::Sink,
    },
};
use inbox::Inbox;
use reads::{Answer, Question};
pub(crate) use rows::Hash;
use serve::Socket;

/// What tells a call's arguments from others: a hash of their canonical form.
pub(crate) fn hash_of(canonical: &[u8]) -> Hash {
    rows::short(&blake3::hash(canonical))
}

/// A store that a program named; it is opened with the first call.
pub(crate) struct StoreAt {
    path: PathBuf,
    opened: OnceLock<Result<Arc<Store>, String>>,
}

impl StoreAt {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), opened: OnceLock::new() }
    }

    /// The store.
    ///
    /// # Errors
    /// A line, the same each time: why it cannot be had.
    pub(crate) fn get(&self) -> Result<&Arc<Store>, &String> {
        self.opened.get_or_init(|| Store::open(&self.path)).as_ref()
    }
}

impl fmt::Debug for StoreAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreAt({})", self.path.display())
    }
}

/// An open store: the way to its thread.
pub(crate) struct Store {
    inbox: Inbox,
    /// What names its tasks' checkpoints.
    owner: Owner,
    maps: AtomicU32,
}

/// A call whose result is kept.
pub(crate) struct Call {
    pub(crate) task: TaskId,
    pub(crate) spec: SpecIndex,
    /// The job's index in this program's registry.
    pub(crate) job: u32,
    pub(crate) hash: Hash,
    pub(crate) args: Payload,
    pub(crate) sink: Sink,
    /// The how-manieth input of its map; none for a single call.
    pub(crate) input: Option<u64>,
}

impl Call {
    /// The same without a store.
    pub(crate) fn unkept(self, hub: &Hub) -> Command {
        let Self { task, spec, args, sink, .. } = self;
        hub.call(task, spec, args, sink, None)
    }
}

/// Where the result of a task goes.
pub(crate) struct Ticket {
    store: Arc<Store>,
    of: TicketOf,
}

enum TicketOf {
    /// A call of this process.
    Call { place: Place, job: i64, kept: Kept, sent: Option<i64> },
    /// One of an earlier process, whose session is the how-manieth of those that are gone on with.
    Claim { session: usize, place: Place, job: i64, hash: Hash },
}

/// What is kept of a call until its row is written.
struct Kept {
    job: u32,
    hash: Hash,
    args: Payload,
}

impl Ticket {
    /// Whether the call was another process's.
    pub(crate) fn is_claim(&self) -> bool {
        matches!(self.of, TicketOf::Claim { .. })
    }

    /// Under which name what the task saves is kept, also for the next process.
    pub(crate) fn checkpoints(&self) -> Key {
        let (job, place, hash) = match &self.of {
            TicketOf::Call { place, job, kept, .. } => (*job, *place, &kept.hash),
            TicketOf::Claim { place, job, hash, .. } => (*job, *place, hash),
        };
        Key::of_row(self.store.owner, job, place, hash)
    }

    /// The task has ended.
    pub(crate) fn record(self: Box<Self>, task: TaskId, completion: Completion) {
        let store = Arc::clone(&self.store);
        store.push(ToStore::Record { task, ticket: self, completion });
    }
}

/// How many calls, and the bytes of their arguments.
fn size(calls: &[Call]) -> (usize, u64) {
    (calls.len(), calls.iter().map(|call| call.args.len() as u64).sum())
}

/// What a store's thread is told.
pub(crate) enum ToStore {
    /// Calls of a map, by its number in this process; 0 are single ones.
    Calls { hub: Arc<Hub>, map: u32, calls: Vec<Call> },
    /// A task has ended.
    Record { task: TaskId, ticket: Box<Ticket>, completion: Completion },
    /// A word for the hub that must not overtake the calls before it.
    Forward { hub: Arc<Hub>, command: Command },
    /// Somebody reads what only this process can.
    Read { question: Question, answer: mpsc::Sender<Result<Answer, String>> },
    /// The program ends.
    Close,
}

/// The stores of this process, by their canonical path.
static OPEN: Mutex<Option<HashMap<PathBuf, Arc<Store>>>> = Mutex::new(None);

impl Store {
    fn open(path: &Path) -> Result<Arc<Self>, String> {
        // Apart from the list, which is looked at by whoever cancels or closes: opening may take a while.
        static OPENING: Mutex<()> = Mutex::new(());
        let _opening = OPENING.lock().expect("no holder panics");
        let known = || OPEN.lock().expect("no holder panics").as_ref()?.get(&file::canonical(path)).cloned();
        if let Some(store) = known() {
            return Ok(store);
        }
        let socket = file::on_network(path).then(Socket::new).flatten();
        let mut file = file::open(path, socket.as_ref().map(|socket| socket.path().to_owned()))?;
        let owner = Owner::of_store(&file::canonical(path));
        checkpoints::note_store(owner);
        let store = Arc::new(Self { inbox: Inbox::default(), owner, maps: AtomicU32::new(1) });
        file.served = socket.and_then(|socket| socket.serve(&store).ok());
        thread::start(Arc::clone(&store), file, path.to_owned())?;
        let mut open = OPEN.lock().expect("no holder panics");
        open.get_or_insert_default().insert(file::canonical(path), Arc::clone(&store));
        Ok(store)
    }

    /// Whether this is the store that notes what is handed to the cluster: the first that has to. A session can be gone on
    /// with once, by one who knows all its tasks.
    fn notes_sent(self: &Arc<Self>) -> bool {
        static FIRST: OnceLock<usize> = OnceLock::new();
        let own = Arc::as_ptr(self) as usize;
        *FIRST.get_or_init(|| own) == own
    }

    /// The number of the next map, in the order in which a program begins to read them.
    pub(crate) fn new_map(&self) -> u32 {
        self.maps.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn push(&self, message: ToStore) {
        if let ToStore::Calls { hub, calls, .. } = &message {
            // A store whose disk is full passes nothing on meanwhile.
            hub.store_takes(size(calls));
        }
        self.inbox.push(message);
    }
}

/// Has the hub do something after all calls that were made before, also those that a store has not passed on yet. It may
/// be done more than once.
pub(crate) fn after_calls(hub: &Arc<Hub>, command: impl Fn() -> Command) {
    let open = OPEN.lock().expect("no holder panics");
    let stores = open.as_ref().map(HashMap::values).into_iter().flatten();
    stores.for_each(|store| store.push(ToStore::Forward { hub: Arc::clone(hub), command: command() }));
    drop(open);
    // At once too: a store whose disk is full passes nothing on.
    hub.push([command()]);
}

/// Writes what has ended, and closes all stores. Waits for that at most so long.
pub(crate) fn close_all(at_most: Duration) {
    let open = OPEN.lock().expect("no holder panics").take().unwrap_or_default();
    open.values().for_each(|store| store.push(ToStore::Close));
    let until = Instant::now() + at_most;
    for (path, store) in &open {
        if !store.inbox.wait_closed(until.saturating_duration_since(Instant::now())) {
            say(&format!(
                "store {}: not all could be written in time; what is missing is computed again by the next run",
                path.display()
            ));
        }
    }
}
