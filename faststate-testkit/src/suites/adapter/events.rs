//! Checks of an event's input and routes.

use std::net::SocketAddr;

use serde_json::json;

use super::{Failure, count, ensure, item, new_id, page, tool};

/// An event's input is read from the query, JSON, a form or the page's signals.
pub async fn event_input_is_read_from_every_source(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "an event reads its input from query, JSON, form and signals";
    const EVENT: &str = "/faststate/counter/increment";
    const FORM: &str = "application/x-www-form-urlencoded";
    let mut expected = count(address).await?;
    let form = || tool(address, PROMISE).with("content-type", FORM);
    let json = || tool(address, PROMISE).with("content-type", "application/json; charset=utf-8");
    let datastar = || json().datastar();
    for (what, mut client, query, body) in [
        ("the query", tool(address, PROMISE), "?amount=%32", ""),
        ("JSON", json(), "", r#"{"amount":2}"#),
        ("JSON with a string for a number", json(), "", r#"{"amount":"2","user":"é\u0000🦀"}"#),
        ("a form", form(), "", "user=a+b%26c&amount=2"),
        ("query and body", json(), "?user=ann", r#"{"amount":2}"#),
        ("signals", datastar(), "", r#"{"counter":{"count":7,"amount":2},"note":{"text":"x"}}"#),
        ("payload", datastar(), "", r#"{"amount":2}"#),
    ] {
        let mut answer = client.send("POST", &format!("{EVENT}{query}"), body).await?;
        let text = answer.text().await?;
        expected += 2;
        ensure!(answer.status() == 200, PROMISE, "{what} was answered with {}: {text}", answer.status());
        let now = count(address).await?;
        ensure!(now == expected, PROMISE, "{what} left the count at {now}, not {expected}: {text}");
    }

    // `@delete` sends no body, so Datastar puts the signals into the query.
    let id = new_id();
    let named = json!({ "item": { &id: { "name": "" } }, "name": "" }).to_string();
    let signals: String = named.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let mut page = page(address, PROMISE);
    let answer = page.send("DELETE", &format!("/items/{id}?datastar={signals}"), "").await?;
    let text = { answer }.text().await?;
    ensure!(!text.contains("faststate-problem"), PROMISE, "signals in the query were answered with {text}");
    Ok(())
}

/// An event is served at the path and method that it declares, including GET.
pub async fn event_is_served_at_its_declared_path(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "an event is served at its declared path and method";
    let mut tool = tool(address, PROMISE);
    let mut answer = tool.send("DELETE", "/counter", "").await?;
    ensure!(answer.status() == 200, PROMISE, "DELETE /counter was answered with {}", answer.status());
    let state = answer.json().await?;
    ensure!(state == json!({"counter": {"count": 0}}), PROMISE, "DELETE /counter resulted in {state}");

    let mut page = page(address, PROMISE);
    let mut answer = page.get("/visit").await?;
    let text = answer.text().await?;
    ensure!(text.contains("data: elements <b>thanks</b>"), PROMISE, "GET /visit was answered with {text}");
    let now = count(address).await?;
    ensure!(now == 1, PROMISE, "GET /visit left the count at {now}");

    let id = new_id();
    let mut answer = tool.send("PUT", &format!("/items/{id}/name?name=x"), "").await?;
    ensure!(
        answer.status() == 200,
        PROMISE,
        "PUT was answered with {}: {}",
        answer.status(),
        answer.text().await?
    );
    let name = item(address, &id).await?["name"].take();
    ensure!(name == "x", PROMISE, "PUT resulted in {name}");
    Ok(())
}

/// An id in a path is percent-decoded exactly once.
pub async fn path_ids_are_decoded_once(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "an id in a path is percent-decoded once";
    let run = new_id();
    for (raw, id) in [
        ("a%2Fb%20c%25", "a/b c%"),
        ("a%252Fb", "a%2Fb"),
        ("%25%32%35", "%25"),
        ("a+b", "a+b"),
        ("a%2Bb", "a+b"),
        ("%2E%2E", ".."),
        ("%C3%A9%F0%9F%A6%80", "é🦀"),
        ("a%3Fb%23c", "a?b#c"),
        ("a;b=c,d", "a;b=c,d"),
        ("a%5Cb", "a\\b"),
    ] {
        for path in
            [format!("/faststate/item/{run}{raw}/due?on=now"), format!("/items/{run}{raw}/name?name=x")]
        {
            let method = if path.starts_with("/items") { "PUT" } else { "POST" };
            let mut answer = tool(address, PROMISE).send(method, &path, "").await?;
            let text = answer.text().await?;
            ensure!(answer.status() == 200, PROMISE, "{path} was answered with {}: {text}", answer.status());
            let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let key = super::key("item", faststate_core::Scope::Record, Some(&format!("{run}{id}")))?;
            let found = key.signal_path().iter().try_fold(&json, |value, name| value.get(name)).is_some();
            ensure!(found, PROMISE, "{path} did not address the id {run}{id}: {text}");
        }
    }
    Ok(())
}
