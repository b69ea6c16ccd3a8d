//! The reference's master: spreads a client's tasks over the servers in turn, and sends results and acknowledgements
//! where they belong. It keeps what no server has room for, and nothing else.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::bail;
use quinn::{Connection, RecvStream};
use tokio::io::AsyncReadExt;

use super::{
    role,
    tls::{self, Identity},
    wire::{CLIENT_WINDOW, Frame, HELLO_CLIENT, HELLO_SERVER, Inbox, Kind, Outbox, SERVER_WINDOW, WELCOME},
};

/// Runs until the process ends; clients come and go.
pub(super) async fn run(identity: Identity) -> anyhow::Result<()> {
    let endpoint = tls::listen(&identity)?;
    role::say(&endpoint.local_addr()?.to_string())?;
    let relay = Shared::default();
    while let Some(incoming) = endpoint.accept().await {
        let relay = relay.clone();
        tokio::spawn(async move {
            // A client that closes its connection is the usual end of a leg.
            let _ = serve(incoming.await?, relay).await;
            anyhow::Ok(())
        });
    }
    Ok(())
}

async fn serve(connection: Connection, relay: Shared) -> anyhow::Result<()> {
    let (mut send, mut recv) = connection.accept_bi().await?;
    let hello = recv.read_u8().await?;
    let outbox = Arc::new(Outbox::default());
    let write = outbox.clone();
    match hello {
        HELLO_CLIENT => {
            let client = relay.lock().on_client(outbox);
            send.write_all(&[WELCOME, client]).await?;
            tokio::spawn(async move { write.drain(send).await });
            relay.read(&mut recv, Relay::on_client_frame).await
        }
        HELLO_SERVER => {
            send.write_all(&[WELCOME]).await?;
            tokio::spawn(async move { write.drain(send).await });
            let server = relay.lock().on_server(outbox);
            relay.read(&mut recv, |relay, frame| relay.on_result(server, frame)).await
        }
        other => bail!("a stranger said {other}"),
    }
}

/// The one relay of the process. All its tasks run on one thread: the lock is never waited for.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Relay>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Relay> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Handles all that a read brought, then sends all that came of it.
    async fn read(
        &self,
        from: &mut RecvStream,
        mut handle: impl FnMut(&mut Relay, Frame<'_>),
    ) -> anyhow::Result<()> {
        let mut inbox = Inbox::new();
        while let Some(read) = from.read(inbox.room()).await? {
            inbox.filled(read);
            let mut relay = self.lock();
            while let Some(frame) = inbox.next() {
                handle(&mut relay, frame);
            }
            relay.place();
            relay.flush();
        }
        Ok(())
    }
}

#[derive(Default)]
struct Relay {
    /// By their numbers, of which each has its own ids. One that has left keeps its number.
    clients: Vec<Peer>,
    servers: Vec<Peer>,
    turn: usize,
    /// Task frames for which no server had room.
    waiting: Inbox,
    /// The server of each task on the way, by its id: a client uses the ids of its window again and again.
    server_of: Vec<usize>,
}

#[derive(Default)]
struct Peer {
    outbox: Arc<Outbox>,
    batch: Vec<u8>,
    unanswered: usize,
}

impl Relay {
    fn on_client(&mut self, outbox: Arc<Outbox>) -> u8 {
        let number = u8::try_from(self.clients.len()).expect("a bench has few clients");
        self.clients.push(Peer { outbox, ..Peer::default() });
        self.server_of.resize(self.clients.len() * CLIENT_WINDOW, 0);
        number
    }

    fn on_server(&mut self, outbox: Arc<Outbox>) -> usize {
        self.servers.push(Peer { outbox, ..Peer::default() });
        self.servers.len() - 1
    }

    fn on_client_frame(&mut self, frame: Frame<'_>) {
        if frame.kind == Kind::Task {
            self.waiting.push(frame.bytes);
        } else {
            let server = self.server_of[frame.id as usize];
            self.servers[server].batch.extend_from_slice(frame.bytes);
        }
    }

    fn on_result(&mut self, server: usize, frame: Frame<'_>) {
        self.servers[server].unanswered -= 1;
        self.clients[frame.id as usize / CLIENT_WINDOW].batch.extend_from_slice(frame.bytes);
    }

    /// Hands waiting tasks to the servers in turn while one has room.
    fn place(&mut self) {
        while let Some(server) = self.next_with_room() {
            let Some(task) = self.waiting.next() else { return };
            self.server_of[task.id as usize] = server;
            self.servers[server].unanswered += 1;
            self.servers[server].batch.extend_from_slice(task.bytes);
            self.turn = server + 1;
        }
    }

    fn next_with_room(&self) -> Option<usize> {
        let servers = self.servers.len();
        (self.turn..self.turn + servers)
            .map(|turn| turn % servers)
            .find(|&server| self.servers[server].unanswered < SERVER_WINDOW)
    }

    fn flush(&mut self) {
        for peer in self.servers.iter_mut().chain(&mut self.clients) {
            peer.outbox.send(&mut peer.batch);
        }
    }
}
