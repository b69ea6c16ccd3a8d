//! The one client of a process: started by `main`, by `init`, or by the first call.

use std::{
    future::Future,
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, mpsc},
    thread,
    time::Duration,
};

use cw_core::{
    Payload,
    client::{Config, Introduction},
    ids::SettingId,
    wire::Role,
};

use super::{hub::Hub, local, remote, shown::Shows, signals};
use crate::{
    checkpoints, executor,
    exit::{self, Trouble},
    image::Image,
    job::{self, Registry},
    net::connect::{Search, Wanted},
    particulars, program, shared, store,
    worker::pool::Kind,
};

/// How long a program's end waits for its client's.
const CLOSE_WAIT: Duration = Duration::from_secs(4);

/// How long a cluster keeps what it has of a program whose results are recorded, once that has died: long enough for
/// somebody to see it and to start it again.
pub(crate) const KEPT_FOR: Duration = Duration::from_secs(900);

/// Where this process's tasks run.
#[derive(Clone, Debug)]
pub(crate) enum Mode {
    /// On a cluster.
    Remote(Wanted),
    /// Here, in processes of their own, so many at once, with these variables.
    Processes { slots: u32, environment: Vec<(String, String)> },
    /// Here, in threads.
    Threads { slots: u32 },
}

impl Mode {
    /// Whether tasks run at the same place, however many.
    fn is_at(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Remote(ours), Self::Remote(theirs)) => ours.cluster == theirs.cluster,
            (Self::Processes { .. }, Self::Processes { .. })
            | (Self::Threads { .. }, Self::Threads { .. }) => true,
            _ => false,
        }
    }
}

static MODE: Mutex<Option<Mode>> = Mutex::new(None);
static SESSION: OnceLock<Arc<Hub>> = OnceLock::new();

/// What `init` or `#[cw::main]` leaves for the first call.
#[derive(Debug)]
pub(crate) struct Init {
    /// Called before tasks run here for want of another word.
    pub(crate) advice: fn(),
    /// How long a master is waited for, if the user says.
    pub(crate) connect_timeout: Option<Duration>,
    /// After how long without any progress all calls fail, if ever.
    pub(crate) give_up_after: Option<Duration>,
    /// Whether stored results are computed anew.
    pub(crate) fresh: bool,
    /// Variables that executors on a cluster are to have too.
    pub(crate) environment: Vec<String>,
    /// Which of what tasks print is shown.
    pub(crate) shows: Shows,
    /// Where what tasks save is kept, if the user says.
    pub(crate) checkpoints: Option<PathBuf>,
}

static INIT: OnceLock<Init> = OnceLock::new();

/// Notes that this process knows what it is.
pub(crate) fn note_init(init: Init) {
    checkpoints::settle(init.checkpoints.as_deref());
    let _ = INIT.set(init);
}

/// How long a master is waited for, if the user said so.
pub(crate) fn connect_timeout() -> Option<Duration> {
    INIT.get()?.connect_timeout
}

/// Which of what tasks print is shown.
pub(super) fn shows() -> Shows {
    INIT.get().map(|init| init.shows).unwrap_or_default()
}

/// Whether stored results are computed anew.
pub(crate) fn is_fresh() -> bool {
    INIT.get().is_some_and(|init| init.fresh)
}

/// Whether this process knows what it is, so that executors can be processes of its program.
pub(crate) fn has_init() -> bool {
    INIT.get().is_some()
}

/// Starts the client there, by the program's own word, which counts more than the environment.
///
/// # Errors
/// It runs elsewhere already, or cannot be started.
pub(crate) fn begin(mode: Mode) -> Result<(), Trouble> {
    executor::process::exit_if_stray();
    let mut settled = MODE.lock().expect("no holder panics");
    if SESSION.get().is_some() {
        let is_same = settled.as_ref().is_some_and(|settled| settled.is_at(&mode));
        let elsewhere = "this program's tasks run elsewhere already; say where before the first call";
        return if is_same { Ok(()) } else { Err(Trouble::new(exit::USAGE, elsewhere)) };
    }
    let hub = start(&mode)?;
    *settled = Some(mode);
    let _ = SESSION.set(hub);
    Ok(())
}

/// Settles where tasks will run. Comes before the first call.
pub(crate) fn settle(mode: Mode) {
    *MODE.lock().expect("no holder panics") = Some(mode);
}

/// Settles it unless that was done, or tasks run already.
pub(crate) fn settle_first(mode: Mode) {
    let mut settled = MODE.lock().expect("no holder panics");
    if SESSION.get().is_none() {
        settled.get_or_insert(mode);
    }
}

/// The hub of this process's client, which is started at the first call.
///
/// A program that never called `init` has threads for executors: a process of it would not know what it is.
pub(crate) fn hub() -> Result<&'static Arc<Hub>, Trouble> {
    executor::process::exit_if_stray();
    if let Some(hub) = SESSION.get() {
        return Ok(hub);
    }
    // Held until the client runs, so that two first calls start one.
    let mut mode = MODE.lock().expect("no holder panics");
    if let Some(hub) = SESSION.get() {
        return Ok(hub);
    }
    let mode = mode.get_or_insert_with(|| Mode::Threads { slots: crate::start::slots::detect(1) });
    if let (Some(Init { advice, .. }), Mode::Processes { .. } | Mode::Threads { .. }) = (INIT.get(), &*mode) {
        advice();
    }
    let hub = start(mode)?;
    Ok(SESSION.get_or_init(|| hub))
}

/// The hub of this process's client, for a call: none within a job, where it is the call that says why.
pub(crate) fn hub_for_call() -> Result<&'static Arc<Hub>, Trouble> {
    if executor::in_job() {
        return Err(Trouble::new(exit::USAGE, "a job cannot call jobs"));
    }
    hub()
}

/// The cluster that this process's tasks run on, if they do.
pub(crate) fn cluster() -> Option<Wanted> {
    match MODE.lock().expect("no holder panics").as_ref() {
        Some(Mode::Remote(wanted)) => Some(wanted.clone()),
        _ => None,
    }
}

/// Starts the client now, and waits until it is connected if it needs to be.
pub(crate) fn start_now() -> Result<(), Trouble> {
    hub().map(drop)
}

/// Ends the client, if there is one. `is_well` says whether the program has done what it was to do.
pub(crate) fn close(is_well: bool) {
    if let Some(hub) = SESSION.get() {
        hub.close(CLOSE_WAIT);
        store::close_all(CLOSE_WAIT);
        checkpoints::close(is_well && !hub.is_interrupted(), CLOSE_WAIT);
    }
    executor::scratch::finish_removals();
    shared::close();
    crate::stderr::flush();
}

fn start(mode: &Mode) -> Result<Arc<Hub>, Trouble> {
    checkpoints::settle(None);
    let problems = job::problems();
    let registry = match Registry::global() {
        Ok(registry) if problems.is_empty() => registry,
        // On one line: it becomes the reason of each call that is refused.
        _ => return Err(Trouble::new(exit::USAGE, problems.join("; "))),
    };
    let hub = Arc::new(Hub::new());
    signals::watch(&hub);
    match mode {
        Mode::Remote(wanted) => start_remote(&hub, wanted)?,
        Mode::Processes { slots, environment } => {
            let kind = Kind::Processes { image: Image::own()?, environment: environment.clone() };
            spawn_thread(&hub, local::serve(Arc::clone(&hub), client_config(), *slots, kind))?;
        }
        Mode::Threads { slots } => {
            let kind = Kind::Threads(registry);
            spawn_thread(&hub, local::serve(Arc::clone(&hub), client_config(), *slots, kind))?;
        }
    }
    Ok(hub)
}

/// What the user said about how the client is to behave.
fn client_config() -> Config {
    let give_up_after = INIT.get().and_then(|init| init.give_up_after);
    // The workers of this process know all the rest.
    let introduction =
        Introduction { setting: SettingId::default(), output: shows().into(), body: Payload::new() };
    Config { give_up_after, keep_for: Some(KEPT_FOR), introduction: Some(introduction) }
}

/// The same on a cluster, whose workers have to know what this process is.
///
/// # Errors
/// This process cannot read what it is, or the user named a variable that is not there.
pub(crate) fn remote_config() -> Result<Config, Trouble> {
    let named = INIT.get().map(|init| init.environment.as_slice()).unwrap_or_default();
    let own = Introduction { output: shows().into(), ..particulars::own(named)? };
    Ok(Config { introduction: Some(own), ..client_config() })
}

fn start_remote(hub: &Arc<Hub>, wanted: &Wanted) -> Result<(), Trouble> {
    hub.note_remote();
    let hello = program::hello(program::own_id()?, Role::Client)?;
    // A std channel: `init` may be called from async code, where tokio's refuse to block.
    let (first, connected) = mpsc::sync_channel(1);
    let search = Search::new(wanted.clone(), hello);
    spawn_thread(hub, remote::serve(Arc::clone(hub), search, remote_config()?, first))?;
    match connected.recv() {
        Ok(connected) => connected,
        // Whoever was interrupted while it waited is not to end with another code.
        Err(_) if hub.is_interrupted() => loop {
            thread::park();
        },
        Err(_) => Err(Trouble::new(exit::SYSTEM, "the client's thread has ended")),
    }
}

/// Runs the client on a thread and a runtime of its own: a user's task that blocks its thread, or a user's
/// runtime that ends early, must not cut the connection.
pub(crate) fn spawn_thread(
    hub: &Arc<Hub>,
    serve: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Trouble> {
    let hub = Arc::clone(hub);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let body = move || {
        let served = panic::catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(serve);
            // Whatever a task of the runtime still does is dropped with it, before the end is told.
            drop(runtime);
        }));
        if served.is_err() {
            // Every answer would be waited for in vain.
            std::process::exit(i32::from(
                Trouble::new(exit::SYSTEM, "a fault in cw: its client has ended").report(),
            ));
        }
        hub.note_closed();
    };
    thread::Builder::new().name("cw-net".to_owned()).spawn(body)?;
    Ok(())
}
