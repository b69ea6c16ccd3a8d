//! The three machines against each other, on virtual time.

mod aside;
mod backlog;
mod bursts;
mod calls;
mod checkpoints;
mod claims;
mod desk;
mod endings;
mod fair;
mod golden;
mod hostile;
mod idle;
mod lies;
mod looks;
mod lore;
mod outcomes;
mod programs;
mod races;
mod rest;
mod returns;
mod sim;
mod standstill;
mod starts;
mod stretches;
mod trouble;
pub(crate) mod world;
