//! Arguments too big to be sent about with their task.

use crate::Payload;

use super::Spec;
use crate::ids::ShareId;

/// Arguments that lie apart take up room with their client and not with the master: one byte of so many counts.
pub const APART_WEIGHT: usize = 8;

/// What is sent in place of arguments that lie apart: which they are. They are brought to a node once, however often
/// their task is sent there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apart {
    /// The BLAKE3 hash of the encoded arguments.
    pub share: ShareId,
    /// How many bytes those are.
    pub bytes: u64,
}

impl Apart {
    /// As bytes: the hash, then the length.
    pub fn encode(&self) -> Payload {
        Payload::from([&self.share.0[..], &self.bytes.to_le_bytes()].concat())
    }

    /// Reads such bytes; none if they are no such thing.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (hash, rest) = bytes.split_first_chunk()?;
        Some(Self { share: ShareId(*hash), bytes: u64::from_le_bytes(rest.try_into().ok()?) })
    }
}

impl Spec {
    /// How many bytes the arguments of one of its tasks are, by what is sent with it.
    pub fn args_bytes(&self, sent: &[u8]) -> u64 {
        let apart = self.apart.then(|| Apart::decode(sent)).flatten();
        apart.map_or(sent.len() as u64, |apart| apart.bytes)
    }

    /// What they count against their client's window, in bytes.
    pub fn weight(&self, sent: &[u8]) -> u64 {
        if self.apart { self.args_bytes(sent) / APART_WEIGHT as u64 } else { sent.len() as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_short_or_too_long_is_no_such_thing() {
        let apart = Apart { share: ShareId([7; 32]), bytes: 5 << 20 };
        let bytes = apart.encode();
        assert_eq!(Apart::decode(&bytes), Some(apart));
        assert_eq!(Apart::decode(&bytes[1..]), None);
        assert_eq!(Apart::decode(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(Apart::decode(&[]), None);
    }
}
