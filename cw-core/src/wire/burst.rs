//! Several messages about consecutive tasks in one.
//!
//! What is said of tasks whose ids follow each other, and is the same for all of them, is said once: a *burst* has one
//! head, and an *entry* for each task in its body. So a short task costs its bytes, and no message of its own.
//!
//! An entry is, where the message tells of ends, the run time in microseconds; then the length of what follows; then so
//! many bytes, the task's arguments or result. Numbers are LEB128.

use std::ops::Range;

use bytes::{BufMut, BytesMut};

use super::{Class, FromClient, FromExecutor, FromWorker, Head, ToClient, ToExecutor, ToWorker};
use crate::{
    Payload,
    ids::{Attempt, ClientId, JobIndex, SpecIndex, TaskId, WorkerId},
};

/// Longer arguments and results are sent alone.
const ENTRY_BYTES_MAX: usize = 1 << 10;

/// A burst takes in no more once its body is as long, so that it travels with the short messages.
pub const BURST_BYTES_MAX: usize = 32 << 10;

/// No honest burst is longer. One that is says nothing: what comes of each of its tasks is many times as long as they are.
const BODY_BYTES_MAX: usize = BURST_BYTES_MAX + ENTRY_BYTES_MAX + 20;

/// A message that may be said together with the next one.
pub(crate) trait Joins: Head + Sized {
    /// What messages have in common that are said together.
    type Same: PartialEq;

    /// The first task, how many there are, and what is the same for all of them; if this is such a message, or a burst.
    fn of(&self) -> Option<(TaskId, u32, Self::Same)>;

    /// The head of a burst.
    fn burst(first: TaskId, tasks: u32, same: Self::Same) -> Self;

    /// Whether this is a burst.
    fn is_burst(&self) -> bool;

    /// The run time of a message that is not a burst, where entries have one.
    fn micros(&self) -> Option<u64> {
        None
    }

    /// What a burst says, a message for each task; none if it is no burst.
    #[cfg(any(test, feature = "sim"))]
    fn singles(&self, body: &Payload) -> Option<Vec<(Self, Payload)>>;
}

/// A message, taken apart if it is a burst.
#[cfg(any(test, feature = "sim"))]
pub(crate) fn singles<H: Joins + Clone>(message: &H, body: &Payload) -> Vec<(H, Payload)> {
    message.singles(body).unwrap_or_else(|| vec![(message.clone(), body.clone())])
}

/// Says `next` together with `head`, if it can be. `open` is empty, or the body of a burst that `head` is.
pub(crate) fn join<H: Joins>(
    (head, body): (&mut H, &[u8]),
    (next, next_body): (&H, &[u8]),
    open: &mut BytesMut,
) -> bool {
    let (Some((first, tasks, same)), Some((after, more, of))) = (head.of(), next.of()) else { return false };
    let all =
        tasks.checked_add(more).filter(|_| same == of && first.0.checked_add(tasks.into()) == Some(after.0));
    let Some(all) = all.filter(|_| fits(open, body, next_body)) else { return false };
    if open.is_empty() {
        put(head, body, open);
    }
    put(next, next_body, open);
    *head = H::burst(first, all, same);
    true
}

/// Whether a message is short enough to be said together with what comes before it.
fn fits(open: &[u8], body: &[u8], next_body: &[u8]) -> bool {
    // Of bursts too, which could be passed on as they came: only short ones are worth a copy.
    let is_short = (!open.is_empty() || body.len() <= ENTRY_BYTES_MAX) && next_body.len() <= ENTRY_BYTES_MAX;
    is_short && open.len() <= BURST_BYTES_MAX
}

/// Puts what a message says of its tasks into the body of a burst.
#[inline]
fn put<H: Joins>(message: &H, body: &[u8], out: &mut BytesMut) {
    if message.is_burst() { out.extend_from_slice(body) } else { put_entry(message.micros(), body, out) }
}

#[inline]
fn put_entry(micros: Option<u64>, bytes: &[u8], out: &mut BytesMut) {
    let mut head = [0; 20];
    let at = micros.map_or(0, |micros| put_number(micros, &mut head, 0));
    let at = put_number(bytes.len() as u64, &mut head, at);
    out.reserve(at + bytes.len());
    out.put_slice(&head[..at]);
    out.put_slice(bytes);
}

/// Writes a number; gives where it ends.
#[inline]
fn put_number(mut number: u64, out: &mut [u8; 20], mut at: usize) -> usize {
    while number > 0x7f {
        out[at] = number.to_le_bytes()[0] | 0x80;
        number >>= 7;
        at += 1;
    }
    out[at] = number.to_le_bytes()[0];
    at + 1
}

/// Reads a number; gives it and where the next thing begins. None where there is no number.
#[inline]
fn number(bytes: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(at)?;
        at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some((number, at));
        }
    }
    None
}

/// The tasks of a burst in order. One whose body is cut short has fewer than its head says.
#[derive(Debug)]
pub struct Entries {
    next: TaskId,
    left: u32,
    body: Payload,
    at: usize,
    timed: bool,
}

/// A task of a burst.
#[derive(Debug)]
pub struct Entry {
    /// Which.
    pub task: TaskId,
    /// How long it ran, in microseconds; 0 where it is yet to run.
    pub micros: u64,
    /// Its arguments, or its result.
    pub bytes: Payload,
}

impl Entries {
    /// Arguments of so many tasks.
    pub fn of_args(first: TaskId, tasks: u32, body: Payload) -> Self {
        Self { next: first, left: bounded(tasks, &body), body, at: 0, timed: false }
    }

    /// Run times and results of so many tasks.
    pub fn of_ends(first: TaskId, tasks: u32, body: Payload) -> Self {
        Self { next: first, left: bounded(tasks, &body), body, at: 0, timed: true }
    }

    /// How many tasks are left, as it was said.
    pub fn left(&self) -> u32 {
        self.left
    }
}

fn bounded(tasks: u32, body: &[u8]) -> u32 {
    if is_short_enough(body) { tasks } else { 0 }
}

/// Whether an honest burst may have such a body.
pub(super) fn is_short_enough(body: &[u8]) -> bool {
    body.len() <= BODY_BYTES_MAX
}

/// The run time in the entry that begins at `at`, and where its bytes lie, with which it ends; none if it is cut short.
#[inline]
pub(super) fn entry_at(body: &[u8], at: usize, timed: bool) -> Option<(u64, Range<usize>)> {
    let (micros, at) = if timed { number(body, at)? } else { (0, at) };
    let (length, start) = number(body, at)?;
    let end = start.checked_add(usize::try_from(length).ok()?).filter(|end| *end <= body.len())?;
    Some((micros, start..end))
}

impl Iterator for Entries {
    type Item = Entry;

    #[inline]
    fn next(&mut self) -> Option<Entry> {
        self.left = self.left.checked_sub(1)?;
        let (micros, span) = entry_at(&self.body, self.at, self.timed)?;
        self.at = span.end;
        let task = self.next;
        self.next = TaskId(task.0.wrapping_add(1));
        Some(Entry { task, micros, bytes: self.body.part(span) })
    }
}

impl Joins for FromClient {
    type Same = SpecIndex;

    fn is_burst(&self) -> bool {
        matches!(self, Self::Submits { .. })
    }

    fn of(&self) -> Option<(TaskId, u32, Self::Same)> {
        match *self {
            Self::Submit { task, spec } => Some((task, 1, spec)),
            Self::Submits { first, tasks, spec } => Some((first, tasks, spec)),
            _ => None,
        }
    }

    fn burst(first: TaskId, tasks: u32, spec: Self::Same) -> Self {
        Self::Submits { first, tasks, spec }
    }

    #[cfg(any(test, feature = "sim"))]
    fn singles(&self, body: &Payload) -> Option<Vec<(Self, Payload)>> {
        let Self::Submits { first, tasks, spec } = *self else { return None };
        let single = |Entry { task, bytes, .. }| (Self::Submit { task, spec }, bytes);
        Some(Entries::of_args(first, tasks, body.clone()).map(single).collect())
    }
}

impl Joins for ToWorker {
    type Same = (ClientId, Attempt, SpecIndex);

    fn is_burst(&self) -> bool {
        matches!(self, Self::Runs { .. })
    }

    fn of(&self) -> Option<(TaskId, u32, Self::Same)> {
        match *self {
            Self::Run { client, task, attempt, spec, alone: false } => {
                Some((task, 1, (client, attempt, spec)))
            }
            Self::Runs { first, tasks, client, attempt, spec } => {
                Some((first, tasks, (client, attempt, spec)))
            }
            _ => None,
        }
    }

    fn burst(first: TaskId, tasks: u32, (client, attempt, spec): Self::Same) -> Self {
        Self::Runs { first, tasks, client, attempt, spec }
    }

    #[cfg(any(test, feature = "sim"))]
    fn singles(&self, body: &Payload) -> Option<Vec<(Self, Payload)>> {
        let Self::Runs { client, first, tasks, attempt, spec } = *self else { return None };
        let single =
            |Entry { task, bytes, .. }| (Self::Run { client, task, attempt, spec, alone: false }, bytes);
        Some(Entries::of_args(first, tasks, body.clone()).map(single).collect())
    }
}

impl Joins for FromWorker {
    type Same = (ClientId, Attempt);

    fn is_burst(&self) -> bool {
        matches!(self, Self::Finishes { .. })
    }

    fn of(&self) -> Option<(TaskId, u32, Self::Same)> {
        match *self {
            Self::Finished { client, task, attempt, class: Class::Ok, output: 0, .. } => {
                Some((task, 1, (client, attempt)))
            }
            Self::Finishes { first, tasks, client, attempt } => Some((first, tasks, (client, attempt))),
            _ => None,
        }
    }

    fn burst(first: TaskId, tasks: u32, (client, attempt): Self::Same) -> Self {
        Self::Finishes { first, tasks, client, attempt }
    }

    fn micros(&self) -> Option<u64> {
        if let Self::Finished { micros, .. } = self { Some(*micros) } else { None }
    }

    #[cfg(any(test, feature = "sim"))]
    fn singles(&self, body: &Payload) -> Option<Vec<(Self, Payload)>> {
        let Self::Finishes { client, first, tasks, attempt } = *self else { return None };
        let single = |Entry { task, micros, bytes }| {
            (Self::Finished { client, task, attempt, class: Class::Ok, micros, output: 0 }, bytes)
        };
        Some(Entries::of_ends(first, tasks, body.clone()).map(single).collect())
    }
}

impl Joins for ToClient {
    type Same = (Attempt, u32, WorkerId);

    fn is_burst(&self) -> bool {
        matches!(self, Self::Finishes { .. })
    }

    fn of(&self) -> Option<(TaskId, u32, Self::Same)> {
        match *self {
            Self::Finished {
                task,
                attempt,
                attempts,
                worker: Some(worker),
                class: Class::Ok,
                output: 0,
                ..
            } => Some((task, 1, (attempt, attempts, worker))),
            Self::Finishes { first, tasks, attempt, attempts, worker } => {
                Some((first, tasks, (attempt, attempts, worker)))
            }
            _ => None,
        }
    }

    fn burst(first: TaskId, tasks: u32, (attempt, attempts, worker): Self::Same) -> Self {
        Self::Finishes { first, tasks, attempt, attempts, worker }
    }

    fn micros(&self) -> Option<u64> {
        if let Self::Finished { micros, .. } = self { Some(*micros) } else { None }
    }

    #[cfg(any(test, feature = "sim"))]
    fn singles(&self, body: &Payload) -> Option<Vec<(Self, Payload)>> {
        let Self::Finishes { first, tasks, attempt, attempts, worker } = *self else { return None };
        let (worker, class, output) = (Some(worker), Class::Ok, 0);
        let single = |Entry { task, micros, bytes }| {
            (Self::Finished { task, attempt, attempts, worker, class, micros, output }, bytes)
        };
        Some(Entries::of_ends(first, tasks, body.clone()).map(single).collect())
    }
}

impl Joins for ToExecutor {
    type Same = (JobIndex, Attempt);

    fn is_burst(&self) -> bool {
        matches!(self, Self::Runs { .. })
    }

    fn of(&self) -> Option<(TaskId, u32, Self::Same)> {
        match *self {
            Self::Run { job, task, attempt } => Some((task, 1, (job, attempt))),
            Self::Runs { first, tasks, job, attempt } => Some((first, tasks, (job, attempt))),
            _ => None,
        }
    }

    fn burst(first: TaskId, tasks: u32, (job, attempt): Self::Same) -> Self {
        Self::Runs { first, tasks, job, attempt }
    }

    #[cfg(any(test, feature = "sim"))]
    fn singles(&self, body: &Payload) -> Option<Vec<(Self, Payload)>> {
        let Self::Runs { job, first, tasks, attempt } = *self else { return None };
        let single = |Entry { task, bytes, .. }| (Self::Run { job, task, attempt }, bytes);
        Some(Entries::of_args(first, tasks, body.clone()).map(single).collect())
    }
}

/// Puts the end of one more task into a burst of [`FromExecutor::Dones`].
pub fn put_done(micros: u64, result: &[u8], out: &mut BytesMut) {
    put_entry(Some(micros), result, out);
}

/// Whether the result of a task that ended like this may be told in a burst.
pub fn is_burst_done(message: &FromExecutor, result: &[u8]) -> bool {
    matches!(message, FromExecutor::Done { class: Class::Ok, output: 0, .. })
        && result.len() <= ENTRY_BYTES_MAX
}

/// Puts the arguments of one more task into the body of a burst of [`FromClient::Submits`].
pub fn put_args(args: &[u8], out: &mut BytesMut) {
    put_entry(None, args, out);
}

/// Whether such arguments may be told in a burst.
pub fn is_burst_args(args: &[u8]) -> bool {
    args.len() <= ENTRY_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Attempt, ClientId, SpecIndex};

    fn run(task: u64) -> ToWorker {
        let (client, attempt, spec) = (ClientId(1), Attempt(1), SpecIndex(0));
        ToWorker::Run { client, task: TaskId(task), attempt, spec, alone: false }
    }

    #[test]
    fn consecutive_tasks_become_one_message_and_come_out_as_they_were() {
        let (mut head, mut open) = (run(5), BytesMut::new());
        assert!(join((&mut head, b"a"), (&run(6), &[7; 200]), &mut open));
        assert!(join((&mut head, b""), (&run(7), b""), &mut open));
        assert!(!join((&mut head, b""), (&run(9), b""), &mut open), "8 is missing");
        let ToWorker::Runs { first: TaskId(5), tasks: 3, .. } = head else { panic!("{head:?}") };
        let body = Payload::from(open.freeze());
        let entries: Vec<_> = Entries::of_args(TaskId(5), 3, body).map(|it| it.bytes.to_vec()).collect();
        assert_eq!(entries, [b"a".to_vec(), vec![7; 200], Vec::new()]);
    }

    #[test]
    fn a_burst_that_was_closed_goes_on_with_others() {
        let (mut head, mut open) = (run(5), BytesMut::new());
        assert!(join((&mut head, b"a"), (&run(6), b"b"), &mut open));
        let body = open.split().freeze();
        assert!(join((&mut head, &body), (&run(7), b"c"), &mut open));
        let (mut next, mut more) = (run(8), BytesMut::new());
        assert!(join((&mut next, b"d"), (&run(9), b"e"), &mut more));
        assert!(join((&mut head, b""), (&next, &more), &mut open));
        let ToWorker::Runs { first: TaskId(5), tasks: 5, .. } = head else { panic!("{head:?}") };
        let body = Payload::from(open.freeze());
        let entries: Vec<_> = Entries::of_args(TaskId(5), 5, body).map(|it| it.bytes.to_vec()).collect();
        assert_eq!(entries, [b"a", b"b", b"c", b"d", b"e"]);
    }

    #[test]
    fn a_long_burst_is_passed_on_as_it_came() {
        let (mut head, mut open) = (run(5), BytesMut::new());
        assert!(join((&mut head, &[0; 900]), (&run(6), &[0; 900]), &mut open));
        let body = open.split().freeze();
        assert!(!join((&mut head, &body), (&run(7), b"c"), &mut open));
        assert!(!join((&mut run(4), b"c"), (&head, &body), &mut open));
    }

    #[test]
    fn run_times_of_any_length_come_out_as_they_were() {
        let mut out = BytesMut::new();
        let all = [0, 127, 128, 300, u64::from(u32::MAX), u64::MAX];
        all.iter().for_each(|micros| put_done(*micros, b"r", &mut out));
        let body = Payload::from(out.freeze());
        let micros: Vec<u64> = Entries::of_ends(TaskId(0), 6, body).map(|it| it.micros).collect();
        assert_eq!(micros, all);
    }

    #[test]
    fn long_arguments_are_sent_alone_and_a_burst_has_an_end() {
        let (mut head, mut open) = (run(0), BytesMut::new());
        assert!(!join((&mut head, b""), (&run(1), &[0; ENTRY_BYTES_MAX + 1]), &mut open));
        assert!(!join((&mut head, &[0; ENTRY_BYTES_MAX + 1]), (&run(1), b""), &mut open));
        let joined = (1..1_000).take_while(|n| join((&mut head, &[0]), (&run(*n), &[0; 1_000]), &mut open));
        assert!((32..40).contains(&joined.count()));
    }

    #[test]
    fn a_burst_that_is_cut_short_or_lies_has_fewer_entries() {
        let count = |tasks, body: &'static [u8]| {
            Entries::of_args(TaskId(u64::MAX), tasks, Payload::from_static(body)).count()
        };
        assert_eq!(count(3, &[1, 7, 1]), 1);
        assert_eq!(count(u32::MAX, &[0, 0]), 2);
        assert_eq!(count(9, &[0xff; 40]), 0);
        let too_long = Payload::from(vec![0; BODY_BYTES_MAX + 1]);
        assert_eq!(Entries::of_args(TaskId(0), u32::MAX, too_long).count(), 0);
        assert_eq!(count(1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 1]), 0);
    }
}
