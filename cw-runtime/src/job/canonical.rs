//! Arguments in a form that is the same in each run of a program: what stored results are found by.
//!
//! It differs from what crosses the wire in maps, whose entries are put in the order of their keys: a `HashMap` gives
//! them in another order in each process. A `HashSet` is a list to serde, whose order this cannot know to mean nothing:
//! take a `BTreeSet`, or give the job a `key`.

use std::fmt::Display;

use serde::ser::{self, Serialize};

use super::codec::{CodecError, Place};
use super::strict::{Skips, Value};

/// Appends a value to `out`, or leaves `out` as it was.
pub(super) fn put<T: Serialize + ?Sized>(
    value: &T,
    place: Place,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let before = out.len();
    value.serialize(Canonical(out)).map_err(|Refused| {
        out.truncate(before);
        place.refused()
    })
}

/// Appends what a job's `key` made of its arguments.
///
/// # Errors
/// A `Serialize` that refuses its value, or leaves a field out: two keys could then be taken for one.
pub fn put_key<T: Serialize + ?Sized>(key: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let skips = Skips::fatal();
    let place = Place::argument::<T>("key");
    put(&Value { value: key, skips: &skips }, place, out)
        .map_err(|error| place.skipped(skips).unwrap_or(error))
}

/// A `Serialize` refused its value.
#[derive(Debug)]
pub(super) struct Refused;

impl ser::Error for Refused {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

impl std::error::Error for Refused {}

impl Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused")
    }
}

struct Canonical<'a>(&'a mut Vec<u8>);

/// A list, tuple or struct: its members one after the other.
pub(super) struct Members<'a> {
    out: &'a mut Vec<u8>,
    /// Whether each is announced, and then the end, as their number is not known from the type.
    is_open: bool,
}

/// A map: its entries, until all are there.
pub(super) struct Entries<'a> {
    out: &'a mut Vec<u8>,
    entries: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Canonical<'_> {
    fn bytes(self, bytes: &[u8]) -> Result<(), Refused> {
        self.0.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

macro_rules! numbers {
    ($($method:ident $kind:ty;)*) => {$(
        fn $method(self, v: $kind) -> Result<(), Refused> {
            self.0.extend_from_slice(&v.to_le_bytes());
            Ok(())
        }
    )*};
}

impl<'a> ser::Serializer for Canonical<'a> {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = Members<'a>;
    type SerializeTuple = Members<'a>;
    type SerializeTupleStruct = Members<'a>;
    type SerializeTupleVariant = Members<'a>;
    type SerializeMap = Entries<'a>;
    type SerializeStruct = Members<'a>;
    type SerializeStructVariant = Members<'a>;

    numbers! {
        serialize_i8 i8; serialize_i16 i16; serialize_i32 i32; serialize_i64 i64; serialize_i128 i128;
        serialize_u8 u8; serialize_u16 u16; serialize_u32 u32; serialize_u64 u64; serialize_u128 u128;
        serialize_f32 f32; serialize_f64 f64;
    }

    fn serialize_bool(self, v: bool) -> Result<(), Refused> {
        self.serialize_u8(u8::from(v))
    }

    fn serialize_char(self, v: char) -> Result<(), Refused> {
        self.serialize_u32(u32::from(v))
    }

    fn serialize_str(self, v: &str) -> Result<(), Refused> {
        self.bytes(v.as_bytes())
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<(), Refused> {
        self.bytes(v)
    }

    fn serialize_none(self) -> Result<(), Refused> {
        self.serialize_u8(0)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refused> {
        self.0.push(1);
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Refused> {
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Refused> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), Refused> {
        self.serialize_u32(index)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        self.0.extend_from_slice(&index.to_le_bytes());
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Members<'a>, Refused> {
        Ok(Members { out: self.0, is_open: true })
    }

    fn serialize_tuple(self, _: usize) -> Result<Members<'a>, Refused> {
        Ok(Members { out: self.0, is_open: false })
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Members<'a>, Refused> {
        self.serialize_tuple(len)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        len: usize,
    ) -> Result<Members<'a>, Refused> {
        self.0.extend_from_slice(&index.to_le_bytes());
        self.serialize_tuple(len)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries<'a>, Refused> {
        Ok(Entries { out: self.0, entries: Vec::new() })
    }

    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Members<'a>, Refused> {
        self.serialize_tuple(len)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Members<'a>, Refused> {
        self.serialize_tuple_variant(name, index, variant, len)
    }

    /// As on the wire: a type that has two forms has the same one here.
    fn is_human_readable(&self) -> bool {
        false
    }
}

impl Members<'_> {
    fn member<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        if self.is_open {
            self.out.push(1);
        }
        value.serialize(Canonical(self.out))
    }

    fn close(self) -> Result<(), Refused> {
        if self.is_open {
            self.out.push(0);
        }
        Ok(())
    }
}

macro_rules! members {
    ($($kind:ident $method:ident;)*) => {$(
        impl ser::$kind for Members<'_> {
            type Ok = ();
            type Error = Refused;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
                self.member(value)
            }

            fn end(self) -> Result<(), Refused> {
                self.close()
            }
        }
    )*};
}

members! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

macro_rules! fields {
    ($($kind:ident;)*) => {$(
        impl ser::$kind for Members<'_> {
            type Ok = ();
            type Error = Refused;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                _: &'static str,
                value: &T,
            ) -> Result<(), Refused> {
                self.member(value)
            }

            fn end(self) -> Result<(), Refused> {
                self.close()
            }
        }
    )*};
}

fields! {
    SerializeStruct;
    SerializeStructVariant;
}

impl ser::SerializeMap for Entries<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        let mut bytes = Vec::new();
        key.serialize(Canonical(&mut bytes))?;
        self.entries.push((bytes, Vec::new()));
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        let (_, bytes) = self.entries.last_mut().ok_or(Refused)?;
        value.serialize(Canonical(bytes))
    }

    fn end(mut self) -> Result<(), Refused> {
        self.entries.sort_unstable();
        for (key, value) in &self.entries {
            self.out.push(1);
            Canonical(self.out).bytes(key)?;
            Canonical(self.out).bytes(value)?;
        }
        self.out.push(0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::*;

    fn bytes<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
        let mut out = Vec::new();
        put(value, Place::Arguments, &mut out).unwrap();
        out
    }

    #[test]
    fn a_maps_order_does_not_count() {
        let pairs: Vec<(String, u32)> = (0..100).map(|n| (format!("key {n}"), n)).collect();
        let sorted: BTreeMap<String, u32> = pairs.iter().cloned().collect();
        for _ in 0..5 {
            let hashed: HashMap<String, u32> = pairs.iter().rev().cloned().collect();
            assert_eq!(bytes(&hashed), bytes(&sorted));
            assert_eq!(bytes(&vec![hashed]), bytes(&vec![&sorted]), "inside another value too");
        }
    }

    #[test]
    fn a_key_that_leaves_a_field_out_is_refused() {
        #[derive(serde::Serialize)]
        struct Key {
            #[serde(skip_serializing_if = "Option::is_none")]
            a: Option<u32>,
            #[serde(skip_serializing_if = "Option::is_none")]
            b: Option<u32>,
        }
        let error = put_key(&Key { a: Some(1), b: None }, &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("field `b` of Key is left out"), "{error}");
        put_key(&Key { a: Some(1), b: Some(1) }, &mut Vec::new()).unwrap();
    }

    #[test]
    fn different_values_differ() {
        assert_ne!(bytes(&vec![1u8, 2]), bytes(&vec![2u8, 1]));
        assert_ne!(bytes(&(vec![1u8], vec![2u8])), bytes(&(vec![1u8, 2], Vec::<u8>::new())));
        assert_ne!(bytes(&("a", "bc")), bytes(&("ab", "c")));
        assert_ne!(bytes(&Some(0u8)), bytes(&None::<u8>));
        assert_ne!(bytes(&[Some(1u8), None]), bytes(&[None, Some(1u8)]));
        assert_ne!(bytes(&BTreeMap::from([(1, 2), (3, 4)])), bytes(&BTreeMap::from([(1, 4), (3, 2)])));
    }
}
