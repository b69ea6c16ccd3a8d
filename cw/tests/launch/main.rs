//! Clusters that `cw start` starts and `cw stop` ends, by each of its launchers, with the real system behind it; and
//! programs that `srun` starts.

// Not all of what the other tests share is of use here.
#[allow(dead_code, unused_imports)]
#[path = "../it/support/mod.rs"]
mod support;

#[cfg(target_os = "linux")]
mod elastic;
#[cfg(target_os = "linux")]
mod house;
#[cfg(target_os = "linux")]
mod life;
#[cfg(target_os = "linux")]
mod limits;
#[cfg(target_os = "linux")]
mod local;
#[cfg(target_os = "linux")]
mod site;
#[cfg(target_os = "linux")]
mod slurm;
#[cfg(target_os = "linux")]
mod srun;
#[cfg(target_os = "linux")]
mod ssh;
#[cfg(target_os = "linux")]
mod sshd;
