use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::*;

#[derive(Serialize)]
struct Config {
    seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    steps: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<u8>,
}

#[derive(Serialize)]
enum Shape {
    Circle {
        radius: f32,
        #[serde(skip_serializing_if = "Option::is_none")]
        colour: Option<u8>,
    },
    Wrapped(Config),
}

const NAMELESS: Config = Config { seed: 1, name: None, steps: 2, tags: Vec::new() };
const GREY: Shape = Shape::Circle { radius: 1.0, colour: None };

fn full() -> Config {
    Config { seed: 1, name: Some("a".to_owned()), steps: 2, tags: vec![7] }
}

fn skips_of<T: Serialize>(value: &T, skips: Skips) -> (bool, Vec<String>) {
    let is_ok = postcard::to_stdvec(&Value { value, skips: &skips }).is_ok();
    (is_ok, skips.into_found().iter().map(|skip| format!("{}.{}", skip.owner, skip.field)).collect())
}

#[test]
fn a_field_left_out_is_an_error_wherever_it_is() {
    fn refused<T: Serialize>(value: T) {
        assert_eq!(skips_of(&value, Skips::fatal()), (false, vec!["Config.name".to_owned()]));
    }
    refused(NAMELESS);
    refused((1u8, [NAMELESS]));
    refused(vec![full(), NAMELESS]);
    refused(Some(Box::new(NAMELESS)));
    refused(BTreeMap::from([("key", NAMELESS)]));
    refused(Shape::Wrapped(NAMELESS));
    refused(Err::<(), _>(NAMELESS));
}

#[test]
fn all_that_is_left_out_can_be_gathered() {
    let (is_ok, found) = skips_of(&(NAMELESS, GREY), Skips::gathered());
    assert!(is_ok);
    assert_eq!(found, ["Config.name", "Config.tags", "Shape.colour"]);
}

#[test]
fn the_sentence_names_field_variant_and_remedy() {
    let skips = Skips::fatal();
    assert!(postcard::to_stdvec(&Value { value: &GREY, skips: &skips }).is_err());
    assert_eq!(
        skips.into_found()[0].to_string(),
        "field `colour` of Shape::Circle is left out by `skip_serializing_if`, which the wire cannot express: \
         remove that attribute, or use Option without it"
    );
}

#[test]
fn a_format_with_room_for_texts_gets_the_sentence() {
    let error = serde_json::to_string(&Value { value: &NAMELESS, skips: &Skips::fatal() }).unwrap_err();
    assert!(error.to_string().contains("field `name` of Config is left out"), "{error}");
}

#[derive(Serialize)]
struct Unit;
#[derive(Serialize)]
struct Newtype(u64);
#[derive(Serialize)]
struct Pair(i8, char);
#[derive(Serialize)]
enum Variants {
    Unit,
    Newtype(f64),
    Pair(bool, i16),
    Named { a: i32, b: i64 },
}

#[derive(Serialize)]
struct Bytes<'a>(#[serde(with = "serde_bytes")] &'a [u8]);

#[test]
fn the_bytes_are_the_same() {
    fn same<T: Serialize>(value: T) {
        let skips = Skips::fatal();
        let strict = Value { value: &value, skips: &skips };
        assert_eq!(postcard::to_stdvec(&strict).unwrap(), postcard::to_stdvec(&value).unwrap());
        assert_eq!(serde_json::to_string(&strict).unwrap(), serde_json::to_string(&value).unwrap());
        assert!(skips.into_found().is_empty());
    }
    same((u8::MAX, u16::MAX, u32::MAX, u64::MAX, u128::MAX, i128::MIN));
    same((1.5f32, 2.5f64, true, 'ä', "text", (), Unit, Newtype(300), Pair(-1, 'x')));
    same([
        Variants::Unit,
        Variants::Newtype(0.5),
        Variants::Pair(true, -300),
        Variants::Named { a: 1, b: -1 },
    ]);
    same((Some(1u8), None::<u8>, vec![Some("a")], Bytes(b"\x00\xff"), vec![1u8, 200]));
    same((BTreeMap::from([("a", vec![1u64])]), Duration::from_millis(1500), full()));
    // Each of these asks whether the format is for people, or gives itself as text.
    same(("127.0.0.1:80".parse::<SocketAddr>().unwrap(), format_args!("{}-{}", 1, 2)));
}
