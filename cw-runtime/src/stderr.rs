//! Stderr, written by a thread of its own: a terminal that is held, or a full log, must not stop a network loop,
//! which would cost a worker its master.

use std::{
    io::{self, Write},
    sync::{
        OnceLock,
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

use crate::client::progress;

/// Pieces of text that may wait; what comes beyond is dropped.
const PIECES_MAX: usize = 1_024;

/// How long the end of a program waits for its last words.
const FLUSH_WAIT: Duration = Duration::from_secs(1);

enum Piece {
    Text(Vec<u8>),
    Flush(SyncSender<()>),
}

fn writer() -> &'static SyncSender<Piece> {
    static WRITER: OnceLock<SyncSender<Piece>> = OnceLock::new();
    WRITER.get_or_init(|| {
        let (send, receive) = mpsc::sync_channel(PIECES_MAX);
        // Without the thread the channel is closed, and nothing is written: there is no other place to say so.
        let _ = thread::Builder::new().name("cw-stderr".to_owned()).spawn(move || write_all(&receive));
        send
    })
}

fn write_all(pieces: &Receiver<Piece>) {
    for piece in pieces {
        match piece {
            // Each in one write, so that two processes on one terminal do not mix their lines. A closed stderr is
            // no reason to fail.
            Piece::Text(text) => progress::aside(|| drop(io::stderr().write_all(&text))),
            Piece::Flush(done) => drop(done.send(())),
        }
    }
}

/// Writes bytes soon; drops them if too much waits, and says whether it did not.
pub(crate) fn write(bytes: &[u8]) -> bool {
    writer().try_send(Piece::Text(bytes.to_vec())).is_ok()
}

/// Waits, briefly, until what was written before is out.
pub(crate) fn flush() {
    let (done, wait) = mpsc::sync_channel(1);
    let send = || drop(writer().send(Piece::Flush(done)));
    // What waits may be more than the channel takes at once, and somebody may hold the terminal.
    if thread::Builder::new().name("cw-flush".to_owned()).spawn(send).is_ok() {
        let _ = wait.recv_timeout(FLUSH_WAIT);
    }
}

/// For the log.
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
