//! What running tasks have saved, on the disk of their client. The way there is in `cw_core`'s `wire/checkpoint.rs`.
//!
//! One thread does what is asked, in order: a state that was saved later is written later, and nobody's loop waits for a
//! disk. Another removes what is not wanted any more, as a folder may hold a million files, and looks after the first: a
//! disk that does not answer is told of, as all tasks that ask wait for it. Both start with the first question.
//!
//! ```text
//!  .cw-checkpoints/          in the working directory, or --checkpoints DIR
//!    NAME/                   a task's folder: what checkpoint_dir() gives
//!    NAME.state              what it saved last, put there by a rename, 0600
//! ```
//!
//! A task whose result goes to a store is named by what names its row (`row`), so that the program that is started again
//! finds what the one before left; any other by its process and its id (`run`). Both go when the client has the result,
//! or when the program ends. But of a row only if that is a good result, or the program ends well: what was interrupted, or
//! ran out of time, goes on when it is run again.
//!
//! A state is not synced: what is lost when the client's machine dies is computed again. A hash before it tells a torn one.

mod disk;

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use cw_core::{
    Payload, client,
    ids::{Attempt, TaskId},
    resume::Place,
    wire::{Answer, Ask, Class},
};

use crate::{
    client::{
        hub::{Command, Hub},
        notice::say,
    },
    net::identity,
    store::Hash,
};
use disk::Disk;

/// Where checkpoints lie unless the user says otherwise.
const FOLDER: &str = ".cw-checkpoints";

/// A store, or the run of a program: what names begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner(u64);

/// The name of one task's checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// Of a task whose result goes to a row of a store.
    Row(Owner, u128),
    /// Of any other.
    Run(Owner, TaskId),
}

impl Owner {
    /// That of a store.
    pub(crate) fn of_store(path: &Path) -> Self {
        use std::os::unix::ffi::OsStrExt;
        let hash = blake3::hash(path.as_os_str().as_bytes());
        Self(u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes")))
    }

    /// That of this process.
    fn of_process() -> Self {
        static OWN: OnceLock<Owner> = OnceLock::new();
        // Without randomness the process's number must do; what another of that number left is not read.
        *OWN.get_or_init(|| {
            Self(identity::random().map_or_else(|_| u64::from(std::process::id()), u64::from_le_bytes))
        })
    }
}

impl Key {
    /// That of the row at a place, of a job's call with such arguments.
    pub(crate) fn of_row(store: Owner, job: i64, place: Place, hash: &Hash) -> Self {
        let bytes =
            postcard::to_stdvec(&(job, place.0, hash)).expect("plain data, which postcard always encodes");
        let hash = blake3::hash(&bytes);
        Self::Row(store, u128::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes")))
    }

    /// That of a task of this process.
    pub(crate) fn of_run(task: TaskId) -> Self {
        Self::Run(Owner::of_process(), task)
    }

    /// Whether nothing of it is wanted any more, as its task has ended so.
    fn is_over(self, class: Class) -> bool {
        class == Class::Ok || matches!(self, Self::Run(..))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-", self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row(owner, row) => write!(f, "{owner}{row:032x}"),
            Self::Run(owner, task) => write!(f, "{owner}{}", task.0),
        }
    }
}

/// A question of a task's, by attempt and number.
pub(crate) type Of = (TaskId, Attempt, u32);

/// What the first thread is to do.
enum Job {
    Ask {
        hub: Arc<Hub>,
        key: Key,
        of: Of,
        ask: Ask,
        body: Payload,
    },
    /// It comes after all that was asked before.
    Remove(Removal),
}

/// What the second thread is to do.
enum Removal {
    Of(Key),
    /// The program ends: remove what is of these, then say so.
    All {
        owners: Vec<Owner>,
        done: Sender<()>,
    },
}

/// A disk that takes longer is told of.
const SLOW: Duration = Duration::from_secs(5);

/// Since when the first thread is at a question.
static BUSY: Mutex<Option<Instant>> = Mutex::new(None);

static ROOT: OnceLock<PathBuf> = OnceLock::new();

/// The stores that this process uses.
static STORES: Mutex<BTreeSet<Owner>> = Mutex::new(BTreeSet::new());

static THREAD: Mutex<Option<Sender<Job>>> = Mutex::new(None);

/// Settles where checkpoints lie, once: in `folder`, or in the usual place. The program may change its working directory
/// after that.
pub(crate) fn settle(folder: Option<&Path>) {
    ROOT.get_or_init(|| {
        let folder = folder.unwrap_or(Path::new(FOLDER));
        std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
    });
}

fn root() -> &'static Path {
    settle(None);
    ROOT.get().expect("just settled")
}

/// Notes that this process keeps results in a store.
pub(crate) fn note_store(store: Owner) {
    STORES.lock().expect("no holder panics").insert(store);
}

/// Does what a task asks, soon; then the hub hears the answer.
pub(crate) fn ask(hub: &Arc<Hub>, key: Key, of: Of, ask: Ask, body: Payload) {
    if !push(Job::Ask { hub: Arc::clone(hub), key, of, ask, body }) {
        let why = Payload::from_static(b"the client has no thread for it");
        answer(hub, of, Answer::Failed, why);
    }
}

/// A task has ended.
pub(crate) fn end(key: Key, class: Class) {
    if key.is_over(class) {
        push(Job::Remove(Removal::Of(key)));
    }
}

/// The program ends: what it leaves goes; of rows only if it ends well. Waits for that at most so long.
pub(crate) fn close(is_well: bool, at_most: Duration) {
    let has_thread = THREAD.lock().expect("no holder panics").is_some();
    if !has_thread && !ROOT.get().is_some_and(|root| root.is_dir()) {
        return;
    }
    let stores = STORES.lock().expect("no holder panics");
    let owners = stores.iter().copied().filter(|_| is_well).chain([Owner::of_process()]).collect();
    drop(stores);
    let (done, is_done) = mpsc::channel();
    if push(Job::Remove(Removal::All { owners, done })) {
        let _ = is_done.recv_timeout(at_most);
    }
}

/// Hands something to the thread, which is started if there is none; says whether there is one.
fn push(job: Job) -> bool {
    let mut thread = THREAD.lock().expect("no holder panics");
    if thread.is_none() {
        let (send, receive) = mpsc::channel();
        let named = thread::Builder::new().name("cw-checkpoints".to_owned());
        let body = move || serve(&Arc::new(Disk::new(root().to_owned())), &receive);
        if let Err(error) = named.spawn(body) {
            say(&format!("no thread for what tasks save: {error}"));
            return false;
        }
        *thread = Some(send);
    }
    thread.as_ref().is_some_and(|thread| thread.send(job).is_ok())
}

fn serve(disk: &Arc<Disk>, jobs: &mpsc::Receiver<Job>) {
    let (removals, receive) = mpsc::channel();
    let theirs = Arc::clone(disk);
    let named = thread::Builder::new().name("cw-checkpoints-2".to_owned());
    if let Err(error) = named.spawn(move || serve_removals(&theirs, &receive)) {
        say(&format!("no thread that removes what tasks leave: {error}"));
    }
    for job in jobs {
        match job {
            Job::Ask { hub, key, of, ask, body } => {
                note_busy(Some(Instant::now()));
                let (said, body) = disk.ask(key, ask, &body);
                note_busy(None);
                answer(&hub, of, said, body);
            }
            // Where there is no such thread, nothing is removed.
            Job::Remove(removal) => drop(removals.send(removal)),
        }
    }
}

fn note_busy(since: Option<Instant>) {
    *BUSY.lock().expect("no holder panics") = since;
}

fn serve_removals(disk: &Disk, removals: &mpsc::Receiver<Removal>) {
    let mut is_told = false;
    loop {
        match removals.recv_timeout(SLOW) {
            Ok(Removal::Of(key)) => disk.remove(key),
            Ok(Removal::All { owners, done }) => {
                disk.remove_all(&owners);
                // Nobody waits for it any more if it took too long.
                let _ = done.send(());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let is_slow = BUSY.lock().expect("no holder panics").is_some_and(|since| since.elapsed() >= SLOW);
        if is_slow && !is_told {
            let root = root().display();
            say(&format!(
                "tasks wait for {root}, where what they save is kept: it has not answered for {SLOW:?}"
            ));
        }
        is_told = is_slow;
    }
}

fn answer(hub: &Hub, (task, attempt, number): Of, answer: Answer, body: Payload) {
    let answered = client::Event::Answered { task, attempt, number, answer, body };
    hub.push([Command::Event(Box::new(answered))]);
}
