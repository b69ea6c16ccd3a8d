//! One executor process, seen from its worker: socket, stderr, life and death.
//!
//! A task per process carries what it says, until it ends:
//! 1. results are read off the socket until the process has ended or closed it;
//! 2. its process group is killed, so that nothing it started outlives it;
//! 3. what it had written before is read to the end, briefly, as a stranger may hold the socket;
//! 4. the folders of its tasks begin to be removed, which may take long;
//! 5. its end is reported, with the evidence: what it printed and was not told of.

use std::{
    collections::BTreeSet,
    io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStringExt, net::UnixStream, process::ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use cw_core::{
    Payload,
    ids::ExecutorId,
    wire::{Ending, FromExecutor, ToExecutor},
    worker::ExecutorSaid,
};
use rustix::process::{Pid, Signal};
use tokio::{
    process::{Child, Command},
    sync::mpsc,
};

use super::pool::Said;
use crate::{
    caught::caught,
    executor::{
        nonce::{self, Birth},
        prints::Prints,
        scratch,
    },
    image::Image,
    net::{
        link::{Incoming, Link},
        unix,
    },
    particulars::Outfit,
};

/// Bytes of what it printed that are kept as evidence of a crash.
const TAIL_BYTES: u64 = 4 << 10;

/// How long the end of its words is waited for after the process has ended.
const TAIL_WAIT: Duration = Duration::from_millis(200);

/// How long a client's working directory is looked for.
const FOLDER_TIME: Duration = Duration::from_millis(250);

/// The process groups of all executors that live, to be killed when there is no time for more.
static LIVE: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// Kills all executors of this process and all they started, at once.
pub(crate) fn kill_all() {
    let live = LIVE.lock().expect("no holder panics");
    live.iter().filter_map(|pid| Pid::from_raw(*pid)).for_each(kill_group);
}

/// A running executor process.
pub(super) struct ProcessExecutor {
    link: Link,
    pid: Pid,
    reaped: Arc<AtomicBool>,
}

impl ProcessExecutor {
    /// Starts one; all it has to say goes to `said`.
    ///
    /// # Errors
    /// The system refused a socket or a process.
    pub(super) fn start(
        id: ExecutorId,
        image: &Image,
        dress: &Dress<'_>,
        worker: String,
        said: mpsc::Sender<Said>,
    ) -> io::Result<Self> {
        let (tasks, theirs) = UnixStream::pair()?;
        let (results, their_results) = UnixStream::pair()?;
        let nonce = nonce::for_socket(&theirs)?;
        let scratch = scratch::of_executor(id);
        let birth = Birth { worker: worker.clone(), scratch: scratch.clone().into_os_string().into_vec() };
        nonce::send_sockets(&tasks, their_results, &birth)?;
        let mut command = Command::new(image.path());
        command.arg0(format!("{} (cw executor)", image.name()));
        let prints = Prints::new()?;
        let remark = dress.put_on(&mut command, &scratch)?;
        let child = command
            .env(nonce::VARIABLE, nonce)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(prints.stdio()?)
            .stderr(prints.stdio()?)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let pid = pid.ok_or_else(|| io::Error::other("the process ended at once"))?;

        let mut link = Link::new();
        let (deliver, incoming) = mpsc::channel(16);
        link.add_lane((unix::reader(results)?, BytesMut::new()), unix::writer(tasks)?, (), deliver);
        let reaped = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&reaped);
        if let Some(what) = remark {
            let said = said.clone();
            tokio::spawn(async move { said.send((id, vec![ExecutorSaid::Remark { what }])).await });
        }
        let carrier = Carrier { id, pid, reaped: told, worker, scratch, said, incoming, prints };
        LIVE.lock().expect("no holder panics").insert(pid.as_raw_nonzero().get());
        tokio::spawn(carrier.carry_or_tell(child));
        Ok(Self { link, pid, reaped })
    }

    pub(super) fn feed(&mut self, message: &ToExecutor, body: &Payload) {
        self.link.send(message, body);
    }

    pub(super) fn flush(&mut self) {
        self.link.flush();
    }

    /// Kills the process and all of its group.
    pub(super) fn kill(&self) {
        // Once it is reaped its number may be another's.
        if !self.reaped.load(Ordering::Relaxed) {
            kill_group(self.pid);
        }
    }
}

/// Where an executor's environment and working directory are from.
pub(super) enum Dress<'a> {
    /// From this process, with these variables set.
    Inherited(&'a [(String, String)]),
    /// From a client.
    Of(Outfit),
}

impl Dress<'_> {
    /// Prepares the command; gives what the client's user should know of that.
    fn put_on(&self, command: &mut Command, scratch: &Path) -> io::Result<Option<Box<str>>> {
        match self {
            Self::Inherited(variables) => {
                // What says who its parent is goes, so that another cw program that a job starts is a plain one.
                let ours = std::env::vars_os().map(|(name, _)| name).filter(|name| {
                    let text = name.to_str().unwrap_or_default();
                    text.starts_with("CW_") && text != "CW_HOME" && text != "CW_LOG"
                });
                ours.fold(&mut *command, |command, name| command.env_remove(name));
                command.envs(variables.iter().map(|(name, value)| (name, value)));
                Ok(None)
            }
            Self::Of(outfit) => {
                command.env_clear().envs(outfit.environment.iter().map(|(name, value)| (name, value)));
                if is_there(&outfit.folder) {
                    command.current_dir(&outfit.folder);
                    return Ok(None);
                }
                scratch::make_folder(scratch)?;
                command.current_dir(scratch);
                let node = crate::program::host_name();
                let folder = match outfit.folder.as_os_str().is_empty() {
                    true => "the client's working directory".to_owned(),
                    false => outfit.folder.display().to_string(),
                };
                let what = format!("{folder} is not on {node}: tasks begin in a scratch folder there");
                Ok(Some(what.into()))
            }
        }
    }
}

/// Whether a folder is there. A file system that does not answer must not stop the worker's loop for long.
fn is_there(folder: &Path) -> bool {
    let (found, wait) = std::sync::mpsc::sync_channel(1);
    let folder = folder.to_owned();
    let look = move || {
        // Nobody listens any more if it took too long.
        let _ = found.send(folder.is_dir());
    };
    let looks = std::thread::Builder::new().name("cw-folder".to_owned()).spawn(look);
    looks.is_ok() && wait.recv_timeout(FOLDER_TIME).unwrap_or(false)
}

/// A group that is gone already is as good as killed.
fn kill_group(pid: Pid) {
    let _ = rustix::process::kill_process_group(pid, Signal::KILL);
}

/// What carries an executor's words to its worker.
struct Carrier {
    id: ExecutorId,
    pid: Pid,
    reaped: Arc<AtomicBool>,
    worker: String,
    /// Where its tasks' folders are, if any asked for one.
    scratch: PathBuf,
    said: mpsc::Sender<Said>,
    incoming: mpsc::Receiver<((), Incoming<FromExecutor>)>,
    prints: Prints,
}

impl Carrier {
    /// Tells of the end in any case: a slot whose executor ended unheard would wait for it for ever.
    async fn carry_or_tell(self, child: Child) {
        let (id, pid, worker) = (self.id, self.pid, self.worker.clone());
        let (said, reaped) = (self.said.clone(), Arc::clone(&self.reaped));
        // The process is killed with the value that stands for it; its group is not.
        if let Err(why) = caught(self.carry(child)).await {
            if !reaped.swap(true, Ordering::Relaxed) {
                kill_group(pid);
            }
            LIVE.lock().expect("no holder panics").remove(&pid.as_raw_nonzero().get());
            let (ending, hint, stderr, output) = (Ending::Unknown, Some(why), String::new(), Payload::new());
            let ended = ExecutorSaid::Ended { ending, hint, stderr, output, worker };
            let _ = said.send((id, vec![ended])).await;
        }
    }

    async fn carry(mut self, mut child: Child) {
        let kills_before = out_of_memory_kills();
        let status = loop {
            // `recv` and `wait` both lose nothing when the other comes first.
            tokio::select! {
                incoming = self.incoming.recv() => {
                    let Some(((), Incoming::Messages(messages))) = incoming else { break None };
                    self.pass_on(messages).await;
                }
                status = child.wait() => break status.ok(),
            }
        };
        kill_group(self.pid);
        // The end of its words comes once; nothing would come after it.
        let has_said_all = status.is_none();
        let status = match status {
            Some(status) => Some(status),
            None => child.wait().await.ok(),
        };
        self.reaped.store(true, Ordering::Relaxed);
        LIVE.lock().expect("no holder panics").remove(&self.pid.as_raw_nonzero().get());
        if !has_said_all {
            let _ = tokio::time::timeout(TAIL_WAIT, self.pass_on_rest()).await;
        }
        scratch::remove_soon(std::mem::take(&mut self.scratch));
        let ended = self.evidence(status, kills_before);
        // If the worker is gone, nobody wants to know.
        let _ = self.said.send((self.id, vec![ended])).await;
    }

    /// Passes on what the process had written before its end.
    async fn pass_on_rest(&mut self) {
        while let Some(((), Incoming::Messages(messages))) = self.incoming.recv().await {
            self.pass_on(messages).await;
        }
    }

    async fn pass_on(&self, messages: Vec<(FromExecutor, Payload)>) {
        let words = messages.into_iter().map(|(message, body)| match message {
            FromExecutor::Ready { .. } => ExecutorSaid::Ready,
            FromExecutor::Starting => ExecutorSaid::Starting,
            FromExecutor::Done { class, micros, output } => {
                ExecutorSaid::Done { class, micros, output, body }
            }
            FromExecutor::Dones { tasks } => ExecutorSaid::Dones { tasks, body },
            FromExecutor::Output { from } => ExecutorSaid::Output { from, body },
            FromExecutor::NotStarted { tasks } => ExecutorSaid::NotStarted { tasks },
            FromExecutor::Progress { thousandths } => ExecutorSaid::Progress { thousandths },
            FromExecutor::Asks { task, attempt, number, ask } => {
                ExecutorSaid::Asks { task, attempt, number, ask, body }
            }
        });
        let _ = self.said.send((self.id, words.collect())).await;
    }

    fn evidence(&self, status: Option<ExitStatus>, kills_before: Option<u64>) -> ExecutorSaid {
        let ending = match status {
            Some(status) => match (status.signal(), status.code()) {
                (Some(signal), _) => Ending::Signal(signal),
                (None, Some(code)) => Ending::Exit(code),
                (None, None) => Ending::Unknown,
            },
            None => Ending::Unknown,
        };
        let memory = ending == Ending::Signal(9) && out_of_memory_kills() > kills_before;
        let hint = memory.then(|| "the kernel ran out of memory and killed a process meanwhile".to_owned());
        let stderr = self.prints.last_words(TAIL_BYTES);
        let output = self.prints.read().unwrap_or_default().encode();
        ExecutorSaid::Ended { ending, hint, stderr, output, worker: self.worker.clone() }
    }
}

/// How often the kernel has killed for memory since it started, where it says so.
fn out_of_memory_kills() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/vmstat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}
