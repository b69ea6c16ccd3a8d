//! What the system knows of an address that QUIC does not tell: no route to it, or nobody who listens there.
//!
//! A socket of ours sends to many, and such a socket hears of no refusal. One that is connected to a single address does.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use crate::net::endpoint;

/// An address that is silent for so long is asked.
const PATIENCE: Duration = Duration::from_millis(800);

/// How far the first questions of processes that are started together are apart: they must not meet at the master, whose
/// socket may keep few packets.
const SPREAD_MILLIS: u32 = 800;

/// How long a refusal is waited for.
const WAIT: Duration = Duration::from_secs(1);

/// Longest pause between two questions.
const PAUSE_MAX: Duration = Duration::from_secs(4);

/// What is sent: too short for a packet of QUIC, so a master passes it over.
const QUESTION: [u8; 1] = [0];

/// Finds out whether packets to an address can leave this machine.
///
/// # Errors
/// They cannot, and why.
pub(super) fn route(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(endpoint::local_for(to))?;
    // Looks for a route, and sends nothing.
    socket.connect(to)?;
    Ok(socket)
}

/// Done, with the cause, when it turns out that nobody can answer at an address. Begins with a pause, as most answer.
pub(super) async fn refused(to: SocketAddr) -> io::Error {
    let apart = std::process::id().wrapping_mul(0x9e37_79b1) % SPREAD_MILLIS;
    tokio::time::sleep(PATIENCE + Duration::from_millis(apart.into())).await;
    match ask(to).await {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

async fn ask(to: SocketAddr) -> io::Result<std::convert::Infallible> {
    let socket = route(to)?;
    socket.set_nonblocking(true)?;
    let socket = tokio::net::UdpSocket::from_std(socket)?;
    let mut pause = WAIT;
    loop {
        socket.send(&QUESTION).await?;
        // Whatever answers to this is no master.
        if let Ok(heard) = tokio::time::timeout(WAIT, socket.recv(&mut [0])).await {
            heard?;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test)
    }

    #[test]
    fn a_closed_port_is_told_from_one_that_is_silent() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let silent = (silent.local_addr().unwrap(), silent);
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        run(async {
            tokio::select! {
                error = refused(silent.0) => panic!("{error}"),
                error = refused(closed) => assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused),
            }
        });
    }
}
