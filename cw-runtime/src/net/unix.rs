//! Unix sockets that are used in one direction, and watched for room to write only when there was none.
//!
//! Watching for room wakes a process each time the other side reads, which on a busy socket is all the time.
//! tokio's own `UnixStream` always watches for both.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, unix::AsyncFd};

/// Most bytes taken at once.
const READ_BYTES: usize = 128 << 10;

/// A socket that is only read.
pub(crate) struct Reader {
    socket: AsyncFd<UnixStream>,
    /// Where the kernel writes; a caller's buffer is not initialised, and may not be lent to a safe read.
    scratch: Box<[u8]>,
}

/// A socket that is only written.
pub(crate) struct Writer {
    socket: UnixStream,
    /// Set while there is no room: a second descriptor of the same socket, watched for it.
    room: Option<AsyncFd<UnixStream>>,
}

/// Makes a socket that is only read. Must be called within a tokio runtime.
///
/// # Errors
/// The system refused to watch the socket.
pub(crate) fn reader(socket: UnixStream) -> io::Result<Reader> {
    socket.set_nonblocking(true)?;
    let socket = watch(socket, Interest::READABLE)?;
    Ok(Reader { socket, scratch: vec![0; READ_BYTES].into_boxed_slice() })
}

/// Makes a socket that is only written.
///
/// # Errors
/// The system refused to change the socket.
pub(crate) fn writer(socket: UnixStream) -> io::Result<Writer> {
    socket.set_nonblocking(true)?;
    Ok(Writer { socket, room: None })
}

/// Watches a socket for one thing only.
#[expect(
    deprecated,
    reason = "deprecated for types whose descriptor may change while it is watched; a std socket's cannot"
)]
fn watch(socket: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    AsyncFd::with_interest(socket, interest)
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { socket, scratch } = &mut *self;
        let space = scratch.len().min(buf.remaining());
        loop {
            let mut ready = ready!(socket.poll_read_ready(context))?;
            match ready.try_io(|socket| socket.get_ref().read(&mut scratch[..space])) {
                Ok(Ok(read)) => {
                    buf.put_slice(&scratch[..read]);
                    // Less than asked for is all there is: no second look, which would find nothing.
                    if read > 0 && read < space {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            if let Some(room) = &self.room {
                ready!(room.poll_write_ready(context))?.clear_ready();
                self.room = None;
            }
            match (&self.socket).write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.room = Some(watch(self.socket.try_clone()?, Interest::WRITABLE)?);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return Poll::Ready(other),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown(std::net::Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn more_than_the_socket_holds_arrives_whole() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut writer, mut reader) = (writer(here).unwrap(), reader(there).unwrap());
        let sent: Vec<u8> = (0..4_000_000u32).map(|n| n as u8).collect();
        let expected = sent.clone();
        let writing = tokio::spawn(async move {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        });
        let mut got = Vec::new();
        reader.read_to_end(&mut got).await.unwrap();
        writing.await.unwrap();
        assert!(got == expected);
    }
}
