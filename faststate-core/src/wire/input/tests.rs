use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::json;

use super::*;
use crate::Scope;

fn key() -> Key {
    Key::new("counter", Scope::Global, None, None).unwrap()
}

fn json_body(body: &str) -> Result<Input, InputError> {
    Input::parse(None, Some("application/json; charset=utf-8"), body.as_bytes())
}

fn query<E: DeserializeOwned>(query: &str) -> Result<E, InputError> {
    Input::parse(Some(query), None, b"").unwrap().decode(&key()).map(|decoded| decoded.event)
}

fn body<E: DeserializeOwned>(value: &Value) -> Result<E, InputError> {
    json_body(&value.to_string()).unwrap().decode(&key()).map(|decoded| decoded.event)
}

#[derive(Debug, PartialEq, Deserialize)]
struct Increment {
    amount: i64,
    #[serde(default)]
    user: String,
    #[serde(skip)]
    _price: u8,
}

fn increment(amount: i64, user: &str) -> Increment {
    Increment { amount, user: user.to_owned(), _price: 0 }
}

#[test]
fn fields_come_from_query_body_and_signals() {
    let decoded =
        Input::parse(Some("amount=2&other=x"), None, b"").unwrap().decode::<Increment>(&key()).unwrap();
    assert_eq!(decoded.event, increment(2, ""));
    assert_eq!(decoded.fields, ["amount", "user"]);

    let input =
        json_body(r#"{"amount":1,"counter":{"amount":3,"user":"Ann","count":9},"chat":{"user":"Bob"}}"#)
            .unwrap();
    assert_eq!(input.decode::<Increment>(&key()).unwrap().event, increment(1, "Ann"));
    let record = Key::new("counter", Scope::Record, None, Some("p1")).unwrap();
    let input = json_body(r#"{"counter":{"amount":1,"p1":{"amount":4}}}"#).unwrap();
    assert_eq!(input.decode::<Increment>(&record).unwrap().event, increment(4, ""));

    let form =
        Input::parse(None, Some("Application/X-WWW-Form-Urlencoded"), b"amount=5&user=A+%26%20B%2b").unwrap();
    assert_eq!(form.decode::<Increment>(&key()).unwrap().event, increment(5, "A & B+"));
    let sent = Input::parse(Some("datastar=%7B%22amount%22%3A6%7D&user=C"), None, b"").unwrap();
    assert_eq!(sent.decode::<Increment>(&key()).unwrap().event, increment(6, "C"));
    assert!(Input::parse(None, Some("text/plain"), b"").is_ok(), "the type of an absent body is ignored");
    assert!(Input::parse(Some("datastar="), None, b"").is_ok());
}

#[test]
fn law_09_malformed_input_is_refused() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let within = format!("{{\"a\":{}1{}}}", "[".repeat(63), "]".repeat(63));
    assert!(json_body(&within).is_ok());
    for (body, expected) in [
        ("{", "cannot be read"),
        ("[1]", "must be an object"),
        ("5", "must be an object"),
        ("{} {}", "cannot be read"),
        (&*format!("{{\"a\":{deep}}}"), "nested more than 64 deep"),
        (r#"{"a":1,"a":2}"#, "`a` is given twice"),
        (r#"{"a":[{"b":1,"\u0062":2}]}"#, "`b` is given twice"),
        (r#"{"__proto__":1}"#, "reserved"),
        (r#"{"a":[{"b":{"constructor":1}}]}"#, "reserved"),
        (r#"{"a":{"b.prototype.c":1}}"#, "reserved"),
        (r#"{"a":1e999}"#, "out of range"),
        (r#"{"a":NaN}"#, "cannot be read"),
        (r#"{"a":"\ud800"}"#, "half of a character"),
    ] {
        let message = json_body(body).unwrap_err().message;
        assert!(message.contains(expected), "{body}: {message}");
    }
    for (query, expected) in [
        ("a=1&a=2", "`a` is given twice"),
        ("a=1&%61=2", "`a` is given twice"),
        ("__proto__=1", "reserved"),
        ("a=%ff", "UTF-8"),
        ("%ff=a", "UTF-8"),
        ("datastar=x", "cannot be read"),
        ("datastar=1", "must be an object"),
        ("datastar={}&datastar={}", "`datastar` is given twice"),
        ("a=1&datastar={%22a%22:1}", "`a` is given twice"),
    ] {
        let message = Input::parse(Some(query), None, b"").unwrap_err().message;
        assert!(message.contains(expected), "{query}: {message}");
    }
    let twice = Input::parse(Some("amount=1"), Some("application/json"), br#"{"amount":1}"#).unwrap_err();
    assert_eq!(twice.field.as_deref(), Some("amount"));
    for (content_type, body) in
        [(None, &b"a"[..]), (Some("text/plain"), b"a"), (Some("multipart/form-data"), b"a")]
    {
        assert!(Input::parse(None, content_type, body).unwrap_err().message.contains("content type"));
    }
    assert!(
        Input::parse(None, Some("application/json"), b"{\"a\":\"\xff\"}")
            .unwrap_err()
            .message
            .contains("UTF-8")
    );
}

#[derive(Debug, PartialEq, Deserialize)]
struct Typed {
    flag: bool,
    small: i8,
    big: u64,
    huge: u128,
    float: f64,
    text: String,
    letter: char,
    maybe: Option<u8>,
    words: Option<String>,
    kind: Kind,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Small,
    VeryLarge,
    Sized(u8),
    Boxed { width: u8 },
    Pair(u8, u8),
}

#[test]
fn text_is_converted_to_the_requested_type() {
    let huge = u128::MAX;
    let typed: Typed = query(&format!(
        "flag=on&small=-5&big=18446744073709551615&huge={huge}&float=1e3&text=5&letter=7&maybe=&words=&kind=very_large"
    ))
    .unwrap();
    let expected = Typed {
        flag: true,
        small: -5,
        big: u64::MAX,
        huge,
        float: 1000.0,
        text: "5".to_owned(),
        letter: '7',
        maybe: None,
        words: None,
        kind: Kind::VeryLarge,
    };
    assert_eq!(typed, expected);
    let typed: Typed = body(&json!({
        "flag": 1, "small": -5.0, "big": "18446744073709551615", "huge": huge.to_string(), "float": "1000",
        "text": 5, "letter": 7, "maybe": null, "words": "", "kind": "very_large",
    }))
    .unwrap();
    assert_eq!(typed, expected);
}

#[derive(Debug, Deserialize)]
struct One<T> {
    a: T,
}

#[expect(clippy::needless_pass_by_value, reason = "so that each row stays on one line")]
fn one<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    let result = body::<One<T>>(&json!({ "a": value }));
    result.map(|one| one.a).map_err(|error| {
        assert_eq!(error.field.as_deref(), Some("a"), "{error}");
        error.message
    })
}

#[test]
fn ambiguous_conversions_are_refused() {
    for (value, flag) in [
        (json!(true), true),
        (json!(1), true),
        (json!("on"), true),
        (json!("true"), true),
        (json!("1"), true),
        (json!(false), false),
        (json!(0), false),
        (json!("off"), false),
        (json!("false"), false),
        (json!("0"), false),
        (json!(""), false),
    ] {
        assert_eq!(one(value), Ok(flag));
    }
    for value in [json!("yes"), json!(2), json!(0.5), json!([]), json!({})] {
        assert_eq!(one::<bool>(value).unwrap_err(), "`a` must be true or false");
    }
    for (value, number) in
        [(json!(5), 5), (json!(5.0), 5), (json!(" 5 "), 5), (json!("5.0"), 5), (json!("-5"), -5)]
    {
        assert_eq!(one(value), Ok(number));
    }
    for value in [
        json!(5.5),
        json!("5.5"),
        json!("five"),
        json!("5 6"),
        json!(true),
        json!([5]),
        json!("-"),
        json!(1e300),
        json!("NaN"),
    ] {
        assert_eq!(
            one::<i32>(value.clone()).unwrap_err().split(" from").next(),
            Some("`a` must be a whole number"),
            "{value}"
        );
    }
    for value in [
        json!(256),
        json!("256"),
        json!(-1),
        json!("-1"),
        json!("99999999999999999999999999999999999999999999"),
    ] {
        assert_eq!(one::<u8>(value).unwrap_err(), "`a` must be a whole number from 0 to 255");
    }
    assert_eq!(one(json!("-9223372036854775808")), Ok(i64::MIN));
    assert_eq!(one(json!(i64::MIN)), Ok(i128::from(i64::MIN)));
    assert!(
        one::<i64>(json!(9_007_199_254_740_994.0)).is_err(),
        "a float of this size represents several integers"
    );
    assert_eq!(one(json!("0.5")), Ok(0.5));
    assert_eq!(one(json!(3)), Ok(3.0));
    assert_eq!(one(json!("0.5")), Ok(0.5_f32));
    for value in [json!("inf"), json!("NaN"), json!("1e999"), json!("-infinity"), json!("x"), json!(true)] {
        assert_eq!(one::<f64>(value).unwrap_err(), "`a` must be a number");
    }
    assert!(one::<f32>(json!(1e300)).unwrap_err().starts_with("`a` must be a number from -3.4"));
    assert_eq!(one(json!(true)), Ok("true".to_owned()));
    assert_eq!(one(json!(0.25)), Ok("0.25".to_owned()));
    assert_eq!(one::<char>(json!("ab")).unwrap_err(), "`a` must be one character");
    assert_eq!(one::<Vec<u8>>(json!("1")).unwrap_err(), "`a` must be a list");
    assert_eq!(one::<(u8, u8)>(json!([1])).unwrap_err(), "`a` must be a list of 2");
    assert_eq!(one(json!("")), Ok(None::<bool>));
    assert_eq!(one(json!("0")), Ok(Some(false)));
    assert_eq!(one(json!("")), Ok(()));
    assert_eq!(one(json!({"x": [1, "2"]})), Ok(json!({"x": [1, "2"]})), "JSON is not converted");
}

#[test]
fn nested_values_are_converted() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Line {
        #[serde(default)]
        price: f64,
        count: u8,
    }
    let lines: Vec<Line> =
        one(json!([{"price": "", "count": "1", "other": {}}, {"price": "2.5", "count": 2}])).unwrap();
    assert_eq!(lines, [Line { price: 0.0, count: 1 }, Line { price: 2.5, count: 2 }]);
    assert_eq!(one::<Vec<Line>>(json!([{"count": ""}])).unwrap_err(), "`a.0.count` is missing");
    assert_eq!(
        one::<Vec<Line>>(json!([{"count": 1}, {"count": "x"}])).unwrap_err(),
        "`a.1.count` must be a whole number"
    );
    assert_eq!(one::<Vec<u8>>(json!(["1", ""])).unwrap_err(), "`a.1` must be a whole number");
    assert_eq!(one(json!({"1": "2"})), Ok(BTreeMap::from([(1, 2)])));
    assert_eq!(one::<Line>(json!([1])).unwrap_err(), "`a` must be an object with named fields");
    assert_eq!(one(json!("small")), Ok(Kind::Small));
    assert_eq!(one(json!({"sized": "3"})), Ok(Kind::Sized(3)));
    assert_eq!(one(json!({"boxed": {"width": "3"}})), Ok(Kind::Boxed { width: 3 }));
    assert_eq!(one(json!({"pair": ["3", 4.0]})), Ok(Kind::Pair(3, 4)));
    for wrong in [json!("tiny"), json!(""), json!(1), json!({"small": 1, "sized": 2}), json!({"tiny": 1})] {
        let message = one::<Kind>(wrong).unwrap_err();
        assert_eq!(message, "`a` must be one of `small`, `very_large`, `sized`, `boxed`, `pair`");
    }
    assert!(one::<Kind>(json!({"sized": {}})).is_err() && one::<Kind>(json!({"small": 1})).is_err());
}

#[test]
fn blank_number_is_an_absent_field() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Blank {
        #[serde(default = "seven")]
        a: u8,
        #[serde(default)]
        b: f64,
        c: Option<i64>,
        #[serde(default)]
        d: Option<std::num::NonZeroU8>,
        #[serde(default = "at_least_one")]
        e: std::num::NonZeroU8,
    }
    fn seven() -> u8 {
        7
    }
    fn at_least_one() -> std::num::NonZeroU8 {
        std::num::NonZeroU8::MIN
    }
    let blank = Blank { a: 7, b: 0.0, c: None, d: None, e: at_least_one() };
    assert_eq!(query("a=&b=&c=&d=&e="), Ok(blank));
    assert_eq!(
        body(&json!({"a": null, "b": " ", "e": ""})),
        Ok(Blank { a: 7, b: 0.0, c: None, d: None, e: at_least_one() })
    );
    let missing = query::<Increment>("amount=").unwrap_err();
    assert_eq!((missing.message.as_str(), missing.field.as_deref()), ("`amount` is missing", Some("amount")));
    assert!(query::<Blank>("d=0").unwrap_err().message.starts_with("`d`: "));
    // A blank field hides the signal with its name, because the user left the form field empty.
    let input = json_body(r#"{"amount":"","counter":{"amount":5}}"#).unwrap();
    assert!(input.decode::<Increment>(&key()).is_err());
}

/// As in the guide: absent if the user did not touch the field, empty if the user emptied it.
fn touched<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

#[test]
fn null_field_is_absent_for_every_type() {
    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Draft {
        #[serde(deserialize_with = "touched")]
        name: Option<String>,
        #[serde(deserialize_with = "touched")]
        note: Option<String>,
        flag: bool,
        letter: char,
        list: Vec<u8>,
        pair: (u8, u8),
        map: BTreeMap<String, u8>,
        choice: Choice,
    }
    #[derive(Debug, Default, PartialEq, Deserialize)]
    enum Choice {
        #[default]
        First,
    }
    let given = json!({
        "name": "Lamp", "note": null, "flag": null, "letter": null, "list": null, "pair": null, "map": null,
        "choice": null,
    });
    assert_eq!(body(&given), Ok(Draft { name: Some("Lamp".to_owned()), ..Draft::default() }));
    let emptied = body(&json!({ "name": "", "note": null }));
    assert_eq!(emptied, Ok(Draft { name: Some(String::new()), ..Draft::default() }));
    for missing in [one::<String>(json!(null)).unwrap_err(), one::<bool>(json!(null)).unwrap_err()] {
        assert_eq!(missing, "`a` is missing");
    }
    assert_eq!(one::<Vec<String>>(json!([null])).unwrap_err(), "`a.0` must be text");
}

#[test]
fn many_blank_numbers_take_two_passes() {
    #[derive(Deserialize)]
    struct Row {
        #[serde(default)]
        n: u8,
    }
    let rows = vec![json!({"n": ""}); 5000];
    let rows: Vec<Row> = one(json!(rows)).unwrap();
    assert!(rows.iter().all(|row| row.n == 0));
}

#[test]
fn events_of_every_shape_are_decoded() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Unit;
    #[derive(Debug, PartialEq, Deserialize)]
    struct Empty {}
    #[derive(Debug, PartialEq, Deserialize)]
    struct Wrapped(Increment);
    #[derive(Debug, PartialEq, Deserialize)]
    struct Flat {
        a: String,
        #[serde(flatten)]
        rest: HashMap<String, String>,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Add { n: u8 },
    }
    assert_eq!(query("x=1"), Ok(Unit));
    assert_eq!(query("x=1"), Ok(Empty {}));
    assert_eq!(query("amount=1"), Ok(Wrapped(increment(1, ""))));
    let flat: Flat = query("a=1&b=2").unwrap();
    assert_eq!(flat, Flat { a: "1".to_owned(), rest: HashMap::from([("b".to_owned(), "2".to_owned())]) });
    assert_eq!(body(&json!({"kind": "Add", "n": 1})), Ok(Tagged::Add { n: 1 }));
    assert!(body::<Tagged>(&json!({"kind": "Add", "n": "1"})).is_err(), "tagged enums take exact types only");
    let decoded = Input::default().decode::<Increment>(&key()).unwrap_err();
    assert_eq!(
        decoded,
        InputError { message: "`amount` is missing".to_owned(), field: Some("amount".to_owned()) }
    );
    assert!(body::<u8>(&json!({"a": 1})).is_err());
}

#[test]
fn debug_output_of_input_omits_values() {
    let shown = format!("{:?}", Input::parse(Some("password=hunter2"), None, b"").unwrap());
    assert!(shown.contains("password") && !shown.contains("hunter2"));
}
