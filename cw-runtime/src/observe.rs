//! Looking at a cluster from outside, and stopping it: what `cw status`, `cw start` and `cw stop` ask a master.
//!
//! An observer blocks, and has a small runtime of its own, so that its connection is kept while nobody asks.

use std::{net::SocketAddr, time::Duration};

use bytes::BytesMut;
use cw_core::{
    ids::ProgramId,
    wire::{self, FromObserver, Role, Standing, ToObserver},
};
use tokio::{runtime::Runtime, time::timeout};

use crate::{
    access::Access,
    exit::{self, Trouble},
    master::run::CLUSTER_STOPPED,
    net::{
        connect::{Joined, Search, Wanted},
        link::read_frame,
        tls::{self, Peer, Refusal},
    },
    program,
};

/// How long a master is waited for that has let this process in. One that is busy answers in milliseconds.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Longest answer taken: that of a master of a hundred thousand peers is a fifth of it.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How long the end of a connection is waited for.
const CLOSE_WAIT: Duration = Duration::from_millis(20);

/// Somebody who looks at a cluster.
pub(crate) struct Observer {
    runtime: Runtime,
    joined: Joined,
}

impl Observer {
    /// Connects to the master of a cluster, waiting for its files and for it to appear for so long.
    ///
    /// # Errors
    /// Files that cannot be used, a master that refuses, or none in time: which addresses were tried, and how each failed.
    pub(crate) fn connect(cluster: &str, patience: Duration) -> Result<Self, Trouble> {
        let wanted = Wanted {
            cluster: cluster.to_owned(),
            access: None,
            master: None,
            role: Peer::Client,
            timeout: patience,
        };
        Self::find(wanted)
    }

    /// Connects to the master of a client's access file.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub(crate) fn find(wanted: Wanted) -> Result<Self, Trouble> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        // It is no client, so its program is nobody's business.
        let mut hello = program::hello(ProgramId::default(), Role::Observer)?;
        hello.jobs.clear();
        let mut search = Search::quiet(wanted, hello);
        let patience = search.patience();
        let joined = runtime.block_on(search.join(patience))?;
        Ok(Self { runtime, joined })
    }

    /// Where the master answers.
    pub(crate) fn address(&self) -> SocketAddr {
        self.joined.address
    }

    /// Where others find the master: the best address that it announces. This machine may have been let in at another.
    pub(crate) fn announced(&self) -> String {
        let best =
            Access::read(&self.joined.path).ok().and_then(|access| access.addresses.into_iter().next());
        best.unwrap_or_else(|| self.address().to_string())
    }

    /// How things stand now.
    ///
    /// # Errors
    /// The connection has ended, and why; another has to be made.
    pub(crate) fn look(&mut self) -> Result<Standing, Trouble> {
        match self.ask(FromObserver::Look)? {
            ToObserver::Standing(standing) => Ok(*standing),
            ToObserver::Stopping => Err(self.trouble("it does not answer what it is asked")),
        }
    }

    /// Has all workers leave, which counts against nobody, and then the master end. Returns once it has.
    ///
    /// # Errors
    /// The master cannot be told, or has not ended within the time.
    pub(crate) fn stop(mut self, patience: Duration) -> Result<(), Trouble> {
        let told = self.ask(FromObserver::Stop);
        let connection = self.joined.connection.clone();
        let ended = self.runtime.block_on(async { timeout(patience, connection.closed()).await });
        match (told, ended) {
            // A master without workers may end before its answer is read.
            (_, Ok(why)) if is_stopped(&tls::explain(&why)) => Ok(()),
            (Err(trouble), _) => Err(trouble),
            // It was about to end, and its last word got lost.
            (Ok(_), Ok(_)) => Ok(()),
            (Ok(_), Err(_)) => {
                Err(self.trouble(&format!("it was told to stop, and still runs after {patience:?}")))
            }
        }
    }

    /// Whether the connection has ended because somebody has the cluster stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.joined.connection.close_reason().is_some_and(|why| is_stopped(&tls::explain(&why)))
    }

    fn ask(&mut self, question: FromObserver) -> Result<ToObserver, Trouble> {
        let Self { runtime, joined } = self;
        let answer = runtime.block_on(async { timeout(ANSWER_WAIT, ask(joined, question)).await });
        let late = || format!("no answer within {} s", ANSWER_WAIT.as_secs());
        answer.unwrap_or_else(|_| Err(late())).map_err(|why| self.trouble(&why))
    }

    fn trouble(&self, why: &str) -> Trouble {
        Trouble::new(exit::NO_MASTER, format!("the master at {}: {why}", self.joined.address))
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.joined.connection.close(0u32.into(), b"it has seen enough");
        let endpoint = self.joined.endpoint.clone();
        let _ = self.runtime.block_on(async { timeout(CLOSE_WAIT, endpoint.wait_idle()).await });
    }
}

async fn ask(joined: &mut Joined, question: FromObserver) -> Result<ToObserver, String> {
    let Joined { connection, lanes: [(send, receive), _], read, .. } = joined;
    let mut frame = BytesMut::new();
    wire::encode(&question, &[], &mut frame);
    let asked = async {
        send.write_chunk(frame.freeze()).await.map_err(|error| error.to_string())?;
        read_frame(receive, read, ANSWER_BYTES_MAX).await
    };
    let answer = asked.await.map_err(|why| tls::why_closed(connection, why))?;
    wire::decode::<ToObserver>(&answer).map(|(answer, _)| answer).map_err(|error| error.to_string())
}

/// Whether a connection ended as it does when the cluster was stopped.
fn is_stopped(why: &Refusal) -> bool {
    matches!(why, Refusal::ClosedByPeer { reason, .. } if reason == CLUSTER_STOPPED)
}
