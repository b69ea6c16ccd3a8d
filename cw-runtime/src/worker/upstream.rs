//! Where a worker gets blobs from: this node's cache, other workers, the master.

use std::{
    collections::HashMap,
    fs::File,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::sync::{Notify, OnceCell};

use super::peers::Peers;
use crate::blobs::{
    BlobId, Outline,
    cache::Cache,
    fetch::{Alone, Failed, Fetched, fetch},
    folder, on_disk,
    rooms::Rooms,
    talk::{self, Ask, Wish},
};

/// How often a blob is looked for that another process of this node fetches.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// It is asked for again once nothing has come there for so long.
const BUSY_PATIENCE: Duration = Duration::from_secs(5);

/// So often in a row nothing came there before this worker gives up.
const BUSY_MAX: u32 = 4;

/// For how long a master is waited for in the midst of a fetch.
const MASTER_WAIT: Duration = Duration::from_secs(60);

/// So many transfers from the master go on at a time for each program.
const TRANSFERS_MAX: usize = 2;

/// So many times in a row a transfer may break off without the master's being lost.
const BREAKS_MAX: u32 = 5;

/// A worker's way to blobs.
pub(crate) struct Upstream {
    cache_bytes: u64,
    cache: OnceCell<Cache>,
    /// The connection to the master, if there is one.
    master: Mutex<Option<quinn::Connection>>,
    changed: Notify,
    /// What this worker gives other workers.
    pub(super) peers: Peers,
    /// Room for transfers from the master.
    transfers: Rooms,
    /// Fetches under way: a second wish for a blob waits for the first.
    under_way: Mutex<HashMap<BlobId, Arc<tokio::sync::Mutex<()>>>>,
}

/// A blob of this node's cache.
pub(super) struct Got {
    pub(super) file: File,
    /// Whether it has just come, and was verified; else whoever uses it does that once more.
    pub(super) is_new: bool,
}

impl Upstream {
    pub(crate) fn new(cache_bytes: u64) -> Self {
        Self {
            cache_bytes,
            cache: OnceCell::new(),
            master: Mutex::default(),
            changed: Notify::new(),
            peers: Peers::default(),
            transfers: Rooms::new(TRANSFERS_MAX),
            under_way: Mutex::default(),
        }
    }

    /// There is a master, or there is none any more.
    pub(super) fn set_master(&self, connection: Option<quinn::Connection>) {
        *self.master.lock().expect("no holder panics") = connection;
        self.changed.notify_waiters();
    }

    /// Has other workers of this master's served. `path` is that of this worker's access file.
    pub(super) fn serve_others(self: &Arc<Self>, path: PathBuf, master: quinn::Connection) {
        let upstream = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(why) = super::peers::open(upstream, &path, &master).await {
                tracing::debug!("other workers are not served: {why}");
            }
        });
    }

    /// A blob that clients of a program have, as it is in the cache.
    ///
    /// # Errors
    /// Why it cannot be had, in one line.
    pub(super) async fn get(&self, wish: Wish) -> Result<Got, Failed> {
        let turn = {
            let mut under_way = self.under_way.lock().expect("no holder panics");
            Arc::clone(under_way.entry(wish.id).or_default())
        };
        let got = {
            let _turn = turn.lock().await;
            self.get_alone(wish).await
        };
        self.under_way.lock().expect("no holder panics").remove(&wish.id);
        got
    }

    async fn get_alone(&self, wish: Wish) -> Result<Got, Failed> {
        let id = wish.id;
        let cache = self.cache().await.map_err(Failed::Here)?.clone();
        let (mut breaks, mut stuck, mut others_failed) = (0, 0, false);
        loop {
            let found = {
                let cache = cache.clone();
                on_disk(move || Ok(cache.find(id))).await.map_err(Failed::Here)?
            };
            if let Some(file) = found {
                return Ok(Got { file, is_new: false });
            }
            let master = self.wait_for_master().await.map_err(Failed::Away)?;
            let fetched = {
                let room = self.transfers.of(wish.program);
                let _transfer = room.acquire().await.map_err(|error| Failed::Here(error.to_string()))?;
                fetch(&master, &cache, Wish { others_failed, ..wish }, &mut Alone).await
            };
            match fetched {
                Ok(Fetched::File(file, outline)) => {
                    let got = Got { file, is_new: true };
                    return Ok(self.note(&master, wish, (got, outline), false).await);
                }
                Ok(Fetched::Here(file, outline)) => {
                    let got = Got { file, is_new: false };
                    return Ok(self.note(&master, wish, (got, outline), false).await);
                }
                Ok(Fetched::Busy) if stuck < BUSY_MAX => {
                    stuck = if self.wait_for_other(&cache, id).await.map_err(Failed::Here)? {
                        0
                    } else {
                        stuck + 1
                    };
                }
                Ok(Fetched::Busy) => {
                    return Err(Failed::Here(format!(
                        "another process of this node keeps {id} locked in {} and fetches nothing",
                        folder().display()
                    )));
                }
                Ok(Fetched::At(others)) => match self.ask_others(&cache, wish, others).await {
                    Some(came) => return Ok(self.note(&master, wish, came, true).await),
                    None => others_failed = true,
                },
                Err(Failed::Broken(why)) if breaks < BREAKS_MAX => {
                    breaks += 1;
                    tracing::debug!("{id} broke off: {why}");
                    if master.close_reason().is_some() {
                        self.forget_master(&master);
                        breaks = 0;
                    }
                }
                Err(failed) => return Err(failed),
            }
        }
    }

    /// Waits while another process of this node fetches a blob; says whether anything came.
    async fn wait_for_other(&self, cache: &Cache, id: BlobId) -> Result<bool, String> {
        let (mut bytes, mut since, mut any) = (None, Instant::now(), false);
        while since.elapsed() < BUSY_PATIENCE {
            tokio::time::sleep(BUSY_PAUSE).await;
            let cache = cache.clone();
            let come = on_disk(move || Ok(cache.part_bytes(id))).await?;
            // It is complete, or was given up.
            if come.is_none() {
                return Ok(true);
            }
            if come != bytes {
                (any, bytes, since) = (any || bytes.is_some(), come, Instant::now());
            }
        }
        Ok(any)
    }

    async fn ask_others(&self, cache: &Cache, wish: Wish, others: Vec<SocketAddr>) -> Option<(Got, Outline)> {
        for address in others {
            let connection = match self.peers.call(address).await {
                Ok(connection) => connection,
                Err(why) => {
                    tracing::debug!("worker at {address} cannot be asked: {why}");
                    continue;
                }
            };
            let got = fetch(&connection, cache, Wish { others_failed: true, ..wish }, &mut Alone).await;
            connection.close(0u32.into(), b"that was all");
            match got {
                Ok(Fetched::File(file, outline)) => return Some((Got { file, is_new: true }, outline)),
                Ok(Fetched::Here(file, outline)) => return Some((Got { file, is_new: false }, outline)),
                Ok(Fetched::Busy | Fetched::At(_)) => return None,
                Err(failed) => tracing::debug!("worker at {address}: {}", failed.into_words()),
            }
        }
        None
    }

    /// What is not only passing can be given to others from now on; the master knows that of what it sent itself.
    async fn note(
        &self,
        master: &quinn::Connection,
        wish: Wish,
        (got, outline): (Got, Outline),
        tell: bool,
    ) -> Got {
        if wish.passing {
            return got;
        }
        self.peers.keep(wish.id, outline);
        if tell && let Ok((mut send, _)) = master.open_bi().await {
            // If it does not arrive, others are not sent here.
            let _ = talk::say(&mut send, &Ask::Has { id: wish.id }).await;
            let _ = send.finish();
        }
        got
    }

    pub(super) async fn discard(&self, id: BlobId) -> Result<(), String> {
        let cache = self.cache().await?.clone();
        on_disk(move || cache.discard(id).map_err(|error| format!("cannot {error}"))).await
    }

    /// The cache, which is made when it is first wanted.
    pub(super) async fn cache(&self) -> Result<&Cache, String> {
        let bytes = self.cache_bytes;
        let open =
            || on_disk(move || Cache::open(folder(), bytes).map_err(|error| format!("cannot {error}")));
        self.cache.get_or_try_init(open).await
    }

    async fn wait_for_master(&self) -> Result<quinn::Connection, String> {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                if let Some(connection) = self.master.lock().expect("no holder panics").clone() {
                    return connection;
                }
                changed.await;
            }
        };
        let waited = tokio::time::timeout(MASTER_WAIT, waiting).await;
        waited.map_err(|_| "there is no master to fetch it from".to_owned())
    }

    fn forget_master(&self, lost: &quinn::Connection) {
        let mut master = self.master.lock().expect("no holder panics");
        if master.as_ref().is_some_and(|it| it.stable_id() == lost.stable_id()) {
            *master = None;
        }
    }

    /// Tells the master where this worker serves others.
    pub(super) async fn announce(connection: &quinn::Connection, port: u16) -> Result<(), String> {
        let (mut send, _receive) = connection.open_bi().await.map_err(|error| error.to_string())?;
        talk::say(&mut send, &Ask::Serves { port }).await?;
        send.finish().map_err(|error| error.to_string())
    }
}

/// Reads what is asked on a stream that another opened.
pub(super) async fn hear_ask(receive: &mut quinn::RecvStream) -> Result<Ask, String> {
    talk::hear(receive, &mut BytesMut::new()).await
}
