//! Whose tasks a worker has, and which of them are in slots, as far as the master can tell.
//!
//! A worker starts tasks in the order in which they were sent, so those sent first are taken to run. A word about a task
//! that contradicts that is believed about the client it names; the counts stay whole.

use std::collections::{BTreeSet, VecDeque};

use crate::{gathered, ids::ClientId};

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

    /// Tasks that are charged the same were sent.
    pub(super) fn add(&mut self, client: ClientId, charge: u32, tasks: u32) {
        let charged = u64::from(charge) * u64::from(tasks);
        let share = self.share(client);
        share.ahead += tasks;
        share.charge += charged;
        share.charge_ahead += charged;
        match self.ahead.back_mut() {
            Some(last) if (last.client, last.charge) == (client, charge) => last.tasks += tasks,
            _ => self.ahead.push_back(Run { client, charge, tasks }),
        }
        self.start_next();
    }

    /// Tasks that are charged the same have ended, or came back.
    pub(super) fn remove(&mut self, client: ClientId, charge: u32, mut tasks: u32, ran: bool) {
        while tasks > 0 {
            let passed = if ran && tasks > 1 { self.pass(client, charge, tasks) } else { 0 };
            if passed == 0 {
                self.remove_one(client, charge, ran);
            }
            tasks -= passed.max(1);
        }
    }

    /// As many have ended of tasks whose client has the next in each slot that they leave, up to so many. Says how many
    /// that are: none if it is not as simple.
    fn pass(&mut self, client: ClientId, charge: u32, most: u32) -> u32 {
        let Some(next) = self.ahead.front().copied().filter(|next| next.client == client) else { return 0 };
        let tasks = most.min(next.tasks);
        let [charged, started] = [charge, next.charge].map(|each| u64::from(each) * u64::from(tasks));
        let is_full = self.running == self.slots;
        let share = self.share(client);
        // What waits is charged no more than all of it, after the first of them and after the last: so after each.
        let is_ordered = share.charge_ahead + u64::from(charge) <= share.charge
            && share.charge_ahead + charged <= share.charge + started - u64::from(next.charge)
            && started <= share.charge_ahead;
        if !is_full || share.running == 0 || !is_ordered {
            return 0;
        }
        share.charge -= charged;
        share.ahead -= tasks;
        share.charge_ahead -= started;
        self.shorten(0, tasks);
        tasks
    }

    fn remove_one(&mut self, client: ClientId, charge: u32, ran: bool) {
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
        gathered(self.ahead.iter().map(|run| run.client))
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
        let Run { client, charge, .. } = self.ahead[place];
        self.shorten(place, 1);
        let share = self.share(client);
        share.ahead -= 1;
        share.charge_ahead = share.charge_ahead.saturating_sub(u64::from(charge));
        client
    }

    /// A run has so many tasks less.
    fn shorten(&mut self, place: usize, tasks: u32) {
        let run = &mut self.ahead[place];
        run.tasks -= tasks;
        if run.tasks == 0 {
            self.ahead.remove(place);
        }
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
        (0..3).for_each(|_| shares.add(A, 10, 1));
        (0..3).for_each(|_| shares.add(B, 20, 1));
        assert_eq!((shares.running(A).0, shares.ahead_of(A)), (2, 1));
        assert_eq!((shares.running(B), shares.ahead_of(B), shares.charge_ahead_of(B)), ((0, 0), 3, 60));
        shares.remove(A, 10, 1, true);
        shares.remove(A, 10, 1, true);
        assert_eq!((shares.running(A), shares.running(B)), ((1, 10), (1, 20)));
        shares.remove(B, 20, 1, false);
        assert_eq!(shares.ahead_of(B), 1, "one came back that had not started");
        assert_eq!(shares.tasks(), 3);
    }

    /// As a mean, what waits would count as 500 of what is charged, and as 10 once it is called back.
    #[test]
    fn what_waits_is_charged_what_it_was_sent_with() {
        let mut shares = Shares::new(1);
        shares.add(A, 10, 1);
        shares.add(A, 990, 1);
        assert_eq!((shares.running(A), shares.charge_ahead_of(A)), ((1, 10), 990));
        shares.add(A, 5, 1);
        shares.remove(A, 990, 1, false);
        assert_eq!((shares.running(A), shares.charge_ahead_of(A)), ((1, 10), 5), "the very one came back");
        shares.add(A, 990, 1);
        shares.remove(A, 990, 1, true);
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
        shares.add(A, 1, 1);
        shares.add(B, 1, 1);
        shares.remove(B, 1, 1, true);
        assert_eq!((shares.running(A).0, shares.tasks()), (1, 1));
        shares.remove(A, 1, 1, false);
        assert_eq!(shares.tasks(), 0);
    }

    #[test]
    fn many_at_once_are_as_many_one_by_one() {
        let mut state = 7u64;
        let mut below = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from((state >> 33) % below).unwrap()
        };
        for slots in [1, 2, 5].repeat(100) {
            let (mut many, mut single) = (Shares::new(slots), Shares::new(slots));
            for _ in 0..100 {
                let (client, charge, tasks) =
                    (ClientId(below(2)), [1, 1, 1, 7, 40][below(5) as usize], 1 + below(8));
                if below(2) == 0 {
                    many.add(client, charge, tasks);
                    (0..tasks).for_each(|_| single.add(client, charge, 1));
                } else {
                    let (tasks, ran) = (tasks.min(many.of(client)), below(8) > 0);
                    many.remove(client, charge, tasks, ran);
                    (0..tasks).for_each(|_| single.remove(client, charge, 1, ran));
                }
                assert_eq!(format!("{many:?}"), format!("{single:?}"));
            }
        }
    }
}
