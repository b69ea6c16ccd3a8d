//! The processes of a run, and what may be done to them.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    process::Command,
    sync::{Arc, atomic::Ordering},
};

use crate::{
    proxy::{Cuts, Proxy, Weather},
    support::{Finished, Home, Process, Signal, proc, program},
};

/// The silences that the master allows, so that a run is over soon.
const MASTER_FLAGS: [&str; 6] =
    ["--suspect-after", "600ms", "--lost-after", "2500ms", "--client-grace", "5s"];

/// A process that is up, or down, or stopped.
pub(crate) struct Seat {
    process: Option<Process>,
    is_stopped: bool,
}

impl Seat {
    fn taken(process: Process) -> Self {
        Self { process: Some(process), is_stopped: false }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.process.is_some() && !self.is_stopped
    }

    pub(crate) fn is_down(&self) -> bool {
        self.process.is_none()
    }

    /// Kills it at once.
    pub(crate) fn kill(&mut self) {
        self.is_stopped = false;
        drop(self.process.take());
    }

    pub(crate) fn stop(&mut self) {
        if let Some(process) = &self.process {
            process.signal(Signal::STOP);
            self.is_stopped = true;
        }
    }

    pub(crate) fn go_on(&mut self) {
        if let Some(process) = self.process.as_ref().filter(|_| self.is_stopped) {
            process.signal(Signal::CONT);
        }
        self.is_stopped = false;
    }
}

/// A master, workers behind proxies, and a client.
pub(crate) struct House {
    pub(crate) home: Home,
    address: String,
    pub(crate) master: Seat,
    pub(crate) workers: Vec<Seat>,
    pub(crate) client: Seat,
    /// A client of another program, which comes and goes.
    visitor: Option<Process>,
    visits: usize,
    ports: Vec<u16>,
    pub(crate) cuts: Vec<Arc<Cuts>>,
    // Held as long as the proxies are to run.
    _network: tokio::runtime::Runtime,
}

impl House {
    pub(crate) fn start(workers: usize, weather: Weather) -> Self {
        let home = Home::new();
        let address = free_address();
        let network = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime can be made");
        let master: SocketAddr = address.parse().expect("an address that was just given");
        let proxies: Vec<Proxy> =
            (0..workers).map(|_| network.block_on(Proxy::start(master, weather))).collect();
        let mut house = Self {
            home,
            address: address.clone(),
            master: Seat { process: None, is_stopped: false },
            workers: Vec::new(),
            client: Seat { process: None, is_stopped: false },
            visitor: None,
            visits: 0,
            ports: proxies.iter().map(|proxy| proxy.port).collect(),
            cuts: proxies.into_iter().map(|proxy| proxy.cuts).collect(),
            _network: network,
        };
        house.start_master();
        house.master.process.as_ref().expect("just started").said("join:");
        house.workers = (0..workers).map(|worker| house.new_worker(worker)).collect();
        house.start_client();
        house
    }

    pub(crate) fn start_master(&mut self) {
        let flags = [&["--role", "master", "--listen", &self.address][..], &MASTER_FLAGS].concat();
        self.master = Seat::taken(Process::start(&mut self.command("examples/it_program", &flags)));
    }

    fn new_worker(&self, worker: usize) -> Seat {
        let proxy = format!("127.0.0.1:{}", self.ports[worker]);
        let flags = ["--slots", "2", "--master", &proxy];
        // Half of them are of no program at all.
        let mut command = match worker % 2 {
            0 => self.command("examples/it_program", &[&["--role", "worker"], &flags[..]].concat()),
            _ => self.command("cw", &[&["worker"], &flags[..]].concat()),
        };
        Seat::taken(Process::start(&mut command))
    }

    pub(crate) fn start_worker(&mut self, worker: usize) {
        self.workers[worker] = self.new_worker(worker);
    }

    pub(crate) fn start_client(&mut self) {
        let dir = self.dir();
        let dir = dir.to_str().expect("a plain path");
        self.client = Seat::taken(self.home.client(&["chaos", dir]));
    }

    /// A command whose blobs are in a folder of this run's own.
    fn command(&self, name: &str, flags: &[&str]) -> Command {
        let built = program("it_program");
        let profile = built.ancestors().nth(2).expect("examples lie in a folder of the profile's");
        let mut command = self.home.command(&profile.join(name), flags);
        command.env("TMPDIR", self.home.path());
        command
    }

    /// Has a client of another program come, unless one is here. Its executable is gone once it runs, so that workers
    /// have to fetch it; each time it is another build.
    pub(crate) fn invite(&mut self) -> bool {
        if self.visitor.is_some() {
            return false;
        }
        let (copy, build) = (self.home.path().join("visitor"), self.visits.to_string());
        // By a process of its own: what this one has open for writing, a child of another thread may hold.
        let mut copied = Command::new("sh");
        // Without what a debugger needs it is a tenth as big.
        copied.args(["-c", "{ strip -o \"$1\" \"$0\" || cp \"$0\" \"$1\"; } && echo \"$2\" >> \"$1\""]);
        copied.arg(program("it_prints")).arg(&copy).arg(build);
        assert!(copied.status().expect("there is a shell").success());
        let flags = ["--cluster", "default", "--output", "on-failure", "many"];
        let visitor = Process::start(self.home.command(&copy, &flags).env("TMPDIR", self.home.path()));
        fs::remove_file(&copy).expect("it was just made");
        self.visitor = Some(visitor);
        true
    }

    /// Sees off a visitor that is done; waits for it if that is wanted. Gives how many there were.
    pub(crate) fn see_off(&mut self, wait: bool) -> usize {
        if let Some(mut visitor) = self.visitor.take() {
            if !wait && visitor.is_running() {
                self.visitor = Some(visitor);
                return self.visits;
            }
            let finished = visitor.finish_within(std::time::Duration::from_secs(120));
            // Three workers may have died under one task.
            let is_well = finished.status.success() || finished.stderr.contains("lost");
            assert!(is_well, "a visitor: {finished:?}");
            self.visits += 1;
        }
        self.visits
    }

    /// Where the client keeps what it has.
    pub(crate) fn dir(&self) -> PathBuf {
        let dir = self.home.path().join("run");
        fs::create_dir_all(&dir).expect("the home is there");
        dir
    }

    /// Kills one of the executors, if there is any.
    pub(crate) fn kill_executor(&self) -> bool {
        let all = proc::executors(self.home.path());
        let victim = fastrand::choice(&all).copied();
        proc::kill_all(&victim.into_iter().collect::<Vec<_>>());
        victim.is_some()
    }

    /// Whatever was done to processes and network is over.
    pub(crate) fn heal(&mut self) {
        for cuts in &self.cuts {
            cuts.to_master.store(false, Ordering::Relaxed);
            cuts.to_worker.store(false, Ordering::Relaxed);
        }
        self.master.go_on();
        self.client.go_on();
        self.workers.iter_mut().for_each(Seat::go_on);
        if self.master.is_down() {
            self.start_master();
        }
        for worker in 0..self.workers.len() {
            if self.workers[worker].is_down() {
                self.start_worker(worker);
            }
        }
        if self.client.is_down() {
            self.start_client();
        }
    }

    /// Waits for the client's own end.
    pub(crate) fn finish(&mut self) -> Finished {
        let client = self.client.process.take().expect("it was started");
        client.finish_within(std::time::Duration::from_secs(120))
    }

    /// Fails where a process that nobody killed has ended.
    pub(crate) fn assert_alive(&mut self) {
        let others = self.workers.iter_mut().chain([&mut self.client]);
        for process in others.chain([&mut self.master]).filter_map(|seat| seat.process.as_mut()) {
            assert!(process.is_running(), "a process has ended by itself");
        }
    }
}

/// A port that was free a moment ago: the master is to come back on it.
fn free_address() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("there is a free port");
    socket.local_addr().expect("it is bound").to_string()
}

/// The programs of these tests are examples.
pub(crate) fn is_built() -> bool {
    program("it_program").exists() && program("it_prints").exists()
}
