//! QUIC endpoints: the one place where windows, timers and limits are chosen, each with its reason beside it.
//!
//! The order of steps: [`bind`] a socket, tell the user what [`BufferSizes::advice`] says, then [`serve`] or
//! [`dial`] on it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{
    ConnectionId, ConnectionIdGenerator, EndpointConfig, MtuDiscoveryConfig, TransportConfig, VarInt,
};

use super::identity::{self, KeyError};
pub use super::socket::{BindError, BindErrorKind, BufferSizes, bind};
use crate::exit::Trouble;

/// The largest UDP payload an endpoint accepts, and a ceiling for what any sends.
///
/// **Never raise it.** quinn hands the kernel up to 10 packets in one GSO call, and a call of more than 65,507
/// bytes fails with EMSGSIZE, which quinn-udp takes for a failed MTU probe and swallows: 10 x 6550 passes, 10 x
/// 6551 loses every full batch (measured: 5 MB/s and thousands of packets lost at 6600). The receive buffer grows
/// with it to 13 MB of address space an endpoint, of which at most 2 MB are ever touched.
pub const MTU_MAX: u16 = 6500;

/// What a master's packets grow to where the path carries it: loopback and jumbo frames. At such sizes a MiB
/// costs 1.2-2.1 ms of CPU instead of 2.0-3.2 (measured with 6000 and 6500).
///
/// Safe on any path: discovery starts from the 1200 bytes each carries, its probes may not be fragmented, and
/// their loss slows nothing down. The figure is `1200 + 16 * 252`, so that with a last step of 120 the search by
/// halves tries 3216, 2207, 1703 and then 1451, which fits Ethernet with IPv4 and IPv6 alike. Where it ended on
/// loopback with its MTU set: 9000 and more: 5232; 1500 and 1480: 1451; 1428: 1325; 1300: 1200 (November 2026).
pub const MTU_MASTER: u16 = 5232;

/// What a peer's packets to the master grow to: quinn's default, good for any Ethernet.
///
/// Not more, as the probes of all peers arrive at one socket. 1,000 of them connecting at once (loopback, 4 MiB
/// buffers, 2 cores, November 2026) were all served after 0.8-1.5 s with 1452 on their side, whether the master
/// went to 5232 or not; after 1.0-4.0 s with 5232 on both sides, about 1,000 packets being lost in every second
/// run; after 2.0-5.1 s with 6500.
pub const MTU_PEER: u16 = 1452;

/// Where the search for [`MTU_MASTER`] stops, see there.
const MTU_STEP: u16 = 120;

/// Streams are long-lived and carry frames; a stream per task would cost 15 times the CPU.
const BIDI_STREAMS_MAX: u32 = 8;

/// One stream must fill 10 GbE.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;

/// Bounds what a peer can make this process hold, and what a slow peer can.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// quinn's 12 KB leave a fast link idle for the first round trips.
const INITIAL_WINDOW_BYTES: u64 = 128 << 10;

/// Either side's keep-alive holds a connection up, also that of a client which says nothing; four of them fit into the
/// idle time, so that lost packets do not end it.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// After this long without a packet the connection counts as broken, and its peer looks for the master again. As long
/// as a master waits by default for a worker that is silent: both are done with each other at the same time.
const IDLE: Duration = Duration::from_secs(10);

/// Handshakes that may wait for the accept loop; quinn's default is 65,536.
const INCOMING_MAX: usize = 1024;

/// What one waiting handshake may make the master hold; the default is 10 MiB.
const INCOMING_BYTES_EACH: u64 = 64 << 10;

/// What all of them together may; the default is 100 MiB.
const INCOMING_BYTES_ALL: u64 = 8 << 20;

/// A restarted master answers each packet of its former connections with a reset, so that peers come back
/// at once. The default of 20 ms would tell 1,000 workers within 20 s.
const RESET_INTERVAL: Duration = Duration::from_millis(1);

/// The key of a master's endpoint that must outlive the process.
///
/// With it a restarted master can reset its predecessor's connections, so that peers come back at once; with a
/// new one they would wait out the idle time. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointKeys {
    /// Signs stateless resets (RFC 9000, section 10.3).
    pub reset: [u8; 32],
}

impl EndpointKeys {
    /// Makes a new random key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        Ok(Self { reset: identity::random()? })
    }
}

impl std::fmt::Debug for EndpointKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndpointKeys").finish_non_exhaustive()
    }
}

/// Purely random connection ids, each of which is taken for possibly ours.
///
/// quinn's default generator recognises its own ids by a key it makes anew in each process, and ignores all
/// others: a restarted master would stay silent to its former peers. (Handing it a key takes a type that quinn
/// does not re-export.) The price is that noise may be answered by a reset, which is shorter than what asked for
/// it, and limited by [`RESET_INTERVAL`].
struct RandomIds;

impl RandomIds {
    const BYTES: usize = 8;
}

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let bytes: [u8; Self::BYTES] =
            identity::random().expect("the system gave randomness for this process's handshakes");
        ConnectionId::new(&bytes)
    }

    fn cid_len(&self) -> usize {
        Self::BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// Where a client binds to reach a master at `remote`: any address of the same family, any port.
pub fn local_for(remote: SocketAddr) -> SocketAddr {
    match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// The transport settings of a master's connections.
///
/// A program that sends the master much data and is not one of hundreds may use them for its own side too.
pub fn transport() -> TransportConfig {
    transport_with_mtu(MTU_MASTER)
}

/// [`transport`] with another goal for MTU discovery, in bytes of UDP payload; brought into 1200 to [`MTU_MAX`].
pub fn transport_with_mtu(mtu: u16) -> TransportConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(mtu.clamp(1200, MTU_MAX));
    if mtu == MTU_MASTER {
        discovery.minimum_change(MTU_STEP);
    }
    let mut congestion = quinn::congestion::CubicConfig::default();
    congestion.initial_window(INITIAL_WINDOW_BYTES);

    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(BIDI_STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(CONNECTION_WINDOW_BYTES.into())
        // Round robin would cut frames of several streams into small packets; priorities decide.
        .send_fairness(false)
        // Nothing of ours may get lost.
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IDLE.try_into().expect("10 s in ms fit a VarInt")))
        .mtu_discovery_config(Some(discovery))
        .congestion_controller_factory(Arc::new(congestion));
    // `initial_rtt` stays at quinn's 333 ms, or near it: with 50 ms, 1,000 workers joining at once retransmit handshakes
    // that are merely queued, and need 27.5 s instead of 2.8 s.
    config
}

/// The transport settings of a client's or worker's connections: [`transport`] with small packets, and with a first
/// repeat somewhere in 0.8 to 2.3 s instead of after exactly 1 s (RFC 9002, section 6.2.2: three times `initial_rtt`).
///
/// A thousand workers that are started at once send their first packets at once, and where the master's socket keeps
/// fewer than 200 of them the others would be repeated at once too, after 1, 3 and 7 s, and be lost again: 1,000 were
/// in after 7.5 to 10 s with buffers of 208 KiB, and are mostly after 2.5 s with repeats that are spread.
///
/// # Errors
/// When the system gives no randomness.
pub fn transport_to_master() -> Result<TransportConfig, KeyError> {
    let [chance] = identity::random()?;
    let mut config = transport_with_mtu(MTU_PEER);
    config.initial_rtt(Duration::from_millis(250 + 2 * u64::from(chance)));
    Ok(config)
}

/// A master's endpoint on a bound socket. Must be called within a tokio runtime.
///
/// Adds to `config` the limits on handshakes nobody has authenticated yet. Above some 128 pending ones the
/// accept loop should answer with `Incoming::retry`, which makes a sender prove its address first. Noise that
/// looks like a first packet reaches the accept loop too and fails there, so no failed handshake is a reason to
/// stop, and each must be taken up promptly to make room for honest ones.
///
/// # Errors
/// When the socket cannot be handed to the runtime.
pub fn serve(
    socket: UdpSocket,
    config: quinn::ServerConfig,
    keys: &EndpointKeys,
) -> io::Result<quinn::Endpoint> {
    let reset = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &keys.reset);
    let mut endpoint = EndpointConfig::new(Arc::new(reset));
    endpoint.cid_generator(|| Box::new(RandomIds)).min_reset_interval(RESET_INTERVAL);
    start(endpoint, Some(with_limits(config)), socket)
}

/// How a master's endpoint is made anew, with the port and the keys that its peers know.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) address: SocketAddr,
    pub(crate) config: quinn::ServerConfig,
    pub(crate) keys: EndpointKeys,
}

impl Opening {
    /// Binds the address and serves it. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The port is still in use, or the system refuses.
    pub(crate) fn open(&self) -> Result<quinn::Endpoint, Trouble> {
        let (socket, _) = bind(self.address)?;
        Ok(serve(socket, self.config.clone(), &self.keys)?)
    }
}

/// A client's or worker's endpoint on a bound socket. Must be called within a tokio runtime.
///
/// # Errors
/// When the socket cannot be handed to the runtime.
pub fn dial(socket: UdpSocket) -> io::Result<quinn::Endpoint> {
    start(EndpointConfig::default(), None, socket)
}

fn with_limits(mut config: quinn::ServerConfig) -> quinn::ServerConfig {
    config
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BYTES_EACH)
        .incoming_buffer_size_total(INCOMING_BYTES_ALL)
        // Nodes do not move, and a connection that answers to one address only is one less thing to abuse.
        .migration(false);
    config
}

fn start(
    mut config: EndpointConfig,
    server: Option<quinn::ServerConfig>,
    socket: UdpSocket,
) -> io::Result<quinn::Endpoint> {
    large_packets(&mut config);
    quinn::Endpoint::new(config, server, socket, Arc::new(quinn::TokioRuntime))
}

/// Lets an endpoint receive packets of [`MTU_MAX`].
pub(crate) fn large_packets(config: &mut EndpointConfig) {
    // Announced to the peer: without it discovery would stop at 1472 whatever the transport says.
    config.max_udp_payload_size(MTU_MAX).expect("6500 is within 1200 to 65,527");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_packets_fit_one_send() {
        const SEGMENTS: usize = 10;
        const UDP_PAYLOAD_MAX: usize = 65_507;
        assert!(usize::from(MTU_MAX) * SEGMENTS <= UDP_PAYLOAD_MAX);
    }
}
