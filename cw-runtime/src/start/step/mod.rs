//! `srun ./sim`: the tasks of one Slurm step that share a run. The first, rank 0, starts a master, a worker with its own
//! cores, and the program as their client, and ends with the program's exit code; all others are workers.
//!
//! They find each other through a cluster's folder like any other, `srun-JOB-STEP`. A rank that has seen it notes that
//! there, so that the folder can be removed at the end: to those who have seen it, its end is the end of the run. Where some
//! have not come by then, a file says so in its place, and the last of them removes it.
//!
//! One program of a step has the folder: its rank 0 holds a lock there, and nobody else removes anything meanwhile.
//!
//! Rank 0 runs no code of the user's, so whatever way the program ends, there is somebody who ends the run in order.

mod lead;
mod parent;
mod place;

use std::{
    env, thread,
    time::{Duration, Instant},
};

use self::place::Place;
use super::{
    flags::{ClusterFlags, Idle, RoleFlag},
    roles,
};
use crate::{
    access::{AccessError, ClusterDir},
    client::notice::say,
    executor::nonce,
    exit::{self, Trouble},
    flag::flag,
    net::tls::Peer,
    program,
};

pub(crate) use parent::has_parent;
pub(super) use parent::parent_ends;

/// How long other ranks wait for the first, unless they are told.
const FOLDER_TIMEOUT: Duration = Duration::from_secs(60);

/// The user hears of a wait that is longer.
const QUIET: Duration = Duration::from_secs(5);

/// How often a rank looks for the folder.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// A rank that has lost the first for so long ends: nobody starts another one.
const ORPHAN_TIME: Duration = Duration::from_secs(10);

/// Numbers above are of steps that are no `srun`'s: a batch script, a shell.
pub(super) const STEP_MAX: u32 = 0xffff_fff0;

/// A task of a Slurm step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The cluster's name.
    cluster: String,
    rank: u32,
    ranks: u32,
}

impl Step {
    /// The step this process shares with others, unless a job has started it: that is a program by itself.
    pub(super) fn here() -> Option<Self> {
        if env::var_os(nonce::VARIABLE).is_some() {
            return None;
        }
        Self::read(|name| env::var(name).ok())
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name: &str| variable(name)?.parse::<u32>().ok();
        let (job, step) = (number("SLURM_JOB_ID")?, number("SLURM_STEP_ID")?);
        let ranks = number("SLURM_STEP_NUM_TASKS").or_else(|| number("SLURM_NTASKS"))?;
        let rank = number("SLURM_PROCID")?;
        // A job that is requeued has the same number.
        let again = number("SLURM_RESTART_COUNT").filter(|count| *count > 0);
        let again = again.map(|count| format!("-{count}")).unwrap_or_default();
        let cluster = format!("srun-{job}-{step}{again}");
        (step < STEP_MAX && ranks > 1 && rank < ranks).then_some(Self { cluster, rank, ranks })
    }

    /// The step whose run this process is to be part of: one that was told nothing else.
    pub(super) fn to_share(flags: &ClusterFlags) -> Option<Self> {
        let is_told = flags.role.is_some()
            || flags.cluster.is_some()
            || flags.access.is_some()
            || flags.master.is_some()
            || flags.listen.is_some()
            || flags.slots.is_some()
            || flags.threads;
        if is_told { None } else { Self::here() }
    }

    /// Whether this process serves the run of its step.
    pub(super) fn is_served_by(flags: &ClusterFlags) -> bool {
        Self::here().is_some_and(|step| flags.cluster.as_ref() == Some(&step.cluster))
    }

    /// Whether what is wrong with the command line, which is the same for all, is told by another rank.
    pub(super) fn is_told_by_another() -> bool {
        Self::here().is_some_and(|step| step.rank > 0)
    }

    /// Takes part in the run to its end; gives the exit code.
    pub(super) fn share(&self, flags: &ClusterFlags) -> Result<u8, Trouble> {
        let place = self.place()?;
        if self.rank > 0 { self.follow(&place, flags) } else { self.lead(&place, flags) }
    }

    fn place(&self) -> Result<Place, AccessError> {
        Ok(Place { folder: ClusterDir::locate(&self.cluster)?, others: 1..self.ranks })
    }

    fn follow(&self, place: &Place, flags: &ClusterFlags) -> Result<u8, Trouble> {
        if !self.wait_for_first(place, flags.connect_timeout.unwrap_or(FOLDER_TIMEOUT))? {
            return Ok(0);
        }
        let worker = ClusterFlags {
            role: Some(RoleFlag::Worker),
            cluster: Some(self.cluster.clone()),
            orphan_time: flags.orphan_time.min(ORPHAN_TIME),
            // It belongs to this one program, which may want it again any time.
            idle: Some(Idle::Never),
            ..flags.clone()
        };
        match roles::serve_worker(&worker) {
            Err(_) if place.is_over() => Ok(0),
            Err(trouble) => {
                // The first rank and its node are gone, and will not tidy up.
                if trouble.code() == exit::NO_MASTER {
                    place.remove_if_free(|| true);
                }
                Err(trouble)
            }
            Ok(()) => Ok(0),
        }
    }

    /// Waits until the first rank's master can be found; says whether there is still something to do.
    fn wait_for_first(&self, place: &Place, timeout: Duration) -> Result<bool, Trouble> {
        let (start, file) = (Instant::now(), place.folder.access_file(Peer::Worker));
        let (rank, node, shown) = (self.rank, program::host_name(), file.display());
        let mut said = false;
        while !file.exists() {
            if place.is_marked_over() {
                place.note(rank);
                place.remove_if_all_came();
                return Ok(false);
            }
            if start.elapsed() >= timeout {
                let line = format!(
                    "rank {rank} on {node} found no {shown} within {timeout:?} ({}): rank 0 writes it there, so the nodes have \
                     to share that folder; CW_HOME names another",
                    flag("connect-timeout")
                );
                return Err(Trouble::new(exit::NO_MASTER, line));
            }
            if start.elapsed() >= QUIET && !said {
                said = true;
                say(&format!("rank {rank} on {node} waits for {shown}, which rank 0 writes"));
            }
            thread::sleep(LOOK_PAUSE);
        }
        place.note(rank);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(variables: &[(&str, &str)]) -> Option<Step> {
        Step::read(|name| variables.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned()))
    }

    const IN_STEP: [(&str, &str); 4] = [
        ("SLURM_JOB_ID", "77"),
        ("SLURM_STEP_ID", "3"),
        ("SLURM_STEP_NUM_TASKS", "12"),
        ("SLURM_PROCID", "11"),
    ];

    fn with(name: &str, value: &str) -> Option<Step> {
        let others = IN_STEP.into_iter().filter(|(it, _)| *it != name);
        step(&others.chain([(name, value)]).collect::<Vec<_>>())
    }

    #[test]
    fn ranks_of_a_step_know_their_run() {
        let found = Step { cluster: "srun-77-3".to_owned(), rank: 11, ranks: 12 };
        assert_eq!(step(&IN_STEP), Some(found.clone()));
        assert_eq!(with("SLURM_RESTART_COUNT", "0"), Some(found));
        assert_eq!(with("SLURM_RESTART_COUNT", "2").unwrap().cluster, "srun-77-3-2");
        assert!(ClusterDir::locate("srun-77-3-2").is_ok());
    }

    #[test]
    fn a_batch_script_a_single_task_and_nonsense_are_no_run_of_several() {
        assert_eq!(step(&[]), None);
        for (name, value) in [
            ("SLURM_STEP_ID", "4294967291"),
            ("SLURM_STEP_ID", "batch"),
            ("SLURM_STEP_NUM_TASKS", "1"),
            ("SLURM_PROCID", "12"),
            ("SLURM_PROCID", "-1"),
            ("SLURM_JOB_ID", "../.."),
        ] {
            assert_eq!(with(name, value), None, "{name}={value}");
        }
    }
}
