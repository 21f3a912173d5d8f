use std::time::Duration;

use serde_json::json;

use super::*;

const REST: &str = "requestCancellation:'disabled',retry:'error',headers:{'Faststate-Event':[...crypto.getRandomValues(new Uint32Array(4))].join('-')";

fn action(input: Value) -> Action {
    Action::new(&Method::POST, "product", "rename", None, Ok(input))
}

fn is_safe(action: &str) -> bool {
    !action.contains(['"', '&', '<', '\n', '\r'])
}

#[test]
fn action_has_the_documented_text() {
    let shown =
        Action::new(&Method::POST, "counter", "increment", None, Ok(json!({"amount": 1}))).to_string();
    let expected = format!(
        "@post('/faststate/counter/increment',{{payload:{{'amount':1}},{REST},'Faststate-Follows':'counter'}}}})"
    );
    assert_eq!(shown, expected);
    let shown = action(Value::Null).with_reply().to_string();
    assert_eq!(shown, format!("@post('/faststate/product/rename',{{payload:{{}},{REST}}}}})"));
}

#[test]
fn untouched_field_is_omitted() {
    let shown =
        action(json!({"name": "x", "price": 1})).bind_if("name", "_draft.name", "_touched.name").to_string();
    let payload = "{payload:{'price':1,'name':$_touched.name?$_draft.name:undefined}";
    assert!(shown.contains(payload), "{shown}");
    for (signal, condition) in [("a b", "c"), ("a", "b;c"), ("", "c")] {
        let refused = action(json!({})).bind_if("name", signal, condition).to_string();
        assert!(refused.starts_with("console.error('"), "{refused}");
    }
}

#[test]
fn ids_are_percent_encoded() {
    let shown = action(json!({})).on("it's a/b?\"&").to_string();
    assert!(shown.starts_with("@post('/faststate/product/it%27s%20a%2Fb%3F%22%26/rename',"), "{shown}");
    assert!(shown.ends_with("'Faststate-Follows':'product:it%27s%20a%2Fb%3F%22%26'}})"), "{shown}");
    for id in ["", ".", ".."] {
        assert!(action(json!({})).on(id).to_string().starts_with("console.error('"), "{id}");
    }
}

#[test]
fn custom_path_and_method_are_used() {
    let own = |method, path| Action::new(&method, "product", "rename", Some(path), Ok(json!({})));
    assert!(own(Method::PUT, "/p/{id}/name").on("a b").to_string().starts_with("@put('/p/a%20b/name',"));
    assert!(own(Method::DELETE, "/x?a=1&b='").to_string().starts_with("@delete('/x?a=1\\u0026b=%27',"));
    assert!(own(Method::PATCH, "/x").to_string().starts_with("@patch('/x',"));
    assert!(own(Method::GET, "/x").to_string().starts_with("@get('/x',"));
    for wrong in [own(Method::POST, "/p/{id}"), own(Method::POST, "/p").on("1"), own(Method::OPTIONS, "/p")] {
        let shown = wrong.to_string();
        assert!(shown.starts_with("console.error('FastState: product.rename cannot be sent: "), "{shown}");
        assert!(is_safe(&shown));
    }
}

#[test]
fn law_12_no_input_becomes_code() {
    let shown = action(json!({
        "text": "'};alert(1)//\"\\\u{2028}\r\n</script>&quot;`${x}`$y@post(",
        "key'": {"\\": [null, true, 1.5, -1, u64::MAX]},
    }))
    .to_string();
    let payload = concat!(
        r"{payload:{'key\u0027':{'\u005c':[null,true,1.5,-1,'18446744073709551615']},",
        r"'text':'\u0027}\u003balert(1)//\u0022\u005c\u2028\u000d\u000a\u003c/script\u003e\u0026quot\u003b",
        r"\u0060\u0024{x}\u0060\u0024y\u0040post('},",
    );
    assert!(shown.contains(payload), "{shown}");
    assert!(is_safe(&shown));
}

#[test]
fn law_12_bound_signal_must_be_a_path() {
    let shown = action(json!({"amount": 1, "user": "a"}))
        .bind("amount", "form._step1.x")
        .bind("extra", "Y")
        .to_string();
    assert!(shown.contains("{payload:{'user':'a','amount':$form._step1.x,'extra':$Y},"), "{shown}");
    for signal in [
        "",
        "$a",
        "1a",
        "a b",
        "a.",
        ".a",
        "a..b",
        "a-b",
        "a)",
        "a,alert(1)",
        "é",
        "a.__proto__",
        "constructor",
        "a\n",
    ] {
        let shown = action(json!({})).bind("amount", signal).to_string();
        assert!(shown.starts_with("console.error('") && is_safe(&shown), "{shown}");
    }
}

#[test]
fn action_that_cannot_be_sent_logs_the_mistake() {
    let failed: Result<Value, _> = serde_json::from_str("'");
    for input in [Ok(json!([1])), Ok(json!("a")), failed, Ok(json!({"a": [{"__proto__": 1}]}))] {
        let shown = Action::new(&Method::POST, "a", "b", None, input).to_string();
        assert!(
            shown.starts_with("console.error('FastState: a.b cannot be sent: ") && is_safe(&shown),
            "{shown}"
        );
    }
}

#[test]
fn save_in_order_waits_for_the_previous_one() {
    let action = action(json!({"name": ""})).on("p1").bind("name", "_name");
    let shown = action.clone().in_order().to_string();
    let sends = format!(")('/faststate/product/p1/rename',()=>{action})");
    assert!(shown.starts_with("((u,f)=>{let m=") && shown.ends_with(&sends), "{shown}");
    assert!(is_safe(&shown));
}

#[test]
fn follow_action_has_the_documented_text() {
    let url = "/faststate/sse?states=counter,product:it%27s,chat.messages&x='";
    let follow = Action::follow(url);
    let (check, follows) = follow.split_once(";(f=>(f(),").unwrap();
    assert!(check.starts_with("((f,d,n)=>f.own||") && check.ends_with(")(fetch,8000,37500)"), "{check}");
    assert_eq!(
        follows,
        "document.addEventListener('visibilitychange',f)))(()=>{el.c?.abort();document.hidden||\
         @get('/faststate/sse?states=counter,product:it%27s,chat.messages\\u0026x=%27',\
         {headers:{Accept:'text/event-stream'},openWhenHidden:true,\
         requestCancellation:el.c=new AbortController(),retry:'always',retryMaxCount:Infinity,retryMaxWait:4000,\
         filterSignals:{include:/(^|\\.)_v$/,exclude:/(?!)/}})})"
    );
    assert!(is_safe(&follow), "{follow}");
}

#[test]
fn silence_limit_is_two_and_a_half_heartbeats() {
    for (heartbeat, silence) in [(Some(20), "50000"), (Some(1), "8000"), (None, "2147483647")] {
        let check = Action::check_answers(heartbeat.map(Duration::from_secs));
        assert!(check.ends_with(&format!(",{silence})")), "{check}");
    }
}
