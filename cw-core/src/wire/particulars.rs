//! What a client says of itself to the workers that run its tasks.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Longest particulars that are passed on, in bytes.
pub const PARTICULARS_BYTES_MAX: usize = 1 << 20;

/// What is said between a worker and its executors. A worker starts those of its own version only.
pub const EXECUTOR_PROTOCOL: u16 = 1;

/// The body of `Introduce` and `Meet`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Particulars {
    /// The BLAKE3 hash of its executable.
    pub hash: [u8; 32],
    /// How long that is.
    pub bytes: u64,
    /// Its file name.
    pub name: String,
    /// What it was built for, as in [`Hello`](super::Hello).
    pub target: String,
    /// Which protocol its executors speak.
    pub executors: u16,
    /// Where it lies on the client's machine, as the bytes of a path.
    pub path: Vec<u8>,
    /// The client's working directory, as the bytes of a path.
    pub folder: Vec<u8>,
    /// Variables and their values.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Particulars {
    /// The body of a message.
    pub fn encode(&self) -> Bytes {
        postcard::to_stdvec(self).expect("plain data, which postcard always encodes").into()
    }

    /// Reads such a body; none if it is garbled.
    pub fn decode(body: &[u8]) -> Option<Self> {
        match postcard::take_from_bytes(body) {
            Ok((it, [])) => Some(it),
            _ => None,
        }
    }
}
