//! TLS 1.3 between peers that already know each other: both sides show a certificate, each holds the other's pin.
//!
//! A certificate that is not the pinned one is refused by its bytes, before anything parses it. One that is
//! pinned still has to come with a signature by its key over this very handshake, so a copied certificate is
//! worth nothing. There is no authority, no name check, no date, no session ticket, no 0-RTT (a replayed first
//! flight would run a task twice), and no switch that turns any of it off.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme,
};

use super::endpoint;
pub use super::identity::{Identity, IdentityText, KeyError, Pin};
pub use super::refusal::{Refusal, explain, why_closed};

/// The protocol both ends must name in the handshake; a later version of the wire gets a later number.
pub const ALPN: &[u8] = b"cw/1";

/// The server name for `Endpoint::connect`. Neither sent nor checked: the pin says who the master is.
pub const SERVER_NAME: &str = "cw";

/// What a peer of the master may be, told by which of two pins its certificate matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A user's program that submits tasks.
    Client,
    /// A node's process that runs them.
    Worker,
}

impl Peer {
    /// `client` or `worker`, as in file names and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Worker => "worker",
        }
    }
}

/// Settings of a master that accepts exactly these two certificates.
///
/// Complete but for the limits on strangers, which [`endpoint::serve`] adds.
///
/// # Errors
/// When the identity's key does not fit its certificate.
pub fn server_config(
    master: &Identity,
    clients: &Pin,
    workers: &Pin,
) -> Result<quinn::ServerConfig, KeyError> {
    let verifier = Arc::new(Pinned::new(vec![*clients, *workers]));
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(KeyError::Unusable)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(master), key(master))
        .map_err(KeyError::Unusable)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.send_tls13_tickets = 0;
    tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    let crypto = QuicServerConfig::try_from(tls).map_err(KeyError::Suite)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(endpoint::transport()));
    Ok(config)
}

/// Settings of a client or worker that talks to exactly this master.
///
/// # Errors
/// When the identity's key does not fit its certificate.
pub fn client_config(own: &Identity, master: &Pin) -> Result<quinn::ClientConfig, KeyError> {
    let tls =
        client_builder(master)?.with_client_auth_cert(chain(own), key(own)).map_err(KeyError::Unusable)?;
    finish_client(tls)
}

/// Which peer this connection authenticated as, by its certificate.
///
/// `None` for a certificate that is neither, which the handshake has refused already unless the pins are not
/// those of the endpoint.
pub fn peer_of(connection: &quinn::Connection, clients: &Pin, workers: &Pin) -> Option<Peer> {
    let identity = connection.peer_identity()?;
    let certificates = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    let presented = certificates.first()?;
    if clients.matches(presented) {
        Some(Peer::Client)
    } else if workers.matches(presented) {
        Some(Peer::Worker)
    } else {
        None
    }
}

/// Refuses an identity whose key is none, or belongs to another certificate.
pub(super) fn check(identity: &Identity) -> Result<(), KeyError> {
    let signer = ring::sign::any_supported_type(&key(identity)).map_err(KeyError::Unusable)?;
    rustls::sign::CertifiedKey::new(chain(identity), signer).keys_match().map_err(KeyError::Unusable)
}

/// The client's settings up to its own certificate, which a test may want to leave out.
pub(super) fn client_builder(
    master: &Pin,
) -> Result<rustls::ConfigBuilder<rustls::ClientConfig, rustls::client::WantsClientCert>, KeyError> {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(KeyError::Unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned::new(vec![*master])));
    Ok(builder)
}

/// The rest of the client's settings, from its own certificate on.
pub(super) fn finish_client(mut tls: rustls::ClientConfig) -> Result<quinn::ClientConfig, KeyError> {
    // A test may have named another protocol.
    if tls.alpn_protocols.is_empty() {
        tls.alpn_protocols = vec![ALPN.to_vec()];
    }
    tls.resumption = rustls::client::Resumption::disabled();
    tls.enable_early_data = false;
    tls.enable_sni = false;
    let crypto = QuicClientConfig::try_from(tls).map_err(KeyError::Suite)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(endpoint::transport_to_master()?));
    Ok(config)
}

/// ring, cut down to what two builds of ours speak with each other.
///
/// Always handed over explicitly: the process-wide default panics in a program that links a second provider.
/// AES-128 comes first because it is the cheaper of two sufficient ciphers.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
            ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![ring::kx_group::X25519],
        ..ring::default_provider()
    })
}

fn chain(identity: &Identity) -> Vec<CertificateDer<'static>> {
    vec![CertificateDer::from(identity.certificate_der().to_vec())]
}

fn key(identity: &Identity) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(identity.key_der().to_vec()).into()
}

/// Accepts the certificates with these pins, in either direction, and nothing else.
#[derive(Debug)]
struct Pinned {
    pins: Vec<Pin>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn new(pins: Vec<Pin>) -> Self {
        let algorithms = ring::default_provider().signature_verification_algorithms;
        Self { pins, algorithms }
    }

    /// Compares with every pin, whichever matches, so that time does not tell which role a key belongs to.
    fn admit(&self, presented: &CertificateDer<'_>) -> Result<(), Error> {
        let known = self.pins.iter().fold(false, |known, pin| known | pin.matches(presented));
        if known {
            Ok(())
        } else {
            // Sent to the peer as the alert access_denied, which `explain` reads there.
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    /// The proof that the peer has the key, not just the certificate. rustls calls it after [`admit`](Self::admit)
    /// succeeded, so what is parsed here is a certificate of ours.
    fn verify(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }
}

/// Never called, as no TLS 1.2 is negotiated; refuses all the same.
fn refuse_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(PeerIncompatible::Tls12NotOffered.into())
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.admit(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.admit(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
