//! What readers ask of a store, and the answers: out of the file, or from the program that has it to itself.

use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

/// Rows that are looked at at once, and bytes that are handed over: as long as a statement is open, the log of the store
/// cannot be emptied, and whoever reads may take a while; and a program that has its store to itself answers in between.
const LOOKED_AT: u32 = 1_024;
const PAGE_BYTES: usize = 4 << 20;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Question {
    /// A number that is another one once something was written.
    Version,
    /// The paths of all jobs.
    Jobs,
    /// When a row was last recorded.
    Until,
    /// The next rows after a place.
    Page { after: i64, since: i64, until: i64, job: Option<String>, failed: bool },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Version(i64),
    Jobs(Vec<String>),
    Until(Option<i64>),
    /// Rows, and up to which place all were looked at; none at the end.
    Page(Vec<Raw>, Option<i64>),
}

/// A row as it lies in the file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Raw {
    pub(super) place: i64,
    pub(super) recorded_us: i64,
    pub(super) job: String,
    pub(super) schema: i64,
    pub(super) map: Option<i64>,
    pub(super) input: i64,
    pub(super) status: i64,
    /// Where there is no JSON of it.
    pub(super) args: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) error: Option<String>,
    pub(super) attempts: i64,
    pub(super) worker: Option<i64>,
    pub(super) duration_us: i64,
    pub(super) recorded: String,
    pub(super) build: String,
    pub(super) args_json: Option<String>,
    pub(super) value_json: Option<String>,
    pub(super) output: Option<String>,
}

pub(super) fn answer(db: &Connection, question: &Question) -> rusqlite::Result<Answer> {
    match question {
        Question::Version => {
            // The one counts what others have written, the other what this connection has.
            let others: i64 = db.query_row("PRAGMA data_version", [], |row| row.get(0))?;
            let own: i64 = db.query_row("SELECT total_changes()", [], |row| row.get(0))?;
            Ok(Answer::Version(others.wrapping_add(own)))
        }
        Question::Jobs => {
            let mut statement = db.prepare("SELECT DISTINCT path FROM job ORDER BY path")?;
            let paths = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
            Ok(Answer::Jobs(paths))
        }
        Question::Until => {
            db.query_row("SELECT max(recorded_us) FROM task", [], |row| row.get(0)).map(Answer::Until)
        }
        Question::Page { after, since, until, job, failed } => {
            let last = format!(
                "SELECT max(place) FROM (SELECT place FROM task WHERE place > ?1 ORDER BY place LIMIT {LOOKED_AT})"
            );
            let reached: Option<i64> = db.prepare_cached(&last)?.query_row([after], |row| row.get(0))?;
            let sql = "SELECT task.place, task.recorded_us, job.path, job.schema, block.map, task.place & 4294967295,
                    task.status, CASE WHEN task.args_json IS NULL THEN task.args END,
                    CASE WHEN task.value_json IS NULL THEN task.value END,
                    task.error, task.attempts, task.worker, task.duration_us,
                    strftime('%Y-%m-%dT%H:%M:%fZ', task.recorded_us / 1e6, 'unixepoch'),
                    substr(lower(hex(build.program)), 1, 12), task.args_json, task.value_json, task.output
                FROM task JOIN job ON job.id = task.job AND job.is_current JOIN build ON build.id = task.build
                    LEFT JOIN block ON block.id = task.place >> 32
                WHERE task.place > ?1 AND task.place <= ?6 AND task.recorded_us BETWEEN ?2 AND ?3
                    AND (?4 IS NULL OR substr(job.path, -length(?4)) = ?4) AND (NOT ?5 OR task.status <> 0)
                ORDER BY task.place";
            let (mut page, mut bytes) = (Vec::new(), 0);
            let mut statement = db.prepare_cached(sql)?;
            let mut rows = statement.query(params![after, since, until, job, failed, reached])?;
            while let Some(row) = rows.next()? {
                let raw = Raw::read(row)?;
                bytes += raw.bytes();
                page.push(raw);
                if bytes >= PAGE_BYTES {
                    let last = page.last().map(|raw: &Raw| raw.place);
                    return Ok(Answer::Page(page, last));
                }
            }
            Ok(Answer::Page(page, reached))
        }
    }
}

impl Raw {
    fn bytes(&self) -> usize {
        let blobs = [&self.args, &self.value].into_iter().flatten().map(Vec::len);
        let texts = [&self.error, &self.args_json, &self.value_json, &self.output]
            .into_iter()
            .flatten()
            .map(String::len);
        blobs.chain(texts).sum::<usize>() + 200
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            place: row.get(0)?,
            recorded_us: row.get(1)?,
            job: row.get(2)?,
            schema: row.get(3)?,
            map: row.get(4)?,
            input: row.get(5)?,
            status: row.get(6)?,
            args: row.get(7)?,
            value: row.get(8)?,
            error: row.get(9)?,
            attempts: row.get(10)?,
            worker: row.get(11)?,
            duration_us: row.get(12)?,
            recorded: row.get(13)?,
            build: row.get(14)?,
            args_json: row.get(15)?,
            value_json: row.get(16)?,
            output: row.get(17)?,
        })
    }
}
