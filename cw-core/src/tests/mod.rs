//! The three machines against each other, on virtual time.

mod calls;
mod fair;
mod golden;
mod hostile;
mod outcomes;
mod races;
mod returns;
mod sim;
mod starts;
mod trouble;
mod world;
