//! What is done on the other side: `remote.sh` with its values, and what it says.

use std::{
    fmt::Write,
    fs::File,
    io::{self, Read},
    path::{self, PathBuf},
    time::Duration,
};

use super::reach::{Input, Lost, call};
use crate::launch::{fleet::Fleet, shell};

const SCRIPT: &str = include_str!("remote.sh");

/// How long each may take there, beside the time to connect: what `remote.sh` waits for, and then some.
const START: Duration = Duration::from_secs(30);
const PUT: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(40);

/// The executable that workers are started from.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// Where it lies for whoever sees the same files.
    path: PathBuf,
    /// What is sent.
    file: PathBuf,
    bytes: u64,
    blake3: String,
    sha256: String,
    /// Words that do nothing but show that it runs.
    check: &'static str,
}

impl Program {
    /// Reads it once, for both its hashes: one names it, the other is what systems have tools for.
    pub(super) fn of(fleet: &Fleet) -> io::Result<Self> {
        let path = path::absolute(fleet.command.first().map_or("cw", String::as_str))?;
        let mut file = File::open(&path)?;
        let (mut named, mut checked) =
            (blake3::Hasher::new(), ring::digest::Context::new(&ring::digest::SHA256));
        let (mut bytes, mut buffer) = (0, vec![0; 1 << 20]);
        loop {
            let read = match file.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if read == 0 {
                break;
            }
            named.update(&buffer[..read]);
            checked.update(&buffer[..read]);
            bytes += read as u64;
        }
        let is_programs_own = fleet.command.get(1).is_some_and(|word| word == crate::flag::CLUSTER_VERB);
        Ok(Self {
            file: path.clone(),
            path,
            bytes,
            blake3: hex(named.finalize().as_bytes()),
            sha256: hex(checked.finish().as_ref()),
            check: if is_programs_own { "cw --version" } else { "--version" },
        })
    }

    /// What it is called there.
    pub(super) fn name(&self) -> &str {
        &self.blake3
    }

    /// The same, with what is sent in another file.
    #[cfg(test)]
    pub(super) fn from(self, file: PathBuf) -> Self {
        Self { file, ..self }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What a host said of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) state: Option<Found>,
    /// Its folder there, where it was made or found.
    pub(super) folder: Option<String>,
    /// The last lines of its log.
    pub(super) log: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The program has to be sent first.
    Needs,
    /// The program is there now.
    Has,
    Started(u32),
    Running(u32),
    /// With this code, as a shell has it, if that is known.
    Ended(Option<i32>),
    /// There is nothing of ours.
    Nothing,
    Stopped,
    Failed(String),
}

impl Said {
    pub(super) fn read(lines: &[String]) -> Self {
        let mut said = Self::default();
        for line in lines {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let found = match word {
                "folder" => {
                    said.folder = Some(rest.to_owned());
                    continue;
                }
                "log" => {
                    said.log.push(rest.to_owned());
                    continue;
                }
                "need" => Found::Needs,
                "put" => Found::Has,
                "started" => Found::Started(rest.parse().unwrap_or_default()),
                "running" => Found::Running(rest.parse().unwrap_or_default()),
                "ended" => Found::Ended(rest.parse().ok()),
                "none" => Found::Nothing,
                "stopped" => Found::Stopped,
                "failed" => Found::Failed(rest.to_owned()),
                // A later build's; this one cannot know what it says.
                _ => continue,
            };
            said.state = Some(found);
        }
        said
    }
}

/// One host, and what has to be known to do something there.
pub(super) struct Remote<'a> {
    pub(super) args: &'a [String],
    pub(super) host: &'a str,
    /// Name of the fleet's folder there.
    pub(super) folder: String,
}

/// Something to do there.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) script: String,
    pub(super) input: Input,
    limit: Duration,
}

impl Remote<'_> {
    /// Starts a worker, if none runs, and sends the program where it is missing.
    pub(super) fn start(
        &self,
        fleet: &Fleet,
        slots: Option<u32>,
        program: &Program,
        access: &[u8],
    ) -> Result<Said, Lost> {
        let start = || self.call(self.starting(fleet, slots, program, access));
        let said = start()?;
        if said.state != Some(Found::Needs) {
            return Ok(said);
        }
        let put = self.call(self.putting(program)).map_err(|lost| Lost::Broken(lost.words().to_owned()))?;
        if put.state == Some(Found::Has) { start() } else { Ok(Said { folder: said.folder, ..put }) }
    }

    pub(super) fn look(&self) -> Result<Said, Lost> {
        self.call(self.looking())
    }

    pub(super) fn stop(&self) -> Result<Said, Lost> {
        self.call(self.stopping())
    }

    pub(super) fn starting(
        &self,
        fleet: &Fleet,
        slots: Option<u32>,
        program: &Program,
        access: &[u8],
    ) -> Call {
        let words = shell::line(fleet.worker_words(slots));
        let values = [
            ("HASH", program.blake3.as_str()),
            ("SHA", &program.sha256),
            ("SIZE", &program.bytes.to_string()),
            ("PROGRAM", &program.path.to_string_lossy()),
            ("CW", &fleet.home.to_string_lossy()),
            ("NAME", &fleet.cluster),
            ("FLEET", &fleet.id),
            ("ACCESS", &access.len().to_string()),
            ("WORDS", &words),
        ];
        Call { script: self.script("start", &values), input: Input::Bytes(access.to_vec()), limit: START }
    }

    pub(super) fn putting(&self, program: &Program) -> Call {
        let values = [
            ("HASH", program.blake3.as_str()),
            ("SHA", &program.sha256),
            ("SIZE", &program.bytes.to_string()),
            ("CHECK", program.check),
        ];
        let input = Input::File { path: program.file.clone(), bytes: program.bytes };
        Call { script: self.script("put", &values), input, limit: PUT }
    }

    pub(super) fn looking(&self) -> Call {
        Call { script: self.script("look", &[]), input: Input::Bytes(Vec::new()), limit: LOOK }
    }

    pub(super) fn stopping(&self) -> Call {
        Call { script: self.script("stop", &[]), input: Input::Bytes(Vec::new()), limit: STOP }
    }

    fn call(&self, Call { script, input, limit }: Call) -> Result<Said, Lost> {
        let said = Said::read(&call(self.args, self.host, script, input, limit)?);
        if said.state.is_some() {
            return Ok(said);
        }
        Err(Lost::Broken("its shell ended well, but did not do what it was told".to_owned()))
    }

    fn script(&self, verb: &str, values: &[(&str, &str)]) -> String {
        let mut script = format!("ID={}\n", shell::quote(&self.folder));
        for (name, value) in values {
            let _ = writeln!(script, "{name}={}", shell::quote(value));
        }
        // The last newline would be lost on its way through the shell that reads it.
        script + SCRIPT + verb
    }
}
