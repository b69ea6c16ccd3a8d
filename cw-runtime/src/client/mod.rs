//! The client's side: the calls of a program on one end, a cluster or this process's own on the other.
//!
//! A call goes through the [`hub`] to one thread of its own, where the client's machine lives: either
//! beside a connection to a master ([`remote`]), or beside a master and a worker in the same thread
//! ([`local`]). Answers go into the [`sink`] that came with the call.

mod apart;
mod asked;
mod backlog;
mod callbacks;
pub(crate) mod hub;
pub(crate) mod local;
pub(crate) mod notice;
pub(crate) mod progress;
pub(crate) mod ready;
pub(crate) mod remote;
pub(crate) mod session;
pub(crate) mod shown;
mod signals;
pub(crate) mod sink;
pub(crate) mod together;
mod uploads;
mod watched;
