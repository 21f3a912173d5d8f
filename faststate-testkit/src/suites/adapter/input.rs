//! Invalid input.

use std::net::SocketAddr;

use super::{Failure, count, ensure, notice, page, problem, tool};

/// Invalid input is answered with an error status for a tool and with a patch for a page, and changes nothing.
pub async fn invalid_input_is_reported_and_not_applied(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "invalid input is reported and changes nothing";
    const EVENT: &str = "/faststate/counter/increment";
    let before = count(address).await?;
    let deep = format!("{{\"amount\":1,\"x\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    let deep_objects = format!("{{\"amount\":1,\"x\":{}1{}}}", "{\"a\":".repeat(200), "}".repeat(200));
    let inputs: [(&str, &str, &[u8], u16); 22] = [
        ("depth 200", EVENT, deep.as_bytes(), 400),
        ("depth 200 of objects", EVENT, deep_objects.as_bytes(), 400),
        ("a repeated name", EVENT, br#"{"amount":1,"amount":2}"#, 400),
        ("a repeated name in the query", "/faststate/counter/increment?amount=1&amount=2", b"", 400),
        ("a name in both query and body", "/faststate/counter/increment?amount=1", br#"{"amount":1}"#, 400),
        ("invalid UTF-8", EVENT, b"{\"amount\":1,\"user\":\"\xff\"}", 400),
        ("invalid UTF-8 in the query", "/faststate/counter/increment?amount=1&user=%ff", b"", 400),
        ("invalid UTF-8 in an id", "/faststate/item/%ff/put?part=a&amount=1", b"", 400),
        ("half a surrogate", EVENT, br#"{"amount":1,"user":"\ud800"}"#, 400),
        ("a wrong type", EVENT, br#"{"amount":"many"}"#, 422),
        ("a list for a number", EVENT, br#"{"amount":[1]}"#, 422),
        ("a fraction for an integer", EVENT, br#"{"amount":1.5}"#, 422),
        ("a missing field", EVENT, b"{}", 422),
        ("no body", EVENT, b"", 422),
        ("1e999", EVENT, br#"{"amount":1e999}"#, 400),
        ("__proto__", EVENT, br#"{"amount":1,"__proto__":{"x":1}}"#, 400),
        ("__proto__ in the query", "/faststate/counter/increment?amount=1&__proto__=x", b"", 400),
        ("not JSON", EVENT, b"amount=1", 400),
        ("a list", EVENT, b"[1]", 400),
        ("an unknown event", "/faststate/counter/nothing", b"{}", 404),
        ("an unknown state", "/faststate/nothing/increment", b"{}", 404),
        ("an id for a state without ids", "/faststate/counter/1/increment", br#"{"amount":1}"#, 404),
    ];
    for (what, target, body, status) in inputs {
        problem(tool(address, PROMISE).post(target, body).await?, status, PROMISE, what).await?;
        notice(page(address, PROMISE).post(target, body).await?, PROMISE, what).await?;
        let now = count(address).await?;
        ensure!(now == before, PROMISE, "{what} changed the count from {before} to {now}");
    }
    let halved = tool(address, PROMISE).post(EVENT, br#"{"amount":1,"user":"\ud83d"}"#).await?;
    let problem_of_halved = problem(halved, 400, PROMISE, "half an emoji").await?;
    let message = problem_of_halved["errors"]["user"].as_str().unwrap_or_default();
    let names_field = message.contains("`user`") && !message.contains("line");
    ensure!(names_field, PROMISE, "half an emoji was answered with {problem_of_halved}");
    for content_type in ["text/plain", "multipart/form-data; boundary=x", "application/xml", ""] {
        let mut client = tool(address, PROMISE).with("content-type", content_type);
        let answer = client.send("POST", EVENT, r#"{"amount":1}"#).await?;
        problem(answer, 400, PROMISE, &format!("the content type {content_type:?}")).await?;
    }
    let after = count(address).await?;
    ensure!(after == before, PROMISE, "the content types changed the count from {before} to {after}");
    Ok(())
}
