//! What a client tells its user unasked: one line on stderr when nothing moves, one when it does again.

use cw_core::wire::Stall;

use crate::{exit, flag::role};

/// Says what is new, and nothing twice.
#[derive(Default)]
pub(crate) struct Notices {
    said: Option<String>,
    /// Whether it was said that much waits.
    said_backlog: bool,
}

/// So many bytes of arguments that wait are worth a word.
const BACKLOG_BYTES: u64 = 1 << 30;

impl Notices {
    pub(crate) fn stalled(&mut self, why: &Stall) {
        if matches!(why, Stall::OtherProgram { .. }) {
            exit::note_fatal(exit::OTHER_BUILD);
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

    pub(crate) fn moving(&mut self) {
        if self.said.take().is_some() {
            exit::note_fatal(0);
            say("tasks are running again");
        }
    }
}

fn in_words(why: &Stall) -> String {
    match why {
        Stall::NoWorker => {
            format!("no task is running: the cluster has no worker; start some with `{}`", role("worker"))
        }
        Stall::Busy { slots } => {
            format!("no task is running yet: all {slots} slots are busy with other clients' tasks")
        }
        Stall::OtherProgram { workers, program, program_name, worker } => format!(
            "no task is running: none of the {workers} connected workers runs this build ({worker} runs \
             {program_name}, build {program}); restart them from this executable, or the tasks are refused in 10 s"
        ),
    }
}

/// One line of cw's own on stderr.
pub(crate) fn say(line: &str) {
    crate::stderr::write(format!("cw: {line}\n").as_bytes());
}
