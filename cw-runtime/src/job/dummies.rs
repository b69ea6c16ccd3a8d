//! The `Deserializer` of the recorder: each question of serde's is written down and answered with a dummy.

use std::any::type_name;

use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

use super::recorder::{Dummies, Halt, Names, Recorder};

/// Answers with what the dummies have for it.
macro_rules! dummies {
    ($($method:ident $name:literal $visit:ident $dummy:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Halt> {
            self.write($name);
            let dummy: fn(Dummies) -> _ = $dummy;
            visitor.$visit(dummy(self.dummies))
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Recorder {
    type Error = Halt;

    dummies! {
        deserialize_bool "bool" visit_bool |dummies| dummies.is_one;
        deserialize_i8 "i8" visit_i8 |dummies| dummies.is_one.into();
        deserialize_i16 "i16" visit_i16 |dummies| dummies.is_one.into();
        deserialize_i32 "i32" visit_i32 |dummies| dummies.is_one.into();
        deserialize_i64 "i64" visit_i64 |dummies| dummies.is_one.into();
        deserialize_i128 "i128" visit_i128 |dummies| dummies.is_one.into();
        deserialize_u8 "u8" visit_u8 |dummies| dummies.is_one.into();
        deserialize_u16 "u16" visit_u16 |dummies| dummies.is_one.into();
        deserialize_u32 "u32" visit_u32 |dummies| dummies.is_one.into();
        deserialize_u64 "u64" visit_u64 |dummies| dummies.is_one.into();
        deserialize_u128 "u128" visit_u128 |dummies| dummies.is_one.into();
        deserialize_f32 "f32" visit_f32 |dummies| dummies.is_one.into();
        deserialize_f64 "f64" visit_f64 |dummies| dummies.is_one.into();
        deserialize_char "char" visit_char |dummies| if dummies.is_one { '1' } else { '\0' };
        deserialize_str "str" visit_borrowed_str |dummies| dummies.text;
        deserialize_string "str" visit_borrowed_str |dummies| dummies.text;
        deserialize_bytes "bytes" visit_borrowed_bytes |dummies| dummies.text.as_bytes();
        deserialize_byte_buf "bytes" visit_borrowed_bytes |dummies| dummies.text.as_bytes();
        deserialize_identifier "identifier" visit_borrowed_str |dummies| dummies.text;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Halt> {
        self.write("any");
        self.note_any(type_name::<V::Value>());
        visitor.visit_u64(1)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Halt> {
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Halt> {
        self.container(type_name::<V::Value>(), |recorder, fill| {
            recorder.write("?");
            if !fill {
                return visitor.visit_none();
            }
            recorder.step(0);
            visitor.visit_some(recorder)
        })
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Halt> {
        self.write("()");
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Halt> {
        self.write(name);
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Halt> {
        self.within(type_name::<V::Value>(), |recorder| {
            recorder.write(name);
            recorder.write(" ");
            visitor.visit_newtype_struct(recorder)
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Halt> {
        self.container(type_name::<V::Value>(), |recorder, fill| {
            recorder.write("seq");
            recorder.product(None, usize::from(fill), visitor)
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Halt> {
        self.within(type_name::<V::Value>(), |recorder| {
            recorder.write(&len.to_string());
            recorder.product(None, len, visitor)
        })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Halt> {
        self.within(type_name::<V::Value>(), |recorder| {
            recorder.write(name);
            recorder.fields(None, len, visitor)
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Halt> {
        self.container(type_name::<V::Value>(), |recorder, fill| {
            recorder.write("map(");
            let value =
                visitor.visit_map(Children { recorder, names: None, next: 0, len: usize::from(fill) })?;
            recorder.write(")");
            Ok(value)
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Halt> {
        self.within(type_name::<V::Value>(), |recorder| {
            recorder.write(name);
            recorder.fields(Some(fields), fields.len(), visitor)
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Halt> {
        self.write(name);
        let type_name = type_name::<V::Value>();
        if self.is_inside(type_name) {
            return self.base_variant(type_name, visitor);
        }
        self.write(&format!("[{}]::", variants.join("|")));
        self.variant(type_name, variants, visitor)
    }

    /// As postcard: some types choose their shape by it.
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The elements of a seq or tuple, the fields of a struct, or the entries of a map.
pub(super) struct Children<'a> {
    pub(super) recorder: &'a mut Recorder,
    pub(super) names: Option<Names>,
    pub(super) next: usize,
    pub(super) len: usize,
}

impl<'de> SeqAccess<'de> for Children<'_> {
    type Error = Halt;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Halt> {
        if self.next >= self.len {
            return Ok(None);
        }
        let index = self.next;
        self.next += 1;
        if index > 0 {
            self.recorder.write(",");
        }
        if let Some(name) = self.names.and_then(|names| names.get(index)) {
            self.recorder.write(name);
            self.recorder.write(":");
        }
        self.recorder.child(index, seed).map(Some)
    }
}

impl<'de> MapAccess<'de> for Children<'_> {
    type Error = Halt;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Halt> {
        if self.next >= self.len {
            return Ok(None);
        }
        self.next += 1;
        self.recorder.child(0, seed).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Halt> {
        self.recorder.write("=>");
        self.recorder.child(1, seed)
    }
}

/// The variant that this pass has chosen.
pub(super) struct Entered<'a> {
    pub(super) recorder: &'a mut Recorder,
    pub(super) index: usize,
}

impl<'de> EnumAccess<'de> for Entered<'_> {
    type Error = Halt;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Halt> {
        let index = u32::try_from(self.index).map_err(Halt::custom)?;
        let variant: U32Deserializer<Halt> = index.into_deserializer();
        Ok((seed.deserialize(variant)?, self))
    }
}

impl<'de> VariantAccess<'de> for Entered<'_> {
    type Error = Halt;

    fn unit_variant(self) -> Result<(), Halt> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Halt> {
        self.recorder.write(" ");
        self.recorder.child(0, seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Halt> {
        self.recorder.fields(None, len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Halt> {
        self.recorder.fields(Some(fields), fields.len(), visitor)
    }
}
