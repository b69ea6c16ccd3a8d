//! The file of a store: whose it is, whether it can be taken, what is in it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{
    owner::{self, Owner},
    place::is_on_network,
    serve::Served,
};

/// What SQLite keeps for `file` and others to tell what a database is: "cw", version 1 of the mark.
const APPLICATION_ID: i32 = 0x6377_0001;

/// The newest layout that this cw reads and writes.
const USER_VERSION: i32 = 1;

/// The first SQLite without the WAL-reset bug, which could damage a file that two processes write to.
const SQLITE_MIN: i32 = 3_051_003;

const LAYOUT: &str = "
CREATE TABLE build(
    id INTEGER PRIMARY KEY, program BLOB NOT NULL UNIQUE, name TEXT NOT NULL, cw TEXT NOT NULL,
    first_us INTEGER NOT NULL
) STRICT;
CREATE TABLE run(
    id INTEGER PRIMARY KEY, build INTEGER NOT NULL, command TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL,
    generation INTEGER NOT NULL, started_us INTEGER NOT NULL, ended_us INTEGER
) STRICT;
CREATE TABLE job(
    id INTEGER PRIMARY KEY, path TEXT NOT NULL, signature TEXT NOT NULL, schema INTEGER NOT NULL,
    body INTEGER NOT NULL, version INTEGER NOT NULL, generation INTEGER NOT NULL, is_current INTEGER NOT NULL
) STRICT;
CREATE TABLE block(
    id INTEGER PRIMARY KEY, map INTEGER NOT NULL, is_current INTEGER NOT NULL
) STRICT;
CREATE TABLE task(
    place INTEGER PRIMARY KEY, job INTEGER NOT NULL, hash BLOB NOT NULL, build INTEGER NOT NULL,
    status INTEGER NOT NULL, attempts INTEGER NOT NULL, worker INTEGER, duration_us INTEGER NOT NULL,
    recorded_us INTEGER NOT NULL, digest BLOB, error TEXT, output TEXT, args_json TEXT, value_json TEXT, args BLOB, value BLOB
) STRICT;
CREATE TABLE session(
    id INTEGER PRIMARY KEY, cluster TEXT NOT NULL, build INTEGER NOT NULL, token BLOB NOT NULL, number INTEGER NOT NULL,
    specs BLOB NOT NULL
) STRICT;
CREATE TABLE sent(
    id INTEGER PRIMARY KEY, session INTEGER NOT NULL, spec INTEGER NOT NULL, job INTEGER NOT NULL, tasks BLOB NOT NULL
) STRICT;
CREATE VIEW results AS
SELECT job.path AS job, block.map AS map, task.place & 4294967295 AS input,
    CASE task.status WHEN 0 THEN 'ok' WHEN 1 THEN 'failed' WHEN 2 THEN 'panicked' WHEN 3 THEN 'crashed'
        WHEN 4 THEN 'timed out' WHEN 6 THEN 'lost' WHEN 7 THEN 'refused' WHEN 8 THEN 'too large' ELSE 'other' END
        AS status,
    task.args_json AS arguments, task.value_json AS value, task.error AS error, task.attempts AS attempts,
    task.worker AS worker, task.duration_us / 1e6 AS seconds,
    strftime('%Y-%m-%dT%H:%M:%fZ', task.recorded_us / 1e6, 'unixepoch') AS recorded,
    substr(lower(hex(build.program)), 1, 12) AS build, task.output AS output
FROM task JOIN job ON job.id = task.job AND job.is_current JOIN build ON build.id = task.build
    LEFT JOIN block ON block.id = task.place >> 32
ORDER BY task.place;
";

/// An open store file that is this process's.
pub(super) struct StoreFile {
    pub(super) connection: Connection,
    pub(super) is_on_network: bool,
    /// On a network: who has it must be known to other machines, too. Dropped before the lock.
    pub(super) owner: Option<Owner>,
    /// Where it answers who wants to read, then.
    pub(super) served: Option<Served>,
    /// Held for as long as the file is ours. Closed last: closing any descriptor of a file drops SQLite's own locks on it.
    _locked: File,
}

/// Whether a store lies on a network file system, or will.
pub(super) fn on_network(path: &Path) -> bool {
    let folder = path.ancestors().skip(1).find(|folder| folder.exists());
    is_on_network(if path.exists() { path } else { folder.unwrap_or(Path::new(".")) })
}

/// Opens a store to write to, or makes one.
///
/// # Errors
/// A line: the file is another's, in use, of a newer cw, damaged, or cannot be opened. It is then as it was.
pub(super) fn open(path: &Path, socket: Option<PathBuf>) -> Result<StoreFile, String> {
    check_library()?;
    let named = |what: String| format!("store {}: {what}", path.display());
    let (locked, is_on_network) = take(path).map_err(named)?;
    let owner = is_on_network.then(|| Owner::take(&canonical(path), socket)).transpose().map_err(named)?;
    let connection = connect(path, is_on_network).map_err(|error| named(in_words(&error)))?;
    Ok(StoreFile { connection, is_on_network, owner, served: None, _locked: locked })
}

/// Opens a store to read from, whoever writes to it.
///
/// # Errors
/// As [`open`], but that it is in use.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, String> {
    let named = |what: String| format!("store {}: {what}", path.display());
    let file = File::open(path).map_err(|error| named(error.to_string()))?;
    if check_header(&file).map_err(named)? {
        return Err(named("it is empty".to_owned()));
    }
    let read = connect_to_read(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let connection = match read {
        // Nobody writes to it, and its folder is not ours: SQLite could not even make what readers share.
        Err(error)
            if is_kept_from(&error)
                && !beside(path, "-wal").exists()
                && !beside(path, "-journal").exists() =>
        {
            connect_to_read(&unchanging(path), OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)
        }
        // A program was killed while it made the file, which is made whole by taking that back.
        Err(error) if is_kept_from(&error) => connect_to_read(path, OpenFlags::SQLITE_OPEN_READ_WRITE),
        other => other,
    };
    connection.map_err(|error| named(in_words(&error)))
}

fn is_kept_from(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen))
}

/// A file that nobody writes to, as SQLite wants to hear it.
fn unchanging(path: &Path) -> PathBuf {
    let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    format!("file:{path}?immutable=1").into()
}

fn connect_to_read(path: &Path, flag: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flag | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.execute_batch("PRAGMA busy_timeout=10000; PRAGMA trusted_schema=OFF;")?;
    connection.query_row("SELECT count(*) FROM build", [], |_| Ok(()))?;
    Ok(connection)
}

fn check_library() -> Result<(), String> {
    match rusqlite::version_number() {
        new if new >= SQLITE_MIN => Ok(()),
        old => Err(format!(
            "this program was built with SQLite {old}, which can damage files; 3.51.3 is the least"
        )),
    }
}

/// Makes the file if there is none, and takes it for this process; says whether it is on a network.
///
/// On a local file system the lock is on the file itself, where SQLite's own are of another kind. Over a network, and on
/// systems other than Linux, both are of one kind and would exclude each other: there it is on a file beside it.
fn take(path: &Path) -> Result<(File, bool), String> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)
            .map_err(|error| format!("cannot make the folder {}: {error}", folder.display()))?;
    }
    let open =
        |path: &Path| OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file = open(path).map_err(|error| format!("cannot be opened: {error}"))?;
    let is_on_network = is_on_network(path);
    let locked = if is_on_network || !cfg!(target_os = "linux") {
        let beside = beside(&canonical(path), ".lock");
        open(&beside).map_err(|error| format!("{} cannot be opened: {error}", beside.display()))?
    } else {
        file.try_clone().map_err(|error| format!("cannot be opened: {error}"))?
    };
    match flock(&locked, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(format!("it is in use by {}", holder(path))),
        // Some have no locks; the owner's file is there for them.
        Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) if is_on_network => {}
        Err(error) => return Err(format!("cannot be locked: {}", io::Error::from(error))),
    }
    check_header(&file)?;
    Ok((locked, is_on_network))
}

/// The file of a name that begins as this one's.
pub(super) fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Who has a store open, as the store itself says.
fn holder(path: &Path) -> String {
    if let Some(record) = owner::record_of(&canonical(path)) {
        return record.name();
    }
    let who = "SELECT host, pid FROM run WHERE ended_us IS NULL ORDER BY id DESC LIMIT 1";
    let read = |row: &rusqlite::Row<'_>| {
        Ok(format!("process {} on {}", row.get::<_, i64>(1)?, row.get::<_, String>(0)?))
    };
    open_to_read(path)
        .ok()
        .and_then(|connection| connection.query_row(who, [], read).ok())
        .unwrap_or_else(|| "another program".to_owned())
}

/// Looks whether a file is new, or a store of ours.
fn check_header(file: &File) -> Result<bool, String> {
    let mut header = Vec::new();
    file.take(100).read_to_end(&mut header).map_err(|error| format!("cannot be read: {error}"))?;
    if header.is_empty() {
        return Ok(true);
    }
    let number =
        |at: usize| header.get(at..at + 4).map(|bytes| i32::from_be_bytes(bytes.try_into().expect("four")));
    if !header.starts_with(b"SQLite format 3\0") || number(68) != Some(APPLICATION_ID) {
        return Err("it is no store of cw, and was left as it is".to_owned());
    }
    match number(60) {
        Some(version) if version > USER_VERSION => Err(format!(
            "it was written by a newer cw (layout {version}, this one knows {USER_VERSION}), and was left as it is"
        )),
        _ => Ok(false),
    }
}

fn connect(path: &Path, is_on_network: bool) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.set_prepared_statement_cache_capacity(64);
    if is_on_network {
        // Without shared memory, which WAL would need else: before the file is looked at for the first time.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    }
    connection
        .execute_batch("PRAGMA busy_timeout=10000; PRAGMA synchronous=FULL; PRAGMA trusted_schema=OFF;")?;
    // A process that made it may have been killed before it was done.
    if connection.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0))? == 0 {
        // In one piece and not in the log, so that the file's own head says what it is, whenever this process is killed.
        let layout = connection.transaction()?;
        layout.pragma_update(None, "application_id", APPLICATION_ID)?;
        layout.pragma_update(None, "user_version", USER_VERSION)?;
        layout.execute_batch(LAYOUT)?;
        layout.commit()?;
    }
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.execute_batch(
        "PRAGMA wal_autocheckpoint=4000; PRAGMA journal_size_limit=67108864; PRAGMA mmap_size=0;
         PRAGMA cell_size_check=ON; PRAGMA cache_size=-65536;",
    )?;
    Ok(connection)
}

/// What went wrong, for people.
pub(super) fn in_words(error: &rusqlite::Error) -> String {
    let text = match error {
        rusqlite::Error::SqliteFailure(code, Some(text)) => format!("{text} ({code})"),
        other => other.to_string(),
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            format!("it is damaged: {text}; `cw results verify` says where")
        }
        _ => text,
    }
}

/// The path that a store has, however it is written.
pub(super) fn canonical(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.canonicalize().unwrap_or(absolute)
}
