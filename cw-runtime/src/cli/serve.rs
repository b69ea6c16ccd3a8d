//! `cw master` and `cw worker`: the roles of a standing cluster, in a process that is no user's program.

use clap::{Args, FromArgMatches, error::ErrorKind};

use crate::start::{ClusterFlags, RoleFlag, serve};

/// The flags of one role. Those of the others are not shown.
#[derive(Clone, Debug)]
pub(super) struct Flags<const WORKER: bool>(ClusterFlags);

pub(super) type Master = Flags<false>;
pub(super) type Worker = Flags<true>;

/// Flags of a master.
const OF_MASTER: [&str; 8] = [
    "cw::cluster",
    "cw::listen",
    "cw::interface",
    "cw::suspect_after",
    "cw::lost_after",
    "cw::client_grace",
    "cw::takeover",
    "cw::cache_size",
];

/// Flags of a worker.
const OF_WORKER: [&str; 11] = [
    "cw::cluster",
    "cw::access",
    "cw::master",
    "cw::slots",
    "cw::cores_per_slot",
    "cw::connect_timeout",
    "cw::orphan_time",
    "cw::idle",
    "cw::walltime",
    "cw::programs",
    "cw::cache_size",
];

impl<const WORKER: bool> Flags<WORKER> {
    /// Serves the role to its end; gives the exit code.
    pub(super) fn run(mut self) -> u8 {
        self.0.role = Some(if WORKER { RoleFlag::Worker } else { RoleFlag::Master });
        serve(&self.0)
    }

    fn is_ours(id: &str) -> bool {
        if WORKER { OF_WORKER.contains(&id) } else { OF_MASTER.contains(&id) }
    }
}

impl<const WORKER: bool> Args for Flags<WORKER> {
    fn augment_args(command: clap::Command) -> clap::Command {
        let hide = |arg: clap::Arg| {
            let is_foreign = !Self::is_ours(arg.get_id().as_str());
            arg.hide(is_foreign)
        };
        ClusterFlags::augment_args(command).mut_args(hide).next_help_heading("Options")
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl<const WORKER: bool> FromArgMatches for Flags<WORKER> {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        let typed = |id: &&str| {
            let source = matches.value_source(id);
            source == Some(clap::parser::ValueSource::CommandLine)
        };
        let ids: Vec<&str> = matches.ids().map(clap::Id::as_str).collect();
        if let Some(foreign) = ids.iter().filter(|id| !Self::is_ours(id)).find(|id| typed(id)) {
            let flag = foreign.trim_start_matches("cw::").replace('_', "-");
            let role = if WORKER { "worker" } else { "master" };
            let line = format!("--{flag} is nothing that a {role} is told\n");
            return Err(clap::Error::raw(ErrorKind::UnknownArgument, line));
        }
        ClusterFlags::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
