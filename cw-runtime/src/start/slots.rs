//! How many tasks a worker runs at once, unless it is told.

use std::thread::available_parallelism;

/// Slots of this machine, job step or container: `SLURM_CPUS_PER_TASK`, else `SLURM_CPUS_ON_NODE`, else what
/// affinity and cgroup quota allow, over the cores each slot is to have. At least 1.
pub(crate) fn detect(cores_per_slot: u32) -> u32 {
    let cores = from_slurm(|name| std::env::var(name).ok())
        .or_else(|| u32::try_from(available_parallelism().ok()?.get()).ok())
        .unwrap_or(1);
    (cores / cores_per_slot.max(1)).max(1)
}

fn from_slurm(variable: impl Fn(&str) -> Option<String>) -> Option<u32> {
    ["SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"]
        .iter()
        .find_map(|name| variable(name)?.trim().parse().ok().filter(|cores| *cores > 0))
}

/// Variables that libraries read how many threads to use from.
pub(crate) const THREAD_LIMITS: [&str; 4] =
    ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"];

/// Those that keep the libraries of a job within its slot, for those the user has not set.
pub(crate) fn thread_limits(cores_per_slot: u32) -> Vec<(String, String)> {
    THREAD_LIMITS
        .iter()
        .filter(|name| std::env::var_os(name).is_none())
        .map(|name| ((*name).to_owned(), cores_per_slot.max(1).to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slurm_says_first_and_nonsense_is_passed_over() {
        let env = |name: &str| match name {
            "SLURM_CPUS_PER_TASK" => Some("zero".to_owned()),
            "SLURM_CPUS_ON_NODE" => Some("12".to_owned()),
            _ => None,
        };
        assert_eq!(from_slurm(env), Some(12));
        assert_eq!(from_slurm(|_| Some("0".to_owned())), None);
        assert!(detect(1) >= 1);
        assert_eq!(detect(u32::MAX), 1);
    }
}
