//! The keeper against an engine that is played by hand.

mod lost;
mod surplus;
mod wild;

use super::*;

/// How often the keeper hears how things stand.
const TICK: Duration = Duration::from_secs(2);

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn wish(min: u32, max: u32) -> Wish {
    Wish { min, max, slots: 1, grows: true, waits: false, idle: Some(SECOND * 30) }
}

fn queued(tasks: u64) -> Backlog {
    Backlog { tasks, unlearned: tasks, ..Backlog::default() }
}

fn learned(tasks: u64, seconds: u64) -> Backlog {
    Backlog { tasks, learned: Duration::from_secs(seconds), ..Backlog::default() }
}

fn pends(why: &str) -> State {
    State::Pending { why: why.to_owned(), in_line: true }
}

fn runs() -> State {
    State::Running { on: "cw1".to_owned() }
}

/// A keeper, what it wanted and when, and the engine and the master as they are to be.
struct House {
    keeper: Keeper,
    now: Time,
    backlog: Backlog,
    here: Vec<Here>,
    /// What the engine says; or why it does not answer.
    engine: Result<Vec<Seen>, String>,
    /// Why it starts none.
    refusal: Option<String>,
    started: Vec<(Duration, u32, bool)>,
    looks: Vec<Time>,
    /// What was taken back, and when.
    withdrawn: Vec<(Time, Vec<String>)>,
    /// Whether what is taken back has begun just then.
    begins: bool,
    /// What `scancel` would do nothing about, though it is said to pend.
    is_deaf: bool,
    logs: Vec<String>,
    notes: Vec<String>,
    next: u32,
}

impl House {
    fn new(wish: Wish) -> Self {
        Self {
            keeper: Keeper::new("Slurm", wish),
            now: Time::ZERO + Duration::from_secs(1_000),
            backlog: Backlog::default(),
            here: Vec::new(),
            engine: Ok(Vec::new()),
            refusal: None,
            started: Vec::new(),
            looks: Vec::new(),
            withdrawn: Vec::new(),
            begins: false,
            is_deaf: false,
            logs: Vec::new(),
            notes: Vec::new(),
            next: 0,
        }
    }

    fn with(wish: Wish, backlog: Backlog) -> Self {
        let mut house = Self::new(wish);
        house.backlog = backlog;
        house.tick();
        house
    }

    fn tick(&mut self) {
        self.now = self.now + TICK;
        let event = Event::Master { backlog: self.backlog, workers: self.here.clone() };
        self.keeper.handle(self.now, event);
        while let Some(action) = self.keeper.poll_action() {
            let answer = match action {
                Action::Log(line) => {
                    self.logs.push(line);
                    continue;
                }
                Action::Note(line) => {
                    self.notes.push(line);
                    continue;
                }
                Action::Look => {
                    self.looks.push(self.now);
                    Event::Looked(self.engine.clone())
                }
                Action::Start { workers, stay } => Event::Started(self.start(workers, stay)),
                Action::Withdraw { jobs } => Event::Withdrawn(self.withdraw(jobs)),
            };
            self.keeper.handle(self.now, answer);
        }
    }

    fn withdraw(&mut self, jobs: Vec<String>) -> Result<(), String> {
        self.withdrawn.push((self.now, jobs.clone()));
        if let Some(why) = &self.refusal {
            return Err(why.clone());
        }
        if self.is_deaf {
            return Ok(());
        }
        let state = if self.begins { runs() } else { State::Ended(End::ByHand) };
        jobs.iter().for_each(|job| self.set(job.parse().expect("all have numbers"), state.clone()));
        Ok(())
    }

    /// Which were taken back, each time.
    fn taken_back(&self) -> Vec<Vec<&str>> {
        self.withdrawn.iter().map(|(_, jobs)| jobs.iter().map(String::as_str).collect()).collect()
    }

    fn start(&mut self, workers: u32, stay: bool) -> Result<Vec<String>, String> {
        let at = self.now.since(Time::ZERO + Duration::from_secs(1_000));
        self.started.push((at, workers, stay));
        if let Some(why) = &self.refusal {
            return Err(why.clone());
        }
        let names: Vec<String> = (self.next..self.next + workers).map(|it| it.to_string()).collect();
        self.next += workers;
        if let Ok(jobs) = &mut self.engine {
            let state = pends("Resources");
            jobs.extend(names.iter().map(|job| Seen { job: job.clone(), state: state.clone() }));
        }
        Ok(names)
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.tick();
        }
    }

    fn set(&mut self, job: u32, state: State) {
        let name = job.to_string();
        let jobs = self.engine.as_mut().expect("it answers");
        jobs.iter_mut().find(|seen| seen.job == name).expect("it was started").state = state;
    }

    /// These run, and have joined.
    fn join(&mut self, jobs: std::ops::Range<u32>) {
        for job in jobs {
            self.set(job, runs());
            self.here.push(Here { job: Some(job.to_string()), slots: 1, is_proven: false });
        }
        self.tick();
    }

    fn leave(&mut self, job: u32, end: End) {
        self.here.retain(|here| here.job != Some(job.to_string()));
        self.set(job, State::Ended(end));
    }

    fn fail(&mut self, jobs: std::ops::Range<u32>) {
        jobs.for_each(|job| self.leave(job, End::Failed("exit code 127".to_owned())));
    }

    /// How many were started, step by step.
    fn steps(&self) -> Vec<u32> {
        self.started.iter().map(|(_, workers, _)| *workers).collect()
    }

    fn says(&self, what: &str) {
        let outlook = self.keeper.outlook().unwrap_or_default();
        assert!(outlook.contains(what), "`{what}` is not in `{outlook}`");
    }
}

#[test]
fn as_many_slots_as_get_the_backlog_done_in_ten_minutes() {
    for (backlog, slots) in [
        (Backlog::default(), 0),
        (queued(7), 7),
        (learned(1_000, 600), 1),
        (learned(1_000, 601), 2),
        (learned(1_000, 60_000), 100),
        // A task runs in one slot, however long it is.
        (learned(3, 60_000), 3),
        (Backlog { tasks: 10, unlearned: 4, ..learned(0, 1_200) }, 6),
        (
            Backlog { tasks: u64::MAX, learned: Duration::MAX, unlearned: u64::MAX, running: 0, away: 0 },
            u32::MAX,
        ),
    ] {
        assert_eq!(wanted(&backlog), slots, "{backlog:?}");
    }
}

#[test]
fn few_are_started_at_once_after_a_look() {
    let house = House::with(wish(0, 100), queued(3));
    assert_eq!((house.steps(), house.looks.len()), (vec![3], 1));
    assert!(!house.started[0].2, "they end where there is nothing to do");
}

#[test]
fn the_next_step_comes_when_the_last_has_joined_and_at_most_doubles() {
    let mut house = House::with(wish(0, 30), queued(1_000));
    house.pass(MINUTE / 2);
    assert_eq!(house.steps(), [4], "those have not joined");
    house.join(0..4);
    house.pass(SECOND * 10);
    house.join(4..8);
    house.pass(SECOND * 10);
    house.join(8..16);
    house.pass(SECOND * 10);
    house.join(16..30);
    house.pass(MINUTE * 10);
    assert_eq!(house.steps(), [4, 4, 8, 14], "there are never more");
}

#[test]
fn what_pends_for_long_does_not_keep_others_from_being_asked_for() {
    let mut house = House::with(wish(0, 30), queued(1_000));
    house.pass(MINUTE * 4);
    assert_eq!(house.steps(), [4, 4, 8, 14]);
    let between = house.started.windows(2).map(|pair| pair[1].0 - pair[0].0);
    assert!(between.into_iter().all(|time| time >= STEP_PAUSE), "{:?}", house.started);
}

#[test]
fn what_runs_and_does_not_join_keeps_others_from_being_started() {
    let mut house = House::with(wish(0, 30), queued(1_000));
    (0..4).for_each(|job| house.set(job, runs()));
    house.pass(SECOND * 280);
    assert_eq!(house.steps(), [4]);
    house.says("4 workers run and have not joined yet");
    // Then they are as good as gone. Others may fare no better, so one is tried.
    house.pass(MINUTE);
    assert_eq!(house.steps(), [4, 1]);
    house.says(
        "4 workers have run for 5 min and not joined, so they are not counted on: 0 on cw1, 1 on cw1, 2",
    );
    assert!(house.logs.len() == 1 && house.logs[0].contains("4 workers have run for 5 min and not"));
    house.set(4, runs());
    house.pass(SECOND * 280);
    assert_eq!(house.steps(), [4, 1], "it has its time too");
    house.join(4..5);
    house.pass(SECOND * 10);
    assert_eq!(house.steps(), [4, 1, 1], "the first that joins is followed by the next");
    // The others come after all.
    house.join(0..4);
    assert!(!house.keeper.outlook().unwrap_or_default().contains("not joined, so"));
}

#[test]
fn one_that_does_not_join_holds_up_nobody_where_most_do() {
    let mut house = House::with(wish(0, 30), queued(4));
    house.join(0..3);
    house.set(3, runs());
    house.pass(MINUTE * 7);
    house.join(4..5);
    assert_eq!(house.steps(), [4, 1]);
    house.backlog = queued(1_000);
    house.pass(SECOND * 20);
    assert_eq!(house.steps(), [4, 1, 4]);
}

#[test]
fn so_many_as_are_kept_are_kept_when_one_runs_and_does_not_join() {
    let mut house = House::with(wish(2, 2), Backlog::default());
    house.join(0..1);
    house.set(1, runs());
    house.pass(MINUTE * 7);
    assert_eq!(house.started.last().map(|(_, workers, stay)| (*workers, *stay)), Some((1, true)));
    house.join(2..3);
    house.pass(MINUTE * 60);
    assert_eq!(house.steps(), [2, 1], "one other for it");
}

/// The keeper before this one had them.
#[test]
fn those_that_were_lost_before_the_keeper_came_are_replaced_at_last() {
    let mut house = House::new(wish(0, 4));
    let seen = (0..4).map(|job| Seen { job: job.to_string(), state: runs() });
    (house.engine, house.next) = (Ok(seen.collect()), 4);
    house.backlog = queued(100);
    house.join(0..2);
    house.pass(SECOND * 280);
    assert_eq!(house.steps(), []);
    for job in 4..6 {
        house.pass(MINUTE);
        house.join(job..job + 1);
    }
    house.pass(MINUTE * 60);
    assert_eq!(house.steps(), [1, 1]);
}

/// Where nothing is known of who is whose, all that run would seem to be silent.
#[test]
fn of_those_that_other_engines_have_started_none_is_taken_for_silent() {
    let mut house = House::new(Wish { grows: false, ..wish(0, 2) });
    house.engine = Ok(vec![Seen { job: "host".to_owned(), state: runs() }]);
    house.here = vec![Here { job: None, slots: 1, is_proven: false }];
    house.pass(MINUTE * 10);
    assert_eq!((house.keeper.outlook(), house.logs.len()), (None, 0));
}

#[test]
fn only_a_connected_worker_counts_and_any_does() {
    let mut house = House::new(wish(0, 10));
    house.here = vec![Here { job: None, slots: 6, is_proven: false }];
    house.backlog = queued(8);
    house.tick();
    assert_eq!(house.steps(), [2], "one was started by hand");
    // One has left, and the engine does not know yet.
    house.join(0..2);
    house.here.pop();
    house.tick();
    house.pass(SECOND * 12);
    assert_eq!(house.steps(), [2, 1]);
}

#[test]
fn so_many_are_kept_whatever_there_is_to_do() {
    let mut house = House::with(wish(2, 10), Backlog::default());
    assert_eq!(house.started, [(TICK, 2, true)]);
    house.join(0..2);
    house.pass(MINUTE * 5);
    house.leave(0, End::Planned("TIMEOUT".to_owned()));
    house.pass(MINUTE);
    assert_eq!(house.steps(), [2, 1]);
    house.pass(MINUTE * 60);
    assert_eq!(house.steps(), [2, 1]);
}

#[test]
fn an_engine_is_not_asked_where_there_is_nothing_to_do() {
    let mut house = House::with(wish(0, 10), Backlog::default());
    house.pass(MINUTE * 60);
    assert_eq!(house.looks.len(), 1, "once, as something may be left from before");
    house.says("they are started when there is something to do");
}

#[test]
fn it_is_asked_rarely() {
    let mut house = House::with(wish(0, 2), queued(10));
    house.pass(MINUTE * 2);
    assert!((12..=14).contains(&house.looks.len()), "{}", house.looks.len());
    house.join(0..2);
    house.looks.clear();
    house.pass(MINUTE * 60);
    assert!((58..=61).contains(&house.looks.len()), "{}", house.looks.len());
}

#[test]
fn one_that_does_not_answer_changes_nothing_and_is_asked_ever_more_rarely() {
    let mut house = House::with(wish(0, 8), queued(4));
    house.join(0..4);
    let jobs = std::mem::replace(&mut house.engine, Err("squeue did not answer within 10 s".to_owned()));
    house.pass(SECOND * 70);
    house.looks.clear();
    house.started.clear();
    house.backlog = queued(100);
    house.pass(MINUTE * 60);
    assert_eq!(house.steps(), [], "nobody knows what there is");
    let pauses: Vec<_> = house.looks.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert!(pauses[0] < MINUTE && pauses.iter().all(|pause| *pause <= MINUTE * 5), "{pauses:?}");
    assert!(house.looks.len() < 25, "{}", house.looks.len());
    house.says("Slurm does not answer: squeue did not");
    house.engine = jobs;
    house.pass(MINUTE * 5);
    assert_eq!(house.steps(), [4]);
    assert_eq!(house.logs.len(), 1, "{:?}", house.logs);
}

#[test]
fn why_they_pend_is_told_with_how_many() {
    let mut house = House::with(wish(0, 4), queued(100));
    house.says("4 workers were just submitted to Slurm");
    house.pass(SECOND * 12);
    house.says("4 workers pend in Slurm: Resources");
    house.set(0, pends("QOSMaxCpuPerUserLimit"));
    house.pass(SECOND * 12);
    house.says("4 workers pend in Slurm: 3 Resources, 1 QOSMaxCpuPerUserLimit");
    house.join(0..1);
    house.pass(SECOND * 12);
    house.says("3 workers pend in Slurm: Resources");
    house.join(1..4);
    assert_eq!(house.keeper.outlook(), None);
}

#[test]
fn failures_in_a_row_pause_for_ever_longer_and_are_told() {
    let mut house = House::with(wish(0, 100), queued(100));
    let mut pauses = Vec::new();
    house.fail(0..4);
    house.tick();
    for _ in 0..7 {
        let (before, steps) = (house.now, house.next);
        while house.next == steps {
            house.tick();
        }
        pauses.push((house.now.since(before).as_secs() + 20) / 60);
        assert_eq!(house.steps().last(), Some(&1), "one is enough to see");
        house.fail(house.next - 1..house.next);
        while house.keeper.jobs.values().any(Job::is_coming) {
            house.tick();
        }
        house.says("so none is started for");
        house.says(&format!("the last: worker {}: exit code 127", house.next - 1));
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
}

#[test]
fn two_failures_are_no_row_and_one_that_is_of_use_ends_it() {
    let mut house = House::with(wish(0, 100), queued(2));
    house.fail(0..2);
    house.pass(SECOND * 20);
    house.says("2 workers were of no use; the last: worker 1: exit code 127");
    assert_eq!(house.steps(), [2, 1], "no pause");
    house.join(2..3);
    house.pass(SECOND * 10);
    house.fail(2..3);
    house.here.clear();
    house.pass(SECOND * 30);
    assert_eq!(house.steps(), [2, 1, 1], "it joined, but was of no use");
    house.says("so none is started for 1 min");
}

#[test]
fn one_that_joins_ends_the_pause_and_one_that_is_of_use_makes_all_forgotten() {
    let mut house = House::with(wish(0, 100), queued(100));
    house.fail(0..3);
    house.pass(SECOND * 12);
    house.says("3 workers in a row were of no use");
    house.join(3..4);
    house.pass(SECOND * 4);
    assert_eq!(house.steps(), [4, 1], "one only, as long as it is not clear");
    house.join(4..5);
    assert_eq!(house.steps(), [4, 1, 1]);
    house.here[0].is_proven = true;
    house.join(5..6);
    house.pass(SECOND * 20);
    assert_eq!(house.steps()[3..], [3], "{:?}", house.started);
    assert!(house.keeper.pace.is_well());
}

#[test]
fn one_that_was_of_use_and_dies_later_is_no_failure() {
    let mut house = House::with(wish(0, 3), queued(100));
    house.join(0..3);
    house.pass(MINUTE + SECOND * 4);
    house.fail(0..3);
    house.pass(SECOND * 80);
    assert_eq!(house.steps(), [3, 3]);
}

#[test]
fn planned_ends_are_no_failures() {
    let mut house = House::with(wish(0, 1), queued(100));
    for job in 0..5 {
        house.join(job..job + 1);
        house.leave(job, End::Planned("TIMEOUT".to_owned()));
        house.pass(SECOND * 30);
    }
    assert_eq!(house.steps(), [1; 6]);
    assert!(house.keeper.pace.is_well());
}

#[test]
fn one_that_ends_before_it_joins_has_failed_however_well_it_ends() {
    let mut house = House::with(wish(0, 3), queued(100));
    house.pass(SECOND * 12);
    (0..3).for_each(|job| house.leave(job, End::Planned("COMPLETED".to_owned())));
    house.pass(SECOND * 12);
    house.says("the last: worker 2: it ended before it joined: COMPLETED");
    house.pass(SECOND * 30);
    assert_eq!(house.steps(), [3]);
}

#[test]
fn what_was_cancelled_by_hand_is_not_back_within_a_minute() {
    let mut house = House::with(wish(2, 4), queued(100));
    house.join(0..2);
    house.pass(SECOND * 10);
    let before = house.steps().len();
    (0..2).for_each(|job| house.leave(job, End::ByHand));
    house.pass(SECOND * 58);
    assert_eq!(house.steps().len(), before);
    house.pass(SECOND * 20);
    assert_eq!(house.steps().len(), before + 1);
    assert!(house.keeper.pace.is_well());
}

#[test]
fn an_engine_that_refuses_is_asked_again_later_and_its_words_are_told() {
    let mut house = House::new(wish(0, 4));
    house.refusal = Some("sbatch: error: invalid partition specified: lng".to_owned());
    house.backlog = queued(100);
    house.pass(MINUTE * 16);
    let at: Vec<u64> = house.started.iter().map(|(at, ..)| at.as_secs() / 60).collect();
    assert_eq!(at, [0, 1, 3, 7, 15]);
    house.says("Slurm starts no workers: sbatch: error: invalid partition");
    house.refusal = None;
    house.pass(MINUTE * 31);
    house.join(0..1);
    house.pass(MINUTE * 2);
    assert_eq!(house.next, 4);
    assert!(house.keeper.pace.is_well());
}

/// It was submitted, but the answer did not come in time.
#[test]
fn what_was_started_without_an_answer_is_found_before_more_is() {
    let mut house = House::new(wish(0, 4));
    house.backlog = queued(100);
    house.refusal = Some("`sbatch` did not answer within 10 s".to_owned());
    house.tick();
    house.refusal = None;
    house.start(4, false).unwrap();
    house.started.clear();
    house.pass(MINUTE * 30);
    assert_eq!(house.steps(), [], "there are as many as there may be");
}

/// A job id that Slurm had forgotten kept another system from ever submitting again.
#[test]
fn what_the_engine_forgets_has_failed_and_is_started_again() {
    let mut house = House::with(wish(0, 2), queued(100));
    house.engine = Ok(Vec::new());
    house.pass(SECOND * 50);
    assert_eq!(house.steps(), [2]);
    house.pass(MINUTE);
    assert_eq!(house.steps().len(), 2);
    house.says("Slurm does not know it any more, and it never joined");
}

#[test]
fn what_is_here_needs_no_engine_that_knows_it() {
    let mut house = House::with(wish(0, 2), queued(100));
    house.join(0..2);
    house.engine = Ok(Vec::new());
    house.pass(MINUTE * 60);
    assert_eq!(house.steps(), [2]);
    house.here.clear();
    house.pass(MINUTE * 2);
    assert_eq!(house.steps(), [2, 2], "it has left, and nobody knows how");
    assert!(house.keeper.pace.is_well());
}

#[test]
fn what_was_put_in_line_again_is_waited_for() {
    let mut house = House::with(wish(0, 2), queued(100));
    house.join(0..2);
    house.here.clear();
    (0..2).for_each(|job| house.set(job, pends("BeginTime")));
    house.pass(MINUTE * 2);
    assert_eq!(house.steps(), [2]);
    house.says("2 workers pend in Slurm: BeginTime");
}

#[test]
fn what_was_there_before_the_keeper_is_counted() {
    let mut house = House::new(wish(0, 4));
    house.start(4, false).unwrap();
    house.start(2, false).unwrap();
    house.leave(4, End::Planned("COMPLETED".to_owned()));
    house.leave(5, End::Failed("exit code 1".to_owned()));
    house.started.clear();
    house.backlog = queued(100);
    house.pass(MINUTE * 5);
    assert_eq!(house.steps(), []);
    house.says("one was of no use: worker 5: exit code 1");
}

/// It had been here before the engine was asked for the first time, and left before the next word of the master.
#[test]
fn one_that_was_not_known_while_it_was_here_has_joined_all_the_same() {
    let mut house = House::new(wish(0, 4));
    house.start(1, false).unwrap();
    house.join(0..1);
    house.leave(0, End::Planned("COMPLETED".to_owned()));
    house.backlog = queued(100);
    house.pass(MINUTE);
    assert!(house.keeper.pace.is_well());
    house.started.remove(0);
    assert_eq!(house.steps(), [4]);
}

#[test]
fn what_others_have_started_meanwhile_is_looked_for_first() {
    let mut house = House::with(Wish { grows: false, ..wish(2, 4) }, queued(100));
    house.start(4, false).unwrap();
    house.started.clear();
    house.keeper.handle(house.now, Event::Wished(wish(2, 4)));
    house.pass(MINUTE * 5);
    assert_eq!(house.steps(), []);
}

#[test]
fn where_nothing_can_be_started_it_is_said_what_has_ended() {
    let mut house = House::new(Wish { grows: false, ..wish(2, 4) });
    house.start(2, false).unwrap();
    house.started.clear();
    house.backlog = queued(100);
    house.join(0..2);
    house.here[0].is_proven = true;
    house.pass(MINUTE * 3);
    house.fail(0..2);
    house.pass(MINUTE * 3);
    assert_eq!(house.steps(), []);
    house.says("2 workers have ended badly; the last: worker 1: exit code 127");
}

/// The master was started again, and the engine still lists what had failed under the one before.
#[test]
fn what_had_failed_before_the_keeper_is_told_and_keeps_none_from_being_started() {
    let mut house = House::new(wish(0, 4));
    house.start(4, false).unwrap();
    house.fail(0..4);
    house.started.clear();
    house.backlog = queued(100);
    house.tick();
    house.says("4 workers were of no use; the last: worker 3: exit code 127");
    house.pass(SECOND * 10);
    assert_eq!(house.steps(), [1], "one is tried");
    for job in 4..6 {
        house.fail(job..job + 1);
        house.pass(MINUTE);
    }
    assert_eq!(house.steps(), [1, 1, 1], "two more are no row");
}
