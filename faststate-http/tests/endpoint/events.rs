//! Events over HTTP: the responses to Datastar and to other clients.

use std::{sync::Arc, time::Duration};

use faststate_http::endpoint::{Endpoint, Secret};
use faststate_testkit::suites::fixture;
use http::Method;
use serde_json::json;

use super::app::{Client, Note, count, last_signals, registry, start};

#[tokio::test]
async fn curl_receives_the_view_as_json() {
    let (registry, mut curl) = start();
    let answer = curl.send(Method::POST, "/faststate/counter/increment?amount=2", "").await;
    assert_eq!((answer.status(), answer.header("content-type")), (200, "application/json"));
    assert!(answer.header("set-cookie").starts_with("faststate="));
    assert_eq!(answer.header("faststate-version").split('-').count(), 3);
    assert_eq!(answer.json().await, json!({"counter": {"count": 2}}));
    assert_eq!(count(&registry).await, 2);
}

#[tokio::test]
async fn reply_has_no_view_when_the_client_follows_it() {
    let (_, client) = start();
    let mut following = client.clone().datastar().with("faststate-follows", "counter");
    let answer = following.increment(1).await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(
        answer.json().await,
        json!({"_problem": "", "_errors": {"counter": {
            "amount": "", "increment__amount": "", "user": "", "increment__user": "",
        }}})
    );
    for topics in ["note", "counter.shown", "counter:1", ""] {
        let mut other = client.clone().datastar().with("faststate-follows", topics);
        let text = other.increment(1).await.text().await;
        assert!(text.contains("{\"counter\":{\"count\":"), "{topics}: {text}");
        assert!(!text.contains("_v"), "a reply carries no cursor: {text}");
    }
}

#[tokio::test]
async fn event_with_own_path_replies_with_elements() {
    let (registry, client) = start();
    let mut page = client.datastar().with("faststate-follows", "counter");
    let answer = page.get("/visit").await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    assert_eq!(answer.header("cache-control"), "no-cache, no-transform");
    let text = answer.text().await;
    assert!(text.contains("data: elements <b>thanks</b>"), "{text}");
    assert_eq!(last_signals(&text), json!({"_problem": ""}));
    assert_eq!(count(&registry).await, 1);
}

#[tokio::test]
async fn streamed_reply_is_sse_for_every_client() {
    for client in [start().1, start().1.datastar()] {
        let answer = client.clone().post("/faststate/counter/tick", "{}").await;
        assert_eq!(answer.header("content-type"), "text/event-stream");
        let text = answer.text().await;
        assert!((1..=3).all(|tick| text.contains(&format!("{{\"tick\":{tick}}}"))), "{text}");
    }
}

#[tokio::test]
async fn refusal_for_one_record_keeps_messages_of_another() {
    let (_, client) = start();
    let mut keeper = client.datastar().with("x-user", "ada");
    for id in ["a", "b"] {
        let text =
            keeper.post(&format!("/faststate/vault/{id}/deposit"), r#"{"gold":"much"}"#).await.text().await;
        let removed = json!({"_errors": {"vault": {id: ""}}});
        assert!(
            text.contains(&format!("data: signals {removed}\n")),
            "only its own messages are cleared: {text}"
        );
        let messages = &last_signals(&text)["_errors"]["vault"];
        assert_eq!(messages[id]["gold"], messages[id]["deposit__gold"], "{text}");
        assert_eq!(messages.as_object().unwrap().len(), 1, "{text}");
    }
    let mut following = keeper.with("faststate-follows", "vault:b");
    let cleared = following.post("/faststate/vault/b/deposit", r#"{"gold":1}"#).await.json().await;
    let fields = json!({"gold": "", "deposit__gold": ""});
    assert_eq!(cleared, json!({"_problem": "", "_errors": {"vault": {"b": fields}}}));
}

#[tokio::test]
async fn rejection_shows_a_notice_and_field_messages() {
    let (registry, client) = start();
    let answer = client.clone().datastar().increment(101).await;
    assert_eq!((answer.status(), answer.header("content-type")), (200, "text/event-stream"));
    let text = answer.text().await;
    assert!(
        text.contains("data: signals {\"_errors\":{\"counter\":\"\"}}"),
        "old messages are cleared first: {text}"
    );
    let signals = last_signals(&text);
    assert_eq!(
        signals["_errors"]["counter"],
        json!({"amount": "at most <100>", "increment__amount": "at most <100>"})
    );
    let token = signals["_problem"].as_str().unwrap();
    assert!(text.contains(&format!("data-effect=\"$_problem==='{token}'||el.remove()\"")), "{text}");
    assert!(text.contains("role=\"alert\"") && text.contains("at most &#60;100&#62;"), "{text}");

    let (status, problem) = client.clone().increment(101).await.problem().await;
    assert_eq!((status, &problem["errors"]), (422, &json!({"amount": "at most <100>"})));
    assert_eq!(problem["type"], "urn:faststate:problem:rejected");
    assert_eq!(count(&registry).await, 0);
}

#[tokio::test]
async fn law_03_repeated_event_id_is_applied_once() {
    let (registry, client) = start();
    let mut client = client.with("faststate-event", "once").with("sec-fetch-site", "same-origin");
    for _ in 0..3 {
        assert_eq!(client.increment(5).await.json().await, json!({"counter": {"count": 5}}));
    }
    assert_eq!(count(&registry).await, 5);
}

#[tokio::test]
async fn law_07_panic_returns_an_id_and_changes_nothing() {
    let (registry, client) = start();
    let mut client = client.with("sec-fetch-site", "same-origin");
    let (status, problem) = client.increment(13).await.problem().await;
    assert_eq!(status, 500);
    assert!(problem["id"].is_string() && !problem.to_string().contains("thirteen"), "{problem}");
    assert_eq!(client.increment(1).await.status(), 200);
    assert_eq!(count(&registry).await, 1);
}

/// Bad input leaves the state unchanged. A tool gets a status, a page gets a patch.
#[tokio::test]
async fn bad_input_is_refused_and_changes_nothing() {
    let (registry, client) = start();
    let event = "/faststate/counter/increment";
    let deep = format!("{{\"amount\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    let long = format!("{{\"amount\":1,\"user\":\"{}\"}}", "x".repeat(64 * 1024));
    let bodies: [(&str, &str, Vec<u8>, u16); 12] = [
        ("depth 200", event, deep.into(), 400),
        ("64 KiB and more", event, long.into(), 413),
        ("a name twice", event, b"{\"amount\":1,\"amount\":2}".to_vec(), 400),
        ("invalid UTF-8", event, b"{\"amount\":1,\"user\":\"\xff\"}".to_vec(), 400),
        ("a wrong type", event, b"{\"amount\":\"many\"}".to_vec(), 422),
        ("a missing field", event, b"{}".to_vec(), 422),
        ("1e999", event, b"{\"amount\":1e999}".to_vec(), 400),
        ("__proto__", event, b"{\"amount\":1,\"__proto__\":{\"x\":1}}".to_vec(), 400),
        ("not JSON", event, b"amount=1".to_vec(), 400),
        ("an unknown event", "/faststate/counter/explode", b"{}".to_vec(), 404),
        ("an unknown state", "/faststate/nothing/increment", b"{}".to_vec(), 404),
        ("an id where there is none", "/faststate/counter/1/increment", b"{\"amount\":1}".to_vec(), 404),
    ];
    for (what, path, body, status) in bodies {
        let (answered, problem) = client.clone().post(path, body.clone()).await.problem().await;
        assert_eq!(answered, status, "{what}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 5), "{what}: {problem}");
        let answer = client.clone().datastar().post(path, body).await;
        assert_eq!(answer.status(), 200, "{what}");
        assert!(answer.text().await.contains("id=\"faststate-problem\""), "{what}");
    }
    for (uri, status) in [
        ("/faststate/counter/increment?amount=1&amount=2", 400),
        ("/faststate/counter/increment?amount=%ff", 400),
        ("/faststate/vault/%ff/deposit?gold=1", 400),
    ] {
        assert_eq!(client.clone().send(Method::POST, uri, "").await.status(), status, "{uri}");
    }
    assert_eq!(count(&registry).await, 0);
}

#[tokio::test]
async fn body_of_exactly_64_kib_is_accepted() {
    let (_, mut client) = start();
    let rest = "{\"amount\":1,\"user\":\"\"}".len();
    let body = format!("{{\"amount\":1,\"user\":\"{}\"}}", "x".repeat(64 * 1024 - rest));
    assert_eq!(client.post("/faststate/counter/increment", body).await.status(), 200);
}

#[tokio::test]
async fn wrong_method_is_answered_with_the_allowed_one() {
    let (registry, client) = start();
    for method in [Method::GET, Method::HEAD, Method::PUT, Method::OPTIONS] {
        let answer = client.clone().send(method, "/faststate/counter/increment?amount=1", "").await;
        assert_eq!((answer.status(), answer.header("allow")), (405, "POST"));
    }
    let answer = client.clone().send(Method::POST, "/visit", "").await;
    assert_eq!((answer.status(), answer.header("allow")), (405, "GET"));
    assert_eq!(count(&registry).await, 0);
}

#[tokio::test]
async fn event_id_is_refused_when_long_or_invisible() {
    let (registry, client) = start();
    for id in ["", "a b", &"x".repeat(65)] {
        assert_eq!(client.clone().with("faststate-event", id).increment(1).await.status(), 400, "{id}");
    }
    assert_eq!(count(&registry).await, 0);
}

#[tokio::test]
async fn law_08_cross_site_requests_change_nothing() {
    let (registry, mut client) = start();
    client.increment(0).await;
    let attempts: [(&str, &[(&'static str, &str)]); 6] = [
        ("cross-site", &[("sec-fetch-site", "cross-site")]),
        ("same-site", &[("sec-fetch-site", "same-site")]),
        ("Origin: null", &[("origin", "null")]),
        ("another origin", &[("origin", "http://evil.example")]),
        ("neither header", &[]),
        ("cross-site, pretending", &[("sec-fetch-site", "cross-site"), ("datastar-request", "true")]),
    ];
    for (what, headers) in attempts {
        let attacked =
            headers.iter().fold(client.clone(), |client, (name, value)| Client::with(client, name, *value));
        let answer = attacked.clone().increment(1).await;
        assert_eq!(answer.header("set-cookie"), "", "{what}");
        assert_eq!(answer.status(), if headers.len() == 2 { 200 } else { 403 }, "{what}");
        let visit = attacked.clone().get("/visit").await;
        assert_eq!(visit.status(), if headers.len() == 2 { 200 } else { 403 }, "{what}");
        assert_eq!(count(&registry).await, 0, "{what}");
    }
    let mut cookieless = start().1.with("sec-fetch-site", "cross-site");
    let answer = cookieless.increment(1).await;
    assert_eq!((answer.status(), answer.header("set-cookie")), (403, ""), "browsers omit Lax cookies");
    assert_eq!(client.datastar().increment(1).await.status(), 200);
    assert_eq!(count(&registry).await, 1);
}

#[tokio::test]
async fn law_08_invalid_cookie_is_replaced_and_retry_works() {
    let (registry, client) = start();
    for cookie in ["faststate=garbage", "faststate="] {
        let mut client = client.clone().datastar();
        client.cookie = Some(cookie.to_owned());
        let answer = client.increment(1).await;
        assert!(answer.header("set-cookie").starts_with("faststate="), "{cookie}");
        assert!(answer.text().await.contains("your session was not valid"), "{cookie}");
    }
    assert_eq!(count(&registry).await, 0);
    let mut client = client.with("sec-fetch-site", "same-origin");
    client.cookie = Some("faststate=garbage".to_owned());
    let (status, _) = client.increment(1).await.problem().await;
    assert_eq!(status, 403);
    assert_eq!(client.increment(1).await.status(), 200, "with the cookie that the refusal set");
    assert_eq!(count(&registry).await, 1);
}

#[tokio::test]
async fn law_08_sessions_are_isolated() {
    let (_, client) = start();
    let (mut ann, mut bob) = (client.clone().datastar(), client.datastar());
    let text = ann.post("/faststate/note/write", "{\"text\":\"ann's\"}").await.text().await;
    assert!(text.contains("ann's"));
    let text = bob.post("/faststate/note/write", "{\"text\":\"bob's\"}").await.text().await;
    assert!(text.contains("bob's"));
    assert_ne!(ann.cookie, bob.cookie);
    let text = ann.get("/faststate/sse?states=note").await.until("_v").await;
    assert!(text.contains("ann's") && !text.contains("bob's"), "{text}");
}

#[tokio::test]
async fn law_08_forbidden_and_unknown_responses_are_equal() {
    let (_, client) = start();
    let mut answers = Vec::new();
    for path in ["/faststate/vault/v1/deposit", "/faststate/vault/none/deposit"] {
        answers.push(client.clone().post(path, "{\"gold\":1}").await.problem().await);
    }
    let mut keeper = client.clone().with("x-user", "ann");
    answers.push(keeper.post("/faststate/vault/none/deposit", "{\"gold\":1}").await.problem().await);
    assert_eq!(answers[0].0, 404);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let mut keeper = client.clone().with("x-user", "ann");
    let answer = keeper.post("/faststate/vault/v1/deposit", "{\"gold\":1}").await;
    assert_eq!(answer.json().await, json!({"vault": {"v1": {"gold": 1}}}));
}

#[tokio::test]
async fn own_paths_are_the_patterns_outside_the_prefix() {
    let endpoint = fixture::endpoint(fixture::registry().unwrap());
    assert_eq!(endpoint.own_paths(), ["/counter", "/items/{id}", "/items/{id}/name", "/visit"]);
    for path in endpoint.own_paths() {
        assert!(endpoint.handles(&path.replace("{id}", "any")), "{path}");
    }
}

#[tokio::test]
async fn law_03_event_id_is_bound_to_its_session() {
    let (registry, client) = start();
    let mut clients = [client.clone().datastar(), client.datastar()];
    for client in &mut clients {
        client.increment(0).await;
        *client = client.clone().with("faststate-event", "same");
    }
    for _ in 0..2 {
        for client in &mut clients {
            assert_eq!(client.increment(5).await.status(), 200);
        }
    }
    assert_eq!(count(&registry).await, 10, "each is applied once");
}

#[tokio::test]
async fn due_cookie_is_renewed_by_every_response() {
    let secret = Secret::random();
    let registry = registry();
    let made = |age| Endpoint::new(Arc::clone(&registry) as _).secret(secret.clone()).cookie_max_age(age);
    let mut client = Client::of(made(Duration::from_hours(8760))).datastar();
    assert_ne!(client.increment(1).await.header("set-cookie"), "");
    assert_eq!(client.increment(1).await.header("set-cookie"), "", "it is fresh");
    let cookie = client.cookie.clone().unwrap();
    client.post("/faststate/note/write", "{\"text\":\"mine\"}").await;

    let mut later = client.clone();
    later.endpoint = made(Duration::from_secs(2));
    for uri in ["/faststate/counter/increment?amount=1", "/faststate/sse?states=note"] {
        later.cookie = Some(cookie.clone());
        let method = if uri.contains("sse") { Method::GET } else { Method::POST };
        let answer = later.send(method, uri, "").await;
        let set = answer.header("set-cookie").to_owned();
        assert!(set.contains("; Max-Age=2;"), "{uri}: {set}");
        let mut parts = http::Request::new(()).into_parts().0;
        parts.headers.insert("cookie", cookie.parse().unwrap());
        let page = later.endpoint.page(&parts).await.unwrap();
        assert!(page.set_cookie().is_some());
        assert_eq!(page.follow::<Note>().await.unwrap().text, "mine", "it is the same session");
    }
}
