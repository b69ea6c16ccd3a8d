//! The keys of the reference: one self-signed certificate for the relay and one for its peers, each the only thing
//! the other side trusts. They are made by the bench, live in memory and go to its children on their standard input.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use quinn::{
    ClientConfig, Endpoint, ServerConfig, TokioRuntime,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
    version::TLS13,
};
use serde::{Deserialize, Serialize};

use super::settings;

/// The name in both certificates.
const NAME: &str = "localhost";

/// Who one side is, and whom it trusts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Identity {
    certificate: Vec<u8>,
    key: Vec<u8>,
    trusted: Vec<u8>,
}

/// The relay's identity and its peers'.
pub(super) fn identities() -> anyhow::Result<(Identity, Identity)> {
    let [relay, peer] = [certificate()?, certificate()?];
    let identity = |own: &(Vec<u8>, Vec<u8>), other: &(Vec<u8>, Vec<u8>)| Identity {
        certificate: own.0.clone(),
        key: own.1.clone(),
        trusted: other.0.clone(),
    };
    Ok((identity(&relay, &peer), identity(&peer, &relay)))
}

fn certificate() -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    Ok((made.cert.der().to_vec(), made.signing_key.serialize_der()))
}

/// An endpoint on loopback that takes connections from peers.
pub(super) fn listen(identity: &Identity) -> anyhow::Result<Endpoint> {
    let verifier = WebPkiClientVerifier::builder_with_provider(identity.roots()?.into(), provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier.build()?)
        .with_single_cert(vec![identity.certificate()], identity.key())?;
    let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    server.transport_config(Arc::new(settings::transport()));
    endpoint(Some(server))
}

/// A connection to the relay, and the endpoint that keeps it alive.
pub(super) async fn connect(
    identity: &Identity,
    relay: SocketAddr,
) -> anyhow::Result<(Endpoint, quinn::Connection)> {
    let tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(identity.roots()?)
        .with_client_auth_cert(vec![identity.certificate()], identity.key())?;
    let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    client.transport_config(Arc::new(settings::peer_transport()));
    let endpoint = endpoint(None)?;
    let connection = endpoint.connect_with(client, relay, NAME)?.await;
    let connection = connection.context("failed to reach the reference's relay")?;
    Ok((endpoint, connection))
}

fn endpoint(server: Option<ServerConfig>) -> anyhow::Result<Endpoint> {
    let socket = settings::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let config = settings::endpoint_config();
    Ok(Endpoint::new(config, server, socket, Arc::new(TokioRuntime))?)
}

/// Named wherever it is needed: a process default could be someone else's.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

impl Identity {
    fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from(self.certificate.clone())
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }

    fn roots(&self) -> anyhow::Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.trusted.clone()))?;
        Ok(roots)
    }
}
