//! Any text in an attribute reaches the server unchanged (law 12).

use faststate::{Action, Context, Event, ReactiveState, Rejection, internal};
use faststate_tests::{Answer, Random, Session, Site};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::site;

const TEXTS: usize = 400;

/// The escaping of a template.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

/// The three ways in which a template may put a value into an attribute.
fn attributes(name: &str, value: &str) -> [String; 3] {
    [
        format!("{name}=\"{value}\""),
        format!("{name}=\"{}\"", escaped(value)),
        format!("{name}='{}'", escaped(value)),
    ]
}

#[test]
fn law_12_texts_in_signals_come_back_as_they_went_in() {
    let texts = Random::new(1).texts(TEXTS);
    let keys: Map<String, Value> = Random::new(2)
        .texts(TEXTS)
        .into_iter()
        .filter(|key| !key.contains("__proto__"))
        .map(|key| (key, json!(1)))
        .collect();
    let value = json!({ "state": { "texts": texts, "keys": keys, "nested": [[{ "a": texts[0] }], [], {}] } });
    for attribute in attributes("data-signals", &internal::attribute(&value)) {
        let site = site(&format!("<body {attribute}>"));
        let page = Session::new().open(&site.url());
        let seen = page.signals();
        for (at, text) in texts.iter().enumerate() {
            assert_eq!(seen["state"]["texts"][at], **text, "{at}");
        }
        assert_eq!(seen["state"]["keys"], value["state"]["keys"]);
        assert_eq!(seen, value);
    }
}

#[test]
fn numbers_and_what_is_not_there_come_back_by_the_wires_rules() {
    let value = json!({ "state": {
        "small": -7, "float": 1.5e-7, "exact": 9_007_199_254_740_991_i64, "large": u64::MAX, "least": i64::MIN, "none": null, "yes": true,
    }});
    let expected = json!({ "state": {
        "small": -7, "float": 1.5e-7, "exact": 9_007_199_254_740_991_i64, "large": "18446744073709551615",
        "least": "-9223372036854775808", "none": "", "yes": true,
    }});
    let attribute = internal::attribute(&value);
    let site = site(&format!("<body data-signals=\"{attribute}\">"));
    assert_eq!(Session::new().open(&site.url()).signals(), expected);
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Diary {}

impl ReactiveState for Diary {
    const NAME: &'static str = "diary";
}

#[derive(Serialize, Deserialize)]
struct Write {
    text: String,
    more: Vec<String>,
}

impl Event for Write {
    type State = Diary;
    const NAME: &'static str = "write";

    fn apply(&self, _: &mut Diary, _: &mut Context<Diary>) -> Result<(), Rejection> {
        Ok(())
    }
}

fn body(json: &str) -> Value {
    serde_json::from_str(json).expect("an action's body is JSON")
}

#[test]
fn law_12_texts_in_actions_arrive_as_they_went_in() {
    let texts = Random::new(3).texts(TEXTS);
    // One form per text; each click sends all of them in one spelling.
    let actions = |way: usize| -> String {
        let action =
            |text: &String| Write { text: text.clone(), more: vec![text.clone()] }.action().to_string();
        texts
            .iter()
            .map(|text| format!("<b {}></b>", attributes("data-on:send", &action(text))[way]))
            .collect()
    };
    for way in 0..3 {
        let done = Answer::Whole(204, "", String::new());
        let site = site(&format!("<body>{}", actions(way))).on("/faststate/diary/write", [done]);
        let page = Session::new().open(&site.url());
        page.eval(
            "for (const element of document.querySelectorAll('b')) element.dispatchEvent(new Event('send'))",
        );
        let requests = site.requested("/faststate/diary/write", texts.len());
        let mut seen: Vec<Value> = requests.iter().map(|request| body(&request.body)).collect();
        let mut sent: Vec<Value> = texts.iter().map(|text| json!({ "text": text, "more": [text] })).collect();
        seen.sort_by_key(Value::to_string);
        sent.sort_by_key(Value::to_string);
        assert_eq!(seen, sent, "way {way}");
    }
}

#[test]
fn law_12_texts_in_bound_fields_arrive_as_they_were_typed() {
    let texts = Random::new(4).texts(60);
    let action = Write { text: String::new(), more: vec![] }.action().bind("text", "draft.text");
    let body_of_page = format!(
        r#"<body data-signals="{{draft: {{text: ''}}}}"><textarea data-bind="draft.text"></textarea><button data-on:click="{action}">Go</button>"#
    );
    let done = Answer::Whole(204, "", String::new());
    let site: Site = site(&body_of_page).on("/faststate/diary/write", [done]);
    let page = Session::new().open(&site.url());
    for (at, text) in texts.iter().enumerate() {
        page.eval(&format!(
            "(area => {{ area.value = {}; area.dispatchEvent(new Event('input')); document.querySelector('button').click() }})
            (document.querySelector('textarea'))",
            json!(text)
        ));
        let requests = site.requested("/faststate/diary/write", at + 1);
        // A text area normalizes line ends to line feeds.
        let typed = text.replace("\r\n", "\n").replace('\r', "\n");
        assert_eq!(body(&requests[at].body)["text"], typed, "{text:?}");
    }
}

#[test]
fn the_follow_action_means_the_same_in_every_attribute() {
    let action = Action::follow("/stream?states=counter,product:a%27b%26c");
    for attribute in attributes("data-init", &action) {
        let site = site(&format!("<body {attribute}>")).on("/stream", [Answer::Stream("")]);
        let _page = Session::new().open(&site.url());
        let request = &site.requested("/stream", 1)[0];
        assert!(request.query.contains("product%3Aa%27b%26c"), "{}", request.query);
    }
}
