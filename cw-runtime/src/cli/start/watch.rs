//! Until all workers are connected: what the master sees, beside what the engine says.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cw_core::{
    gathered,
    wire::{Standing, WorkerState},
};

use super::{Halt, Starting, own_verb};
use crate::{
    exit::{self, Trouble},
    launch::{
        End, Launched, Refused, State,
        fleet::{Fleet, How},
    },
    observe::Observer,
};

/// How often the master is asked.
const PAUSE: Duration = Duration::from_millis(100);

/// How long one is tried to be reached whose connection broke.
const AGAIN: Duration = Duration::from_secs(4);

/// So many workers that ended badly are told of, each with a line.
const TOLD_MAX: usize = 5;

/// Workers that are there.
pub(super) fn connected(standing: &Standing) -> u32 {
    let there = standing.workers.iter().filter(|worker| worker.state != WorkerState::Away).count();
    u32::try_from(there).unwrap_or(u32::MAX)
}

/// `1 worker`, `2 workers`.
pub(super) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

impl Starting<'_> {
    /// Watches those with these ids come, beside so many that were there before. Gives the exit code.
    pub(super) fn watch(&mut self, master: &mut Observer, before: u32, ids: &[String]) -> Result<u8, Halt> {
        let wanted = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        let ids: BTreeSet<&str> = gathered(ids.iter().map(String::as_str));
        let mut told = BTreeSet::new();
        loop {
            let standing = self.standing(master)?;
            let coming =
                Coming::of(wanted, connected(&standing).saturating_sub(before), &ids, &self.inbox.looked);
            self.tell_ended(&coming, &mut told);
            if coming.connected >= coming.wanted.saturating_sub(coming.ended) {
                return self.end(&coming);
            }
            if self.is_late() {
                return self.end_late(&coming);
            }
            self.screen.follow(&coming.line());
            self.pause(PAUSE)?;
        }
    }

    /// A connection that broke is made again; a master that has ended is told of, with what it said last.
    fn standing(&mut self, master: &mut Observer) -> Result<Standing, Trouble> {
        // Seen at once, which a connection does not.
        if self.dir.has_dead_master() {
            return Err(self.dead_master(master));
        }
        let lost = match master.look() {
            Ok(standing) => return Ok(standing),
            Err(_) if master.is_stopped() => return Err(self.dead_master(master)),
            Err(lost) => lost,
        };
        match Observer::connect(&self.fleet.cluster, AGAIN) {
            Ok(again) => *master = again,
            // It may have held its lock a little longer than its connections.
            Err(_) if self.dir.has_dead_master() => return Err(self.dead_master(master)),
            Err(_) => {
                let line = format!("{lost}; it was not reached again within {} s", AGAIN.as_secs());
                return Err(Trouble::new(exit::NO_MASTER, line));
            }
        }
        master.look()
    }

    fn dead_master(&self, master: &Observer) -> Trouble {
        if master.is_stopped() {
            let line =
                format!("cannot go on to start `{}`: the cluster was stopped meanwhile", self.fleet.cluster);
            return Trouble::new(exit::LAUNCH, line);
        }
        let (said, stop) = (super::master::last_words(&self.dir, 0), own_verb("stop"));
        let line = format!(
            "the master has ended{said}; `cw start` again starts another, `{stop}` ends what is left"
        );
        Trouble::new(exit::LAUNCH, line)
    }

    fn tell_ended(&mut self, coming: &Coming, told: &mut BTreeSet<String>) {
        for (id, end) in &coming.badly {
            if told.insert(id.clone()) && told.len() <= TOLD_MAX {
                let on = end.on.as_ref().map(|on| format!(" on {on}")).unwrap_or_default();
                let last =
                    if end.last.is_empty() { String::new() } else { format!(": {}", end.last.join("; ")) };
                self.screen.say(&format!("worker {id}{on} ended: {}{last}", end.how));
            }
        }
    }

    fn end(&mut self, coming: &Coming) -> Result<u8, Halt> {
        if coming.connected > 0 {
            return Ok(0);
        }
        let stop = own_verb("stop");
        let line = format!(
            "none of {} is left; the master stays: correct it and `cw start` again, or `{stop}`",
            counted(coming.wanted.into(), "worker")
        );
        Err(Trouble::new(exit::LAUNCH, line).into())
    }

    fn end_late(&mut self, coming: &Coming) -> Result<u8, Halt> {
        let wait = humantime::format_duration(self.flags.wait);
        let (line, later) = (coming.line(), later(&self.fleet));
        if coming.connected > 0 {
            self.screen.say(&format!("after {wait}: {line}; the others {later}"));
            return Ok(0);
        }
        let stop = own_verb("stop");
        let line = format!("after {wait}: {line}; they {later}; `{stop}` ends them");
        Err(Trouble::new(exit::LAUNCH, line).into())
    }
}

/// What becomes of those that have not come. Where they wait in line the master takes back what the work no longer needs.
fn later(fleet: &Fleet) -> &'static str {
    match (&fleet.how, fleet.idle) {
        (How::Slurm(_), Some(_)) => "join when they come, unless the work is done by then",
        _ => "join when they come",
    }
}

/// Workers on their way.
struct Coming {
    wanted: u32,
    connected: u32,
    running: u32,
    ended: u32,
    /// How many pend, by reason.
    pending: BTreeMap<String, u32>,
    badly: Vec<(String, End)>,
    /// How many the engine does not have.
    missed: u32,
    /// What stands in the way of knowing more.
    unknown: Option<String>,
}

impl Coming {
    fn of(
        wanted: u32,
        connected: u32,
        ids: &BTreeSet<&str>,
        looked: &Option<Result<Vec<Launched>, Refused>>,
    ) -> Self {
        let mut coming = Self {
            wanted,
            connected: connected.min(wanted),
            running: 0,
            ended: 0,
            pending: BTreeMap::new(),
            badly: Vec::new(),
            missed: 0,
            unknown: None,
        };
        match looked {
            None => {}
            Some(Err(refused)) => coming.unknown = Some(refused.to_string()),
            Some(Ok(launched)) => {
                let missed = ids.iter().filter(|id| !launched.iter().any(|it| is_or_has(&it.id, id))).count();
                coming.missed = u32::try_from(missed).unwrap_or(u32::MAX);
                launched.iter().filter(|it| ids.contains(it.id.as_str())).for_each(|it| coming.add(it));
            }
        }
        coming
    }

    fn add(&mut self, launched: &Launched) {
        match &launched.state {
            State::Running { .. } => self.running += 1,
            State::Pending { why, .. } => *self.pending.entry(why.clone()).or_default() += 1,
            State::Unknown { why } => self.unknown = Some(why.clone()),
            State::Ended(end) => {
                self.ended += 1;
                if !end.is_well {
                    self.badly.push((launched.id.clone(), end.clone()));
                }
            }
        }
    }

    /// `12 of 64 workers connected; 50 pend: Resources; 2 start`.
    fn line(&self) -> String {
        let mut line = format!("{} of {} connected", self.connected, counted(self.wanted.into(), "worker"));
        // What the engine said is older than what the master sees.
        let missing = self.wanted.saturating_sub(self.connected + self.ended);
        let is_news = self.pending.values().sum::<u32>() <= missing;
        for (why, count) in self.pending.iter().filter(|_| is_news) {
            let verb = if *count == 1 { "pends" } else { "pend" };
            line += &format!("; {count} {verb}: {why}");
        }
        let starting = self.running.saturating_sub(self.connected);
        if starting > 0 {
            line += &format!("; {starting} running, not connected yet");
        }
        if self.missed.min(missing) > 0 {
            line += &format!("; Slurm knows nothing of {} of them", self.missed.min(missing));
        }
        if self.ended > 0 {
            line += &format!("; {} ended", self.ended);
        }
        if let Some(why) = &self.unknown {
            line += &format!("; {why}");
        }
        line
    }
}

/// Whether this is a job, or the rest of its array, which is told as a whole: `7_3` is in `7_[2-9]`.
fn is_or_has(it: &str, id: &str) -> bool {
    let array = id.split_once('_').map_or(id, |(array, _)| array);
    it == id || it.split_once("_[").is_some_and(|(whole, _)| whole == array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::{
        What,
        fleet::{Local, tests::fleet},
    };

    #[test]
    fn who_is_late_joins_unless_it_is_taken_back() {
        assert_eq!(later(&fleet()), "join when they come, unless the work is done by then");
        assert_eq!(later(&Fleet { idle: None, ..fleet() }), "join when they come", "nothing is taken back");
        let local = Fleet { how: How::Local(Local::default()), ..fleet() };
        assert_eq!(later(&local), "join when they come");
    }

    fn launched(id: &str, state: State) -> Launched {
        Launched { id: id.to_owned(), what: What::Worker, state }
    }

    fn pending(id: &str, why: &str) -> Launched {
        launched(id, State::Pending { why: why.to_owned(), in_line: true })
    }

    #[test]
    fn a_line_says_who_is_there_and_why_others_are_not() {
        let ids = ["1_0", "1_1", "1_2", "1_3", "1_4"];
        let bad = End { is_well: false, how: "exit code 7".to_owned(), on: None, last: Vec::new() };
        let looked = vec![
            launched("1_0", State::Running { on: "cw1".to_owned() }),
            launched("1_1", State::Running { on: "cw1".to_owned() }),
            pending("1_2", "Resources"),
            pending("1_3", "Resources"),
            launched("1_4", State::Ended(bad)),
            pending("99", "somebody else's"),
        ];
        let coming = Coming::of(5, 1, &BTreeSet::from(ids), &Some(Ok(looked)));
        assert_eq!(
            coming.line(),
            "1 of 5 workers connected; 2 pend: Resources; 1 running, not connected yet; 1 ended"
        );
        assert_eq!(coming.badly.len(), 1);
    }

    #[test]
    fn those_who_have_come_meanwhile_do_not_pend() {
        let looked = vec![pending("1_0", "Priority"), pending("1_1", "Priority")];
        let ids = BTreeSet::from(["1_0", "1_1"]);
        let line = |connected| Coming::of(2, connected, &ids, &Some(Ok(looked.clone()))).line();
        assert_eq!(line(0), "0 of 2 workers connected; 2 pend: Priority");
        assert_eq!(line(1), "1 of 2 workers connected");
    }

    #[test]
    fn jobs_that_are_not_known_are_counted() {
        let ids = BTreeSet::from(["7_0", "7_1", "7_2", "8"]);
        let line = |connected, looked| Coming::of(4, connected, &ids, &Some(Ok(looked))).line();
        assert_eq!(line(0, Vec::new()), "0 of 4 workers connected; Slurm knows nothing of 4 of them");
        assert_eq!(line(3, Vec::new()), "3 of 4 workers connected; Slurm knows nothing of 1 of them");
        assert_eq!(line(4, Vec::new()), "4 of 4 workers connected");
        let some = vec![pending("7_[1-2]", "Priority"), pending("8", "Priority")];
        assert_eq!(line(0, some), "0 of 4 workers connected; 1 pends: Priority");
        let none = vec![pending("77_[1-2]", "Priority"), pending("8", "Priority")];
        let none = line(0, none);
        assert_eq!(none, "0 of 4 workers connected; 1 pends: Priority; Slurm knows nothing of 3 of them");
    }

    #[test]
    fn an_engine_that_does_not_answer_is_said() {
        let refused = Refused("squeue: Unable to contact slurm controller".to_owned());
        let coming = Coming::of(1, 3, &BTreeSet::new(), &Some(Err(refused)));
        assert_eq!(coming.line(), "1 of 1 worker connected; squeue: Unable to contact slurm controller");
        assert_eq!(Coming::of(2, 0, &BTreeSet::new(), &None).line(), "0 of 2 workers connected");
    }
}
