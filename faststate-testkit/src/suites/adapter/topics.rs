//! Streams of several topics, and topics that the viewer may not follow.

use std::net::SocketAddr;

use faststate_core::Scope;
use serde_json::{Value, json};

use super::{
    Failure, count, counter_key, ensure, followed_stream::FollowedStream, item, key, no_streams_are_open,
    notice, page, problem, tool,
};

/// One stream carries signals and views of several states. A topic that is listed twice is sent once; ids are
/// percent-encoded.
pub async fn stream_carries_several_topics(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a stream carries several topics";
    let run = super::new_id();
    let (id, raw) = (format!("{run}a/b c%,.:"), format!("{run}a%2Fb%20c%25%2C%2E%3A"));
    // Encoded once for the list and once more for the query.
    let listed = raw.replace('%', "%25");
    let target =
        format!("/faststate/sse?states=counter,note,counter.shown,item:{listed},item:{listed}.card,counter");
    let mut client = page(address, PROMISE);
    let mut stream =
        FollowedStream::showing(&mut client, &target, "<p id=\"shown\"></p><p id=\"card\"></p>").await?;
    let item_key = key("item", Scope::Record, Some(&id))?;
    let before = count(address).await?;
    client.post("/faststate/counter/increment", r#"{"amount":2}"#).await?;
    client.post("/faststate/note/write", r#"{"text":"two\nlines"}"#).await?;
    let put = format!("/faststate/item/{raw}/put");
    let mut answer = client.post(&put, r#"{"part":"bolt","amount":2}"#).await?;
    let text = answer.text().await?;
    ensure!(!text.contains("faststate-problem"), PROMISE, "{put} was answered with {text}");
    let truth = item(address, &raw).await?;
    let shown = format!("<p id=\"shown\">{}</p><p id=\"card\">1 parts</p>", before + 2);
    stream
        .until(|page| {
            page.follows(&item_key, &truth).is_ok()
                && page.html() == shown
                && page.signals().get("note").is_some_and(|note| note["text"] == "two\nlines")
                && page.signals().get("counter").is_some_and(|counter| counter["count"] == before + 2)
        })
        .await?;
    stream.page.follows(&counter_key()?, &json!({ "count": before + 2 }))?;
    let times = stream.text.matches(&format!("\"count\":{}", before + 2)).count();
    ensure!(times == 1, PROMISE, "a topic that is listed twice was sent {times} times");
    drop(stream);

    let many = (0..33).map(|at| format!("item:{at}")).collect::<Vec<_>>().join(",");
    for query in [
        "",
        "?states=",
        "?states=,",
        "?states=counter&states=note",
        "?states=Counter",
        "?states=counter.",
        &format!("?states={many}"),
    ] {
        let target = format!("/faststate/sse{query}");
        problem(tool(address, PROMISE).get(&target).await?, 400, PROMISE, &target).await?;
    }
    no_streams_are_open(address).await
}

/// A forbidden topic gets the same response as an unknown one. A page gets one notice and then 204, while its other
/// topics continue (law 8).
pub async fn forbidden_topic_is_not_followed(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a forbidden topic is not followed (law 8)";
    let mut keeper = tool(address, PROMISE).with("x-user", "ann").with("x-roles", "keeper");
    keeper.post("/faststate/vault/v1/deposit", r#"{"gold":77}"#).await?;
    let mut answers = Vec::new();
    for topic in [
        "vault:v1",
        "vault:none",
        "nothing",
        "note:1",
        "vault",
        "counter.nothing",
        "counter:1",
        "profile:ann",
    ] {
        let target = format!("/faststate/sse?states={topic}");
        answers.push(
            problem(tool(address, PROMISE).with("x-user", "eve").get(&target).await?, 404, PROMISE, topic)
                .await?,
        );
        let mut page = page(address, PROMISE).with("x-user", "eve");
        let text = notice(page.get(&target).await?, PROMISE, topic).await?;
        let mark = text
            .lines()
            .find_map(|line| line.strip_prefix("data: signals ").filter(|l| l.contains("\"gone\"")));
        let Some(mark) = mark else {
            return Err(Failure::new(PROMISE, format!("the notice for {topic} is {text}")));
        };
        ensure!(!text.contains("gold"), PROMISE, "the notice for {topic} shows {text}");
        let mark: String = mark.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let mut answer = page.get(&format!("{target}&datastar={mark}")).await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(
            status == 204 && text.is_empty(),
            PROMISE,
            "{topic}, requested again, was answered with {status}: {text}"
        );
    }
    ensure!(
        answers.iter().all(|answer: &Value| *answer == answers[0]),
        PROMISE,
        "the responses differ: {answers:?}"
    );
    problem(
        tool(address, PROMISE).get("/faststate/sse?states=profile").await?,
        401,
        PROMISE,
        "a request without a user",
    )
    .await?;

    let mut stream = FollowedStream::open(&mut keeper, "/faststate/sse?states=vault:v1").await?;
    stream.until(|page| page.signals().contains_key("vault")).await?;
    ensure!(stream.text.contains("gold"), PROMISE, "a keeper follows {}", stream.text);
    drop(stream);

    // Read as text, because `BrowserPage` has no element for a notice.
    let start = count(address).await?;
    let mut answer = page(address, PROMISE).get("/faststate/sse?states=vault:v1,counter").await?;
    let mut text = String::new();
    while !text.contains(&format!("\"count\":{start}")) {
        let Some(piece) = answer.piece().await? else {
            return Err(Failure::new(PROMISE, format!("the other topic does not continue after {text}")));
        };
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    ensure!(text.contains("gone") && !text.contains("gold"), PROMISE, "the stream sent {text}");
    drop(answer);
    no_streams_are_open(address).await
}
