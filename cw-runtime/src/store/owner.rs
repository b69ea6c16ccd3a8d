//! Whose a store is, where a lock that one machine takes may be nothing to another: on file systems that are shared over a
//! network.
//!
//! Beside the store lies a file `x.db.owner` for as long as a program has it. Who makes it, which the server lets only one
//! do, owns the store, and writes a new number into it every two seconds. Who finds one looks for ten seconds whether that
//! number changes; if it does not, its program is dead, and the file is moved away: a move that brought another file than
//! the one that was looked at is undone. Times of different machines are not compared.
//!
//! A program that stood still for so long may have lost the store without knowing. So before it writes it looks again if
//! it has not for a few seconds.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize};

use super::file::beside;
use crate::{client::notice::say, net::identity, program};

/// How often the number changes.
const BEAT: Duration = Duration::from_secs(2);

/// For how long it is watched.
const WATCH: Duration = Duration::from_secs(10);

/// How often it is looked at then.
const LOOK: Duration = Duration::from_millis(250);

/// So long after a dead program's file was moved away whoever did the same has put back what was not that.
const SETTLE: Duration = Duration::from_secs(1);

/// Nothing is written when the file was not seen to be ours for so long.
const STALE: Duration = Duration::from_secs(5);

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    host: String,
    /// Which start of the machine.
    boot: String,
    pid: u32,
    /// When the process started, as the kernel has it: a number may be given again.
    started: String,
    /// In which name space its number is one.
    space: String,
    /// Which process this is, wherever.
    token: String,
    /// Where the process answers those who want to read.
    pub(super) socket: Option<PathBuf>,
    /// So that the file keeps its length.
    beat: String,
}

/// Whether this process may write.
#[derive(Debug, PartialEq)]
pub(super) enum Standing {
    Ours,
    /// For now nobody can tell.
    Unknown(String),
    /// Another program has it.
    Lost(String),
}

/// A store's file of this process, until it is dropped.
pub(super) struct Owner {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    record: Record,
    state: Mutex<State>,
    over: Condvar,
}

#[derive(Debug)]
struct State {
    beat: u64,
    /// When the file was last seen to be ours: before it was opened for that.
    seen: Duration,
    lost: Option<String>,
    is_over: bool,
}

impl Record {
    fn new(socket: Option<PathBuf>) -> Result<Self, String> {
        let random: [u8; 16] = identity::random().map_err(|error| error.to_string())?;
        let pid = std::process::id();
        Ok(Self {
            host: program::host_name(),
            boot: boot(),
            pid,
            started: started(pid).unwrap_or_default(),
            space: space(),
            token: random.iter().map(|byte| format!("{byte:02x}")).collect(),
            socket,
            beat: String::new(),
        })
    }

    fn text(&self, beat: u64) -> String {
        let record = Self { beat: format!("{beat:020}"), ..self.clone() };
        serde_json::to_string(&record).expect("a record is plain data")
    }

    /// Who it is, for people.
    pub(super) fn name(&self) -> String {
        format!("process {} on {}", self.pid, self.host)
    }

    pub(super) fn is_here(&self) -> bool {
        !self.boot.is_empty() && self.host == program::host_name() && self.boot == boot()
    }

    /// Whether it is known to be dead; one of another machine is not, nor one whose number means another process here.
    fn is_dead(&self) -> bool {
        if !self.is_here() || self.space != space() || self.started.is_empty() {
            return false;
        }
        let is_gone = || {
            let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
            pid.is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
        };
        match started(self.pid) {
            Some(now) => now != self.started,
            None => is_gone(),
        }
    }
}

/// In which name space this process's number is one.
fn space() -> String {
    fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default()
}

/// Time that goes on while the machine sleeps.
fn now() -> Duration {
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Which start of this machine it is.
fn boot() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// When a process of this machine started, if it runs: the 22nd field of `proc_pid_stat(5)`.
fn started(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit_once(')')?.1.split_whitespace();
    let fields: Vec<&str> = fields.collect();
    // One that is dead and not yet waited for has its entry still.
    let is_dead = fields.first() == Some(&"Z");
    if is_dead { Some("never".to_owned()) } else { fields.get(19).map(|&field| field.to_owned()) }
}

/// Who has a store, as the file beside it says.
pub(super) fn record_of(store: &Path) -> Option<Record> {
    serde_json::from_str(&fs::read_to_string(path_of(store)).ok()?).ok()
}

fn path_of(store: &Path) -> PathBuf {
    beside(store, ".owner")
}

impl Owner {
    /// Takes a store for this process.
    ///
    /// # Errors
    /// A line: another program has it, or the file cannot be made.
    pub(super) fn take(store: &Path, socket: Option<PathBuf>) -> Result<Self, String> {
        let (path, record) = (path_of(store), Record::new(socket)?);
        let failed = |error: io::Error| format!("{} cannot be written: {error}", path.display());
        let (mut has_said, mut has_moved) = (false, false);
        // Others may come and go meanwhile, but not for ever.
        for _ in 0..16 {
            let seen = now();
            if make(&path, &record).map_err(failed)? {
                return Self::begin(path, record, seen, has_moved);
            }
            let Some(text) = read(&path).map_err(failed)? else { continue };
            if watch(store, &path, &text, &mut has_said).map_err(failed)?? {
                move_away(&path, &text, &record.token).map_err(failed)?;
                has_moved = true;
            }
        }
        Err("other programs take it and leave it again and again".to_owned())
    }

    fn begin(path: PathBuf, record: Record, seen: Duration, has_moved: bool) -> Result<Self, String> {
        let state = State { beat: 0, seen, lost: None, is_over: false };
        let shared = Arc::new(Shared { path, record, state: Mutex::new(state), over: Condvar::new() });
        let owner = Self { shared: Arc::clone(&shared) };
        let thread = thread::Builder::new().name("cw-store-owner".to_owned());
        thread.spawn(move || shared.beat()).map_err(|error| error.to_string())?;
        if has_moved {
            // Somebody may have waited for the same to be dead, and have moved this away.
            thread::sleep(SETTLE);
            let mut state = owner.shared.lock();
            owner.shared.look(&mut state).map_err(|error| error.to_string())?;
            if let Some(why) = state.lost.clone() {
                return Err(why);
            }
        }
        Ok(owner)
    }

    /// Whether this process may write.
    pub(super) fn standing(&self) -> Standing {
        let mut state = self.shared.lock();
        let is_stale = state.lost.is_none() && now().saturating_sub(state.seen) >= STALE;
        if is_stale && let Err(error) = self.shared.look(&mut state) {
            return Standing::Unknown(format!("{} cannot be read: {error}", self.shared.path.display()));
        }
        state.lost.clone().map_or(Standing::Ours, Standing::Lost)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.is_over = true;
        self.shared.over.notify_all();
        // Another's stays.
        if self.shared.look(&mut state).is_ok() && state.lost.is_none() {
            let _ = fs::remove_file(&self.shared.path);
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Changes the number, until it is over.
    fn beat(&self) {
        let mut state = self.lock();
        loop {
            state = self
                .over
                .wait_timeout_while(state, BEAT, |state| !state.is_over)
                .expect("no holder panics")
                .0;
            if state.is_over || state.lost.is_some() {
                return;
            }
            // What cannot be written now is tried again; whoever writes to the store looks too.
            let _ = self.look(&mut state);
        }
    }

    /// Looks whether the file is still ours, and changes the number in it if so.
    fn look(&self, state: &mut State) -> io::Result<()> {
        let began = now();
        let open = || OpenOptions::new().read(true).write(true).open(&self.path);
        let is_gone = |opened: &io::Result<File>| {
            opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        let mut opened = open();
        if is_gone(&opened) {
            // Whoever moved it away by mistake puts it back.
            thread::sleep(SETTLE / 2);
            opened = open();
        }
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                state.lost = Some("another program has taken it, and left it again".to_owned());
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        match serde_json::from_str::<Record>(&text) {
            Ok(record) if record.token == self.record.token => {}
            Ok(record) => {
                state.lost =
                    Some(format!("{} has taken it, as this program gave no sign of life", record.name()));
                return Ok(());
            }
            Err(_) => {
                state.lost = Some(format!(
                    "{} was damaged, or another program is about to take it",
                    self.path.display()
                ));
                return Ok(());
            }
        }
        state.beat += 1;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(self.record.text(state.beat).as_bytes())?;
        file.sync_data()?;
        state.seen = began;
        Ok(())
    }
}

/// Makes the file; says whether there was none.
fn make(path: &Path, record: &Record) -> io::Result<bool> {
    let mut file = match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error),
    };
    let written = file.write_all(record.text(0).as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written.map(|()| true)
}

/// What the file says, if there is one.
fn read(path: &Path) -> io::Result<Option<String>> {
    let mut text = String::new();
    match File::open(path).and_then(|mut file| file.read_to_string(&mut text)) {
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits until it is certain that nobody writes to the file any more, or that somebody does. Gives whether it is there to be
/// moved away.
fn watch(store: &Path, path: &Path, text: &str, has_said: &mut bool) -> io::Result<Result<bool, String>> {
    let record = serde_json::from_str::<Record>(text).ok();
    let name = record.as_ref().map_or_else(|| "a program".to_owned(), Record::name);
    if record.as_ref().is_some_and(Record::is_dead) {
        return Ok(Ok(true));
    }
    let mut since = Instant::now();
    while since.elapsed() < WATCH {
        if !std::mem::replace(has_said, true) {
            say(&format!(
                "store {}: {name} has not closed it; looking for a sign of life for {} s",
                store.display(),
                WATCH.as_secs()
            ));
        }
        let began = Instant::now();
        thread::sleep(LOOK);
        let text_now = read(path)?;
        if began.elapsed() > LOOK * 4 {
            // A server that did not answer this side may not have answered the other.
            since = Instant::now();
        }
        match text_now {
            None => return Ok(Ok(false)),
            Some(now) if now != text => {
                let now = serde_json::from_str::<Record>(&now).ok();
                return Ok(Err(format!("it is in use by {}", now.map_or(name, |record| record.name()))));
            }
            Some(_) => {}
        }
    }
    Ok(Ok(true))
}

/// Whether the program that has a store gives a sign of life, which takes some seconds to see if it does not.
pub(super) fn shows_life(store: &Path) -> bool {
    let path = path_of(store);
    let Ok(Some(text)) = read(&path) else { return false };
    let is_dead = serde_json::from_str::<Record>(&text).is_ok_and(|record| record.is_dead());
    let began = Instant::now();
    while !is_dead && began.elapsed() < BEAT * 3 {
        thread::sleep(LOOK);
        match read(&path) {
            Ok(Some(now)) if now != text => return true,
            Ok(None) => return false,
            _ => {}
        }
    }
    false
}

/// Moves away what was looked at. What turns out to be another's goes back.
fn move_away(path: &Path, text: &str, token: &str) -> io::Result<()> {
    let aside = path.with_extension(format!("owner-{token}"));
    match fs::rename(path, &aside) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    if read(&aside)?.as_deref() == Some(text) {
        return fs::remove_file(&aside);
    }
    match fs::hard_link(&aside, path) {
        // There is a newer one by now: whose this was has lost it, and sees that.
        Ok(()) => fs::remove_file(&aside),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(&aside),
        // No links here.
        Err(_) => fs::rename(&aside, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_one_owners_and_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("x.db");
        let owner = Owner::take(&store, None).unwrap();
        assert!(record_of(&store).unwrap().is_here());
        assert!(!make(&path_of(&store), &Record::new(None).unwrap()).unwrap());
        assert_eq!(owner.standing(), Standing::Ours);
        drop(owner);
        assert!(!path_of(&store).exists());
    }

    #[test]
    fn what_a_dead_process_of_this_machine_left_is_taken_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("x.db");
        let dead = Record { started: "1".to_owned(), ..Record::new(None).unwrap() };
        make(&path_of(&store), &dead).unwrap();
        let began = Instant::now();
        let owner = Owner::take(&store, None).unwrap();
        assert!(began.elapsed() < WATCH);
        assert_eq!(record_of(&store).unwrap().token, owner.shared.record.token);
    }

    #[test]
    fn who_was_overtaken_knows_before_it_writes_and_leaves_the_others_file() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("x.db");
        let owner = Owner::take(&store, None).unwrap();
        let other = Record { host: "node7".to_owned(), pid: 12, ..Record::new(None).unwrap() };
        fs::remove_file(path_of(&store)).unwrap();
        make(&path_of(&store), &other).unwrap();
        let long_ago = now().saturating_sub(STALE);
        owner.shared.lock().seen = long_ago;
        let Standing::Lost(why) = owner.standing() else { panic!("it is another's") };
        assert!(why.starts_with("process 12 on node7 has taken it"), "{why}");
        drop(owner);
        assert_eq!(record_of(&store).unwrap().token, other.token);
    }

    #[test]
    fn a_move_that_brought_anothers_file_is_undone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db.owner");
        let (seen, newer) = (Record::new(None).unwrap(), Record::new(None).unwrap());
        make(&path, &newer).unwrap();
        move_away(&path, &seen.text(0), "me").unwrap();
        assert_eq!(read(&path).unwrap(), Some(newer.text(0)));
        move_away(&path, &newer.text(0), "me").unwrap();
        assert_eq!(read(&path).unwrap(), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_keeps_its_length() {
        let record = Record::new(None).unwrap();
        assert_eq!(record.text(0).len(), record.text(u64::MAX).len());
    }
}
