//! How many tasks a worker runs at once, unless it is told.

use std::thread::available_parallelism;

use super::step::STEP_MAX;

/// Slots of this machine, job step or container: `SLURM_CPUS_PER_TASK`, else its part of `SLURM_CPUS_ON_NODE`, which a
/// step's tasks on a node share, else what affinity and cgroup quota allow, over the cores each slot is to have. At least 1.
pub(crate) fn detect(cores_per_slot: u32) -> u32 {
    let cores = from_slurm(|name| std::env::var(name).ok())
        .or_else(|| u32::try_from(available_parallelism().ok()?.get()).ok())
        .unwrap_or(1);
    (cores / cores_per_slot.max(1)).max(1)
}

fn from_slurm(variable: impl Fn(&str) -> Option<String>) -> Option<u32> {
    let number = |name: &str| variable(name)?.trim().parse::<u32>().ok();
    if let Some(cores) = number("SLURM_CPUS_PER_TASK").filter(|cores| *cores > 0) {
        return Some(cores);
    }
    let cores = number("SLURM_CPUS_ON_NODE").filter(|cores| *cores > 0)?;
    // A batch script is alone with all of them, whatever its steps will be.
    if number("SLURM_STEP_ID").is_none_or(|step| step >= STEP_MAX) {
        return Some(cores);
    }
    let tasks = variable("SLURM_STEP_TASKS_PER_NODE").or_else(|| variable("SLURM_TASKS_PER_NODE"));
    let node = number("SLURM_NODEID").unwrap_or(0);
    let tasks = tasks.and_then(|list| on_node(&list, node)).unwrap_or(1).max(1);
    // What is left over goes to the first.
    let more = u32::from(number("SLURM_LOCALID").unwrap_or(0) < cores % tasks);
    Some((cores / tasks + more).max(1))
}

/// The number of tasks on a node in a list as Slurm writes it: `4(x3),1` stands for 4, 4, 4, 1.
fn on_node(list: &str, node: u32) -> Option<u32> {
    let mut before = 0u64;
    for part in list.split(',') {
        let (tasks, times) = match part.trim().split_once("(x") {
            Some((tasks, times)) => (tasks, times.strip_suffix(')')?.parse().ok()?),
            None => (part.trim(), 1u32),
        };
        before += u64::from(times);
        if u64::from(node) < before {
            return tasks.parse().ok();
        }
    }
    None
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

    #[test]
    fn the_tasks_of_a_step_share_the_cores_of_a_node() {
        let env = |node: &'static str, local: &'static str| {
            move |name: &str| {
                let value = match name {
                    "SLURM_CPUS_ON_NODE" => "9",
                    "SLURM_STEP_ID" => "0",
                    "SLURM_STEP_TASKS_PER_NODE" => "4(x2),1",
                    "SLURM_NODEID" => node,
                    "SLURM_LOCALID" => local,
                    _ => return None,
                };
                Some(value.to_owned())
            }
        };
        let cores = [("0", "0"), ("0", "1"), ("1", "3"), ("2", "0"), ("7", "0")]
            .map(|(node, local)| from_slurm(env(node, local)).unwrap());
        assert_eq!(cores, [3, 2, 2, 9, 9]);
        let batch = |name: &str| env("0", "0")(name).filter(|_| name != "SLURM_STEP_ID");
        assert_eq!(from_slurm(batch), Some(9));
        let many = |name: &str| match name {
            "SLURM_STEP_TASKS_PER_NODE" => Some("64".to_owned()),
            _ => env("0", "9")(name),
        };
        assert_eq!(from_slurm(many), Some(1));
    }

    #[test]
    fn lists_of_tasks_are_read() {
        assert_eq!(on_node("2,1", 1), Some(1));
        assert_eq!(on_node("4(x3)", 2), Some(4));
        for (list, node) in [("4(x3)", 3), ("", 0), ("4(x", 0), ("4(xa)", 0), ("x", 0)] {
            assert_eq!(on_node(list, node), None, "{list}");
        }
    }
}
