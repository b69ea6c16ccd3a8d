//! What a re-executed bench becomes, and how it tells: a process of the reference, or one of a cluster of `cw`.

use std::{env, io, net::SocketAddr, os::unix::process::parent_id, process, thread, time::Duration};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::{bulk, client::Client, echo, relay, server, tls::Identity};

/// The process that must outlive this one; another parent's number means that this is a grandchild.
pub(super) const PARENT: &str = "BENCH_PARENT";

/// What a client of `cw` is to measure.
pub(super) const LEG: &str = "BENCH_LEG";

/// One measurement of one side, made inside a client process.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Leg {
    pub(crate) warm_up: u64,
    pub(crate) tasks: u64,
}

/// What a client sends where payloads are large: no two begin alike, so that nothing is sent once for several.
pub(crate) fn payloads(count: u64, bytes: usize) -> Vec<Vec<u8>> {
    let payload = |_| {
        let mut payload = vec![0; bytes];
        fastrand::fill(&mut payload);
        payload
    };
    (0..count).map(payload).collect()
}

/// The size of those.
pub(crate) const BULK_BYTES: usize = 4 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Relay,
    Server,
    Echo,
    /// A client that keeps its window full; it says how many seconds that took.
    Flood,
    /// A client that keeps its window full until it is killed; it says when it is.
    Load,
    /// A client with one task at a time; it says how many nanoseconds each took.
    Ping,
    BulkRelay,
    BulkServer,
    BulkEcho,
    /// A client that sends large payloads; it says how many seconds that took.
    Bulk,
}

/// The first line on the standard input of a process of the reference.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) identity: Identity,
    pub(super) relay: Option<SocketAddr>,
    pub(super) leg: Option<Leg>,
}

/// Call this first in `main`: says whether this process was a child, which by then has done its work.
///
/// `client` measures one leg of `cw`, in a process that has a cluster to connect to.
pub(crate) fn child<T: Serialize>(client: impl FnOnce(Leg) -> anyhow::Result<T>) -> anyhow::Result<bool> {
    if let Some(role) = env::args().nth(1).and_then(|word| Role::of(&word)) {
        return role.run().with_context(|| role.argument()).map(|()| true);
    }
    if env::var(PARENT).is_ok_and(|parent| parent == parent_id().to_string()) {
        end_with_parent();
    }
    cw::init()?;
    let Ok(leg) = env::var(LEG) else { return Ok(false) };
    say(&client(serde_json::from_str(&leg)?)?)?;
    Ok(true)
}

/// One JSON line to the parent.
pub(crate) fn say(word: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(word)?);
    Ok(())
}

/// The parent holds the other end of the standard input and never closes it while it lives.
fn end_with_parent() {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        process::exit(0);
    });
}

impl Role {
    const ALL: [Self; 10] = [
        Self::Relay,
        Self::Server,
        Self::Echo,
        Self::Flood,
        Self::Load,
        Self::Ping,
        Self::BulkRelay,
        Self::BulkServer,
        Self::BulkEcho,
        Self::Bulk,
    ];

    pub(super) fn argument(self) -> &'static str {
        match self {
            Self::Relay => "reference-relay",
            Self::Server => "reference-server",
            Self::Echo => "reference-echo",
            Self::Flood => "reference-flood",
            Self::Load => "reference-load",
            Self::Ping => "reference-ping",
            Self::BulkRelay => "reference-bulk-relay",
            Self::BulkServer => "reference-bulk-server",
            Self::BulkEcho => "reference-bulk-echo",
            Self::Bulk => "reference-bulk",
        }
    }

    fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.argument() == word)
    }

    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Echo => return echo::run(),
            Self::BulkEcho => return bulk::echo(),
            _ => {}
        }
        let mut setup = String::new();
        io::stdin().read_line(&mut setup)?;
        let Setup { identity, relay, leg } = serde_json::from_str(&setup)?;
        let relay = || relay.context("no relay named");
        let leg = || leg.context("no leg named");
        end_with_parent();

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match self {
                Self::Relay => relay::run(identity).await,
                Self::Server => server::run(identity, relay()?).await,
                Self::Flood => flood(&identity, relay()?, leg()?).await,
                Self::Load => load(&identity, relay()?, leg()?).await,
                Self::Ping => ping(&identity, relay()?, leg()?).await,
                Self::BulkRelay => bulk::relay(identity).await,
                Self::BulkServer => bulk::server(identity, relay()?).await,
                Self::Bulk => bulk(&identity, relay()?, leg()?).await,
                Self::Echo | Self::BulkEcho => unreachable!("it has returned above"),
            }
        })
    }
}

async fn flood(identity: &Identity, relay: SocketAddr, leg: Leg) -> anyhow::Result<()> {
    let mut client = Client::connect(identity, relay).await?;
    client.flood(leg.warm_up).await?;
    let took = client.flood(leg.tasks).await?;
    client.close().await?;
    say(&took.as_secs_f64())
}

async fn load(identity: &Identity, relay: SocketAddr, leg: Leg) -> anyhow::Result<()> {
    let mut client = Client::connect(identity, relay).await?;
    client.flood(leg.warm_up).await?;
    say(&"floods")?;
    client.flood(u64::MAX).await?;
    Ok(())
}

async fn ping(identity: &Identity, relay: SocketAddr, leg: Leg) -> anyhow::Result<()> {
    let mut client = Client::connect(identity, relay).await?;
    for _ in 0..leg.warm_up {
        client.ping().await?;
    }
    let mut took = Vec::new();
    for _ in 0..leg.tasks {
        took.push(client.ping().await?);
    }
    client.close().await?;
    say(&took.iter().map(Duration::as_nanos).collect::<Vec<_>>())
}

async fn bulk(identity: &Identity, relay: SocketAddr, leg: Leg) -> anyhow::Result<()> {
    bulk::client(identity, relay, payloads(leg.warm_up, BULK_BYTES)).await?;
    let took = bulk::client(identity, relay, payloads(leg.tasks, BULK_BYTES)).await?;
    say(&took.as_secs_f64())
}
