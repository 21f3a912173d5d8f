//! What an adapter has besides the endpoint: handlers that take pages as arguments.

use std::net::SocketAddr;

use super::{
    ClientResponse, Failure, count, ensure, fixture, followed_stream::FollowedStream, nobody_follows, page,
    tool,
};

/// Pages that handlers answer with, for adapters that give them as arguments. Besides the [fixture's
/// endpoint](fixture::endpoint), serve these:
///
/// ```text
/// GET, POST /page  with a page and the viewer's counter as arguments: `fixture::page`, as HTML
/// GET /missing     fails with the error of `page.follow_id::<fixture::Vault>("none")`
/// GET /broken      fails with `fixture::INTERNAL`
/// ```
///
/// # Errors
/// The first promise that is broken.
pub async fn pages_belong_to_their_viewer(address: SocketAddr) -> Result<(), Failure> {
    a_page_shows_and_follows(address).await?;
    a_page_has_the_sessions_cookie(address).await?;
    another_site_sets_no_cookie(address).await?;
    errors_are_pages(address).await?;
    another_host_has_no_pages(address).await
}

/// All arguments are one page, which follows from where it was rendered.
async fn a_page_shows_and_follows(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a page shows the viewer's state and follows it from there";
    let before = count(address).await?;
    let mut client = page(address, PROMISE);
    let html = html(client.get("/page").await?, 200, PROMISE).await?;
    let shows = format!("<p>{before}</p>");
    ensure!(html.contains(&shows), PROMISE, "the count is {before}, and the page {html}");
    let follows = html.contains("'/faststate/sse?states=counter'");
    ensure!(follows, PROMISE, "what is taken as an argument is not followed: {html}");
    let Some(cursor) = html.split("'_v':'").nth(1).and_then(|rest| rest.split('\'').next()) else {
        return Err(Failure::new(PROMISE, format!("there is no cursor in {html}")));
    };
    // Nothing is sent again of what the page shows, and nothing is missing.
    let cursors = serde_json::json!({ "counter": { "_v": cursor } }).to_string();
    let cursors: String = cursors.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let target = format!("/faststate/sse?states=counter&datastar={cursors}");
    let mut stream = FollowedStream::open(&mut client, &target).await?;
    stream.until(|page| page.stream().comments() > 0).await?;
    ensure!(!stream.text.contains("\"count\""), PROMISE, "a page that is current got {}", stream.text);
    tool(address, PROMISE).send("POST", "/faststate/counter/increment?amount=1", "").await?;
    stream.until_count(before + 1).await?;
    drop(stream);
    nobody_follows(address).await
}

async fn a_page_has_the_sessions_cookie(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a page begins a session, and is for its viewer alone";
    let mut client = page(address, PROMISE);
    let mut answer = client.get("/page").await?;
    let set = answer.headers().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")).count();
    ensure!(set == 1, PROMISE, "a new session's page sets {set} cookies");
    let cache = answer.header("cache-control").unwrap_or_default();
    ensure!(cache == "private, no-cache", PROMISE, "caches are told {cache:?}");
    answer.text().await?;
    let answer = client.get("/page").await?;
    ensure!(answer.header("set-cookie").is_none(), PROMISE, "its next page sets one again");
    let mut answer = client.post("/faststate/note/write", r#"{"text":"mine"}"#).await?;
    let text = answer.text().await?;
    let counts = answer.header("set-cookie").is_none() && text.contains(r#""text":"mine""#);
    ensure!(counts, PROMISE, "its event was answered {text}");

    let name = client.cookie().and_then(|cookie| cookie.split('=').next()).unwrap_or_default();
    let mut stranger = tool(address, PROMISE).with_cookie(format!("{name}=forged"));
    let answer = stranger.get("/page").await?;
    ensure!(answer.header("set-cookie").is_some(), PROMISE, "a cookie that is not valid stays");
    Ok(())
}

async fn another_site_sets_no_cookie(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str =
        "a page that another site requests sets no cookie, unless a link is followed (law 8)";
    for (method, headers, sets) in [
        ("POST", [("sec-fetch-site", "cross-site"), ("sec-fetch-dest", "document")], false),
        ("POST", [("sec-fetch-site", "same-site"), ("sec-fetch-dest", "document")], false),
        ("POST", [("origin", "http://pay.example"), ("accept", "*/*")], false),
        ("POST", [("origin", "null"), ("accept", "*/*")], false),
        ("POST", [("sec-fetch-site", "same-origin"), ("sec-fetch-dest", "document")], true),
        ("GET", [("sec-fetch-site", "cross-site"), ("sec-fetch-dest", "document")], true),
        ("GET", [("sec-fetch-site", "cross-site"), ("sec-fetch-dest", "iframe")], false),
    ] {
        let client = tool(address, PROMISE);
        let mut client = headers.iter().fold(client, |client, (name, value)| client.with(name, *value));
        let answer = client.send(method, "/page", "").await?;
        let set = answer.header("set-cookie").is_some();
        ensure!(set == sets, PROMISE, "{method} with {headers:?} sets a cookie: {set}");
        html(answer, 200, PROMISE).await?;
    }
    Ok(())
}

async fn another_host_has_no_pages(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a page for another host is refused (law 8)";
    let answer = tool(address, PROMISE).with("host", "evil.example").get("/page").await?;
    ensure!(answer.header("set-cookie").is_none(), PROMISE, "it sets a cookie");
    let page = html(answer, 421, PROMISE).await?;
    ensure!(page.contains("`hosts`"), PROMISE, "the setting is not named: {page}");
    Ok(())
}

async fn errors_are_pages(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "what a page's handler fails with is a page";
    let html_of = async |path, status| html(tool(address, PROMISE).get(path).await?, status, PROMISE).await;
    let missing = html_of("/missing", 404).await?;
    ensure!(missing.contains("not found, or not yours to see"), PROMISE, "{missing}");
    let broken = html_of("/broken", 500).await?;
    let leaks = fixture::INTERNAL.split(' ').any(|word| word.len() > 4 && broken.contains(word));
    ensure!(!leaks && broken.contains("Reference"), PROMISE, "an internal error shows {broken}");
    Ok(())
}

/// The answer's body, which is HTML.
async fn html(mut answer: ClientResponse, status: u16, promise: &str) -> Result<String, Failure> {
    let found = answer.status();
    let kind = answer.header("content-type").unwrap_or_default().to_owned();
    let body = answer.text().await?;
    let is_html = kind == "text/html; charset=utf-8";
    ensure!(found == status && is_html, promise, "it is a {found} of the type {kind:?}: {body}");
    Ok(body)
}
