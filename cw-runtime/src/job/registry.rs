//! All jobs linked into this executable.
//!
//! Each `#[cw::job]` submits one [`JobEntry`] before `main`. The linker's order means nothing, so the registry sorts by
//! id: then the position of a job is the same in every process of one executable and serves as its index on the wire.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use super::codec::CodecError;
use super::json::Json;
use super::outcome::Fail;
use super::schema::Schema;
use super::{BoxFuture, Job};

/// A job's function, behind bytes.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// Runs where it is called, and appends the encoded result to the second argument.
    Sync(fn(&[u8], &mut Vec<u8>) -> Result<(), Fail>),
    /// Owns its arguments, since the future may outlive the frame they came in.
    Async(fn(Vec<u8>) -> BoxFuture<'static, Encoded>),
}

type Encoded = Result<Vec<u8>, Fail>;

/// What people read of a call: bytes to JSON.
#[derive(Clone, Copy, Debug)]
pub struct Shows {
    /// Of its arguments.
    pub args: fn(&[u8], &mut Json) -> Result<(), CodecError>,
    /// Of its result.
    pub result: fn(&[u8], &mut Json) -> Result<(), CodecError>,
}

/// One registered job.
#[derive(Debug)]
pub struct JobEntry {
    /// [`Job::ID`].
    pub id: u64,
    /// [`Job::PATH`].
    pub path: &'static str,
    /// [`Job::SIGNATURE`].
    pub signature: &'static str,
    /// [`Job::VERSION`].
    pub version: u32,
    /// [`Job::RETRIES`].
    pub retries: Option<u32>,
    /// [`Job::TIMEOUT`].
    pub timeout: Option<Duration>,
    /// [`Job::MAX_BYTES`].
    pub max_bytes: usize,
    /// Decodes, calls, encodes.
    pub run: Run,
    /// Traces the types; it costs some microseconds, so call it once and keep the answer.
    pub schema: fn() -> Schema,
    /// [`Job::BODY`].
    pub body: u64,
    /// [`Job::JSON_BYTES`].
    pub json_bytes: u32,
    /// For people.
    pub shows: Shows,
    /// Source file, for messages only.
    pub file: &'static str,
    /// Line in that file.
    pub line: u32,
}

impl JobEntry {
    /// The entry of `J`; const, because it is placed in a static before `main`.
    pub const fn new<J: Job>(
        run: Run,
        schema: fn() -> Schema,
        shows: Shows,
        file: &'static str,
        line: u32,
    ) -> Self {
        Self {
            id: J::ID,
            path: J::PATH,
            signature: J::SIGNATURE,
            version: J::VERSION,
            retries: J::RETRIES,
            timeout: J::TIMEOUT,
            max_bytes: J::MAX_BYTES,
            run,
            schema,
            body: J::BODY,
            json_bytes: J::JSON_BYTES,
            shows,
            file,
            line,
        }
    }

    fn place(&self) -> Place {
        Place { path: self.path, file: self.file, line: self.line }
    }
}

inventory::collect!(JobEntry);

/// The jobs of this executable, each found by id or by index.
#[derive(Debug)]
pub struct Registry {
    entries: Vec<&'static JobEntry>,
}

impl Registry {
    /// The registry of this executable, built at the first call.
    ///
    /// # Errors
    ///
    /// When two jobs share an id. Trying again does not help; the program has to be changed.
    pub fn global() -> Result<&'static Self, &'static DuplicateJob> {
        static REGISTRY: OnceLock<Result<Registry, DuplicateJob>> = OnceLock::new();
        REGISTRY.get_or_init(|| Self::new(inventory::iter::<JobEntry>.into_iter().collect())).as_ref()
    }

    fn new(entries: Vec<&'static JobEntry>) -> Result<Self, DuplicateJob> {
        let entries = sorted(entries);
        match entries.windows(2).find(|pair| pair[0].id == pair[1].id) {
            Some(pair) => Err(DuplicateJob { first: pair[0].place(), second: pair[1].place() }),
            None => Ok(Self { entries }),
        }
    }

    /// All jobs by ascending id, possibly none. The position of a job is its index.
    pub fn entries(&self) -> &[&'static JobEntry] {
        &self.entries
    }

    /// The index of the job with this id.
    pub fn index_of(&self, id: u64) -> Option<u32> {
        let index = self.entries.binary_search_by_key(&id, |entry| entry.id).ok()?;
        u32::try_from(index).ok()
    }

    /// The job at this index.
    pub fn entry(&self, index: u32) -> Option<&'static JobEntry> {
        self.entries.get(usize::try_from(index).ok()?).copied()
    }
}

/// By id; duplicates by place, so that the message about them is the same in every process.
fn sorted(mut entries: Vec<&'static JobEntry>) -> Vec<&'static JobEntry> {
    entries.sort_unstable_by_key(|entry| (entry.id, entry.file, entry.line));
    entries
}

/// Two jobs have the same id, nearly always because they have the same path: two functions of one name inside two
/// function bodies, or a module compiled into both the library and the program.
#[derive(Clone, Debug, thiserror::Error)]
#[error("two cw jobs share an id: {first} and {second}; give one of them `#[cw::job(name = \"..\")]`")]
pub struct DuplicateJob {
    first: Place,
    second: Place,
}

#[derive(Clone, Debug)]
struct Place {
    path: &'static str,
    file: &'static str,
    line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.path, self.file, self.line)
    }
}

/// What is known of a registered job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobInfo {
    /// Where the function is, like `app::physics::simulate`.
    pub path: &'static str,
    /// The types as they are written.
    pub signature: &'static str,
    /// The hash of `path`.
    pub id: u64,
    /// The `version` given to the attribute, or 0.
    pub version: u32,
    /// The hash of the argument and result types, down to their fields.
    pub schema: u64,
}

/// The schema hash of the job at this index.
pub(crate) fn schema_hash(index: u32) -> u64 {
    described().get(index as usize).map_or(0, |(_, schema)| schema.hash)
}

/// The jobs linked into this program, by ascending id.
///
/// A crate that is a dependency but is named nowhere in the source is not linked, so its jobs are missing here and on
/// the workers alike.
pub fn jobs() -> impl ExactSizeIterator<Item = JobInfo> {
    described().iter().map(|(entry, schema)| JobInfo {
        path: entry.path,
        signature: entry.signature,
        id: entry.id,
        version: entry.version,
        schema: schema.hash,
    })
}

/// Why jobs of this program cannot run, a line each, in an order that is the same in every process; none when all is
/// well.
pub(crate) fn problems() -> Vec<String> {
    let duplicate = Registry::global().err().map(ToString::to_string);
    duplicate.into_iter().chain(unfit(described())).collect()
}

fn unfit(described: &[(&JobEntry, Schema)]) -> impl Iterator<Item = String> {
    described.iter().flat_map(|(entry, schema)| {
        schema.unfit.iter().map(|why| format!("job `{}` cannot run: {why}", entry.path))
    })
}

/// All jobs with their schemas, by ascending id; traced at the first call.
fn described() -> &'static [(&'static JobEntry, Schema)] {
    static DESCRIBED: OnceLock<Vec<(&'static JobEntry, Schema)>> = OnceLock::new();
    DESCRIBED.get_or_init(|| {
        let entries = sorted(inventory::iter::<JobEntry>.into_iter().collect());
        entries.into_iter().map(|entry| (entry, (entry.schema)())).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::super::schema::SchemaBuilder;
    use super::*;

    static ADD: JobEntry = entry(30, "app::add", 10);
    static MUL: JobEntry = entry(7, "app::mul", 20);
    static ADD_AGAIN: JobEntry = entry(30, "app::add", 5);

    const fn entry(id: u64, path: &'static str, line: u32) -> JobEntry {
        JobEntry {
            id,
            path,
            signature: "()->()",
            version: 0,
            retries: None,
            timeout: None,
            max_bytes: 1 << 20,
            run: Run::Sync(|_, _| Ok(())),
            schema: || SchemaBuilder::new("()->()").finish(),
            body: 0,
            json_bytes: 0,
            shows: Shows { args: |_, _| Ok(()), result: |_, _| Ok(()) },
            file: "src/app.rs",
            line,
        }
    }

    #[test]
    fn the_index_does_not_depend_on_the_order_of_linking() {
        for entries in [vec![&ADD, &MUL], vec![&MUL, &ADD]] {
            let registry = Registry::new(entries).unwrap();
            assert_eq!(registry.index_of(7), Some(0));
            assert_eq!(registry.index_of(30), Some(1));
            assert_eq!(registry.entry(1).unwrap().path, "app::add");
        }
    }

    #[test]
    fn each_problem_of_a_job_is_a_line() {
        let schema =
            |unfit: &[&str]| Schema { hash: 0, unfit: unfit.iter().map(ToString::to_string).collect() };
        let described = [(&MUL, schema(&[])), (&ADD, schema(&["argument `a` ..", "the result .."]))];
        let lines: Vec<_> = unfit(&described).collect();
        let expected =
            ["job `app::add` cannot run: argument `a` ..", "job `app::add` cannot run: the result .."];
        assert_eq!(lines, expected);
    }

    #[test]
    fn unknown_jobs_are_none() {
        let registry = Registry::new(vec![&ADD]).unwrap();
        assert_eq!(registry.index_of(8), None);
        assert!(registry.entry(1).is_none());
    }

    #[test]
    fn a_shared_id_names_both_places() {
        let error = Registry::new(vec![&ADD, &MUL, &ADD_AGAIN]).unwrap_err();
        let text = "two cw jobs share an id: app::add (src/app.rs:5) and app::add (src/app.rs:10); \
                    give one of them `#[cw::job(name = \"..\")]`";
        assert_eq!(error.to_string(), text);
    }
}
