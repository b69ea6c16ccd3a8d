//! Between the master and an observer, who looks at a cluster and may stop it.
//!
//! An observer shows the key of a client and is no member: it has no number, and no master remembers it. It asks, and
//! hears one answer to each question.

use serde::{Deserialize, Serialize};

use super::Head;
use crate::ids::{ClientId, WorkerId};

/// From an observer to the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromObserver {
    /// How do things stand? Answered by `Standing`.
    Look,
    /// Have all workers leave, and end. Answered by `Stopping`, and then by the end of the connection.
    Stop,
}

/// From the master to an observer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToObserver {
    /// How things stand. Boxed, as the other answer is nothing.
    Standing(Box<Standing>),
    /// The master is about to end.
    Stopping,
}

/// How things stand in a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The master's epoch.
    pub epoch: u64,
    /// The master's version of cw.
    pub version: String,
    /// Where the master runs, `host:pid`.
    pub name: String,
    /// For how long it has run, in seconds.
    pub seconds: u64,
    /// By number.
    pub workers: Vec<WorkerStanding>,
    /// By number; those too that are away and may come back.
    pub clients: Vec<ClientStanding>,
    /// What is said of workers that are to come: why they do not, and what became of others.
    pub outlook: Option<String>,
}

/// A worker, as its master has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStanding {
    /// Its number.
    pub worker: WorkerId,
    /// Where it runs, `host:pid`.
    pub name: String,
    /// The file name of the program it is.
    pub program_name: String,
    /// So many tasks run at once.
    pub slots: u32,
    /// So many of them have one, as far as the master can tell.
    pub running: u32,
    /// Tasks that wait there for a slot.
    pub ahead: u32,
    /// How it is.
    pub state: WorkerState,
    /// Seconds until its allocation ends, if it has one that ends.
    pub left: Option<u32>,
    /// From where it is connected; empty while it is not.
    pub address: String,
}

/// How a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerState {
    /// It is heard and takes tasks.
    Well,
    /// It was not heard for a while.
    Silent,
    /// It is sent no tasks for a while, as too many failed there.
    SetAside,
    /// It hands back what it has, and ends.
    Leaving,
    /// It has no connection, and may come back.
    Away,
}

/// A client, as its master has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientStanding {
    /// Its number.
    pub client: ClientId,
    /// Where it runs, `host:pid`; empty if this master has not seen it yet.
    pub name: String,
    /// The file name of its program.
    pub program_name: String,
    /// Tasks that wait, here and at workers. What is beyond its window waits with the client, and no master knows of it.
    pub queued: u64,
    /// Tasks in slots, as far as the master can tell.
    pub running: u64,
    /// Tasks that have succeeded under this master.
    pub done: u64,
    /// Tasks that have ended in another way under this master.
    pub failed: u64,
    /// Why nothing of it moves, if nothing does.
    pub stall: Option<String>,
    /// Whether it has no connection, and may come back.
    pub is_away: bool,
}

impl Head for FromObserver {
    fn carries_body(&self) -> bool {
        false
    }
}

impl Head for ToObserver {
    fn carries_body(&self) -> bool {
        false
    }
}
