//! Variables of the user's shell that would change what `cw start` starts, and say so nowhere: flags have them too.

use clap::{Args, Command};

use crate::start::ClusterFlags;

/// Those that `cw start` has no flag of its own for: so they are meant for what it starts.
const KEPT: [&str; 6] =
    ["CW_ACCESS", "CW_CACHE_SIZE", "CW_SUSPECT_AFTER", "CW_LOST_AFTER", "CW_CLIENT_GRACE", "CW_ORPHAN_TIME"];

/// Variables that a worker or a master is not to have from whoever starts it: its command line has all it is to know.
pub(crate) fn unwanted() -> Vec<String> {
    let command = ClusterFlags::augment_args(Command::new(""));
    let variables = command.get_arguments().filter_map(|flag| flag.get_env()?.to_str());
    variables.filter(|name| !KEPT.contains(name)).map(str::to_owned).collect()
}

/// Takes them from a command.
pub(crate) fn remove_from(command: &mut std::process::Command) {
    unwanted().into_iter().for_each(|name| {
        command.env_remove(name);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_a_worker_is_unwanted_unless_there_is_no_other_way_to_say_it() {
        let unwanted = unwanted();
        for name in
            ["CW_ROLE", "CW_CLUSTER", "CW_MASTER", "CW_IDLE", "CW_LISTEN", "CW_TAKEOVER", "CW_WALLTIME"]
        {
            assert!(unwanted.iter().any(|it| it == name), "{name} in {unwanted:?}");
        }
        for name in KEPT.iter().chain(&["CW_HOME", "CW_LOG"]) {
            assert!(!unwanted.iter().any(|it| it == name), "{name} in {unwanted:?}");
        }
    }
}
