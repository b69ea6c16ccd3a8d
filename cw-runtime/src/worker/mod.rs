//! The worker's shell: carries between the master, the machine and the executors.

pub(crate) mod pool;
mod process;
pub(crate) mod run;

pub(crate) use process::kill_all;
