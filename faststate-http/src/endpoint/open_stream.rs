//! Opening a stream: topics, cursors, access, limits, and the first bytes.

use std::sync::Arc;

use bytes::Bytes;
use faststate_core::{
    Error, Version,
    internal::{TopicName, check_name, frame},
};
use futures::future::join_all;
use http::{Response, StatusCode, request::Parts};
use serde_json::Value;

use super::{
    Endpoint,
    connections::StreamLimit,
    guard,
    head_copy::{HeadCopy, MAX_HEAD_BYTES},
    limits::limit,
    nest,
    problem::Problem,
    reply::{self, EVENT_STREAM, ReplyBody},
    request_identity::RequestIdentity,
    stream_body::{AccessRecheck, FollowedTopic, GONE, StreamBody, cursor_path, gone_frame, stale_frame},
};

/// The path of the signal that marks the whole stream as refused, so that the page does not request it again.
const STREAM_CURSOR: [&str; 2] = ["_stream", "_v"];

/// The signals for a browser that does not send the session cookie back.
const COOKIES_BLOCKED: &[u8] = br#"{"_cookies_blocked":true}"#;

/// The parsed request for a stream.
struct StreamRequest {
    /// The topics, or the error in the list.
    topics: Result<Vec<TopicName>, String>,
    cursors: Cursors,
}

/// The versions that the client has already merged.
struct Cursors {
    /// Nested like the page's signals.
    signals: Value,
    last_event_id: Option<Version>,
}

/// Answers a request for a stream.
///
/// If the whole stream or a topic is refused, Datastar gets a 200 that patches the problem and a mark instead of the
/// cursor. Its next request carries the mark and is answered 204, which stops the retries. Other clients get a status.
pub(super) async fn open(
    endpoint: &Endpoint,
    parts: Parts,
    peer: Option<std::net::SocketAddr>,
) -> Response<ReplyBody> {
    let datastar = guard::is_datastar(&parts.headers);
    let StreamRequest { topics, cursors } =
        StreamRequest::parse(&parts, endpoint.settings().limits.topics_per_stream);
    let marked = cursors.is_gone(&STREAM_CURSOR);
    let refuse = |problem: Problem| {
        if !datastar {
            return reply::status(&problem);
        }
        if marked {
            return reply::no_content();
        }
        let mark = nest::object(&STREAM_CURSOR, GONE.into()).to_string();
        let view = &*endpoint.settings().problem_view;
        let body = [frame::signals(mark.as_bytes()), problem.frames(view)].concat();
        reply::answer(StatusCode::OK, EVENT_STREAM, ReplyBody::full(body))
    };
    if let Err(error) = endpoint.settings().check_host(&parts.headers, &parts.uri) {
        return refuse(Problem::of(&error));
    }
    if !endpoint.settings().admits(&parts, endpoint.settings().request_session(&parts)) {
        return refuse(Problem::cross_site());
    }
    match topics {
        Ok(topics) => follow_topics(endpoint, parts, peer, &topics, &cursors).await,
        Err(detail) => {
            refuse(Problem::new(StatusCode::BAD_REQUEST, "topics", "Not a list of topics", detail))
        }
    }
}

async fn follow_topics(
    endpoint: &Endpoint,
    mut parts: Parts,
    peer: Option<std::net::SocketAddr>,
    requested: &[TopicName],
    cursors: &Cursors,
) -> Response<ReplyBody> {
    let settings = endpoint.settings();
    let datastar = guard::is_datastar(&parts.headers);
    let streams = endpoint.streams();
    if streams.is_draining() {
        // The stream ends at once, like the open ones, and the browser reconnects, to another node if there is one.
        // An error status would show up in the browser's console and stop an `EventSource` for good.
        return reply::answer(StatusCode::OK, EVENT_STREAM, ReplyBody::full(retry()));
    }
    let closings = streams.closings();
    let address = endpoint.settings().address(&parts.headers, peer);
    let session = endpoint.settings().request_session(&parts);
    let visitor = match RequestIdentity::of(endpoint, &parts, session, address).await {
        Ok(visitor) => visitor,
        Err(error) => return reply::status(&Problem::of(&error)),
    };
    let viewer = visitor.viewer();
    let permit = match streams.enter(&settings.limits, viewer.clone(), address) {
        Ok(permit) => permit,
        Err(reached) => return visitor.marked(reply::status(&too_many_streams(reached))),
    };

    let joining = requested.iter().map(|topic| {
        let cursor = cursors.of(topic);
        let stream = permit.id();
        async move { endpoint.registry().engine().follow(topic, viewer, cursor, stream).await }
    });
    let mut topics = Vec::with_capacity(requested.len());
    let mut refused = Vec::new();
    for (name, joined) in requested.iter().zip(join_all(joining).await) {
        let key = endpoint.registry().key(&name.state, viewer, name.id.as_deref());
        match joined.and_then(|follower| Ok((follower, key?))) {
            Ok((follower, key)) => topics.push(FollowedTopic { name: name.clone(), key, follower }),
            Err(error @ (Error::Unknown | Error::SignIn)) if !datastar => {
                return visitor.marked(reply::status(&Problem::of(&error)));
            }
            Err(Error::Unknown | Error::SignIn) => refused.push(name.clone()),
            Err(error) => return visitor.marked(reply::status(&Problem::of(&error))),
        }
    }
    // The notice of a refused topic is sent once: the page's cursor then carries the mark.
    refused.retain(|topic| !cursors.is_gone(&cursor_path(topic)));
    if topics.is_empty() && refused.is_empty() {
        return visitor.marked(reply::no_content());
    }

    let mut first = retry();
    if datastar {
        // Datastar notifies a page only of patches, so this patch also signals that the stream is open.
        first.extend_from_slice(&stale_frame(false));
        if viewer.is_unconfirmed() {
            // The page's response has set a cookie, but the request for the page's stream does not carry it.
            first.extend_from_slice(&frame::signals(COOKIES_BLOCKED));
        }
    }
    if cursors.is_gone(&STREAM_CURSOR) {
        first.extend_from_slice(&frame::signals(
            nest::object(&STREAM_CURSOR, "".into()).to_string().as_bytes(),
        ));
    }
    if !refused.is_empty() {
        first.extend_from_slice(&gone_frame(&refused, &*settings.problem_view));
    }
    let identify = match settings.identify.clone() {
        None => None,
        Some(identify) => {
            parts.extensions.insert(visitor.session());
            let Some(head) = HeadCopy::of(&parts) else {
                return visitor.marked(reply::status(&head_too_long()));
            };
            Some((identify, Box::new(head)))
        }
    };
    let recheck = AccessRecheck {
        registry: Arc::clone(endpoint.registry()),
        identify,
        session: visitor.session(),
        every: settings.recheck,
        view: Arc::clone(&settings.problem_view),
    };
    let mut body = StreamBody::new(topics, Bytes::from(first), datastar, settings.heartbeat, recheck, permit);
    tracing::debug!(topics = ?body.topics(), "opened");
    if streams.closings() != closings {
        body.hold_until_rechecked();
    }
    visitor.marked(reply::answer(StatusCode::OK, EVENT_STREAM, ReplyBody::stream(body)))
}

impl StreamRequest {
    /// Parses topics and cursors. A malformed cursor counts as none.
    fn parse(parts: &Parts, max_topics: usize) -> Self {
        let (mut lists, mut signals) = (Vec::new(), Value::Null);
        for (name, value) in form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            match &*name {
                "states" => lists.push(value),
                "datastar" => signals = serde_json::from_str(&value).unwrap_or_default(),
                _ => {}
            }
        }
        let topics = match &*lists {
            [] => Err("name them: `?states=counter,product:123,chat.messages`".to_owned()),
            [list] => parse_topics(list, max_topics),
            _ => Err("`states` is given twice: list all topics in one `states`".to_owned()),
        };
        let id = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
        let last_event_id = id.filter(|_| topics.as_ref().is_ok_and(|topics| topics.len() == 1));
        Self { topics, cursors: Cursors { signals, last_event_id } }
    }
}

/// Parses a list of topics and removes duplicates.
fn parse_topics(list: &str, max: usize) -> Result<Vec<TopicName>, String> {
    let mut topics = Vec::new();
    for text in list.split(',') {
        let topic: TopicName = text.parse().map_err(|error| format!("`{text}`: {error}"))?;
        let names = [Some(&topic.state), topic.view.as_ref()];
        if names.into_iter().flatten().any(|name| check_name(name).is_err()) {
            return Err(format!("`{text}`: names are `[a-z][a-z0-9_]*` without `__`"));
        }
        if topics.len() == limit(max) {
            return Err(format!("at most {max} topics in one stream"));
        }
        if !topics.contains(&topic) {
            topics.push(topic);
        }
    }
    Ok(topics)
}

impl Cursors {
    fn of(&self, topic: &TopicName) -> Option<Version> {
        let signal = nest::text(&self.signals, &cursor_path(topic));
        signal.and_then(|text| text.parse().ok()).or(self.last_event_id)
    }

    fn is_gone(&self, path: &[impl AsRef<str>]) -> bool {
        nest::text(&self.signals, path) == Some(GONE)
    }
}

/// Returns the `retry:` field with a random reconnection delay, because clients add no jitter.
fn retry() -> Vec<u8> {
    format!("retry: {}\n\n", rand::random_range(800..=2400)).into_bytes()
}

fn too_many_streams(reached: StreamLimit) -> Problem {
    let (status, detail) = match reached {
        StreamLimit::Node => {
            (StatusCode::SERVICE_UNAVAILABLE, "this server has reached its limit of streams; try again later")
        }
        StreamLimit::Session => (
            StatusCode::TOO_MANY_REQUESTS,
            "this session has reached its limit of streams; close some pages and try again",
        ),
        StreamLimit::Address => (
            StatusCode::TOO_MANY_REQUESTS,
            "your address has reached its limit of streams; close some pages and try again",
        ),
    };
    Problem::new(status, "busy", "Too many streams", detail).retry(5)
}

fn head_too_long() -> Problem {
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    let detail = format!("the head of a stream's request has at most {MAX_HEAD_BYTES} bytes");
    Problem::new(status, "too_large", "Too large", detail)
}
