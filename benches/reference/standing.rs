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
        let (relays, identity) = tls::identities()?;
        let relay = start(Role::Relay, Setup { identity: relays, relay: None, leg: None })?;
        let said: String = relay.hear(START_DEADLINE)?;
        let address = said.parse()?;
        let server = || {
            let identity = identity.clone();
            let setup = Setup { identity, relay: Some(address), leg: None };
            let server = start(Role::Server, setup)?;
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

    fn client<T: DeserializeOwned>(&self, role: Role, leg: Leg) -> anyhow::Result<T> {
        let identity = self.identity.clone();
        let setup = Setup { identity, relay: Some(self.address), leg: Some(leg) };
        let client = start(role, setup)?;
        let measured = client.hear(LEG_DEADLINE)?;
        client.end(START_DEADLINE)?;
        Ok(measured)
    }
}

fn start(role: Role, setup: Setup) -> anyhow::Result<Process> {
    let mut command = process::this_bench()?;
    let mut process = Process::start(role.argument(), command.arg(role.argument()))?;
    process.tell(&serde_json::to_string(&setup)?)?;
    Ok(process)
}
