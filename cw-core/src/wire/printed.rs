//! What a task printed, as it travels behind its result.

use crate::Payload;
use bytes::BytesMut;

/// What is kept of what a task printed: its beginning and its end, if it is long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printed {
    /// How many bytes it printed in all.
    pub total: u64,
    /// The first of them.
    pub head: Payload,
    /// The last of them, where not all are in `head`. What lies between was left out.
    pub tail: Payload,
}

impl Printed {
    /// Nothing was printed.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// How many bytes between head and tail were left out.
    pub fn left_out(&self) -> u64 {
        self.total.saturating_sub((self.head.len() + self.tail.len()) as u64)
    }

    /// As bytes; none at all for nothing.
    pub fn encode(&self) -> Payload {
        if self.is_empty() {
            return Payload::new();
        }
        let head = u32::try_from(self.head.len()).expect("little is kept");
        let mut out = BytesMut::with_capacity(12 + self.head.len() + self.tail.len());
        out.extend_from_slice(&self.total.to_le_bytes());
        out.extend_from_slice(&head.to_le_bytes());
        out.extend_from_slice(&self.head);
        out.extend_from_slice(&self.tail);
        out.freeze().into()
    }

    /// Reads such bytes; what makes no sense is nothing.
    pub fn decode(bytes: &Payload) -> Self {
        let Some((total, rest)) = bytes.split_first_chunk::<8>() else { return Self::default() };
        let Some((head, kept)) = rest.split_first_chunk::<4>() else { return Self::default() };
        let head = (u32::from_le_bytes(*head) as usize).min(kept.len());
        let total = u64::from_le_bytes(*total).max(kept.len() as u64);
        Self { total, head: bytes.part(12..12 + head), tail: bytes.part(12 + head..bytes.len()) }
    }
}

/// Takes apart a body and what is behind it. A length that is too great is taken for all there is.
pub fn split_output(body: &Payload, output: u32) -> (Payload, Payload) {
    if output == 0 {
        return (body.clone(), Payload::new());
    }
    let at = body.len().saturating_sub(output as usize);
    (body.part(0..at), body.part(at..body.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_printed_travels_behind_the_result() {
        let printed =
            Printed { total: 100, head: Payload::from_static(b"head"), tail: Payload::from_static(b"tail") };
        let encoded = printed.encode();
        let body = Payload::from([b"result", &encoded[..]].concat());
        let (result, output) = split_output(&body, u32::try_from(encoded.len()).unwrap());
        assert_eq!(result, b"result"[..]);
        assert_eq!(Printed::decode(&output), printed);
        assert_eq!(printed.left_out(), 92);
        assert!(Printed::default().encode().is_empty() && Printed::decode(&Payload::new()).is_empty());
    }

    #[test]
    fn lies_about_lengths_cost_nothing() {
        let body = Payload::from_static(b"short");
        assert_eq!(split_output(&body, u32::MAX), (Payload::new(), body.clone()));
        let lie = Payload::from([&[0; 8][..], &[255; 4], b"kept"].concat());
        let printed = Printed::decode(&lie);
        assert_eq!((printed.total, printed.head.len(), printed.left_out()), (4, 4, 0));
        (0..12).for_each(|length| assert!(Printed::decode(&lie.part(0..length)).is_empty()));
    }
}
