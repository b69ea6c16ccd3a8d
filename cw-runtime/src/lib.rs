//! The processes of Cluster-Workers: what a program becomes by its flags.
//!
//! Users meet this crate through the facade `cluster-workers` (library name `cw`). Inside:
//! `job` is what the macros expand to; `api` the calls; `client`, `master`, `worker` and `executor` the shells
//! around the machines of `cw-core`; `net` QUIC, the only place that names quinn; `access` the cluster's files;
//! `start` flags and roles; `observe` looks at a cluster from outside, and stops it; `blobs` how executables come to nodes that lack them.

pub mod access;
mod api;
mod blobs;
mod caught;
mod checkpoints;
mod cli;
mod client;
mod clock;
#[cfg(target_os = "linux")]
mod elf_fit;
mod error;
mod executor;
mod exit;
mod flag;
mod hooks;
mod image;
pub mod job;
mod launch;
mod mapped;
mod master;
pub mod net;
mod observe;
mod particulars;
mod program;
mod shared;
mod start;
mod stderr;
mod store;
pub mod testing;
mod worker;

pub use api::{
    Blocking, Cluster, Collect, Connect, JoinNext, JoinNextWithId, Map, Next, Options, Ready, SpawnWhenReady,
    TaskHandle, TaskSet, Unordered, WaitAll, map, options, ready, spawn, submit, wait_all,
};
pub use cw_core::ids::TaskId;
pub use error::{Error, Result, TaskError, TaskErrorKind};
pub use executor::context::{Ctx, ctx};
pub use job::{IntoArgs, Job, JobInfo, jobs};
pub use shared::{Shareable, Shared, share, share_slice};
pub use start::init;

/// What the macros write code against. No promise is made about any of it.
#[doc(hidden)]
pub mod private {
    /// The verbs of the installed binary.
    pub mod cli {
        pub use crate::cli::main;
    }

    pub use crate::hooks::private::*;
    pub use crate::job::private::*;
    pub use crate::start::{MainArgs, MainResult, NoOpts, Program};

    /// What the benches' reference must have in common with cw, and what a bench needs many of.
    pub mod bench {
        use std::{
            io,
            net::{SocketAddr, UdpSocket},
        };

        use crate::net::endpoint;
        pub use crate::net::{connect::idle::IdleWorker, endpoint::transport};

        /// The transport of clients and workers.
        pub fn peer_transport() -> quinn::TransportConfig {
            endpoint::transport_with_mtu(endpoint::MTU_PEER)
        }

        /// What both kinds of endpoints have in common.
        pub fn endpoint_config() -> quinn::EndpointConfig {
            let mut config = quinn::EndpointConfig::default();
            endpoint::large_packets(&mut config);
            config
        }

        /// A socket with the buffers cw asks for.
        pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
            endpoint::bind(address).map(|(socket, _)| socket).map_err(io::Error::other)
        }
    }
}
