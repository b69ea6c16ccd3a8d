//! Reading a store for people: rows, a summary, tables.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use rusqlite::Connection;
use serde_json::Value;

use super::{
    file::{canonical, in_words, open_to_read},
    owner,
    reads::{self, Answer, Question, Raw},
    rows::{digest, signed},
    serve::Asked,
};
use crate::job::{self, Json, Registry};

/// Longer texts are no use to people.
const JSON_MAX: usize = 64 << 20;

/// How many of the slowest, and of the messages, a summary names.
const NAMED: usize = 5;

/// A task's end, as it is read.
pub(crate) struct Row {
    job: String,
    map: Option<i64>,
    input: i64,
    status: String,
    arguments: Option<String>,
    value: Option<String>,
    error: Option<String>,
    attempts: i64,
    worker: Option<i64>,
    seconds: f64,
    recorded: String,
    build: String,
    /// What it printed, if anything.
    pub(crate) output: Option<String>,
}

/// Where rows come from.
enum Source {
    File(Connection),
    /// A program has the file to itself.
    Program(Asked),
}

impl Source {
    fn of(path: &Path) -> Result<Self, String> {
        let real = canonical(path);
        let record = owner::record_of(&real);
        let socket =
            record.as_ref().filter(|record| record.is_here()).and_then(|record| record.socket.clone());
        if let Some(asked) = socket.and_then(|socket| Asked::connect(&socket).ok()) {
            return Ok(Self::Program(asked));
        }
        // Where its lock does not reach, what is read while it writes may be anything.
        match record.filter(|_| owner::shows_life(&real)) {
            None => open_to_read(path).map(Self::File),
            Some(record) => Err(format!(
                "store {}: {} has it to itself, as it lies on a network file system: read it there",
                path.display(),
                record.name()
            )),
        }
    }
}

/// A store that is read.
pub(crate) struct Reader {
    source: Source,
    path: PathBuf,
    job: Option<String>,
    failed: bool,
    /// All up to then has been read, and of that very moment these places.
    until: i64,
    places: Vec<i64>,
    /// As SQLite counts what others have written.
    version: Option<i64>,
}

impl Reader {
    /// Opens a store, whoever writes to it. Reads the rows of jobs whose path ends so; all, or what has no value.
    ///
    /// # Errors
    /// A line: it is no store, cannot be read, is damaged, or has no such job.
    pub(crate) fn open(path: &Path, job: Option<String>, failed: bool) -> Result<Self, String> {
        let source = Source::of(path)?;
        let path = path.to_owned();
        let reader = Self { source, path, job, failed, until: i64::MIN, places: Vec::new(), version: None };
        reader.check_job()?;
        Ok(reader)
    }

    fn named(&self, error: &rusqlite::Error) -> String {
        format!("store {}: {}", self.path.display(), in_words(error))
    }

    fn ask(&self, question: &Question) -> Result<Answer, String> {
        match &self.source {
            Source::File(db) => reads::answer(db, question).map_err(|error| self.named(&error)),
            Source::Program(asked) => asked.ask(question),
        }
    }

    fn check_job(&self) -> Result<(), String> {
        let Some(wanted) = &self.job else { return Ok(()) };
        let Answer::Jobs(paths) = self.ask(&Question::Jobs)? else { return Err(no_answer()) };
        match paths.iter().any(|path| path.ends_with(wanted.as_str())) {
            true => Ok(()),
            false => Err(format!(
                "store {} has no results of a job `{wanted}`; it has those of {}",
                self.path.display(),
                paths.join(", ")
            )),
        }
    }

    /// Reads all again.
    pub(crate) fn begin_again(&mut self) {
        (self.until, self.version) = (i64::MIN, None);
        self.places.clear();
    }

    /// Hands over the rows that have not been read, in the order of their inputs.
    ///
    /// # Errors
    /// A line: the file cannot be read.
    pub(crate) fn each(&mut self, mut take: impl FnMut(Row)) -> Result<(), String> {
        let Answer::Version(version) = self.ask(&Question::Version)? else { return Err(no_answer()) };
        if self.version.replace(version) == Some(version) {
            return Ok(());
        }
        // What is recorded from now on is of this moment or later, and is read the next time.
        let Answer::Until(until) = self.ask(&Question::Until)? else { return Err(no_answer()) };
        let Some(until) = until else { return Ok(()) };
        let (mut after, mut places) = (-1, Vec::new());
        loop {
            let (page, reached) = self.page(after, until)?;
            let Some(reached) = reached else { break };
            after = reached;
            for raw in page {
                if raw.recorded_us == until {
                    places.push(raw.place);
                }
                if raw.recorded_us > self.until || !self.places.contains(&raw.place) {
                    take(Row::of(raw));
                }
            }
        }
        if until == self.until {
            self.places.extend(places);
        } else {
            (self.until, self.places) = (until, places);
        }
        Ok(())
    }

    /// The next rows.
    fn page(&self, after: i64, until: i64) -> Result<(Vec<Raw>, Option<i64>), String> {
        let (since, job, failed) = (self.until, self.job.clone(), self.failed);
        match self.ask(&Question::Page { after, since, until, job, failed })? {
            Answer::Page(rows, reached) => Ok((rows, reached)),
            _ => Err(no_answer()),
        }
    }

    /// Reads all of the file, and says on standard output what is wrong with it; whether anything is.
    ///
    /// # Errors
    /// A line: it cannot even be read.
    pub(crate) fn verify(&self) -> Result<bool, String> {
        match &self.source {
            Source::File(db) => self.try_verify(db).map_err(|error| self.named(&error)),
            Source::Program(_) => Err(format!(
                "store {}: a program has it to itself; it can be verified once that has ended",
                self.path.display()
            )),
        }
    }

    fn try_verify(&self, db: &Connection) -> rusqlite::Result<bool> {
        let mut faults = 0u64;
        let mut statement = db.prepare("PRAGMA integrity_check")?;
        for line in statement.query_map([], |row| row.get::<_, String>(0))? {
            let line = line?;
            if line != "ok" {
                faults += 1;
                println!("{line}");
            }
        }
        let mut results = 0u64;
        let mut statement = db.prepare(
            "SELECT job.path, task.place & 4294967295, value, digest FROM task JOIN job ON job.id = task.job
                WHERE value IS NOT NULL ORDER BY place",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            results += 1;
            let (value, written): (Vec<u8>, Vec<u8>) = (row.get(2)?, row.get(3)?);
            if digest(&value)[..] != written[..] {
                faults += 1;
                println!(
                    "the value of input {} of {} is not what was written",
                    row.get::<_, i64>(1)?,
                    row.get::<_, String>(0)?
                );
            }
        }
        match faults {
            0 => println!("{}: {results} results, all as they were written", self.path.display()),
            faults => println!("{}: {faults} faults in {results} results", self.path.display()),
        }
        Ok(faults > 0)
    }
}

fn no_answer() -> String {
    "the program that has the store does not answer what it was asked: it is of another cw".to_owned()
}

/// What this program's own types make of bytes that were not kept as JSON.
fn typed(path: &str, schema: i64, bytes: Option<Vec<u8>>, is_result: bool) -> Option<String> {
    let (bytes, registry) = (bytes?, Registry::global().ok()?);
    let (index, entry) = registry.entries().iter().enumerate().find(|(_, entry)| entry.path == path)?;
    if signed(job::schema_hash(u32::try_from(index).ok()?)) != schema {
        return None;
    }
    let mut json = Json::new(JSON_MAX);
    if is_result {
        (entry.shows.result)(&bytes, &mut json).ok()?;
        json.into_value()
    } else {
        (entry.shows.args)(&bytes, &mut json).ok()?;
        json.into_object()
    }
}

/// A status in words, as the view `results` has them.
fn word(status: i64) -> String {
    let word = match status {
        0 => "ok",
        1 => "failed",
        2 => "panicked",
        3 => "crashed",
        4 => "timed out",
        6 => "lost",
        7 => "refused",
        8 => "too large",
        _ => "other",
    };
    word.to_owned()
}

impl Row {
    fn of(raw: Raw) -> Self {
        let Raw { job, schema, map, input, error, attempts, worker, recorded, build, output, .. } = raw;
        let arguments = raw.args_json.or_else(|| typed(&job, schema, raw.args, false));
        let value = raw.value_json.or_else(|| typed(&job, schema, raw.value, true));
        let (status, seconds) = (word(raw.status), raw.duration_us as f64 / 1e6);
        Self {
            job,
            map,
            input,
            status,
            arguments,
            value,
            error,
            attempts,
            worker,
            seconds,
            recorded,
            build,
            output,
        }
    }

    /// As an object of JSON.
    pub(crate) fn json(&self) -> String {
        let text = |text: &str| Value::from(text).to_string();
        let or_null = |text: &Option<String>| text.clone().unwrap_or_else(|| "null".to_owned());
        let number = |number: Option<i64>| Value::from(number).to_string();
        format!(
            "{{\"job\":{},\"map\":{},\"input\":{},\"status\":{},\"arguments\":{},\"value\":{},\"error\":{},\
             \"attempts\":{},\"worker\":{},\"seconds\":{},\"recorded\":{},\"build\":{}{}}}",
            text(&self.job),
            number(self.map),
            self.input,
            text(&self.status),
            or_null(&self.arguments),
            or_null(&self.value),
            Value::from(self.error.as_deref()),
            self.attempts,
            number(self.worker),
            self.seconds,
            text(&self.recorded),
            text(&self.build),
            self.output.as_deref().map(|output| format!(",\"output\":{}", text(output))).unwrap_or_default(),
        )
    }

    /// As a line for people.
    pub(crate) fn line(&self) -> String {
        let arguments = self.arguments.as_deref().unwrap_or("..");
        let end = self.error.as_deref().or(self.value.as_deref()).unwrap_or("..");
        let word = if self.error.is_some() { "" } else { "-> " };
        format!("{} {arguments} {word}{end}", self.job)
    }

    /// What its columns are called, and what is in them.
    fn cells(&self) -> Vec<(String, String)> {
        let mut cells = vec![
            ("job".to_owned(), self.job.clone()),
            ("map".to_owned(), self.map.map_or(String::new(), |map| map.to_string())),
            ("input".to_owned(), self.input.to_string()),
            ("status".to_owned(), self.status.clone()),
        ];
        flatten("arguments", self.arguments.as_deref(), &mut cells);
        flatten("value", self.value.as_deref(), &mut cells);
        cells.extend([
            ("error".to_owned(), harmless(self.error.clone().unwrap_or_default())),
            ("attempts".to_owned(), self.attempts.to_string()),
            ("worker".to_owned(), self.worker.map_or(String::new(), |worker| worker.to_string())),
            ("seconds".to_owned(), self.seconds.to_string()),
            ("recorded".to_owned(), self.recorded.clone()),
            ("build".to_owned(), self.build.clone()),
        ]);
        cells
    }
}

/// A cell for each field of a value, however deep; lists stay whole.
fn flatten(name: &str, json: Option<&str>, cells: &mut Vec<(String, String)>) {
    match json.and_then(|json| serde_json::from_str(json).ok()) {
        None | Some(Value::Null) => {}
        Some(value) => flatten_value(name.to_owned(), &value, cells),
    }
}

fn flatten_value(name: String, value: &Value, cells: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(field, value)| flatten_value(format!("{name}.{field}"), value, cells));
        }
        Value::String(text) => cells.push((name, harmless(text.clone()))),
        Value::Null => {}
        other => cells.push((name, other.to_string())),
    }
}

/// Spreadsheets take a text that begins so for a formula, and run it.
fn harmless(text: String) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text }
}

/// A table with a column for each field that any row has.
#[derive(Default)]
pub(crate) struct Table {
    columns: Vec<String>,
    place: BTreeMap<String, usize>,
}

impl Table {
    /// Learns a row's columns. Each comes after the one that it follows in its row.
    pub(crate) fn learn(&mut self, row: &Row) {
        let mut after = 0;
        for (name, _) in row.cells() {
            if let Some(place) = self.place.get(&name) {
                after = place + 1;
                continue;
            }
            self.columns.insert(after, name);
            after += 1;
            self.place = cw_core::gathered(self.columns.iter().cloned().zip(0..));
        }
    }

    pub(crate) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// A row's cells, one for each column. What has none is left out: it came after the columns were settled.
    pub(crate) fn cells(&self, row: &Row) -> Vec<String> {
        let mut cells = vec![String::new(); self.columns.len()];
        for (name, cell) in row.cells() {
            if let Some(place) = self.place.get(&name) {
                cells[*place] = cell;
            }
        }
        cells
    }
}

/// What there is, in short.
#[derive(Default)]
pub(crate) struct Summary {
    jobs: BTreeMap<String, BTreeMap<String, u64>>,
    slowest: Vec<(f64, String)>,
    messages: BTreeMap<String, (u64, String)>,
    builds: BTreeMap<String, u64>,
    seconds: f64,
}

impl Summary {
    pub(crate) fn add(&mut self, row: &Row) {
        *self.jobs.entry(row.job.clone()).or_default().entry(row.status.clone()).or_default() += 1;
        *self.builds.entry(row.build.clone()).or_default() += 1;
        self.seconds += row.seconds;
        let name = || {
            let arguments: String = row.arguments.as_deref().unwrap_or("..").chars().take(80).collect();
            format!("{} {arguments}", row.job)
        };
        if let Some(error) = &row.error {
            self.messages.entry(error.clone()).or_insert_with(|| (0, name())).0 += 1;
        }
        if self.slowest.len() < NAMED
            || self.slowest.last().is_some_and(|(seconds, _)| row.seconds > *seconds)
        {
            let place = self.slowest.partition_point(|(seconds, _)| seconds.total_cmp(&row.seconds).is_ge());
            self.slowest.insert(place, (row.seconds, name()));
            self.slowest.truncate(NAMED);
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.jobs.is_empty() {
            return writeln!(f, "no results");
        }
        for (job, counts) in &self.jobs {
            let counts: Vec<_> = counts.iter().map(|(status, tasks)| format!("{tasks} {status}")).collect();
            writeln!(f, "{job}: {}", counts.join(", "))?;
        }
        let builds = match self.builds.len() {
            1 => "one build".to_owned(),
            more => format!("{more} builds"),
        };
        writeln!(f, "{:.1} s of slots in all, by {builds} of the program", self.seconds)?;
        if !self.messages.is_empty() {
            writeln!(f, "\nfailures")?;
            let mut messages: Vec<_> = self.messages.iter().collect();
            messages.sort_unstable_by_key(|(message, (tasks, _))| (std::cmp::Reverse(*tasks), *message));
            for (message, (tasks, first)) in messages.iter().take(NAMED) {
                writeln!(f, "{tasks:>7}  {message}  (such as {first})")?;
            }
            if messages.len() > NAMED {
                writeln!(
                    f,
                    "         and {} other messages; --failed --format jsonl has all",
                    messages.len() - NAMED
                )?;
            }
        }
        writeln!(f, "\nslowest")?;
        self.slowest.iter().try_for_each(|(seconds, name)| writeln!(f, "{seconds:>9.3} s  {name}"))
    }
}
