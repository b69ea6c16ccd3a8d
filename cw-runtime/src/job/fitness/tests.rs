use std::any::type_name;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::*;

/// `owner.field` or `owner::variant.field` of each field found.
fn found<T: Serialize + DeserializeOwned>() -> Vec<String> {
    let findings = examine::<T>();
    assert!(findings.any.is_empty() && findings.flaw.is_none(), "{:?} {:?}", findings.any, findings.flaw);
    let name = |skipped: &Skipped| {
        let variant = skipped.variant.map(|variant| format!("::{variant}")).unwrap_or_default();
        format!("{}{variant}.{}", skipped.owner, skipped.field)
    };
    findings.skipped.iter().map(name).collect()
}

#[derive(Serialize, Deserialize)]
struct Config {
    seed: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next: Option<u32>,
}

#[derive(Serialize, Deserialize)]
enum Plan {
    Nothing,
    Run(Config),
    Pair(u8, Config),
    Named { config: Config },
}

#[test]
fn a_field_that_may_be_left_out_is_found_wherever_it_is() {
    fn flagged<T: Serialize + DeserializeOwned>() {
        assert_eq!(found::<T>(), ["Config.name"], "in {}", type_name::<T>());
    }
    flagged::<Config>();
    flagged::<Box<Config>>();
    flagged::<Box<[Config]>>();
    flagged::<(u8, [Config; 2])>();
    flagged::<Vec<Config>>();
    flagged::<Option<Config>>();
    flagged::<Vec<Option<Vec<Config>>>>();
    flagged::<BTreeMap<String, Config>>();
    flagged::<HashMap<u8, Vec<Config>>>();
    flagged::<Result<(), Config>>();
    flagged::<Page<Config>>();
    flagged::<Page<Page<Config>>>();
    flagged::<Plan>();
    flagged::<Vec<Plan>>();
}

#[derive(Serialize, Deserialize)]
struct Kinds {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    list: Vec<u8>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    map: BTreeMap<u8, u8>,
    #[serde(default, skip_serializing_if = "is_default")]
    number: f64,
    #[serde(default, skip_serializing_if = "is_default")]
    letter: char,
    #[serde(default, skip_serializing_if = "is_default")]
    whether: bool,
    #[serde(default, skip_serializing_if = "Clone::clone")]
    last: bool,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[test]
fn all_fields_are_found_and_the_last_too() {
    let mut found = found::<Kinds>();
    found.sort();
    let fields = ["last", "letter", "list", "map", "number", "text", "whether"];
    assert_eq!(found, fields.map(|field| format!("Kinds.{field}")));
}

#[derive(Serialize, Deserialize)]
enum Shape {
    Circle {
        radius: NonZeroU32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        colour: Option<u8>,
    },
    Square {
        #[serde(default, skip_serializing_if = "is_default")]
        side: u32,
    },
}

#[test]
fn variants_are_named_and_those_that_refuse_zeros_are_seen_with_ones() {
    let mut found = found::<Vec<Shape>>();
    found.sort();
    assert_eq!(found, ["Shape::Circle.colour", "Shape::Square.side"]);
}

#[derive(Serialize, Deserialize)]
struct Tree {
    children: Vec<Self>,
    left: Option<Box<Self>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label: Option<u8>,
}

#[test]
fn recursive_types_are_looked_into() {
    assert_eq!(found::<Tree>(), ["Tree.label"]);
}

#[derive(Serialize, Deserialize)]
struct Newtype(u64);

#[derive(Serialize, Deserialize)]
struct Pair(u8, Option<String>);

#[derive(Serialize, Deserialize)]
struct Unit;

#[derive(Serialize, Deserialize)]
struct Fine {
    #[serde(skip)]
    _cache: Vec<u8>,
    #[serde(default)]
    retries: u32,
    #[serde(rename = "type")]
    kind: Option<String>,
    units: (Unit, Newtype, Pair),
    ids: Vec<NonZeroU32>,
    address: SocketAddr,
    every: Duration,
    path: PathBuf,
    names: BTreeMap<String, Option<Newtype>>,
    result: Result<f64, char>,
}

#[derive(Serialize, Deserialize)]
enum List {
    More(u8, Box<Self>),
    End { value: Option<u8> },
}

#[derive(Serialize, Deserialize)]
struct Folder {
    folders: BTreeMap<String, Self>,
    next: Option<Box<Self>>,
}

#[test]
fn what_can_cross_is_not_flagged() {
    fn fine<T: Serialize + DeserializeOwned>() {
        assert_eq!(found::<T>(), [""; 0], "in {}", type_name::<T>());
    }
    fine::<(u64, f32, bool, char, String, ())>();
    fine::<(Newtype, Pair, Unit)>();
    fine::<Fine>();
    fine::<Option<Vec<Fine>>>();
    fine::<List>();
    fine::<Folder>();
    fine::<Page<Folder>>();
    fine::<serde_bytes::ByteBuf>();
    fine::<Refused>();
    fine::<Even>();
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    A(u8),
    B { x: String },
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Tagged {
    A { x: u8 },
    B,
}

#[derive(Serialize, Deserialize)]
struct Flat {
    id: u8,
    #[serde(flatten)]
    rest: HashMap<String, u8>,
}

#[test]
fn self_describing_types_are_found_in_what_holds_them() {
    fn needs<T: Serialize + DeserializeOwned, Inner>() {
        let any = examine::<T>().any;
        // Untagged enums hide their names from serializers, so what holds them is named.
        assert!(any.len() == 1 && any[0].contains(type_name::<Inner>()), "{any:?} in {}", type_name::<T>());
    }
    needs::<Untagged, Untagged>();
    needs::<Vec<Option<Untagged>>, Untagged>();
    needs::<Page<Tagged>, Tagged>();
    needs::<BTreeMap<String, Flat>, Flat>();
    needs::<Result<u8, Flat>, Flat>();
    needs::<serde_json::Value, serde_json::Value>();
    needs::<Page<serde_json::Value>, serde_json::Value>();
}

/// Divides by what it is given.
#[derive(Serialize, Deserialize)]
#[serde(from = "(u32, u32)")]
struct Ratio(u32);

impl From<(u32, u32)> for Ratio {
    fn from((whole, part): (u32, u32)) -> Self {
        Self(whole / part)
    }
}

#[derive(Serialize, Deserialize)]
struct Scaled {
    ratio: Ratio,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
}

#[test]
fn a_panic_over_a_dummy_ends_that_try_only() {
    assert_eq!(found::<Scaled>(), ["Scaled.unit"]);
}

/// Refuses its values, which says nothing of its type.
#[derive(Deserialize)]
struct Refused;

impl Serialize for Refused {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not this one"))
    }
}

/// Refuses ones.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
struct Even(u8);

impl TryFrom<u8> for Even {
    type Error = &'static str;
    fn try_from(n: u8) -> Result<Self, Self::Error> {
        if n.is_multiple_of(2) { Ok(Self(n)) } else { Err("odd") }
    }
}

impl From<Even> for u8 {
    fn from(even: Even) -> Self {
        even.0
    }
}

#[derive(Serialize, Deserialize)]
struct SparsePair(#[serde(skip_serializing_if = "Option::is_none")] Option<u8>, u8);

#[derive(Serialize, Deserialize)]
enum SparseVariant {
    Pair(#[serde(skip_serializing_if = "is_default")] u8, u16),
}

#[derive(Serialize, Deserialize)]
enum Gap {
    First,
    #[serde(skip)]
    #[expect(dead_code, reason = "it is there to be skipped")]
    Second,
    Third,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "String")]
struct IntoOnly(u32);

impl From<IntoOnly> for String {
    fn from(only: IntoOnly) -> Self {
        format!("number {}", only.0)
    }
}

#[test]
fn what_is_not_read_as_it_was_written_is_found_though_nothing_tells_of_it() {
    fn one_way<T: Serialize + DeserializeOwned>() {
        assert_eq!(examine::<T>().flaw, Some(Flaw::OneWay), "in {}", type_name::<T>());
    }
    one_way::<SparsePair>();
    one_way::<Vec<Option<SparsePair>>>();
    one_way::<SparseVariant>();
    one_way::<Gap>();
    one_way::<BTreeMap<String, Gap>>();
    one_way::<IntoOnly>();
}

/// The iterator of its list does not know how long it is.
#[derive(Deserialize)]
struct Filtered(Vec<u8>);

impl Serialize for Filtered {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().filter(|byte| **byte != 7))
    }
}

#[test]
fn a_list_without_its_length_is_found() {
    assert_eq!(examine::<Filtered>().flaw, Some(Flaw::NoLength));
}
