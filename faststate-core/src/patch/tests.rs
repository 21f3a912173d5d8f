use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use proptest::prelude::*;
use rustix::time::{ClockId, clock_gettime};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::*;

/// JavaScript represents each integer exactly up to 2 to the power of this.
const EXACT_BITS: u32 = 53;

fn json_of(signals: &impl Serialize) -> String {
    String::from_utf8(EncodedFields::of(signals).unwrap().json().to_vec()).unwrap()
}

fn refusal(signals: &impl Serialize) -> String {
    EncodedFields::of(signals).unwrap_err().to_string()
}

#[derive(Default, Serialize)]
struct Everything {
    flag: bool,
    small: u8,
    exact: i64,
    inexact: i64,
    unsigned: u64,
    huge: i128,
    float: f64,
    text: &'static str,
    none: Option<u8>,
    some: Option<u8>,
    unit: (),
    pair: (u8, Option<u8>),
    list: Vec<Option<f32>>,
    numbers: BTreeMap<i32, char>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<u8>,
    #[serde(skip)]
    _secret: u8,
    kinds: Vec<Kind>,
}

#[derive(Serialize)]
enum Kind {
    Unit,
    Newtype(Option<u8>),
    Tuple(u8, ()),
    Struct { a: u8 },
}

#[test]
fn values_are_encoded_in_wire_form() {
    let everything = Everything {
        exact: -(1 << 53),
        inexact: -(1 << 53) - 1,
        unsigned: u64::MAX,
        huge: i128::MIN,
        float: 0.1,
        text: "a\"\\\u{1}\r\n\u{2028}é",
        some: Some(1),
        list: vec![Some(0.1), None],
        numbers: BTreeMap::from([(-1, 'x'), (2, '"')]),
        kinds: vec![Kind::Unit, Kind::Newtype(None), Kind::Tuple(1, ()), Kind::Struct { a: 1 }],
        ..Everything::default()
    };
    let expected = concat!(
        r#"{"flag":false,"small":0,"exact":-9007199254740992,"inexact":"-9007199254740993","#,
        r#""unsigned":"18446744073709551615","huge":"-170141183460469231731687303715884105728","float":0.1,"#,
        r#""text":"a\"\\\u0001\r\n"#,
        "\u{2028}é\",",
        r#""none":"","some":1,"unit":"","pair":[0,""],"list":[0.1,""],"numbers":{"-1":"x","2":"\""},"skipped":"","#,
        r#""kinds":["Unit",{"Newtype":""},{"Tuple":[1,""]},{"Struct":{"a":1}}]}"#,
    );
    assert_eq!(json_of(&everything), expected);
}

#[test]
fn top_level_value_must_be_struct_or_map() {
    #[derive(Serialize)]
    struct Wrapped(BTreeMap<&'static str, u8>);
    #[derive(Serialize)]
    struct Unit;
    assert_eq!(json_of(&Some(&Box::new(Wrapped(BTreeMap::from([("a", 1)]))))), r#"{"a":1}"#);
    assert_eq!(json_of(&BTreeMap::<String, u8>::new()), "{}");
    for (refused, shape) in [
        (refusal(&5), "a number"),
        (refusal(&-0.5), "a number"),
        (refusal(&true), "a boolean"),
        (refusal(&"text"), "a string"),
        (refusal(&u64::MAX), "an integer beyond 2^53"),
        (refusal(&[1]), "a list"),
        (refusal(&(1, 2)), "a tuple"),
        (refusal(&Vec::<Unit>::new()), "a list"),
        (refusal(&vec![BTreeMap::from([("a", 1)])]), "a list"),
        (refusal(&None::<u8>), "an absent or empty value"),
        (refusal(&Unit), "a unit struct needs braces"),
        (refusal(&Kind::Unit), "an enum"),
        (refusal(&Kind::Newtype(None)), "an enum"),
        (refusal(&Kind::Tuple(1, ())), "an enum"),
        (refusal(&Kind::Struct { a: 1 }), "an enum"),
    ] {
        assert!(refused.starts_with("signals must be a struct or a map"), "{refused}");
        assert!(refused.contains(shape), "{refused}");
    }
}

#[test]
fn law_12_names_that_pollute_a_prototype_are_refused() {
    for name in ["__proto__", "constructor", "prototype", "A", "a__b", "a.b", "", "_v", "\"", "1"] {
        let message = refusal(&BTreeMap::from([(name, 1)]));
        assert!(message.contains("cannot name a signal") || message.contains("cannot be a key"), "{message}");
    }
    // Datastar splits names at dots when it reports a change.
    for key in
        ["__proto__", "constructor", "prototype", "toString", "a.__proto__.b", "a.constructor", "valueOf.a"]
    {
        let message = refusal(&json!({ "a": [{ "b": { key: 1 } }] }));
        assert!(message.starts_with("in `a`: ") && message.contains("cannot be a key"), "{message}");
    }
    assert_eq!(
        json_of(&json!({ "a": { "__proto": 1, "a.b": 2, "": 3 } })),
        r#"{"a":{"":3,"__proto":1,"a.b":2}}"#
    );
    #[derive(Serialize)]
    struct Renamed {
        #[serde(rename = "constructor")]
        field: u8,
    }
    assert!(refusal(&Renamed { field: 1 }).contains("cannot name a signal"));
    assert!(refusal(&HashMap::from([("a", Renamed { field: 1 })])).contains("cannot be a key"));
}

#[test]
fn values_outside_json_are_refused_with_their_field() {
    for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(
            refusal(&HashMap::from([("a", vec![Some(float)])])).starts_with("in `a`: a float is not finite")
        );
    }
    assert!(refusal(&HashMap::from([("a", f32::NAN)])).contains("not finite"));
    assert!(refusal(&HashMap::from([("a", BTreeMap::from([((1, 2), 3)]))])).contains("not tuples"));
    struct Refusing;
    impl Serialize for Refusing {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }
    assert_eq!(refusal(&HashMap::from([("a", Refusing)])), "in `a`: not today");
}

#[test]
fn flattened_map_that_repeats_a_field_is_refused() {
    #[derive(Serialize)]
    struct Flat {
        b: u8,
        #[serde(flatten)]
        rest: BTreeMap<&'static str, u8>,
    }
    assert_eq!(json_of(&Flat { b: 1, rest: BTreeMap::from([("a", 2), ("c", 3)]) }), r#"{"b":1,"a":2,"c":3}"#);
    assert!(refusal(&Flat { b: 1, rest: BTreeMap::from([("a", 2), ("b", 3)]) }).contains("`b` occurs twice"));
}

/// Returns whether the signals of a state without an override are its stored bytes. Checks that they equal a separate
/// encoding.
fn is_shared<S: Serialize>(state: &S) -> bool {
    let stored = EncodedState::of(state, INITIAL_CAPACITY).unwrap();
    match (stored.signals::<S>(&Whole::of(state)), EncodedFields::of(state)) {
        (Ok(signals), Ok(separate)) => {
            assert_eq!(signals.fields().collect::<Vec<_>>(), separate.fields().collect::<Vec<_>>());
            assert_eq!((signals.json(), signals.is_open()), (separate.json(), separate.is_open()));
            signals.json().as_ptr() == stored.data.as_ptr()
        }
        (Err(error), Err(separate)) => {
            assert_eq!(error.to_string(), separate.to_string());
            false
        }
        (signals, separate) => panic!("{signals:?} is not {separate:?}"),
    }
}

#[test]
fn whole_state_shares_bytes_unless_its_forms_differ() {
    #[derive(Serialize)]
    struct Plain {
        text: String,
        list: Vec<Kind>,
        map: BTreeMap<String, Option<bool>>,
    }
    #[derive(Serialize)]
    struct Flat {
        own: u64,
        #[serde(flatten)]
        rest: BTreeMap<String, Option<u8>>,
    }
    #[derive(Serialize)]
    struct Skipping {
        own: u8,
        #[serde(skip_serializing_if = "Option::is_none")]
        some: Option<u8>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        not_a_signal: u8,
    }
    let plain = |map: &[(&str, Option<bool>)]| {
        let map = map.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect();
        Plain { text: "\"".to_owned(), list: vec![Kind::Unit, Kind::Struct { a: 1 }], map }
    };
    let flat = |own, rest: &[(&str, Option<u8>)]| {
        let rest = rest.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect();
        Flat { own, rest }
    };
    assert!(is_shared(&plain(&[("b", Some(true)), ("A.b", Some(false))])));
    assert!(is_shared(&flat(1 << EXACT_BITS, &[("s", Some(1)), ("t", Some(2))])));
    assert!(is_shared(&flat(1, &[("a", Some(1)), ("t", Some(2))])), "names in any order");
    // Absent values, integers that JavaScript cannot represent, and skipped fields.
    assert!(!is_shared(&plain(&[("b", None)])));
    assert!(!is_shared(&flat((1 << EXACT_BITS) + 1, &[])));
    assert!(!is_shared(&flat(1, &[("s", None)])));
    assert!(is_shared(&Skipping { own: 1, some: Some(1) }) && !is_shared(&Skipping { own: 1, some: None }));
    assert!(!is_shared(&Everything::default()));
    // Names that cannot be signals, a repeated name, and values without fields.
    assert!(!is_shared(&Named { not_a_signal: 1 }));
    assert!(!is_shared(&flat(1, &[("A", Some(1))])));
    assert!(!is_shared(&flat(1, &[("own", Some(2))])));
    assert!(!is_shared(&vec![1]) && !is_shared(&Kind::Struct { a: 1 }) && !is_shared(&None::<u8>));
}

#[test]
fn signals_of_another_value_are_encoded_separately() {
    #[derive(Serialize)]
    struct Secret {
        text: &'static str,
    }
    static HIDDEN: Secret = Secret { text: "" };
    let secret = Secret { text: "secret" };
    let stored = EncodedState::of(&secret, INITIAL_CAPACITY).unwrap();
    let shared = stored.signals::<Secret>(&Whole::of(&secret)).unwrap();
    assert_eq!(
        (shared.json().as_ptr(), &**shared.json()),
        (stored.data.as_ptr(), &br#"{"text":"secret"}"#[..])
    );
    assert_eq!(stored.signals::<Secret>(&&HIDDEN).unwrap().json(), r#"{"text":""}"#);
    assert_eq!(stored.signals::<Secret>(&json!({ "a": 1 })).unwrap().json(), r#"{"a":1}"#);
    let separate = stored.signals::<Secret>(&&secret).unwrap();
    assert_eq!(separate.json(), r#"{"text":"secret"}"#);
    assert_ne!(separate.json().as_ptr(), stored.data.as_ptr());
    // The whole of another type.
    assert_eq!(stored.signals::<u8>(&Whole::of(&HIDDEN)).unwrap().json(), r#"{"text":""}"#);
}

fn changes(before: &Value, after: &Value) -> Vec<(String, String, bool)> {
    let (before, after) = (EncodedFields::of(before).unwrap(), EncodedFields::of(after).unwrap());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let changes = diff(&before, &after).into_iter();
    changes.map(|change| (text(change.name), text(change.value), change.needs_clearing())).collect()
}

#[test]
fn diff_contains_only_changed_fields() {
    assert_eq!(changes(&json!({"a": 1, "b": [1, 2]}), &json!({"a": 1, "b": [1, 2]})), []);
    let change = |name: &str, value: &str, clear| (name.to_owned(), value.to_owned(), clear);
    assert_eq!(
        changes(&json!({"a": 1, "b": 2, "d": 4}), &json!({"b": 3, "c": 1, "d": 4})),
        [change("b", "3", false), change("c", "1", false), change("a", "\"\"", false)]
    );
}

#[test]
fn field_is_cleared_first_if_merging_leaves_residue() {
    for (before, after, clear) in [
        (json!({}), json!({"x": 1}), false),
        (json!({"x": 1}), json!({"x": 2}), false),
        (json!({"x": 1, "y": 1}), json!({"x": 1, "w": 1}), true),
        (json!({"x": 1}), json!({}), true),
        (json!({"x": {"y": 1}}), json!({"x": {"y": {"z": 1}}}), false),
        (json!({"x": {"y": {"z": 1}}}), json!({"x": {"y": {}}}), true),
        (json!({"x": [1]}), json!({"x": {}}), true),
        (json!({"x": {}}), json!({"x": [1]}), false),
        (json!([]), json!({"x": 1}), true),
        (json!({"x": 1}), json!(["x"]), false),
        (json!("{"), json!({"x": 1}), false),
        (json!({"a\"}": 1, "b": 2}), json!({"a\"}": ",", "b": "}{"}), false),
        (json!({"a\\": {"b": [1, "]"]}, "c": 1}), json!({"a\\": {"b": [2, "["]}}), true),
    ] {
        let found = changes(&json!({ "a": before }), &json!({ "a": after }));
        assert_eq!(found, [("a".to_owned(), after.to_string(), clear)], "{before} -> {after}");
    }
}

#[test]
fn unordered_keys_are_found() {
    struct Pairs(&'static [(&'static str, u8)]);
    impl Serialize for Pairs {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(self.0.iter().copied())
        }
    }
    #[derive(Serialize)]
    struct State {
        map: Pairs,
    }
    let fields = |pairs| EncodedFields::of(&State { map: Pairs(pairs) }).unwrap();
    let before = fields(&[("c", 1), ("a", 1), ("b", 1)]);
    assert!(!diff(&before, &fields(&[("a", 1), ("d", 1), ("b", 1), ("c", 1)]))[0].needs_clearing());
    assert!(diff(&before, &fields(&[("b", 1), ("d", 1), ("a", 1)]))[0].needs_clearing());
    let (before, after) = (Pairs(&[("c", 1), ("a", 1), ("b", 1)]), Pairs(&[("b", 1), ("c", 1), ("a", 1)]));
    assert!(diff(&EncodedFields::of(&before).unwrap(), &EncodedFields::of(&after).unwrap()).is_empty());
}

/// A struct with a field before a flattened map.
#[derive(Serialize)]
struct Tagged {
    zone: u8,
    #[serde(flatten)]
    rest: BTreeMap<String, u32>,
}

/// Returns the CPU time of this thread, which is independent of other load.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

/// Returns the time of a diff of 4,000 keys divided by the time of 500 keys: about 8 if the time is linear, 64 if
/// it is quadratic.
fn growth<S: Serialize>(before: impl Fn(u32) -> S, after: impl Fn(u32) -> S) -> f64 {
    let time = |keys| {
        let (before, after) = (before(keys), after(keys));
        let time = |_| {
            let start = cpu_time();
            let (before, after) = (EncodedFields::of(&before).unwrap(), EncodedFields::of(&after).unwrap());
            assert!(!diff(&before, &after).is_empty());
            cpu_time() - start
        };
        (0..3).map(time).min().unwrap().as_secs_f64()
    };
    time(4_000) / time(500)
}

#[test]
fn diff_takes_linear_time() {
    let tagged = |keys: u32, prefix: &str, changed: u32| {
        let value = |at| u32::from(at == changed);
        Tagged { zone: 1, rest: (0..keys).map(|at| (format!("{prefix}{at:05}"), value(at))).collect() }
    };
    let unordered = |keys: u32, changed: u32| -> HashMap<String, u32> {
        (0..keys).map(|at| (format!("a{at}"), u32::from(at == changed))).collect()
    };
    let cases = [
        ("all keys replaced", growth(|keys| tagged(keys, "a", 0), |keys| tagged(keys, "b", 0))),
        ("one key changed", growth(|keys| tagged(keys, "a", 0), |keys| tagged(keys, "a", keys - 1))),
        ("unordered keys", growth(|keys| unordered(keys, 0), |keys| unordered(keys, 1))),
    ];
    for (case, growth) in cases {
        assert!(growth < 24.0, "{case}: {growth:.1} times as long for 8 times the keys");
    }
}

#[test]
fn merge_matches_the_bundle() {
    // Each row was observed in the bundle's own signals: (before, patch, after).
    for (mut before, patch, after) in [
        (json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": 3}}), json!({"a": {"b": 3, "c": 2}})),
        (json!({"a": {"b": 1}}), json!({"a": {"b": null}}), json!({"a": {}})),
        (json!({"a": 1}), json!({"a": null, "b": null}), json!({})),
        (json!({"a": 1}), json!({"a": {"b": 1}}), json!({"a": {"b": 1}})),
        (json!({"a": {"b": 1}}), json!({"a": [1, null, {"x": null}]}), json!({"a": [1, "", {"x": ""}]})),
        (json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]})),
        (json!({"a": [1, 2]}), json!({"a": {"1": 5, "x": 1}}), json!({"a": [1, 5]})),
        (json!({"a": [1]}), json!({"a": {"2": {"x": 1}, "0": null}}), json!({"a": ["", "", {"x": 1}]})),
        (json!({"a": {"b": 1}}), json!({"a": ""}), json!({"a": ""})),
        (json!({"a": 1}), json!("b"), json!({"a": 1})),
    ] {
        merge(&mut before, &patch);
        assert_eq!(before, after, "{patch}");
    }
}

proptest! {
    #[test]
    fn output_is_strict_json(value in ".*", key in "\\PC{0,8}") {
        prop_assume!(!crate::key::pollutes(&key));
        let state = json!({ "a": { key.clone(): value.clone() }, "b": [value] });
        let fields = EncodedFields::of(&state).unwrap();
        prop_assert!(fields.json().iter().all(|byte| *byte >= b' '));
        prop_assert_eq!(serde_json::from_slice::<Value>(fields.json()).unwrap(), state);
    }
}
