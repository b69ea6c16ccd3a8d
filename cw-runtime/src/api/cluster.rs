//! Saying in code, and not by flags, where tasks run.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    thread,
};

use super::block::block_on;
use crate::{
    client::session::{self, Mode},
    error::{Error, Result},
    exit::{self, Trouble},
    start::{cluster_named, processes},
};

/// Where this program's tasks run, for programs without `#[cw::main]`: with it, and with [`init`](crate::init), flags
/// and environment say so.
///
/// A program is a client of one cluster, from its first call on. It still calls `cw::init()?` first thing in `main`,
/// since its executors are processes of itself.
#[derive(Clone, Debug)]
pub struct Cluster {
    name: String,
}

impl Cluster {
    /// Has tasks run on this machine, in processes of their own, as many at once as there are cores.
    ///
    /// # Errors
    /// `cw::init()` was not called, tasks run elsewhere already, or the system refuses a thread. Trying again helps
    /// in the last case only.
    pub fn local() -> Result<Self> {
        Self::local_slots(0)
    }

    /// As [`local`](Self::local), with so many tasks at once; 0 stands for one per core.
    ///
    /// # Errors
    /// As [`local`](Self::local).
    pub fn local_slots(slots: u32) -> Result<Self> {
        check_init()?;
        session::begin(processes(slots)).map_err(to_error)?;
        exit::note_fatal(0);
        Ok(Self { name: "this machine".to_owned() })
    }

    /// Connects to a cluster by its name: its access file is in `$CW_HOME/NAME` (by default `~/.cw/NAME`). Waits for a
    /// master that does not answer, at most a minute.
    ///
    /// # Errors
    /// `cw::init()` was not called, tasks run elsewhere already, the access file is missing or damaged, or no master
    /// answered. Trying again helps in the last case, once there is one.
    pub fn connect(name: impl Into<String>) -> Connect {
        Connect { name: name.into(), shared: None }
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Else executors would run `main` again.
fn check_init() -> Result<()> {
    if session::has_init() {
        return Ok(());
    }
    Err(Error::other("call `cw::init()?` first thing in `main`, or use `#[cw::main]`, before `cw::Cluster`"))
}

fn to_error(trouble: Trouble) -> Error {
    exit::note_fatal(trouble.code());
    Error::other(trouble)
}

/// A future of a connection, made by [`Cluster::connect`].
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct Connect {
    name: String,
    shared: Option<Arc<Shared>>,
}

/// Between the future and the thread that connects, which blocks.
#[derive(Debug, Default)]
struct Shared(Mutex<Connecting>);

#[derive(Debug, Default)]
struct Connecting {
    result: Option<std::result::Result<(), Trouble>>,
    waker: Option<Waker>,
}

impl Shared {
    fn put(&self, result: std::result::Result<(), Trouble>) {
        let mut state = self.0.lock().expect("no holder panics");
        state.result = Some(result);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Connect {
    /// Blocks this thread until it is connected: for code that is not async.
    ///
    /// # Errors
    /// As [`Cluster::connect`].
    pub fn wait(self) -> Result<Cluster> {
        block_on(self)
    }

    fn start(&mut self) -> Result<Arc<Shared>> {
        if let Some(shared) = &self.shared {
            return Ok(Arc::clone(shared));
        }
        check_init()?;
        let shared = Arc::new(Shared::default());
        let (theirs, mode) = (Arc::clone(&shared), Mode::Remote(cluster_named(&self.name)));
        thread::Builder::new()
            .name("cw-connect".to_owned())
            .spawn(move || theirs.put(session::begin(mode)))
            .map_err(Error::from)?;
        Ok(Arc::clone(self.shared.insert(shared)))
    }
}

impl Future for Connect {
    type Output = Result<Cluster>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = self.start()?;
        let mut state = shared.0.lock().expect("no holder panics");
        match state.result.take() {
            Some(Ok(())) => {
                // An earlier try may have failed.
                exit::note_fatal(0);
                Poll::Ready(Ok(Cluster { name: format!("cluster `{}`", self.name) }))
            }
            Some(Err(trouble)) => Poll::Ready(Err(to_error(trouble))),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
