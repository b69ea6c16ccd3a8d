//! Processes: each with a clock of its own, that may stop for a while, and with the end of a link.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::{
    net::{Link, Word},
    saves::Saving,
};
use crate::{
    Payload, Time,
    client::{Client, Completion, Event},
    ids::{Attempt, ExecutorId, ProgramId, SettingId, ShareId, TaskId},
    master::{Master, Member},
    wire::{Class, Programs, Session, Spec, Window},
    worker::{ExecutorSaid, NoShare, Worker},
};

/// A process's own monotonic clock. It began at some point of its own and may run too fast or too slow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    origin: Time,
    /// So many thousandths of true time.
    rate: u64,
}

/// What a process's clock shows when it starts.
const FIRST: u64 = 1_000_000;

pub(super) fn micros(time: Time) -> u64 {
    u64::try_from(time.since_start().as_micros()).expect("a run is short")
}

pub(super) fn at(micros: u64) -> Time {
    Time::from_start(Duration::from_micros(micros))
}

impl Clock {
    pub(super) fn new(now: Time, rate: u64) -> Self {
        Self { origin: now, rate }
    }

    pub(super) fn local(self, world: Time) -> Time {
        at(FIRST + micros(world).saturating_sub(micros(self.origin)) * self.rate / 1_000)
    }

    /// The first point of true time at which the clock shows this or more.
    pub(super) fn world(self, local: Time) -> Time {
        let passed = micros(local).saturating_sub(FIRST).saturating_mul(1_000).div_ceil(self.rate);
        at(micros(self.origin).saturating_add(passed))
    }
}

/// What a process has to handle.
#[derive(Debug)]
pub(super) enum Input {
    /// At the master: a peer wants in.
    Hello {
        peer: usize,
        conn: u32,
        session: Session,
    },
    FromPeer {
        peer: usize,
        conn: u32,
        word: Word,
    },
    /// At the master: a connection has ended.
    PeerEnds {
        peer: usize,
        conn: u32,
    },
    Welcome {
        conn: u32,
        id: u32,
        returned: bool,
        window: Window,
        epoch: u64,
    },
    FromMaster {
        conn: u32,
        word: Word,
        sent: Time,
    },
    /// At a peer: the connection has ended.
    MasterEnds {
        conn: u32,
    },
    Executor {
        executor: ExecutorId,
        said: ExecutorSaid,
    },
    /// At a worker: a program is there, or cannot be had.
    Fetched {
        program: ProgramId,
        result: Result<(), String>,
    },
    /// At a worker: a shared value is there, or cannot be had.
    Shared {
        share: ShareId,
        result: Result<Payload, NoShare>,
    },
    Recorded {
        task: TaskId,
    },
    /// At a client: what a task asked is done.
    Answered(Box<Event>),
    Declare {
        what: Spec,
    },
    Submit {
        first: TaskId,
        tasks: u32,
    },
    Cancel {
        task: TaskId,
    },
    Watch,
    Leave,
    /// At a worker: when it ends.
    Ends {
        left: Option<Duration>,
    },
}

/// What all processes have in common.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) clock: Clock,
    pub(super) up: bool,
    /// Since when it handles nothing.
    pub(super) paused: Option<Time>,
    /// Whether its network's thread goes on meanwhile.
    pub(super) is_dazed: bool,
    pub(super) inbox: VecDeque<Input>,
    /// When its machine's next timer is due, in true time.
    pub(super) due: Option<Time>,
}

impl Node {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, up: true, paused: None, is_dazed: false, inbox: VecDeque::new(), due: None }
    }

    pub(super) fn runs(&self) -> bool {
        self.up && self.paused.is_none()
    }

    /// Whether its end of a connection is alive.
    pub(super) fn carries(&self) -> bool {
        self.up && (self.paused.is_none() || self.is_dazed)
    }
}

/// A client, a worker, or somebody who only pretends to be one.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) node: Node,
    pub(super) link: Link,
    pub(super) session: Session,
    pub(super) program: ProgramId,
    pub(super) role: Role,
    /// The program with a store that it is a session of.
    pub(super) keeper: Option<usize>,
}

#[derive(Debug)]
pub(super) enum Role {
    Worker(Box<WorkerHost>),
    Client(Box<ClientHost>),
    /// Has the key, and says what it likes.
    Rogue {
        is_worker: bool,
    },
}

#[derive(Debug)]
pub(super) struct WorkerHost {
    pub(super) machine: Worker,
    pub(super) slots: u32,
    pub(super) programs: Programs,
    /// Programs that it has beside its own.
    pub(super) fetched: BTreeSet<ProgramId>,
    pub(super) processes: BTreeMap<ExecutorId, Process>,
    /// Whether its executors stand still too while it is paused, and what they would have done by now.
    pub(super) freezes: bool,
    pub(super) thaw: Vec<(Duration, super::world::Happening)>,
    /// How every task ends here at once, if it does.
    pub(super) bad: Option<Class>,
    pub(super) left: bool,
    /// Whether its master has let it go.
    pub(super) is_let_go: bool,
    /// What it was given, by client host, task and attempt.
    pub(super) given: BTreeMap<(usize, TaskId, Attempt), Given>,
    /// Credit per client number, with the highest since what it wants was last carried out; and results sent and not
    /// acknowledged.
    pub(super) credit: BTreeMap<u32, (u64, u64)>,
    pub(super) unacknowledged: BTreeMap<u32, BTreeMap<(TaskId, Attempt), u64>>,
    /// Results that were acknowledged before they were sent again, as both was read at once.
    pub(super) overtaken: BTreeSet<(u32, TaskId, Attempt)>,
}

/// An attempt as it came to a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    pub(super) client_id: u32,
    pub(super) epoch: u64,
    /// When the master sent it.
    pub(super) sent: Time,
    /// How often it came, and how often it was fed to an executor.
    pub(super) came: u32,
    pub(super) fed: u32,
}

/// A simulated process that runs tasks one after the other.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) program: ProgramId,
    pub(super) setting: SettingId,
    /// Shared values that it was told of.
    pub(super) told: BTreeSet<ShareId>,
    pub(super) queue: VecDeque<(TaskId, Attempt, Payload)>,
    /// Results that were not flushed yet.
    pub(super) unflushed: Vec<(Class, u64, u32, Payload)>,
    pub(super) started: Time,
    /// Which run this is, so that what was planned for an earlier one is nothing to it.
    pub(super) run: u64,
    pub(super) runs: bool,
    pub(super) dying: bool,
    /// How much it has asked, and the task that runs, if that saves.
    pub(super) asked: u32,
    pub(super) saving: Option<Saving>,
}

#[derive(Debug)]
pub(super) struct ClientHost {
    pub(super) machine: Client,
    /// What its executors are to be started with.
    pub(super) setting: SettingId,
    pub(super) specs: Vec<Spec>,
    pub(super) done: BTreeMap<TaskId, Completion>,
    /// Its disk: what it recorded.
    pub(super) recorded: BTreeSet<TaskId>,
    pub(super) next_task: u64,
    /// The master's epoch when it was last welcomed.
    pub(super) epoch: u64,
    pub(super) in_flight: BTreeSet<TaskId>,
    pub(super) window: u32,
    /// What it claims, if it goes on with the session of a process that was killed.
    pub(super) claimed: Option<BTreeSet<TaskId>>,
}

impl ClientHost {
    pub(super) fn new(machine: Client, setting: SettingId, specs: Vec<Spec>) -> Self {
        Self {
            machine,
            setting,
            specs,
            done: BTreeMap::new(),
            recorded: BTreeSet::new(),
            next_task: 0,
            epoch: 0,
            in_flight: BTreeSet::new(),
            window: 1,
            claimed: None,
        }
    }
}

pub(super) struct MasterHost {
    pub(super) node: Node,
    pub(super) machine: Option<Master>,
    pub(super) epoch: u64,
    pub(super) roster: BTreeMap<u32, Member>,
    pub(super) first_id: u32,
    /// Hosts by number, as far as they are connected.
    pub(super) peers: BTreeMap<u32, usize>,
    /// When, by its own clock, each worker joined or was last heard.
    pub(super) heard: BTreeMap<u32, Time>,
    /// The newest attempt of each task at each worker, by the numbers of client and worker.
    pub(super) attempts: BTreeMap<(u32, u32, TaskId), Attempt>,
}

impl Host {
    pub(super) fn is_worker(&self) -> bool {
        matches!(self.role, Role::Worker(_) | Role::Rogue { is_worker: true })
    }

    pub(super) fn is_rogue(&self) -> bool {
        matches!(self.role, Role::Rogue { .. })
    }

    pub(super) fn worker(&mut self) -> Option<&mut WorkerHost> {
        match &mut self.role {
            Role::Worker(worker) => Some(worker),
            _ => None,
        }
    }

    pub(super) fn client(&mut self) -> Option<&mut ClientHost> {
        match &mut self.role {
            Role::Client(client) => Some(client),
            _ => None,
        }
    }
}
