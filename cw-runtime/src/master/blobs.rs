//! The master's part in blobs: it gets each from a client that has it, once, keeps it in its node's cache, and passes it
//! on while it comes. Workers that have one are named to others once enough are served here.

use std::{
    collections::HashMap,
    fs::File,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::BytesMut;
use cw_core::ids::ProgramId;
use tokio::sync::{Semaphore, watch};

use crate::{
    blobs::{
        BlobId, Outline,
        cache::Cache,
        fetch::{Failed, Fetched, Follower, fetch},
        folder, on_disk,
        serve::{Source, serve},
        talk::{self, Answer, Ask},
    },
    program,
};

/// So many workers are sent blobs at once; more are told who else has them, or wait.
const SERVED_MAX: usize = 8;

/// So many others are named to a worker.
const NAMED_MAX: usize = 3;

/// How often a blob is looked for that another process of this node fetches.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Blobs of which the master remembers who has them.
const KNOWN_MAX: usize = 256;

/// The blobs of a cluster, as its master knows them.
pub(crate) struct Blobs {
    cache_bytes: u64,
    clients: Mutex<Vec<(ProgramId, quinn::Connection)>>,
    /// Where workers serve others, by connection.
    workers: Mutex<HashMap<usize, SocketAddr>>,
    known: Mutex<HashMap<BlobId, Arc<Known>>>,
    room: Semaphore,
}

/// A blob that was asked for.
#[derive(Default)]
struct Known {
    /// One gets it at a time.
    source: tokio::sync::Mutex<Option<Source>>,
    /// Workers that have it, by connection.
    holders: Mutex<Vec<usize>>,
}

impl Blobs {
    pub(crate) fn new(cache_bytes: u64) -> Self {
        Self {
            cache_bytes,
            clients: Mutex::default(),
            workers: Mutex::default(),
            known: Mutex::default(),
            room: Semaphore::new(SERVED_MAX),
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
            Ok(Ask::Blob { id, others_failed }) => {
                self.give(id, others_failed, worker, (&mut send, &mut receive)).await
            }
            Err(why) => Err(why),
        };
        if let Err(why) = answered {
            tracing::debug!("a worker did not get what it asked for: {why}");
        }
    }

    async fn give(
        self: &Arc<Self>,
        id: BlobId,
        others_failed: bool,
        worker: usize,
        (send, receive): (&mut quinn::SendStream, &mut quinn::RecvStream),
    ) -> Result<(), String> {
        let known = self.known(id);
        let permit = match self.room.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                let others = if others_failed { Vec::new() } else { self.holders(&known, worker) };
                if !others.is_empty() {
                    return talk::say(send, &Answer::At(others)).await;
                }
                self.room.acquire().await.map_err(|error| error.to_string())?
            }
        };
        let source = match self.source(id, &known).await {
            Ok(source) => source,
            Err(why) => return talk::say(send, &Answer::Gone(why)).await,
        };
        serve(source, send, receive).await?;
        drop(permit);
        self.note_holder(&known, worker);
        Ok(())
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
    }

    /// Some workers that have a blob, others each time.
    fn holders(&self, known: &Known, but: usize) -> Vec<SocketAddr> {
        let workers = self.workers.lock().expect("no holder panics");
        let mut holders = known.holders.lock().expect("no holder panics");
        holders.retain(|worker| workers.contains_key(worker));
        let count = holders.len();
        holders.rotate_left(NAMED_MAX.min(count));
        let others = holders.iter().rev().filter(|worker| **worker != but).take(NAMED_MAX);
        others.filter_map(|worker| workers.get(worker).copied()).collect()
    }

    /// A blob that is here or on its way.
    async fn source(self: &Arc<Self>, id: BlobId, known: &Arc<Known>) -> Result<Source, String> {
        let mut source = known.source.lock().await;
        let is_good = source.as_ref().is_some_and(|source| {
            let is_whole = |ready: &watch::Receiver<u64>| *ready.borrow() >= source.outline.chunk_count();
            source.ready.as_ref().is_none_or(|ready| is_whole(ready) || ready.has_changed().is_ok())
        });
        if !is_good {
            *source = Some(self.open(id).await?);
        }
        Ok(source.clone().expect("it was just set"))
    }

    async fn open(self: &Arc<Self>, id: BlobId) -> Result<Source, String> {
        let bytes = self.cache_bytes;
        let opened = on_disk(move || {
            let cache = Cache::open(folder(), bytes).map_err(|error| format!("the master cannot {error}"))?;
            let found = found(&cache, id);
            Ok((cache, found))
        });
        let (cache, found) = opened.await?;
        match found {
            Some((file, outline)) => {
                Ok(Source { outline: Arc::new(outline), file: Arc::new(file), ready: None })
            }
            None => self.begin(cache, id).await,
        }
    }

    /// Begins to get a blob from a client, and gives it out while it comes.
    async fn begin(self: &Arc<Self>, cache: Cache, id: BlobId) -> Result<Source, String> {
        let (begun, mut begins) = watch::channel(None);
        let blobs = Arc::clone(self);
        let fetching = tokio::spawn(async move {
            let mut follower = Followed { begun };
            blobs.fetch(&cache, id, &mut follower).await
        });
        // It has begun, or has ended without.
        if begins.wait_for(Option::is_some).await.is_ok() {
            return Ok(begins.borrow().clone().expect("it was just seen"));
        }
        fetching.await.map_err(|error| format!("a fault in cw: {error}"))?
    }

    /// Gets a blob from any client that has it, one after the other.
    async fn fetch(&self, cache: &Cache, id: BlobId, follower: &mut Followed) -> Result<Source, String> {
        let program = program::id_of(id);
        let mut why = "no client that has it is here any more".to_owned();
        for connection in self.clients_of(program) {
            loop {
                match fetch(&connection, cache, id, false, follower).await {
                    Ok(Fetched::File(file, outline)) => {
                        return Ok(Source { outline: Arc::new(outline), file: Arc::new(file), ready: None });
                    }
                    Ok(Fetched::Busy) => tokio::time::sleep(BUSY_PAUSE).await,
                    Ok(Fetched::At(_)) => break,
                    Err(Failed::Here(here)) => return Err(format!("the master {here}")),
                    Err(Failed::Broken(_)) if connection.close_reason().is_some() => {
                        why = "the client went away while it was fetched".to_owned();
                        break;
                    }
                    Err(failed) => {
                        why = format!("the client does not send it: {}", failed.into_words());
                        break;
                    }
                }
            }
        }
        Err(why)
    }

    fn clients_of(&self, program: ProgramId) -> Vec<quinn::Connection> {
        let clients = self.clients.lock().expect("no holder panics");
        let of_program = clients.iter().filter(|(of, it)| *of == program && it.close_reason().is_none());
        of_program.map(|(_, connection)| connection.clone()).collect()
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
    begun: watch::Sender<Option<Source>>,
}

impl Follower for Followed {
    fn begun(&mut self, outline: &Outline, reader: File) -> watch::Sender<u64> {
        let (send, ready) = watch::channel(0);
        let source =
            Source { outline: Arc::new(outline.clone()), file: Arc::new(reader), ready: Some(ready) };
        self.begun.send_replace(Some(source));
        send
    }
}
