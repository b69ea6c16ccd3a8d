//! The reference's client: as many no-ops as its window holds, or one at a time.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use quinn::{Endpoint, RecvStream, SendStream};
use tokio::io::AsyncReadExt;

use super::{
    tls::{self, Identity},
    wire::{self, CLIENT_WINDOW, HELLO_CLIENT, Inbox, Kind, NOOP_PAYLOAD, WELCOME},
};

pub(super) struct Client {
    endpoint: Endpoint,
    to_relay: SendStream,
    from_relay: RecvStream,
    inbox: Inbox,
    out: Vec<u8>,
    /// The first of its ids.
    first: u32,
    /// By id, beyond the first; an id is used again once its result is there.
    on_the_way: Vec<bool>,
}

impl Client {
    pub(super) async fn connect(identity: &Identity, relay: SocketAddr) -> anyhow::Result<Self> {
        let (endpoint, connection) = tls::connect(identity, relay).await?;
        let (mut to_relay, mut from_relay) = connection.open_bi().await?;
        to_relay.write_all(&[HELLO_CLIENT]).await?;
        ensure!(from_relay.read_u8().await? == WELCOME, "no welcome from the relay");
        let first = u32::from(from_relay.read_u8().await?) * CLIENT_WINDOW as u32;
        Ok(Self {
            endpoint,
            first,
            to_relay,
            from_relay,
            inbox: Inbox::new(),
            out: Vec::new(),
            on_the_way: vec![false; CLIENT_WINDOW],
        })
    }

    /// Runs `tasks` no-ops with a full window and says how long it took.
    pub(super) async fn flood(&mut self, tasks: u64) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let first = tasks.min(CLIENT_WINDOW as u64);
        for id in 0..first as u32 {
            self.submit(id);
        }
        self.flush().await?;
        let (mut submitted, mut done) = (first, 0);
        let mut finished = Vec::new();
        while done < tasks {
            self.results(&mut finished).await?;
            done += finished.len() as u64;
            for id in finished.drain(..) {
                if submitted < tasks {
                    self.submit(id);
                    submitted += 1;
                }
            }
            self.flush().await?;
        }
        Ok(start.elapsed())
    }

    /// Runs one no-op there and back. Its acknowledgement goes out after the clock has stopped, as in `cw`.
    pub(super) async fn ping(&mut self) -> anyhow::Result<Duration> {
        let start = Instant::now();
        self.submit(0);
        self.flush().await?;
        let mut finished = Vec::new();
        while finished.is_empty() {
            self.results(&mut finished).await?;
        }
        let elapsed = start.elapsed();
        self.flush().await?;
        Ok(elapsed)
    }

    /// Leaves once the relay has all acknowledgements.
    pub(super) async fn close(mut self) -> anyhow::Result<()> {
        self.to_relay.finish()?;
        self.to_relay.stopped().await?;
        self.endpoint.close(0u32.into(), b"done");
        self.endpoint.wait_idle().await;
        Ok(())
    }

    fn submit(&mut self, id: u32) {
        self.on_the_way[id as usize] = true;
        wire::put(&mut self.out, Kind::Task, self.first + id, &NOOP_PAYLOAD);
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        self.to_relay.write_all(&self.out).await?;
        self.out.clear();
        Ok(())
    }

    /// Waits for results and acknowledges them; each must be the answer to a task on the way.
    async fn results(&mut self, finished: &mut Vec<u32>) -> anyhow::Result<()> {
        let read = self.from_relay.read(self.inbox.room()).await?;
        self.inbox.filled(read.context("the relay has ended the stream")?);
        while let Some(result) = self.inbox.next() {
            let id = result.id - self.first;
            let on_the_way = &mut self.on_the_way[id as usize];
            ensure!(*on_the_way && result.payload == NOOP_PAYLOAD, "a wrong result");
            *on_the_way = false;
            finished.push(id);
            wire::put(&mut self.out, Kind::Acknowledgement, result.id, &[]);
        }
        Ok(())
    }
}
