//! Bytes in and out: postcard for values, plain bytes for `Vec<u8>`, and errors that say what was being coded.
//!
//! Arguments are coded one after the other, with no frame around them, so that an error can name its argument.

use std::any::Any;
use std::fmt;

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::strict::{Skipped, Skips, Value};

/// A value did not become bytes, or bytes did not become a value.
///
/// Its `Display` is one line which names the argument, or the result, and what happened to it. Trying again does not
/// help: the same value fails in the same way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecError {
    place: Place,
    reason: Reason,
}

/// What was being coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// One argument.
    Argument {
        /// The parameter's name.
        name: &'static str,
        /// Its Rust type.
        type_name: &'static str,
    },
    /// The end of the arguments.
    Arguments,
    /// The result.
    Result {
        /// Its Rust type.
        type_name: &'static str,
    },
    /// What a task has saved.
    State {
        /// Its Rust type.
        type_name: &'static str,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reason {
    Postcard(postcard::Error),
    LeftOver { bytes: usize },
    Skipped(Skipped),
}

impl CodecError {
    /// Whether the result was being coded, rather than an argument.
    pub(super) fn is_about_result(&self) -> bool {
        matches!(self.place, Place::Result { .. })
    }
}

impl Place {
    pub(super) fn argument<T: ?Sized>(name: &'static str) -> Self {
        Self::Argument { name, type_name: std::any::type_name::<T>() }
    }

    pub(super) fn result<T>() -> Self {
        Self::Result { type_name: std::any::type_name::<T>() }
    }

    /// Its `Serialize` refused it.
    pub(super) fn refused(self) -> CodecError {
        self.failed(postcard::Error::SerdeSerCustom)
    }

    fn failed(self, error: postcard::Error) -> CodecError {
        CodecError { place: self, reason: Reason::Postcard(error) }
    }

    /// The field that was left out counts more than the error it led to, which has no text.
    fn unserializable(self, error: postcard::Error, skips: Skips) -> CodecError {
        self.skipped(skips).unwrap_or_else(|| self.failed(error))
    }

    /// The first field that was left out, if any was.
    pub(super) fn skipped(self, skips: Skips) -> Option<CodecError> {
        let skipped = *skips.into_found().first()?;
        Some(CodecError { place: self, reason: Reason::Skipped(skipped) })
    }

    fn left_over(self, bytes: usize) -> CodecError {
        CodecError { place: self, reason: Reason::LeftOver { bytes } }
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

impl std::error::Error for CodecError {}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument { name, type_name } => write!(f, "argument `{name}` of type {type_name}"),
            Self::Arguments => f.write_str("the arguments"),
            Self::Result { type_name } => write!(f, "the result of type {type_name}"),
            Self::State { type_name } => write!(f, "the saved state of type {type_name}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeftOver { bytes: 1 } => f.write_str("1 byte left over"),
            Self::LeftOver { bytes } => write!(f, "{bytes} bytes left over"),
            Self::Postcard(error) => f.write_str(in_words(error)),
            Self::Skipped(skipped) => skipped.fmt(f),
        }
    }
}

/// Postcard's own texts are written for its developers, and it drops the text of serde's errors.
fn in_words(error: &postcard::Error) -> &'static str {
    use postcard::Error as E;
    match error {
        E::WontImplement | E::NotYetImplemented => {
            "it needs a self-describing format (serde's `flatten`, `untagged`, `tag = ..` or a JSON value), which the wire is not"
        }
        E::SerializeSeqLengthUnknown => {
            "its `Serialize` does not say how long it is (serde's `flatten` does that)"
        }
        E::DeserializeUnexpectedEnd => "the bytes end too early",
        E::DeserializeBadVarint => "a number is too large for its type",
        E::DeserializeBadBool => "a bool is neither 0 nor 1",
        E::DeserializeBadChar => "a char is not one",
        E::DeserializeBadUtf8 => "a text is not UTF-8",
        E::DeserializeBadOption => "an option is neither present nor absent",
        E::DeserializeBadEnum => "an enum has no such variant",
        E::SerdeSerCustom | E::CollectStrError => "its `Serialize` refused the value",
        E::SerdeDeCustom => "its `Deserialize` refused the value",
        _ => "the bytes are not such a value",
    }
}

/// Appends `value` to `out`, or leaves `out` as it was.
pub(super) fn put<T: Serialize + ?Sized>(
    value: &T,
    place: Place,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let before = out.len();
    let skips = Skips::fatal();
    postcard::serialize_with_flavor(&Value { value, skips: &skips }, Append(out)).map_err(|error| {
        out.truncate(before);
        place.unserializable(error, skips)
    })
}

/// Appends an argument, or leaves `out` as it was.
pub(crate) fn put_argument<T: Serialize + ?Sized>(
    name: &'static str,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    put(value, Place::argument::<T>(name), out)
}

/// Appends what a task saves.
pub(crate) fn put_state<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    put(value, Place::State { type_name: std::any::type_name::<T>() }, out)
}

/// Reads what a task has saved.
pub(crate) fn whole_state<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let place = Place::State { type_name: std::any::type_name::<T>() };
    let mut reader = Reader::new(bytes);
    let value = reader.take(place)?;
    reader.finish(place)?;
    Ok(value)
}

/// As [`put`], but a `Vec<u8>` goes in one piece: serde hands it over byte by byte, some thirty times slower.
/// The bytes are the same either way, so the two sides need not agree.
pub(super) fn put_owned<T: Serialize + 'static>(
    value: &T,
    place: Place,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    match (value as &dyn Any).downcast_ref::<Vec<u8>>() {
        Some(bytes) => put(serde_bytes::Bytes::new(bytes), place, out),
        None => put(value, place, out),
    }
}

/// Reads one value which has to be all of `bytes`.
pub(super) fn whole<T: DeserializeOwned + 'static>(bytes: &[u8], place: Place) -> Result<T, CodecError> {
    let mut reader = Reader::new(bytes);
    let value = reader.take_owned(place)?;
    reader.finish(place)?;
    Ok(value)
}

/// Reads a task's arguments one after the other.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader at the first argument.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// To be called after the last argument: bytes that nobody read mean that the two sides disagree.
    ///
    /// # Errors
    ///
    /// When there are such bytes.
    pub fn end(self) -> Result<(), CodecError> {
        self.finish(Place::Arguments)
    }

    fn finish(self, place: Place) -> Result<(), CodecError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(place.left_over(bytes)),
        }
    }

    /// The next value, which may borrow from the frame.
    pub(super) fn take<T: Deserialize<'a>>(&mut self, place: Place) -> Result<T, CodecError> {
        let (value, rest) = postcard::take_from_bytes(self.rest).map_err(|error| place.failed(error))?;
        self.rest = rest;
        Ok(value)
    }

    /// The next value, a `Vec<u8>` in one piece as in [`put_owned`].
    pub(super) fn take_owned<T: DeserializeOwned + 'static>(
        &mut self,
        place: Place,
    ) -> Result<T, CodecError> {
        let mut slot = None::<T>;
        if let Some(bytes) = (&mut slot as &mut dyn Any).downcast_mut::<Option<Vec<u8>>>() {
            *bytes = Some(self.take::<&[u8]>(place)?.to_vec());
        }
        match slot {
            Some(value) => Ok(value),
            None => self.take(place),
        }
    }
}

/// Appends to a vector that already holds something: postcard's own flavors want to own theirs.
struct Append<'a>(&'a mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place::Arguments;

    fn round_trip<T: Serialize + DeserializeOwned + PartialEq + fmt::Debug + 'static>(value: T) {
        let mut out = Vec::new();
        put_owned(&value, PLACE, &mut out).unwrap();
        assert_eq!(whole::<T>(&out, PLACE).unwrap(), value);
    }

    #[test]
    fn values_come_back() {
        round_trip(u64::MAX);
        round_trip(String::from("ä"));
        round_trip(vec![0u8, 255, 7]);
        round_trip(vec![Some((1u32, 'x')), None]);
        round_trip(());
    }

    #[test]
    fn bytes_in_one_piece_are_the_same_bytes() {
        let value = vec![1u8, 2, 200];
        let (mut whole, mut single) = (Vec::new(), Vec::new());
        put_owned(&value, PLACE, &mut whole).unwrap();
        put(&value, PLACE, &mut single).unwrap();
        assert_eq!(whole, single);
    }

    #[test]
    fn left_over_bytes_are_an_error() {
        let error = whole::<u8>(&[1, 2, 3, 4], Place::result::<u8>()).unwrap_err();
        assert_eq!(error.to_string(), "the result of type u8: 3 bytes left over");
        let mut reader = Reader::new(&[1, 9]);
        reader.take::<u8>(PLACE).unwrap();
        assert_eq!(reader.end().unwrap_err().to_string(), "the arguments: 1 byte left over");
    }

    #[test]
    fn errors_name_the_argument_and_say_why() {
        let mut reader = Reader::new(&[]);
        let error = reader.take::<u64>(Place::argument::<u64>("seed")).unwrap_err();
        assert_eq!(error.to_string(), "argument `seed` of type u64: the bytes end too early");
        let error = whole::<Vec<u8>>(&[200], Place::argument::<u8>("data")).unwrap_err();
        assert_eq!(error.to_string(), "argument `data` of type u8: the bytes end too early");
    }

    #[test]
    fn a_field_left_out_is_named_and_leaves_the_output_as_it_was() {
        #[derive(Serialize)]
        struct Config {
            #[serde(skip_serializing_if = "Option::is_none")]
            name: Option<u8>,
        }
        let mut out = vec![1, 2];
        let place = Place::Argument { name: "cfg", type_name: "app::Config" };
        let error = put(&(7u8, Config { name: None }), place, &mut out).unwrap_err().to_string();
        assert!(error.starts_with("argument `cfg` of type app::Config: field `name` of Config is left out"));
        assert_eq!(out, [1, 2]);
        put(&Config { name: Some(3) }, place, &mut out).unwrap();
        assert_eq!(out, [1, 2, 1, 3]);
    }

    #[test]
    fn a_refused_value_leaves_the_output_as_it_was() {
        struct Refuses;
        impl Serialize for Refuses {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("no"))
            }
        }
        let mut out = vec![1, 2];
        let error = put(&(7u8, Refuses), Place::argument::<Refuses>("x"), &mut out).unwrap_err();
        assert!(error.to_string().ends_with("its `Serialize` refused the value"), "{error}");
        assert_eq!(out, [1, 2]);
    }
}
