//! The parts of a [`Strict`] serializer that stand for what has members: sequences, maps, structs and variants.

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::{Skipped, Skips, Strict};

/// A value whose `Serialize` meets a [`Strict`] serializer, whichever it is given.
pub(in crate::job) struct Value<'v, 'a, T: ?Sized> {
    pub(in crate::job) value: &'v T,
    pub(in crate::job) skips: &'a Skips,
}

impl<T: Serialize + ?Sized> Serialize for Value<'_, '_, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Strict { inner: serializer, skips: self.skips })
    }
}

/// Hands on members one by one, in a [`Strict`] serializer each.
pub(in crate::job) struct Members<'a, M> {
    pub(super) inner: M,
    pub(super) skips: &'a Skips,
    pub(super) owner: &'static str,
    pub(super) variant: Option<&'static str>,
}

impl<'a, M> Members<'a, M> {
    /// Members without names, none of which serde can leave out.
    #[inline]
    pub(super) fn unnamed(inner: M, skips: &'a Skips) -> Self {
        Self { inner, skips, owner: "", variant: None }
    }

    fn skipped(&self, field: &'static str) -> Skipped {
        Skipped { owner: self.owner, variant: self.variant, field }
    }
}

macro_rules! unnamed {
    ($($kind:ident { $($method:ident)* })*) => {$(
        impl<M: $kind> $kind for Members<'_, M> {
            type Ok = M::Ok;
            type Error = M::Error;

            $(
                #[inline]
                fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), M::Error> {
                    self.inner.$method(&Value { value, skips: self.skips })
                }
            )*

            #[inline]
            fn end(self) -> Result<M::Ok, M::Error> {
                self.inner.end()
            }
        }
    )*};
}

unnamed! {
    SerializeSeq { serialize_element }
    SerializeTuple { serialize_element }
    SerializeTupleStruct { serialize_field }
    SerializeTupleVariant { serialize_field }
    SerializeMap { serialize_key serialize_value }
}

macro_rules! named {
    ($($kind:ident)*) => {$(
        impl<M: $kind> $kind for Members<'_, M> {
            type Ok = M::Ok;
            type Error = M::Error;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), M::Error> {
                self.inner.serialize_field(key, &Value { value, skips: self.skips })
            }

            #[inline]
            fn skip_field(&mut self, key: &'static str) -> Result<(), M::Error> {
                self.skips.note(self.skipped(key))?;
                self.inner.skip_field(key)
            }

            #[inline]
            fn end(self) -> Result<M::Ok, M::Error> {
                self.inner.end()
            }
        }
    )*};
}

named! { SerializeStruct SerializeStructVariant }
