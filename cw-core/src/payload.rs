//! Arguments and results as they are kept and passed on.

use std::{
    fmt,
    ops::{Deref, Range},
};

use bytes::Bytes;

/// So many bytes are kept in place. What is left of the size of [`Bytes`].
const SHORT: usize = 23;

/// Bytes that are passed on unread: short ones are kept in place, so that a small argument costs neither an allocation
/// nor a counted reference, nor keeps alive what it came with; longer ones are shared, so that nobody copies them.
#[derive(Clone)]
pub struct Payload(Kept);

#[derive(Clone)]
enum Kept {
    Short { length: u8, bytes: [u8; SHORT] },
    Shared(Bytes),
}

const _: () = assert!(size_of::<Payload>() == size_of::<Bytes>());

impl Payload {
    /// None.
    pub const fn new() -> Self {
        Self(Kept::Short { length: 0, bytes: [0; SHORT] })
    }

    /// All of something, which is kept as long as this is, however short it is.
    pub fn shared(bytes: Bytes) -> Self {
        Self(Kept::Shared(bytes))
    }

    /// Of a constant.
    pub fn from_static(bytes: &'static [u8]) -> Self {
        Bytes::from_static(bytes).into()
    }

    /// A copy.
    pub fn copy_from_slice(bytes: &[u8]) -> Self {
        Self::short(bytes).unwrap_or_else(|| Self(Kept::Shared(Bytes::copy_from_slice(bytes))))
    }

    /// A part of something that is shared.
    ///
    /// # Panics
    /// If there is no such part.
    #[inline]
    pub fn part_of(whole: &Bytes, range: Range<usize>) -> Self {
        // A copy of a length that is known when this is compiled is a few instructions. What is beyond the part is not seen.
        if range.len() <= SHORT
            && let Some(bytes) = whole.get(range.start..).and_then(<[u8]>::first_chunk)
        {
            return Self(Kept::Short { length: range.len() as u8, bytes: *bytes });
        }
        Self::short(&whole[range.clone()]).unwrap_or_else(|| Self(Kept::Shared(whole.slice(range))))
    }

    /// A part.
    ///
    /// # Panics
    /// If there is no such part.
    #[inline]
    pub fn part(&self, range: Range<usize>) -> Self {
        match &self.0 {
            Kept::Short { .. } => Self::short(&self[range]).expect("a part of what is short is short"),
            Kept::Shared(bytes) => Self::part_of(bytes, range),
        }
    }

    /// A copy that is kept in place; none if they are too many for that.
    pub fn short(from: &[u8]) -> Option<Self> {
        if from.len() > SHORT {
            return None;
        }
        let mut bytes = [0; SHORT];
        bytes[..from.len()].copy_from_slice(from);
        Some(Self(Kept::Short { length: u8::try_from(from.len()).ok()?, bytes }))
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Kept::Short { length, bytes } => &bytes[..usize::from(*length)],
            Kept::Shared(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Payload {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::new()
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::short(&bytes).unwrap_or(Self(Kept::Shared(bytes)))
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::short(&bytes).unwrap_or_else(|| Self(Kept::Shared(bytes.into())))
    }
}

impl From<&'static [u8]> for Payload {
    fn from(bytes: &'static [u8]) -> Self {
        Self::from_static(bytes)
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<Payload> for Bytes {
    /// Costs an allocation if it is short.
    fn from(payload: Payload) -> Self {
        match payload.0 {
            Kept::Short { .. } => Self::copy_from_slice(&payload),
            Kept::Shared(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Payload {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

impl Eq for Payload {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ones_are_kept_in_place_and_long_ones_shared() {
        let whole = Bytes::from((0..100).collect::<Vec<u8>>());
        for length in [0, 1, SHORT, SHORT + 1, 100] {
            let payload = Payload::part_of(&whole, 0..length);
            assert_eq!(payload, whole[..length]);
            assert_eq!(payload, Payload::copy_from_slice(&whole[..length]));
            assert_eq!(matches!(payload.0, Kept::Short { .. }), length <= SHORT);
            assert_eq!(Bytes::from(payload.clone()), whole[..length]);
            assert_eq!(payload.part(0..length.min(5)), whole[..length.min(5)]);
        }
        let long = Payload::from(whole.clone());
        assert!(std::ptr::eq(long.as_ptr(), whole.as_ptr()));
        assert!(std::ptr::eq(long.part(10..60).as_ptr(), &raw const whole[10]));
    }
}
