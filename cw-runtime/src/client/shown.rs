//! What tasks print, shown to the program's user: line by line, each with its task's name before it.

use std::{collections::HashMap, ops::Range};

use cw_core::{
    Payload,
    ids::TaskId,
    wire::{Class, Output, Printed},
};

/// Which of what tasks print is shown, as `--output` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shows {
    /// All, as it comes.
    #[default]
    Live,
    /// That of tasks that fail.
    OnFailure,
    /// Nothing; nor is it kept.
    None,
}

impl From<Shows> for Output {
    fn from(shows: Shows) -> Self {
        match shows {
            Shows::Live => Self::Live,
            Shows::OnFailure => Self::AtEnd,
            Shows::None => Self::None,
        }
    }
}

/// Longer lines are broken.
const LINE_MAX: usize = 64 << 10;

/// Lines on their way to the terminal.
#[derive(Default)]
pub(super) struct Shown {
    shows: Shows,
    /// Running tasks of which something was shown.
    running: HashMap<TaskId, Running>,
    /// Lines that are ready.
    text: Vec<u8>,
    /// Lines that were dropped, as too much waited.
    dropped: usize,
}

/// What was shown of a running task.
#[derive(Default)]
struct Running {
    bytes: u64,
    /// A line that has not ended.
    line: Vec<u8>,
}

impl Shown {
    pub(super) fn new(shows: Shows) -> Self {
        Self { shows, ..Self::default() }
    }

    /// A running task has printed something.
    pub(super) fn add(&mut self, task: TaskId, from: u64, bytes: &Payload) {
        let mut running = self.running.remove(&task).unwrap_or_default();
        if from == 0 && running.bytes > 0 {
            // A task that was begun anew prints anew.
            self.end_line(task, &mut running);
            running.bytes = 0;
        }
        self.skip(task, &mut running, from);
        let known = usize::try_from(running.bytes.saturating_sub(from)).unwrap_or(usize::MAX);
        self.print(task, &mut running, bytes.get(known..).unwrap_or_default());
        self.running.insert(task, running);
    }

    /// A task has ended: what was not shown of it is shown now, if it is to be.
    pub(super) fn end(&mut self, task: TaskId, class: Class, output: &Payload) {
        if output.is_empty() && self.running.is_empty() {
            return;
        }
        let running = self.running.remove(&task);
        if output.is_empty() && running.is_none() {
            return;
        }
        let is_shown = match self.shows {
            Shows::Live => true,
            Shows::OnFailure => class != Class::Ok,
            Shows::None => false,
        };
        if is_shown {
            self.show_rest(task, running.unwrap_or_default(), &Printed::decode(output));
        }
    }

    /// Tasks have ended well that printed nothing but what was shown.
    pub(super) fn end_many(&mut self, tasks: Range<u64>) {
        if !self.running.is_empty() {
            tasks.for_each(|task| self.end(TaskId(task), Class::Ok, &Payload::new()));
        }
    }

    fn show_rest(&mut self, task: TaskId, mut running: Running, printed: &Printed) {
        let tail_at = printed.total - printed.tail.len() as u64;
        for (at, part) in [(0, &printed.head), (tail_at, &printed.tail)] {
            let end = at + part.len() as u64;
            if running.bytes < end {
                self.skip(task, &mut running, at);
                let known = usize::try_from(running.bytes - at).expect("within the part");
                self.print(task, &mut running, &part[known..]);
            }
        }
        self.end_line(task, &mut running);
    }

    fn end_line(&mut self, task: TaskId, running: &mut Running) {
        if !running.line.is_empty() {
            self.print(task, running, b"\n");
        }
    }

    /// Says that something is missing, if it is.
    fn skip(&mut self, task: TaskId, running: &mut Running, to: u64) {
        if running.bytes < to {
            let missing = to - running.bytes;
            self.end_line(task, running);
            self.text.extend_from_slice(format!("{task}| .. {missing} bytes are not shown\n").as_bytes());
            running.bytes = to;
        }
    }

    fn print(&mut self, task: TaskId, running: &mut Running, bytes: &[u8]) {
        running.bytes = running.bytes.saturating_add(bytes.len() as u64);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            running.line.extend_from_slice(piece);
            if running.line.len() > LINE_MAX {
                running.line.push(b'\n');
            }
            if running.line.ends_with(b"\n") {
                self.text.extend_from_slice(format!("{task}| ").as_bytes());
                self.text.append(&mut running.line);
            }
        }
    }

    /// Has the lines written that are ready.
    pub(super) fn write(&mut self) {
        if self.text.is_empty() {
            return;
        }
        if self.dropped > 0 {
            let line =
                format!("cw: {} lines of output were not shown, as they came too fast\n", self.dropped);
            self.text.splice(0..0, line.into_bytes());
        }
        let lines = self.text.iter().filter(|byte| **byte == b'\n').count();
        self.dropped = if crate::stderr::write(&self.text) { 0 } else { self.dropped + lines };
        self.text.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: TaskId = TaskId(3);

    fn text(shown: &Shown) -> &str {
        std::str::from_utf8(&shown.text).unwrap()
    }

    fn printed(total: u64, head: &'static str, tail: &'static str) -> Payload {
        Printed { total, head: head.as_bytes().into(), tail: tail.as_bytes().into() }.encode()
    }

    #[test]
    fn whole_lines_are_shown_as_they_come_and_the_rest_at_the_end() {
        let mut shown = Shown::new(Shows::Live);
        shown.add(TASK, 0, &Payload::from_static(b"one\ntw"));
        assert_eq!(text(&shown), "task-3| one\n");
        shown.end(TASK, Class::Ok, &printed(9, "one\ntwo!x", ""));
        assert_eq!(text(&shown), "task-3| one\ntask-3| two!x\n");
        assert!(shown.running.is_empty());
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut shown = Shown::new(Shows::Live);
        shown.add(TASK, 0, &Payload::from_static(b"a\n"));
        shown.add(TASK, 10, &Payload::from_static(b"b\n"));
        shown.end(TASK, Class::Ok, &printed(100, "a\n.", "z\n"));
        let wanted = "task-3| a\ntask-3| .. 8 bytes are not shown\ntask-3| b\ntask-3| .. 86 bytes are not shown\ntask-3| z\n";
        assert_eq!(text(&shown), wanted);
    }

    #[test]
    fn only_what_fails_is_shown_or_nothing_if_that_is_wanted() {
        let output = printed(3, "why", "");
        for (shows, class, wanted) in [
            (Shows::OnFailure, Class::Ok, ""),
            (Shows::OnFailure, Class::Panicked, "task-3| why\n"),
            (Shows::None, Class::Panicked, ""),
            (Shows::Live, Class::Ok, "task-3| why\n"),
        ] {
            let mut shown = Shown::new(shows);
            shown.end(TASK, class, &output);
            assert_eq!(text(&shown), wanted, "{shows:?} {class:?}");
        }
    }
}
