//! The reference's executor: reads what is there, answers all of it in one write, blocks in between.

use std::{
    io::{self, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
};

use super::wire::{self, Inbox, Kind};

/// Its standard input is the Unix socket to its server, so it ends with it.
pub(super) fn run() -> anyhow::Result<()> {
    let mut server = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut inbox = Inbox::new();
    let mut out = Vec::new();
    loop {
        match server.read(inbox.room())? {
            0 => return Ok(()),
            read => inbox.filled(read),
        }
        while let Some(task) = inbox.next() {
            wire::put(&mut out, Kind::Result, task.id, task.payload);
        }
        server.write_all(&out)?;
        out.clear();
    }
}
