//! The master's keeper: a thread that starts workers again when there is work for them, and says why there are no more.
//!
//! What is decided is decided by [`Keeper`]. This thread asks the master's loop how things stand, and the engine what it
//! has, and starts what is wanted; it may wait for both, and the loop for neither. What it is to do is in the fleet's file,
//! which is read again when it has changed. Without one it still reads the notes of workers that cannot tell the master
//! what stands in their way.
//!
//! The end: the loop [closes](Closer::close) the gate, and from then on nothing is started; whoever ends the process waits
//! for what is being started just then, as nobody would find it later.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use cw_core::{
    keeper::{Action, Event, Here, Keeper, Wish},
    master::Backlog,
};
use tokio::sync::mpsc;

use super::{
    Launched,
    fleet::{Fleet, How},
    launcher, outlook,
    slurm::logs,
};
use crate::{access::ClusterDir, clock::Clock};

/// How often it is looked how things stand.
const TICK: Duration = Duration::from_secs(2);

/// What is said while there is no worker yet.
pub(crate) const STARTING: &str = "`cw start` is starting them";

/// For so long after its file was written it is left to the `cw start` that wrote it to start workers, should that never say
/// that it has.
const START_WAIT: Duration = Duration::from_secs(60);

/// How often old logs are removed: one of each worker is there, on a file system that may be far away.
const PRUNE_EVERY: Duration = Duration::from_secs(60 * 60);

/// How things stand at the master.
pub(crate) struct View {
    pub(crate) backlog: Backlog,
    pub(crate) workers: Vec<Here>,
}

/// What the thread has to say to the loop.
pub(crate) enum Word {
    /// How do things stand?
    How(SyncSender<View>),
    /// Why there are no more workers, if there is something to say.
    Outlook(Option<String>),
}

/// The loop's end.
pub(crate) struct KeeperLink {
    pub(crate) words: mpsc::Receiver<Word>,
    pub(crate) closer: Closer,
    /// Whether any worker is connected: then there is nothing to ask for whoever keeps no fleet.
    pub(crate) has_workers: Arc<AtomicBool>,
}

/// Ends the thread's work.
#[derive(Clone, Default)]
pub(crate) struct Closer(Arc<Gate>);

#[derive(Default)]
struct Gate {
    is_closed: AtomicBool,
    /// Held while something is started.
    starting: Mutex<()>,
}

impl Closer {
    /// Nothing more is begun.
    pub(crate) fn close(&self) {
        self.0.is_closed.store(true, Ordering::SeqCst);
    }

    /// The same, and nothing is being started any more.
    pub(crate) fn finish(&self) {
        self.close();
        drop(self.0.starting.lock());
    }

    /// Starts something, unless it is too late.
    fn starting<T>(&self, start: impl FnOnce() -> T) -> Option<T> {
        let _started = self.0.starting.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        (!self.0.is_closed.load(Ordering::SeqCst)).then(start)
    }
}

/// Starts the thread for a cluster, which ends with the loop.
///
/// # Errors
/// The system has no room for it.
pub(crate) fn start(dir: ClusterDir, closer: Closer) -> io::Result<KeeperLink> {
    let (say, words) = mpsc::channel(1);
    let has_workers = Arc::new(AtomicBool::new(false));
    let thread = Thread {
        dir,
        say,
        has_workers: Arc::clone(&has_workers),
        closer: closer.clone(),
        clock: Clock::start(),
        seen: None,
        seen_at: Instant::now(),
        kept: None,
        file_trouble: None,
        notes: outlook::Notes::default(),
        said: None,
    };
    thread::Builder::new().name("cw-keeper".to_owned()).spawn(move || thread.run())?;
    Ok(KeeperLink { words, closer, has_workers })
}

struct Thread {
    dir: ClusterDir,
    say: mpsc::Sender<Word>,
    has_workers: Arc<AtomicBool>,
    closer: Closer,
    clock: Clock,
    /// Which version of the fleet's file was read.
    seen: Option<(u64, SystemTime)>,
    /// When that was.
    seen_at: Instant,
    kept: Option<Kept>,
    file_trouble: Option<String>,
    notes: outlook::Notes,
    said: Option<String>,
}

/// A fleet, and what becomes of it.
struct Kept {
    fleet: Fleet,
    keeper: Keeper,
    /// Whether it is `cw start` that starts its workers just now.
    is_early: bool,
    /// Whether it may still wait for them.
    waits: bool,
    /// When old logs were last removed.
    pruned: Option<Instant>,
}

/// The loop is no more.
struct Gone;

impl Thread {
    fn run(mut self) {
        while self.tick().is_ok() {
            thread::sleep(TICK);
        }
    }

    fn tick(&mut self) -> Result<(), Gone> {
        self.read_fleet();
        let (words, notes) = if self.has_nothing_to_do() { (None, None) } else { self.look()? };
        let parts: Vec<String> = [self.file_trouble.clone(), words, notes].into_iter().flatten().collect();
        self.tell((!parts.is_empty()).then(|| outlook::in_line(&parts.join("; "))))
    }

    /// Whether there is no fleet, and no want of workers. Then the loop is left alone, as a cluster that is not used should
    /// cost next to nothing; unless it is no more.
    fn has_nothing_to_do(&self) -> bool {
        self.kept.is_none() && self.has_workers.load(Ordering::Relaxed) && !self.say.is_closed()
    }

    /// Keeps the fleet, and looks what stands in the way of workers: what is said of the fleet, and what workers note.
    fn look(&mut self) -> Result<(Option<String>, Option<String>), Gone> {
        let view = self.ask()?;
        let (waits, is_empty) = (view.backlog.tasks > 0, view.workers.is_empty());
        self.keep(view);
        let words = self.kept.as_ref().and_then(|kept| match kept.is_early {
            true => is_empty.then(|| STARTING.to_owned()),
            false => kept.keeper.outlook(),
        });
        let is_lacking = is_empty && (waits || self.kept.is_some()) || words.is_some();
        let notes = if is_lacking { self.notes.read(&self.dir, words.as_deref()) } else { None };
        Ok((words, notes))
    }

    fn ask(&self) -> Result<View, Gone> {
        let (answer, answered) = sync_channel(1);
        self.say.blocking_send(Word::How(answer)).map_err(|_| Gone)?;
        answered.recv().map_err(|_| Gone)
    }

    fn tell(&mut self, outlook: Option<String>) -> Result<(), Gone> {
        if self.said == outlook {
            return Ok(());
        }
        self.said.clone_from(&outlook);
        self.say.blocking_send(Word::Outlook(outlook)).map_err(|_| Gone)
    }

    /// Reads the fleet's file if it has changed.
    fn read_fleet(&mut self) {
        let found = fs::metadata(self.dir.fleet_file()).ok();
        let version = found.and_then(|file| Some((file.ino(), file.modified().ok()?)));
        if version != self.seen {
            (self.seen, self.seen_at) = (version, Instant::now());
            match self.dir.read_fleet() {
                Ok(fleet) => {
                    self.file_trouble = None;
                    self.take_in(fleet);
                }
                Err(error) => {
                    let line = error.to_string();
                    tracing::warn!("cannot {line}; no workers are started");
                    (self.kept, self.file_trouble) = (None, Some(format!("cannot {line}")));
                }
            }
        }
        let age = self.seen_at.elapsed();
        let Some(kept) = &mut self.kept else { return };
        let is_early = age < START_WAIT && !kept.fleet.is_started;
        let waits = age < kept.fleet.wait;
        if (kept.is_early, kept.waits) != (is_early, waits) {
            (kept.is_early, kept.waits) = (is_early, waits);
            let wish = wish(&kept.fleet, is_early, waits);
            kept.keeper.handle(self.clock.now(), Event::Wished(wish));
        }
    }

    fn take_in(&mut self, fleet: Option<Fleet>) {
        let Some(fleet) = fleet else { return self.kept = None };
        let (is_early, waits) = (!fleet.is_started, fleet.wait > Duration::ZERO);
        let wish = wish(&fleet, is_early, waits);
        match self.kept.as_mut().filter(|kept| kept.fleet.id == fleet.id) {
            Some(kept) => {
                (kept.fleet, kept.is_early, kept.waits) = (fleet, is_early, waits);
                kept.keeper.handle(self.clock.now(), Event::Wished(wish));
            }
            None => {
                let keeper = Keeper::new(engine(&fleet.how), wish);
                self.kept = Some(Kept { fleet, keeper, is_early, waits, pruned: None });
            }
        }
    }

    /// Does what is wanted for the fleet.
    fn keep(&mut self, view: View) {
        let Some(kept) = &mut self.kept else { return };
        let View { backlog, workers } = view;
        let here = workers.len();
        kept.keeper.handle(self.clock.now(), Event::Master { backlog, workers });
        while let Some(action) = kept.keeper.poll_action() {
            let answer = match action {
                Action::Log(line) => {
                    tracing::warn!("{line}");
                    continue;
                }
                Action::Note(line) => {
                    tracing::info!("{line}");
                    continue;
                }
                Action::Look => {
                    let seen = if is_seen_from_here(&kept.fleet, here) {
                        Ok(Vec::new())
                    } else {
                        launcher(&kept.fleet, &self.dir).look()
                    };
                    if let Ok(seen) = &seen {
                        kept.prune(&self.dir, seen);
                    }
                    Event::Looked(seen.map(outlook::workers).map_err(|refused| refused.0))
                }
                Action::Start { workers, stay } => {
                    let started = self.closer.starting(|| start_some(&kept.fleet, &self.dir, workers, stay));
                    let Some(started) = started else { return };
                    Event::Started(started)
                }
                Action::Withdraw { jobs } => Event::Withdrawn(withdraw(&kept.fleet, &self.dir, &jobs)),
            };
            kept.keeper.handle(self.clock.now(), answer);
        }
    }
}

impl Kept {
    /// Removes old logs, now and then.
    fn prune(&mut self, dir: &ClusterDir, seen: &[Launched]) {
        let is_due = self.pruned.is_none_or(|at| at.elapsed() >= PRUNE_EVERY);
        if !is_due || !matches!(self.fleet.how, How::Slurm(_)) {
            return;
        }
        let known = seen.iter().map(|job| job.id.as_str()).collect();
        let removed = logs::prune(&dir.log_folder(), &known);
        // Where there were more than go at once, the rest follows with the next look.
        if !matches!(removed, Ok(logs::REMOVED_MAX)) {
            self.pruned = Some(Instant::now());
        }
        match removed {
            Ok(0) => {}
            Ok(count) => tracing::info!("removed the {count} oldest logs of workers that have ended"),
            Err(error) => tracing::warn!("cannot remove old logs in {}: {error}", dir.log_folder().display()),
        }
    }
}

fn start_some(fleet: &Fleet, dir: &ClusterDir, workers: u32, stay: bool) -> Result<Vec<String>, String> {
    let idle = fleet.idle.filter(|_| !stay);
    let started = launcher(&Fleet { idle, ..fleet.clone() }, dir).start(workers);
    let started = started.map_err(|refused| refused.0)?;
    let kind = if stay { "workers that stay" } else { "workers" };
    tracing::info!("started {} {kind} by {}: {}", started.len(), engine(&fleet.how), outlook::few(&started));
    Ok(started)
}

fn withdraw(fleet: &Fleet, dir: &ClusterDir, jobs: &[String]) -> Result<(), String> {
    launcher(fleet, dir).withdraw(jobs).map_err(|refused| refused.0)
}

/// What is asked of the keeper. While `cw start` itself starts workers, and where others are not to be started, it says
/// only what has become of them.
fn wish(fleet: &Fleet, is_early: bool, waits: bool) -> Wish {
    let Fleet { min, max, slots, idle, .. } = *fleet;
    let grows = matches!(fleet.how, How::Slurm(_)) && !is_early;
    Wish { min, max, slots: slots.max(1), grows, waits, idle }
}

/// Whether so many connected workers say all there is to know. By SSH each look is a login on every host.
fn is_seen_from_here(fleet: &Fleet, here: usize) -> bool {
    let How::Ssh(ssh) = &fleet.how else { return false };
    here >= ssh.hosts.iter().filter(|host| host.folder.is_some()).count()
}

/// What the engine is called.
fn engine(how: &How) -> &'static str {
    match how {
        How::Slurm(_) => "Slurm",
        How::Local(_) => "this machine",
        How::Ssh(_) => "SSH",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::fleet::{Host, Ssh, tests::fleet};

    #[test]
    fn of_very_many_old_logs_all_go_in_time() {
        let home = tempfile::tempdir().unwrap();
        let dir = ClusterDir::in_home(home.path(), "default").unwrap();
        fs::create_dir_all(dir.log_folder()).unwrap();
        let write = |id: usize| fs::write(dir.log_folder().join(format!("slurm-{id}.log")), "").unwrap();
        (0..2 * logs::REMOVED_MAX).for_each(write);
        let keeper = Keeper::new("Slurm", wish(&fleet(), false, false));
        let mut kept = Kept { fleet: fleet(), keeper, is_early: false, waits: false, pruned: None };
        let left = || fs::read_dir(dir.log_folder()).unwrap().count();
        kept.prune(&dir, &[]);
        assert_eq!(left(), logs::REMOVED_MAX);
        kept.prune(&dir, &[]);
        assert_eq!(left(), 200);
        write(1_000_000);
        kept.prune(&dir, &[]);
        assert_eq!(left(), 201, "only now and then");
    }

    #[test]
    fn workers_that_stay_are_not_taken_back_either() {
        assert_eq!(wish(&fleet(), false, false).idle, Some(Duration::from_secs(300)));
        assert_eq!(wish(&Fleet { idle: None, ..fleet() }, false, false).idle, None);
    }

    #[test]
    fn hosts_are_left_alone_while_all_their_workers_are_here() {
        let host = |folder: Option<&str>| Host { folder: folder.map(str::to_owned), ..Host::default() };
        let hosts = vec![host(Some("/a")), host(None), host(Some("/b"))];
        let over_ssh = Fleet { how: How::Ssh(Ssh { hosts, args: Vec::new() }), ..fleet() };
        assert!(!is_seen_from_here(&over_ssh, 1));
        assert!(is_seen_from_here(&over_ssh, 2), "on one nothing was started");
        assert!(!is_seen_from_here(&fleet(), 1_000), "Slurm knows more than who is connected");
    }
}
