//! What the benches share: the reference, and the harness that runs it and `cw` alternately.
//!
//! Machines vary by factors within minutes, so a figure of ours is a ratio to the **reference**: the same processes
//! as a cluster of `cw` and nothing else. A client sends task frames over QUIC to a relay, the relay spreads them over
//! two servers, each server hands them on a Unix socket to its echo process; results come back the same way and are
//! acknowledged from end to end. It has no scheduler, no retries, no checks: what remains is the price of the wire.
//!
//! The reference: `settings` (transport), `tls` (keys), `wire` (frames), and a file per process: `client`, `relay`,
//! `server`, `echo`; `bulk` has all four for large payloads. The harness: `role` (what a re-executed bench becomes), `process` (children with deadlines),
//! `standing` and `cluster` (the two sides as the benches see them), `memory` (of a process), `report` (pairs,
//! table, `cw-bench.json`).
#![allow(dead_code, unused_imports, reason = "no bench uses every part")]

mod bulk;
mod client;
mod cluster;
mod echo;
pub(crate) mod memory;
mod process;
mod relay;
mod report;
mod role;
mod server;
mod settings;
mod standing;
mod tls;
mod wire;

pub(crate) use cluster::{Cluster, Plan, Starting, alone};
pub(crate) use process::Process;
pub(crate) use report::{Figure, Latency, measuring, pairs, quantile};
pub(crate) use role::{BULK_BYTES, Leg, child, payloads, say};
pub(crate) use standing::Reference;

use std::time::Duration;

/// For a process to come up and say so; a hundred times what it takes.
pub(crate) const START_DEADLINE: Duration = Duration::from_secs(10);

/// For one leg of some three seconds, also on a machine that is suddenly ten times slower.
pub(crate) const LEG_DEADLINE: Duration = Duration::from_secs(60);
