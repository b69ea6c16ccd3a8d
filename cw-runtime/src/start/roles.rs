//! What the flags mean: a master, a worker, or where a client's tasks run.

use std::{
    collections::HashMap,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use cw_core::{
    client::Introduction,
    ids::ProgramId,
    master,
    wire::{Particulars, Programs, Role},
    worker as worker_core,
};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    flags::{ClusterFlags, Idle, RoleFlag},
    room::Patience,
    slots,
    step::{self, Step},
};
use crate::{
    access::{
        self, AccessError, ClusterDir, MasterKeys, MasterLock,
        addresses::Interface,
        notes::{self, Note},
        succession::successor,
    },
    client::{
        notice::say,
        session::{self, Init, Mode},
    },
    executor::scratch,
    exit::{self, Trouble},
    flag::{self, DEFAULT_CLUSTER, flag},
    image::Image,
    job::{self, Registry},
    launch,
    master::run::{self, Setup},
    net::{
        connect::{DEFAULT_PORT, Search, Wanted},
        endpoint::{self, BindErrorKind, Opening},
        tls::{self, Peer},
    },
    particulars, program,
    worker::{
        self,
        pool::{Kind, Wardrobe},
        programs::Fetcher,
        upstream::Upstream,
    },
};

const CLIENT_TIMEOUT: Duration = Duration::from_secs(60);
const WORKER_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a master that takes over waits for the other to end. That looks every [`LOOK_PAUSE`] whether it should.
const TAKEOVER_WAIT: Duration = Duration::from_secs(5);

/// How long what still waits for a disk is waited for at the end.
const END_WAIT: Duration = Duration::from_secs(1);

/// How often a master looks whether another has taken over.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// What is left to do once the flags are read.
pub(super) enum Next {
    /// Run the program's own `main`.
    Client,
    /// Nothing: the role was served to its end.
    Exit(u8),
}

/// Serves the role the flags ask for, or prepares the client.
pub(super) fn enter(flags: &ClusterFlags) -> Next {
    let shared = Step::to_share(flags);
    let result = match flags.role {
        None if let Some(step) = shared => step.share(flags).map(Next::Exit),
        Some(RoleFlag::Master) => flags.check().and_then(|()| serve_master(flags)).map(|()| Next::Exit(0)),
        Some(RoleFlag::Worker) => serve_worker(flags).map(|()| Next::Exit(0)).inspect_err(|trouble| {
            let (cluster, access) = (flags.cluster.as_deref(), flags.access.as_deref());
            last_note(cluster, access, &trouble.to_string());
        }),
        Some(RoleFlag::Client) | None => prepare_client(flags).map(|()| Next::Client),
    };
    let next = result.unwrap_or_else(|trouble| Next::Exit(trouble.report()));
    crate::stderr::flush();
    next
}

/// Notes why a worker ends, where whoever waits for it can read that.
pub(crate) fn last_note(cluster: Option<&str>, access: Option<&Path>, why: &str) {
    if let Some(folder) = ClusterDir::of_notes(cluster.unwrap_or(DEFAULT_CLUSTER), access) {
        notes::leave_soon(&folder, Note::new(why, true));
        notes::finish(END_WAIT);
    }
}

/// Serves the role the flags name to its end; gives the exit code.
pub(crate) fn serve(flags: &ClusterFlags) -> u8 {
    match enter(flags) {
        Next::Exit(code) => code,
        Next::Client => exit::USAGE,
    }
}

fn prepare_client(flags: &ClusterFlags) -> Result<(), Trouble> {
    check_fitness()?;
    step::has_parent();
    flag::set_cluster(flags.cluster.as_deref().unwrap_or(DEFAULT_CLUSTER));
    session::note_init(Init {
        advice: mention_cluster,
        connect_timeout: flags.connect_timeout,
        give_up_after: flags.give_up_after,
        fresh: flags.fresh,
        environment: flags.env.clone(),
        shows: flags.output.into(),
        checkpoints: flags.checkpoints.clone(),
    });
    let on_cluster =
        flags.role.is_some() || flags.cluster.is_some() || flags.access.is_some() || flags.master.is_some();
    if on_cluster {
        if flags.threads {
            let line =
                format!("{} runs tasks here, {} on a cluster: give one", flag("threads"), flag("cluster"));
            return Err(Trouble::new(exit::USAGE, line));
        }
        session::settle(Mode::Remote(wanted(flags, Peer::Client, CLIENT_TIMEOUT)));
        return session::start_now();
    }
    let slots = flags.slots.unwrap_or_else(|| slots::detect(flags.cores_per_slot));
    let environment = slots::thread_limits(flags.cores_per_slot);
    session::settle(if flags.threads {
        Mode::Threads { slots }
    } else {
        Mode::Processes { slots, environment }
    });
    Ok(())
}

/// Where tasks run of a program that says in code that it is this machine; 0 slots stand for one per core.
pub(crate) fn processes(slots: u32) -> Mode {
    let slots = if slots == 0 { slots::detect(1) } else { slots };
    Mode::Processes { slots, environment: slots::thread_limits(1) }
}

/// The cluster of this name, for a program that names it in code.
pub(crate) fn cluster_named(name: &str) -> Wanted {
    flag::set_cluster(name);
    Wanted {
        cluster: name.to_owned(),
        access: None,
        master: None,
        role: Peer::Client,
        timeout: session::connect_timeout().unwrap_or(CLIENT_TIMEOUT),
    }
}

/// What no job of a client could get around is told before its `main`: a call would find it out hours later.
fn check_fitness() -> Result<(), Trouble> {
    let problems = job::problems();
    if problems.is_empty() { Ok(()) } else { Err(Trouble::new(exit::USAGE, problems.join("\n"))) }
}

/// Two jobs of one name are told before anything runs. A worker runs all other jobs of a program with an unfit one.
fn check_jobs() -> Result<(), Trouble> {
    Registry::global().map(drop).map_err(|duplicate| Trouble::new(exit::USAGE, duplicate.to_string()))
}

/// A program that runs by itself beside a live cluster was perhaps meant to run on it.
fn mention_cluster() {
    if ClusterDir::locate(DEFAULT_CLUSTER).is_ok_and(|dir| dir.has_live_master()) {
        let flag = flag("cluster");
        say(&format!(
            "running on this machine alone; the cluster `default` is up: add `{flag} default` to use it"
        ));
    }
}

fn wanted(flags: &ClusterFlags, role: Peer, timeout: Duration) -> Wanted {
    Wanted {
        cluster: flags.cluster.clone().unwrap_or_else(|| DEFAULT_CLUSTER.to_owned()),
        access: flags.access.clone(),
        master: flags.master.clone(),
        role,
        timeout: flags.connect_timeout.unwrap_or(timeout),
    }
}

pub(super) fn serve_worker(flags: &ClusterFlags) -> Result<(), Trouble> {
    check_jobs()?;
    flag::set_cluster(flags.cluster.as_deref().unwrap_or(DEFAULT_CLUSTER));
    let is_of_step = Step::is_served_by(flags);
    start_log(is_of_step);
    let (image, blob) = Image::private_copy()?;
    let program = program::id_of(blob);
    let programs = Programs::from(flags.programs);
    let slots = flags.slots.unwrap_or_else(|| slots::detect(flags.cores_per_slot));
    let hello = program::hello(program, Role::Worker { slots, programs, left: None })?;
    let mut search = Search::new(wanted(flags, Peer::Worker, WORKER_TIMEOUT), hello);
    if is_of_step {
        search.end_with_folder();
    }
    let setup = worker_setup(flags, (slots, programs), (program, image))?;
    let runtime = runtime()?;
    let served =
        runtime.block_on(async { worker::run::run(search, flags.orphan_time, setup, stop_signal()?).await });
    // A disk that does not answer must not keep it from ending.
    runtime.shutdown_timeout(END_WAIT);
    scratch::finish_removals();
    if served.is_ok() {
        tracing::info!("{}", launch::local::WELL);
    }
    notes::finish(END_WAIT);
    served
}

fn worker_setup(
    flags: &ClusterFlags,
    (slots, programs): (u32, Programs),
    (program, image): (ProgramId, Image),
) -> Result<worker::run::Setup, Trouble> {
    let Introduction { setting, body, .. } = particulars::own(&flags.env)?;
    let own = worker_core::Origin { program, setting };
    // The installed `cw` has no jobs, and no executors of its own.
    let start_early = job::jobs().next().is_some();
    let idle_end = Idle::resolve(flags.idle);
    let config =
        worker_core::Config { slots, own, programs, start_early, idle_end, ..worker_core::Config::default() };
    let wardrobe = Wardrobe {
        images: HashMap::from([(program, image)]),
        own: Particulars::decode(&body).expect("it was just encoded"),
        limits: slots::thread_limits(flags.cores_per_slot),
    };
    let fetcher = Fetcher { programs, upstream: Arc::new(Upstream::new(flags.cache_size)) };
    let walltime = worker::walltime::watch(flags.walltime);
    Ok(worker::run::Setup { config, kind: Kind::Programs(wardrobe), fetcher, walltime })
}

fn serve_master(flags: &ClusterFlags) -> Result<(), Trouble> {
    start_log(Step::is_served_by(flags));
    let cluster = flags.cluster.as_deref().unwrap_or(DEFAULT_CLUSTER);
    let dir = ClusterDir::locate(cluster)?;
    let patience = Patience::new(flags.takeover);
    let (keys, _lock) = patience.have(|| open_master(&dir, flags.takeover))?;
    let (roster, book) = patience.have(|| dir.open_roster())?;
    let config = master::Config {
        suspect_after: flags.suspect_after,
        lost_after: flags.lost_after,
        client_grace: flags.client_grace,
        first_id: book.first_id(),
        roster: book.into_members(),
        ..master::Config::default()
    };
    let interface = flags.interface.as_deref().map(Interface::find).transpose();
    let interface = interface.map_err(|line| Trouble::new(exit::LISTEN, line))?;
    let (socket, buffers) = listen(flags.listen, interface.as_ref())?;
    if let Some(advice) = buffers.advice() {
        // Few join the master of a step.
        match Step::is_served_by(flags) {
            true => tracing::debug!("{advice}"),
            false => tracing::warn!("{advice}"),
        }
    }
    let clients = keys.clients.certificate();
    let tls = tls::server_config(&keys.identity, clients, keys.workers.certificate())?;
    let runtime = runtime()?;
    let closer = launch::keeper::Closer::default();
    let served = runtime.block_on(async {
        let bound = socket.local_addr()?;
        let opening = Opening { address: bound, config: tls, keys: keys.endpoint.clone() };
        let endpoint = endpoint::serve(socket, opening.config.clone(), &opening.keys)?;
        let addresses = called_at(bound, interface.as_ref())?;
        patience.have(|| match interface {
            None => dir.write_access(&keys, &addresses),
            // The host's name may lead to another interface.
            Some(_) => dir.write_access_only(&keys, &addresses),
        })?;
        let shutdown = stop_signal()?;
        announce(cluster, &addresses);
        let keeper = launch::keeper::start(dir.clone(), closer.clone())?;
        let successor = successor(keys.epoch, LOOK_PAUSE, move || dir.epoch());
        let cache_bytes = flags.cache_size;
        let roster = Some(roster);
        let setup = Setup { endpoint, opening, keys, config, roster, cache_bytes, keeper: Some(keeper) };
        run::run(setup, shutdown, successor).await
    });
    closer.finish();
    runtime.shutdown_timeout(END_WAIT);
    served
}

/// The cluster's keys and lock; by force, if the user says so.
fn open_master(dir: &ClusterDir, takeover: bool) -> Result<(MasterKeys, Option<MasterLock>), AccessError> {
    if !takeover {
        let (keys, lock) = dir.open_master()?;
        return Ok((keys, Some(lock)));
    }
    let (keys, lock) = dir.take_over(TAKEOVER_WAIT)?;
    if lock.is_none() {
        let (lock, wait) = (dir.path().display(), TAKEOVER_WAIT.as_secs());
        tracing::warn!(
            "another master still holds the lock on {lock} after {wait} s; its peers leave it, as this one's epoch is higher ({})",
            keys.epoch
        );
    }
    Ok((keys, lock))
}

/// The one line on how to join.
fn announce(cluster: &str, addresses: &[SocketAddr]) {
    use std::io::Write;
    let program = program::file_name();
    // The installed `cw` has verbs, and is nobody's program.
    let is_cw = job::jobs().next().is_none();
    let (role, named) = (flag("role"), format!("{} {cluster}", flag("cluster")));
    let name = if cluster == DEFAULT_CLUSTER { String::new() } else { format!(" {named}") };
    let address = addresses.first().map(ToString::to_string).unwrap_or_default();
    let (join, user) = match is_cw {
        true => (format!("{program} worker"), "PROGRAM".to_owned()),
        false => (format!("{program} {role} worker"), program),
    };
    // A closed stdout is no reason not to serve.
    let _ = writeln!(
        std::io::stdout(),
        "master of cluster `{cluster}` at {address}; join: {join}{name}; use: {user} {named}"
    );
}

/// The addresses at which the master is to be called.
fn called_at(bound: SocketAddr, interface: Option<&Interface>) -> Result<Vec<SocketAddr>, Trouble> {
    match interface {
        None => Ok(access::reachable_addresses(bound)),
        Some(interface) => interface.addresses(bound).map_err(|line| Trouble::new(exit::LISTEN, line)),
    }
}

fn listen(
    wanted: Option<SocketAddr>,
    interface: Option<&Interface>,
) -> Result<(std::net::UdpSocket, endpoint::BufferSizes), Trouble> {
    if let Some(address) = wanted {
        return Ok(endpoint::bind(address)?);
    }
    let any = interface.map_or(Ipv4Addr::UNSPECIFIED.into(), Interface::any);
    match endpoint::bind((any, DEFAULT_PORT).into()) {
        Err(error) if error.kind == BindErrorKind::InUse => Ok(endpoint::bind((any, 0).into())?),
        other => Ok(other?),
    }
}

/// Done when the process is asked to stop.
fn stop_signal() -> Result<impl Future<Output = ()>, Trouble> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let is_in_step = step::has_parent();
    Ok(async move {
        if is_in_step {
            return step::parent_ends().await;
        }
        // Each only notes that a signal came.
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
        tracing::info!("asked to stop");
    })
}

/// All of a role on one thread: a message crosses no thread, and wakes none.
fn runtime() -> Result<tokio::runtime::Runtime, Trouble> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Logs to stderr, at the level `CW_LOG` names: error, warn, info (the default; not beside a program), debug, trace.
fn start_log(is_beside_program: bool) {
    let level = std::env::var("CW_LOG").ok().and_then(|level| level.parse().ok());
    let usual = if is_beside_program { tracing::Level::WARN } else { tracing::Level::INFO };
    let level: tracing::Level = level.unwrap_or(usual);
    // A program that has set up its own log keeps it.
    let _ = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(false)
        .with_writer(|| crate::stderr::Log)
        .try_init();
}
