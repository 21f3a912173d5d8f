//! Sessions, cookies and identities.

use std::net::SocketAddr;

use faststate_http::endpoint::Secret;
use http::{HeaderMap, Request, header};
use serde_json::{Value, json};

use super::{
    Failure, RawClient, count, ensure, fixture, followed_stream::FollowedStream, no_streams_are_open, notice,
    page, problem, tool,
};

const WRITE: &str = "/faststate/note/write";

/// A cookie identifies one session. It is set once, with `HttpOnly` and `SameSite=Lax`.
pub async fn cookie_identifies_one_session(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a cookie identifies one session";
    let (mut ann, mut bob) = (page(address, PROMISE), page(address, PROMISE));
    let answer = ann.post(WRITE, r#"{"text":"ann's"}"#).await?;
    let set: Vec<&str> = answer.headers().filter(|(name, _)| *name == "set-cookie").map(|(_, v)| v).collect();
    let [set] = &*set else { return Err(Failure::new(PROMISE, format!("the first response sets {set:?}"))) };
    for attribute in ["; Path=/", "; HttpOnly", "; SameSite=Lax"] {
        ensure!(set.contains(attribute), PROMISE, "it is set as {set:?}");
    }
    ensure!(!set.contains("Secure"), PROMISE, "over cleartext it is set as {set:?}");
    drop(answer);

    bob.post(WRITE, r#"{"text":"bob's"}"#).await?;
    ensure!(ann.cookie() != bob.cookie(), PROMISE, "two sessions have the cookie {:?}", ann.cookie());
    for (client, whose) in [(&mut ann, "ann's"), (&mut bob, "bob's")] {
        let mut stream = FollowedStream::open(client, "/faststate/sse?states=note").await?;
        ensure!(stream.answer.header("set-cookie").is_none(), PROMISE, "the cookie is set again");
        stream.until(|page| page.signals().contains_key("note")).await?;
        let text = stream.page.signals()["note"]["text"].clone();
        ensure!(text == whose, PROMISE, "the session of {whose:?} follows {text}");
    }

    // The cookie is found among others, in any order.
    let cookie = ann.cookie().unwrap_or_default().to_owned();
    for cookies in
        [format!("theme=dark; {cookie}"), format!("{cookie}; theme=dark"), format!("a=b;{cookie};c")]
    {
        let mut ann = RawClient::new(address, PROMISE).datastar().with_cookie(&*cookies);
        let mut answer = ann.post(WRITE, r#"{"text":"again"}"#).await?;
        let text = answer.text().await?;
        ensure!(
            answer.header("set-cookie").is_none() && text.contains("again"),
            PROMISE,
            "{cookies:?} was answered with {text}"
        );
    }

    // A stream can be the first request of a session.
    let mut eve = page(address, PROMISE);
    let mut stream = FollowedStream::open(&mut eve, "/faststate/sse?states=note").await?;
    ensure!(eve.cookie().is_some(), PROMISE, "a stream sets no cookie");
    eve.post(WRITE, r#"{"text":"eve's"}"#).await?;
    stream.until(|page| page.signals().get("note").is_some_and(|note| note["text"] == "eve's")).await?;
    drop(stream);
    no_streams_are_open(address).await
}

/// A cookie that was modified, or signed with another secret or for another cookie name, is replaced. Its request changes
/// nothing, and the next request works.
pub async fn invalid_cookie_is_replaced(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "an invalid cookie is replaced, and its request changes nothing";
    let mut ann = page(address, PROMISE);
    ann.post(WRITE, r#"{"text":"ann's"}"#).await?;
    let Some((name, value)) = ann.cookie().and_then(|cookie| cookie.split_once('=')) else {
        return Err(Failure::new(PROMISE, "no cookie was set"));
    };
    let mut tampered = value.to_owned();
    tampered.replace_range(4..5, if value[4..].starts_with('A') { "B" } else { "A" });
    let (foreign, swapped) = (cookie_of_another_secret().await?, cookie_of_another_name().await?);
    let long = value.repeat(50);
    for (what, value) in [
        ("modified", &*tampered),
        ("truncated", &value[..value.len() - 2]),
        ("extended", &format!("{value}AA")),
        ("signed with another secret", &foreign),
        ("signed for another name", &swapped),
        ("an unsigned session id", "0123456789abcdef0123456789abcdef"),
        ("empty", ""),
        ("long", &long),
    ] {
        let with =
            || RawClient::new(address, PROMISE).with_cookie(format!("{name}={value}")).keeping_cookies();
        let mut datastar = with().datastar();
        let answer = datastar.post(WRITE, r#"{"text":"eve's"}"#).await?;
        ensure!(answer.header("set-cookie").is_some(), PROMISE, "a cookie that is {what} is not replaced");
        notice(answer, PROMISE, &format!("a cookie that is {what}")).await?;
        let mut other = with().with("sec-fetch-site", "same-origin");
        let answer = other.post(WRITE, r#"{"text":"eve's"}"#).await?;
        problem(answer, 403, PROMISE, &format!("a cookie that is {what}")).await?;

        // A stream with it starts a new session.
        let mut stream = FollowedStream::open(&mut with().datastar(), "/faststate/sse?states=note").await?;
        ensure!(
            stream.answer.header("set-cookie").is_some(),
            PROMISE,
            "a cookie that is {what} is not replaced"
        );
        stream.until(|page| page.signals().contains_key("note")).await?;
        let text = stream.page.signals()["note"]["text"].clone();
        ensure!(text == "", PROMISE, "a cookie that is {what} shows {text}");
        drop(stream);

        let mut answer = datastar.post(WRITE, r#"{"text":"mine"}"#).await?;
        let text = answer.text().await?;
        ensure!(text.contains(r#""text":"mine""#), PROMISE, "after a cookie that is {what}: {text}");
    }
    no_streams_are_open(address).await?;
    let mut stream = FollowedStream::open(&mut ann, "/faststate/sse?states=note").await?;
    stream.until(|page| page.signals().contains_key("note")).await?;
    let text = stream.page.signals()["note"]["text"].clone();
    ensure!(text == "ann's", PROMISE, "the original session has {text}");
    drop(stream);
    no_streams_are_open(address).await
}

/// A request with the valid cookies of two sessions is refused, and the cookies are removed, in either order. Another
/// host of the domain may have set one of them.
pub async fn two_session_cookies_are_refused(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str =
        "a request with two valid session cookies is refused, and the cookies are removed (law 8)";
    let (mut ann, mut eve) = (page(address, PROMISE), page(address, PROMISE));
    ann.post(WRITE, r#"{"text":"ann's"}"#).await?;
    eve.post(WRITE, r#"{"text":"eve's"}"#).await?;
    let (own, tossed) = (ann.cookie().unwrap_or_default(), eve.cookie().unwrap_or_default());
    for both in [format!("{tossed}; {own}"), format!("{own}; {tossed}")] {
        let with = || RawClient::new(address, PROMISE).with_cookie(&*both).keeping_cookies();
        let mut client = with().with("sec-fetch-site", "same-origin");
        let answer = client.post(WRITE, r#"{"text":"whose?"}"#).await?;
        let set = answer.headers().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
        let set: Vec<String> = set.map(|(_, value)| value.to_owned()).collect();
        problem(answer, 403, PROMISE, "an event").await?;
        let removes = set.iter().any(|set| set.contains("Path=/faststate;") && set.contains("Max-Age=0"));
        ensure!(removes, PROMISE, "an event sets {set:?}");
        let mut stream = FollowedStream::open(&mut with().datastar(), "/faststate/sse?states=note").await?;
        stream.until(|page| page.signals().contains_key("note")).await?;
        let text = stream.page.signals()["note"]["text"].clone();
        ensure!(text == "", PROMISE, "a stream shows {text}");
        drop(stream);
        let answer = client.post(WRITE, r#"{"text":"mine"}"#).await?.json().await?;
        ensure!(
            answer["note"]["text"] == "mine",
            PROMISE,
            "the new session's event was answered with {answer}"
        );
    }
    // The same cookie twice is one session.
    let twice = format!("{own}; {own}");
    let mut client =
        RawClient::new(address, PROMISE).with_cookie(twice).with("sec-fetch-site", "same-origin");
    let answer = client.post(WRITE, r#"{"text":"again"}"#).await?.json().await?;
    ensure!(answer["note"]["text"] == "again", PROMISE, "the same cookie twice was answered with {answer}");
    no_streams_are_open(address).await
}

/// An event id is scoped to the session that sent it: another session can use the same id for another event.
pub async fn event_ids_are_scoped_to_their_session(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "an event id of another session does not suppress an event (law 3)";
    let before = count(address).await?;
    let id = super::new_id();
    let mut clients = [page(address, PROMISE), page(address, PROMISE)];
    for client in &mut clients {
        client.post(WRITE, r#"{"text":"a session starts"}"#).await?;
    }
    for _ in 0..2 {
        for client in &mut clients {
            let mut named = client.clone().with("faststate-event", &*id);
            named.post("/faststate/counter/increment", r#"{"amount":3}"#).await?;
        }
    }
    let after = count(address).await?;
    ensure!(
        after == before + 6,
        PROMISE,
        "two sessions' events of 3, each sent twice, changed the count from {before} to {after}"
    );
    Ok(())
}

async fn cookie_of_another_secret() -> Result<String, Failure> {
    cookie(|endpoint| endpoint.secret(Secret::random())).await
}

async fn cookie_of_another_name() -> Result<String, Failure> {
    cookie(|endpoint| endpoint.cookie_name("other")).await
}

/// Returns the value of the cookie that a modified fixture sets.
async fn cookie(
    change: impl FnOnce(faststate_http::endpoint::Endpoint) -> faststate_http::endpoint::Endpoint + Send,
) -> Result<String, Failure> {
    const PROMISE: &str = "the fixture can be built";
    let registry = fixture::registry().map_err(|error| Failure::error(PROMISE, &error))?;
    let endpoint = change(fixture::endpoint(registry));
    let (parts, ()) = Request::new(()).into_parts();
    let visitor = endpoint.visitor(&parts).await.map_err(|error| Failure::error(PROMISE, &error))?;
    let mut headers = HeaderMap::new();
    visitor.mark(&mut headers);
    let set = headers.get(header::SET_COOKIE).and_then(|set| set.to_str().ok()).unwrap_or_default();
    let value = set.split(';').next().and_then(|cookie| cookie.split_once('=')).map(|(_, value)| value);
    Ok(value.unwrap_or_default().to_owned())
}

/// User and roles come from the identity closure, and a forbidden target gets the same response as an unknown one.
pub async fn identity_determines_access(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str =
        "access follows the identity, and unknown and forbidden targets get the same response (law 8)";
    let keeper = || tool(address, PROMISE).with("x-user", "ann").with("x-roles", "cook,keeper");
    let vault = super::new_id();
    let deposit = |id: &str| format!("/faststate/vault/{id}/deposit");
    let mut answers: Vec<Value> = Vec::new();
    for (mut client, id) in [
        (tool(address, PROMISE), &*vault),
        (tool(address, PROMISE), "none"),
        (tool(address, PROMISE).with("x-user", "ann").with("x-roles", "cook"), &*vault),
        (keeper(), "none"),
    ] {
        let answer = client.post(&deposit(id), r#"{"gold":1}"#).await?;
        answers.push(problem(answer, 404, PROMISE, &format!("a deposit to {id:?}")).await?);
    }
    ensure!(answers.iter().all(|answer| *answer == answers[0]), PROMISE, "the answers were {answers:?}");
    let state = keeper().post(&deposit(&vault), r#"{"gold":1}"#).await?.json().await?;
    let gold = state["vault"].as_object().and_then(|vaults| vaults.values().next()).cloned();
    ensure!(gold == Some(json!({"gold": 1})), PROMISE, "a keeper's deposit resulted in {state}");

    let call = "/faststate/profile/call";
    problem(
        tool(address, PROMISE).post(call, r#"{"name":"x"}"#).await?,
        401,
        PROMISE,
        "a call without a user",
    )
    .await?;
    for (user, name) in [("ann", "Ann"), ("bob", "Bob")] {
        let mut client = tool(address, PROMISE).with("x-user", user);
        let state = client.post(call, json!({"name": name}).to_string()).await?.json().await?;
        ensure!(state["profile"]["name"] == name, PROMISE, "{user}'s call resulted in {state}");
    }
    let mut stream = FollowedStream::open(
        &mut tool(address, PROMISE).with("x-user", "ann"),
        "/faststate/sse?states=profile",
    )
    .await?;
    stream.until(|page| page.signals().contains_key("profile")).await?;
    let name = stream.page.signals()["profile"]["name"].clone();
    ensure!(name == "Ann", PROMISE, "ann follows {name}");
    drop(stream);
    no_streams_are_open(address).await
}
