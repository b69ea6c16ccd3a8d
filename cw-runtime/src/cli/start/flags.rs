//! What `cw start` is told, and the fleet it means.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, ValueEnum};

use crate::{
    access::ClusterDir,
    cli,
    exit::{self, Trouble},
    launch::{
        fleet::{Container, Engine, Fleet, How, Local, MasterAt, Slurm, Ssh},
        slurm::check_words,
        ssh::hosts,
    },
    net::identity,
    start::{Idle, ProgramsFlag, idle, time},
};

/// How long a worker of Slurm's stays without tasks.
const IDLE: Duration = Duration::from_secs(5 * 60);

/// Start a cluster's master and workers, or more workers for it: under Slurm, on this machine, or by SSH
#[derive(Args, Clone, Debug)]
pub(crate) struct Start {
    /// The cluster, which may be new. Its files are in $CW_HOME/NAME, by default ~/.cw/NAME
    #[arg(long, env = "CW_CLUSTER", value_name = "NAME", default_value = crate::flag::DEFAULT_CLUSTER)]
    pub(super) cluster: String,

    /// As jobs of Slurm
    #[arg(long, group = "how")]
    pub(super) slurm: bool,

    /// As processes of this machine
    #[arg(long, group = "how")]
    pub(super) local: bool,

    /// On the machines this file names, one a line as ssh takes it, by SSH
    #[arg(long, group = "how", value_name = "FILE")]
    pub(super) ssh: Option<PathBuf>,

    /// So many workers
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) workers: Option<u32>,

    /// Tasks that each worker runs at once. Default: one for each of its cores, of which it has one
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(super) slots: Option<u32>,

    /// Cores each task may use
    #[arg(long, value_name = "C", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(super) cores_per_slot: u32,

    /// Time limit of each job, as Slurm reads it: 30 (minutes), 2:00:00, 1-12
    #[arg(long, value_name = "TIME")]
    pub(super) time: Option<String>,

    /// More words for sbatch, like "--partition=long --mem-per-cpu=2G"
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true, value_parser = words)]
    pub(super) slurm_args: Option<Words>,

    /// These in place of --slurm-args for the master's job
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true, value_parser = words)]
    pub(super) master_args: Option<Words>,

    /// More words for ssh, like "-p 2222"
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true, value_parser = words)]
    pub(super) ssh_args: Option<Words>,

    /// Where the master is: a process in the background here, or a job
    #[arg(long, value_enum, value_name = "here|job", default_value = "here", hide_possible_values = true)]
    pub(super) master: Place,

    /// Keep so many workers, whatever there is to do (Slurm)
    #[arg(long, value_name = "M")]
    pub(super) min: Option<u32>,

    /// Start workers again while there is work for them, up to so many (Slurm). Default: as many as are started now
    #[arg(long, value_name = "X")]
    pub(super) max: Option<u32>,

    /// How long a worker stays without tasks, or `never` to leave. Default: 5m under Slurm, else never
    #[arg(long, value_name = "TIME", value_parser = idle)]
    pub(super) idle: Option<Idle>,

    /// Which programs workers run: `own` build only, those at a client's path on a `shared` file system, or `any`
    #[arg(long, value_enum, value_name = "own|shared|any", hide_possible_values = true)]
    pub(super) programs: Option<ProgramsFlag>,

    /// Network interface, or address of it, that the master is to be called at: only where it is not found otherwise
    #[arg(long, value_name = "NAME|ADDR")]
    pub(super) interface: Option<String>,

    /// Address for the master to listen on. Default: port 5494 on all interfaces, or any free one
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) listen: Option<SocketAddr>,

    /// Run workers in containers of this image: `docker IMAGE` or `apptainer IMAGE`
    #[arg(long, num_args = 2, value_names = ["ENGINE", "IMAGE"])]
    pub(super) container: Option<Vec<String>>,

    /// More words for the engine, like "--gpus all"
    #[arg(long, value_name = "WORDS", requires = "container", allow_hyphen_values = true, value_parser = words)]
    pub(super) container_args: Option<Words>,

    /// How long to wait until all workers are connected
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "10m")]
    pub(super) wait: Duration,

    /// Show what would be run, and start nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// Where the master is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Place {
    /// A process of this machine
    Here,
    /// A job of Slurm
    Job,
}

/// Words as a shell would have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Words(pub(super) Vec<String>);

fn words(text: &str) -> Result<Words, String> {
    shlex::split(text).map(Words).ok_or_else(|| "a quote is not closed".to_owned())
}

/// What a fleet is by, as its flag.
pub(super) fn kind(how: &How) -> &'static str {
    match how {
        How::Slurm(_) => "--slurm",
        How::Local(_) => "--local",
        How::Ssh(_) => "--ssh",
    }
}

impl Start {
    /// The fleet that is to be, from the one there is, of which so many workers are there: they belong to it.
    ///
    /// # Errors
    /// Flags that do not fit together, or the fleet there is.
    pub(super) fn fleet(
        &self,
        dir: &ClusterDir,
        before: Option<&Fleet>,
        there: u32,
    ) -> Result<Fleet, Trouble> {
        let (how, count) = self.how(before)?;
        if let Some(before) = before.filter(|before| kind(&before.how) != kind(&how)) {
            return Err(usage(format!(
                "the cluster `{}` was started by `cw start {}`: end it first (`cw stop`), or name another with --cluster",
                self.cluster,
                kind(&before.how)
            )));
        }
        let min = self.min.or(before.map(|before| before.min)).unwrap_or(0);
        // A bound that was asked for is kept; otherwise it is what was started.
        let bound = before.filter(|before| before.max > before.workers).map_or(0, |before| before.max);
        let max = self.max.unwrap_or(bound.max(there + count)).max(min);
        self.check(count, min)?;
        let idle = match self.idle {
            Some(Idle::After(time)) => Some(time),
            Some(Idle::Never) => None,
            None => self.slurm.then_some(IDLE),
        };
        Ok(Fleet {
            version: 1,
            id: before.map_or_else(new_id, |before| Ok(before.id.clone()))?,
            cluster: self.cluster.clone(),
            home: absolute(dir.path().parent().expect("a cluster's folder lies in the home"))?,
            command: self.command()?,
            master: before.map_or(MasterAt::There, |before| before.master.clone()),
            how,
            workers: there + count,
            min,
            max,
            slots: self.slots.unwrap_or(1),
            idle,
            container: self.container()?,
            is_started: false,
            // Others may still wait for longer.
            wait: before.map_or(self.wait, |before| dir.still_waited(before).max(self.wait)),
        })
    }

    /// How many workers are to be started now.
    pub(super) fn count(&self, fleet: &Fleet) -> u32 {
        match &fleet.how {
            // One that has a worker is left alone.
            How::Ssh(ssh) => u32::try_from(ssh.hosts.len()).unwrap_or(u32::MAX),
            _ => self.workers.unwrap_or(0),
        }
    }

    fn how(&self, before: Option<&Fleet>) -> Result<(How, u32), Trouble> {
        let count =
            |of: &str| self.workers.ok_or_else(|| usage(format!("{of} needs the number of workers: -n 4")));
        if self.slurm {
            let list = |words: &Option<Words>| words.as_ref().map(|words| words.0.clone());
            let slurm = Slurm {
                time: self.time.clone(),
                args: list(&self.slurm_args).unwrap_or_default(),
                master_args: list(&self.master_args),
                cores: self.slots.unwrap_or(1).saturating_mul(self.cores_per_slot),
                folder: std::env::current_dir()?,
            };
            [Some(&slurm.args), slurm.master_args.as_ref()]
                .into_iter()
                .flatten()
                .try_for_each(|words| check_words(words))
                .map_err(usage)?;
            return Ok((How::Slurm(slurm), count("--slurm")?));
        }
        if self.local {
            let local = match before.map(|before| &before.how) {
                Some(How::Local(local)) => local.clone(),
                _ => Local::default(),
            };
            return Ok((How::Local(local), count("--local")?));
        }
        if let Some(file) = &self.ssh {
            let named = hosts::read(file).map_err(usage)?;
            let count = u32::try_from(named.len()).unwrap_or(u32::MAX);
            let mut ssh = match before.map(|before| &before.how) {
                Some(How::Ssh(ssh)) => ssh.clone(),
                _ => Ssh::default(),
            };
            hosts::add(&mut ssh.hosts, named);
            // Whoever does not say it again means the same.
            if let Some(words) = &self.ssh_args {
                ssh.args.clone_from(&words.0);
            }
            return Ok((How::Ssh(ssh), count));
        }
        Err(usage("where? --slurm, --local, or --ssh FILE"))
    }

    fn check(&self, count: u32, min: u32) -> Result<(), Trouble> {
        let least = count.max(min);
        if let Some(max) = self.max.filter(|max| *max < least) {
            return Err(usage(format!("--max is {max}, and there are to be {least}")));
        }
        // What clap itself requires is not missed where it would conflict with what is there.
        let of_slurm = [
            ("--time", self.time.is_some()),
            ("--slurm-args", self.slurm_args.is_some()),
            ("--master-args", self.master_args.is_some()),
            ("--master job", self.master == Place::Job),
            ("--min", self.min.is_some()),
            ("--max", self.max.is_some()),
        ];
        let of_ssh = [("--ssh-args", self.ssh_args.is_some())];
        let foreign = |flags: &[(&'static str, bool)]| {
            flags.iter().find(|(_, is_given)| *is_given).map(|(flag, _)| *flag)
        };
        match (foreign(&of_slurm), foreign(&of_ssh)) {
            (Some(flag), _) if !self.slurm => Err(usage(format!("{flag} is for --slurm only"))),
            (_, Some(flag)) if self.ssh.is_none() => Err(usage(format!("{flag} is for --ssh only"))),
            _ => Ok(()),
        }
    }

    /// The command of a worker, program first, with what it is told by us.
    fn command(&self) -> Result<Vec<String>, Trouble> {
        let mut command = own_words()?;
        command.push("worker".to_owned());
        let mut add = |flag: &str, value: String| command.extend([flag.to_owned(), value]);
        if let Some(slots) = self.slots {
            add("--slots", slots.to_string());
        }
        if self.cores_per_slot != 1 {
            add("--cores-per-slot", self.cores_per_slot.to_string());
        }
        if let Some(programs) = self.programs.and_then(|programs| programs.to_possible_value()) {
            add("--programs", programs.get_name().to_owned());
        }
        Ok(command)
    }

    /// The command of a master, program first.
    pub(super) fn master_words(&self) -> Result<Vec<String>, Trouble> {
        let mut words = own_words()?;
        words.extend(["master", "--cluster", &self.cluster].map(str::to_owned));
        if let Some(listen) = self.listen {
            words.extend(["--listen".to_owned(), listen.to_string()]);
        }
        if let Some(interface) = &self.interface {
            words.extend(["--interface".to_owned(), interface.clone()]);
        }
        Ok(words)
    }

    fn container(&self) -> Result<Option<Container>, Trouble> {
        let Some(words) = &self.container else { return Ok(None) };
        let engine = match words[0].as_str() {
            "docker" => Engine::Docker,
            "apptainer" | "singularity" => Engine::Apptainer,
            other => {
                return Err(usage(format!("`{other}` is no engine for --container: docker or apptainer")));
            }
        };
        let args = self.container_args.as_ref().map(|words| words.0.clone()).unwrap_or_default();
        Ok(Some(Container { engine, image: words[1].clone(), args }))
    }
}

/// This program's path, and the word behind which its verbs stand.
fn own_words() -> Result<Vec<String>, Trouble> {
    let path = std::env::current_exe()?;
    let path = path
        .to_str()
        .ok_or_else(|| usage("this program's path is no text, so it cannot be started again"))?;
    // So Linux calls what was replaced or removed meanwhile.
    if path.ends_with(" (deleted)") && !Path::new(path).exists() {
        return Err(Trouble::new(
            exit::SYSTEM,
            format!("{path}: this program has been replaced; start it anew"),
        ));
    }
    let mut words = vec![path.to_owned()];
    words.extend(cli::is_called().then(|| crate::flag::CLUSTER_VERB.to_owned()));
    Ok(words)
}

fn absolute(path: &Path) -> Result<PathBuf, Trouble> {
    let path = std::path::absolute(path)?;
    match path.to_str() {
        Some(_) => Ok(path),
        None => Err(usage(format!("{} is no text: set CW_HOME to another folder", path.display()))),
    }
}

fn new_id() -> Result<String, Trouble> {
    Ok(identity::encode_hex(&identity::random::<6>()?))
}

pub(super) fn usage(line: impl Into<String>) -> Trouble {
    Trouble::new(exit::USAGE, line)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    #[command(no_binary_name = true)]
    struct Line {
        #[command(flatten)]
        start: Start,
    }

    fn dir() -> ClusterDir {
        ClusterDir::in_home(Path::new("/home/u/.cw"), "lab").unwrap()
    }

    fn read(line: &str) -> Result<Start, String> {
        let words = shlex::split(line).expect("quotes are closed");
        Line::try_parse_from(words).map(|line| line.start).map_err(|error| error.to_string())
    }

    fn fleet_beside(line: &str, before: Option<&Fleet>, there: u32) -> Result<Fleet, String> {
        read(line)?.fleet(&dir(), before, there).map_err(|trouble| trouble.to_string())
    }

    fn fleet(line: &str) -> Result<Fleet, String> {
        fleet_beside(line, None, 0)
    }

    #[test]
    fn workers_of_slurm_have_a_core_each_and_end_when_idle() {
        let fleet = fleet("--cluster lab --slurm -n 64").unwrap();
        assert_eq!((fleet.workers, fleet.min, fleet.max, fleet.slots), (64, 0, 64, 1));
        assert_eq!(fleet.idle, Some(Duration::from_secs(300)));
        assert_eq!((fleet.home.as_path(), fleet.id.len()), (Path::new("/home/u/.cw"), 12));
        assert_eq!(fleet.command[1..], ["worker"]);
        let How::Slurm(slurm) = fleet.how else { panic!("{:?}", fleet.how) };
        assert_eq!((slurm.cores, slurm.args.len(), slurm.master_args), (1, 0, None));
    }

    #[test]
    fn who_waits_longest_is_waited_for() {
        let before = fleet("--cluster lab --slurm -n 2 --wait 20m").unwrap();
        let more =
            |wait| fleet_beside(&format!("--cluster lab --slurm -n 1 --wait {wait}"), Some(&before), 2);
        let waits = ["1s", "1h"].map(|wait| more(wait).unwrap().wait.as_secs());
        assert_eq!((before.wait.as_secs(), waits), (1_200, [1_200, 3_600]));
    }

    #[test]
    fn what_workers_are_told_is_in_their_command() {
        let line = "--cluster lab --slurm -n 2 --slots 4 --cores-per-slot 2 --programs own --idle never";
        let fleet = fleet(line).unwrap();
        assert_eq!(fleet.command[1..].join(" "), "worker --slots 4 --cores-per-slot 2 --programs own");
        let How::Slurm(slurm) = fleet.how else { panic!("{:?}", fleet.how) };
        assert_eq!((slurm.cores, fleet.slots, fleet.idle), (8, 4, None));
    }

    #[test]
    fn words_for_sbatch_are_split_as_a_shell_does() {
        let fleet =
            fleet("--cluster lab --slurm -n 1 --slurm-args '-p long --exclude=\"a b\"' --master-args=-Ame")
                .unwrap();
        let How::Slurm(slurm) = fleet.how else { panic!("{:?}", fleet.how) };
        assert_eq!(slurm.args, ["-p", "long", "--exclude=a b"]);
        assert_eq!(slurm.master_args, Some(vec!["-Ame".to_owned()]));
        let open = read("--slurm -n 1 --slurm-args \"-p 'x\"").unwrap_err();
        assert!(open.contains("a quote is not closed"), "{open}");
    }

    #[test]
    fn workers_are_added_to_those_there_are() {
        let first = fleet("--cluster lab --slurm -n 4 --min 1 --max 9").unwrap();
        let more = fleet_beside("--cluster lab --slurm -n 3", Some(&first), 4).unwrap();
        assert_eq!((more.workers, more.min, more.max), (7, 1, 9));
        assert_eq!(more.id, first.id);
        let most = fleet_beside("--cluster lab --slurm -n 8", Some(&first), 4).unwrap();
        assert_eq!(most.max, 12, "as many as there may be now");
        let other = fleet_beside("--cluster lab --local -n 1", Some(&first), 4).unwrap_err();
        assert!(
            other.starts_with("the cluster `lab` was started by `cw start --slurm`: end it first"),
            "{other}"
        );
    }

    #[test]
    fn those_that_have_ended_count_no_more() {
        let first = fleet("--cluster lab --slurm -n 4").unwrap();
        let again = fleet_beside("--cluster lab --slurm -n 4", Some(&first), 0).unwrap();
        assert_eq!((again.workers, again.max), (4, 4));
        let beside = fleet_beside("--cluster lab --slurm -n 4", Some(&first), 3).unwrap();
        assert_eq!((beside.workers, beside.max), (7, 7));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, words) in [
            ("", "where? --slurm, --local, or --ssh FILE"),
            ("--slurm", "--slurm needs the number of workers: -n 4"),
            ("--local", "--local needs the number of workers: -n 4"),
            ("--local --slurm -n 1", "cannot be used with"),
            ("--local -n 1 --time 5", "--time is for --slurm only"),
            ("--local -n 1 --master job", "--master job is for --slurm only"),
            ("--slurm -n 1 --ssh-args x", "--ssh-args is for --ssh only"),
            ("--slurm -n 4 --max 3", "--max is 3, and there are to be 4"),
            ("--slurm -n 1 --min 4 --max 3", "--max is 3, and there are to be 4"),
            ("--slurm -n 0", "0 is not in 1..=100000"),
            ("--slurm -n 1 --idle 5", "with its unit"),
            ("--slurm -n 1 --slurm-args '-J x'", "`-J` cannot be given to sbatch"),
            ("--slurm -n 1 --master-args --comment=x", "`--comment=x` cannot be given to sbatch"),
            (
                "--slurm -n 1 --container podman x",
                "`podman` is no engine for --container: docker or apptainer",
            ),
            ("--slurm -n 1 --container-args x", "--container"),
            ("--ssh /no/such/file", "cannot read /no/such/file"),
        ] {
            let refused = fleet(line).expect_err(line);
            assert!(refused.contains(words), "{line}: {refused}");
        }
    }
}
