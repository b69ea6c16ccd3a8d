//! A serde `Deserializer` that holds no data: it answers with dummies and writes down what was asked for.
//!
//! serde tells it the names of structs, fields and variants, tuple lengths and kinds of numbers, which is all that
//! postcard's bytes depend on. One pass enters one variant per enum, so passes repeat until every variant was entered.
//! Recursive types are cut where a type meets itself: first an option, list or map around it is left empty, and an enum
//! falls back to a variant that is known to end. A `Deserialize` that refuses the dummies, or panics,
//! ends its pass; what was written until then still counts.

use std::any::type_name;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Error, Visitor};

use super::dummies::{Children, Entered};
use super::quiet::quietly;

/// Bounds on the work for types that are very large, or recursive in ways not foreseen here.
const PASSES_MAX: u32 = 64;
const TRIES_MAX: u32 = 3;
const DEPTH_MAX: usize = 128;
const TEXT_BYTES_MAX: usize = 1 << 20;

pub(super) type Names = &'static [&'static str];

/// What the values are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dummies {
    /// Each number and bool, 0 or 1.
    pub(super) is_one: bool,
    /// Each text.
    pub(super) text: &'static str,
    /// Options, lists and maps inside so many others are empty.
    depth: usize,
}

impl Dummies {
    /// All filled; and 1 and not 0, which a `NonZero` refuses.
    pub(super) const FULL: Self = Self { is_one: true, text: "1", depth: usize::MAX };

    /// Empty texts, options, lists and maps, but for those inside fewer than `depth` others; numbers are `number`.
    pub(super) fn lean(depth: usize, number: u8) -> Self {
        Self { is_one: number != 0, text: "", depth }
    }
}

/// What was asked for.
pub(super) struct Trace {
    pub(super) text: String,
    /// The types that asked for `deserialize_any`, or that hold something which did.
    pub(super) any: Vec<&'static str>,
    /// Whether any struct or variant has fields, named or not.
    pub(super) has_fields: bool,
    /// How many options, lists and maps are inside one another, at most.
    pub(super) containers_deepest: usize,
}

/// Traces `T`, and hands each value of it that the passes complete to `inspect`.
pub(super) fn record<T: Deserialize<'static>>(dummies: Dummies, inspect: &mut impl FnMut(T)) -> Trace {
    let mut recorder = Recorder::new(type_name::<T>(), dummies);
    for _ in 0..PASSES_MAX {
        recorder.begin_pass();
        // A pass that halted, or panicked, has still recorded what came before.
        let _ = quietly(|| T::deserialize(&mut recorder).map(&mut *inspect));
        if recorder.is_complete() {
            break;
        }
    }
    recorder.into_trace()
}

/// Why a pass ended early.
#[derive(Debug)]
pub(super) enum Halt {
    /// A type met itself; the nearest container learns to be empty in the next pass.
    Recursion,
    /// A container has learned that.
    Learned,
    /// A `Deserialize` did not like the dummies, or a bound was reached.
    Refused,
}

impl Error for Halt {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Refused
    }
}

impl std::error::Error for Halt {}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

#[derive(Clone, Default)]
struct Variant {
    tries: u32,
    completed: bool,
}

/// What the passes have learned about one enum.
#[derive(Default)]
struct Enum {
    variants: Vec<Variant>,
    /// The first variant that completed. It did so without entering this enum again, so it ends every recursion.
    base: Option<usize>,
}

/// The state across the passes over one type.
pub(super) struct Recorder {
    root: &'static str,
    pub(super) dummies: Dummies,
    has_fields: bool,
    /// How many options, lists and maps are being deserialized, and how many there were at most.
    containers: usize,
    containers_deepest: usize,
    text: String,
    any: Vec<&'static str>,
    /// The types being deserialized, outermost first, by their Rust names: serde's `Config` may be two types.
    types: Vec<&'static str>,
    /// The way from the root, by child and variant indices; it names a container across passes.
    path: Vec<usize>,
    /// Containers that have to stay empty, since what they hold would contain them again.
    empty: BTreeSet<Vec<usize>>,
    learned: bool,
    enums: BTreeMap<&'static str, Enum>,
}

impl Recorder {
    fn new(root: &'static str, dummies: Dummies) -> Self {
        Self {
            root,
            dummies,
            has_fields: false,
            containers: 0,
            containers_deepest: 0,
            text: String::new(),
            any: Vec::new(),
            types: Vec::new(),
            path: Vec::new(),
            empty: BTreeSet::new(),
            learned: false,
            enums: BTreeMap::new(),
        }
    }

    fn begin_pass(&mut self) {
        self.types.clear();
        self.path.clear();
        self.containers = 0;
        self.learned = false;
        self.write(";");
    }

    fn is_complete(&self) -> bool {
        let open = |variant: &Variant| !variant.completed && variant.tries < TRIES_MAX;
        self.text.len() >= TEXT_BYTES_MAX
            || !self.learned && !self.enums.values().any(|known| known.variants.iter().any(open))
    }

    fn into_trace(self) -> Trace {
        let Self { text, any, has_fields, containers_deepest, .. } = self;
        Trace { text, any, has_fields, containers_deepest }
    }

    pub(super) fn write(&mut self, text: &str) {
        self.text.push_str(text);
    }

    pub(super) fn note_any(&mut self, wanted: &'static str) {
        // serde buffers flattened and untagged values in a private type, which would tell the user nothing.
        let private = wanted.contains("::Content") || wanted.contains("__private");
        let name = if private { self.types.last().copied().unwrap_or(self.root) } else { wanted };
        if !self.any.contains(&name) {
            self.any.push(name);
        }
    }

    /// Runs `body` inside the type `name`, unless that would be inside itself.
    pub(super) fn within<R>(
        &mut self,
        name: &'static str,
        body: impl FnOnce(&mut Self) -> Result<R, Halt>,
    ) -> Result<R, Halt> {
        if self.is_inside(name) {
            self.write("^");
            return Err(Halt::Recursion);
        }
        self.nested(name, body)
    }

    fn nested<R>(
        &mut self,
        name: &'static str,
        body: impl FnOnce(&mut Self) -> Result<R, Halt>,
    ) -> Result<R, Halt> {
        if self.types.len() >= DEPTH_MAX {
            return Err(Halt::Refused);
        }
        let depth = self.path.len();
        self.types.push(name);
        let result = body(self);
        self.types.pop();
        self.path.truncate(depth);
        result
    }

    /// As `within`, for a type that may be empty; `body` is told whether to fill it.
    pub(super) fn container<R>(
        &mut self,
        name: &'static str,
        body: impl FnOnce(&mut Self, bool) -> Result<R, Halt>,
    ) -> Result<R, Halt> {
        let here = self.path.clone();
        let fill = self.containers < self.dummies.depth && !self.empty.contains(&here);
        self.within(name, |recorder| {
            recorder.containers += 1;
            recorder.containers_deepest = recorder.containers_deepest.max(recorder.containers);
            let result = body(recorder, fill);
            recorder.containers -= 1;
            match result {
                Err(Halt::Recursion) if fill => {
                    recorder.empty.insert(here);
                    recorder.learned = true;
                    Err(Halt::Learned)
                }
                other => other,
            }
        })
    }

    /// Goes down to the child or variant number `index`, until the current type ends.
    pub(super) fn step(&mut self, index: usize) {
        self.path.push(index);
    }

    /// Deserializes the child number `index` of the current type.
    pub(super) fn child<'de, S: DeserializeSeed<'de>>(
        &mut self,
        index: usize,
        seed: S,
    ) -> Result<S::Value, Halt> {
        if self.text.len() >= TEXT_BYTES_MAX {
            return Err(Halt::Refused);
        }
        self.step(index);
        let value = seed.deserialize(&mut *self)?;
        self.path.pop();
        Ok(value)
    }

    pub(super) fn product<'de, V: Visitor<'de>>(
        &mut self,
        names: Option<Names>,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Halt> {
        self.write("(");
        let value = visitor.visit_seq(Children { recorder: self, names, next: 0, len })?;
        self.write(")");
        Ok(value)
    }

    /// As `product`, for a type whose fields serde may leave out.
    pub(super) fn fields<'de, V: Visitor<'de>>(
        &mut self,
        names: Option<Names>,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Halt> {
        self.has_fields = true;
        self.product(names, len, visitor)
    }

    pub(super) fn is_inside(&self, name: &'static str) -> bool {
        self.types.contains(&name)
    }

    /// Enters the variant that was entered least, so that the passes reach all of them.
    pub(super) fn variant<'de, V: Visitor<'de>>(
        &mut self,
        name: &'static str,
        variants: Names,
        visitor: V,
    ) -> Result<V::Value, Halt> {
        let known = self.enums.entry(name).or_default();
        known.variants.resize_with(variants.len(), Variant::default);
        let least = known.variants.iter_mut().enumerate().min_by_key(|(_, variant)| variant.tries);
        let (index, entered) = least.ok_or(Halt::Refused)?;
        entered.tries += 1;
        let value = self.nested(name, |recorder| {
            recorder.write(variants[index]);
            recorder.step(index);
            visitor.visit_enum(Entered { recorder, index })
        })?;
        if let Some(known) = self.enums.get_mut(name) {
            known.base.get_or_insert(index);
            if let Some(entered) = known.variants.get_mut(index) {
                entered.completed = true;
            }
        }
        Ok(value)
    }

    /// An enum inside itself: written as a mark, and filled with the variant that ends.
    pub(super) fn base_variant<'de, V: Visitor<'de>>(
        &mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Halt> {
        self.write("^");
        let index = self.enums.get(name).and_then(|known| known.base).ok_or(Halt::Recursion)?;
        let written = self.text.len();
        let value = self.nested(name, |recorder| visitor.visit_enum(Entered { recorder, index }))?;
        self.text.truncate(written);
        Ok(value)
    }
}

#[cfg(test)]
#[expect(dead_code, reason = "the types are only deserialized")]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;
    use std::num::NonZeroU8;

    use serde::Deserializer;

    use super::*;

    fn record<T: Deserialize<'static>>() -> Trace {
        super::record::<T>(Dummies::FULL, &mut drop)
    }

    fn text<T: Deserialize<'static>>() -> String {
        let (first, second) = (record::<T>(), record::<T>());
        assert_eq!(first.text, second.text);
        assert!(first.any.is_empty(), "{:?}", first.any);
        first.text
    }

    #[derive(Deserialize)]
    enum Inner {
        Nothing,
        Number(NonZeroU8),
        Named { a: bool, b: char },
    }

    #[derive(Deserialize)]
    enum Outer {
        Inner(Inner),
        Pair(u8, f32),
    }

    #[test]
    fn every_variant_of_nested_enums_is_entered() {
        let text = text::<Outer>();
        for part in ["Nothing", "Number u8", "Named(a:bool,b:char)", "Pair(u8,f32)"] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }

    #[derive(Deserialize)]
    struct List {
        value: u8,
        next: Option<Box<Self>>,
        last: i16,
    }

    #[derive(Deserialize)]
    enum Tree {
        Node(Box<Self>, Box<Self>, Meta),
        Leaf(Meta),
    }

    #[derive(Deserialize)]
    struct Meta {
        names: BTreeMap<String, u16>,
    }

    #[derive(Deserialize)]
    struct Folder {
        folders: BTreeMap<String, Self>,
        files: Vec<Self>,
        size: u64,
    }

    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Nest(Vec<Self>);

    #[test]
    fn recursive_types_are_cut_and_finished() {
        assert!(text::<List>().ends_with(";List(value:u8,next:?,last:i16)"), "{}", text::<List>());
        assert!(text::<Tree>().contains("Node(Tree^,Tree^,Meta(names:map(str=>u16)))"), "{}", text::<Tree>());
        assert!(
            text::<Folder>().ends_with(";Folder(folders:map(),files:seq(),size:u64)"),
            "{}",
            text::<Folder>()
        );
        assert!(text::<Nest>().ends_with(";seq()"), "{}", text::<Nest>());
    }

    /// Each type holds all of them, so the ways through them are more than any bound.
    macro_rules! tangle {
        ($($name:ident)*) => { tangle!(@ [$($name)*] $($name)*); };
        (@ $all:tt $($name:ident)*) => { $(tangle!(# $name $all);)* };
        (# $name:ident [$($field:ident)*]) => {
            #[derive(Deserialize)]
            #[expect(non_snake_case, reason = "a field per type, by its name")]
            struct $name {
                $($field: Vec<$field>,)*
            }
        };
    }
    tangle!(A B C D E F G H I J K L);

    #[test]
    fn tangled_types_end_within_the_bounds() {
        let text = record::<A>().text;
        assert!(text.len() < 2 * TEXT_BYTES_MAX, "{}", text.len());
    }

    #[test]
    fn std_types_have_their_compact_shape() {
        assert!(text::<Result<u8, String>>().contains("Result[Ok|Err]::Ok u8"));
        assert!(text::<Result<u8, String>>().contains("Err str"));
        assert!(text::<SocketAddr>().contains("V6"), "{}", text::<SocketAddr>());
        assert_eq!(text::<(&str, &[u8])>(), ";2(str,bytes)");
        assert_eq!(text::<[u64; 2]>(), ";2(u64,u64)");
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        A(u8),
        B(String),
    }

    #[derive(Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        A { x: u8 },
    }

    #[derive(Deserialize)]
    struct Flat {
        id: u8,
        #[serde(flatten)]
        meta: Meta,
    }

    #[derive(Deserialize)]
    struct Parent {
        flat: Option<Flat>,
        end: u8,
    }

    #[test]
    fn types_for_self_describing_formats_are_flagged() {
        assert_eq!(record::<Untagged>().any, [type_name::<Untagged>()]);
        assert_eq!(record::<Tagged>().any, [type_name::<Tagged>()]);
        assert_eq!(record::<Parent>().any, [type_name::<Flat>()]);
    }

    #[test]
    fn a_refusal_keeps_what_came_before() {
        #[derive(Deserialize)]
        struct Address {
            port: u16,
            host: Never,
        }
        struct Never;
        impl<'de> Deserialize<'de> for Never {
            fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
                Err(D::Error::custom("no"))
            }
        }
        assert_eq!(text::<Address>(), ";Address(port:u16,host:");
    }
}
