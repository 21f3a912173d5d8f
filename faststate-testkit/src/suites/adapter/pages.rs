//! Handlers that take pages as arguments.

use std::net::SocketAddr;

use super::{
    ClientResponse, Failure, count, ensure, fixture, followed_stream::FollowedStream, no_streams_are_open,
    page, tool,
};

/// Runs the checks for an adapter whose handlers take pages as arguments. Serve these routes in addition to the
/// [fixture's endpoint](fixture::endpoint):
///
/// ```text
/// GET, POST /page  with a page and the viewer's counter as arguments: `fixture::page`, as HTML
/// GET /missing     fails with the error of `page.follow_id::<fixture::Vault>("none")`
/// GET /broken      fails with `fixture::INTERNAL`
/// ```
///
/// # Errors
/// Returns the first promise that is broken.
pub async fn pages_belong_to_their_viewer(address: SocketAddr) -> Result<(), Failure> {
    page_follows_from_the_rendered_version(address).await?;
    page_sets_the_session_cookie(address).await?;
    cross_site_page_sets_no_cookie(address).await?;
    handler_errors_are_shown_as_pages(address).await?;
    page_for_unknown_host_is_refused(address).await
}

/// All arguments of a handler share one page, which follows from the rendered version.
async fn page_follows_from_the_rendered_version(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a page shows the viewer's state and follows it from the rendered version";
    let before = count(address).await?;
    let mut client = page(address, PROMISE);
    let html = html(client.get("/page").await?, 200, PROMISE).await?;
    let shows = format!("<p>{before}</p>");
    ensure!(html.contains(&shows), PROMISE, "the count is {before}, and the page is {html}");
    let follows = html.contains("'/faststate/sse?states=counter'");
    ensure!(follows, PROMISE, "the state in the arguments is not followed: {html}");
    let Some(cursor) = html.split("'_v':'").nth(1).and_then(|rest| rest.split('\'').next()) else {
        return Err(Failure::new(PROMISE, format!("no cursor is in {html}")));
    };
    // The stream repeats nothing that the page shows, and it misses no change.
    let cursors = serde_json::json!({ "counter": { "_v": cursor } }).to_string();
    let cursors: String = cursors.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let target = format!("/faststate/sse?states=counter&datastar={cursors}");
    let mut stream = FollowedStream::open(&mut client, &target).await?;
    stream.until(|page| page.stream().comments() > 0).await?;
    ensure!(!stream.text.contains("\"count\""), PROMISE, "a current page received {}", stream.text);
    tool(address, PROMISE).send("POST", "/faststate/counter/increment?amount=1", "").await?;
    stream.until_count(before + 1).await?;
    drop(stream);
    no_streams_are_open(address).await
}

async fn page_sets_the_session_cookie(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a page starts a session and is not cached for other viewers";
    let mut client = page(address, PROMISE);
    let mut answer = client.get("/page").await?;
    let set = answer.headers().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie")).count();
    ensure!(set == 1, PROMISE, "the first page of a session sets {set} cookies");
    let cache = answer.header("cache-control").unwrap_or_default();
    ensure!(cache == "private, no-cache", PROMISE, "the cache control is {cache:?}");
    answer.text().await?;
    let answer = client.get("/page").await?;
    ensure!(answer.header("set-cookie").is_none(), PROMISE, "the next page sets a cookie again");
    let mut answer = client.post("/faststate/note/write", r#"{"text":"mine"}"#).await?;
    let text = answer.text().await?;
    let counts = answer.header("set-cookie").is_none() && text.contains(r#""text":"mine""#);
    ensure!(counts, PROMISE, "an event of the session was answered with {text}");

    let name = client.cookie().and_then(|cookie| cookie.split('=').next()).unwrap_or_default();
    let mut stranger = tool(address, PROMISE).with_cookie(format!("{name}=forged"));
    let answer = stranger.get("/page").await?;
    ensure!(answer.header("set-cookie").is_some(), PROMISE, "an invalid cookie is not replaced");
    Ok(())
}

async fn cross_site_page_sets_no_cookie(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a cross-site page request sets no cookie unless it follows a link (law 8)";
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

async fn page_for_unknown_host_is_refused(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a page for an unknown host is refused (law 8)";
    let answer = tool(address, PROMISE).with("host", "evil.example").get("/page").await?;
    ensure!(answer.header("set-cookie").is_none(), PROMISE, "the response sets a cookie");
    let page = html(answer, 421, PROMISE).await?;
    ensure!(page.contains("`hosts`"), PROMISE, "the page does not name the setting: {page}");
    Ok(())
}

async fn handler_errors_are_shown_as_pages(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "an error of a page's handler is shown as a page";
    let html_of = async |path, status| html(tool(address, PROMISE).get(path).await?, status, PROMISE).await;
    let missing = html_of("/missing", 404).await?;
    ensure!(missing.contains("not found, or not yours to see"), PROMISE, "{missing}");
    let broken = html_of("/broken", 500).await?;
    let leaks = fixture::INTERNAL.split(' ').any(|word| word.len() > 4 && broken.contains(word));
    ensure!(!leaks && broken.contains("Reference"), PROMISE, "an internal error shows {broken}");
    Ok(())
}

/// Returns the response body after a check that it is HTML.
async fn html(mut answer: ClientResponse, status: u16, promise: &str) -> Result<String, Failure> {
    let found = answer.status();
    let kind = answer.header("content-type").unwrap_or_default().to_owned();
    let body = answer.text().await?;
    let is_html = kind == "text/html; charset=utf-8";
    ensure!(found == status && is_html, promise, "it was answered with {found} of the type {kind:?}: {body}");
    Ok(body)
}
