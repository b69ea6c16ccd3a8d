//! What the keeper makes of an engine's words and of the notes of workers.

use std::time::{Duration, Instant};

use cw_core::keeper::{self, Seen};

use super::{End, Launched, State, What};
use crate::access::{ClusterDir, notes::Note};

/// How often notes are read: each is a file, perhaps on a file system far away.
const NOTES_EVERY: Duration = Duration::from_secs(4);

/// So many of them are shown, and so many names.
const SHOWN_MAX: usize = 2;
const NAMES_MAX: usize = 4;

/// So many characters of a line are told to clients.
const LINE_CHARS_MAX: usize = 1_000;

/// So many of what a worker wrote last.
const LAST_CHARS_MAX: usize = 300;

/// Notes as they were read last.
#[derive(Default)]
pub(super) struct Notes {
    read: Option<Instant>,
    notes: Vec<Note>,
}

impl Notes {
    /// What stands in the way of workers, as they have noted it, but for what is said already.
    pub(super) fn read(&mut self, dir: &ClusterDir, said: Option<&str>) -> Option<String> {
        if self.read.is_none_or(|at| at.elapsed() >= NOTES_EVERY) {
            (self.read, self.notes) = (Some(Instant::now()), dir.read_notes());
        }
        in_words(&self.notes, said.unwrap_or_default())
    }
}

/// The newest are shown. What several have to say is said once, and what an engine has told of one is not said again.
fn in_words(notes: &[Note], said: &str) -> Option<String> {
    let mut shown: Vec<&Note> = Vec::new();
    for note in notes.iter().rev().filter(|note| !said.contains(&note.why)) {
        if !shown.iter().any(|it| (it.has_ended, &it.why) == (note.has_ended, &note.why)) {
            shown.push(note);
        }
    }
    if shown.is_empty() {
        return None;
    }
    shown.truncate(SHOWN_MAX);
    let in_words = |note: &&Note| match note.has_ended {
        true => format!("worker {} has ended: {}", note.name, note.why),
        false => format!("worker {} cannot reach the master: {}", note.name, note.why),
    };
    let mut parts: Vec<String> = shown.iter().map(in_words).collect();
    match notes.len() - shown.len() {
        0 => {}
        1 => parts.push("1 other is in trouble".to_owned()),
        more => parts.push(format!("{more} others are in trouble")),
    }
    Some(parts.join("; "))
}

/// The workers among what was started.
pub(super) fn workers(launched: Vec<Launched>) -> Vec<Seen> {
    let workers = launched.into_iter().filter(|it| it.what == What::Worker);
    workers.map(|Launched { id, state, .. }| Seen { job: id, state: of(state) }).collect()
}

fn of(state: State) -> keeper::State {
    match state {
        State::Pending { why, in_line } => keeper::State::Pending { why, in_line },
        State::Running { on } => keeper::State::Running { on },
        State::Unknown { why } => keeper::State::Unknown { why },
        State::Ended(end) => keeper::State::Ended(how(end)),
    }
}

fn how(end: End) -> keeper::End {
    let End { is_well, how, on, last } = end;
    if is_well && how.to_ascii_uppercase().contains("CANCEL") {
        return keeper::End::ByHand;
    }
    if is_well {
        return keeper::End::Planned(how);
    }
    let on = on.map(|on| format!(" on {on}")).unwrap_or_default();
    let last: Vec<&str> = last.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    let last = if last.is_empty() { String::new() } else { format!(": {}", shortened(&last.join(" | "))) };
    keeper::End::Failed(format!("{how}{on}{last}"))
}

/// The last of a text that is long: there it is said what happened.
fn shortened(text: &str) -> String {
    match text.char_indices().rev().nth(LAST_CHARS_MAX) {
        Some((at, _)) => format!("..{}", text[at..].chars().skip(1).collect::<String>()),
        None => text.to_owned(),
    }
}

/// Some names.
pub(super) fn few(names: &[String]) -> String {
    let shown = names.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMES_MAX { format!("{shown}, ..") } else { shown }
}

/// A text as one line that harms no terminal, and that is not too long.
pub(super) fn in_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LINE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(is_well: bool, how: &str, last: &[&str]) -> End {
        let last = last.iter().map(|line| (*line).to_owned()).collect();
        End { is_well, how: how.to_owned(), on: Some("cw2".to_owned()), last }
    }

    #[test]
    fn an_end_is_planned_by_hand_or_has_a_reason() {
        assert_eq!(how(end(true, "TIMEOUT", &[])), keeper::End::Planned("TIMEOUT".to_owned()));
        assert_eq!(how(end(true, "CANCELLED by 0", &[])), keeper::End::ByHand);
        let failed = how(end(false, "exit code 127", &["slurm_script: line 3:", "", " /x/sim: not found "]));
        let words = "exit code 127 on cw2: slurm_script: line 3: | /x/sim: not found";
        assert_eq!(failed, keeper::End::Failed(words.to_owned()));
        assert_eq!(how(end(false, "NODE_FAIL", &[])), keeper::End::Failed("NODE_FAIL on cw2".to_owned()));
    }

    #[test]
    fn of_many_lines_the_last_are_kept() {
        let text = format!("{}äöü end", "x".repeat(1_000));
        let short = shortened(&text);
        assert!(short.starts_with("..x") && short.ends_with("äöü end"), "{short}");
        assert_eq!(short.chars().count(), LAST_CHARS_MAX + 2);
        assert_eq!(in_line("a\x1b[2J\nb"), "a [2J b");
    }

    #[test]
    fn masters_are_no_workers() {
        let of = |what| Launched { id: "7".to_owned(), what, state: State::Running { on: "cw1".to_owned() } };
        let seen = workers(vec![of(What::Master), of(What::Worker)]);
        assert_eq!(
            seen,
            [Seen { job: "7".to_owned(), state: keeper::State::Running { on: "cw1".to_owned() } }]
        );
    }

    #[test]
    fn the_newest_notes_are_told_first() {
        let note = |name: &str, has_ended| Note { name: name.to_owned(), ..Note::new("no route", has_ended) };
        assert_eq!(in_words(&[], ""), None);
        let notes = [note("a:1", false), note("b:2", true), note("c:3", false), note("d:4", true)];
        assert_eq!(
            in_words(&notes, "").unwrap(),
            "worker d:4 has ended: no route; worker c:3 cannot reach the master: no route; 2 others are in trouble"
        );
    }

    #[test]
    fn what_is_said_is_not_said_again() {
        let note = |name: &str, why: &str| Note { name: name.to_owned(), ..Note::new(why, true) };
        let notes =
            [note("a:1", "no route"), note("b:2", "no key"), note("c:3", "no key"), note("d:4", "no key")];
        assert_eq!(
            in_words(&notes, "").unwrap(),
            "worker d:4 has ended: no key; worker a:1 has ended: no route; 2 others are in trouble"
        );
        let said = "one was of no use: worker 7_1: exit code 12 on cw2: error: no key";
        assert_eq!(
            in_words(&notes, said).unwrap(),
            "worker a:1 has ended: no route; 3 others are in trouble"
        );
        assert_eq!(in_words(&notes[1..], said), None);
    }
}
