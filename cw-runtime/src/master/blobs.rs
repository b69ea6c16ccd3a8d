//! The master's part in blobs: it gets each from a client that has it, once, keeps it in its node's cache, and passes it
//! on while it comes. Workers that have one are named to others once enough are served here.

use std::{
    collections::HashMap,
    fs::File,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::BytesMut;
use cw_core::ids::ProgramId;
use tokio::sync::{Notify, watch};

use crate::blobs::{
    BlobId, Outline,
    cache::Cache,
    fetch::{Failed, Fetched, Follower, fetch},
    folder, on_disk,
    pass::{Budget, Passing},
    rooms::Rooms,
    serve::{Source, Unserved, serve},
    talk::{self, Answer, Ask, Wish},
};

/// So many workers are sent blobs of one program at once; more are told who else has them, or wait.
const SERVED_MAX: usize = 8;

/// So many others are named to a worker.
const NAMED_MAX: usize = 3;

/// How often a blob is looked for that another process of this node fetches.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Blobs of which the master remembers who has them.
const KNOWN_MAX: usize = 4_096;

/// The blobs of a cluster, as its master knows them.
pub(crate) struct Blobs {
    cache_bytes: u64,
    clients: Mutex<Vec<(ProgramId, quinn::Connection)>>,
    /// Where workers serve others, by connection.
    workers: Mutex<HashMap<usize, SocketAddr>>,
    known: Mutex<HashMap<BlobId, Arc<Known>>>,
    rooms: Rooms,
    /// What is being passed on.
    passing: Budget,
}

/// A blob that was asked for.
#[derive(Default)]
struct Known {
    /// One gets it at a time.
    state: tokio::sync::Mutex<State>,
    /// Workers that have it, by connection.
    holders: Mutex<Vec<usize>>,
    /// Another worker has it.
    more: Notify,
    /// Whether it was passed on to a worker and not kept.
    passed: AtomicBool,
}

/// Where a blob is. What is complete is not kept open, as the cache may have to make room.
#[derive(Default)]
enum State {
    #[default]
    Nowhere,
    Coming(Source),
    Here(Arc<Outline>),
}

impl Blobs {
    pub(crate) fn new(cache_bytes: u64) -> Self {
        Self {
            cache_bytes,
            clients: Mutex::default(),
            workers: Mutex::default(),
            known: Mutex::default(),
            rooms: Rooms::new(SERVED_MAX),
            passing: Budget::default(),
        }
    }

    /// A client is here, whose executable can be asked for.
    pub(super) fn client_joined(self: &Arc<Self>, program: ProgramId, connection: quinn::Connection) {
        self.clients.lock().expect("no holder panics").push((program, connection.clone()));
        let blobs = Arc::clone(self);
        tokio::spawn(async move {
            connection.closed().await;
            // A handle that is kept keeps the whole endpoint.
            let is_it =
                |(_, it): &mut (ProgramId, quinn::Connection)| it.stable_id() == connection.stable_id();
            blobs.clients.lock().expect("no holder panics").retain_mut(|it| !is_it(it));
        });
    }

    /// A worker is here, which may ask for blobs.
    pub(super) fn worker_joined(self: &Arc<Self>, connection: quinn::Connection) {
        let blobs = Arc::clone(self);
        tokio::spawn(async move {
            // Ends with the connection.
            while let Ok((send, receive)) = connection.accept_bi().await {
                let (blobs, connection) = (Arc::clone(&blobs), connection.clone());
                tokio::spawn(async move { blobs.answer(&connection, send, receive).await });
            }
            blobs.workers.lock().expect("no holder panics").remove(&connection.stable_id());
        });
    }

    async fn answer(
        self: Arc<Self>,
        connection: &quinn::Connection,
        mut send: quinn::SendStream,
        mut receive: quinn::RecvStream,
    ) {
        let worker = connection.stable_id();
        let from = connection.remote_address().ip();
        let answered = match talk::hear(&mut receive, &mut BytesMut::new()).await {
            Ok(Ask::Serves { port }) => {
                let address = SocketAddr::new(connection.remote_address().ip(), port);
                self.workers.lock().expect("no holder panics").insert(worker, address);
                Ok(())
            }
            Ok(Ask::Has { id }) => {
                self.note_holder(&self.known(id), worker);
                Ok(())
            }
            Ok(Ask::Blob(wish)) => self.give(wish, (worker, from), (&mut send, &mut receive)).await,
            Err(why) => Err(why),
        };
        if let Err(why) = answered {
            tracing::debug!("a worker did not get what it asked for: {why}");
        }
    }

    async fn give(
        self: &Arc<Self>,
        wish: Wish,
        worker: (usize, IpAddr),
        (send, receive): (&mut quinn::SendStream, &mut quinn::RecvStream),
    ) -> Result<(), String> {
        let Wish { id, program, others_failed, passing } = wish;
        let known = self.known(id);
        // What is asked for again is not only passing.
        if passing && !known.passed.swap(true, Ordering::Relaxed) {
            return self.pass_on(wish, (send, receive)).await;
        }
        let source = match self.source((id, program), &known).await {
            Ok(source) => source,
            Err(Missing::There(why)) => return talk::say(send, &Answer::Gone(why)).await,
            Err(Missing::Away(why)) => return talk::say(send, &Answer::Away(why)).await,
        };
        let room = self.rooms.of(program);
        let permit = loop {
            let more = known.more.notified();
            if let Ok(permit) = room.try_acquire() {
                break permit;
            }
            let others = if others_failed { Vec::new() } else { self.holders(&known, worker) };
            if !others.is_empty() {
                return talk::say(send, &Answer::At(others)).await;
            }
            tokio::select! {
                permit = room.acquire() => break permit.map_err(|error| error.to_string())?,
                () = more => {}
            }
        };
        let served = serve(source, send, receive).await;
        drop(permit);
        match served {
            Ok(()) => self.note_holder(&known, worker.0),
            Err(Unserved::Broken(why)) => return Err(why),
            Err(Unserved::Damaged) => {
                // Whoever asks again has it fetched anew.
                *known.state.lock().await = State::Nowhere;
                let cache = self.cache().await?;
                on_disk(move || cache.discard(id).map_err(|error| format!("cannot {error}"))).await?;
                return Err("it is damaged here".to_owned());
            }
        }
        Ok(())
    }

    /// Passes a blob on from whichever client has it.
    async fn pass_on(
        &self,
        wish: Wish,
        (send, receive): (&mut quinn::SendStream, &mut quinn::RecvStream),
    ) -> Result<(), String> {
        let mut missing = Answer::Away("no client of its program is here".to_owned());
        let mut tried = Vec::new();
        while let Some(connection) = self.client_of(wish.program, &tried) {
            tried.push(connection.stable_id());
            match Passing::from(&connection, wish).await {
                Ok(passing) => {
                    let room = self.rooms.of(wish.program);
                    let _permit = room.acquire().await.map_err(|error| error.to_string())?;
                    return passing.to(send, receive, &self.passing).await;
                }
                Err(answer) => missing = answer,
            }
        }
        talk::say(send, &missing).await
    }

    fn known(&self, id: BlobId) -> Arc<Known> {
        let mut known = self.known.lock().expect("no holder panics");
        if known.len() >= KNOWN_MAX && !known.contains_key(&id) {
            // Whatever is in use stays with its users.
            known.retain(|_, it| Arc::strong_count(it) > 1);
        }
        Arc::clone(known.entry(id).or_default())
    }

    fn note_holder(&self, known: &Known, worker: usize) {
        let mut holders = known.holders.lock().expect("no holder panics");
        if !holders.contains(&worker) {
            holders.push(worker);
        }
        drop(holders);
        known.more.notify_waiters();
    }

    /// Some workers that have a blob, others each time.
    fn holders(&self, known: &Known, (but, from): (usize, IpAddr)) -> Vec<SocketAddr> {
        let workers = self.workers.lock().expect("no holder panics");
        let mut holders = known.holders.lock().expect("no holder panics");
        holders.retain(|worker| workers.contains_key(worker));
        let count = holders.len();
        holders.rotate_left(NAMED_MAX.min(count));
        let others = holders.iter().rev().filter(|worker| **worker != but);
        // Who is on the master's own machine may be known here by an address that means another machine elsewhere.
        let is_there = |address: &SocketAddr| from.is_loopback() || !address.ip().is_loopback();
        others.filter_map(|worker| workers.get(worker).copied()).filter(is_there).take(NAMED_MAX).collect()
    }

    /// A blob that is here or on its way.
    async fn source(
        self: &Arc<Self>,
        (id, program): (BlobId, ProgramId),
        known: &Arc<Known>,
    ) -> Result<Source, Missing> {
        let mut state = known.state.lock().await;
        if let State::Coming(source) = &*state {
            let ready = source.ready.as_ref();
            let chunks = ready.map_or(u64::MAX, |ready| *ready.borrow());
            if chunks < source.outline.chunk_count() {
                if ready.is_some_and(|ready| ready.has_changed().is_ok()) {
                    return Ok(source.clone());
                }
            } else {
                *state = State::Here(Arc::clone(&source.outline));
            }
        }
        if let State::Here(outline) = &*state {
            let (cache, outline) = (self.cache().await?, Arc::clone(outline));
            if let Some(file) = on_disk(move || Ok(cache.find(id))).await? {
                return Ok(Source::in_file(id, outline, file));
            }
        }
        let source = self.open(id, program).await?;
        *state = match source.ready {
            Some(_) => State::Coming(source.clone()),
            None => State::Here(Arc::clone(&source.outline)),
        };
        Ok(source)
    }

    async fn cache(&self) -> Result<Cache, String> {
        let bytes = self.cache_bytes;
        on_disk(move || Cache::open(folder(), bytes).map_err(|error| format!("the master cannot {error}")))
            .await
    }

    async fn open(self: &Arc<Self>, id: BlobId, program: ProgramId) -> Result<Source, Missing> {
        let cache = self.cache().await?;
        let found = {
            let cache = cache.clone();
            on_disk(move || Ok(found(&cache, id))).await?
        };
        match found {
            Some((file, outline)) => Ok(Source::in_file(id, Arc::new(outline), file)),
            None => self.begin(cache, id, program).await,
        }
    }

    /// Begins to get a blob from a client, and gives it out while it comes.
    async fn begin(
        self: &Arc<Self>,
        cache: Cache,
        id: BlobId,
        program: ProgramId,
    ) -> Result<Source, Missing> {
        let (begun, mut begins) = watch::channel(None);
        let blobs = Arc::clone(self);
        let fetching = tokio::spawn(async move {
            let mut follower = Followed { id, begun };
            blobs.fetch(&cache, (id, program), &mut follower).await
        });
        // It has begun, or has ended without.
        if begins.wait_for(Option::is_some).await.is_ok() {
            return Ok(begins.borrow().clone().expect("it was just seen"));
        }
        fetching.await.map_err(|error| format!("a fault in cw: {error}"))?
    }

    /// Gets a blob from any client that has it, one after the other.
    async fn fetch(
        &self,
        cache: &Cache,
        (id, program): (BlobId, ProgramId),
        follower: &mut Followed,
    ) -> Result<Source, Missing> {
        let mut missing = Missing::Away("no client of its program is here".to_owned());
        let mut tried = Vec::new();
        // Others may have come while one was waited for.
        while let Some(connection) = self.client_of(program, &tried) {
            tried.push(connection.stable_id());
            loop {
                match fetch(&connection, cache, Wish::of(id, program), follower).await {
                    Ok(Fetched::File(file, outline) | Fetched::Here(file, outline)) => {
                        return Ok(Source::in_file(id, Arc::new(outline), file));
                    }
                    Ok(Fetched::Busy) => tokio::time::sleep(BUSY_PAUSE).await,
                    Ok(Fetched::At(_)) => break,
                    Err(Failed::Here(here) | Failed::TooBig(here)) => {
                        return Err(Missing::There(format!("the master {here}")));
                    }
                    Err(Failed::Broken(_)) if connection.close_reason().is_some() => {
                        missing = Missing::Away("the client went away while it was fetched".to_owned());
                        break;
                    }
                    Err(failed) => {
                        let why = format!("the client does not send it: {}", failed.into_words());
                        missing = Missing::There(why);
                        break;
                    }
                }
            }
        }
        Err(missing)
    }

    /// A client of this program that was not tried.
    fn client_of(&self, program: ProgramId, tried: &[usize]) -> Option<quinn::Connection> {
        let clients = self.clients.lock().expect("no holder panics");
        let is_it = |it: &quinn::Connection| it.close_reason().is_none() && !tried.contains(&it.stable_id());
        let mut found = clients.iter().filter(|(of, it)| *of == program && is_it(it));
        found.next().map(|(_, connection)| connection.clone())
    }
}

/// Why a blob cannot be had.
enum Missing {
    /// Those who should have it do not give it, or it cannot be kept.
    There(String),
    /// Nobody is here who could give it.
    Away(String),
}

impl From<String> for Missing {
    fn from(why: String) -> Self {
        Self::There(why)
    }
}

/// A blob in the cache, if it is whole.
fn found(cache: &Cache, id: BlobId) -> Option<(File, Outline)> {
    let file = cache.find(id)?;
    match Outline::of(&file) {
        Ok((found, outline)) if found == id => Some((file, outline)),
        _ => {
            // Damaged: it is fetched anew.
            let _ = cache.discard(id);
            None
        }
    }
}

/// Passes a download on to those who wait for it.
struct Followed {
    id: BlobId,
    begun: watch::Sender<Option<Source>>,
}

impl Follower for Followed {
    fn begun(&mut self, outline: &Outline, reader: File) -> watch::Sender<u64> {
        let (send, ready) = watch::channel(0);
        let (id, outline) = (self.id, Arc::new(outline.clone()));
        let source = Source { ready: Some(ready), ..Source::in_file(id, outline, reader) };
        self.begun.send_replace(Some(source));
        send
    }
}
