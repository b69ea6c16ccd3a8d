//! The worker's one loop: joins a master, serves it, looks for the next one when it is gone, and all the while goes on
//! with what its executors run.
//!
//! Shutdown, in this order:
//! 1. `shutdown` ends, or the master says that the cluster does, and the machine is told to leave, or it leaves by itself as
//!    there was nothing to do for long: it hands back what it has and kills what runs;
//! 2. the loop goes on until all executors are dead and the master, if there is one, was told, at most [`LEAVE_WAIT`];
//! 3. the master closes the connection once it has read all, at most [`CLOSE_WAIT`] later.

use std::{
    collections::HashMap,
    future::{Future, pending},
    net::SocketAddr,
    os::unix::ffi::OsStringExt,
    path::PathBuf,
    pin::Pin,
    time::Duration,
};

use cw_core::{
    Payload, Time,
    ids::{ProgramId, ShareId},
    wire::{FromWorker, Seconds, ToWorker, Welcome},
    worker::{Action, Config, Event, ExecutorSaid, NoShare, Worker},
};
use tokio::sync::mpsc;

use super::{
    pool::{Kind, Pool, Said},
    programs::Fetcher,
    walltime::News,
};
use crate::{
    access::succession::successor_of,
    caught::caught,
    client::notice::say,
    clock::Clock,
    exit::{self, Trouble},
    image::Image,
    net::{
        connect::{Joined, Patience, Search, followed, number_and_epoch},
        link::{Incoming, Link},
        tls::why_closed,
    },
};

/// How long a leaving worker waits for its executors to die.
const LEAVE_WAIT: Duration = Duration::from_secs(3);

/// How long the end of a connection is waited for.
const CLOSE_WAIT: Duration = Duration::from_millis(500);

/// Batches of messages from the master that may wait for the loop.
const INBOX_MAX: usize = 256;

/// Serves masters, one after the other, until `shutdown` is done. A worker that has lost its master goes on with what it
/// has, and looks for the next one for `orphan_time`.
///
/// # Errors
/// No master could be joined.
pub(crate) async fn run(
    mut search: Search,
    orphan_time: Duration,
    setup: Setup,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Trouble> {
    let slots = setup.config.slots;
    let mut shell = Shell::new(setup, shutdown);
    while let Ok(left) = shell.walltime.try_recv() {
        shell.on_left(left);
    }
    // Executors start while the master is looked for.
    shell.act();
    let mut patience = search.patience();
    let mut last = None;
    search.note_left(shell.left_seconds());
    while let Some(joined) = shell.look(&mut search, patience).await {
        let joined = joined.map_err(|trouble| orphaned(last, orphan_time, trouble))?;
        tracing::info!("joined the master at {} with {slots} slots", joined.address);
        last = Some(joined.address);
        patience = Patience { time: orphan_time, flag: "orphan-time" };
        if let Some(why) = shell.serve(joined).await
            && !shell.leaves()
            && !search.may_end()
        {
            say(&format!(
                "lost the master ({why}); what runs goes on, results are kept; looking for it again"
            ));
        }
        search.note_left(shell.left_seconds());
    }
    for path in shell.shares.values() {
        let _ = std::fs::remove_file(path);
    }
    shell.broken.map_or(Ok(()), |why| Err(Trouble::new(exit::SYSTEM, why)))
}

/// What a worker says that ends for want of a master.
fn orphaned(last: Option<SocketAddr>, time: Duration, trouble: Trouble) -> Trouble {
    let Some(last) = last else { return trouble };
    let line = format!(
        "no master for {time:?} since the one at {last} was lost; what runs here and the results that were kept for it are \
         dropped: {trouble}"
    );
    Trouble::new(exit::NO_MASTER, line)
}

/// What a worker works with.
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) kind: Kind,
    pub(crate) fetcher: Fetcher,
    pub(crate) walltime: News,
}

/// What was to be fetched, or why it could not be.
enum Fetched {
    Program(ProgramId, Result<Image, String>),
    Share(ShareId, Result<PathBuf, NoShare>),
}

struct Shell<S> {
    clock: Clock,
    machine: Worker,
    pool: Pool,
    said: mpsc::Receiver<Said>,
    fetcher: Fetcher,
    /// Where values lie that tasks share, as long as executors may look for them.
    shares: HashMap<ShareId, PathBuf>,
    fetched: (mpsc::UnboundedSender<Fetched>, mpsc::UnboundedReceiver<Fetched>),
    link: Link,
    shutdown: Pin<Box<S>>,
    /// What is found out about the end of this worker's allocation, and when that is.
    walltime: News,
    ends: Option<Time>,
    /// By when the worker is gone, once it leaves.
    deadline: Option<Time>,
    /// How long it may be without tasks.
    idle_end: Option<Duration>,
    left: bool,
    /// Why the worker leaves by itself, if it does.
    broken: Option<String>,
}

/// What comes from a connection.
enum FromMaster {
    Said(Incoming<ToWorker>),
    /// The master's time is over: there is one of this epoch.
    Followed(u64),
}

impl<S: Future<Output = ()>> Shell<S> {
    fn new(setup: Setup, shutdown: S) -> Self {
        let Setup { config, kind, fetcher, walltime } = setup;
        let (pool, said) = Pool::new(kind);
        let idle_end = config.idle_end;
        match idle_end {
            Some(time) => tracing::debug!("without tasks for {time:?} the worker ends"),
            None => tracing::debug!("without tasks it stays"),
        }
        Self {
            clock: Clock::start(),
            idle_end,
            machine: Worker::new(config),
            pool,
            said,
            fetcher,
            shares: HashMap::new(),
            // At most one for each program that was asked for.
            fetched: mpsc::unbounded_channel(),
            link: Link::new(),
            shutdown: Box::pin(shutdown),
            walltime,
            ends: None,
            deadline: None,
            left: false,
            broken: None,
        }
    }

    /// Looks for a master while what runs goes on; none if the worker leaves meanwhile.
    async fn look(&mut self, search: &mut Search, patience: Patience) -> Option<Result<Joined, Trouble>> {
        let joining = search.join(patience);
        tokio::pin!(joining);
        while !self.left {
            let leaves = self.leaves();
            // A worker that only waits for its executors to die needs no master any more.
            let next = async { if leaves { pending().await } else { (&mut joining).await } };
            if let Some(joined) = self.wait(next).await {
                return Some(joined);
            }
            self.act();
        }
        None
    }

    /// Whether it is on its way out.
    fn leaves(&self) -> bool {
        self.left || self.deadline.is_some() || self.broken.is_some()
    }

    /// Serves one connection; gives the reason if it broke, none if the worker has left.
    async fn serve(&mut self, joined: Joined) -> Option<String> {
        let (deliver, mut from_master) = mpsc::channel::<((), Incoming<ToWorker>)>(INBOX_MAX);
        let successor = successor_of(number_and_epoch(&joined.welcome).1, &joined.path);
        tokio::pin!(successor);
        self.link = Link::over(joined.lanes, joined.read, (), &deliver);
        let upstream = &self.fetcher.upstream;
        upstream.set_master(Some(joined.connection.clone()));
        upstream.serve_others(joined.path.clone(), joined.connection.clone());
        let returned = matches!(joined.welcome, Welcome::Worker { returned: true, .. });
        self.machine.handle(self.clock.now(), Event::Joined { returned });
        self.act();
        let mut lost = None;
        while lost.is_none() && !self.left {
            // A message stays queued when the other comes first.
            let next = async {
                tokio::select! {
                    Some(((), incoming)) = from_master.recv() => FromMaster::Said(incoming),
                    epoch = &mut successor => FromMaster::Followed(epoch),
                }
            };
            lost = match self.wait(next).await {
                Some(FromMaster::Said(incoming)) => self.on_master(incoming),
                Some(FromMaster::Followed(epoch)) => Some(followed(epoch)),
                None => None,
            };
            while lost.is_none()
                && let Ok(((), incoming)) = from_master.try_recv()
            {
                lost = self.on_master(incoming);
            }
            self.hear_all();
            self.act();
        }
        self.fetcher.upstream.set_master(None);
        if let Some(why) = lost {
            let why = why_closed(&joined.connection, why);
            // If it still stands, it was this side's choice.
            joined.connection.close(0u32.into(), b"it goes to a newer master");
            self.link = Link::new();
            self.machine.handle(self.clock.now(), Event::MasterLost);
            self.act();
            return Some(why);
        }
        // The master closes the connection when it has read the worker's last word.
        let _ = tokio::time::timeout(CLOSE_WAIT, joined.connection.closed()).await;
        joined.connection.close(0u32.into(), b"the worker was stopped");
        let _ = tokio::time::timeout(CLOSE_WAIT, joined.endpoint.wait_idle()).await;
        None
    }

    /// Waits for the executors, the time, the word to stop, or the master; gives what the last brings.
    async fn wait<T>(&mut self, master: impl Future<Output = T>) -> Option<T> {
        let (due, deadline) = (self.machine.poll_timeout(), self.deadline);
        // All of them lose nothing when another comes first.
        tokio::select! {
            came = master => return Some(came),
            Some(words) = self.said.recv() => self.hear(words),
            Some(fetched) = self.fetched.1.recv() => self.on_fetched(fetched),
            Some(left) = self.walltime.recv() => self.on_left(left),
            () = self.clock.sleep_until(due) => {
                // What was said before the time was up comes first.
                self.hear_all();
                self.machine.handle_timeout(self.clock.now());
            }
            () = &mut self.shutdown, if deadline.is_none() => {
                let now = self.clock.now();
                self.deadline = Some(now + LEAVE_WAIT);
                self.machine.handle(now, Event::Leave);
            }
            () = self.clock.sleep_until(deadline), if deadline.is_some() => self.left = true,
        }
        None
    }

    /// Takes in how long this worker has left.
    fn on_left(&mut self, left: Option<Duration>) {
        let now = self.clock.now();
        self.ends = left.map(|left| now + left);
        self.machine.handle(now, Event::Ends { left });
    }

    fn left_seconds(&self) -> Option<u32> {
        let left = self.ends?.since(self.clock.now());
        Some(u32::try_from(left.as_secs()).unwrap_or(u32::MAX))
    }

    /// The worker leaves by itself, in time.
    fn on_over(&mut self) {
        let left = Seconds(self.left_seconds().unwrap_or(0));
        say(&format!(
            "this worker's allocation ends in {left}: what runs here is handed back, to run elsewhere"
        ));
        self.deadline.get_or_insert(self.clock.now() + LEAVE_WAIT);
    }

    /// Takes in what the master said; gives the reason if it is gone.
    fn on_master(&mut self, incoming: Incoming<ToWorker>) -> Option<String> {
        match incoming {
            Incoming::Messages(messages) => {
                let now = self.clock.now();
                for (message, body) in messages {
                    if message == ToWorker::Leave && !self.machine.has_been_idle() {
                        tracing::info!("the cluster is stopped; leaving");
                        self.deadline = self.deadline.or(Some(now + LEAVE_WAIT));
                    }
                    self.machine.handle(now, Event::MasterSaid { message, body });
                }
                None
            }
            Incoming::Ended(why) => Some(why),
        }
    }

    fn hear_all(&mut self) {
        while let Ok(words) = self.said.try_recv() {
            self.hear(words);
        }
    }

    fn hear(&mut self, (executor, words): Said) {
        let now = self.clock.now();
        for said in words {
            if let ExecutorSaid::Ended { ending, .. } = &said {
                tracing::debug!("{executor} ended: {ending:?}");
                self.pool.forget(executor);
            }
            self.machine.handle(now, Event::ExecutorSaid { executor, said });
        }
    }

    fn on_fetched(&mut self, fetched: Fetched) {
        match fetched {
            Fetched::Program(program, image) => self.on_program(program, image),
            Fetched::Share(share, path) => {
                let result = path.map(|path| {
                    self.shares.insert(share, path.clone());
                    Payload::from(path.into_os_string().into_vec())
                });
                self.machine.handle(self.clock.now(), Event::Shared { share, result });
            }
        }
    }

    fn on_program(&mut self, program: ProgramId, image: Result<Image, String>) {
        let result = image.map(|image| self.pool.add(program, image));
        if let Err(why) = &result {
            tracing::warn!("build {program} cannot be run here: {why}");
        }
        self.machine.handle(self.clock.now(), Event::Fetched { program, result });
    }

    fn fetch(&self, program: ProgramId, body: Payload) {
        let (fetcher, done) = (self.fetcher.clone(), self.fetched.0.clone());
        tokio::spawn(async move {
            let image = caught(fetcher.get(program, body.into())).await.unwrap_or_else(Err);
            // If the worker is gone, nobody wants to know.
            let _ = done.send(Fetched::Program(program, image));
        });
    }

    fn fetch_share(&self, share: ShareId, program: ProgramId, passing: bool) {
        let (fetcher, done) = (self.fetcher.clone(), self.fetched.0.clone());
        tokio::spawn(async move {
            let got = caught(fetcher.share(share, program, passing)).await;
            let path = got.unwrap_or_else(|why| Err(NoShare::Here(why)));
            let _ = done.send(Fetched::Share(share, path));
        });
    }

    fn drop_share(&mut self, share: ShareId, spent: bool) {
        // What stays is swept by another process of this user's.
        self.shares.remove(&share).map(std::fs::remove_file);
        if spent {
            let fetcher = self.fetcher.clone();
            tokio::spawn(async move { fetcher.forget(share).await });
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Tell { message, body } => self.tell(&message, &body),
                Action::Start { executor, program, body } => self.pool.start(executor, program, &body),
                Action::Fetch { program, body } => self.fetch(program, body),
                Action::FetchShare { share, program, passing } => self.fetch_share(share, program, passing),
                Action::DropShare { share, spent } => self.drop_share(share, spent),
                Action::Drop { program } => self.pool.drop_program(program),
                Action::Feed { executor, message, body } => self.pool.feed(executor, &message, body),
                Action::Kill { executor } => self.pool.kill(executor),
                Action::Broken { why } => self.broken = Some(why),
                Action::Idle => self.rest(),
                Action::Over => self.on_over(),
                Action::Left => self.left = true,
            }
        }
        self.pool.flush();
        self.link.flush();
    }

    /// It was without tasks for long, and is on its way out.
    fn rest(&mut self) {
        self.deadline = Some(self.clock.now() + LEAVE_WAIT);
        tracing::info!("no tasks for {:?}: the worker ends", self.idle_end.unwrap_or_default());
    }

    fn tell(&mut self, message: &FromWorker, body: &Payload) {
        if self.link.is_open() {
            self.link.send(message, body);
        }
    }
}
