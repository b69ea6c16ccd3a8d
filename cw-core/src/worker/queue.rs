//! Tasks that wait for an executor: in the order in which they came, apart for each program and setting.

use std::{collections::VecDeque, sync::Arc};

use super::{Origin, line::Line};
use crate::{
    Payload,
    ids::{Attempt, ClientId, ShareId, SpecIndex, TaskId},
    wire::Stretch,
};

/// A task that waits for an executor; or a burst of them, where it waits as it came.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) client: ClientId,
    pub(super) task: TaskId,
    pub(super) attempt: Attempt,
    pub(super) spec: SpecIndex,
    pub(super) alone: bool,
    pub(super) args: Payload,
    /// Of a burst: the arguments of all its tasks. The rest is then what the first has, but for its arguments.
    pub(super) all: Option<Box<Stretch>>,
    /// Where its arguments lie apart: which they are. They stay as long as anybody has this.
    pub(super) apart: Option<Arc<ShareId>>,
    /// Its place in the order of all, given by the queue.
    pub(super) at: u64,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    next: u64,
    /// Few, and looked up with every task. Those that wait for nothing stay until they are [tidied](Self::tidy) away.
    of: Vec<(Origin, Line)>,
    /// Tasks that wait for something that they share: no executor may have them.
    held: Vec<(Origin, Pending)>,
}

impl Queue {
    /// Puts a task, or a burst, last.
    pub(super) fn push(&mut self, origin: Origin, mut pending: Pending) {
        pending.at = self.next;
        self.next += u64::from(pending.tasks());
        self.line_mut(origin).push(pending);
    }

    /// The line of an origin, to be taken from.
    pub(super) fn line_of(&mut self, origin: Origin) -> Option<&mut Line> {
        self.of.iter_mut().find(|(of, _)| *of == origin).map(|(_, line)| line)
    }

    /// Puts a task before the first of its client that should come later; those move on among their own places, so that
    /// other clients' tasks stay where they are.
    pub(super) fn push_before(
        &mut self,
        origin: Origin,
        mut new: Pending,
        comes_later: impl Fn(&Pending) -> bool,
    ) {
        let (client, line) = (new.client, self.line_mut(origin).singles());
        let first = line.iter().position(comes_later).unwrap_or(line.len());
        for other in line.iter_mut().skip(first).filter(|other| other.client == client) {
            std::mem::swap(other, &mut new);
            std::mem::swap(&mut other.at, &mut new.at);
        }
        self.push(origin, new);
    }

    /// Keeps a task until what it shares is here.
    pub(super) fn hold(&mut self, origin: Origin, pending: Pending) {
        self.held.push((origin, pending));
    }

    /// Takes the tasks that need not be kept any more, in order.
    pub(super) fn release(&mut self, is_free: impl Fn(&Pending) -> bool) -> Vec<(Origin, Pending)> {
        self.held.extract_if(.., |(_, pending)| is_free(pending)).collect()
    }

    /// Those.
    pub(super) fn held(&self) -> impl Iterator<Item = &(Origin, Pending)> {
        self.held.iter()
    }

    pub(super) fn front(&self, origin: Origin) -> Option<&Pending> {
        self.line(origin)?.front()
    }

    pub(super) fn pop_front(&mut self, origin: Origin) -> Option<Pending> {
        self.line_mut(origin).pop_front()
    }

    /// Takes the one that came last of all.
    pub(super) fn pop_last(&mut self) -> Option<Pending> {
        if let Some((_, pending)) = self.held.pop() {
            return Some(pending);
        }
        let latest = |(_, line): &&mut (Origin, Line)| line.last_at();
        self.of.iter_mut().filter(|(_, line)| !line.is_empty()).max_by_key(latest)?.1.pop_back()
    }

    /// Takes the first of those.
    pub(super) fn take_first(&mut self, origin: Origin, is_it: impl Fn(&Pending) -> bool) -> Option<Pending> {
        if let Some(place) = self.held.iter().position(|(_, pending)| is_it(pending)) {
            return Some(self.held.remove(place).1);
        }
        let line = self.line_mut(origin).singles();
        line.remove(line.iter().position(is_it)?)
    }

    /// Takes at most so many of those, the last first.
    pub(super) fn take_last(
        &mut self,
        origin: Origin,
        at_most: usize,
        is_it: impl Fn(&Pending) -> bool,
    ) -> Vec<Pending> {
        let held: Vec<usize> =
            (0..self.held.len()).rev().filter(|place| is_it(&self.held[*place].1)).take(at_most).collect();
        let mut taken: Vec<Pending> = held.into_iter().map(|place| self.held.remove(place).1).collect();
        let line = self.line_mut(origin).singles();
        let more = at_most - taken.len();
        let places: Vec<usize> =
            (0..line.len()).rev().filter(|place| is_it(&line[*place])).take(more).collect();
        taken.extend(places.into_iter().filter_map(|place| line.remove(place)));
        taken
    }

    /// Takes all of those, in order.
    pub(super) fn take_all(&mut self, origin: Origin, is_it: impl Fn(&Pending) -> bool) -> Vec<Pending> {
        let line = self.line_mut(origin).singles();
        let (mut taken, stay): (Vec<_>, VecDeque<_>) = std::mem::take(line).into_iter().fold(
            (Vec::new(), VecDeque::new()),
            |(mut taken, mut stay), pending| {
                if is_it(&pending) {
                    taken.push(pending)
                } else {
                    stay.push_back(pending)
                }
                (taken, stay)
            },
        );
        *line = stay;
        let held = self.held.extract_if(.., |(of, pending)| *of == origin && is_it(pending));
        taken.extend(held.map(|(_, pending)| pending));
        taken
    }

    /// Everything, in no order: each task or burst.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.of.iter().flat_map(|(_, line)| line.iter()).chain(self.held.iter().map(|(_, pending)| pending))
    }

    /// Of what the tasks are that wait, for whatever.
    pub(super) fn origins(&self) -> impl Iterator<Item = Origin> {
        self.lines().map(|(origin, _)| origin).chain(self.held.iter().map(|(origin, _)| *origin))
    }

    /// What tasks wait for, how many for each, and since when the first of them does.
    pub(super) fn lines(&self) -> impl Iterator<Item = (Origin, &Line)> {
        self.of.iter().filter(|(_, line)| !line.is_empty()).map(|(origin, line)| (*origin, line))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines().next().is_none() && self.held.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.of.clear();
        self.held.clear();
    }

    /// Forgets the empty lines of those that are not to be kept.
    pub(super) fn tidy(&mut self, keep: impl Fn(Origin) -> bool) {
        self.of.retain(|(origin, line)| !line.is_empty() || keep(*origin));
    }

    fn line(&self, origin: Origin) -> Option<&Line> {
        self.of.iter().find(|(of, _)| *of == origin).map(|(_, line)| line)
    }

    fn line_mut(&mut self, origin: Origin) -> &mut Line {
        let place = self.of.iter().position(|(of, _)| *of == origin).unwrap_or_else(|| {
            self.of.push((origin, Line::default()));
            self.of.len() - 1
        });
        &mut self.of[place].1
    }
}
