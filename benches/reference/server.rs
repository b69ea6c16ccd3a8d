//! The reference's worker: passes tasks from the relay to its echo process, and results back.

use std::{
    net::SocketAddr,
    os::{fd::OwnedFd, unix::net::UnixStream as Socket},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use tokio::{io::AsyncReadExt, net::UnixStream};

use super::{
    role::{self, Role},
    tls::{self, Identity},
    wire::{HELLO_SERVER, Inbox, Kind, Outbox, WELCOME},
};

pub(super) async fn run(identity: Identity, relay: SocketAddr) -> anyhow::Result<()> {
    let echo = start_echo(Role::Echo)?;
    let (_endpoint, connection) = tls::connect(&identity, relay).await?;
    let (mut to_relay, mut from_relay) = connection.open_bi().await?;
    to_relay.write_all(&[HELLO_SERVER]).await?;
    ensure!(from_relay.read_u8().await? == WELCOME, "no welcome from the relay");
    role::say(&"ready")?;

    let (mut from_echo, to_echo) = echo.into_split();
    let (tasks, results) = (Outbox::default(), Outbox::default());
    tokio::try_join!(
        pass_tasks(&mut from_relay, &tasks),
        async { tasks.drain(to_echo).await.context("failed to write to the echo process") },
        pass_results(&mut from_echo, &results),
        async { results.drain(to_relay).await.context("failed to write to the relay") },
    )?;
    Ok(())
}

pub(super) fn start_echo(role: Role) -> anyhow::Result<UnixStream> {
    let (ours, its) = Socket::pair()?;
    ours.set_nonblocking(true)?;
    Command::new(std::env::current_exe()?)
        .arg(role.argument())
        .stdin(Stdio::from(OwnedFd::from(its)))
        .spawn()
        .context("failed to start an echo process")?;
    Ok(UnixStream::from_std(ours)?)
}

/// Acknowledgements end here: a worker would now forget the result.
async fn pass_tasks(relay: &mut quinn::RecvStream, echo: &Outbox) -> anyhow::Result<()> {
    let mut inbox = Inbox::new();
    let mut batch = Vec::new();
    while let Some(read) = relay.read(inbox.room()).await? {
        inbox.filled(read);
        while let Some(frame) = inbox.next() {
            if frame.kind == Kind::Task {
                batch.extend_from_slice(frame.bytes);
            }
        }
        echo.send(&mut batch);
    }
    Ok(())
}

async fn pass_results(echo: &mut (impl AsyncReadExt + Unpin), relay: &Outbox) -> anyhow::Result<()> {
    let mut inbox = Inbox::new();
    let mut batch = Vec::new();
    loop {
        let read = echo.read(inbox.room()).await?;
        ensure!(read > 0, "the echo process has ended");
        inbox.filled(read);
        while let Some(frame) = inbox.next() {
            batch.extend_from_slice(frame.bytes);
        }
        relay.send(&mut batch);
    }
}
