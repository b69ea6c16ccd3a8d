//! Rows, and what is written: statements in, errors out. Nothing here decides anything.

use cw_core::{Payload, resume::Place, wire::Class};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// The first 16 bytes of a BLAKE3 hash.
pub(crate) type Hash = [u8; 16];

/// Longer values are read one at a time.
const SMALL: i64 = 4_096;

/// Rows that are read ahead.
const AHEAD: i64 = 1_024;

/// A row as far as it is needed to compare it with a call.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) place: Place,
    pub(super) job: i64,
    pub(super) hash: Hash,
    pub(super) build: i64,
    pub(super) is_ok: bool,
    pub(super) attempts: u32,
    pub(super) micros: u64,
    /// Its value, unless that is long.
    pub(super) value: Option<Payload>,
}

/// A task's end, as it is written.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) place: Place,
    pub(super) job: i64,
    pub(super) hash: Hash,
    pub(super) build: i64,
    pub(super) class: Class,
    pub(super) value: Option<Payload>,
    pub(super) error: Option<String>,
    /// What it printed.
    pub(super) output: Option<String>,
    /// Arguments that are not kept as JSON.
    pub(super) args: Option<Payload>,
    pub(super) args_json: Option<String>,
    pub(super) value_json: Option<String>,
    pub(super) attempts: u32,
    pub(super) worker: Option<u32>,
    pub(super) micros: u64,
    pub(super) recorded: i64,
}

/// One build of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JobRow {
    pub(super) path: &'static str,
    pub(super) signature: &'static str,
    pub(super) schema: i64,
    pub(super) body: i64,
    pub(super) version: u32,
}

/// What is written, in order. Any of it may be written again after a transaction that failed.
#[derive(Debug)]
pub(super) enum Write {
    Ended(Box<Ended>),
    Build {
        id: i64,
        program: Vec<u8>,
        name: String,
        cw: &'static str,
        now: i64,
    },
    Run {
        id: i64,
        build: i64,
        command: String,
        host: String,
        pid: u32,
        generation: i64,
        now: i64,
    },
    RunEnded {
        id: i64,
        now: i64,
    },
    Job {
        id: i64,
        row: JobRow,
        generation: i64,
    },
    Block {
        id: u32,
        map: u32,
    },
    /// What the cluster's masters know this process by, and the specs that it has declared so far.
    Session(SessionRow),
    /// Tasks were handed in.
    Sent(SentRow),
    /// All of those have ended.
    ForgetSent {
        id: i64,
    },
    /// A session is over.
    ForgetSession {
        id: i64,
    },
    /// Older blocks of which nothing is left go.
    ForgetBlocks,
    /// A row moves to where its call is now.
    Move {
        from: Place,
        to: Place,
    },
    /// The rows of so many first inputs move to another block.
    MoveBlock {
        from: u32,
        to: u32,
        inputs: u32,
    },
}

/// A client's session with a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionRow {
    pub(super) id: i64,
    pub(super) cluster: String,
    pub(super) build: i64,
    pub(super) token: Vec<u8>,
    pub(super) number: u32,
    /// All specs, in order, encoded.
    pub(super) specs: Vec<u8>,
}

/// Tasks of one spec that were handed in together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SentRow {
    pub(super) id: i64,
    pub(super) session: i64,
    pub(super) spec: u32,
    pub(super) job: i64,
    /// See `sent::Sent`.
    pub(super) tasks: Vec<u8>,
}

/// The number of a class in the file, which stays what it is.
pub(super) fn status(class: Class) -> i64 {
    match class {
        Class::Ok => 0,
        Class::Failed => 1,
        Class::Panicked => 2,
        Class::Crashed => 3,
        Class::TimedOut => 4,
        Class::Cancelled => 5,
        Class::Lost => 6,
        Class::Refused => 7,
        Class::TooLarge => 8,
        Class::Disconnected => 9,
    }
}

/// What tells whether a value is still what was written.
pub(super) fn digest(value: &[u8]) -> Hash {
    short(&blake3::hash(value))
}

pub(super) fn short(hash: &blake3::Hash) -> Hash {
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

#[expect(clippy::cast_possible_wrap, reason = "the same bits, as SQLite has signed numbers only")]
pub(super) fn signed(number: u64) -> i64 {
    number as i64
}

#[expect(clippy::cast_sign_loss, reason = "the same bits, as SQLite has signed numbers only")]
pub(super) fn unsigned(number: i64) -> u64 {
    number as u64
}

impl Write {
    pub(super) fn run(&self, db: &Connection) -> rusqlite::Result<()> {
        match self {
            Self::Ended(row) => row.insert(db),
            Self::Build { id, program, name, cw, now } => db
                .prepare_cached("INSERT OR IGNORE INTO build VALUES(?, ?, ?, ?, ?)")?
                .execute(params![id, program, name, cw, now])
                .map(drop),
            Self::Run { id, build, command, host, pid, generation, now } => {
                db.prepare_cached("INSERT OR REPLACE INTO run VALUES(?, ?, ?, ?, ?, ?, ?, NULL)")?
                    .execute(params![id, build, command, host, pid, generation, now])?;
                db.execute("UPDATE job SET is_current = 0 WHERE generation < ?", [generation]).map(drop)
            }
            Self::RunEnded { id, now } => db
                .prepare_cached("UPDATE run SET ended_us = ? WHERE id = ?")?
                .execute(params![now, id])
                .map(drop),
            Self::Job { id, row, generation } => {
                db.prepare_cached("UPDATE job SET is_current = (id = ?) WHERE path = ?")?
                    .execute(params![id, row.path])?;
                db.prepare_cached("INSERT OR IGNORE INTO job VALUES(?, ?, ?, ?, ?, ?, ?, 1)")?
                    .execute(params![
                        id,
                        row.path,
                        row.signature,
                        row.schema,
                        row.body,
                        row.version,
                        generation
                    ])
                    .map(drop)
            }
            Self::Block { id, map } => {
                db.prepare_cached("UPDATE block SET is_current = 0 WHERE map = ?")?.execute([map])?;
                db.prepare_cached("INSERT OR REPLACE INTO block VALUES(?, ?, 1)")?
                    .execute(params![id, map])
                    .map(drop)
            }
            Self::Session(SessionRow { id, cluster, build, token, number, specs }) => db
                .prepare_cached("INSERT OR REPLACE INTO session VALUES(?, ?, ?, ?, ?, ?)")?
                .execute(params![id, cluster, build, token, number, specs])
                .map(drop),
            Self::Sent(SentRow { id, session, spec, job, tasks }) => db
                .prepare_cached("INSERT OR REPLACE INTO sent VALUES(?, ?, ?, ?, ?)")?
                .execute(params![id, session, spec, job, tasks])
                .map(drop),
            Self::ForgetSent { id } => {
                db.prepare_cached("DELETE FROM sent WHERE id = ?")?.execute([id]).map(drop)
            }
            Self::ForgetSession { id } => {
                db.execute("DELETE FROM sent WHERE session = ?", [id])?;
                db.execute("DELETE FROM session WHERE id = ?", [id]).map(drop)
            }
            Self::ForgetBlocks => db
                .execute(&format!("DELETE FROM block WHERE NOT is_current AND NOT {HAS_ROWS}"), [])
                .map(drop),
            Self::Move { from, to } => db
                .prepare_cached("UPDATE OR REPLACE task SET place = ? WHERE place = ?")?
                .execute(params![signed(to.0), signed(from.0)])
                .map(drop),
            Self::MoveBlock { from, to, inputs } => {
                let (first, end) = (Place::new(*from, 0), Place::new(*from, *inputs));
                let far = signed(Place::new(*to, 0).0) - signed(first.0);
                db.prepare_cached("UPDATE task SET place = place + ? WHERE place >= ? AND place < ?")?
                    .execute(params![far, signed(first.0), signed(end.0)])
                    .map(drop)
            }
        }
    }

    /// Whether a caller waits for it, or another program that reads.
    pub(super) fn is_waited_for(&self) -> bool {
        !matches!(
            self,
            Self::Sent(_) | Self::ForgetSent { .. } | Self::Session(_) | Self::ForgetSession { .. }
        )
    }

    /// When the row says that it was recorded.
    pub(super) fn recorded(&self) -> Option<i64> {
        match self {
            Self::Ended(row) => Some(row.recorded),
            _ => None,
        }
    }

    /// About how many bytes it has.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Ended(row) => {
                let (value, output) = (row.value.as_ref(), row.output.as_ref());
                value.as_ref().map_or(0, |value| value.len()) + output.map_or(0, String::len) + 200
            }
            Self::Sent(row) => row.tasks.len() + 100,
            _ => 100,
        }
    }
}

impl Ended {
    fn insert(&self, db: &Connection) -> rusqlite::Result<()> {
        let value = self.value.as_deref();
        let sql = "INSERT OR REPLACE INTO task VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        db.prepare_cached(sql)?
            .execute(params![
                signed(self.place.0),
                self.job,
                self.hash,
                self.build,
                status(self.class),
                self.attempts,
                self.worker,
                signed(self.micros),
                self.recorded,
                value.map(digest),
                self.error,
                self.output,
                self.args_json,
                self.value_json,
                self.args.as_deref(),
                value,
            ])
            .map(drop)
    }
}

const HEAD: &str = "SELECT place, job, hash, build, status, attempts, duration_us, \
                    CASE WHEN length(value) <= ?2 THEN value END FROM task";

fn head(row: &Row<'_>) -> rusqlite::Result<Head> {
    let value: Option<Vec<u8>> = row.get(7)?;
    Ok(Head {
        place: Place(unsigned(row.get(0)?)),
        job: row.get(1)?,
        hash: row.get(2)?,
        build: row.get(3)?,
        is_ok: row.get::<_, i64>(4)? == 0,
        attempts: row.get(5)?,
        micros: unsigned(row.get(6)?),
        value: value.map(Payload::from),
    })
}

/// The next rows of a block from a place on, at most [`AHEAD`].
pub(super) fn ahead(db: &Connection, from: Place) -> rusqlite::Result<Vec<Head>> {
    let end = Place((u64::from(from.block()) + 1) << 32);
    let sql = format!("{HEAD} WHERE place >= ?1 AND place < ?3 ORDER BY place LIMIT {AHEAD}");
    let mut statement = db.prepare_cached(&sql)?;
    statement.query_map(params![signed(from.0), SMALL, signed(end.0)], head)?.collect()
}

/// The row at a place.
pub(super) fn at(db: &Connection, place: Place) -> rusqlite::Result<Option<Head>> {
    let sql = format!("{HEAD} WHERE place = ?1");
    db.prepare_cached(&sql)?.query_row(params![signed(place.0), SMALL], head).optional()
}

/// The value at a place, however long.
pub(super) fn value(db: &Connection, place: Place) -> rusqlite::Result<Payload> {
    let sql = "SELECT value FROM task WHERE place = ?";
    let value: Option<Vec<u8>> = db.prepare_cached(sql)?.query_row([signed(place.0)], |row| row.get(0))?;
    Ok(value.unwrap_or_default().into())
}

/// The results of a job, by the beginning of their hash. Walks the whole table.
pub(super) fn results_of(db: &Connection, job: i64) -> rusqlite::Result<Vec<(u64, Place)>> {
    let mut statement = db.prepare("SELECT place, hash FROM task WHERE job = ? AND status = 0")?;
    let rows = statement.query_map([job], |row| Ok((prefix(&row.get(1)?), Place(unsigned(row.get(0)?)))))?;
    rows.collect()
}

/// Sessions of earlier processes that were not ended.
pub(super) fn sessions(db: &Connection) -> rusqlite::Result<Vec<SessionRow>> {
    let mut statement =
        db.prepare("SELECT id, cluster, build, token, number, specs FROM session ORDER BY id")?;
    let read = |row: &Row<'_>| {
        let (id, cluster, build, token) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        Ok(SessionRow { id, cluster, build, token, number: row.get(4)?, specs: row.get(5)? })
    };
    statement.query_map([], read)?.collect()
}

/// What was handed in during a session and had not all ended.
pub(super) fn sent(db: &Connection, session: i64) -> rusqlite::Result<Vec<SentRow>> {
    let mut statement = db.prepare("SELECT id, spec, job, tasks FROM sent WHERE session = ? ORDER BY id")?;
    let read = |row: &Row<'_>| {
        Ok(SentRow { id: row.get(0)?, session, spec: row.get(1)?, job: row.get(2)?, tasks: row.get(3)? })
    };
    statement.query_map([session], read)?.collect()
}

/// Numbers that no session and nothing that was sent has.
pub(super) fn next_session(db: &Connection) -> rusqlite::Result<(i64, i64)> {
    let next = |table: &str| {
        db.query_row(&format!("SELECT coalesce(max(id), 0) + 1 FROM {table}"), [], |row| row.get(0))
    };
    Ok((next("session")?, next("sent")?))
}

/// The beginning of a hash.
pub(super) fn prefix(hash: &Hash) -> u64 {
    u64::from_le_bytes(*hash.first_chunk().expect("a hash has 16 bytes"))
}

/// How often all was computed anew by the user's wish.
pub(super) fn generation(db: &Connection) -> rusqlite::Result<i64> {
    db.query_row("SELECT coalesce(max(generation), 0) FROM run", [], |row| row.get(0))
}

/// The number of a job as it is, if it has one. Rows of before all was last computed anew count no more.
pub(super) fn known_job(db: &Connection, job: &JobRow, generation: i64) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT id FROM job WHERE path = ? AND signature = ? AND schema = ? AND body = ? AND version = ? \
               AND generation = ?";
    let is = params![job.path, job.signature, job.schema, job.body, job.version, generation];
    db.query_row(sql, is, |row| row.get(0)).optional()
}

/// Whether anything is left of a block.
const HAS_ROWS: &str =
    "EXISTS(SELECT 1 FROM task WHERE place >= block.id << 32 AND place < (block.id + 1) << 32)";

/// The blocks that are a map's present one, or have rows: the number, the map, and which of both.
pub(super) fn blocks(db: &Connection) -> rusqlite::Result<Vec<(u32, (u32, bool))>> {
    let mut statement =
        db.prepare(&format!("SELECT id, map, is_current FROM block WHERE is_current OR {HAS_ROWS}"))?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
    rows.collect()
}
