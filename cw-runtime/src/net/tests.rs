//! Whole connections over loopback: who gets in, who does not, and what each side is told.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, ConnectionError, Endpoint};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::endpoint::{self, EndpointKeys};
use super::tls::{self, Identity, Peer, Pin, Refusal};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// No test waits this long unless it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The three identities of a cluster.
struct Keys {
    master: Identity,
    clients: Identity,
    workers: Identity,
    endpoint: EndpointKeys,
}

impl Keys {
    fn new() -> Self {
        Self {
            master: Identity::generate().unwrap(),
            clients: Identity::generate().unwrap(),
            workers: Identity::generate().unwrap(),
            endpoint: EndpointKeys::generate().unwrap(),
        }
    }

    fn serve(&self) -> Endpoint {
        self.serve_at(LOOPBACK)
    }

    fn serve_at(&self, address: SocketAddr) -> Endpoint {
        let (clients, workers) = (self.clients.certificate(), self.workers.certificate());
        let config = tls::server_config(&self.master, clients, workers).unwrap();
        let (socket, _) = endpoint::bind(address).unwrap();
        endpoint::serve(socket, config, &self.endpoint).unwrap()
    }

    fn peer_of(&self, connection: &Connection) -> Option<Peer> {
        tls::peer_of(connection, self.clients.certificate(), self.workers.certificate())
    }

    fn client_config(&self, own: &Identity) -> quinn::ClientConfig {
        tls::client_config(own, self.master.certificate()).unwrap()
    }
}

fn dial() -> Endpoint {
    endpoint::dial(endpoint::bind(LOOPBACK).unwrap().0).unwrap()
}

async fn connect(
    from: &Endpoint,
    to: &Endpoint,
    config: quinn::ClientConfig,
) -> Result<Connection, ConnectionError> {
    let address = to.local_addr().unwrap();
    from.connect_with(config, address, tls::SERVER_NAME).unwrap().await
}

async fn accept(server: &Endpoint) -> Result<Connection, ConnectionError> {
    server.accept().await.expect("the endpoint is open").await
}

/// What each end learns of an attempt that must not succeed: first the server, then the client.
async fn refused(server: &Endpoint, config: quinn::ClientConfig) -> (Refusal, Refusal) {
    let client = dial();
    let (there, here) = tokio::join!(accept(server), async {
        // The client's half of the handshake may be done before the master refuses it.
        match connect(&client, server, config).await {
            Ok(connection) => connection.closed().await,
            Err(error) => error,
        }
    });
    (tls::explain(&there.expect_err("the server must refuse")), tls::explain(&here))
}

/// Runs on a runtime like the one the network has, and fails rather than hangs.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("in time") })
}

#[test]
fn both_roles_connect_and_are_told_apart() {
    run(async {
        let keys = Keys::new();
        let server = keys.serve();
        for (own, peer) in [(&keys.clients, Peer::Client), (&keys.workers, Peer::Worker)] {
            let client = dial();
            let (there, here) =
                tokio::join!(accept(&server), connect(&client, &server, keys.client_config(own)));
            let (there, here) = (there.unwrap(), here.unwrap());
            assert_eq!(keys.peer_of(&there), Some(peer));
            let strangers = Pin::of(b"another");
            assert_eq!(tls::peer_of(&there, &strangers, &strangers), None);
            there.close(3u32.into(), b"thank you");
            let closed = Refusal::ClosedByPeer { code: 3, reason: "thank you".into() };
            assert_eq!(tls::explain(&here.closed().await), closed);
        }
    });
}

/// A clock that is wrong by many years.
#[derive(Debug)]
struct WrongClock(u64);

impl rustls::time_provider::TimeProvider for WrongClock {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        Some(rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

#[test]
fn a_node_whose_clock_is_years_off_gets_in() {
    run(async {
        let keys = Keys::new();
        let server = keys.serve();
        for seconds in [0, 1_000_000, 40_000_000_000] {
            let builder = tls::client_builder(keys.master.certificate()).unwrap();
            let own = Copied::new(&keys.workers, &keys.workers);
            let mut config = builder.with_client_cert_resolver(Arc::new(own));
            config.time_provider = Arc::new(WrongClock(seconds));
            let client = dial();
            let (there, here) =
                tokio::join!(accept(&server), connect(&client, &server, tls::finish_client(config).unwrap()));
            assert_eq!(keys.peer_of(&there.unwrap()), Some(Peer::Worker));
            here.unwrap();
        }
    });
}

#[test]
fn foreign_client_is_refused_for_good() {
    run(async {
        let keys = Keys::new();
        let stranger = Identity::generate().unwrap();
        let (there, here) = refused(&keys.serve(), keys.client_config(&stranger)).await;
        assert_eq!((there, &here), (Refusal::PeerIsForeign, &Refusal::WeAreForeign));
        assert!(here.is_final());
        assert!(here.to_string().contains("does not know this process's key"));
    });
}

#[test]
fn foreign_master_is_refused_for_good() {
    run(async {
        let (keys, others) = (Keys::new(), Keys::new());
        let config = tls::client_config(&keys.clients, others.master.certificate()).unwrap();
        let (there, here) = refused(&keys.serve(), config).await;
        assert_eq!((there, &here), (Refusal::WeAreForeign, &Refusal::PeerIsForeign));
        assert!(here.is_final());
    });
}

#[test]
fn nobody_gets_in_without_a_certificate() {
    run(async {
        let keys = Keys::new();
        let builder = tls::client_builder(keys.master.certificate()).unwrap();
        let config = tls::finish_client(builder.with_no_client_auth()).unwrap();
        let (there, here) = refused(&keys.serve(), config).await;
        assert_eq!((there, here), (Refusal::PeerIsForeign, Refusal::WeAreForeign));
    });
}

#[test]
fn another_protocol_is_told_so() {
    run(async {
        let keys = Keys::new();
        let builder = tls::client_builder(keys.master.certificate()).unwrap();
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"cw/999".to_vec()];
        let config = tls::finish_client(config).unwrap();
        let (there, here) = refused(&keys.serve(), config).await;
        assert_eq!((there, here), (Refusal::Version, Refusal::Version));
    });
}

/// Shows a certificate whose key it does not have.
#[derive(Debug)]
struct Copied(Arc<CertifiedKey>);

impl Copied {
    fn new(certificate: &Identity, key: &Identity) -> Self {
        let chain = vec![CertificateDer::from(certificate.certificate_der().to_vec())];
        let key: PrivateKeyDer<'_> = PrivatePkcs8KeyDer::from(key.key_der().to_vec()).into();
        let signer = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        Self(Arc::new(CertifiedKey::new(chain, signer)))
    }
}

impl ResolvesClientCert for Copied {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[test]
fn copied_certificate_without_its_key_is_refused() {
    run(async {
        let keys = Keys::new();
        let copied = Copied::new(&keys.clients, &Identity::generate().unwrap());
        let builder = tls::client_builder(keys.master.certificate()).unwrap();
        let config = builder.with_client_cert_resolver(Arc::new(copied));
        let (there, here) = refused(&keys.serve(), tls::finish_client(config).unwrap()).await;
        assert_eq!((there, here), (Refusal::PeerIsForeign, Refusal::WeAreForeign));
    });
}

/// Fixed pseudo-random bytes (xorshift64*), so that a failure can be repeated.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Every second datagram looks like the first of a QUIC 1 connection, as far as its header goes.
    fn datagram(&mut self) -> Vec<u8> {
        let length = 1 + (self.next() % 1400) as usize;
        let mut bytes: Vec<u8> = (0..length).map(|_| self.next() as u8).collect();
        if self.next().is_multiple_of(2) {
            bytes.resize(1200.max(length), 0);
            bytes[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
        }
        bytes
    }
}

/// The first connection that completes its handshake. What only looks like the start of one is offered to the
/// accept loop too, and fails there at the first look at its encryption.
async fn accept_past_noise(server: &Endpoint) -> Connection {
    loop {
        if let Ok(connection) = accept(server).await {
            return connection;
        }
    }
}

async fn send_noise(to: SocketAddr, datagrams: usize) {
    let socket = UdpSocket::bind(LOOPBACK).unwrap();
    let mut noise = Noise(42);
    for sent in 1..=datagrams {
        socket.send_to(&noise.datagram(), to).unwrap();
        // What was sent fits the receiver's buffer; let it read before more is sent.
        if sent.is_multiple_of(50) {
            tokio::task::yield_now().await;
        }
    }
}

#[test]
fn honest_client_connects_amid_ten_thousand_random_datagrams() {
    run(async {
        let keys = Keys::new();
        let server = keys.serve();
        let address = server.local_addr().unwrap();
        let honest = async {
            send_noise(address, 10_000).await;
            let client = dial();
            let config = keys.client_config(&keys.workers);
            let connection = connect(&client, &server, config).await.unwrap();
            // Kept until the server has seen it.
            (client, connection)
        };
        let (there, _here) = tokio::join!(accept_past_noise(&server), honest);
        assert_eq!(keys.peer_of(&there), Some(Peer::Worker));
    });
}

/// A master on a thread and runtime of its own, which vanishes as a killed process does: without a word.
fn serve_one_and_vanish(
    keys: &Keys,
    address: std::sync::mpsc::Sender<SocketAddr>,
    vanish: tokio::sync::oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let held = runtime.block_on(async {
        let server = keys.serve();
        address.send(server.local_addr().unwrap()).unwrap();
        let connection = accept(&server).await.unwrap();
        vanish.await.unwrap();
        (server, connection)
    });
    // In this order nothing is left that could send a farewell.
    drop(runtime);
    drop(held);
}

#[test]
fn restarted_master_resets_former_connections() {
    let keys = Keys::new();
    let (address_of, address) = std::sync::mpsc::channel();
    let (vanish, told) = tokio::sync::oneshot::channel();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| serve_one_and_vanish(&keys, address_of, told));
        let address = address.recv().unwrap();
        run(async {
            let client = dial();
            let config = keys.client_config(&keys.workers);
            let connecting = client.connect_with(config, address, tls::SERVER_NAME).unwrap();
            let here = connecting.await.unwrap();
            // The client's side is established a little before the server's; a stream proves both.
            here.open_bi().await.unwrap();
            vanish.send(()).unwrap();
            first.join().unwrap();

            let _second = keys.serve_at(address);
            // Any packet of the former connection will do.
            let (mut send, _receive) = here.open_bi().await.unwrap();
            send.write_all(b"still there?").await.unwrap();
            assert_eq!(tls::explain(&here.closed().await), Refusal::Reset);
        });
    });
}

#[test]
fn a_masters_packets_grow_where_the_path_carries_it() {
    run(async {
        let keys = Keys::new();
        let server = keys.serve();
        let client = dial();
        let config = keys.client_config(&keys.workers);
        let (there, here) = tokio::join!(accept(&server), connect(&client, &server, config));
        let (there, here) = (there.unwrap(), here.unwrap());
        let echo = async {
            let (mut send, mut receive) = there.accept_bi().await.unwrap();
            while let Some(chunk) = receive.read_chunk(1 << 16, true).await.unwrap() {
                send.write_chunk(chunk.bytes).await.unwrap();
            }
        };
        let mtu = |connection: &Connection| connection.stats().path.current_mtu;
        let grow = async {
            let (mut send, mut receive) = here.open_bi().await.unwrap();
            let mut answer = [0; 1];
            while mtu(&there) < endpoint::MTU_MASTER || mtu(&here) < endpoint::MTU_PEER {
                send.write_all(b"x").await.unwrap();
                receive.read_exact(&mut answer).await.unwrap();
            }
            send.finish().unwrap();
        };
        tokio::join!(echo, grow);
        assert_eq!((mtu(&there), mtu(&here)), (endpoint::MTU_MASTER, endpoint::MTU_PEER));
    });
}
