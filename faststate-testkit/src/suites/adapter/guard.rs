//! The guard against requests from other sites and for other hosts.

use std::net::SocketAddr;

use super::{Failure, RawClient, count, ensure, no_streams_are_open, page, problem};

const PROMISE: &str = "a cross-site request is refused and changes nothing (law 8)";

/// Headers that state the origin of a request, and whether the guard admits a POST and a GET with them.
struct GuardCase {
    cookie: bool,
    headers: &'static [(&'static str, &'static str)],
    post: bool,
    get: bool,
}

const fn case(
    cookie: bool,
    headers: &'static [(&'static str, &'static str)],
    post: bool,
    get: bool,
) -> GuardCase {
    GuardCase { cookie, headers, post, get }
}

/// `HERE` is replaced by the server's address.
const CASES: [GuardCase; 24] = [
    case(false, &[], true, true),
    case(false, &[("sec-fetch-site", "same-origin")], true, true),
    case(false, &[("sec-fetch-site", "cross-site")], false, false),
    case(false, &[("origin", "http://HERE")], true, true),
    case(false, &[("origin", "http://evil.example")], false, false),
    case(false, &[("referer", "http://evil.example/")], false, false),
    case(false, &[("referer", "http://HERE/page")], true, true),
    case(true, &[], false, false),
    case(true, &[("datastar-request", "true")], true, true),
    case(true, &[("datastar-request", "false")], false, false),
    case(true, &[("sec-fetch-site", "same-origin")], true, true),
    case(true, &[("sec-fetch-site", "none")], false, true),
    case(true, &[("sec-fetch-site", "same-site")], false, false),
    case(true, &[("sec-fetch-site", "cross-site")], false, false),
    case(true, &[("sec-fetch-site", "cross-site"), ("datastar-request", "true")], false, false),
    case(true, &[("sec-fetch-site", "cross-site"), ("origin", "http://HERE")], false, false),
    case(true, &[("sec-fetch-site", "Same-Origin")], false, false),
    case(true, &[("sec-fetch-site", "")], false, false),
    case(true, &[("origin", "http://HERE")], true, true),
    case(true, &[("origin", "null")], false, false),
    case(true, &[("origin", "null"), ("datastar-request", "true")], false, false),
    case(true, &[("origin", "http://evil.example")], false, false),
    case(true, &[("origin", "http://HERE.evil.example")], false, false),
    case(true, &[("origin", "https://HERE")], false, false),
];

/// The guard admits or refuses each case for an event, a GET event and a stream.
pub async fn cross_site_request_is_refused(address: SocketAddr) -> Result<(), Failure> {
    let mut visitor = page(address, PROMISE);
    visitor.post("/faststate/note/write", r#"{"text":"mine"}"#).await?;
    let cookie = visitor.cookie().unwrap_or_default().to_owned();
    let mut expected = count(address).await?;
    for GuardCase { cookie: carries, headers, post, get } in CASES {
        let mut client = RawClient::new(address, PROMISE);
        for (name, value) in headers {
            client = client.with(name, value.replace("HERE", &address.to_string()));
        }
        if carries {
            client = client.with_cookie(&*cookie);
        }
        for (method, target, admitted) in [
            ("POST", "/faststate/counter/increment?amount=1", post),
            ("GET", "/visit", get),
            ("GET", "/faststate/sse?states=note", get),
        ] {
            let what = format!("{method} {target} with {headers:?}, cookie: {carries},");
            expected += i64::from(admitted && !target.contains("sse"));
            let is_admitted = is_admitted(&mut client, method, target).await?;
            ensure!(is_admitted == admitted, PROMISE, "{what} was admitted: {is_admitted}");
            let now = count(address).await?;
            ensure!(now == expected, PROMISE, "{what} left the count at {now}, not {expected}");
        }
    }
    no_streams_are_open(address).await
}

/// Sends a request and returns whether the guard admitted it. A stream is closed again.
async fn is_admitted(client: &mut RawClient, method: &str, target: &str) -> Result<bool, Failure> {
    let address = client.address();
    let mut answer = client.send(method, target, "").await?;
    match answer.status() {
        403 => {
            ensure!(answer.header("set-cookie").is_none(), PROMISE, "{target} was refused and sets a cookie");
            Ok(false)
        }
        200 if target.contains("sse") => {
            let mut text = String::new();
            while !text.contains("\"note\"") && !text.contains("faststate-problem") {
                let Some(piece) = answer.piece().await? else { break };
                text.push_str(&String::from_utf8_lossy(&piece));
            }
            drop(answer);
            no_streams_are_open(address).await?;
            Ok(text.contains("\"note\""))
        }
        200 => Ok(!answer.text().await?.contains("faststate-problem")),
        status => Err(Failure::new(PROMISE, format!("{target} was answered with {status}"))),
    }
}

/// A request for a host name that is not configured is refused, and the error names the setting.
pub async fn unknown_host_is_refused(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a request for an unknown host is refused (law 8)";
    let before = count(address).await?;
    for host in ["evil.example", "evil.example:80", "127.0.0.1.evil.example"] {
        for (method, target) in [
            ("POST", "/faststate/counter/increment?amount=1"),
            ("GET", "/visit"),
            ("GET", "/faststate/sse?states=counter"),
        ] {
            // A browser that loaded the page from this host regards the request as same-origin.
            let client =
                RawClient::new(address, PROMISE).with("host", host).with("sec-fetch-site", "same-origin");
            let answer = { client }.send(method, target, "").await?;
            ensure!(answer.header("set-cookie").is_none(), PROMISE, "{target} of {host} sets a cookie");
            let problem = problem(answer, 421, PROMISE, target).await?;
            let names_setting = problem["detail"].as_str().is_some_and(|detail| detail.contains("`hosts`"));
            ensure!(names_setting, PROMISE, "{target} of {host} was answered with {problem}");
        }
    }
    let port = address.port();
    for host in ["localhost".to_owned(), format!("LOCALHOST:{port}"), format!("127.0.0.1:{port}")] {
        let answer = RawClient::new(address, PROMISE).with("host", &*host).get("/faststate/health").await?;
        ensure!(answer.status() == 200, PROMISE, "{host} was answered with {}", answer.status());
    }
    let after = count(address).await?;
    ensure!(after == before, PROMISE, "the count changed from {before} to {after}");
    Ok(())
}
