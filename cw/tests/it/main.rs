//! Integration tests: real processes on real sockets.
//!
//! `it_program` (its source is in `program/`) is started as master, worker and client, each with a folder of its own
//! for the cluster's files and a port the system chose. Tests wait for events, with a deadline, and never for time.
//! Programs are examples, which a whole `cargo test` builds first; before `cargo test --test it` alone run
//! `cargo build --examples`.

mod bad_access;
mod bad_input;
mod bounded;
mod calls;
#[cfg(target_os = "linux")]
mod checkpoints;
mod connect;
mod counts;
mod drains;
mod executors;
mod hooks;
mod idle;
#[cfg(target_os = "linux")]
mod kills;
#[cfg(target_os = "linux")]
mod losses;
mod networks;
#[cfg(target_os = "linux")]
mod outfits;
mod outputs;
mod places;
mod prefix;
#[cfg(target_os = "linux")]
mod programs;
#[cfg(target_os = "linux")]
mod programs_bad;
#[cfg(target_os = "linux")]
mod restarts;
mod roles;
mod sets;
#[cfg(target_os = "linux")]
mod shares;
#[cfg(target_os = "linux")]
mod signals;
mod status;
#[cfg(target_os = "linux")]
mod stores;
mod support;
mod testing;
#[cfg(target_os = "linux")]
mod transfers;
mod unfit;
mod walltime;
