//! How a process finds out what it is, and becomes it.

mod flags;
mod help;
mod main_fn;
mod roles;
mod room;
pub(crate) mod slots;
pub(crate) mod step;

pub(crate) use flags::{ClusterFlags, Idle, ProgramsFlag, RoleFlag, idle, time};
pub(crate) use main_fn::note_of_worker;
pub(crate) use roles::{cluster_named, processes, serve};

pub use main_fn::{MainArgs, MainResult, NoOpts, Program, init};
