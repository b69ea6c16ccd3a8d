//! The keeper against an engine that does what it likes.

use super::*;
use crate::sim::rng::Rng;

/// An engine, a master and their users, who do what they like for a while.
struct Wild {
    rng: Rng,
    keeper: Keeper,
    wish: Wish,
    now: Time,
    jobs: BTreeMap<u32, WildJob>,
    next: u32,
    /// Seconds of work of each task.
    each: u64,
    work: u64,
    is_known: bool,
    weather: Weather,
    looked: Option<Time>,
}

#[derive(Debug)]
struct WildJob {
    begins: Time,
    /// When it joins, if it does; and when it ends by itself.
    joins: Option<Time>,
    ends: Time,
    how: End,
    told: bool,
    /// Until when the master does not have it, and whether that was ever so.
    lost_until: Time,
    was_lost: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    is_down: bool,
    refuses: bool,
    loses_answers: bool,
    forgets: bool,
    fails: bool,
    never_joins: bool,
    is_full: bool,
    loses: bool,
}

impl WildJob {
    fn is_alive(&self, now: Time) -> bool {
        now < self.ends
    }

    fn is_here(&self, now: Time) -> bool {
        self.is_alive(now) && self.joins.is_some_and(|at| at <= now) && self.lost_until <= now
    }

    fn state(&self, now: Time) -> State {
        if !self.is_alive(now) {
            State::Ended(self.how.clone())
        } else if now < self.begins {
            pends("Priority")
        } else {
            runs()
        }
    }
}

impl Wild {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let max = rng.between(1, 40) as u32;
        let min = if rng.permille(300) { rng.between(0, u64::from(max)) as u32 } else { 0 };
        let slots = rng.pick(&[1, 1, 4]);
        let idle = rng.pick(&[Some(SECOND * 30), Some(MINUTE * 5), None]);
        let wish = Wish { min, max, slots, grows: true, waits: rng.permille(100), idle };
        let each = rng.spread(1, 5_000);
        Self {
            keeper: Keeper::new("Slurm", wish),
            wish,
            now: Time::ZERO,
            jobs: BTreeMap::new(),
            next: 0,
            each,
            work: 0,
            is_known: false,
            weather: Weather::default(),
            looked: None,
            rng,
        }
    }

    fn alive(&self) -> u32 {
        count(self.jobs.values().filter(|job| job.is_alive(self.now)).count())
    }

    fn here(&self) -> Vec<Here> {
        let here = self.jobs.iter().filter(|(_, job)| job.is_here(self.now));
        let proven = |job: &WildJob| job.joins.is_some_and(|at| at + SECOND * 30 <= self.now);
        here.map(|(name, job)| Here {
            job: Some(name.to_string()),
            slots: self.wish.slots,
            is_proven: self.work > 0 && proven(job),
        })
        .collect()
    }

    fn backlog(&self) -> Backlog {
        let tasks = self.work.div_ceil(self.each);
        if self.is_known { learned(tasks, self.work) } else { queued(tasks) }
    }

    fn change_weather(&mut self) {
        let rng = &mut self.rng;
        let mut some = || rng.permille(150);
        self.weather = Weather {
            is_down: some(),
            refuses: some(),
            loses_answers: some(),
            forgets: some(),
            fails: some(),
            never_joins: some(),
            is_full: some(),
            loses: some(),
        };
        if self.rng.permille(400) {
            self.work += self.each * self.rng.spread(1, 300);
        }
    }

    /// The master loses some, for a while; or they are dead, as the engine sees much later.
    fn lose(&mut self) {
        let now = self.now;
        for job in self.jobs.values_mut() {
            if job.is_here(now) && self.rng.permille(5) {
                job.was_lost = true;
                job.lost_until = now + SECOND * self.rng.between(5, 900) as u32;
                if self.rng.permille(500) {
                    (job.ends, job.how) = (job.lost_until, End::Failed("NODE_FAIL".to_owned()));
                }
            }
        }
    }

    /// Those that have not begun.
    fn withdraw(&mut self, jobs: Vec<String>) -> Result<(), String> {
        let left = self.keeper.jobs.values().filter(|job| job.is_alive() && !job.is_withdrawn).count();
        assert!(!jobs.is_empty() && count(left) >= self.wish.min.min(self.wish.max), "too few are left");
        if self.weather.refuses {
            return Err("it is not allowed".to_owned());
        }
        for name in jobs {
            let job = self.jobs.get_mut(&name.parse().expect("all have numbers"));
            if let Some(job) = job.filter(|job| self.now < job.begins) {
                (job.ends, job.how) = (self.now, End::ByHand);
            }
        }
        if self.weather.loses_answers { Err("it did not answer".to_owned()) } else { Ok(()) }
    }

    fn tick(&mut self) {
        self.now = self.now + TICK;
        if self.weather.loses {
            self.lose();
        }
        let here = self.here();
        let is_empty = here.is_empty();
        let slots = here.iter().map(|it| u64::from(it.slots)).sum::<u64>();
        let done = self.work.min(slots.min(self.work.div_ceil(self.each)) * TICK.as_secs());
        self.work -= done;
        self.is_known |= done > 0 && self.each < 100;
        // Who has nothing to do ends.
        if self.work == 0 {
            let now = self.now;
            let idle = self.jobs.values_mut().filter(|job| job.joins.is_some_and(|at| at + MINUTE <= now));
            for job in idle.filter(|job| job.ends > now) {
                (job.ends, job.how) = (now, End::Planned("COMPLETED".to_owned()));
            }
        }
        let event = Event::Master { backlog: self.backlog(), workers: here };
        self.keeper.handle(self.now, event);
        while let Some(action) = self.keeper.poll_action() {
            let answer = match action {
                Action::Log(_) | Action::Note(_) => continue,
                Action::Look => Event::Looked(self.look()),
                Action::Start { workers, stay } => Event::Started(self.start(workers, stay)),
                Action::Withdraw { jobs } => Event::Withdrawn(self.withdraw(jobs)),
            };
            self.keeper.handle(self.now, answer);
        }
        let outlook = self.keeper.outlook();
        assert!(outlook.is_some() || !is_empty, "nothing is said where there is none");
        let is_lost = |job: &&WildJob| job.was_lost || job.joins.is_none() && job.begins <= self.now;
        let lost = self.jobs.values().filter(|job| job.is_alive(self.now)).filter(is_lost).count();
        assert!(self.alive() <= self.wish.max + count(lost), "there are more than there may be");
        assert!(self.alive() <= 2 * self.wish.max, "there are more than twice as many");
    }

    fn look(&mut self) -> Result<Vec<Seen>, String> {
        assert!(self.looked.is_none_or(|at| at + SOON <= self.now), "it was asked just now");
        self.looked = Some(self.now);
        if self.weather.is_down {
            return Err("it is down".to_owned());
        }
        if self.weather.forgets && !self.jobs.is_empty() {
            let lost = *self.rng.pick(&self.jobs.keys().collect::<Vec<_>>());
            self.jobs.remove(&lost);
        }
        let now = self.now;
        let seen = self
            .jobs
            .iter()
            .map(|(name, job)| Seen { job: name.to_string(), state: job.state(now) })
            .collect();
        // As Slurm does, after a while.
        self.jobs.values_mut().filter(|job| !job.is_alive(now)).for_each(|job| job.told = true);
        self.jobs.retain(|_, job| !job.told || job.ends + MINUTE * 5 > now);
        Ok(seen)
    }

    fn start(&mut self, workers: u32, stay: bool) -> Result<Vec<String>, String> {
        let known = self.keeper.alive();
        assert!(workers > 0 && workers <= if known == 0 { FIRST } else { known }, "{workers} beside {known}");
        if !stay {
            let coming = self.keeper.jobs.values().filter(|job| job.is_coming()).count();
            let here = self.here().len();
            let slots = (count(here + coming) + workers) * self.wish.slots;
            assert!(slots < wanted(&self.backlog()) + self.wish.slots, "more than there is to do");
        }
        if self.weather.refuses {
            return Err("there is no such partition".to_owned());
        }
        let names: Vec<u32> = (self.next..self.next + workers).collect();
        self.next += workers;
        for name in &names {
            let job = self.draw_job();
            self.jobs.insert(*name, job);
        }
        let Weather { loses_answers, .. } = self.weather;
        if loses_answers {
            return Err("it did not answer".to_owned());
        }
        Ok(names.iter().map(u32::to_string).collect())
    }

    fn draw_job(&mut self) -> WildJob {
        let Weather { is_full, never_joins, fails, .. } = self.weather;
        let waits = if is_full { MINUTE * self.rng.between(1, 60) as u32 } else { SECOND };
        let begins = self.now + waits;
        let bad = End::Failed("exit code 1".to_owned());
        let (joins, lives, how) = if fails {
            (None, SECOND * 3, bad)
        } else if never_joins {
            (None, MINUTE * 10, bad)
        } else {
            let how = if self.rng.permille(200) { End::ByHand } else { End::Planned("TIMEOUT".to_owned()) };
            (Some(begins + SECOND * 3), MINUTE * self.rng.between(3, 600) as u32, how)
        };
        let (lost_until, was_lost) = (Time::ZERO, false);
        WildJob { begins, joins, ends: begins + lives, how, told: false, lost_until, was_lost }
    }

    /// Whatever has happened: once all is well, all work gets done, and in the end nobody asks for anything.
    fn run(mut self) {
        for _ in 0..self.rng.between(3, 20) {
            self.change_weather();
            for _ in 0..self.rng.between(10, 600) {
                self.tick();
            }
        }
        self.weather = Weather::default();
        // The longest that pends or runs in vain, and the longest pause.
        let patience = self.now + MINUTE * (60 + 10 + 30 + 10);
        while self.now < patience {
            self.tick();
        }
        self.work += self.each * 10;
        let slots = u64::from(self.wish.max * self.wish.slots).min(10);
        let most = self.now + SECOND * (2 * self.work.div_ceil(slots) + 4 * self.each) as u32 + MINUTE * 30;
        while self.work > 0 {
            self.tick();
            assert!(self.now < most, "there is work, and nobody does it: {:?}", self.keeper);
        }
        (0..600).for_each(|_| self.tick());
        if self.wish.min == 0 {
            let looked = self.looked;
            (0..600).for_each(|_| self.tick());
            assert_eq!(self.looked, looked, "there is nothing to ask about");
            assert_eq!(self.alive(), 0);
        }
    }
}

#[test]
fn whatever_happens_there_are_never_too_many_and_never_none_for_ever() {
    for seed in 0..300 {
        let run = std::panic::catch_unwind(|| Wild::new(seed).run());
        assert!(run.is_ok(), "seed {seed}");
    }
}
