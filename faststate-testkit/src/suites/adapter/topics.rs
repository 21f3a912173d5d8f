//! Several topics, and those that are not for everybody.

use std::net::SocketAddr;

use faststate_core::Scope;
use serde_json::{Value, json};

use super::{
    Failure, count, counter_key, ensure, followed_stream::FollowedStream, item, key, nobody_follows, notice,
    page, problem, tool,
};

/// One stream carries signals and views of several states, each topic once, ids percent-encoded.
pub async fn stream_carries_several_topics(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a stream carries several topics";
    let run = super::new_id();
    let (id, raw) = (format!("{run}a/b c%,.:"), format!("{run}a%2Fb%20c%25%2C%2E%3A"));
    // Encoded once for the list, and once more for the query.
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
    ensure!(!text.contains("faststate-problem"), PROMISE, "{put} was answered {text}");
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
    ensure!(times == 1, PROMISE, "a topic that is named twice was told {times} times");
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
    nobody_follows(address).await
}

/// What is not the viewer's to see answers like what does not exist; a page is told once, and then no more
/// (204), while the rest of its topics goes on (law 8).
pub async fn forbidden_topic_is_not_followed(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "what is not yours is not followed (law 8)";
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
        let Some(mark) = mark else { return Err(Failure::new(PROMISE, format!("{topic} was told {text}"))) };
        ensure!(!text.contains("gold"), PROMISE, "{topic} showed {text}");
        let mark: String = mark.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let mut answer = page.get(&format!("{target}&datastar={mark}")).await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status == 204 && text.is_empty(), PROMISE, "{topic}, asked again, was a {status}: {text}");
    }
    ensure!(answers.iter().all(|answer: &Value| *answer == answers[0]), PROMISE, "they were {answers:?}");
    problem(tool(address, PROMISE).get("/faststate/sse?states=profile").await?, 401, PROMISE, "nobody's")
        .await?;

    let mut stream = FollowedStream::open(&mut keeper, "/faststate/sse?states=vault:v1").await?;
    stream.until(|page| page.signals().contains_key("vault")).await?;
    ensure!(stream.text.contains("gold"), PROMISE, "a keeper follows {}", stream.text);
    drop(stream);

    // Read as text: the page of this suite knows no notices.
    let start = count(address).await?;
    let mut answer = page(address, PROMISE).get("/faststate/sse?states=vault:v1,counter").await?;
    let mut text = String::new();
    while !text.contains(&format!("\"count\":{start}")) {
        let Some(piece) = answer.piece().await? else {
            return Err(Failure::new(PROMISE, format!("the rest does not go on after {text}")));
        };
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    ensure!(text.contains("gone") && !text.contains("gold"), PROMISE, "it was told {text}");
    drop(answer);
    nobody_follows(address).await
}
