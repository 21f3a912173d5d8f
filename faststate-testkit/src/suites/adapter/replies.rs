//! Responses to events.

use std::net::SocketAddr;

use serde_json::json;

use super::{Failure, count, ensure, fixture::INTERNAL, new_id, notice, page, problem, tool};

/// Datastar gets patches in a 200, even for an error; any other client gets a status and JSON.
pub async fn response_form_matches_the_client(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "Datastar gets patches in a 200, other clients a status and JSON";
    const EVENT: &str = "/faststate/counter/increment";
    let mut tool = tool(address, PROMISE);
    let mut answer = tool.send("POST", &format!("{EVENT}?amount=1"), "").await?;
    let headers = |name| answer.header(name).unwrap_or_default().to_owned();
    let (kind, cache, sniff) =
        (headers("content-type"), headers("cache-control"), headers("x-content-type-options"));
    ensure!(
        answer.status() == 200 && kind == "application/json" && cache == "no-store" && sniff == "nosniff",
        PROMISE,
        "an accepted event was answered with {} {kind:?} {cache:?} {sniff:?}",
        answer.status()
    );
    let version = headers("faststate-version");
    ensure!(version.split('-').count() == 3, PROMISE, "the response's version is {version:?}");
    let body = answer.bytes().await?.len();
    let length = answer.header("content-length").map(str::to_owned);
    ensure!(length == Some(body.to_string()), PROMISE, "{body} bytes have the content length {length:?}");

    let (status, before) = (
        problem(tool.post(EVENT, r#"{"amount":101}"#).await?, 422, PROMISE, "a rejection").await?,
        count(address).await?,
    );
    ensure!(status["errors"]["amount"] == "at most <100>", PROMISE, "a rejection was {status}");
    ensure!(status["type"] == "urn:faststate:problem:rejected", PROMISE, "a rejection was {status}");

    let mut page = page(address, PROMISE);
    let shown = notice(page.post(EVENT, r#"{"amount":101}"#).await?, PROMISE, "a page's rejection").await?;
    ensure!(
        shown.contains("at most &#60;100&#62;") && shown.contains(r#""amount":"at most <100>""#),
        PROMISE,
        "a page shows the rejection as {shown}"
    );
    let mut answer = page.clone().with("faststate-follows", "counter").post(EVENT, r#"{"amount":0}"#).await?;
    let cleared = answer.json().await?;
    let fields = json!({"amount": "", "increment__amount": "", "user": "", "increment__user": ""});
    let expected = json!({"_problem": "", "_errors": {"counter": fields}});
    ensure!(cleared == expected, PROMISE, "a page that follows the state was answered with {cleared}");
    let after = count(address).await?;
    ensure!(before == after, PROMISE, "rejections changed the count from {before} to {after}");

    let mut answer = tool.send("HEAD", "/faststate/health", "").await?;
    ensure!(
        answer.status() == 200,
        PROMISE,
        "HEAD of the health endpoint was answered with {}",
        answer.status()
    );
    let body = answer.bytes().await?.len();
    ensure!(body == 0, PROMISE, "HEAD has a body of {body} bytes");
    problem(tool.get("/faststate/nothing").await?, 404, PROMISE, "an unknown path").await?;
    Ok(())
}

/// An internal error is a 500, or a patch in a 200 for Datastar, with an id and no detail of the failure.
pub async fn internal_errors_are_not_exposed(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "an internal error exposes only its id";
    const EVENT: &str = "/faststate/counter/explode";
    let before = count(address).await?;
    let mut answer = tool(address, PROMISE).post(EVENT, "{}").await?;
    let headers: Vec<String> = answer.headers().map(|(name, value)| format!("{name}: {value}")).collect();
    let (headers, text) = (headers.join("\n"), answer.text().await?);
    let leaks = |text: &str| {
        INTERNAL.split(' ').any(|word| word.len() > 4 && text.contains(word))
            || text.contains("panic")
            || text.contains(".rs")
    };
    ensure!(!leaks(&text) && !leaks(&headers), PROMISE, "the response was {headers}\n{text}");
    let problem: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let id = problem["id"].as_str().is_some_and(|id| !id.is_empty());
    ensure!(answer.status() == 500 && id, PROMISE, "it was answered with {}: {text}", answer.status());
    let shown = notice(
        page(address, PROMISE).post(EVENT, "{}").await?,
        "Datastar gets patches in a 200, other clients a status and JSON",
        "an internal error",
    )
    .await?;
    ensure!(!leaks(&shown), PROMISE, "the page shows {shown}");
    let after = count(address).await?;
    ensure!(after == before, PROMISE, "it changed the count from {before} to {after}");
    Ok(())
}

/// A method that a path does not accept is answered with 405 and an `Allow` header, and changes nothing.
pub async fn wrong_method_returns_405_with_allow(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a wrong method is answered with 405 and the right `Allow`";
    let before = count(address).await?;
    for (path, right, wrong) in [
        (
            "/faststate/counter/increment?amount=1",
            "POST",
            ["GET", "HEAD", "PUT", "OPTIONS", "DELETE", "PATCH"],
        ),
        ("/visit", "GET", ["POST", "HEAD", "PUT", "OPTIONS", "DELETE", "PATCH"]),
        ("/counter", "DELETE", ["GET", "HEAD", "PUT", "OPTIONS", "POST", "PATCH"]),
        ("/faststate/sse?states=counter", "GET", ["POST", "HEAD", "PUT", "OPTIONS", "DELETE", "PATCH"]),
    ] {
        for method in wrong {
            let answer = tool(address, PROMISE).send(method, path, "").await?;
            let allow = answer.header("allow").unwrap_or_default();
            let status = answer.status();
            ensure!(
                status == 405 && allow == right,
                PROMISE,
                "{method} {path} was answered with {status}, `Allow: {allow}`"
            );
        }
    }
    let after = count(address).await?;
    ensure!(after == before, PROMISE, "they changed the count from {before} to {after}");
    Ok(())
}

/// An event with an id (`Faststate-Event`) is applied once, no matter how often it is sent (law 3).
pub async fn repeated_event_is_applied_once(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "an event sent again with its id is applied once (law 3)";
    let before = count(address).await?;
    let mut client = tool(address, PROMISE).with("faststate-event", new_id());
    for _ in 0..3 {
        let mut answer = client.post("/faststate/counter/increment", r#"{"amount":5}"#).await?;
        let state = answer.json().await?;
        ensure!(
            state["counter"]["count"] == before + 5,
            PROMISE,
            "it was answered with {state} although the count was {before}"
        );
    }
    for id in ["", "a b", &"x".repeat(65)] {
        let answer = tool(address, PROMISE).with("faststate-event", id);
        let answer = { answer }.post("/faststate/counter/increment", r#"{"amount":5}"#).await?;
        problem(answer, 400, PROMISE, &format!("the id {id:?}")).await?;
    }
    let after = count(address).await?;
    ensure!(after == before + 5, PROMISE, "they changed the count from {before} to {after}");
    Ok(())
}

/// Each piece of a streamed reply arrives while the handler is still running.
pub async fn streamed_reply_arrives_incrementally(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a streamed reply arrives while it is written";
    let id = new_id();
    let mut watching = page(address, PROMISE).post(&format!("/faststate/item/{id}/watch"), "{}").await?;
    let kind = watching.header("content-type").unwrap_or_default();
    ensure!(watching.status() == 200 && kind == "text/event-stream", PROMISE, "its content type is {kind:?}");
    let mut text = String::new();
    for name in ["", "one", "two", "done"] {
        if !name.is_empty() {
            tool(address, PROMISE).send("PUT", &format!("/items/{id}/name?name={name}"), "").await?;
        }
        let seen = format!("{{\"seen\":\"{name}\"}}");
        while !text.contains(&seen) {
            let Some(piece) = watching.piece().await? else {
                return Err(Failure::new(
                    super::streams::END,
                    format!("the reply ended before {name:?}: {text}"),
                ));
            };
            text.push_str(&String::from_utf8_lossy(&piece));
        }
    }
    let rest = watching.text().await?;
    ensure!(rest.is_empty(), PROMISE, "it continued with {rest}");
    Ok(())
}
