//! The flags of a cluster: what was typed.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleFlag {
    /// Routes tasks and results
    Master,
    /// Runs tasks
    Worker,
    /// Runs this program's `main` on a cluster
    Client,
}

// No doc comment on the struct and no group of its own: nothing of ours leaks into the user's help.
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterFlags {
    /// What this process is. Without it the program runs by itself, on all cores of this machine
    #[arg(
        id = "cw::role",
        long = "role",
        value_enum,
        env = "CW_ROLE",
        value_name = "master|worker|client",
        hide_possible_values = true
    )]
    pub(crate) role: Option<RoleFlag>,

    /// Run on this cluster, or serve it. Its files are in $CW_HOME/NAME, by default ~/.cw/NAME
    #[arg(id = "cw::cluster", long = "cluster", env = "CW_CLUSTER", value_name = "NAME")]
    pub(crate) cluster: Option<String>,

    /// Access file to use instead of the cluster's own (clients and workers)
    #[arg(id = "cw::access", long = "access", env = "CW_ACCESS", value_name = "FILE")]
    pub(crate) access: Option<PathBuf>,

    /// Address of the master, if not the one in the access file (clients and workers)
    #[arg(id = "cw::master", long = "master", env = "CW_MASTER", value_name = "HOST[:PORT]", value_parser = address)]
    pub(crate) master: Option<String>,

    /// Address to listen on (master). Default: port 5494 on all interfaces, or any free one
    #[arg(id = "cw::listen", long = "listen", env = "CW_LISTEN", value_name = "ADDR:PORT")]
    pub(crate) listen: Option<SocketAddr>,

    /// Tasks to run at once (worker, or a program by itself). Default: one for each core
    #[arg(id = "cw::slots", long = "slots", env = "CW_SLOTS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) slots: Option<u32>,

    /// Cores each task may use: divides the default number of slots, and limits libraries' threads
    #[arg(id = "cw::cores_per_slot", long = "cores-per-slot", env = "CW_CORES_PER_SLOT", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) cores_per_slot: u32,

    /// Run tasks in threads of this process: faster to start, but a crash ends the program, and
    /// running tasks cannot be killed
    #[arg(id = "cw::threads", long = "threads", env = "CW_THREADS", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    pub(crate) threads: bool,

    /// How long to wait for a master that does not answer. Default: 1m for a client, 10m for a worker
    #[arg(id = "cw::connect_timeout", long = "connect-timeout", env = "CW_CONNECT_TIMEOUT", value_name = "TIME", value_parser = time)]
    pub(crate) connect_timeout: Option<Duration>,
}

/// Reads a time with its unit.
fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write a time with its unit, like 30s, 5m or 1h".to_owned())
}

/// Checks that what follows the last colon of a host is a port.
fn address(text: &str) -> Result<String, String> {
    let is_v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
    match text.rsplit_once(':') {
        _ if text.is_empty() => Err("no host".to_owned()),
        Some((_, port)) if !is_v6 && port.parse::<u16>().is_err() && !port.ends_with(']') => {
            Err(format!("`{port}` is no port: 0 to 65535"))
        }
        _ => Ok(text.to_owned()),
    }
}
