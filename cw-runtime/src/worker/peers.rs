//! Workers among themselves: each gives away the blobs it has, to whoever shows the cluster's key of a worker.

use std::{
    collections::HashMap,
    future::IntoFuture,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::Semaphore;

use super::upstream::{Upstream, hear_ask};
use crate::{
    access::Access,
    blobs::{
        BlobId, Outline, on_disk,
        serve::{Source, serve},
        talk::{self, Answer, Ask, Wish},
    },
    net::{
        endpoint::{self, EndpointKeys},
        tls::{self, SERVER_NAME},
    },
};

/// So many others are served at once; more are sent away.
const SERVED_MAX: usize = 4;

/// A worker that does not answer within this is not asked.
const CALL_TIME: Duration = Duration::from_secs(2);

/// A caller must have shown its key within this.
const DOOR_TIME: Duration = Duration::from_secs(5);

/// So many callers may be at the door at once.
const AT_DOOR_MAX: usize = 32;

/// Outlines that are remembered: a blob without is given to nobody.
const OUTLINES_MAX: usize = 1_024;

/// What this worker gives others, and how it asks them.
#[derive(Default)]
pub(super) struct Peers {
    outlines: Mutex<HashMap<BlobId, Arc<Outline>>>,
    config: Mutex<Option<quinn::ClientConfig>>,
}

impl Peers {
    /// A blob is here.
    pub(super) fn keep(&self, id: BlobId, outline: Outline) {
        let mut outlines = self.outlines.lock().expect("no holder panics");
        if outlines.len() >= OUTLINES_MAX {
            // Any: whoever asks for it is sent on.
            let one = outlines.keys().next().copied();
            one.map(|one| outlines.remove(&one));
        }
        outlines.insert(id, Arc::new(outline));
    }

    fn outline(&self, id: BlobId) -> Option<Arc<Outline>> {
        self.outlines.lock().expect("no holder panics").get(&id).cloned()
    }

    /// Connects to another worker.
    pub(super) async fn call(&self, address: SocketAddr) -> Result<quinn::Connection, String> {
        let config = self.config.lock().expect("no holder panics").clone();
        let config = config.ok_or("this worker has no key to show")?;
        let (socket, _) = endpoint::bind(endpoint::local_for(address)).map_err(|error| error.to_string())?;
        let endpoint = endpoint::dial(socket).map_err(|error| error.to_string())?;
        let connecting =
            endpoint.connect_with(config, address, SERVER_NAME).map_err(|error| error.to_string())?;
        let connected = tokio::time::timeout(CALL_TIME, connecting).await;
        connected.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())
    }
}

/// Serves other workers from now on, and tells the master where. `path` is that of the worker's access file.
///
/// # Errors
/// No key, or no port: others are then served by the master.
pub(super) async fn open(
    upstream: Arc<Upstream>,
    path: &Path,
    master: &quinn::Connection,
) -> Result<(), String> {
    let access = Access::read(path).map_err(|error| error.to_string())?;
    let own = access.identity.certificate();
    let config = tls::server_config(&access.identity, own, own).map_err(|error| error.to_string())?;
    let (socket, _) =
        endpoint::bind(endpoint::local_for(master.remote_address())).map_err(|error| error.to_string())?;
    let port = socket.local_addr().map_err(|error| error.to_string())?.port();
    let keys = EndpointKeys::generate().map_err(|error| error.to_string())?;
    let endpoint = endpoint::serve(socket, config, &keys).map_err(|error| error.to_string())?;
    let dial = tls::client_config(&access.identity, own).map_err(|error| error.to_string())?;
    *upstream.peers.config.lock().expect("no holder panics") = Some(dial);
    Upstream::announce(master, port).await?;
    tokio::spawn(answer(upstream, endpoint, master.clone()));
    Ok(())
}

/// Answers other workers for as long as there is this master.
async fn answer(upstream: Arc<Upstream>, endpoint: quinn::Endpoint, master: quinn::Connection) {
    let (room, door) = (Arc::new(Semaphore::new(SERVED_MAX)), Arc::new(Semaphore::new(AT_DOOR_MAX)));
    loop {
        let incoming = tokio::select! {
            Some(incoming) = endpoint.accept() => incoming,
            _ = master.closed() => break,
        };
        let Ok(at_door) = Arc::clone(&door).try_acquire_owned() else { continue };
        let (upstream, room) = (Arc::clone(&upstream), Arc::clone(&room));
        tokio::spawn(async move {
            let Ok(Ok(connection)) = tokio::time::timeout(DOOR_TIME, incoming.into_future()).await else {
                return;
            };
            drop(at_door);
            while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                let served = serve_one(&upstream, &room, &mut send, &mut receive).await;
                if let Err(why) = served {
                    tracing::debug!("another worker was not served: {why}");
                }
            }
        });
    }
    endpoint.close(0u32.into(), b"it has lost its master");
}

async fn serve_one(
    upstream: &Upstream,
    room: &Semaphore,
    send: &mut quinn::SendStream,
    receive: &mut quinn::RecvStream,
) -> Result<(), String> {
    let Ask::Blob(Wish { id, .. }) = hear_ask(receive).await? else {
        return Err("it asks what only a master is asked".to_owned());
    };
    let Ok(_permit) = room.try_acquire() else {
        return talk::say(send, &Answer::Gone("others are served".to_owned())).await;
    };
    let cache = upstream.cache().await?.clone();
    let found = on_disk(move || Ok(cache.find(id))).await?;
    let Some((outline, file)) = upstream.peers.outline(id).zip(found) else {
        return talk::say(send, &Answer::Gone("it is here no more".to_owned())).await;
    };
    let source = Source::in_file(id, outline, file);
    serve(source, send, receive).await.map_err(|why| format!("{why:?}"))
}
