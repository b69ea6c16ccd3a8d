//! What a master hears and what it does.

use bytes::Bytes;

use crate::{
    ids::{ClientId, ProgramId, WorkerId},
    wire::{FromClient, FromWorker, ToClient, ToWorker},
};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A client was welcomed.
    ClientJoined {
        /// Its number, new.
        client: ClientId,
        /// The program it is.
        program: ProgramId,
    },
    /// A client said something.
    ClientSaid {
        /// Which.
        client: ClientId,
        /// What.
        message: FromClient,
        /// The message's body.
        body: Bytes,
    },
    /// A client's connection ended.
    ClientLost {
        /// Which.
        client: ClientId,
    },
    /// A worker was welcomed.
    WorkerJoined {
        /// Its number, new.
        worker: WorkerId,
        /// The program it runs.
        program: ProgramId,
        /// That program's file name.
        program_name: String,
        /// The worker's name, `host:pid`.
        name: String,
        /// How many tasks it runs at once, at least 1.
        slots: u32,
    },
    /// A worker said something.
    WorkerSaid {
        /// Which.
        worker: WorkerId,
        /// What.
        message: FromWorker,
        /// The message's body.
        body: Bytes,
    },
    /// A worker's connection ended.
    WorkerLost {
        /// Which.
        worker: WorkerId,
    },
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send a client a message.
    TellClient {
        /// Which.
        client: ClientId,
        /// What.
        message: ToClient,
        /// The message's body.
        body: Bytes,
    },
    /// Send a worker a message.
    TellWorker {
        /// Which.
        worker: WorkerId,
        /// What.
        message: ToWorker,
        /// The message's body.
        body: Bytes,
    },
    /// Close a client's connection: it breaks the rules.
    Disconnect {
        /// Which.
        client: ClientId,
        /// Which rule, in words.
        why: &'static str,
    },
}
