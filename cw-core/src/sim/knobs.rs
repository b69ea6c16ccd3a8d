//! What a seed stands for. Every kind of trouble is off in about half of the seeds, so that none hides behind another.

use std::{fmt, time::Duration};

use super::{endings::Endings, rng::Rng};
use crate::{client, master, worker};

/// All that is drawn before a run begins.
#[derive(Clone, Debug)]
pub(super) struct Knobs {
    pub(super) seed: u64,
    /// Which of the two generators draws the schedule.
    pub(super) scripted: bool,
    pub(super) clients: u32,
    pub(super) workers: u32,
    pub(super) slots: u32,
    /// Tasks of all clients together.
    pub(super) tasks: u32,
    pub(super) programs: u32,
    /// With how many different things clients' executors may be started.
    pub(super) settings: u64,
    /// How many of the workers run any program.
    pub(super) open_permille: u64,
    /// The longest delay of a message, and how often it is near that.
    pub(super) delay: Duration,
    pub(super) slow_permille: u64,
    pub(super) bundle: usize,
    /// Whether most tasks are alike and short.
    pub(super) floods: bool,
    pub(super) faults: Faults,
    pub(super) habits: Habits,
    pub(super) master: master::Config,
    pub(super) worker: worker::Config,
    pub(super) client: client::Config,
    /// How long faults go on.
    pub(super) trouble_for: Duration,
    /// How long a peer waits at most until it looks for its master again.
    pub(super) rejoins_within: Duration,
    /// Whether workers end by themselves.
    pub(super) ends: bool,
    /// Whether a peer that joins anew replaces its old connection without a word to the machine.
    pub(super) replaces_silently: bool,
}

/// What befalls processes and the network.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) breaks: bool,
    pub(super) cuts: bool,
    pub(super) one_way: bool,
    pub(super) kill_workers: bool,
    pub(super) kill_clients: bool,
    pub(super) kill_masters: bool,
    pub(super) pauses: bool,
    /// Some of those that stop keep their connection.
    pub(super) dazes: bool,
    pub(super) rates: bool,
    pub(super) leaves: bool,
    pub(super) late_workers: bool,
    pub(super) black_hole: bool,
    pub(super) rogue_worker: bool,
    pub(super) rogue_client: bool,
    /// Programs' disks are full for a while, and fail to write.
    pub(super) bad_disk: bool,
    /// Workers cannot have programs now and then, while there is trouble.
    pub(super) bad_fetch: bool,
}

/// What tasks and clients are like.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Habits {
    pub(super) crashes: bool,
    pub(super) poison: bool,
    pub(super) node_killers: bool,
    pub(super) failures: bool,
    pub(super) hangs: bool,
    pub(super) long: bool,
    pub(super) short: bool,
    /// All tasks are over at once, so that many are spoken of together.
    pub(super) tiny: bool,
    pub(super) cancels: bool,
    pub(super) priorities: bool,
    pub(super) retries: bool,
    pub(super) speculate: bool,
    pub(super) once: bool,
    pub(super) big_results: bool,
    pub(super) big_args: bool,
    pub(super) durable: bool,
    /// Tasks save where they are.
    pub(super) saves: bool,
    /// Tasks share values.
    pub(super) shares: bool,
    /// Clients are programs with a store, of which another process follows one that is killed.
    pub(super) stores: bool,
    pub(super) watch: bool,
}

impl Knobs {
    pub(super) fn draw(seed: u64, rng: &mut Rng) -> Self {
        // A share of the seeds has no trouble at all: there every run must be the only one.
        let is_calm = rng.permille(80);
        let faults = if is_calm { Faults::default() } else { Faults::draw(rng) };
        let workers = if rng.permille(100) { rng.between(7, 12) } else { rng.between(1, 6) };
        let slow = !is_calm && rng.coin();
        let delay = if slow { rng.time(ms(1), ms(5_000)) } else { rng.time(ms(1) / 20, ms(20)) };
        let most_tasks = if rng.permille(100) { 200 } else { 60 };
        let longest = if rng.permille(200) { 90_000 } else { 35_000 };
        let knobs = Self {
            seed,
            floods: (seed / 2).is_multiple_of(4),
            scripted: seed % 2 == 1,
            clients: rng.between(1, 3) as u32,
            workers: workers as u32,
            slots: rng.between(1, 4) as u32,
            tasks: rng.spread(1, most_tasks) as u32,
            programs: if rng.permille(350) { rng.between(2, 3) as u32 } else { 1 },
            settings: rng.pick(&[1, 1, 2]),
            open_permille: rng.pick(&[0, 500, 1_000, 1_000]),
            delay,
            slow_permille: rng.pick(&[0, 5, 50, 300]),
            bundle: rng.pick(&[1, 1, 4, 16]),
            faults,
            habits: Habits {
                tiny: (seed / 4).is_multiple_of(4),
                saves: (seed / 16).is_multiple_of(3),
                ..Habits::draw(rng)
            },
            master: master::Config {
                // Some send many at a time that are not as short.
                run_time: if (seed / 2).is_multiple_of(2) {
                    ms(20)
                } else {
                    master::Config::default().run_time
                },
                ..master_config(rng)
            },
            worker: worker::Config {
                // Not drawn, so that other seeds' runs are what they were.
                idle_end: ((seed / 8) % 8 == 3).then(|| ms(500 + seed % 13 * 300)),
                ..worker_config(rng)
            },
            client: client::Config {
                give_up_after: None,
                introduction: None,
                keep_for: rng.pick(&[None, Some(ms(60_000)), Some(ms(900_000))]),
            },
            trouble_for: ms(rng.between(10_000, longest)),
            rejoins_within: rng.pick(&[ms(1_000), ms(1_000), ms(8_000)]),
            ends: Endings::draw(seed).is_some(),
            replaces_silently: rng.coin(),
        };
        if knobs.floods { knobs.flooded() } else { knobs }
    }

    /// The same where tasks are sent ahead, and fed, and their results told, many at a time.
    fn flooded(mut self) -> Self {
        self.bundle *= 4;
        self.master.prefetch_time = ms(200);
        self.worker.batch_time = ms(50);
        self
    }

    /// Whether any two sides may disagree about the time by more than the difference between a lease and a suspicion.
    pub(super) fn has_odd_time(&self) -> bool {
        self.faults.rates || self.delay > ms(20)
    }

    /// Whether a beat and its acknowledgement may be under way for as long as it takes to be suspected.
    pub(super) fn is_suspiciously_slow(&self) -> bool {
        // A master's clock may run twice as fast.
        let haste = if self.faults.rates { 2 } else { 1 };
        let suspect_after = self.master.suspect_after;
        self.delay * 2 * haste + suspect_after / 4 >= suspect_after
    }

    /// Whether nothing but the tasks themselves goes wrong.
    pub(super) fn is_calm(&self) -> bool {
        self.is_calm_but_for_ends() && !self.ends
    }

    /// The same, but for workers that end.
    pub(super) fn is_calm_but_for_ends(&self) -> bool {
        let Faults {
            late_workers: _,
            rates: _,
            rogue_client: _,
            rogue_worker: _,
            bad_disk: _,
            bad_fetch: _,
            ..
        } = self.faults;
        let f = &self.faults;
        let any = f.breaks || f.cuts || f.kill_workers || f.kill_clients || f.kill_masters || f.pauses;
        !any && !f.leaves
            && !f.black_hole
            && !f.rates
            && !f.rogue_worker
            && self.delay <= ms(20)
            && !self.habits.node_killers
    }
}

impl Faults {
    fn draw(rng: &mut Rng) -> Self {
        let mut one = |permille| rng.permille(permille);
        let cuts = one(400);
        Self {
            breaks: one(500),
            cuts,
            one_way: cuts && one(500),
            kill_workers: one(500),
            kill_clients: one(250),
            kill_masters: one(350),
            pauses: one(400),
            dazes: one(500),
            rates: one(250),
            leaves: one(300),
            late_workers: one(400),
            black_hole: one(100),
            rogue_worker: one(70),
            rogue_client: one(70),
            bad_disk: one(300),
            bad_fetch: one(300),
        }
    }
}

impl Habits {
    fn draw(rng: &mut Rng) -> Self {
        let mut one = |permille| rng.permille(permille);
        Self {
            crashes: one(400),
            poison: one(300),
            node_killers: one(80),
            failures: one(500),
            hangs: one(300),
            long: one(100),
            short: one(400),
            tiny: false,
            saves: false,
            cancels: one(400),
            priorities: one(300),
            retries: one(500),
            speculate: one(300),
            once: one(300),
            big_results: one(250),
            big_args: one(150),
            durable: one(400),
            shares: one(400),
            stores: one(500),
            watch: one(150),
        }
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn master_config(rng: &mut Rng) -> master::Config {
    let mut config = master::Config { stretch_tasks: 2, ..master::Config::default() };
    if rng.coin() {
        let permille = rng.between(500, 2_000) as u32;
        let scale = |time: Duration| time * permille / 1_000;
        config.suspect_after = scale(config.suspect_after);
        config.lost_after = scale(config.lost_after);
        config.client_grace = scale(config.client_grace);
        config.recover_for = scale(config.recover_for);
    }
    if rng.permille(300) {
        config.window.tasks = rng.between(1, 32) as u32;
    }
    if rng.permille(300) {
        config.window.bytes = rng.spread(100, 1 << 20);
    }
    if rng.permille(300) {
        config.result_bytes = rng.spread(1_000, 4 << 20);
    }
    if rng.permille(300) {
        config.prefetch_bytes = rng.spread(100, 1 << 20);
    }
    config
}

fn worker_config(rng: &mut Rng) -> worker::Config {
    let mut config = worker::Config { start_early: rng.coin(), ..worker::Config::default() };
    config.quantum = ms(rng.pick(&[0, 100, 1_000]));
    config.idle_time = rng.pick(&[None, Some(ms(1_000)), Some(ms(60_000))]);
    config.spare_programs = rng.pick(&[0, 4]);
    config.share_time = if rng.coin() { ms(rng.between(100, 3_000)) } else { ms(60_000) };
    if rng.permille(300) {
        config.held_bytes = rng.spread(1_000, 4 << 20);
    }
    if rng.permille(300) {
        config.batch_tasks = rng.between(1, 8) as usize;
    }
    if rng.permille(300) {
        config.batch_time = ms(2);
    }
    config
}

impl fmt::Display for Knobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, if self.scripted { "scripted" } else { "random" })?;
        writeln!(
            f,
            "  {} clients, {} workers of up to {} slots, {} tasks, {} programs, trouble for {:?}",
            self.clients, self.workers, self.slots, self.tasks, self.programs, self.trouble_for
        )?;
        writeln!(
            f,
            "  delay up to {:?}, near that {} permille; bundles of {}; back within {:?}, replaces silently: {}",
            self.delay, self.slow_permille, self.bundle, self.rejoins_within, self.replaces_silently
        )?;
        let on = |debug: String| {
            let words = debug.split(['{', ',', '}']).filter(|word| word.contains("true"));
            words.map(|word| word.trim().trim_end_matches(": true").to_owned()).collect::<Vec<_>>().join(" ")
        };
        writeln!(f, "  faults: {}", on(format!("{:?}", self.faults)))?;
        writeln!(f, "  habits: {}", on(format!("{:?}", self.habits)))?;
        writeln!(f, "  master: {:?}", self.master)?;
        writeln!(f, "  client: {:?}", self.client)?;
        write!(f, "  worker: {:?}", self.worker)
    }
}
