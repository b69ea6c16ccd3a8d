//! The reference as a bench sees it: a relay and two servers that stand, and a client for each leg.

use std::net::SocketAddr;

use anyhow::ensure;
use serde::de::DeserializeOwned;

use super::{
    LEG_DEADLINE, START_DEADLINE,
    process::{self, Process},
    role::{Leg, Role, Setup},
    tls::{self, Identity},
};

pub(crate) struct Reference {
    address: SocketAddr,
    identity: Identity,
    _relay: Process,
    _servers: [Process; 2],
}

impl Reference {
    pub(crate) fn start() -> anyhow::Result<Self> {
        Self::start_as(Role::Relay, Role::Server)
    }

    /// The one for large payloads.
    pub(crate) fn start_bulk() -> anyhow::Result<Self> {
        Self::start_as(Role::BulkRelay, Role::BulkServer)
    }

    fn start_as(relay: Role, server: Role) -> anyhow::Result<Self> {
        let (relays, identity) = tls::identities()?;
        let relay = start(relay, Setup { identity: relays, relay: None, leg: None })?;
        let said: String = relay.hear(START_DEADLINE)?;
        let address = said.parse()?;
        let server = || {
            let identity = identity.clone();
            let setup = Setup { identity, relay: Some(address), leg: None };
            let server = start(server, setup)?;
            let said: String = server.hear(START_DEADLINE)?;
            ensure!(said == "ready", "a server of the reference said {said}");
            Ok(server)
        };
        let servers = [server()?, server()?];
        Ok(Self { address, identity, _relay: relay, _servers: servers })
    }

    /// Seconds for the leg's no-ops with a full window.
    pub(crate) fn flood(&self, leg: Leg) -> anyhow::Result<f64> {
        self.client(Role::Flood, leg)
    }

    /// Nanoseconds of each of the leg's no-ops, one at a time.
    pub(crate) fn ping(&self, leg: Leg) -> anyhow::Result<Vec<u64>> {
        self.client(Role::Ping, leg)
    }

    /// Seconds for the leg's large payloads there and back, all handed in at once.
    pub(crate) fn bulk(&self, leg: Leg) -> anyhow::Result<f64> {
        self.client(Role::Bulk, leg)
    }

    /// A client that floods until it is dropped.
    pub(crate) fn load(&self, leg: Leg) -> anyhow::Result<Process> {
        let client = self.start_client(Role::Load, leg)?;
        let said: String = client.hear(START_DEADLINE)?;
        ensure!(said == "floods", "a client of the reference said {said}");
        Ok(client)
    }

    fn client<T: DeserializeOwned>(&self, role: Role, leg: Leg) -> anyhow::Result<T> {
        let client = self.start_client(role, leg)?;
        let measured = client.hear(LEG_DEADLINE)?;
        client.end(START_DEADLINE)?;
        Ok(measured)
    }

    fn start_client(&self, role: Role, leg: Leg) -> anyhow::Result<Process> {
        let identity = self.identity.clone();
        start(role, Setup { identity, relay: Some(self.address), leg: Some(leg) })
    }
}

fn start(role: Role, setup: Setup) -> anyhow::Result<Process> {
    let mut command = process::this_bench()?;
    let mut process = Process::start(role.argument(), command.arg(role.argument()))?;
    process.tell(&serde_json::to_string(&setup)?)?;
    Ok(process)
}
