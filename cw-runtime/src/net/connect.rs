//! Finding the master and being let in: waits for a master that is not up yet, and says so.

pub(crate) mod idle;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use cw_core::wire::{self, Hello, Refusal as Refused, Reply, Session, Welcome};
use tokio::task::JoinSet;

use super::{
    endpoint,
    link::read_frame,
    tls::{self, Peer, SERVER_NAME},
};
use crate::{
    access::{Access, AccessErrorKind, ClusterDir},
    client::notice::say,
    exit::{self, Trouble},
    flag::flag,
};

/// Port of a master whose address names none.
pub(crate) const DEFAULT_PORT: u16 = 5494;

/// A try ends after this long, or with the time to wait. A handshake among a thousand others can take seconds.
const TRY_TIME: Duration = Duration::from_secs(10);

/// The user hears of a try that takes longer.
const QUIET: Duration = Duration::from_secs(2);

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
}

impl Search {
    pub(crate) fn new(wanted: Wanted, hello: Hello) -> Self {
        Self { wanted, hello, epoch: 0, is_quiet: false }
    }

    /// A search of which nothing is said.
    pub(crate) fn quiet(wanted: Wanted, hello: Hello) -> Self {
        Self { is_quiet: true, ..Self::new(wanted, hello) }
    }

    /// How long the first master is looked for.
    pub(crate) fn patience(&self) -> Patience {
        Patience { time: self.wanted.timeout, flag: "connect-timeout" }
    }

    /// From now on a master is looked for so long.
    pub(crate) fn be_patient(&mut self, time: Duration) {
        self.wanted.timeout = time;
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
    let Search { wanted, hello, epoch, is_quiet } = search;
    let path = wanted.path()?;
    let start = Instant::now();
    let mut pause = Duration::from_millis(2);
    // Who was let in before has something to lose, and what now stands in the way may pass: another cluster's
    // master on the port, a file system that does not answer. And its user has read that the master is lost.
    let is_new = hello.session.known.is_none();
    let mut waiting = Waiting::new(patience, !is_new, *is_quiet);
    loop {
        let time = TRY_TIME.min(patience.time.saturating_sub(start.elapsed()));
        let tried = {
            let trying = try_once(wanted, &path, hello, *epoch, time);
            tokio::pin!(trying);
            loop {
                // The try goes on where it was.
                tokio::select! {
                    tried = &mut trying => break tried,
                    () = tokio::time::sleep(QUIET) => waiting.say(start.elapsed(), &format!("no answer yet; is it running? See {}", path.display())),
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
            Err(trouble) if is_new => return Err(trouble),
            Ok(Err(failed)) => failed.why,
            Err(trouble) => trouble.to_string(),
        };
        if start.elapsed() + pause >= patience.time {
            let line = format!("{why}; gave up after {:?} ({})", patience.time, flag(patience.flag));
            return Err(Trouble::new(exit::NO_MASTER, line));
        }
        waiting.say(start.elapsed(), &why);
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(PAUSE_MAX);
    }
}

/// What the user reads while a process waits for its master: a line soon, then ever more rarely.
struct Waiting {
    next: Duration,
    said: bool,
    is_quiet: bool,
    patience: Patience,
}

impl Waiting {
    fn new(patience: Patience, said: bool, is_quiet: bool) -> Self {
        // Processes that are started together find each other within this; no need to worry anybody.
        Self { next: Duration::from_millis(500), said, is_quiet, patience }
    }

    fn say(&mut self, waited: Duration, why: &str) {
        if waited < self.next || self.is_quiet {
            return;
        }
        let left = self.patience.time.saturating_sub(waited).as_secs();
        if left == 0 {
            // The last word is about to come.
            return;
        }
        let see = flag(self.patience.flag);
        say(&format!("waiting for the master: {why} (for {left} s more; see {see})"));
        self.said = true;
        self.next = (waited * 2).max(Duration::from_secs(5));
    }

    fn over(&self, joined: &Joined) {
        if self.said && !self.is_quiet {
            say(&format!("connected to the master at {}", joined.address));
        }
    }
}

/// One try: read the file, call all addresses at once, take the first that lets us in.
async fn try_once(
    wanted: &Wanted,
    path: &Path,
    hello: &Hello,
    epoch: u64,
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
    let addresses = match &wanted.master {
        Some(address) => vec![with_port(address)],
        None => access.addresses.clone(),
    };
    let config = tls::client_config(&access.identity, &access.master)?;
    // Both may be dropped at any point: a call that is given up closes its connection.
    tokio::select! {
        result = call_all(&addresses, &config, hello, &access) => Ok(newest(result, epoch.max(access.epoch))),
        () = changed(path, &access) => Ok(Err(Failed::again("the master has been started anew"))),
        () = tokio::time::sleep(time) => {
            let list = addresses.join(", ");
            Ok(Err(Failed::again(format!("no answer from {list} within {:.1} s", time.as_secs_f64()))))
        }
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

async fn call_all(
    addresses: &[String],
    config: &quinn::ClientConfig,
    hello: &Hello,
    access: &Access,
) -> Result<Joined, Failed> {
    let mut calls = JoinSet::new();
    let file = access.path.display().to_string();
    for address in addresses {
        let (address, config, file) = (address.clone(), config.clone(), file.clone());
        calls.spawn(async move { call_name(&address, config, &file).await });
    }
    let mut reasons = Vec::new();
    let mut is_final = true;
    while let Some(result) = calls.join_next().await {
        // Only whoever answers first is greeted, or this process would join once for each address.
        let result = match result {
            Ok(Ok(answered)) => Ok(answered.greet(hello, access).await),
            Ok(Err(failed)) => Ok(Err(failed)),
            Err(error) => Err(error),
        };
        match result {
            Ok(Ok(joined)) => return Ok(joined),
            Ok(Err(failed)) => {
                is_final &= failed.is_final;
                reasons.push(failed.why);
            }
            Err(error) => reasons.push(format!("a call broke off: {error}")),
        }
    }
    reasons.dedup();
    Err(Failed { why: reasons.join("; "), is_final })
}

/// A master that has finished the TLS handshake.
struct Answered {
    endpoint: quinn::Endpoint,
    connection: quinn::Connection,
    address: SocketAddr,
}

impl Answered {
    async fn greet(self, hello: &Hello, access: &Access) -> Result<Joined, Failed> {
        let Self { endpoint, connection, address } = self;
        greet(endpoint, connection.clone(), address, hello, &access.path).await.map_err(|failed| {
            // The first word after the handshake shows whether the master took our key.
            match connection.close_reason() {
                Some(error) => explain(address, &error, &access.path.display().to_string()),
                None => failed,
            }
        })
    }
}

async fn call_name(name: &str, config: quinn::ClientConfig, file: &str) -> Result<Answered, Failed> {
    let found = tokio::net::lookup_host(name).await;
    let addresses: Vec<SocketAddr> = found
        .map_err(|error| Failed::again(format!("{name}: the name cannot be resolved: {error}")))?
        .collect();
    let mut last = Failed::again(format!("{name}: the name has no address"));
    for address in addresses {
        match call(address, config.clone(), file).await {
            Ok(answered) => return Ok(answered),
            Err(failed) => last = failed,
        }
    }
    Err(last)
}

async fn call(address: SocketAddr, config: quinn::ClientConfig, file: &str) -> Result<Answered, Failed> {
    let again = |error: String| Failed::again(format!("{address}: {error}"));
    let (socket, buffers) =
        endpoint::bind(endpoint::local_for(address)).map_err(|error| again(error.to_string()))?;
    if let Some(advice) = buffers.advice() {
        tracing::debug!("{advice}");
    }
    let endpoint = endpoint::dial(socket).map_err(|error| again(error.to_string()))?;
    let connecting =
        endpoint.connect_with(config, address, SERVER_NAME).map_err(|error| again(error.to_string()))?;
    let connection = connecting.await.map_err(|error| explain(address, &error, file))?;
    Ok(Answered { endpoint, connection, address })
}

fn explain(address: SocketAddr, error: &quinn::ConnectionError, file: &str) -> Failed {
    let refusal = tls::explain(error);
    let hint = match refusal {
        tls::Refusal::PeerIsForeign | tls::Refusal::WeAreForeign => format!(" (keys from {file})"),
        _ => String::new(),
    };
    Failed { why: format!("{address}: {refusal}{hint}"), is_final: refusal.is_final() }
}

async fn greet(
    endpoint: quinn::Endpoint,
    connection: quinn::Connection,
    address: SocketAddr,
    hello: &Hello,
    path: &Path,
) -> Result<Joined, Failed> {
    let again = |error: &dyn std::fmt::Display| Failed::again(format!("{address}: {error}"));
    let (mut send, mut receive) = connection.open_bi().await.map_err(|error| again(&error))?;
    let (mut send_long, receive_long) = connection.open_bi().await.map_err(|error| again(&error))?;
    send.set_priority(1).map_err(|error| again(&error))?;
    let greeting = wire::encode_hello(hello);
    let length = u32::try_from(greeting.len()).expect("greetings are short").to_le_bytes();
    send.write_all(&[&length[..], &greeting].concat()).await.map_err(|error| again(&error))?;
    // An empty frame, as the other side sees a stream only once something is on it.
    send_long.write_all(&0u32.to_le_bytes()).await.map_err(|error| again(&error))?;
    let mut read = BytesMut::new();
    let reply =
        read_frame(&mut receive, &mut read, GREETING_BYTES_MAX).await.map_err(|error| again(&error))?;
    let refused = |why: String| Failed { why: format!("{address}: {why}"), is_final: true };
    match wire::decode_reply(&reply).map_err(|error| refused(error.to_string()))? {
        Reply::Refused(refusal) => Err(refused(in_words(&refusal))),
        Reply::Welcome(welcome) => {
            let lanes = [(send, receive), (send_long, receive_long)];
            let session = Session { known: Some(number_and_epoch(&welcome).0), ..hello.session };
            Ok(Joined { endpoint, connection, lanes, read, welcome, session, address, path: path.to_owned() })
        }
    }
}

fn in_words(refusal: &Refused) -> String {
    match refusal {
        Refused::Role { key, asked } => {
            format!("the master refused: the key is for a {key}, and this process wants to be a {asked}")
        }
        Refused::Protocol { master } => {
            format!("the master refused: it is {master}, this is cw {}", crate::program::VERSION)
        }
        Refused::Malformed { why } => format!("the master refused: {why}"),
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
