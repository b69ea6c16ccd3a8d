//! One small coder per kind of argument, which the macro puts into a constant.
//!
//! A coder is a constant of the trait that asks for serde, and nothing else asks for it. So a type without serde is
//! reported once, on the type, in our words, and not again for each of encoding, decoding and tracing. A function with
//! a bound would do the same but for a note on itself, which is nothing to users.

use serde::{Serialize, de::DeserializeOwned};

use super::canonical;
use super::codec::{CodecError, Place, Reader, put, put_owned};
use super::json::Json;
use super::schema::SchemaBuilder;

/// An argument taken by value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a job argument",
    label = "needs serde's `Serialize` and `Deserialize`, and `Send`",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it; if it has both, something in it cannot go to another thread, like an `Rc`"
)]
pub trait Arg: Sized {
    /// The coder of arguments of this type.
    const CODER: OwnedArg<Self>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Arg for T {
    const CODER: OwnedArg<Self> = OwnedArg {
        name: "",
        put: put_owned::<Self>,
        take: |reader, place| reader.take_owned(place),
        canonical: canonical::put::<Self>,
        show: Json::add::<Self>,
        trace: SchemaBuilder::argument::<Self>,
    };
}

/// An argument taken as `&T`; the worker holds it as a `Box<T>`, which also serves `&[u64]` and `&Path`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a job argument",
    label = "needs serde's `Serialize` and `Deserialize`, and `Send`",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it; if it has both, something in it cannot go to another thread, like an `Rc`"
)]
pub trait Lend {
    /// The coder of arguments of this type.
    const CODER: BorrowedArg<Self>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> Lend for T
where
    Box<T>: DeserializeOwned + Send + 'static,
{
    const CODER: BorrowedArg<Self> = BorrowedArg {
        name: "",
        put: put::<Self>,
        take: |reader, place| reader.take(place),
        canonical: canonical::put::<Self>,
        show: Json::add::<Self>,
        trace: SchemaBuilder::lent::<Self>,
    };
}

type Put<T> = fn(&T, Place, &mut Vec<u8>) -> Result<(), CodecError>;
type Take<T> = for<'a> fn(&mut Reader<'a>, Place) -> Result<T, CodecError>;
type Show<T> = fn(&mut Json, &'static str, &T);
type Trace = fn(SchemaBuilder, &'static str) -> SchemaBuilder;

/// Codes an argument taken by value.
#[derive(Debug)]
pub struct OwnedArg<T> {
    name: &'static str,
    put: Put<T>,
    take: Take<T>,
    canonical: Put<T>,
    show: Show<T>,
    trace: Trace,
}

impl<T> OwnedArg<T> {
    /// The coder of the argument `name`.
    pub const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Appends the argument to `out`.
    pub fn put(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        (self.put)(value, Place::argument::<T>(self.name), out)
    }

    /// Appends the argument to `out`, the same for equal values.
    pub fn canonical(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        (self.canonical)(value, Place::argument::<T>(self.name), out)
    }

    /// Adds the argument to what people read.
    pub fn show(&self, value: &T, json: &mut Json) {
        (self.show)(json, self.name, value);
    }

    /// Reads the argument.
    pub fn take(&self, reader: &mut Reader<'_>) -> Result<T, CodecError> {
        (self.take)(reader, Place::argument::<T>(self.name))
    }

    /// Adds the argument's type to the schema.
    pub fn trace(&self, schema: SchemaBuilder) -> SchemaBuilder {
        (self.trace)(schema, self.name)
    }
}

/// Codes an argument taken as `&T`.
#[derive(Debug)]
pub struct BorrowedArg<T: ?Sized> {
    name: &'static str,
    put: Put<T>,
    take: Take<Box<T>>,
    canonical: Put<T>,
    show: Show<T>,
    trace: Trace,
}

impl<T: ?Sized> BorrowedArg<T> {
    /// The coder of the argument `name`.
    pub const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// Appends the argument to `out`.
    pub fn put(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        (self.put)(value, Place::argument::<T>(self.name), out)
    }

    /// Appends the argument to `out`, the same for equal values.
    pub fn canonical(&self, value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        (self.canonical)(value, Place::argument::<T>(self.name), out)
    }

    /// Adds the argument to what people read.
    pub fn show(&self, value: &T, json: &mut Json) {
        (self.show)(json, self.name, value);
    }

    /// Reads the argument, to be lent to the function.
    pub fn take(&self, reader: &mut Reader<'_>) -> Result<Box<T>, CodecError> {
        (self.take)(reader, Place::argument::<T>(self.name))
    }

    /// Adds the argument's type to the schema.
    pub fn trace(&self, schema: SchemaBuilder) -> SchemaBuilder {
        (self.trace)(schema, self.name)
    }
}

/// Codes a `&str`, which the worker borrows from the frame.
#[derive(Debug)]
pub struct TextArg {
    name: &'static str,
}

impl TextArg {
    /// The coder of such arguments.
    pub const CODER: Self = Self { name: "" };

    /// The coder of the argument `name`.
    pub const fn named(self, name: &'static str) -> Self {
        Self { name }
    }

    /// Appends the argument to `out`.
    pub fn put(&self, value: &str, out: &mut Vec<u8>) -> Result<(), CodecError> {
        put(value, Place::argument::<str>(self.name), out)
    }

    /// As [`put`](Self::put).
    pub fn canonical(&self, value: &str, out: &mut Vec<u8>) -> Result<(), CodecError> {
        self.put(value, out)
    }

    /// Adds the argument to what people read.
    pub fn show(&self, value: &str, json: &mut Json) {
        json.add(self.name, value);
    }

    /// Reads the argument.
    pub fn take<'a>(&self, reader: &mut Reader<'a>) -> Result<&'a str, CodecError> {
        reader.take(Place::argument::<str>(self.name))
    }

    /// Adds the argument's type to the schema.
    pub fn trace(&self, schema: SchemaBuilder) -> SchemaBuilder {
        schema.borrowed::<&'static str>()
    }
}

/// Codes a `&[u8]`, which the worker borrows from the frame.
#[derive(Debug)]
pub struct BytesArg {
    name: &'static str,
}

impl BytesArg {
    /// The coder of such arguments.
    pub const CODER: Self = Self { name: "" };

    /// The coder of the argument `name`.
    pub const fn named(self, name: &'static str) -> Self {
        Self { name }
    }

    /// Appends the argument to `out`.
    pub fn put(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
        put(serde_bytes::Bytes::new(value), Place::argument::<[u8]>(self.name), out)
    }

    /// As [`put`](Self::put).
    pub fn canonical(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
        self.put(value, out)
    }

    /// Adds the argument to what people read.
    pub fn show(&self, value: &[u8], json: &mut Json) {
        json.add(self.name, value);
    }

    /// Reads the argument.
    pub fn take<'a>(&self, reader: &mut Reader<'a>) -> Result<&'a [u8], CodecError> {
        reader.take(Place::argument::<[u8]>(self.name))
    }

    /// Adds the argument's type to the schema.
    pub fn trace(&self, schema: SchemaBuilder) -> SchemaBuilder {
        schema.borrowed::<&'static [u8]>()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const COUNT: OwnedArg<u32> = <u32 as Arg>::CODER.named("count");
    const NAME: TextArg = TextArg::CODER.named("name");
    const DATA: BytesArg = BytesArg::CODER.named("data");
    const PATH: BorrowedArg<Path> = <Path as Lend>::CODER.named("path");
    const LIST: BorrowedArg<[u64]> = <[u64] as Lend>::CODER.named("list");

    #[test]
    fn arguments_follow_one_another() {
        let mut out = vec![0xff];
        COUNT.put(&7, &mut out).unwrap();
        NAME.put("ising", &mut out).unwrap();
        DATA.put(b"\x00\xff", &mut out).unwrap();
        PATH.put(Path::new("runs/1"), &mut out).unwrap();
        LIST.put(&[1, 2, 300], &mut out).unwrap();

        let mut reader = Reader::new(&out[1..]);
        assert_eq!(COUNT.take(&mut reader).unwrap(), 7);
        assert_eq!(NAME.take(&mut reader).unwrap(), "ising");
        assert_eq!(DATA.take(&mut reader).unwrap(), b"\x00\xff");
        assert_eq!(&*PATH.take(&mut reader).unwrap(), Path::new("runs/1"));
        assert_eq!(*LIST.take(&mut reader).unwrap(), [1, 2, 300]);
        reader.end().unwrap();
    }

    #[test]
    fn text_and_bytes_are_borrowed_from_the_frame() {
        let mut frame = Vec::new();
        NAME.put("abc", &mut frame).unwrap();
        let text = NAME.take(&mut Reader::new(&frame)).unwrap();
        assert!(frame.as_ptr_range().contains(&text.as_ptr()));
    }

    #[test]
    fn an_error_names_its_argument() {
        let error = NAME.take(&mut Reader::new(&[2, 0xff, 0xff])).unwrap_err();
        assert_eq!(error.to_string(), "argument `name` of type str: a text is not UTF-8");
        let error = COUNT.take(&mut Reader::new(&[])).unwrap_err();
        assert_eq!(error.to_string(), "argument `count` of type u32: the bytes end too early");
    }
}
