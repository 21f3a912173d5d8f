//! The promises of an adapter: what a framework must pass through as [`endpoint`](faststate_http::endpoint) says it.
//!
//! Serve [`fixture::endpoint`] on a socket of this machine and give its address to [`all`]:
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
//! The suite speaks raw HTTP/1.1 and knows of the server what a client can know, so that nobody else may talk
//! to it meanwhile; its checks run one after another, in any order, as often as one likes. That the server
//! ends well is [`a_drain_drops_nothing`], which somebody must begin; that handlers take pages as arguments is
//! [`pages_are_the_viewers`], for adapters that have such handlers; what a server owes its clients before a framework
//! sees them is [`server`], for adapters that listen themselves.

mod bodies;
mod caps;
mod drain;
mod events;
mod goodbye;
mod guard;
mod input;
mod pages;
mod replies;
mod server;
mod session;
mod streams;
mod topics;
mod watching;

use std::net::SocketAddr;

use faststate_core::{Key, Scope};
use serde_json::Value;

pub use self::{
    bodies::{
        a_body_has_64_kib, a_body_is_no_request, a_slow_request_is_a_request, half_a_body_is_no_event,
        rights_are_read_after_the_body,
    },
    caps::streams_have_caps,
    drain::a_drain_drops_nothing,
    events::{
        events_have_their_own_path_and_method, events_take_input_however_it_comes, ids_are_decoded_once,
    },
    goodbye::{a_client_that_goes_away_is_left, an_event_whose_client_hangs_up_is_applied},
    guard::{another_host_is_refused, another_site_is_refused},
    input::bad_input_is_told_and_changes_nothing,
    pages::pages_are_the_viewers,
    replies::{
        a_repeat_counts_once, a_streamed_reply_arrives_as_it_is_written, a_wrong_method_names_the_right_one,
        answers_are_what_the_client_understands, internals_stay_inside,
    },
    server::{
        a_half_closed_request_is_answered, heads_have_64_kib, pages_name_one_host, requests_name_one_host,
        server,
    },
    session::{
        a_cookie_is_a_session, an_invalid_cookie_is_replaced, ids_belong_to_their_session,
        the_identity_decides, two_sessions_are_refused,
    },
    streams::{
        a_stream_begins_with_a_snapshot_and_goes_on_with_frames, frames_arrive_at_once,
        nothing_is_lost_at_the_end, silence_is_broken_by_comments, streams_resume_where_they_were,
    },
    topics::{a_stream_carries_several_topics, what_is_not_yours_is_not_followed},
};
use super::{
    Failure,
    client::{Client, ClientResponse},
    ensure, fixture, until,
};

/// Every promise but that of [`a_drain_drops_nothing`]; some seconds long.
///
/// # Errors
/// The first promise that is broken.
pub async fn all(address: SocketAddr) -> Result<(), Failure> {
    events_take_input_however_it_comes(address).await?;
    events_have_their_own_path_and_method(address).await?;
    ids_are_decoded_once(address).await?;
    answers_are_what_the_client_understands(address).await?;
    internals_stay_inside(address).await?;
    a_wrong_method_names_the_right_one(address).await?;
    a_repeat_counts_once(address).await?;
    a_streamed_reply_arrives_as_it_is_written(address).await?;
    a_cookie_is_a_session(address).await?;
    an_invalid_cookie_is_replaced(address).await?;
    two_sessions_are_refused(address).await?;
    ids_belong_to_their_session(address).await?;
    the_identity_decides(address).await?;
    another_site_is_refused(address).await?;
    another_host_is_refused(address).await?;
    a_body_has_64_kib(address).await?;
    half_a_body_is_no_event(address).await?;
    a_slow_request_is_a_request(address).await?;
    a_body_is_no_request(address).await?;
    bad_input_is_told_and_changes_nothing(address).await?;
    rights_are_read_after_the_body(address).await?;
    requests_name_one_host(address).await?;
    a_stream_begins_with_a_snapshot_and_goes_on_with_frames(address).await?;
    frames_arrive_at_once(address).await?;
    silence_is_broken_by_comments(address).await?;
    streams_resume_where_they_were(address).await?;
    a_stream_carries_several_topics(address).await?;
    what_is_not_yours_is_not_followed(address).await?;
    nothing_is_lost_at_the_end(address).await?;
    a_client_that_goes_away_is_left(address).await?;
    an_event_whose_client_hangs_up_is_applied(address).await?;
    streams_have_caps(address).await
}

/// A tool: no cookie, no evidence of a site.
const fn tool(address: SocketAddr, promise: &'static str) -> Client {
    Client::new(address, promise)
}

/// A page of this site, whose session begins with its first request.
fn page(address: SocketAddr, promise: &'static str) -> Client {
    Client::new(address, promise).datastar().keeping_cookies()
}

/// What the suite reads the truth by.
const TRUTH: &str = "an event without an effect tells the state";

/// The counter's truth.
async fn count(address: SocketAddr) -> Result<i64, Failure> {
    let mut tool = tool(address, TRUTH);
    let state = tool.post("/faststate/counter/increment", r#"{"amount":0}"#).await?.json().await?;
    state["counter"]["count"].as_i64().ok_or_else(|| Failure::new(TRUTH, format!("the counter is {state}")))
}

/// The truth of the item with this id, percent-encoded.
async fn item(address: SocketAddr, id: &str) -> Result<Value, Failure> {
    let mut tool = tool(address, TRUTH);
    let uri = format!("/faststate/item/{id}/take");
    let mut state = tool.post(&uri, r#"{"part":"nothing"}"#).await?.json().await?;
    let mut found = state["item"].take();
    let instance = found.as_object_mut().and_then(|items| items.values_mut().next()).map(Value::take);
    instance.ok_or_else(|| Failure::new(TRUTH, format!("the item {id} is {state}")))
}

/// The id of an item that nobody has used before.
fn new_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

fn counter_key() -> Result<Key, Failure> {
    key("counter", Scope::Global, None)
}

fn key(state: &str, scope: Scope, id: Option<&str>) -> Result<Key, Failure> {
    Key::new(state, scope, None, id).map_err(|error| Failure::error("the suite makes legal keys", &error))
}

/// What the probes are told.
async fn health(address: SocketAddr) -> Result<Value, Failure> {
    tool(address, "the probes are answered").get("/faststate/health").await?.json().await
}

/// Waits until nobody follows anything: all who did have hung up.
async fn nobody_follows(address: SocketAddr) -> Result<(), Failure> {
    until("a client that goes away is left (law 6)", || async move {
        let health = health(address).await?;
        let quiet = ["connections", "followers", "topics"].iter().all(|what| health[what] == 0);
        Ok(quiet.then_some(()))
    })
    .await
}

/// Waits until this many streams are open.
async fn streams_are(address: SocketAddr, open: usize, promise: &'static str) -> Result<(), Failure> {
    until(promise, || async move { Ok((health(address).await?["connections"] == open).then_some(())) }).await
}

/// The answer is a problem with this status.
async fn problem(
    mut answer: ClientResponse,
    status: u16,
    promise: &str,
    what: &str,
) -> Result<Value, Failure> {
    let content_type = answer.header("content-type").unwrap_or_default().to_owned();
    ensure!(answer.status() == status, promise, "{what} was answered {}, not {status}", answer.status());
    let body = answer.text().await?;
    let problem: Value = serde_json::from_str(&body).unwrap_or_default();
    ensure!(
        answer.status() == status
            && content_type == "application/problem+json"
            && problem["status"] == status,
        promise,
        "{what} was answered {} of the type {content_type:?}: {body}",
        answer.status()
    );
    let told = problem["detail"].as_str().is_some_and(|detail| detail.len() > 5);
    ensure!(told && problem["title"].is_string(), promise, "{what} was answered {body}");
    Ok(problem)
}

/// The answer is a 200 that shows a problem on the page; gives its text.
async fn notice(mut answer: ClientResponse, promise: &str, what: &str) -> Result<String, Failure> {
    let content_type = answer.header("content-type").unwrap_or_default().to_owned();
    let body = answer.text().await?;
    ensure!(
        answer.status() == 200 && content_type == "text/event-stream" && body.contains("faststate-problem"),
        promise,
        "{what} was answered {} of the type {content_type:?}: {body}",
        answer.status()
    );
    Ok(body)
}
