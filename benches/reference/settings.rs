//! The transport of the reference: cw's own settings, so that a ratio compares what is built on them.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

use quinn::{EndpointConfig, TransportConfig};

pub(super) fn transport() -> TransportConfig {
    cw::__private::bench::transport()
}

pub(super) fn peer_transport() -> TransportConfig {
    cw::__private::bench::peer_transport()
}

pub(super) fn endpoint_config() -> EndpointConfig {
    cw::__private::bench::endpoint_config()
}

/// The kernel grants at most `net.core.{r,w}mem_max` of the buffers asked for, to `cw` and to the reference alike.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    cw::__private::bench::bind(address)
}
