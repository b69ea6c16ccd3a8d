//! A serde `Serializer` around another one, which refuses what postcard would garble in silence.
//!
//! `#[serde(skip_serializing_if = ..)]` leaves a field out, and a format without field names reads the next one in its
//! place. The derive tells the serializer of each field it leaves out, with a call that formats may ignore and postcard
//! does. Everything else is handed on as it is, so the bytes do not change.

mod members;

use std::cell::RefCell;
use std::fmt;

use serde::ser::{Error, Serialize, Serializer};

use members::Members;
pub(super) use members::Value;

/// A field that was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Skipped {
    /// The struct or enum, by serde's name.
    pub(super) owner: &'static str,
    /// The enum's variant.
    pub(super) variant: Option<&'static str>,
    pub(super) field: &'static str,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, variant, field } = self;
        write!(f, "field `{field}` of {owner}")?;
        variant.iter().try_for_each(|variant| write!(f, "::{variant}"))?;
        f.write_str(
            " is left out by `skip_serializing_if`, which the wire cannot express: \
             remove that attribute, or use Option without it",
        )
    }
}

/// Where a [`Strict`] puts the fields that were left out: postcard's errors have no room for a name.
#[derive(Debug, Default)]
pub(super) struct Skips {
    lenient: bool,
    found: RefCell<Vec<Skipped>>,
}

impl Skips {
    /// For a serializer that fails at the first one.
    pub(super) fn fatal() -> Self {
        Self::default()
    }

    /// For a serializer that goes on, so that all are found; its output is worthless.
    pub(super) fn gathered() -> Self {
        Self { lenient: true, ..Self::default() }
    }

    /// What was left out, in the order of the fields.
    pub(super) fn into_found(self) -> Vec<Skipped> {
        self.found.into_inner()
    }

    #[cold]
    pub(super) fn note<E: Error>(&self, skipped: Skipped) -> Result<(), E> {
        let text = if self.lenient { Ok(()) } else { Err(E::custom(skipped)) };
        self.found.borrow_mut().push(skipped);
        text
    }
}

/// Serializes as `S` does, but notes each field that is left out.
pub(super) struct Strict<'a, S> {
    pub(super) inner: S,
    pub(super) skips: &'a Skips,
}

/// Methods that hand on what they are given.
macro_rules! hand_on {
    ($($method:ident($($argument:ident: $kind:ty),*);)*) => {$(
        #[inline]
        fn $method(self, $($argument: $kind),*) -> Result<S::Ok, S::Error> {
            self.inner.$method($($argument),*)
        }
    )*};
}

impl<'a, S: Serializer> Serializer for Strict<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Members<'a, S::SerializeSeq>;
    type SerializeTuple = Members<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Members<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Members<'a, S::SerializeTupleVariant>;
    type SerializeMap = Members<'a, S::SerializeMap>;
    type SerializeStruct = Members<'a, S::SerializeStruct>;
    type SerializeStructVariant = Members<'a, S::SerializeStructVariant>;

    hand_on! {
        serialize_bool(v: bool);
        serialize_i8(v: i8);
        serialize_i16(v: i16);
        serialize_i32(v: i32);
        serialize_i64(v: i64);
        serialize_i128(v: i128);
        serialize_u8(v: u8);
        serialize_u16(v: u16);
        serialize_u32(v: u32);
        serialize_u64(v: u64);
        serialize_u128(v: u128);
        serialize_f32(v: f32);
        serialize_f64(v: f64);
        serialize_char(v: char);
        serialize_str(v: &str);
        serialize_bytes(v: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(&Value { value, skips: self.skips })
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_struct(name, &Value { value, skips: self.skips })
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_variant(name, index, variant, &Value { value, skips: self.skips })
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        Ok(Members::unnamed(self.inner.serialize_seq(len)?, self.skips))
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        Ok(Members::unnamed(self.inner.serialize_tuple(len)?, self.skips))
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        Ok(Members::unnamed(self.inner.serialize_tuple_struct(name, len)?, self.skips))
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        Ok(Members::unnamed(self.inner.serialize_tuple_variant(name, index, variant, len)?, self.skips))
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        Ok(Members::unnamed(self.inner.serialize_map(len)?, self.skips))
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        let inner = self.inner.serialize_struct(name, len)?;
        Ok(Members { inner, skips: self.skips, owner: name, variant: None })
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let inner = self.inner.serialize_struct_variant(name, index, variant, len)?;
        Ok(Members { inner, skips: self.skips, owner: name, variant: Some(variant) })
    }

    #[inline]
    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

#[cfg(test)]
mod tests;
