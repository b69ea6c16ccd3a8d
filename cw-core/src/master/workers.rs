//! A worker as the master knows it: its slots and how much it was given.

use std::collections::{BTreeMap, BTreeSet};

use super::{Config, breaker::Record, ending::Allotment, shares::Shares};
use crate::{
    Time,
    idmap::IdMap,
    ids::{Attempt, ClientId, ProgramId, SpecIndex, TaskId},
    learn::LONG,
    wire::Programs,
};

/// A connected worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) of: Of,
    /// Programs that it could not run, until when that is believed, and why.
    pub(super) unfit: BTreeMap<ProgramId, (Time, Box<str>)>,
    pub(super) name: String,
    pub(super) slots: u32,
    /// What it has of each program; of those that it had and has no more, there is an entry until their last client is
    /// gone. Few, and looked up with every task.
    loads: Vec<(ProgramId, Load)>,
    /// Tasks there, running or not.
    pub(super) sent: u32,
    /// Their expected run time, in microseconds.
    expected: u64,
    /// Whose tasks they are, and which of them run.
    pub(super) shares: Shares,
    /// How many tasks it has said to run, by client. No client in it has none.
    pub(super) started: BTreeMap<ClientId, u32>,
    /// Whether a recall has not been answered yet.
    pub(super) recalling: bool,
    /// Whose tasks were asked to make way, those below which priority, and whether any came.
    asked: Option<(ClientId, Option<i32>, bool)>,
    /// Whether it hands back what it is sent, as it is about to leave.
    pub(super) leaving: bool,
    /// Whether there is a connection to it.
    pub(super) connected: bool,
    /// When it was last known to hear and to be heard.
    pub(super) heard: Time,
    /// When it was last sent a beat, and until when that lets it begin tasks.
    pub(super) beaten: Time,
    pub(super) leased: Time,
    /// Whether it has been silent for so long that it is given nothing, and what had not begun there went elsewhere.
    pub(super) suspect: bool,
    /// While it says what it has, after it came back: what it has said so far.
    pub(super) accounting: Option<BTreeSet<(ClientId, TaskId, Attempt)>>,
    /// Clients of which it has said, or was asked, what it has: its word about their tasks is passed on.
    pub(super) vouched: BTreeSet<ClientId>,
    /// The clients of which it was given tasks, since it joined this master for the first time.
    pub(super) worked_for: BTreeSet<ClientId>,
    /// It may also have tasks from the master before: of clients below this number.
    pub(super) inherited: ClientId,
    /// The task that has, or is to have, the worker for itself.
    pub(super) exclusive: Option<(ClientId, TaskId)>,
    pub(super) record: Record,
    /// How long it lives, and what was made of that.
    pub(super) allotment: Allotment,
    /// When something last ended there, or a recall did.
    pub(super) moved: Time,
    /// The keys under which it stands in the lists of workers with room.
    pub(super) listed: Vec<(ProgramId, u64)>,
    /// Whether its load has changed since it was listed.
    pub(super) changed: bool,
    /// Specs it was told.
    declared: IdMap<(ClientId, SpecIndex), ()>,
    /// Clients it knows, and those of which it was told all that it needs to run their tasks.
    knows: BTreeSet<ClientId>,
    introduced: BTreeSet<ClientId>,
}

/// Which program a worker is, and which it runs.
#[derive(Debug)]
pub(super) struct Of {
    pub(super) program: ProgramId,
    pub(super) programs: Programs,
    /// The file name of the one it is.
    pub(super) program_name: String,
}

/// Tasks that a worker is given, or is relieved of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tasks {
    pub(super) count: u32,
    /// What each is charged, in microseconds.
    pub(super) charge: u32,
    /// Of the arguments of all.
    pub(super) bytes: u64,
}

impl Tasks {
    pub(super) fn one(charge: u32, bytes: u64) -> Self {
        Self { count: 1, charge, bytes }
    }

    /// How many of them are expected to take long.
    fn long(self) -> u32 {
        if u64::from(self.charge) >= LONG { self.count } else { 0 }
    }

    fn charged(self) -> u64 {
        u64::from(self.charge) * u64::from(self.count)
    }
}

/// Tasks of one program at a worker.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    pub(super) sent: u32,
    /// Their expected run time, in microseconds.
    expected: u64,
    /// The bytes of their arguments.
    bytes: u64,
}

/// What is sent ahead for several clients is less by so many times. With one client beside another that floods no-ops it
/// decides how long a lone task takes (2.9 times as long as the reference's without it, 0.9 with it, as long as 1,024 a slot were
/// sent ahead; 0.8 to 1.0 with it since 4,096 are); the flood itself has a quarter less of the throughput (November 2026, 2 cores).
const SHARED: u64 = 4;

impl Worker {
    pub(super) fn new(of: Of, name: String, slots: u32) -> Self {
        Self {
            of,
            unfit: BTreeMap::new(),
            loads: Vec::new(),
            name,
            slots: slots.max(1),
            sent: 0,
            expected: 0,
            shares: Shares::new(slots.max(1)),
            started: BTreeMap::new(),
            recalling: false,
            asked: None,
            leaving: false,
            connected: true,
            heard: Time::ZERO,
            beaten: Time::ZERO,
            leased: Time::ZERO,
            suspect: false,
            accounting: None,
            vouched: BTreeSet::new(),
            worked_for: BTreeSet::new(),
            inherited: ClientId(0),
            exclusive: None,
            record: Record::default(),
            allotment: Allotment::default(),
            moved: Time::ZERO,
            listed: Vec::new(),
            changed: false,
            declared: IdMap::default(),
            knows: BTreeSet::new(),
            introduced: BTreeSet::new(),
        }
    }

    /// Whether it may be sent another task of a program: a slot is free, or little enough waits for one.
    ///
    /// One task per slot is sent ahead whatever it takes, so that a slot never waits for the network; more only as long
    /// as all that waits of its program is expected to be through in [`Config::prefetch_time`]. Each program has both
    /// for itself: a slot goes on with one program for a while, and what waits of another must not stop that, nor be
    /// called back and sent again with each task that ends.
    ///
    /// Where several clients are of a program, a quarter of that: whoever wants little waits behind it.
    ///
    /// A worker that is full of short tasks has room again only when a quarter of them is done: a few tasks
    /// at a time would wake it for each few.
    pub(super) fn has_room(&self, program: ProgramId, is_shared: bool, config: &Config) -> bool {
        self.room(program, is_shared, 1, config) > 0
    }

    /// For how many tasks that are charged so much it has room, one after the other, whatever bytes they are.
    pub(super) fn room(&self, program: ProgramId, is_shared: bool, charge: u32, config: &Config) -> u64 {
        if !self.is_well() || self.exclusive.is_some() || !self.serves(program) {
            return 0;
        }
        let free = u64::from(self.slots.saturating_sub(self.sent));
        let load = self.load_of(program);
        if load.bytes >= config.prefetch_bytes {
            return free;
        }
        let slots = u64::from(self.slots);
        let time = slots.saturating_mul(u64::try_from(config.prefetch_time.as_micros()).unwrap_or(u64::MAX));
        let tasks = slots.saturating_mul(u64::from(config.prefetch_tasks));
        let is_listed = self.is_listed(program);
        let (tasks, time) = if is_shared { (tasks / SHARED, time / SHARED) } else { (tasks, time) };
        let (tasks, time) = if is_listed { (tasks, time) } else { (tasks / 4 * 3, time / 4 * 3) };
        let sent = u64::from(load.sent);
        let by_time = time.saturating_sub(load.expected).div_ceil(u64::from(charge).max(1));
        free.max((2 * slots).saturating_sub(sent)).max(tasks.saturating_sub(sent).min(by_time))
    }

    /// Whether it had room for so many bytes more, and some beyond.
    pub(super) fn takes_bytes(&self, program: ProgramId, bytes: usize, config: &Config) -> bool {
        self.load_of(program).bytes.saturating_add(bytes as u64) < config.prefetch_bytes
    }

    /// Whether it stands in the list of those with room for a program.
    pub(super) fn is_listed(&self, program: ProgramId) -> bool {
        self.listed.iter().any(|(of, _)| *of == program)
    }

    /// Whether it may run a program's tasks.
    pub(super) fn serves(&self, program: ProgramId) -> bool {
        (self.is_open() || self.of.program == program) && !self.unfit.contains_key(&program)
    }

    /// Whether it runs others than its own.
    pub(super) fn is_open(&self) -> bool {
        self.of.programs != Programs::Own
    }

    /// What it has of a program.
    pub(super) fn load_of(&self, program: ProgramId) -> Load {
        self.loads.iter().find(|(of, _)| *of == program).map_or_else(Load::default, |(_, load)| *load)
    }

    /// How it stands in the list of those with room for a program. Of two that are as busy the one goes first that has
    /// run the program before: it need not be fetched and started there.
    pub(super) fn rank(&self, program: ProgramId) -> u64 {
        let is_known = self.of.program == program || self.loads.iter().any(|(of, _)| *of == program);
        2 * self.load() + u64::from(!is_known)
    }

    fn load_mut(&mut self, program: ProgramId) -> &mut Load {
        let place = self.loads.iter().position(|(of, _)| *of == program).unwrap_or_else(|| {
            self.loads.push((program, Load::default()));
            self.loads.len() - 1
        });
        &mut self.loads[place].1
    }

    /// The last client of a program is gone.
    pub(super) fn forget_program(&mut self, program: ProgramId) {
        self.loads.retain(|(of, load)| *of != program || load.sent > 0);
        self.unfit.remove(&program);
    }

    /// It turns out whose tasks these are.
    pub(super) fn move_load(&mut self, client: ClientId, from: ProgramId, to: ProgramId) {
        let (sent, expected) = (self.shares.of(client), self.shares.charge_of(client));
        if sent > 0 {
            let load = self.load_mut(from);
            load.sent = load.sent.saturating_sub(sent);
            load.expected = load.expected.saturating_sub(expected);
            let load = self.load_mut(to);
            load.sent += sent;
            load.expected += expected;
        }
    }

    /// Whether it takes tasks, as far as it is the worker's business.
    pub(super) fn is_well(&self) -> bool {
        self.connected
            && !self.leaving
            && !self.suspect
            && self.accounting.is_none()
            && !self.allotment.is_over
            && !self.record.is_set_aside()
    }

    /// It is on another connection: what was said on the one before may not have arrived.
    pub(super) fn come_back(&mut self, now: Time) {
        (self.connected, self.suspect, self.leaving, self.recalling) = (true, false, false, false);
        self.heard = now;
        self.asked = None;
        self.accounting = Some(BTreeSet::new());
        if !planted!(ForgetDeclare) {
            self.declared = IdMap::default();
        }
        self.knows.clear();
        self.introduced.clear();
    }

    /// Whether it was told of a client.
    pub(super) fn knows(&self, client: ClientId) -> bool {
        self.knows.contains(&client)
    }

    /// Whether its word about a task of the client's that the master does not know may be true.
    pub(super) fn vouches_for(&self, client: ClientId) -> bool {
        let may_now = self.accounting.is_some() && self.may_vouch_for(client);
        may_now || self.vouched.contains(&client) || planted!(BelieveStrangers)
    }

    /// Whether it may have tasks of a client's.
    pub(super) fn may_vouch_for(&self, client: ClientId) -> bool {
        client < self.inherited || self.worked_for.contains(&client) || planted!(BelieveStrangers)
    }

    /// Tasks per slot, in thousandths: the less, the sooner it is served.
    pub(super) fn load(&self) -> u64 {
        u64::from(self.sent) * 1_000 / u64::from(self.slots)
    }

    pub(super) fn free_slots(&self) -> u32 {
        if !self.is_well() || self.exclusive.is_some() {
            return 0;
        }
        self.slots.saturating_sub(self.sent)
    }

    /// Tasks that wait there for a slot.
    pub(super) fn ahead(&self) -> u32 {
        self.sent.saturating_sub(self.slots)
    }

    /// Expected time until what waits there has started, in microseconds per slot.
    pub(super) fn backlog(&self) -> u64 {
        self.expected / u64::from(self.slots)
    }

    pub(super) fn take_on(&mut self, client: ClientId, program: ProgramId, tasks: Tasks) {
        let Tasks { count, charge, bytes } = tasks;
        let charged = tasks.charged();
        let load = self.load_mut(program);
        load.sent += count;
        load.expected += charged;
        load.bytes = load.bytes.saturating_add(bytes);
        self.sent += count;
        self.expected += charged;
        self.allotment.long += tasks.long();
        // What was asked for in vain may be here now.
        self.asked = None;
        self.shares.add(client, charge, count);
    }

    /// Tasks have ended here or came back; `ran` says which.
    pub(super) fn release(&mut self, client: ClientId, program: ProgramId, tasks: Tasks, ran: bool) {
        let Tasks { count, charge, bytes } = tasks;
        let charged = tasks.charged();
        let load = self.load_mut(program);
        load.sent = load.sent.saturating_sub(count);
        load.expected = load.expected.saturating_sub(charged);
        load.bytes = load.bytes.saturating_sub(bytes);
        self.sent = self.sent.saturating_sub(count);
        self.expected = self.expected.saturating_sub(charged);
        self.allotment.long = self.allotment.long.saturating_sub(tasks.long());
        if ran {
            self.allotment.ran = self.allotment.ran.saturating_add(count);
            self.allotment.gave = false;
        }
        self.shares.remove(client, charge, count, ran);
    }

    /// A task that it had said to run is there no more.
    pub(super) fn drop_started(&mut self, client: ClientId) {
        if let Some(tasks) = self.started.get_mut(&client) {
            *tasks -= 1;
            if *tasks == 0 {
                self.started.remove(&client);
            }
        }
    }

    /// Whether it may be asked for un-started tasks.
    pub(super) fn may_be_asked(&self) -> bool {
        !self.recalling && self.is_well() && self.ahead() > 0
    }

    /// Whether it was asked for just these, had none, and was sent nothing since.
    pub(super) fn was_asked_in_vain(&self, client: ClientId, below: Option<i32>) -> bool {
        !self.recalling && self.asked == Some((client, below, false))
    }

    /// Its tasks of this client are asked to make way for another's.
    pub(super) fn note_asked(&mut self, client: ClientId, below: Option<i32>) {
        self.recalling = true;
        self.asked = Some((client, below, false));
    }

    /// Something was handed back.
    pub(super) fn note_returned(&mut self) {
        if let Some((.., brought)) = &mut self.asked {
            *brought = true;
        }
    }

    /// Notes that it is told a spec; says whether it did not know it.
    pub(super) fn declare(&mut self, client: ClientId, spec: SpecIndex) -> bool {
        if self.declared.contains((client, spec)) {
            return false;
        }
        self.declared.insert((client, spec), ());
        true
    }

    /// Notes that it is told what it needs to run a client's tasks; says whether it did not know that.
    pub(super) fn introduce(&mut self, client: ClientId) -> bool {
        self.introduced.insert(client)
    }

    /// Notes that it is told of a client; says whether it did not know it.
    pub(super) fn meet(&mut self, client: ClientId) -> bool {
        self.worked_for.insert(client);
        self.knows.insert(client)
    }

    /// Notes that it is to forget a client; says whether it knew it.
    pub(super) fn forget(&mut self, client: ClientId) -> bool {
        self.shares.forget(client);
        for key in self.declared.sorted_keys(|()| true) {
            if key.0 == client {
                self.declared.remove(key);
            }
        }
        self.vouched.remove(&client);
        self.worked_for.remove(&client);
        self.introduced.remove(&client);
        self.knows.remove(&client)
    }
}
