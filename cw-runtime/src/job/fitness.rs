//! Whether the wire can carry a type, found out without a value of the user's.
//!
//! The recorder's dummies make values: full ones, and lean ones of zeros and of empty texts and containers, as those
//! are what `skip_serializing_if` leaves out. Containers are emptied only from some depth on, so that a lean value is
//! also seen inside a list. Whatever completes is serialized, and serde names the fields it would leave out. A type
//! that accepts no such dummies is not found here; its values are refused when they are encoded.

use serde::{Deserialize, Serialize};

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
    /// Whether it does not read back what it has written.
    pub(super) is_one_way: bool,
}

/// Traces `T`, and serializes values of it.
pub(super) fn examine<T: Serialize + Deserialize<'static>>() -> Findings {
    let (mut skipped, mut is_one_way) = (Vec::new(), false);
    let trace = record(Dummies::FULL, &mut |value: T| {
        note_skipped(&value, &mut skipped);
        is_one_way = is_one_way || (skipped.is_empty() && !reads_back(&value));
    });
    let mut inspect = |value: T| note_skipped(&value, &mut skipped);
    // Only fields with names are left out. Zeros are likelier to panic than ones, and may do so only where that is
    // not the end.
    if trace.has_fields && trace.any.is_empty() && CAN_CATCH {
        for depth in 0..=trace.containers_deepest.min(DEPTH_MAX) {
            record(Dummies::lean(depth, 0), &mut inspect);
            record(Dummies::lean(depth, 1), &mut inspect);
        }
    }
    let is_one_way = is_one_way && trace.any.is_empty() && skipped.is_empty();
    Findings { text: trace.text, any: trace.any, skipped, is_one_way }
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

/// Whether a value is read from just the bytes it becomes. One that does not become any is refused when it is encoded.
fn reads_back<T: Serialize + Deserialize<'static>>(value: &T) -> bool {
    let Ok(bytes) = postcard::to_stdvec(value) else { return true };
    // As a type may borrow from its bytes for ever; they are few, and each type is examined once.
    matches!(postcard::take_from_bytes::<T>(bytes.leak()), Ok((_, [])))
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
