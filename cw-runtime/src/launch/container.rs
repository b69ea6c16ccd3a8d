//! Workers in a container: the command line around theirs.
//!
//! The container sees the cluster's folder, the program's and the one it was started in under their own paths, so that all
//! words mean in it what they mean outside; and it is on the host's network, as the worker calls its master from there, and
//! among the host's processes, as each would be the sixth of its container: workers are called by their host and number.

use std::path::{Path, PathBuf};

use super::{
    Refused,
    fleet::{Container, Engine, Fleet},
};

/// What a worker and its tasks may want to know of their job. Docker passes on those there are.
const PASSED_ON: [&str; 18] = [
    "CW_LOG",
    "CW_WALLTIME",
    "CUDA_VISIBLE_DEVICES",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_CLUSTER_NAME",
    "SLURM_CPUS_ON_NODE",
    "SLURM_CPUS_PER_TASK",
    "SLURM_JOB_GPUS",
    "SLURM_JOB_ID",
    "SLURM_JOB_NAME",
    "SLURM_JOB_NODELIST",
    "SLURM_JOB_PARTITION",
    "SLURM_MEM_PER_NODE",
    "SLURM_NODEID",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_RESTART_COUNT",
];

/// The same words, program first, in the fleet's container if it has one.
pub(crate) fn around(fleet: &Fleet, working: &Path, words: Vec<String>) -> Vec<String> {
    let Some(container) = &fleet.container else { return words };
    let mounts = mounts(fleet, working);
    let mut outer = match container.engine {
        Engine::Docker => docker(fleet, &mounts, working),
        Engine::Apptainer => apptainer(&mounts, working),
    };
    outer.extend(container.args.iter().cloned());
    outer.push(container.image.clone());
    outer.extend(words);
    outer
}

/// Has the host's own user, and removes what it has left of itself. Among the host's processes the worker needs nobody who
/// passes signals on and waits for orphans: it is no first process, and there is one.
fn docker(fleet: &Fleet, mounts: &[PathBuf], working: &Path) -> Vec<String> {
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let mut words = to_words(["docker", "run", "--rm", "--network", "host", "--pid", "host"]);
    words.extend(["--user".to_owned(), format!("{user}:{group}")]);
    for mount in mounts {
        words.extend(["-v".to_owned(), format!("{0}:{0}", mount.display())]);
    }
    if has_path(working) {
        words.extend(["-w".to_owned(), working.display().to_string()]);
    }
    words.extend(["-e".to_owned(), format!("CW_HOME={}", fleet.home.display())]);
    words.extend(PASSED_ON.iter().flat_map(|name| to_words(["-e", name])));
    words
}

/// Has the host's network, user and environment by itself.
fn apptainer(mounts: &[PathBuf], working: &Path) -> Vec<String> {
    let mut words = to_words(["apptainer", "exec"]);
    for mount in mounts {
        words.extend(["--bind".to_owned(), mount.display().to_string()]);
    }
    if has_path(working) {
        words.extend(["--pwd".to_owned(), working.display().to_string()]);
    }
    words
}

/// The folders it sees, none twice and none within another.
fn mounts(fleet: &Fleet, working: &Path) -> Vec<PathBuf> {
    let program = fleet.command.first().map(Path::new).and_then(Path::parent).map(Path::to_owned);
    let mut all: Vec<PathBuf> = [Some(fleet.home.join(&fleet.cluster)), program, Some(working.to_owned())]
        .into_iter()
        .flatten()
        .filter(|path| has_path(path))
        .collect();
    all.sort_unstable();
    all.dedup_by(|inner, outer| inner.starts_with(outer));
    all
}

/// Not a program that is looked for in PATH, nor a folder that is not known, nor the root, which a container has itself.
fn has_path(path: &Path) -> bool {
    path.is_absolute() && path.parent().is_some()
}

fn to_words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// Checks that all folders can be named to the engine.
///
/// # Errors
/// One cannot: a colon or a comma separates there.
pub(crate) fn check(fleet: &Fleet, working: &Path) -> Result<(), Refused> {
    let Some(Container { engine, image, .. }) = &fleet.container else { return Ok(()) };
    let name = match engine {
        Engine::Docker => "docker",
        Engine::Apptainer => "apptainer",
    };
    if image.is_empty() || image.starts_with('-') {
        return Err(Refused(format!("`{image}` is no image of {name}'s: write --container {name} IMAGE")));
    }
    match mounts(fleet, working)
        .iter()
        .map(|path| path.display().to_string())
        .find(|path| path.contains([':', ',']))
    {
        Some(path) => Err(Refused(format!("{name} cannot mount {path}: `:` and `,` separate paths there"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::fleet::{How, MasterAt, Slurm};

    fn fleet(engine: Engine, args: &[&str]) -> Fleet {
        Fleet {
            version: 1,
            id: "3fa9".to_owned(),
            cluster: "lab".to_owned(),
            home: PathBuf::from("/home/u/.cw"),
            command: to_words(["/home/u/a b/sim", "cw", "worker"]),
            master: MasterAt::There,
            how: How::Slurm(Slurm::default()),
            workers: 1,
            min: 0,
            max: 1,
            slots: 1,
            idle: None,
            container: Some(Container {
                engine,
                image: "site/image:1".to_owned(),
                args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            }),
            is_started: true,
            wait: std::time::Duration::ZERO,
        }
    }

    fn line(fleet: &Fleet, working: &str) -> String {
        around(fleet, Path::new(working), to_words(["/home/u/a b/sim", "worker"])).join("|")
    }

    #[test]
    fn docker_has_our_folders_user_and_network() {
        let line = line(&fleet(Engine::Docker, &["--gpus", "all"]), "/data");
        let ids = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let start = format!("docker|run|--rm|--network|host|--pid|host|--user|{}:{}|", ids.0, ids.1);
        assert!(line.starts_with(&start), "{line}");
        let mounts = "-v|/data:/data|-v|/home/u/.cw/lab:/home/u/.cw/lab|-v|/home/u/a b:/home/u/a b|-w|/data|";
        assert!(line.contains(mounts), "{line}");
        assert!(line.contains("|-e|CW_HOME=/home/u/.cw|-e|"), "{line}");
        assert!(line.contains("|-e|SLURM_JOB_ID|"), "{line}");
        assert!(line.ends_with("|--gpus|all|site/image:1|/home/u/a b/sim|worker"), "{line}");
    }

    #[test]
    fn apptainer_needs_the_folders_only() {
        let line = line(&fleet(Engine::Apptainer, &["--nv"]), "/home/u/a b/runs");
        assert_eq!(
            line,
            "apptainer|exec|--bind|/home/u/.cw/lab|--bind|/home/u/a b|--pwd|/home/u/a b/runs|--nv|site/image:1|/home/u/a b/sim|worker"
        );
    }

    #[test]
    fn without_a_container_nothing_is_around() {
        let mut fleet = fleet(Engine::Docker, &[]);
        fleet.container = None;
        assert_eq!(line(&fleet, "/data"), "/home/u/a b/sim|worker");
        assert_eq!(check(&fleet, Path::new("/a:b")), Ok(()));
    }

    #[test]
    fn what_an_engine_would_misread_is_refused() {
        let fleet = fleet(Engine::Docker, &[]);
        assert_eq!(check(&fleet, Path::new("/data")), Ok(()));
        let refused = check(&fleet, Path::new("/a:b")).unwrap_err().to_string();
        assert_eq!(refused, "docker cannot mount /a:b: `:` and `,` separate paths there");
        let mut odd = fleet;
        odd.container.as_mut().expect("it has one").image = "--rm".to_owned();
        assert!(check(&odd, Path::new("/data")).is_err());
    }
}
