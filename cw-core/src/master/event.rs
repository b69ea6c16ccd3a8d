//! What a master hears and what it does.

use bytes::BytesMut;

use crate::{
    Payload,
    actions::Tells,
    ids::{ClientId, ProgramId, WorkerId},
    wire::{FromClient, FromWorker, Programs, ToClient, ToWorker, Token, join},
};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A client was admitted.
    ClientJoined {
        /// Its number.
        client: ClientId,
        /// The program it is.
        program: ProgramId,
        /// Whether its session goes on, by [`admit`](super::Master::admit).
        returned: bool,
    },
    /// A client said something.
    ClientSaid {
        /// Which.
        client: ClientId,
        /// What.
        message: FromClient,
        /// The message's body.
        body: Payload,
    },
    /// A client's connection ended. Its session goes on for a while.
    ClientLost {
        /// Which.
        client: ClientId,
    },
    /// A worker was admitted.
    WorkerJoined {
        /// Its number.
        worker: WorkerId,
        /// The program it is.
        program: ProgramId,
        /// Which it runs.
        programs: Programs,
        /// The file name of the one it is.
        program_name: String,
        /// The worker's name, `host:pid`.
        name: String,
        /// How many tasks it runs at once, at least 1.
        slots: u32,
        /// Whether it is known, by [`admit`](super::Master::admit): it will say what it has.
        returned: bool,
    },
    /// A worker has acknowledged something it was sent: both ways of its connection carry.
    WorkerHeard {
        /// Which.
        worker: WorkerId,
    },
    /// A worker said something.
    WorkerSaid {
        /// Which.
        worker: WorkerId,
        /// What.
        message: FromWorker,
        /// The message's body.
        body: Payload,
    },
    /// A worker's connection ended. It may come back.
    WorkerLost {
        /// Which.
        worker: WorkerId,
    },
    /// The cluster is to end: all workers are to leave, which counts against nobody.
    Dismiss,
    /// Whoever starts workers has something new to say. Comes every few seconds at most.
    Outlook {
        /// Why there are no more of them, in one line; none if there is nothing to say.
        why: Option<String>,
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
        body: Payload,
    },
    /// Send a worker a message.
    TellWorker {
        /// Which.
        worker: WorkerId,
        /// What.
        message: ToWorker,
        /// The message's body.
        body: Payload,
    },
    /// Close a client's connection: it breaks the rules.
    Disconnect {
        /// Which.
        client: ClientId,
        /// Which rule, in words.
        why: &'static str,
    },
    /// Close a worker's connection, if there still is one: it was given up, and has to join anew.
    DisconnectWorker {
        /// Which.
        worker: WorkerId,
        /// How it called itself: a connection that knows may be gone.
        name: String,
        /// Why, in words.
        why: &'static str,
    },
    /// Write to the roster, which the next master reads.
    Note(RosterLine),
}

/// What the next master of a cluster must know of this one's peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RosterLine {
    /// A peer was admitted.
    Joined(Member),
    /// It has left for good, or was given up.
    Left {
        /// Its number.
        id: u32,
    },
}

/// A peer that may come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number, given to nobody else ever after.
    pub id: u32,
    /// What proves that it is the same.
    pub token: Token,
    /// Whether it is a worker; else it is a client.
    pub is_worker: bool,
}

impl Tells for Action {
    fn join(&mut self, next: &Self, open: &mut BytesMut) -> bool {
        match (self, next) {
            (
                Self::TellClient { client, message, body },
                Self::TellClient { client: same, message: next, body: next_body },
            ) if client == same => join((message, body), (next, next_body), open),
            (
                Self::TellWorker { worker, message, body },
                Self::TellWorker { worker: same, message: next, body: next_body },
            ) if worker == same => join((message, body), (next, next_body), open),
            _ => false,
        }
    }

    fn body(&mut self) -> Option<&mut Payload> {
        match self {
            Self::TellClient { body, .. } | Self::TellWorker { body, .. } => Some(body),
            Self::Disconnect { .. } | Self::DisconnectWorker { .. } | Self::Note(_) => None,
        }
    }
}
