//! What a job's types look like on the wire, as one hash, without a derive on the user's types.
//!
//! The tokens of a signature miss what hides behind a name: an alias, an import, a changed field. So each type is also
//! deserialized once from a source of dummy values that notes what serde asks for; see [`recorder`](super::recorder).
//! A hash that differs proves that two builds disagree. Equal hashes promise nothing about custom `Deserialize`s.

use std::any::type_name;

use serde::Deserialize;

use super::fnv1a64;
use super::recorder::record;

/// The shape of a job's arguments and result. The same in every run of one build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// FNV-1a over the signature and the traces of all types.
    pub hash: u64,
    /// One sentence for each type that the wire cannot carry; empty when all is well.
    ///
    /// They ask serde for `deserialize_any`, which postcard cannot answer: every task would fail to decode.
    pub any: Vec<String>,
}

/// Collects the traces of one job.
#[derive(Debug)]
pub struct SchemaBuilder {
    text: String,
    any: Vec<String>,
}

impl SchemaBuilder {
    /// Starts with the types as they are written.
    pub fn new(signature: &str) -> Self {
        Self { text: signature.to_owned(), any: Vec::new() }
    }

    /// Adds an argument.
    pub fn argument<T: Deserialize<'static>>(self, name: &'static str) -> Self {
        self.add::<T>(&format!("argument `{name}`"))
    }

    /// Adds the result.
    pub fn result<T: Deserialize<'static>>(self) -> Self {
        self.add::<T>("the result")
    }

    /// The hash of all that was added, and the complaints.
    pub fn finish(self) -> Schema {
        Schema { hash: fnv1a64(&self.text), any: self.any }
    }

    fn add<T: Deserialize<'static>>(mut self, role: &str) -> Self {
        let trace = record::<T>();
        self.text.push('\n');
        self.text.push_str(&trace.text);
        self.any.extend(trace.any.iter().map(|inner| complaint(role, type_name::<T>(), inner)));
        self
    }
}

fn complaint(role: &str, outer: &str, inner: &str) -> String {
    let place = if inner == outer { String::new() } else { format!(", in {inner}") };
    format!(
        "{role} of type {outer} needs a self-describing format{place} \
         (serde's `flatten`, `untagged`, `tag = ..` or a JSON value), which the wire is not"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only deserialized")]
    struct Flat {
        id: u32,
        #[serde(flatten)]
        rest: HashMap<String, String>,
    }

    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only deserialized")]
    struct Holder {
        inner: Vec<Flat>,
    }

    fn hash_of<T: Deserialize<'static>>() -> u64 {
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
        assert_eq!(schema.any.len(), 1, "{:?}", schema.any);
        assert!(schema.any[0].starts_with("argument `cfg` of type "), "{:?}", schema.any);
        assert!(schema.any[0].contains("::Holder needs a self-describing format, in "), "{:?}", schema.any);
        assert!(schema.any[0].contains("::Flat ("), "{:?}", schema.any);
        assert!(SchemaBuilder::new("").result::<Vec<u8>>().finish().any.is_empty());
    }
}
