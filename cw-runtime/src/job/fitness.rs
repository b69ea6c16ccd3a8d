//! Whether the wire can carry a type, found out without a value of the user's.
//!
//! The recorder's dummies make values: full ones, and lean ones of zeros and of empty texts and containers, as those
//! are what `skip_serializing_if` leaves out. Containers are emptied only from some depth on, so that a lean value is
//! also seen inside a list. Whatever completes is serialized, and serde names the fields it would leave out; those of
//! tuples, which have no names, it leaves out without a word, so what was written is also read again. A type that
//! accepts no such dummies is not found here; its values are refused when they are encoded.

use serde::{Serialize, de::DeserializeOwned};

use super::quiet::CAN_CATCH;
use super::recorder::{Dummies, record};
use super::strict::{Skipped, Skips, Value};

/// Lists in lists in lists are filled; deeper ones are rare, and each level costs two more rounds.
const DEPTH_MAX: usize = 3;

/// What was found out about a type.
pub(super) struct Findings {
    /// Its trace.
    pub(super) text: String,
    /// The types that need a self-describing format.
    pub(super) any: Vec<&'static str>,
    /// The fields that serde may leave out.
    pub(super) skipped: Vec<Skipped>,
    /// Why its values do not come back, if for no reason above.
    pub(super) flaw: Option<Flaw>,
}

/// Why a value does not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// `Deserialize` does not read what `Serialize` has written.
    OneWay,
    /// `Serialize` writes a list whose length it does not know when it begins.
    NoLength,
}

/// Traces `T`, serializes values of it, and reads them again.
pub(super) fn examine<T: Serialize + DeserializeOwned>() -> Findings {
    let (mut skipped, mut flaw) = (Vec::new(), None);
    let mut inspect = |value: T| {
        note_skipped(&value, &mut skipped);
        if skipped.is_empty() && flaw.is_none() {
            flaw = find_flaw(&value);
        }
    };
    let trace = record(Dummies::FULL, &mut inspect);
    // Only fields are left out. Zeros are likelier to panic than ones, and may do so only where that is not the end.
    if trace.has_fields && trace.any.is_empty() && CAN_CATCH {
        for depth in 0..=trace.containers_deepest.min(DEPTH_MAX) {
            record(Dummies::lean(depth, 0), &mut inspect);
            record(Dummies::lean(depth, 1), &mut inspect);
        }
    }
    let flaw = flaw.filter(|_| trace.any.is_empty() && skipped.is_empty());
    Findings { text: trace.text, any: trace.any, skipped, flaw }
}

fn note_skipped<T: Serialize>(value: &T, all: &mut Vec<Skipped>) {
    let skips = Skips::gathered();
    // A value that is refused was serialized up to there.
    let _ = postcard::serialize_with_flavor(&Value { value, skips: &skips }, Sink);
    for skipped in skips.into_found() {
        if !all.contains(&skipped) {
            all.push(skipped);
        }
    }
}

/// A value that does not become bytes for another reason is refused when it is encoded, and its type may be fit.
fn find_flaw<T: Serialize + DeserializeOwned>(value: &T) -> Option<Flaw> {
    match postcard::to_stdvec(value) {
        Ok(bytes) => {
            let reads_back = matches!(postcard::take_from_bytes::<T>(&bytes), Ok((_, [])));
            (!reads_back).then_some(Flaw::OneWay)
        }
        Err(postcard::Error::SerializeSeqLengthUnknown) => Some(Flaw::NoLength),
        Err(_) => None,
    }
}

/// Keeps nothing.
struct Sink;

impl postcard::ser_flavors::Flavor for Sink {
    type Output = ();

    fn try_push(&mut self, _: u8) -> postcard::Result<()> {
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
