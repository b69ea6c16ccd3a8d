//! Folders, and clusters in them.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, Weak},
};

use super::{Process, proc::MARK};

/// A folder for a cluster's files, and the programs that are started with it.
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        let home = Self(tempfile::tempdir().expect("there is a place for temporary folders"));
        std::fs::create_dir(home.temporary()).expect("it was just made");
        home
    }

    /// The folder for temporary files of all that is started here.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.path().join("tmp")
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A file of the default cluster.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join("default").join(name)
    }

    /// A command with this home and none of the caller's settings.
    pub(crate) fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CW_") || name.starts_with("SLURM_") || name.starts_with("RUST_") {
                command.env_remove(&*name);
            }
        }
        command.env("CW_HOME", self.path()).env("TMPDIR", self.temporary()).env(MARK, self.path());
        command.args(arguments);
        command
    }

    /// Starts `it_program` with flags of cw's.
    pub(crate) fn start(&self, flags: &[&str]) -> Process {
        Process::start(&mut self.command(&program("it_program"), flags))
    }

    /// Starts a scenario, after the flags. It has a folder of its own for its files.
    pub(crate) fn program(&self, flags: &[&str], scenario: &[&str]) -> Process {
        let files = tempfile::tempdir_in(self.path()).expect("the home is there");
        let mut command = self.command(&program("it_program"), flags);
        // It goes with the home.
        Process::start(command.arg("--dir").arg(files.keep()).args(scenario))
    }

    /// Starts a scenario as a client of the default cluster.
    pub(crate) fn client(&self, scenario: &[&str]) -> Process {
        self.program(&["--cluster", "default"], scenario)
    }

    /// Starts a master on a free port, and waits until it can be joined.
    pub(crate) fn master(&self) -> Process {
        self.master_at("127.0.0.1:0")
    }

    pub(crate) fn master_at(&self, address: &str) -> Process {
        self.master_with(&["--listen", address])
    }

    /// Starts a master with these flags, and waits until it can be joined.
    pub(crate) fn master_with(&self, flags: &[&str]) -> Process {
        let master = self.start(&[&["--role", "master"], flags].concat());
        master.said("join:");
        master
    }

    /// Starts a worker.
    pub(crate) fn worker(&self, slots: u32) -> Process {
        self.start(&["--role", "worker", "--slots", &slots.to_string()])
    }
}

/// A master and workers.
pub(crate) struct Cluster {
    // Dropped in this order: workers that lose their master first would only look for it.
    pub(crate) workers: Vec<Process>,
    pub(crate) master: Process,
    pub(crate) home: Home,
}

impl Cluster {
    /// A cluster whose workers, of two slots each, have joined.
    pub(crate) fn start(workers: usize) -> Self {
        Self::start_with(&[], workers)
    }

    /// A cluster whose master has these flags beside its address, and whose workers have joined.
    pub(crate) fn start_with(flags: &[&str], workers: usize) -> Self {
        let home = Home::new();
        let master = home.master_with(&[&["--listen", "127.0.0.1:0"], flags].concat());
        let workers: Vec<_> = (0..workers).map(|_| home.worker(2)).collect();
        workers.iter().for_each(|worker| drop(worker.complained("joined the master")));
        Self { workers, master, home }
    }

    /// Adds a worker of two slots with these flags, and waits until it has joined.
    pub(crate) fn add_worker(&mut self, flags: &[&str]) {
        let worker = self.home.start(&[&["--role", "worker", "--slots", "2"], flags].concat());
        worker.complained("joined the master");
        self.workers.push(worker);
    }

    pub(crate) fn client(&self, scenario: &[&str]) -> Process {
        self.home.client(scenario)
    }

    /// Makes sure that all its processes run, and that it serves.
    #[track_caller]
    pub(crate) fn assert_well(&mut self) {
        assert!(self.master.is_running(), "the master runs");
        assert!(self.workers.iter_mut().all(Process::is_running), "the workers run");
        self.client(&["spawn"]).finish().well();
    }
}

/// A cluster of two workers for tests that do it no harm. Lives as long as one of them holds it.
pub(crate) fn shared() -> Arc<Cluster> {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    shared.upgrade().unwrap_or_else(|| {
        let cluster = Arc::new(Cluster::start(2));
        *shared = Arc::downgrade(&cluster);
        cluster
    })
}

/// The path of a program of these tests.
pub(crate) fn program(name: &str) -> PathBuf {
    let own = env::current_exe().expect("a test knows its executable");
    let profile = own.ancestors().nth(2).expect("tests lie in target/PROFILE/deps");
    profile.join("examples").join(name)
}
