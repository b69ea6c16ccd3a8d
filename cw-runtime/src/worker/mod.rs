//! The worker's shell: carries between the master, the machine and the executors.

mod peers;
pub(crate) mod pool;
mod process;
pub(crate) mod programs;
pub(crate) mod run;
pub(crate) mod upstream;
pub(crate) mod walltime;

pub(crate) use process::kill_all;
