//! UDP sockets with buffers large enough for a thousand peers, and plain words where one cannot be had.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// What is asked of the kernel for each direction of a socket. With the default of 208 KiB fewer than 100
/// packets fit, and 1,000 workers joining at once took 35-51 s instead of 2.8 s.
const SOCKET_BUFFER_BYTES: usize = 8 << 20;

/// Why a UDP socket could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("bind UDP {address}: {kind}")]
pub struct BindError {
    /// The address asked for.
    pub address: SocketAddr,
    /// The cause.
    pub kind: BindErrorKind,
    #[source]
    source: io::Error,
}

/// The causes of a [`BindError`]. Trying again helps with none; another address may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BindErrorKind {
    /// The port is taken.
    #[error("address in use by another process")]
    InUse,
    /// Ports below 1024 need privileges, and a sandbox may forbid any.
    #[error("not permitted to this user")]
    Permission,
    /// No interface has the address.
    #[error("not an address of this machine")]
    NotHere,
    /// Usually IPv6 on a machine without it.
    #[error("this machine has no addresses of this kind")]
    Family,
    /// Anything else; the source says what.
    #[error("the system refused")]
    Other,
}

impl BindError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::AddrInUse => BindErrorKind::InUse,
            io::ErrorKind::PermissionDenied => BindErrorKind::Permission,
            io::ErrorKind::AddrNotAvailable => BindErrorKind::NotHere,
            _ if no_such_family(&source) => BindErrorKind::Family,
            _ => BindErrorKind::Other,
        };
        Self { address, kind, source }
    }
}

fn no_such_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

/// The socket buffers the kernel granted, in bytes of memory for packets and their bookkeeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSizes {
    /// For packets that came in and were not read yet.
    pub receive_bytes: usize,
    /// For packets on their way out.
    pub send_bytes: usize,
}

impl BufferSizes {
    /// One line for the user when the kernel granted less than asked for, naming the settings to raise.
    pub fn advice(&self) -> Option<String> {
        let limits = [(self.receive_bytes, "net.core.rmem_max"), (self.send_bytes, "net.core.wmem_max")];
        let mut parts = Vec::new();
        for (granted, setting) in limits {
            if granted < SOCKET_BUFFER_BYTES {
                parts.push(format!("{setting} limits them to {} KiB", granted >> 10));
            }
        }
        let asked_kib = SOCKET_BUFFER_BYTES >> 10;
        (!parts.is_empty()).then(|| {
            format!(
                "UDP buffers are smaller than the {asked_kib} KiB asked for, so bursts may be lost and \
                 sent again: {}",
                parts.join(", ")
            )
        })
    }

    fn of(socket: &Socket) -> Self {
        // Linux doubles what was asked, for its bookkeeping, and reports the double.
        let share = if cfg!(target_os = "linux") { 2 } else { 1 };
        Self {
            receive_bytes: socket.recv_buffer_size().unwrap_or(0) / share,
            send_bytes: socket.send_buffer_size().unwrap_or(0) / share,
        }
    }
}

/// A UDP socket at this address with buffers as large as the kernel grants; port 0 takes any free port.
///
/// `[::]` also receives IPv4 where the system allows it.
///
/// # Errors
/// When the address is taken, forbidden, or not this machine's. Small buffers are no error.
pub fn bind(addr: SocketAddr) -> Result<(UdpSocket, BufferSizes), BindError> {
    let socket = open(addr).map_err(|source| BindError::new(addr, source))?;
    let sizes = BufferSizes::of(&socket);
    Ok((socket.into(), sizes))
}

fn open(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    // None of these settings is worth failing for; the buffers are read back.
    if addr.is_ipv6() {
        let _ = socket.set_only_v6(false);
    }
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn buffers_are_read_back() {
        let (socket, sizes) = bind(LOOPBACK).unwrap();
        assert!(socket.local_addr().unwrap().port() != 0);
        assert!((4096..=SOCKET_BUFFER_BYTES).contains(&sizes.receive_bytes), "{sizes:?}");
        assert!((4096..=SOCKET_BUFFER_BYTES).contains(&sizes.send_bytes), "{sizes:?}");
    }

    #[test]
    fn advice_names_only_what_is_small() {
        let enough = BufferSizes { receive_bytes: SOCKET_BUFFER_BYTES, send_bytes: SOCKET_BUFFER_BYTES };
        assert_eq!(enough.advice(), None);
        let small = BufferSizes { receive_bytes: 208 << 10, ..enough };
        let advice = small.advice().unwrap();
        assert!(advice.contains("net.core.rmem_max limits them to 208 KiB"), "{advice}");
        assert!(!advice.contains("wmem") && !advice.contains('\n'), "{advice}");
    }

    #[test]
    fn a_taken_port_is_named() {
        let (first, _) = bind(LOOPBACK).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address).unwrap_err();
        assert_eq!(error.kind, BindErrorKind::InUse);
        let text = format!("bind UDP {address}: address in use by another process");
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn a_strange_address_is_named() {
        // TEST-NET-3 (RFC 5737) belongs to no machine.
        let error = bind(SocketAddr::from(([203, 0, 113, 1], 0))).unwrap_err();
        assert_eq!(error.kind, BindErrorKind::NotHere);
    }
}
