//! What a client tells its user unasked: one line on stderr when nothing moves, one when it does again.

use std::collections::BTreeSet;

use cw_core::{
    ids::JobIndex,
    wire::{Seconds, Stall},
};

use crate::{
    exit,
    flag::{role, verb},
    job::Registry,
};

/// Says what is new, and nothing twice.
#[derive(Default)]
pub(crate) struct Notices {
    said: Option<String>,
    /// Kinds of remarks that workers made.
    remarks: BTreeSet<String>,
    /// Whether it was said that much waits.
    said_backlog: bool,
    /// Whether another client of this process decides with which code it ends.
    beside_another: bool,
}

/// So many kinds of remarks are shown.
const REMARKS_MAX: usize = 64;

/// So many bytes of arguments that wait are worth a word.
const BACKLOG_BYTES: u64 = 1 << 30;

impl Notices {
    pub(crate) fn beside_another() -> Self {
        Self { beside_another: true, ..Self::default() }
    }

    fn note_fatal(&self, code: u8) {
        if !self.beside_another {
            exit::note_fatal(code);
        }
    }

    pub(crate) fn stalled(&mut self, why: &Stall) {
        if matches!(why, Stall::OtherProgram { .. } | Stall::Unfit { .. }) {
            self.note_fatal(exit::OTHER_BUILD);
        }
        let line = in_words(why);
        if self.said.as_ref() != Some(&line) {
            say(&line);
            self.said = Some(line);
        }
    }

    /// Says once that much memory goes to what waits for the cluster.
    pub(crate) fn backlog(&mut self, (tasks, bytes): (usize, u64)) {
        if bytes >= BACKLOG_BYTES && !self.said_backlog {
            self.said_backlog = true;
            say(&format!(
                "{tasks} tasks with {} MiB of arguments wait in this program for the cluster; to bound that, use `cw::map`, \
                 or await `cw::ready()` before each `cw::spawn`",
                bytes >> 20
            ));
        }
    }

    /// Says what a worker has to say. Of many workers that say the same, one is heard.
    pub(crate) fn remark(&mut self, worker: &str, what: &str) {
        // Each node names itself; what follows its name is what they have in common.
        let kind = what.split(": ").last().unwrap_or(what);
        if self.remarks.len() < REMARKS_MAX && self.remarks.insert(kind.to_owned()) {
            say(&format!("worker {worker}: {what}"));
        }
    }

    /// Says that a worker gets no more tasks, which its owner has to look into.
    pub(crate) fn set_aside(&self, worker: &str, why: &str) {
        say(&format!("worker {worker} is sent no more tasks: {why}"));
    }

    /// Says that a job's tasks take longer than any worker has time, and what to do.
    pub(crate) fn too_long(&self, job: JobIndex, p90_seconds: u32, longest_seconds: u32) {
        let entry = Registry::global().ok().and_then(|jobs| jobs.entry(job.0));
        let job = entry.map_or("a job", |entry| entry.path);
        // A worker knows its end a little after its beginning; nobody asks for odd seconds.
        let longest = if longest_seconds > 600 { longest_seconds.div_ceil(60) * 60 } else { longest_seconds };
        let (p90, longest) = (Seconds(p90_seconds), Seconds(longest));
        say(&format!(
            "tasks of {job} take {p90} (p90), and the longest allocation is {longest}: ask for more with `--time`, or save \
             checkpoints in them (`cw::ctx().save`)"
        ));
    }

    pub(crate) fn moving(&mut self) {
        if self.said.take().is_some() {
            self.note_fatal(0);
            say("tasks move again");
        }
    }
}

fn in_words(why: &Stall) -> String {
    match why {
        Stall::NoWorker { why: None } => {
            let (role, verb) = (role("worker"), verb("worker"));
            format!("no task is running: the cluster has no worker; start some with `{role}`, or `{verb}`")
        }
        Stall::NoWorker { why: Some(why) } => {
            format!("no task is running yet: the cluster has no worker: {}", quoted(why))
        }
        Stall::Busy { slots } => {
            format!("no task is running yet: all {slots} slots are busy with other clients' tasks")
        }
        Stall::OtherProgram { workers, program, program_name, worker } => format!(
            "no task is running: none of the {workers} connected workers runs this build ({worker} runs \
             {program_name}, build {program}); restart them from this executable, or the tasks are refused in 10 s"
        ),
        Stall::Silent { workers } => format!(
            "no task is running: {} not been heard for a while; what ran there runs elsewhere once it is given up",
            have(*workers, "worker of this program", "workers of this program")
        ),
        Stall::Recovering { workers } => format!(
            "no task is running yet: the master was started anew and waits for {} of the one before, which may have the \
             tasks",
            count(*workers, "worker", "workers")
        ),
        Stall::SetAside { workers, why } => format!(
            "no task is running: {} set aside, as tasks fail there one after the other: {why}",
            match workers {
                1 => "the worker of this program is".to_owned(),
                more => format!("the {more} workers of this program are"),
            }
        ),
        Stall::Quarantined { tasks } => format!(
            "no task is running yet: {} may have been what ended a worker, and runs where nothing else does; none is free \
             of other tasks",
            count(*tasks, "task", "tasks, each of which")
        ),
        Stall::Held { tasks } => format!(
            "no task is running: {} at their workers, until this program has taken those before, or the workers go on",
            match tasks {
                1 => "the result of 1 task waits".to_owned(),
                more => format!("the results of {more} tasks wait"),
            }
        ),
        Stall::Unfit { workers, worker, why } => format!(
            "no task is running: {}; the tasks are refused in 10 s",
            match workers {
                1 => format!("the worker {worker} cannot run this program: {why}"),
                more => format!("none of {more} workers can run this program; {worker} says: {why}"),
            }
        ),
        Stall::NoTime { p90_seconds: 0, left_seconds } => format!(
            "no task is running: all workers are about to end, the last in {}, and begin nothing more; tasks go on once there \
             are new ones",
            Seconds(*left_seconds)
        ),
        Stall::NoTime { p90_seconds, left_seconds } => format!(
            "no task is running: they take {} (p90), and no worker has more than {} left; tasks go on once there is a worker \
             that has begun nothing yet, or has time",
            Seconds(*p90_seconds),
            Seconds(*left_seconds)
        ),
        Stall::NotBegun { tasks } => format!(
            "no task is running yet: workers were given {} and have begun none; they fetch the program or what its tasks \
             bring, or executors are not ready, or hang",
            count(*tasks, "task", "tasks")
        ),
    }
}

fn count(number: u32, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

fn have(number: u32, one: &str, more: &str) -> String {
    format!("{} {}", count(number, one, more), if number == 1 { "has" } else { "have" })
}

/// Words of another process, as one line that harms no terminal.
fn quoted(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// One line of cw's own on stderr.
pub(crate) fn say(line: &str) {
    // What cannot be written is not worth waiting for.
    let _ = crate::stderr::write(format!("cw: {line}\n").as_bytes());
}
