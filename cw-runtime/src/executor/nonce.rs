//! How a process knows that it was started as an executor.
//!
//! Its worker gives it a socket as standard input and puts a nonce into its environment that names that
//! very socket. A process that merely inherited the environment, such as a program that a job starts, has
//! another standard input and is an ordinary program: so no executor begets executors.

use std::{
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::OnceLock,
};

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
/// to processes they start.
pub(crate) fn take_socket() -> std::io::Result<UnixStream> {
    let socket: OwnedFd = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Ok(UnixStream::from(socket))
}
