//! How a process knows that it was started as an executor.
//!
//! Its worker gives it a socket as standard input and puts a nonce into its environment that names that
//! very socket. A process that merely inherited the environment, such as a program that a job starts, has
//! another standard input and is an ordinary program: so no executor begets executors.

use std::{
    io::{IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::OnceLock,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

/// The environment variable with the nonce.
pub(crate) const VARIABLE: &str = "CW_EXECUTOR";

/// The nonce for an executor whose standard input will be `socket`.
pub(crate) fn for_socket(socket: impl AsFd) -> std::io::Result<String> {
    let stat = rustix::fs::fstat(socket)?;
    Ok(format!("{:x}-{:x}", stat.st_dev, stat.st_ino))
}

/// Whether this process was started as an executor. Decided at the first call, which must come before the
/// socket is taken away from standard input.
pub(crate) fn is_executor() -> bool {
    static IS: OnceLock<bool> = OnceLock::new();
    *IS.get_or_init(|| {
        let expected = std::env::var(VARIABLE);
        expected.is_ok_and(|nonce| for_socket(std::io::stdin()).is_ok_and(|found| found == nonce))
    })
}

/// Takes the socket, leaving an empty standard input in its place: jobs must neither read it nor hand it
/// to processes they start. Over it comes a second one, for results.
pub(crate) fn take_sockets() -> std::io::Result<(UnixStream, UnixStream, Birth)> {
    let socket: OwnedFd = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    let results = receive_socket(&socket)?;
    let mut socket = UnixStream::from(socket);
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let mut birth = vec![0; u32::from_le_bytes(length) as usize];
    socket.read_exact(&mut birth)?;
    let birth = postcard::from_bytes(&birth).map_err(std::io::Error::other)?;
    Ok((socket, results, birth))
}

/// What an executor is told of where it is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Birth {
    /// Its worker's name, `host:pid`.
    pub(crate) worker: String,
    /// Where the folders of its tasks are to be, as the bytes of a path; its worker removes it at the end.
    pub(crate) scratch: Vec<u8>,
}

/// Sends an executor the socket for its results. Two sockets, each used in one direction, since a process
/// that waits to read a socket is also woken whenever the other side has read what it wrote there.
pub(crate) fn send_sockets(mut over: &UnixStream, results: impl AsFd, birth: &Birth) -> std::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [results.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(over, &[IoSlice::new(&[0])], &mut control, SendFlags::empty())?;
    let birth = postcard::to_stdvec(birth).expect("plain data, which postcard always encodes");
    let length = u32::try_from(birth.len()).map_err(std::io::Error::other)?;
    // Far less than the socket's buffer holds, so nobody has to read it yet.
    over.write_all(&length.to_le_bytes())?;
    over.write_all(&birth)
}

fn receive_socket(over: &OwnedFd) -> std::io::Result<UnixStream> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(over, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptors.map(UnixStream::from).ok_or_else(|| std::io::Error::other("the worker sent no second socket"))
}
