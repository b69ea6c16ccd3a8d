//! Whose tasks a worker has, and which of them are in slots, as far as the master can tell.
//!
//! A worker starts tasks in the order in which they were sent, so those sent first are taken to run. A word about a task
//! that contradicts that is believed about the client it names; the counts stay whole.

use std::collections::{BTreeSet, VecDeque};

use crate::ids::ClientId;

/// The tasks at one worker.
#[derive(Debug)]
pub(super) struct Shares {
    slots: u32,
    running: u32,
    /// Sorted. A worker has tasks of few clients, and this is looked up twice a task.
    of: Vec<(ClientId, Share)>,
    /// Un-started tasks in order.
    ahead: VecDeque<Run>,
}

/// Un-started tasks of one client that are charged the same, at least one.
#[derive(Clone, Copy, Debug)]
struct Run {
    client: ClientId,
    charge: u32,
    tasks: u32,
}

/// One client's tasks at a worker.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    running: u32,
    ahead: u32,
    /// What all of them are charged, in microseconds.
    charge: u64,
    /// What those ahead are: the very sum, as two clients whose tasks were weighed by a mean would take turns in having
    /// each other's called back.
    charge_ahead: u64,
}

impl Shares {
    pub(super) fn new(slots: u32) -> Self {
        Self { slots, running: 0, of: Vec::new(), ahead: VecDeque::new() }
    }

    /// A task was sent.
    pub(super) fn add(&mut self, client: ClientId, charge: u32) {
        let share = self.share(client);
        share.ahead += 1;
        share.charge += u64::from(charge);
        share.charge_ahead += u64::from(charge);
        match self.ahead.back_mut() {
            Some(last) if (last.client, last.charge) == (client, charge) => last.tasks += 1,
            _ => self.ahead.push_back(Run { client, charge, tasks: 1 }),
        }
        self.start_next();
    }

    /// A task has ended, or came back.
    pub(super) fn remove(&mut self, client: ClientId, charge: u32, ran: bool) {
        let share = self.share(client);
        share.charge = share.charge.saturating_sub(u64::from(charge));
        if (ran && share.running > 0) || share.ahead == 0 {
            share.running = share.running.saturating_sub(1);
            self.running = self.running.saturating_sub(1);
        } else {
            let place = if ran { self.first_of(client) } else { self.last_of(client, charge) };
            self.take_from_ahead(place.expect("it has some ahead"));
        }
        // It was not the one that was thought to run.
        let share = self.share(client);
        share.charge_ahead = share.charge_ahead.min(share.charge);
        self.start_next();
    }

    pub(super) fn forget(&mut self, client: ClientId) {
        if let Ok(place) = self.find(client) {
            self.of.remove(place);
        }
        self.ahead.retain(|run| run.client != client);
    }

    /// Whether a client has tasks here, and nobody else has.
    pub(super) fn are_of(&self, client: ClientId) -> bool {
        let mut owners = self.of.iter().filter(|(_, share)| share.running + share.ahead > 0);
        owners.next().is_some_and(|(owner, _)| *owner == client) && owners.next().is_none()
    }

    /// How many tasks a client has here.
    pub(super) fn of(&self, client: ClientId) -> u32 {
        let share = self.get(client);
        share.running + share.ahead
    }

    /// The clients with tasks that wait here.
    pub(super) fn clients_ahead(&self) -> BTreeSet<ClientId> {
        self.ahead.iter().map(|run| run.client).collect()
    }

    /// Whether tasks of any such client wait here.
    pub(super) fn has_ahead(&self, is_it: impl Fn(&ClientId) -> bool) -> bool {
        self.ahead.iter().any(|run| is_it(&run.client))
    }

    /// A client's tasks that wait here for a slot.
    pub(super) fn ahead_of(&self, client: ClientId) -> u32 {
        self.get(client).ahead
    }

    /// What those are charged.
    pub(super) fn charge_ahead_of(&self, client: ClientId) -> u64 {
        self.get(client).charge_ahead
    }

    /// What all of a client's tasks here are charged.
    pub(super) fn charge_of(&self, client: ClientId) -> u64 {
        self.get(client).charge
    }

    /// A client's tasks that are in slots here, and what they are charged.
    pub(super) fn running(&self, client: ClientId) -> (u32, u64) {
        let share = self.get(client);
        (share.running, share.charge - share.charge_ahead)
    }

    fn share(&mut self, client: ClientId) -> &mut Share {
        let place = self.find(client).unwrap_or_else(|place| {
            self.of.insert(place, (client, Share::default()));
            place
        });
        &mut self.of[place].1
    }

    fn get(&self, client: ClientId) -> Share {
        self.find(client).map_or_else(|_| Share::default(), |place| self.of[place].1)
    }

    /// Where a client stands, or would.
    fn find(&self, client: ClientId) -> Result<usize, usize> {
        self.of.binary_search_by_key(&client, |(client, _)| *client)
    }

    /// Slots that are free take what was sent first.
    fn start_next(&mut self) {
        while self.running < self.slots && !self.ahead.is_empty() {
            let client = self.take_from_ahead(0);
            self.share(client).running += 1;
            self.running += 1;
        }
    }

    /// Where a client's first task ahead is.
    fn first_of(&self, client: ClientId) -> Option<usize> {
        self.ahead.iter().position(|run| run.client == client)
    }

    /// Where its last one is, if there is one of those that are charged so much.
    fn last_of(&self, client: ClientId, charge: u32) -> Option<usize> {
        let just_it = self.ahead.iter().rposition(|run| (run.client, run.charge) == (client, charge));
        just_it.or_else(|| self.ahead.iter().rposition(|run| run.client == client))
    }

    /// Takes a task out of the order; says whose it is.
    fn take_from_ahead(&mut self, place: usize) -> ClientId {
        let run = &mut self.ahead[place];
        run.tasks -= 1;
        let Run { client, charge, tasks } = *run;
        if tasks == 0 {
            self.ahead.remove(place);
        }
        let share = self.share(client);
        share.ahead -= 1;
        share.charge_ahead = share.charge_ahead.saturating_sub(u64::from(charge));
        client
    }

    /// All tasks here.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn tasks(&self) -> usize {
        let tasks = self.of.iter().map(|(_, share)| (share.running + share.ahead) as usize).sum();
        assert_eq!(tasks, (self.running + self.ahead.iter().map(|run| run.tasks).sum::<u32>()) as usize);
        tasks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ClientId = ClientId(1);
    const B: ClientId = ClientId(2);

    #[test]
    fn what_was_sent_first_runs_first() {
        let mut shares = Shares::new(2);
        (0..3).for_each(|_| shares.add(A, 10));
        (0..3).for_each(|_| shares.add(B, 20));
        assert_eq!((shares.running(A).0, shares.ahead_of(A)), (2, 1));
        assert_eq!((shares.running(B), shares.ahead_of(B), shares.charge_ahead_of(B)), ((0, 0), 3, 60));
        shares.remove(A, 10, true);
        shares.remove(A, 10, true);
        assert_eq!((shares.running(A), shares.running(B)), ((1, 10), (1, 20)));
        shares.remove(B, 20, false);
        assert_eq!(shares.ahead_of(B), 1, "one came back that had not started");
        assert_eq!(shares.tasks(), 3);
    }

    /// As a mean, what waits would count as 500 of what is charged, and as 10 once it is called back.
    #[test]
    fn what_waits_is_charged_what_it_was_sent_with() {
        let mut shares = Shares::new(1);
        shares.add(A, 10);
        shares.add(A, 990);
        assert_eq!((shares.running(A), shares.charge_ahead_of(A)), ((1, 10), 990));
        shares.add(A, 5);
        shares.remove(A, 990, false);
        assert_eq!((shares.running(A), shares.charge_ahead_of(A)), ((1, 10), 5), "the very one came back");
        shares.add(A, 990);
        shares.remove(A, 990, true);
        assert_eq!(
            (shares.running(A), shares.charge_ahead_of(A)),
            ((1, 5), 10),
            "the one ahead ran, it turned out"
        );
        assert_eq!(shares.tasks(), 2);
    }

    #[test]
    fn words_out_of_order_keep_the_counts_whole() {
        let mut shares = Shares::new(1);
        shares.add(A, 1);
        shares.add(B, 1);
        shares.remove(B, 1, true);
        assert_eq!((shares.running(A).0, shares.tasks()), (1, 1));
        shares.remove(A, 1, false);
        assert_eq!(shares.tasks(), 0);
    }
}
