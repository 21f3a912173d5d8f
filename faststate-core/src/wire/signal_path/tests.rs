use datastar::{consts::ElementPatchMode, prelude::PatchElements};
use eventsource_stream::{Event, Eventsource as _};
use futures::{FutureExt as _, StreamExt as _, stream};
use proptest::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::*;
use crate::{
    PatchMode, Scope,
    patch::merge,
    wire::frame::{elements, signals},
};

fn key() -> Key {
    Key::new("product", Scope::Record, None, Some("P1")).unwrap()
}

fn encode(signals: &impl Serialize) -> EncodedFields {
    EncodedFields::of(signals).unwrap()
}

/// Parses the bytes with an independent parser.
fn parsed(bytes: Bytes) -> Vec<Event> {
    let events = stream::iter([Ok::<_, std::convert::Infallible>(bytes)]).eventsource();
    events.map(Result::unwrap).collect::<Vec<_>>().now_or_never().unwrap()
}

/// Returns the lines of one name in an event's data, joined.
fn argument(event: &Event, name: &str) -> Option<String> {
    let lines = event.data.split('\n').filter_map(|line| line.split_once(' '));
    let values: Vec<_> = lines.filter(|(at, _)| *at == name).map(|(_, value)| value).collect();
    (!values.is_empty()).then(|| values.join("\n"))
}

/// Merges the signals of a frame as a browser does.
fn feed(client: &mut Value, bytes: Bytes) {
    for event in parsed(bytes) {
        assert_eq!(event.event, "datastar-patch-signals");
        merge(client, &serde_json::from_str(&argument(&event, "signals").unwrap()).unwrap());
    }
}

/// Returns the values that a browser must show for a state, by an independent implementation of the rules.
fn normal(value: &Value) -> Value {
    match value {
        Value::Null => json!(""),
        Value::Number(n) if n.as_i64().is_some_and(|n| n.unsigned_abs() > 1 << 53) => n.to_string().into(),
        Value::Number(n) if n.as_u64().is_some_and(|n| n > 1 << 53) => n.to_string().into(),
        Value::Array(items) => items.iter().map(normal).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), normal(value))).collect(),
        other => other.clone(),
    }
}

/// Returns the signals of a browser that has merged a record's snapshot and all later frames.
fn nested(state: &Value, cursor: Version) -> Value {
    let mut state = normal(state);
    state["_gone"] = false.into();
    state["_v"] = cursor.to_string().into();
    json!({ "product": { "x501": state } })
}

#[test]
fn change_is_one_event_that_ends_with_the_cursor() {
    let version = Version { epoch: 1, seq: 42, nonce: 3 };
    let path = SignalPath::of(&key(), None);
    let frame = path.change(
        &encode(&json!({"a": 1, "b": 2, "m": {"x": 1}})),
        &encode(&json!({"a": 1, "b": 3, "m": {"x": 1}})),
        version,
    );
    let events = "event: datastar-patch-signals\n\
        data: signals {\"product\":{\"x501\":{\"b\":3,\"_v\":\"0000000000000001-2a-00000003\"}}}\n\n";
    assert_eq!(frame.plain(), events);
    assert_eq!(frame.id_block(), "id: 0000000000000001-2a-00000003\n\n");
    assert_eq!(frame.with_id(), [frame.plain(), frame.id_block()].concat());
    assert!(!frame.is_empty() && frame.cost() > frame.with_id().len());

    let same = encode(&json!({"a": 1}));
    assert!(path.change(&same, &same.clone(), version).is_empty());
}

#[test]
fn cursor_is_the_display_form_of_the_version() {
    for (epoch, seq, nonce) in [(0, 0, 0), (u64::MAX, u64::MAX, u32::MAX), (1, 0x10, 0xabc), (0xf00, 15, 1)] {
        let version = Version { epoch, seq, nonce };
        let json = SignalPath::of(&key(), None).json(None, Some(version));
        assert_eq!(json, format!(r#"{{"product":{{"x501":{{"_v":"{version}"}}}}}}"#));
    }
}

#[test]
fn parts_of_a_frame_share_its_bytes() {
    let frame = SignalPath::of(&key(), None).snapshot(&encode(&json!({"a": 1})), Version::start());
    assert_eq!(frame.plain().as_ptr(), frame.clone().with_id().as_ptr());
    assert_eq!(frame.with_id().as_ptr(), frame.with_id().as_ptr());
}

#[test]
fn removed_key_is_cleared_in_a_separate_event() {
    let (before, after) = (json!({"m": {"x": 1, "y": 2}, "n": 1}), json!({"m": {"y": 2}, "n": 2}));
    let frame = SignalPath::of(&key(), None).change(&encode(&before), &encode(&after), Version::start());
    let events = parsed(frame.plain());
    assert_eq!(events.len(), 2);
    assert_eq!(argument(&events[0], "signals").unwrap(), r#"{"product":{"x501":{"m":"","_v":""}}}"#);
    assert!(argument(&events[1], "signals").unwrap().contains(r#"{"m":{"y":2},"n":2,"_v":"#));
}

#[test]
fn merged_frames_set_each_field_once() {
    let path = SignalPath::of(&key(), None);
    let encoded = [json!({"a": 1, "b": 1, "m": {"x": 1}}), json!({"a": 2, "b": 1, "m": {"x": 1}})];
    let encoded =
        encoded.into_iter().chain([json!({"a": 3, "b": 1, "m": {"x": 2}})]).map(|state| encode(&state));
    let encoded: Vec<_> = encoded.collect();
    let version = Version { epoch: 1, seq: 2, nonce: 3 };
    let frames: Vec<_> = encoded.windows(2).map(|pair| path.change(&pair[0], &pair[1], version)).collect();
    let merged = path.merge_frames(frames.iter(), &encoded[2], version).unwrap();
    let events = "event: datastar-patch-signals\n\
        data: signals {\"product\":{\"x501\":{\"a\":3,\"m\":{\"x\":2},\"_v\":\"0000000000000001-2-00000003\"}}}\n\n";
    assert_eq!(merged.plain(), events);
    let quiet = Frame::default();
    assert_eq!(
        path.merge_frames([&quiet, &frames[1]].into_iter(), &encoded[2], version),
        Some(frames[1].clone())
    );
    let more = frames[0].clone().with_elements(&[Elements::remove("#x")]);
    assert_eq!(path.merge_frames([&more, &frames[1]].into_iter(), &encoded[2], version), None);
}

#[test]
fn latent_residue_is_cleared_in_merged_frames() {
    let path = SignalPath::of(&key(), None);
    let states = [json!({"m": {"x": {"old": 1}}}), json!({"m": {"x": 1}}), json!({"m": {"x": {"new": 1}}})];
    let encoded: Vec<_> = states.iter().map(encode).collect();
    let version = Version::start();
    let frames: Vec<_> = encoded.windows(2).map(|pair| path.change(&pair[0], &pair[1], version)).collect();
    assert!(frames.iter().all(|frame| parsed(frame.plain()).len() == 1), "neither change needs clearing");
    let merged = path.merge_frames(frames.iter(), &encoded[2], version).unwrap();
    let mut client = nested(&states[0], Version::start());
    feed(&mut client, merged.plain());
    assert_eq!(client, nested(&states[2], version));
}

#[test]
fn view_has_its_own_cursor() {
    let (version, path) = (Version::start(), SignalPath::of(&key(), Some("card")));
    assert_eq!(
        path.json(None, Some(version)),
        format!(r#"{{"product":{{"x501":{{"_card":{{"_v":"{version}"}}}}}}}}"#)
    );
    assert_eq!(path.json(None, None), r#"{"product":{"x501":{"_card":{}}}}"#);

    let frame = path.elements(&[Elements::outer("<p id=card>1</p>")], version);
    let events = parsed(frame.plain());
    assert_eq!(events[0].event, "datastar-patch-elements");
    assert_eq!(events[0].data, "elements <p id=card>1</p>");
    assert_eq!(argument(&events[1], "signals").unwrap().as_bytes(), path.json(None, Some(version)));
    assert!(path.elements(&[], version).is_empty());
}

#[test]
fn elements_precede_the_events_of_a_frame() {
    let frame = SignalPath::of(&key(), None).snapshot(&encode(&json!({"a": 1})), Version::start());
    let with = frame.clone().with_elements(&[Elements::remove("#x")]);
    assert_eq!(parsed(with.plain())[0].data, "selector #x\nmode remove");
    assert!(with.plain().ends_with(&frame.plain()));
    assert_eq!(with.id_block(), frame.id_block());
    assert_eq!(frame.clone().with_elements(&[]), frame);
}

#[test]
fn view_for_a_caller_has_no_cursor() {
    let state = json!({"a": 1, "m": {"x": null}});
    let path = SignalPath::of(&key(), None);
    let mut client = json!({"product": {"x501": {"m": {"stale": 1}, "_v": "mine"}}});
    feed(&mut client, path.view(&encode(&Struct::of(&state))));
    assert_eq!(client["product"]["x501"]["m"], json!({"x": ""}));
    assert_eq!(client["product"]["x501"]["_v"], "mine");
    assert_eq!(path.json(Some(&encode(&state)), None), r#"{"product":{"x501":{"a":1,"m":{"x":""}}}}"#);
}

#[test]
fn appended_element_replaces_its_earlier_copy() {
    let events = parsed(elements(&[Elements::append("#list", "m1", "<li id=m1>")]));
    assert_eq!(events[0].data, "selector #list\nmode append\nelements <template id=\"m1\"></template>");
    assert_eq!(events[1].data, "selector #m1\nmode remove");
    assert_eq!(events[2].data, "selector #list\nmode append\nelements <li id=m1>");
}

#[test]
fn ids_are_escaped_as_css_escape_does() {
    // The expected values come from Chromium's `CSS.escape`.
    for (id, escaped) in [
        ("a-b_1", "a-b_1"),
        ("1a", "\\31 a"),
        ("-1", "-\\31 "),
        ("-", "\\-"),
        ("--", "--"),
        ("a.b:c d", "a\\.b\\:c\\ d"),
        ("é\u{7f}\u{1}", "é\\7f \\1 "),
        ("a\nb\r", "a\\a b\\d "),
        ("\0", "\u{fffd}"),
        ("x,body", "x\\,body"),
    ] {
        let events = parsed(elements(&[Elements::append("#list", id, "")]));
        assert_eq!(argument(&events[1], "selector").unwrap(), format!("#{escaped}"), "{id:?}");
    }
}

#[test]
fn law_12_id_cannot_escape_from_its_marker() {
    let events = parsed(elements(&[Elements::append("#list", "a\"><script>&lt;\r\n\0", "")]));
    assert_eq!(
        argument(&events[0], "elements").unwrap(),
        "<template id=\"a&#34;&#62;&#60;script&#62;&#38;lt;&#13;&#10;&#0;\"></template>"
    );
}

#[test]
fn signals_are_one_line_of_strict_json() {
    let events = parsed(signals(b"{\"a\":\r\n{\"b\":\r1}}"));
    assert_eq!(events.len(), 1);
    let json: Value = serde_json::from_str(&argument(&events[0], "signals").unwrap()).unwrap();
    assert_eq!(json, json!({"a": {"b": 1}}));
}

/// A struct with the fields of an object. Unlike the fields of a map, they are always present.
#[derive(Serialize)]
struct Struct {
    a: Value,
    b: Option<Value>,
    #[serde(skip_serializing_if = "Value::is_null")]
    c: Value,
    m: Value,
}

impl Struct {
    fn of(state: &Value) -> Self {
        let field = |name| state.get(name).cloned().unwrap_or_default();
        Self { a: field("a"), b: state.get("b").cloned(), c: field("c"), m: field("m") }
    }

    fn to_json(&self) -> Value {
        json!({ "a": self.a, "b": self.b, "c": self.c, "m": self.m })
    }
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(|n| json!(f64::from(n) / 8.0)),
        "[a-c\"\\\\{},:\r\n\u{2028}é]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            objects("[a-b0-2\"\\\\{}:,.\n]{0,2}", inner),
        ]
    })
}

fn objects(keys: &'static str, values: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop::collection::btree_map(keys, values, 0..5).prop_map(|map| Value::Object(Map::from_iter(map)))
}

/// States with few names, so that fields of two states often have the same name.
fn states() -> impl Strategy<Value = Value> {
    objects("[abcm]", values())
}

/// The signals of a browser when a snapshot arrives: any signals, except that the object of all instances is never an
/// array, because only frames write it.
fn clients() -> impl Strategy<Value = Value> {
    let state =
        prop_oneof![states(), values()].prop_map(|state| json!({ "product": { "x501": normal(&state) } }));
    prop_oneof![Just(json!({})), Just(json!({"product": ""})), state]
}

fn state_of(client: &mut Value) -> Option<&mut Value> {
    client.get_mut("product")?.get_mut("x501")
}

/// Removes fields that are `""`. A removed field of a map is sent as `""`, which is equivalent to a missing field.
fn without_absent(mut client: Value) -> Value {
    if let Some(Value::Object(state)) = state_of(&mut client) {
        state.retain(|_, value| value != "");
    }
    client
}

proptest! {
    #[test]
    fn law_04_merging_changes_yields_the_new_state(states in prop::collection::vec(states(), 1..6)) {
        let path = SignalPath::of(&key(), None);
        let (mut of_structs, mut of_maps) = (json!({}), json!({}));
        let mut last: Option<Value> = None;
        for state in states {
            let version = Version::start();
            let fields = Struct::of(&state);
            let frames = match &last {
                None => (path.snapshot(&encode(&fields), version), path.snapshot(&encode(&state), version)),
                Some(last) => (
                    path.change(&encode(&Struct::of(last)), &encode(&fields), version),
                    path.change(&encode(last), &encode(&state), version),
                ),
            };
            if !frames.0.is_empty() {
                feed(&mut of_structs, frames.0.plain());
                prop_assert_eq!(&of_structs, &nested(&fields.to_json(), version));
            }
            if !frames.1.is_empty() {
                feed(&mut of_maps, frames.1.plain());
                let truth = without_absent(nested(&state, version));
                prop_assert_eq!(without_absent(of_maps.clone()), truth);
            }
            last = Some(state);
        }
    }

    #[test]
    fn law_04_merged_frames_yield_the_last_state(states in prop::collection::vec(states(), 3..8)) {
        let path = SignalPath::of(&key(), None);
        let versions: Vec<_> = states.iter().map(|_| Version::start()).collect();
        let of_structs: Vec<_> = states.iter().map(|state| encode(&Struct::of(state))).collect();
        let of_maps: Vec<_> = states.iter().map(encode).collect();
        let (last, version) = (states.last().unwrap(), *versions.last().unwrap());
        for encoded in [&of_structs, &of_maps] {
            let frames: Vec<_> = encoded
                .windows(2)
                .zip(&versions[1..])
                .map(|(pair, version)| path.change(&pair[0], &pair[1], *version))
                .collect();
            let merged = path.merge_frames(frames.iter(), encoded.last().unwrap(), version).unwrap();
            let in_a_row: usize = frames.iter().map(|frame| frame.plain().len()).sum();
            prop_assert!(frames.len() < 2 || parsed(merged.plain()).len() <= 2, "one patch and one event that clears");
            prop_assert_eq!(merged.is_empty(), in_a_row == 0);
            let mut client = json!({});
            feed(&mut client, path.snapshot(&encoded[0], versions[0]).plain());
            feed(&mut client, merged.plain());
            let version = if merged.is_empty() { versions[0] } else { version };
            if std::ptr::eq(encoded, &of_structs) {
                prop_assert_eq!(client, nested(&Struct::of(last).to_json(), version));
            } else {
                prop_assert_eq!(without_absent(client), without_absent(nested(last, version)));
            }
        }
    }

    #[test]
    fn law_04_snapshot_yields_the_truth_in_any_browser(client in clients(), state in states()) {
        let (path, version) = (SignalPath::of(&key(), None), Version::start());
        let mut of_map = client.clone();
        feed(&mut of_map, path.snapshot(&encode(&state), version).plain());
        prop_assert_eq!(of_map, nested(&state, version));

        // All values of a struct have the same fields, and a struct is never an array.
        let fields = Struct::of(&state);
        let mut of_struct = client;
        if let Some(state) = state_of(&mut of_struct).filter(|state| state.is_array()) {
            *state = json!("");
        }
        if let Some(Value::Object(state)) = state_of(&mut of_struct) {
            state.retain(|name, _| matches!(name.as_str(), "a" | "b" | "c" | "m"));
        }
        feed(&mut of_struct, path.snapshot(&encode(&fields), version).plain());
        prop_assert_eq!(of_struct, nested(&fields.to_json(), version));
    }

    #[test]
    fn law_12_text_cannot_start_a_line(text in "(?s)[a\r\n\u{2028}\u{85}:<> ]{0,12}|(?s).{0,20}", selector in "(?s)[#a\r\n ]{1,6}") {
        let lines = text.replace("\r\n", "\n").replace('\r', "\n");
        let events = parsed(elements(&[Elements::inner(selector.clone(), text.clone())]));
        prop_assert_eq!(events.len(), 1);
        prop_assert_eq!(&events[0].event, "datastar-patch-elements");
        prop_assert!(events[0].id.is_empty() && events[0].retry.is_none());
        prop_assert_eq!(argument(&events[0], "elements").unwrap(), lines);
        prop_assert_eq!(argument(&events[0], "mode").unwrap(), "inner");
        prop_assert_eq!(argument(&events[0], "selector").unwrap(), selector.replace(['\r', '\n'], " "));

        let state = json!({ "a": text, "m": { "k": [text] } });
        let version = Version::start();
        let frame = SignalPath::of(&key(), None).snapshot(&encode(&state), version);
        prop_assert_eq!(frame.plain().iter().filter(|byte| **byte == b'\n').count(), 7);
        let mut client = json!({});
        feed(&mut client, frame.plain());
        prop_assert_eq!(client, nested(&state, version));
    }

    #[test]
    fn events_equal_those_of_the_official_crate(html in "(?s)[a-z<>&\"'\n é\u{2028}]{0,20}[a-z]", selector in "[#a-z]{1,5}") {
        let modes = [
            (PatchMode::Outer, ElementPatchMode::Outer),
            (PatchMode::Inner, ElementPatchMode::Inner),
            (PatchMode::Replace, ElementPatchMode::Replace),
            (PatchMode::Prepend, ElementPatchMode::Prepend),
            (PatchMode::Append, ElementPatchMode::Append),
            (PatchMode::Before, ElementPatchMode::Before),
            (PatchMode::After, ElementPatchMode::After),
        ];
        for (mode, official) in modes {
            let mut ours = Elements::inner(selector.clone(), html.clone());
            ours.mode = mode;
            let theirs = PatchElements::new(html.clone()).selector(selector.clone()).mode(official);
            prop_assert_eq!(elements(&[ours]), theirs.as_datastar_event().to_string());
        }
        let theirs = PatchElements::new_remove(selector.clone()).as_datastar_event().to_string();
        prop_assert_eq!(elements(&[Elements::remove(selector)]), theirs);
        let json = json!({ "a": html }).to_string();
        let theirs = datastar::prelude::PatchSignals::new(json.clone()).as_datastar_event().to_string();
        prop_assert_eq!(signals(json.as_bytes()), theirs);
    }
}
