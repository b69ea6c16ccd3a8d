//! What a job's types look like on the wire, as one hash, without a derive on the user's types.
//!
//! The tokens of a signature miss what hides behind a name: an alias, an import, a changed field. So each type is also
//! deserialized once from a source of dummy values that notes what serde asks for; see [`recorder`](super::recorder).
//! A hash that differs proves that two builds disagree. Equal hashes promise nothing about custom `Deserialize`s.

use std::any::type_name;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::fitness::{Findings, Flaw, examine};
use super::fnv1a64;
use super::recorder::{Dummies, record};

/// The shape of a job's arguments and result. The same in every run of one build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// FNV-1a over the signature and the traces of all types.
    pub hash: u64,
    /// One sentence for each type that the wire cannot carry; empty when all is well.
    ///
    /// Either it asks serde for `deserialize_any`, which postcard cannot answer, so every task would fail to decode; or
    /// it has fields that serde may leave out, so a value without them cannot be encoded; or it does not read back what
    /// it writes. Each ends with the remedy.
    pub unfit: Vec<String>,
}

/// Collects the traces of one job.
#[derive(Debug)]
pub struct SchemaBuilder {
    text: String,
    unfit: Vec<String>,
}

impl SchemaBuilder {
    /// Starts with the types as they are written.
    pub fn new(signature: &str) -> Self {
        Self { text: signature.to_owned(), unfit: Vec::new() }
    }

    /// Adds an argument.
    pub fn argument<T: Serialize + DeserializeOwned>(self, name: &'static str) -> Self {
        self.add::<T>(&format!("argument `{name}`"), type_name::<T>())
    }

    /// Adds an argument that is lent to the job out of a box.
    pub fn lent<T: Serialize + ?Sized>(self, name: &'static str) -> Self
    where
        Box<T>: DeserializeOwned,
    {
        self.add::<Box<T>>(&format!("argument `{name}`"), type_name::<T>())
    }

    /// Adds a text or bytes, which the job borrows from the frame. The wire can carry them.
    pub fn borrowed<T: Deserialize<'static>>(mut self) -> Self {
        self.push(&record::<T>(Dummies::FULL, &mut drop).text);
        self
    }

    /// Adds the result.
    pub fn result<T: Serialize + DeserializeOwned>(self) -> Self {
        self.add::<T>("the result", type_name::<T>())
    }

    /// The hash of all that was added, and the complaints.
    pub fn finish(self) -> Schema {
        Schema { hash: fnv1a64(&self.text), unfit: self.unfit }
    }

    fn add<T: Serialize + DeserializeOwned>(mut self, role: &str, outer: &str) -> Self {
        let Findings { text, any, skipped, flaw } = examine::<T>();
        self.push(&text);
        self.unfit.extend(any.iter().map(|inner| needs_description(role, outer, inner)));
        self.unfit.extend(skipped.iter().map(|skipped| format!("{role} of type {outer}: {skipped}")));
        self.unfit.extend(flaw.map(|flaw| flawed(role, outer, flaw)));
        self
    }

    fn push(&mut self, trace: &str) {
        self.text.push('\n');
        self.text.push_str(trace);
    }
}

fn needs_description(role: &str, outer: &str, inner: &str) -> String {
    let place = if inner == outer { String::new() } else { format!(", in {inner}") };
    format!(
        "{role} of type {outer} needs a self-describing format{place} \
         (serde's `flatten`, `untagged`, `tag = ..` or a JSON value), which the wire is not: \
         do without, or pass it as a String of JSON"
    )
}

fn flawed(role: &str, outer: &str, flaw: Flaw) -> String {
    let flaw = match flaw {
        Flaw::OneWay => {
            "does not read back what it writes: give both sides of serde the same fields (`skip` in place of \
             `skip_serializing` or `skip_deserializing`, no `skip_serializing_if` on a tuple's field, no `skip` on a \
             variant but the last), and what `serialize_with` or `into` writes to `deserialize_with` or `from`"
        }
        Flaw::NoLength => {
            "writes a list without its length, which the wire needs first: collect it into a `Vec` in its `Serialize`"
        }
    };
    format!("{role} of type {outer} {flaw}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Flat {
        id: u32,
        #[serde(flatten)]
        rest: HashMap<String, String>,
    }

    #[derive(Serialize, Deserialize)]
    struct Holder {
        inner: Vec<Flat>,
    }

    #[derive(Serialize, Deserialize)]
    struct Named {
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    }

    #[test]
    fn a_field_that_may_be_left_out_is_named_with_its_role() {
        let schema = SchemaBuilder::new("").argument::<u8>("n").result::<Vec<Named>>().finish();
        let outer = type_name::<Vec<Named>>();
        let start = format!("the result of type {outer}: field `name` of Named is left out by ");
        assert_eq!(schema.unfit.len(), 1, "{:?}", schema.unfit);
        assert!(schema.unfit[0].starts_with(&start), "{:?}", schema.unfit);
    }

    #[derive(Serialize, Deserialize)]
    #[expect(dead_code, reason = "only serialized")]
    struct OneWay {
        #[serde(skip_serializing)]
        id: u32,
        name: String,
    }

    #[derive(Serialize, Deserialize)]
    #[expect(dead_code, reason = "only serialized")]
    struct BothWays {
        #[serde(skip)]
        id: u32,
        name: String,
    }

    #[test]
    fn a_type_that_does_not_read_what_it_writes_is_told() {
        let schema = SchemaBuilder::new("").argument::<OneWay>("x").argument::<BothWays>("y").finish();
        assert_eq!(schema.unfit.len(), 1, "{:?}", schema.unfit);
        let start = format!("argument `x` of type {} does not read back", type_name::<OneWay>());
        assert!(schema.unfit[0].starts_with(&start), "{:?}", schema.unfit);
    }

    #[test]
    fn a_lent_argument_is_named_by_its_own_type() {
        let schema = SchemaBuilder::new("").lent::<OneWay>("x").lent::<[u8]>("y").borrowed::<&str>().finish();
        assert_eq!(schema.unfit.len(), 1, "{:?}", schema.unfit);
        let start = format!("argument `x` of type {} does not read back", type_name::<OneWay>());
        assert!(schema.unfit[0].starts_with(&start), "{:?}", schema.unfit);
    }

    fn hash_of<T: Serialize + DeserializeOwned>() -> u64 {
        SchemaBuilder::new("(T)->()").argument::<T>("x").finish().hash
    }

    #[test]
    fn the_hash_is_stable_and_sees_the_types() {
        assert_eq!(hash_of::<(u8, String)>(), hash_of::<(u8, String)>());
        assert_ne!(hash_of::<(u8, String)>(), hash_of::<(u16, String)>());
        assert_ne!(SchemaBuilder::new("(A)").finish().hash, SchemaBuilder::new("(B)").finish().hash);
    }

    #[test]
    fn a_type_that_cannot_cross_is_named() {
        let schema = SchemaBuilder::new("").argument::<Holder>("cfg").result::<u8>().finish();
        assert_eq!(schema.unfit.len(), 1, "{:?}", schema.unfit);
        assert!(schema.unfit[0].starts_with("argument `cfg` of type "), "{:?}", schema.unfit);
        assert!(
            schema.unfit[0].contains("::Holder needs a self-describing format, in "),
            "{:?}",
            schema.unfit
        );
        assert!(schema.unfit[0].contains("::Flat ("), "{:?}", schema.unfit);
        assert!(SchemaBuilder::new("").result::<Vec<u8>>().finish().unfit.is_empty());
    }
}
