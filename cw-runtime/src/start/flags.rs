//! The flags of a cluster: what was typed.

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use clap::{Args, ValueEnum};
use cw_core::wire::Programs;

use crate::{
    client::shown::Shows,
    exit::{self, Trouble},
    flag::flag,
    worker::walltime,
};

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

/// Which of what tasks print is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFlag {
    /// All, as it comes
    Live,
    /// That of tasks that fail
    OnFailure,
    /// Nothing
    None,
}

impl From<OutputFlag> for Shows {
    fn from(flag: OutputFlag) -> Self {
        match flag {
            OutputFlag::Live => Self::Live,
            OutputFlag::OnFailure => Self::OnFailure,
            OutputFlag::None => Self::None,
        }
    }
}

/// Which programs a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgramsFlag {
    /// Its own build
    Own,
    /// And those at their client's path
    Shared,
    /// All
    Any,
}

impl From<ProgramsFlag> for Programs {
    fn from(flag: ProgramsFlag) -> Self {
        match flag {
            ProgramsFlag::Own => Self::Own,
            ProgramsFlag::Shared => Self::Shared,
            ProgramsFlag::Any => Self::Any,
        }
    }
}

/// Whether a worker without tasks ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    Never,
    After(Duration),
}

/// How long a worker under Slurm may be without tasks if nobody says anything else: others wait for its allocation.
const IDLE_UNDER_SLURM: Duration = Duration::from_secs(5 * 60);

impl Idle {
    /// What holds for a worker: what it was told, else what its surroundings suggest.
    pub(crate) fn resolve(told: Option<Self>) -> Option<Duration> {
        let is_under_slurm = || std::env::var_os("SLURM_JOB_ID").is_some();
        match told {
            Some(Self::After(time)) => Some(time),
            None if is_under_slurm() => Some(IDLE_UNDER_SLURM),
            Some(Self::Never) | None => None,
        }
    }
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

    /// Interface, by its name or an address of it, under whose addresses the master is announced, if others cannot reach it
    /// under those it finds (master)
    #[arg(id = "cw::interface", long = "interface", env = "CW_INTERFACE", value_name = "NAME|ADDR")]
    pub(crate) interface: Option<String>,

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

    /// How long a worker may be silent until it is sent no more tasks, and what may run twice runs elsewhere (master)
    #[arg(id = "cw::suspect_after", long = "suspect-after", env = "CW_SUSPECT_AFTER", value_name = "TIME", value_parser = time, default_value = "2s")]
    pub(crate) suspect_after: Duration,

    /// How long a worker may be silent until it is given up and all its tasks run elsewhere (master)
    #[arg(id = "cw::lost_after", long = "lost-after", env = "CW_LOST_AFTER", value_name = "TIME", value_parser = time, default_value = "10s")]
    pub(crate) lost_after: Duration,

    /// How long the tasks of a client whose connection broke are kept for it (master)
    #[arg(id = "cw::client_grace", long = "client-grace", env = "CW_CLIENT_GRACE", value_name = "TIME", value_parser = time, default_value = "30s")]
    pub(crate) client_grace: Duration,

    /// Take the cluster over from a master that runs already, or whose machine died with the lock (master)
    #[arg(id = "cw::takeover", long = "takeover", env = "CW_TAKEOVER", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    pub(crate) takeover: bool,

    /// How long a worker that lost its master goes on with its tasks and looks for the next one, until it ends
    #[arg(id = "cw::orphan_time", long = "orphan-time", env = "CW_ORPHAN_TIME", value_name = "TIME", value_parser = time, default_value = "10m")]
    pub(crate) orphan_time: Duration,

    /// How long a worker may be without tasks until it ends, or `never`. Default: 5m under Slurm, else never
    #[arg(id = "cw::idle", long = "idle", env = "CW_IDLE", value_name = "TIME", value_parser = idle)]
    pub(crate) idle: Option<Idle>,

    /// Have all tasks fail once none has moved for so long (client). Default: never
    #[arg(id = "cw::give_up_after", long = "give-up-after", env = "CW_GIVE_UP_AFTER", value_name = "TIME", value_parser = time)]
    pub(crate) give_up_after: Option<Duration>,

    /// This worker's allocation ends after so long: no task begins that would not be done by then. Default: under Slurm
    /// what Slurm says, else never
    #[arg(id = "cw::walltime", long = "walltime", env = "CW_WALLTIME", value_name = "TIME", value_parser = walltime)]
    pub(crate) walltime: Option<Duration>,

    /// Which programs to run: `own` build only, those at a client's path on a `shared` file system, or `any`, which are
    /// fetched (worker). Whoever holds the key of a client runs code as you
    #[arg(
        id = "cw::programs",
        long = "programs",
        env = "CW_PROGRAMS",
        value_enum,
        value_name = "own|shared|any",
        default_value = "any",
        hide_possible_values = true
    )]
    pub(crate) programs: ProgramsFlag,

    /// What fetched programs may take up on a node's disk, in $TMPDIR/cw-UID (worker, master)
    #[arg(id = "cw::cache_size", long = "cache-size", env = "CW_CACHE_SIZE", value_name = "SIZE", value_parser = size, default_value = "10GiB")]
    pub(crate) cache_size: u64,

    /// Variable of this program's environment that its tasks are to have too; may be given several times (client)
    #[arg(id = "cw::env", long = "env", env = "CW_ENV", value_name = "NAME", value_delimiter = ',', value_parser = variable)]
    pub(crate) env: Vec<String>,

    /// Which of what tasks print is shown, each line with its task's name: all, `live`; that of tasks that fail,
    /// `on-failure`; or `none`
    #[arg(
        id = "cw::output",
        long = "output",
        env = "CW_OUTPUT",
        value_enum,
        value_name = "live|on-failure|none",
        default_value = "live",
        hide_possible_values = true
    )]
    pub(crate) output: OutputFlag,

    /// Compute all anew that stores have from runs before (client)
    #[arg(id = "cw::fresh", long = "fresh", env = "CW_FRESH", value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_default_value = true, hide_possible_values = true)]
    pub(crate) fresh: bool,

    /// Folder for what tasks leave for their next attempts, on the file system that the workers share (client). Default:
    /// `.cw-checkpoints` in the working directory
    #[arg(id = "cw::checkpoints", long = "checkpoints", env = "CW_CHECKPOINTS", value_name = "DIR")]
    pub(crate) checkpoints: Option<PathBuf>,
}

/// The least time of silence that means something: below it any busy machine is silent now and then.
const SILENCE_MIN: Duration = Duration::from_millis(100);

impl ClusterFlags {
    /// Checks what one flag alone cannot tell.
    ///
    /// # Errors
    /// Times of silence that are too short, or in the wrong order.
    pub(super) fn check(&self) -> Result<(), Trouble> {
        let (suspect, lost) = (flag("suspect-after"), flag("lost-after"));
        let (suspect_after, lost_after) = (self.suspect_after, self.lost_after);
        let line = if let Some((flag, time)) =
            [(&suspect, suspect_after), (&lost, lost_after)].into_iter().find(|(_, time)| *time < SILENCE_MIN)
        {
            format!("{flag} is {time:?}; it has to be {SILENCE_MIN:?} at least")
        } else if suspect_after >= lost_after {
            format!("{suspect} ({suspect_after:?}) has to be shorter than {lost} ({lost_after:?})")
        } else {
            return Ok(());
        };
        Err(Trouble::new(exit::USAGE, line))
    }
}

/// Reads a time with its unit.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write a time with its unit, like 30s, 5m or 1h".to_owned())
}

/// Reads a time with its unit, or that there is none.
pub(crate) fn idle(text: &str) -> Result<Idle, String> {
    match text {
        "never" => Ok(Idle::Never),
        text => time(text).map(Idle::After).map_err(|why| format!("{why}, or `never`")),
    }
}

/// Reads a time with its unit, or as Slurm writes it; behind it may stand, as scripts of ours write it, when that was so.
fn walltime(text: &str) -> Result<Duration, String> {
    let wrong = "write a time with its unit, like 30m or 2h, or as Slurm does, like 2:00:00";
    let (text, moment) = text.split_once('@').map_or((text, None), |(text, moment)| (text, Some(moment)));
    let time = walltime::parse(text).or_else(|| time(text).ok());
    let time = match (time, moment) {
        (Some(left), Some(moment)) => walltime::since(left, moment, SystemTime::now()),
        (time, _) => time,
    };
    time.filter(|time| !time.is_zero()).ok_or_else(|| wrong.to_owned())
}

/// Reads a number of bytes with its unit.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || "write a size with its unit, like 500MiB or 20GiB".to_owned();
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "kib" | "k" => 10,
        "mib" | "m" => 20,
        "gib" | "g" => 30,
        "tib" | "t" => 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

/// Checks that a variable is there to be passed on.
fn variable(name: &str) -> Result<String, String> {
    if name.is_empty() || name.contains('=') {
        return Err("write the name of a variable; its value is the one it has here".to_owned());
    }
    match std::env::var_os(name) {
        Some(_) => Ok(name.to_owned()),
        None => Err("there is no such variable here".to_owned()),
    }
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

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    fn check(words: &[&str]) -> Result<(), String> {
        let command = ClusterFlags::augment_args(Command::new("")).no_binary_name(true);
        let matches = command.try_get_matches_from(words).expect("they can be read");
        let flags = ClusterFlags::from_arg_matches(&matches).expect("they can be read");
        flags.check().map_err(|trouble| trouble.to_string())
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("500MiB"), Ok(500 << 20));
        assert_eq!(size("2 g"), Ok(2 << 30));
        for wrong in ["500", "MiB", "0GiB", "1XB", "99999999999TiB", ""] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_walltime_may_say_when_it_was_so_long() {
        assert_eq!(
            [walltime("2:00"), walltime("2m")],
            [Ok(Duration::from_secs(120)), Ok(Duration::from_secs(120))]
        );
        assert_eq!(walltime("2:00@1000000000"), Ok(Duration::from_secs(1)), "it has passed");
        assert_eq!(walltime("2:00@9999999999"), Ok(Duration::from_secs(120)));
        for wrong in ["2:00@", "2:00@soon", "@1000000000", "0:00"] {
            assert!(walltime(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_worker_may_be_idle_for_a_time_or_for_ever() {
        assert_eq!(idle("never"), Ok(Idle::Never));
        assert_eq!(idle("90s"), Ok(Idle::After(Duration::from_secs(90))));
        assert_eq!(idle("5"), Err("write a time with its unit, like 30s, 5m or 1h, or `never`".to_owned()));
        assert_eq!(Idle::resolve(Some(Idle::Never)), None);
        assert_eq!(Idle::resolve(Some(Idle::After(Duration::ZERO))), Some(Duration::ZERO));
    }

    #[test]
    fn walltimes_are_written_as_people_or_slurm_write_them() {
        let hours = |hours: u64| Ok(Duration::from_secs(hours * 3_600));
        assert_eq!(
            [walltime("2h"), walltime("2:00:00"), walltime("1-1:00:00")],
            [hours(2), hours(2), hours(25)]
        );
        assert!(["2", "0s", "0:00", "soon", ""].into_iter().all(|wrong| walltime(wrong).is_err()));
    }

    #[test]
    fn times_of_silence_have_a_least_length_and_an_order() {
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&["--suspect-after", "100ms", "--lost-after", "200ms"]), Ok(()));
        let refused = |words: &[&str]| check(words).expect_err("refused");
        assert_eq!(
            refused(&["--suspect-after", "99ms"]),
            "--suspect-after is 99ms; it has to be 100ms at least"
        );
        assert_eq!(
            refused(&["--suspect-after", "1s", "--lost-after", "0s"]),
            "--lost-after is 0ns; it has to be 100ms at least"
        );
        assert_eq!(
            refused(&["--lost-after", "2s"]),
            "--suspect-after (2s) has to be shorter than --lost-after (2s)"
        );
    }
}
