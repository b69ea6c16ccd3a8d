//! The handshake: who calls, what it speaks, which program it is; and the master's answer.
//!
//! These two frames can be read by every version: a magic word, the versions spoken, and only then
//! what depends on the version. So two builds that share no version can still name each other.

use serde::{Deserialize, Serialize};

use super::client::Window;
use crate::ids::{ClientId, ProgramId, WorkerId};

/// Oldest protocol version spoken.
pub const PROTOCOL_MIN: u16 = 1;
/// Newest protocol version spoken.
pub const PROTOCOL_MAX: u16 = 1;

const MAGIC: [u8; 4] = *b"cw/\0";

/// The first frame on a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of cw.
    pub version: String,
    /// Target triple, or as much of it as is known.
    pub target: String,
    /// Hash of the executable.
    pub program: ProgramId,
    /// The executable's file name.
    pub program_name: String,
    /// Where the process runs, `host:pid`.
    pub name: String,
    /// What it wants to be.
    pub role: Role,
    /// Who it is, so that it is known again after its connection broke.
    pub session: Session,
    /// The program's jobs, sorted by id: a line's place is the job's index.
    pub jobs: Vec<JobLine>,
    /// What the engine calls this process that started it, such as a Slurm job.
    pub launched: Option<String>,
}

/// What a caller wants to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Submits tasks.
    Client,
    /// Runs tasks, this many at once.
    Worker {
        /// At least 1.
        slots: u32,
        /// Of which programs.
        programs: Programs,
        /// Seconds until its allocation ends; none if no end is known. Never a time of day: clocks disagree.
        left: Option<u32>,
    },
    /// Looks at how things stand, and may stop the cluster. Shows the key of a client, and is no member.
    Observer,
}

/// Which programs a worker runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Programs {
    /// Its own build only.
    Own,
    /// Its own, and those it finds at their client's path, as on a shared file system.
    Shared,
    /// All that a client of the cluster has.
    #[default]
    Any,
}

/// What outlives a connection of a client or a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Drawn at random by the process when it starts: what proves that it is the one it says it was.
    pub token: Token,
    /// The number a master of the cluster gave it before.
    pub known: Option<u32>,
}

/// A secret between a process and the masters of its cluster.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token(pub [u8; 16]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A line of the job table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLine {
    /// Hash of the path.
    pub id: u64,
    /// Hash of signature and types.
    pub schema: u64,
    /// The job's path.
    pub path: String,
}

/// The master's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The caller is in.
    Welcome(Welcome),
    /// The caller is out, and calling again cannot help.
    Refused(Refusal),
}

/// What a caller learns when it is let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Welcome {
    /// To a client.
    Client {
        /// Its number.
        client: ClientId,
        /// The master's epoch; grows with every start of a master on the cluster.
        epoch: u64,
        /// How much it may have in flight.
        window: Window,
        /// Slots of the workers there are.
        slots: u32,
        /// Whether its session goes on: what it handed in before may have run.
        resumed: bool,
    },
    /// To a worker.
    Worker {
        /// Its number.
        worker: WorkerId,
        /// The master's epoch.
        epoch: u64,
        /// Whether it is known: it keeps what it has, and says what that is.
        returned: bool,
    },
    /// To an observer.
    Observer {
        /// The master's epoch.
        epoch: u64,
    },
}

/// Why a caller is not let in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The key it used is for another role.
    Role {
        /// The role its key is for.
        key: String,
        /// The role it asked for.
        asked: String,
    },
    /// No protocol version in common.
    Protocol {
        /// The master's cw version and protocol versions, in words.
        master: String,
    },
    /// The greeting made no sense.
    Malformed {
        /// What was wrong with it.
        why: String,
    },
}

/// A greeting that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Not a greeting of cw at all.
    #[error("the peer does not speak cw")]
    NotCw,
    /// No version in common.
    #[error(
        "the peer speaks protocol {theirs_min} to {theirs_max}, this side {PROTOCOL_MIN} to {PROTOCOL_MAX}"
    )]
    Protocol {
        /// Oldest version of the peer.
        theirs_min: u16,
        /// Newest version of the peer.
        theirs_max: u16,
    },
    /// Cut short or garbled.
    #[error("the peer's greeting cannot be decoded")]
    Garbled,
}

/// The contents of a hello frame.
pub fn encode_hello(hello: &Hello) -> Vec<u8> {
    with_prefix(hello)
}

/// The contents of a reply frame.
pub fn encode_reply(reply: &Reply) -> Vec<u8> {
    with_prefix(reply)
}

/// Reads a hello frame.
///
/// # Errors
/// [`HelloError`]; calling again cannot help.
pub fn decode_hello(frame: &[u8]) -> Result<Hello, HelloError> {
    decode(frame)
}

/// Reads a reply frame.
///
/// # Errors
/// [`HelloError`]; calling again cannot help.
pub fn decode_reply(frame: &[u8]) -> Result<Reply, HelloError> {
    decode(frame)
}

fn with_prefix<T: Serialize>(message: &T) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&PROTOCOL_MIN.to_le_bytes());
    out.extend_from_slice(&PROTOCOL_MAX.to_le_bytes());
    postcard::to_extend(message, out).expect("greetings are plain data, which postcard always encodes")
}

fn decode<T: for<'de> Deserialize<'de>>(frame: &[u8]) -> Result<T, HelloError> {
    let (prefix, rest) = frame.split_first_chunk::<8>().ok_or(HelloError::NotCw)?;
    let [m0, m1, m2, m3, min0, min1, max0, max1] = *prefix;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(HelloError::NotCw);
    }
    let theirs_min = u16::from_le_bytes([min0, min1]);
    let theirs_max = u16::from_le_bytes([max0, max1]);
    if theirs_min > PROTOCOL_MAX || theirs_max < PROTOCOL_MIN {
        return Err(HelloError::Protocol { theirs_min, theirs_max });
    }
    match postcard::take_from_bytes(rest) {
        Ok((message, [])) => Ok(message),
        _ => Err(HelloError::Garbled),
    }
}
