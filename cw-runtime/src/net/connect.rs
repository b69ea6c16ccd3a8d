//! Finding the master and being let in: waits for a master that is not up yet, and says so.

mod board;
mod hunt;
pub(crate) mod idle;
mod probe;
mod race;
mod waiting;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use cw_core::wire::{Hello, Role, Session, Welcome};

use self::{
    board::{Board, QUIET},
    hunt::Hunt,
    waiting::Waiting,
};
use super::tls::{self, Peer};
use crate::{
    access::{Access, AccessErrorKind, ClusterDir, role::is_gone},
    exit::{self, Trouble},
    flag::flag,
};

/// Port of a master whose address names none.
pub(crate) const DEFAULT_PORT: u16 = 5494;

/// A try ends after this long, or with the time to wait. A handshake among a thousand others can take seconds.
const TRY_TIME: Duration = Duration::from_secs(10);

/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How often the access file is looked at during a try: a restarted master writes a new one.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// Longest greeting taken.
pub(crate) const GREETING_BYTES_MAX: usize = 4 << 20;

/// Where to look for a master, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The cluster, whose folder holds the access file.
    pub(crate) cluster: String,
    /// An access file that takes the place of the folder's.
    pub(crate) access: Option<PathBuf>,
    /// An address that takes the place of the file's.
    pub(crate) master: Option<String>,
    /// What this process wants to be.
    pub(crate) role: Peer,
    /// When to give up.
    pub(crate) timeout: Duration,
}

/// How long to look for a master, and the flag that says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) time: Duration,
    pub(crate) flag: &'static str,
}

/// A connection to a master that has welcomed this process.
pub(crate) struct Joined {
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) connection: quinn::Connection,
    /// The lanes; with the first comes what was read beyond the greeting.
    pub(crate) lanes: [(quinn::SendStream, quinn::RecvStream); 2],
    pub(crate) read: BytesMut,
    pub(crate) welcome: Welcome,
    /// By what its masters know this process from now on.
    pub(crate) session: Session,
    pub(crate) address: SocketAddr,
    /// The access file that led there.
    pub(crate) path: PathBuf,
}

/// Why a try failed.
struct Failed {
    why: String,
    /// Whether another try cannot help.
    is_final: bool,
}

impl Failed {
    fn again(why: impl Into<String>) -> Self {
        Self { why: why.into(), is_final: false }
    }
}

impl Wanted {
    /// Which cluster it is.
    pub(crate) fn name(&self) -> String {
        self.access.as_ref().map_or_else(|| self.cluster.clone(), |path| path.display().to_string())
    }

    /// The cluster's own name, which the file of another folder has within.
    fn cluster_name(&self) -> String {
        let named = self.access.as_ref().and_then(|path| Access::read(path).ok());
        named.map_or_else(|| self.cluster.clone(), |access| access.cluster)
    }

    /// Where a worker leaves notes of what stands in its way: the cluster's folder, if it can be told.
    pub(crate) fn folder_for_notes(&self) -> Option<ClusterDir> {
        let is_worker = self.role == Peer::Worker;
        is_worker.then(|| ClusterDir::of_notes(&self.cluster, self.access.as_deref())).flatten()
    }

    fn path(&self) -> Result<PathBuf, Trouble> {
        match &self.access {
            Some(path) => Ok(path.clone()),
            None => Ok(ClusterDir::locate(&self.cluster)?.access_file(self.role)),
        }
    }
}

/// A process on its way into a cluster, again and again: what its masters made of it goes with it.
pub(crate) struct Search {
    wanted: Wanted,
    hello: Hello,
    /// The highest epoch of the masters that welcomed this process.
    epoch: u64,
    /// Whether the user reads nothing of it.
    is_quiet: bool,
    /// Whether there is nothing to look for any more once the access file is gone.
    ends_with_folder: bool,
}

impl Search {
    pub(crate) fn new(wanted: Wanted, hello: Hello) -> Self {
        Self { wanted, hello, epoch: 0, is_quiet: false, ends_with_folder: false }
    }

    /// A search of which nothing is said.
    pub(crate) fn quiet(wanted: Wanted, hello: Hello) -> Self {
        Self { is_quiet: true, ..Self::new(wanted, hello) }
    }

    /// Has it end when the access file is gone, which is there already: its cluster is no longer than that.
    pub(crate) fn end_with_folder(&mut self) {
        self.ends_with_folder = true;
    }

    /// Whether a master that is lost has perhaps only come to its end.
    pub(crate) fn may_end(&self) -> bool {
        self.ends_with_folder
    }

    /// How long the first master is looked for.
    pub(crate) fn patience(&self) -> Patience {
        Patience { time: self.wanted.timeout, flag: "connect-timeout" }
    }

    /// From now on a master is looked for so long.
    pub(crate) fn be_patient(&mut self, time: Duration) {
        self.wanted.timeout = time;
    }

    /// Notes how long this worker has left, for the next master's greeting.
    pub(crate) fn note_left(&mut self, seconds: Option<u32>) {
        if let Role::Worker { left, .. } = &mut self.hello.role {
            *left = seconds;
        }
    }

    /// Connects, waiting for the access file and the master to appear.
    ///
    /// # Errors
    /// Files that cannot be used, a master that refuses, or none in time.
    pub(crate) async fn join(&mut self, patience: Patience) -> Result<Joined, Trouble> {
        let joined = join(self, patience).await?;
        let (_, epoch) = number_and_epoch(&joined.welcome);
        self.hello.session = joined.session;
        self.epoch = self.epoch.max(epoch);
        Ok(joined)
    }
}

/// The number that a master gave this process, and the master's epoch.
pub(crate) fn number_and_epoch(welcome: &Welcome) -> (u32, u64) {
    match welcome {
        Welcome::Client { client, epoch, .. } => (client.0, *epoch),
        Welcome::Worker { worker, epoch, .. } => (worker.0, *epoch),
        // It has none, and no session in which it would be asked for it.
        Welcome::Observer { epoch } => (0, *epoch),
    }
}

/// Why a master was left whose time is over.
pub(crate) fn followed(epoch: u64) -> String {
    format!("there is a newer one, of epoch {epoch}")
}

async fn join(search: &Search, patience: Patience) -> Result<Joined, Trouble> {
    let Search { wanted, hello, epoch, is_quiet, ends_with_folder } = search;
    let path = wanted.path()?;
    let start = Instant::now();
    let mut pause = Duration::from_millis(2);
    // Who was let in before has something to lose, and what now stands in the way may pass: another cluster's
    // master on the port, a file system that does not answer. And its user has read that the master is lost.
    let is_new = hello.session.known.is_none();
    let mut waiting = Waiting::new(patience, !is_new, *is_quiet, wanted.folder_for_notes());
    if *ends_with_folder {
        waiting.be_slow();
    }
    // The master of a step is in the step.
    let hunt = if *ends_with_folder { Hunt::none() } else { Hunt::new(wanted) };
    let calls = Calls { board: Arc::default(), hunt };
    loop {
        let time = TRY_TIME.min(patience.time.saturating_sub(start.elapsed()));
        let tried = {
            let trying = try_once(wanted, &path, hello, *epoch, (&calls.board, &calls.hunt), time);
            tokio::pin!(trying);
            loop {
                // The try goes on where it was.
                tokio::select! {
                    tried = &mut trying => break tried,
                    () = gone(&path), if *ends_with_folder => break Err(over(&path)),
                    () = tokio::time::sleep(QUIET) => {
                        calls.hunt.ask();
                        waiting.say(start.elapsed(), &calls.so_far(&path));
                    }
                }
            }
        };
        let why = match tried {
            Ok(Ok(joined)) => {
                waiting.over(&joined);
                return Ok(joined);
            }
            Ok(Err(failed)) if failed.is_final && is_new => {
                return Err(Trouble::new(exit::REFUSED, failed.why));
            }
            Err(trouble) if is_new || *ends_with_folder && is_gone(&path) => return Err(trouble),
            Ok(Err(failed)) => calls.hunt.add_to(failed.why),
            Err(trouble) => trouble.to_string(),
        };
        if start.elapsed() + pause >= patience.time {
            let line = format!("{why}; gave up after {:?} ({})", patience.time, flag(patience.flag));
            return Err(Trouble::new(exit::NO_MASTER, line));
        }
        if start.elapsed() >= QUIET {
            calls.hunt.ask();
        }
        waiting.say(start.elapsed(), &why);
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(PAUSE_MAX);
    }
}

/// What a search knows of the master's addresses.
struct Calls {
    board: Arc<Board>,
    hunt: Hunt,
}

impl Calls {
    /// How a try stands that is not over.
    fn so_far(&self, path: &Path) -> String {
        self.hunt.add_to(match self.board.words() {
            calls if calls.is_empty() => format!("reading {}", path.display()),
            calls => calls,
        })
    }
}

/// One try: read the file, call all addresses at once, take the first that lets us in.
async fn try_once(
    wanted: &Wanted,
    path: &Path,
    hello: &Hello,
    epoch: u64,
    (board, hunt): (&Arc<Board>, &Hunt),
    time: Duration,
) -> Result<Result<Joined, Failed>, Trouble> {
    let access = match Access::read(path) {
        Ok(access) => access,
        // No master writes a file that was named: somebody has to bring it.
        Err(error) if matches!(error.kind, AccessErrorKind::NotFound { .. }) && wanted.access.is_some() => {
            let (file, role) = (path.display(), wanted.role.name());
            let line = format!(
                "cannot use {file}: no such file; copy {role}.json there from the cluster's folder on the master's machine"
            );
            return Err(Trouble::new(exit::ACCESS, line));
        }
        // A master that is not started yet has not written it.
        Err(error) if matches!(error.kind, AccessErrorKind::NotFound { .. }) => {
            return Ok(Err(Failed::again(Trouble::from(error).to_string())));
        }
        Err(error) => return Err(error.into()),
    };
    if access.role != wanted.role {
        let line = format!(
            "{} is the access file of a {}; a {} needs its own",
            path.display(),
            access.role.name(),
            wanted.role.name()
        );
        return Err(Trouble::new(exit::ACCESS, line));
    }
    let (addresses, source) = match &wanted.master {
        Some(address) => (vec![with_port(address)], String::new()),
        None => {
            let addresses = [access.addresses.clone(), hunt.addresses(&access.addresses)].concat();
            (addresses, path.display().to_string())
        }
    };
    let config = tls::client_config(&access.identity, &access.master)?;
    // Both may be dropped at any point: a call that is given up closes its connection.
    tokio::select! {
        result = race::call_all((&addresses, &source), config, hello, &access, board) => {
            Ok(newest(result, epoch.max(access.epoch)))
        }
        () = changed(path, &access) => Ok(Err(Failed::again("the master has been started anew"))),
        () = hunt.found() => Ok(Err(Failed::again(board.words()))),
        () = tokio::time::sleep(time) => Ok(Err(Failed::again(board.words()))),
    }
}

/// Leaves a master that another one has followed: it does not know yet that its time is over.
fn newest(result: Result<Joined, Failed>, epoch: u64) -> Result<Joined, Failed> {
    let joined = result?;
    if number_and_epoch(&joined.welcome).1 >= epoch {
        return Ok(joined);
    }
    joined.connection.close(0u32.into(), b"it waits for a newer master");
    let why = format!("{}: an older master answers; waiting for the one of epoch {epoch}", joined.address);
    Err(Failed::again(why))
}

fn with_port(address: &str) -> String {
    let has_port = address.parse::<SocketAddr>().is_ok()
        || address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.contains(':') && port.parse::<u16>().is_ok());
    let is_bare_v6 = address.parse::<std::net::Ipv6Addr>().is_ok();
    match (has_port, is_bare_v6) {
        (true, _) => address.to_owned(),
        (false, true) => format!("[{address}]:{DEFAULT_PORT}"),
        (false, false) => format!("{address}:{DEFAULT_PORT}"),
    }
}

/// Returns when the file is there no more.
async fn gone(path: &Path) {
    while !is_gone(path) {
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

fn over(path: &Path) -> Trouble {
    Trouble::new(exit::NO_MASTER, format!("{} is gone, and its cluster with it", path.display()))
}

/// Returns when the file no longer says what it said.
async fn changed(path: &Path, access: &Access) {
    loop {
        tokio::time::sleep(LOOK_PAUSE).await;
        if let Ok(now) = Access::read(path)
            && (&now.addresses, &now.master, now.epoch) != (&access.addresses, &access.master, access.epoch)
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::with_port;

    #[test]
    fn an_address_without_a_port_gets_the_masters() {
        assert_eq!(with_port("node7"), "node7:5494");
        assert_eq!(with_port("node7:80"), "node7:80");
        assert_eq!(with_port("10.0.0.1"), "10.0.0.1:5494");
        assert_eq!(with_port("10.0.0.1:9"), "10.0.0.1:9");
        assert_eq!(with_port("::1"), "[::1]:5494");
        assert_eq!(with_port("[::1]:9"), "[::1]:9");
    }
}
