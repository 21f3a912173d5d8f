//! Checks that an adapter passes requests and responses of [`endpoint`](faststate_http::endpoint) through unchanged.
//!
//! Serve [`fixture::endpoint`] on a socket of this machine and pass its address to [`all`]:
//!
//! ```no_run
//! # use std::net::SocketAddr;
//! # use faststate_http::endpoint::Endpoint;
//! # async fn serve(_: Endpoint) -> SocketAddr { std::future::pending().await }
//! # async fn proves() -> Result<(), Box<dyn std::error::Error>> {
//! use faststate_testkit::suites::{adapter, fixture};
//!
//! let address = serve(fixture::endpoint(fixture::registry()?)).await;
//! adapter::all(address).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The suite speaks raw HTTP/1.1 and reads the server's state through its public routes, so it must be the only client of
//! the server. Its checks run one after another, in any order and any number of times. Three checks are not part of [`all`]:
//!
//! - [`drain_drops_nothing`] needs the caller to start the drain.
//! - [`pages_belong_to_their_viewer`] is for adapters whose handlers take pages as arguments.
//! - [`server`] is for adapters that accept connections themselves.

mod bodies;
mod caps;
mod drain;
mod events;
mod followed_stream;
mod goodbye;
mod guard;
mod input;
mod pages;
mod replies;
mod server;
mod session;
mod streams;
mod topics;

use std::net::SocketAddr;

use faststate_core::{Key, Scope};
use serde_json::Value;

pub use self::{
    bodies::{
        access_is_checked_after_the_body, body_over_64_kib_is_refused, refused_body_is_not_parsed_as_request,
        slow_request_is_answered, truncated_body_is_not_applied,
    },
    caps::stream_count_is_capped,
    drain::drain_drops_nothing,
    events::{
        event_input_is_read_from_every_source, event_is_served_at_its_declared_path,
        path_ids_are_decoded_once,
    },
    goodbye::{disconnected_client_is_forgotten, event_of_disconnected_client_is_applied},
    guard::{cross_site_request_is_refused, unknown_host_is_refused},
    input::invalid_input_is_reported_and_not_applied,
    pages::pages_belong_to_their_viewer,
    replies::{
        internal_errors_are_not_exposed, repeated_event_is_applied_once, response_form_matches_the_client,
        streamed_reply_arrives_incrementally, wrong_method_returns_405_with_allow,
    },
    server::{
        half_closed_request_is_answered, page_request_without_one_host_is_refused,
        request_head_over_64_kib_is_refused, request_without_one_host_is_refused, server,
    },
    session::{
        cookie_identifies_one_session, event_ids_are_scoped_to_their_session, identity_determines_access,
        invalid_cookie_is_replaced, two_session_cookies_are_refused,
    },
    streams::{
        finished_response_is_complete, frames_arrive_without_delay, idle_stream_sends_heartbeats,
        stream_resumes_from_its_cursor, stream_sends_snapshot_then_frames,
    },
    topics::{forbidden_topic_is_not_followed, stream_carries_several_topics},
};
use super::{
    Failure,
    client::{ClientResponse, RawClient},
    ensure, fixture, until,
};

/// Runs every check except those that the [module](self) lists. Takes several seconds.
///
/// # Errors
/// Returns the first promise that is broken.
pub async fn all(address: SocketAddr) -> Result<(), Failure> {
    event_input_is_read_from_every_source(address).await?;
    event_is_served_at_its_declared_path(address).await?;
    path_ids_are_decoded_once(address).await?;
    response_form_matches_the_client(address).await?;
    internal_errors_are_not_exposed(address).await?;
    wrong_method_returns_405_with_allow(address).await?;
    repeated_event_is_applied_once(address).await?;
    streamed_reply_arrives_incrementally(address).await?;
    cookie_identifies_one_session(address).await?;
    invalid_cookie_is_replaced(address).await?;
    two_session_cookies_are_refused(address).await?;
    event_ids_are_scoped_to_their_session(address).await?;
    identity_determines_access(address).await?;
    cross_site_request_is_refused(address).await?;
    unknown_host_is_refused(address).await?;
    body_over_64_kib_is_refused(address).await?;
    truncated_body_is_not_applied(address).await?;
    slow_request_is_answered(address).await?;
    refused_body_is_not_parsed_as_request(address).await?;
    invalid_input_is_reported_and_not_applied(address).await?;
    access_is_checked_after_the_body(address).await?;
    request_without_one_host_is_refused(address).await?;
    stream_sends_snapshot_then_frames(address).await?;
    frames_arrive_without_delay(address).await?;
    idle_stream_sends_heartbeats(address).await?;
    stream_resumes_from_its_cursor(address).await?;
    stream_carries_several_topics(address).await?;
    forbidden_topic_is_not_followed(address).await?;
    finished_response_is_complete(address).await?;
    disconnected_client_is_forgotten(address).await?;
    event_of_disconnected_client_is_applied(address).await?;
    stream_count_is_capped(address).await
}

/// A client that is no browser: no cookie and no origin headers.
const fn tool(address: SocketAddr, promise: &'static str) -> RawClient {
    RawClient::new(address, promise)
}

/// A page of this site, which gets its session with its first request.
fn page(address: SocketAddr, promise: &'static str) -> RawClient {
    RawClient::new(address, promise).datastar().keeping_cookies()
}

const TRUTH: &str = "an event without effect returns the state";

/// Returns the stored count.
async fn count(address: SocketAddr) -> Result<i64, Failure> {
    let mut tool = tool(address, TRUTH);
    let state = tool.post("/faststate/counter/increment", r#"{"amount":0}"#).await?.json().await?;
    state["counter"]["count"].as_i64().ok_or_else(|| Failure::new(TRUTH, format!("the counter is {state}")))
}

/// Returns the stored item with this percent-encoded id.
async fn item(address: SocketAddr, id: &str) -> Result<Value, Failure> {
    let mut tool = tool(address, TRUTH);
    let uri = format!("/faststate/item/{id}/take");
    let mut state = tool.post(&uri, r#"{"part":"nothing"}"#).await?.json().await?;
    let mut found = state["item"].take();
    let instance = found.as_object_mut().and_then(|items| items.values_mut().next()).map(Value::take);
    instance.ok_or_else(|| Failure::new(TRUTH, format!("the item {id} is {state}")))
}

/// Returns an unused item id.
fn new_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

fn counter_key() -> Result<Key, Failure> {
    key("counter", Scope::Global, None)
}

fn key(state: &str, scope: Scope, id: Option<&str>) -> Result<Key, Failure> {
    Key::new(state, scope, None, id).map_err(|error| Failure::error("the suite's keys are valid", &error))
}

/// Returns the health response.
async fn health(address: SocketAddr) -> Result<Value, Failure> {
    tool(address, "the health endpoint responds").get("/faststate/health").await?.json().await
}

/// Waits until the server has closed all streams.
async fn no_streams_are_open(address: SocketAddr) -> Result<(), Failure> {
    until("a disconnected client is forgotten (law 6)", || async move {
        let health = health(address).await?;
        let quiet = ["connections", "followers", "topics"].iter().all(|what| health[what] == 0);
        Ok(quiet.then_some(()))
    })
    .await
}

/// Waits until `open` streams are open.
async fn open_streams_are(address: SocketAddr, open: usize, promise: &'static str) -> Result<(), Failure> {
    until(promise, || async move { Ok((health(address).await?["connections"] == open).then_some(())) }).await
}

/// Checks that the response is a problem with this status, and returns it.
async fn problem(
    mut answer: ClientResponse,
    status: u16,
    promise: &str,
    what: &str,
) -> Result<Value, Failure> {
    let content_type = answer.header("content-type").unwrap_or_default().to_owned();
    ensure!(answer.status() == status, promise, "{what} was answered with {}, not {status}", answer.status());
    let body = answer.text().await?;
    let problem: Value = serde_json::from_str(&body).unwrap_or_default();
    ensure!(
        answer.status() == status
            && content_type == "application/problem+json"
            && problem["status"] == status,
        promise,
        "{what} was answered with {} of the type {content_type:?}: {body}",
        answer.status()
    );
    let has_detail = problem["detail"].as_str().is_some_and(|detail| detail.len() > 5);
    ensure!(has_detail && problem["title"].is_string(), promise, "{what} was answered with {body}");
    Ok(problem)
}

/// Checks that the response is a 200 that shows a problem on the page, and returns its text.
async fn notice(mut answer: ClientResponse, promise: &str, what: &str) -> Result<String, Failure> {
    let content_type = answer.header("content-type").unwrap_or_default().to_owned();
    let body = answer.text().await?;
    ensure!(
        answer.status() == 200 && content_type == "text/event-stream" && body.contains("faststate-problem"),
        promise,
        "{what} was answered with {} of the type {content_type:?}: {body}",
        answer.status()
    );
    Ok(body)
}
