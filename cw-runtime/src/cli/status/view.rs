//! What is known of a cluster, from whoever knows it: the master, the files of its folder, the engine.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use cw_core::wire::Standing;

use super::engine::Engine;
use crate::{
    access::{Access, ClusterDir, notes::Note},
    exit::{self, Trouble},
    launch::{Launched, fleet::Fleet},
    net::tls::Peer,
    observe::Observer,
    program,
};

/// A master that is known to have ended is called all the same, but not for longer than this: the system may be wrong
/// about locks of other machines.
const ENDED_WAIT: Duration = Duration::from_millis(300);

/// So many of a dead master's last lines are shown, and so much is read for them.
const LOG_LINES: usize = 5;
const LOG_BYTES: u64 = 8 << 10;

/// What is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) cluster: String,
    pub(super) folder: PathBuf,
    pub(super) master: Result<Found, Gone>,
    /// What was started, or why that is not known.
    pub(super) fleet: Result<Option<Fleet>, String>,
    /// What has become of it, or why that is not known. None as long as nobody was asked.
    pub(super) jobs: Option<Result<Vec<Launched>, String>>,
    /// What its engine has of others by the same name.
    pub(super) others: Option<String>,
    pub(super) notes: Vec<Note>,
}

/// A master that answers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) address: SocketAddr,
    pub(super) standing: Standing,
}

/// No master answers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gone {
    /// The exit code of it.
    pub(super) code: u8,
    pub(super) why: String,
    /// Whether it is known to have ended.
    pub(super) has_ended: bool,
    /// The last one there was: its process and host.
    pub(super) last: Option<(u32, String)>,
    /// The last lines it wrote, if it was in the background.
    pub(super) log: Vec<String>,
}

impl View {
    /// The same without what changes by itself as time passes.
    pub(super) fn at_rest(&self) -> Self {
        let mut view = self.clone();
        if let Ok(Found { standing, .. }) = &mut view.master {
            standing.seconds = 0;
            standing.workers.iter_mut().for_each(|worker| worker.left = None);
        }
        // Which addresses were tried for how long is another text each time.
        if let Err(gone) = &mut view.master {
            gone.why.clear();
        }
        view
    }
}

/// Looks at one cluster, again and again.
pub(super) struct Looker {
    dir: ClusterDir,
    patience: Duration,
    observer: Option<Observer>,
    engine: Engine,
}

impl Looker {
    pub(super) fn new(dir: ClusterDir, patience: Duration) -> Self {
        Self { dir, patience, observer: None, engine: Engine::default() }
    }

    /// How things are, with the engine's answer.
    pub(super) fn look_once(&mut self) -> View {
        self.look(true)
    }

    /// How things are, with what the engine has said so far.
    pub(super) fn look_again(&mut self) -> View {
        self.look(false)
    }

    fn look(&mut self, waits: bool) -> View {
        let fleet = self.dir.read_fleet().map_err(|error| Trouble::from(error).to_string());
        // It is asked while the master is.
        self.engine.ask(fleet.as_ref().ok().and_then(Option::as_ref), &self.dir);
        let master = self.master();
        let (jobs, others) = match self.engine.answer(waits) {
            Some(Ok((jobs, others))) => (Some(Ok(jobs)), others),
            Some(Err(why)) => (Some(Err(why)), None),
            None => (None, None),
        };
        View {
            cluster: self.dir.cluster().to_owned(),
            folder: self.dir.path().to_owned(),
            master,
            fleet,
            jobs,
            others,
            notes: self.dir.read_notes(),
        }
    }

    fn master(&mut self) -> Result<Found, Gone> {
        // The one that was there may have ended since.
        let again = self.observer.take().and_then(|mut observer| {
            let standing = observer.look().ok()?;
            Some((observer, standing))
        });
        let found = again.map_or_else(|| self.connect(), Ok);
        let (observer, standing) = found.map_err(|trouble| self.gone(&trouble))?;
        let address = observer.address();
        self.observer = Some(observer);
        Ok(Found { address, standing })
    }

    fn connect(&self) -> Result<(Observer, Standing), Trouble> {
        let wait = if self.has_ended() { ENDED_WAIT.min(self.patience) } else { self.patience };
        let mut observer = Observer::connect(self.dir.cluster(), wait)?;
        let standing = observer.look()?;
        Ok((observer, standing))
    }

    fn gone(&self, trouble: &Trouble) -> Gone {
        let has_ended = self.has_ended();
        // What might help to reach one that runs is no help here.
        let addresses = self.addresses().filter(|_| has_ended && trouble.code() == exit::NO_MASTER);
        let why = addresses.map_or_else(|| trouble.to_string(), |it| format!("nothing answers at {it}"));
        Gone {
            code: trouble.code(),
            why,
            has_ended,
            last: self.dir.last_master(),
            log: last_lines(&self.dir.log_folder().join("master.log")),
        }
    }

    /// Where the last master was to be reached.
    fn addresses(&self) -> Option<String> {
        let access = Access::read(&self.dir.access_file(Peer::Client)).ok()?;
        Some(access.addresses.join(", "))
    }

    /// Whether the last master was a process of this machine, and is no more.
    fn has_ended(&self) -> bool {
        let is_ours = |(_, host): &(u32, String)| *host == program::host_name();
        self.dir.last_master().as_ref().is_some_and(is_ours) && !self.dir.has_live_master()
    }
}

/// The end of a log.
fn last_lines(path: &Path) -> Vec<String> {
    let read = || {
        let mut file = File::open(path)?;
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LOG_BYTES).read_to_end(&mut bytes)?;
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let shown = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>();
    let lines: Vec<String> = text.lines().map(shown).filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_log_the_last_lines_are_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.log");
        assert_eq!(last_lines(&path), Vec::<String>::new());
        let long: String = (0..9_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&path, format!("{long}\n \u{1b}[31mthe last\n")).unwrap();
        assert_eq!(last_lines(&path), ["line 8996", "line 8997", "line 8998", "line 8999", " [31mthe last"]);
    }
}
