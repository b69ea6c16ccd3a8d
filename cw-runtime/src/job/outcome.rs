//! How a job's call ends, as bytes: the encoded result, or a [`Fail`] with whatever text the error can give.
//!
//! Any error type is welcome. Which text it has is found out by the *autoref ladder* below, so that a job may return a
//! standard error, `anyhow::Error`, a boxed error, a `String` or something that is only `Debug`.

use std::any::{TypeId, type_name};
use std::error::Error;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Serialize, de::DeserializeOwned};

use super::codec::{CodecError, Place, put_owned, whole};
use super::json::Json;
use super::schema::SchemaBuilder;

/// A call that gave no result. A panic is not one of these: it is caught around the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fail {
    /// At which step.
    pub kind: FailKind,
    /// One line: the error's own text, or which argument or result could not be coded.
    pub message: String,
    /// The texts of the error's sources, nearest first; often empty.
    pub chain: Vec<String>,
    /// The error itself, when its type is serde: [`type_hash`] and the encoded value.
    pub value: Option<(u64, Vec<u8>)>,
}

/// The step at which a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailKind {
    /// The function returned an error.
    Failed,
    /// The arguments could not be decoded; the function was not called.
    Undecodable,
    /// The function returned a result which could not be encoded.
    Unencodable,
}

impl Fail {
    /// From the two ladders.
    pub fn new((message, chain): Texts, value: Option<(u64, Vec<u8>)>) -> Self {
        Self { kind: FailKind::Failed, message, chain, value }
    }
}

/// Within a run only arguments are decoded and only the result is encoded, so the place tells the step.
impl From<CodecError> for Fail {
    fn from(error: CodecError) -> Self {
        let kind = if error.is_about_result() { FailKind::Unencodable } else { FailKind::Undecodable };
        Self { kind, message: error.to_string(), chain: Vec::new(), value: None }
    }
}

/// Names a type within one executable: the same in each of its processes, different in the next build.
pub fn type_hash<T: 'static>() -> u64 {
    let mut hasher = DefaultHasher::new();
    TypeId::of::<T>().hash(&mut hasher);
    hasher.finish()
}

/// A job's result.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a job's result",
    label = "needs serde's `Serialize` and `Deserialize`, and `Send`",
    note = "derive `serde::Serialize` and `serde::Deserialize` for it; if it has both, something in it cannot go to another thread, like an `Rc`",
    note = "a `Result` by another name is not known to be fallible: write `Result<..>`, or name the alias so; its error need not be serde"
)]
pub trait Out: Sized {
    /// The coder of results of this type.
    const CODER: ResultCode<Self>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Out for T {
    const CODER: ResultCode<Self> = ResultCode {
        put: put_owned::<Self>,
        decode: whole::<Self>,
        show: Json::set::<Self>,
        trace: SchemaBuilder::result::<Self>,
    };
}

/// Codes a job's result. As with arguments, only the trait [`Out`] asks for serde.
#[derive(Debug)]
pub struct ResultCode<T> {
    put: fn(&T, Place, &mut Vec<u8>) -> Result<(), CodecError>,
    decode: fn(&[u8], Place) -> Result<T, CodecError>,
    show: fn(&mut Json, &T),
    trace: fn(SchemaBuilder) -> SchemaBuilder,
}

impl<T> ResultCode<T> {
    /// Appends the result to `out`; on an error `out` is as it was.
    pub fn put(&self, value: &T, out: &mut Vec<u8>) -> Result<(), Fail> {
        Ok((self.put)(value, Place::result::<T>(), out)?)
    }

    /// Reads a result, which has to be all of `bytes`.
    pub fn decode(&self, bytes: &[u8]) -> Result<T, CodecError> {
        (self.decode)(bytes, Place::result::<T>())
    }

    /// Writes a result for people.
    pub fn show(&self, bytes: &[u8], json: &mut Json) -> Result<(), CodecError> {
        (self.show)(json, &self.decode(bytes)?);
        Ok(())
    }

    /// Adds the result's type to the schema.
    pub fn trace(&self, schema: SchemaBuilder) -> SchemaBuilder {
        (self.trace)(schema)
    }
}

/// What a job whose return type is written `Result` has to return.
///
/// The macro sees only the name, as in `anyhow::Result<Stats>`; this trait sees the type behind it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is named `Result` but is not `std::result::Result`",
    label = "not a `std::result::Result`",
    note = "a job whose return type is written `Result` is fallible; rename the type"
)]
pub trait Fallible {
    /// What crosses the network.
    type Ok;
    /// What becomes a [`Fail`].
    type Err;
    /// The plain result.
    fn split(self) -> Result<Self::Ok, Self::Err>;
}

impl<T, E> Fallible for Result<T, E> {
    type Ok = T;
    type Err = E;

    fn split(self) -> Self {
        self
    }
}

/// A message and the texts of its sources, nearest first.
pub type Texts = (String, Vec<String>);

fn texts_of(error: &dyn Error) -> Texts {
    let sources = std::iter::successors(error.source(), |source| (*source).source());
    (error.to_string(), sources.map(ToString::to_string).collect())
}

/// The foot of both ladders.
///
/// `(&&&&&&Probe(&e)).cw_texts()` finds the implementation that needs the fewest dereferences, so the traits below are
/// tried from the one with the most `&` to the one with none. Specialization would say it plainly, if it were stable.
#[derive(Debug)]
pub struct Probe<'a, E>(pub &'a E);

/// A standard error.
pub trait ByError {
    /// Its message and chain.
    fn cw_texts(&self) -> Texts;
}

impl<E: Error> ByError for &&&&&Probe<'_, E> {
    fn cw_texts(&self) -> Texts {
        texts_of(self.0)
    }
}

/// `anyhow::Error`, `eyre::Report`, `Box<dyn Error + Send + Sync>`: they hold a standard error but are none.
pub trait ByDynErrorSync {
    /// The message and chain of the error inside.
    fn cw_texts(&self) -> Texts;
}

impl<E: AsRef<dyn Error + Send + Sync>> ByDynErrorSync for &&&&Probe<'_, E> {
    fn cw_texts(&self) -> Texts {
        texts_of(self.0.as_ref())
    }
}

/// `Box<dyn Error>`.
pub trait ByDynError {
    /// The message and chain of the error inside.
    fn cw_texts(&self) -> Texts;
}

impl<E: AsRef<dyn Error>> ByDynError for &&&Probe<'_, E> {
    fn cw_texts(&self) -> Texts {
        texts_of(self.0.as_ref())
    }
}

/// A `String` and its like.
pub trait ByDisplay {
    /// Its text.
    fn cw_texts(&self) -> Texts;
}

impl<E: fmt::Display> ByDisplay for &&Probe<'_, E> {
    fn cw_texts(&self) -> Texts {
        (self.0.to_string(), Vec::new())
    }
}

/// Something that can only be debugged.
pub trait ByDebug {
    /// Its debug text.
    fn cw_texts(&self) -> Texts;
}

impl<E: fmt::Debug> ByDebug for &Probe<'_, E> {
    fn cw_texts(&self) -> Texts {
        (format!("{:?}", self.0), Vec::new())
    }
}

/// Something without any text: at least its type is known.
pub trait ByName {
    /// A sentence with the type.
    fn cw_texts(&self) -> Texts;
}

impl<E> ByName for Probe<'_, E> {
    fn cw_texts(&self) -> Texts {
        (format!("an error of type {}, which has no text", type_name::<E>()), Vec::new())
    }
}

/// The second ladder: an error that can cross the network as itself.
pub trait BySerde {
    /// Its type and bytes.
    fn cw_value(&self) -> Option<(u64, Vec<u8>)>;
}

impl<E: Serialize + DeserializeOwned + 'static> BySerde for &Probe<'_, E> {
    fn cw_value(&self) -> Option<(u64, Vec<u8>)> {
        let mut out = Vec::new();
        // An error that cannot be encoded still has its text.
        put_owned(self.0, Place::result::<E>(), &mut out).ok()?;
        Some((type_hash::<E>(), out))
    }
}

/// The second ladder's foot.
pub trait ByNothing {
    /// Nothing.
    fn cw_value(&self) -> Option<(u64, Vec<u8>)>;
}

impl<E> ByNothing for Probe<'_, E> {
    fn cw_value(&self) -> Option<(u64, Vec<u8>)> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// The expression that the macro writes.
    macro_rules! fail {
        ($error:expr) => {{
            let error = $error;
            Fail::new((&&&&&&Probe(&error)).cw_texts(), (&&Probe(&error)).cw_value())
        }};
    }

    #[derive(Debug, thiserror::Error)]
    #[error("no model")]
    struct NoModel(#[source] io::Error);

    /// As anyhow does it: holds a standard error, displays it, and is none itself.
    #[derive(Debug)]
    struct Anyhow(NoModel);
    impl fmt::Display for Anyhow {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fmt(f)
        }
    }
    impl AsRef<dyn Error + Send + Sync> for Anyhow {
        fn as_ref(&self) -> &(dyn Error + Send + Sync + 'static) {
            &self.0
        }
    }
    impl AsRef<dyn Error> for Anyhow {
        fn as_ref(&self) -> &(dyn Error + 'static) {
            &self.0
        }
    }

    fn no_model() -> NoModel {
        NoModel(io::Error::other("disk"))
    }

    #[test]
    fn errors_keep_their_chain() {
        let sync: Box<dyn Error + Send + Sync> = Box::new(no_model());
        let plain: Box<dyn Error> = Box::new(no_model());
        for fail in [fail!(no_model()), fail!(Anyhow(no_model())), fail!(sync), fail!(plain)] {
            assert_eq!((fail.kind, fail.message.as_str()), (FailKind::Failed, "no model"));
            assert_eq!(fail.chain, ["disk"]);
            assert_eq!(fail.value, None);
        }
    }

    #[test]
    fn what_is_no_error_gives_the_text_it_has() {
        struct Shown;
        impl fmt::Display for Shown {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("shown")
            }
        }
        #[derive(Debug)]
        struct Debugged;
        struct Mute;
        assert_eq!(fail!(Shown).message, "shown");
        assert_eq!(fail!(Debugged).message, "Debugged");
        assert!(fail!(Mute).message.ends_with("::Mute, which has no text"));
    }

    #[test]
    fn a_serde_error_is_kept_as_a_value() {
        let (hash, bytes) = fail!(String::from("plain")).value.unwrap();
        assert_eq!(hash, type_hash::<String>());
        assert_eq!(whole::<String>(&bytes, Place::Arguments).unwrap(), "plain");
        assert_ne!(type_hash::<String>(), type_hash::<u8>());
    }

    #[test]
    fn results_come_back_whole() {
        const CODE: ResultCode<Vec<u8>> = Out::CODER;
        let mut out = vec![9];
        CODE.put(&vec![1, 2], &mut out).unwrap();
        assert_eq!(CODE.decode(&out[1..]).unwrap(), [1, 2]);
        assert!(CODE.decode(&out).is_err());
    }

    #[test]
    fn coding_errors_tell_the_step() {
        let argument = whole::<u64>(&[], Place::argument::<u64>("n")).unwrap_err();
        assert_eq!(Fail::from(argument).kind, FailKind::Undecodable);
        let result = whole::<u64>(&[], Place::result::<u64>()).unwrap_err();
        assert_eq!(Fail::from(result).kind, FailKind::Unencodable);
    }
}
