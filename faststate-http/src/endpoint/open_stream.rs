//! Opening a stream.

use std::sync::Arc;

use bytes::Bytes;
use faststate_core::{
    Error, Version,
    internal::{check_name, frame},
    registry::TopicName,
};
use futures::future::join_all;
use http::{Response, StatusCode, request::Parts};
use serde_json::Value;

use super::{
    Endpoint, Problem, RequestIdentity,
    connections::Full,
    guard,
    head_copy::{HEAD_BYTES, HeadCopy},
    limits::limit,
    nest,
    reply::{self, EVENT_STREAM, ReplyBody},
    stream_body::{Following, GONE, Recheck, Topic, cursor_path, gone, stale},
};

/// The signal that says that the whole stream was refused, so that the page does not ask again.
const WHOLE: [&str; 2] = ["_stream", "_v"];

/// Says that the browser keeps no cookie of this site.
const COOKIES_BLOCKED: &[u8] = br#"{"_cookies_blocked":true}"#;

/// What a request for a stream asks for.
struct Asked {
    /// The topics, or what is wrong with the list.
    topics: Result<Vec<TopicName>, String>,
    cursors: Cursors,
}

/// What the client has merged already.
struct Cursors {
    /// Nested like the page's signals.
    signals: Value,
    last_event_id: Option<Version>,
}

/// Answers a request for a stream.
///
/// A refusal of the whole stream, or of a topic, is told to Datastar in a 200 that patches the problem and
/// a mark instead of the cursor; the request after it carries the mark and gets a 204, which ends it.
/// Other clients get a status.
pub(super) async fn open(
    endpoint: &Endpoint,
    parts: Parts,
    peer: Option<std::net::SocketAddr>,
) -> Response<ReplyBody> {
    let datastar = guard::is_datastar(&parts.headers);
    let Asked { topics, cursors } = Asked::read(&parts, endpoint.settings().limits.topics_per_stream);
    let marked = cursors.has_gone(&WHOLE);
    let refuse = |problem: Problem| {
        if !datastar {
            return reply::status(&problem);
        }
        if marked {
            return reply::nothing();
        }
        let mark = nest::object(&WHOLE, GONE.into()).to_string();
        let view = &*endpoint.settings().problem_view;
        let body = [frame::signals(mark.as_bytes()), problem.frames(view)].concat();
        reply::answer(StatusCode::OK, EVENT_STREAM, ReplyBody::full(body))
    };
    if let Err(error) = endpoint.check_host(&parts.headers, &parts.uri) {
        return refuse(Problem::of(&error));
    }
    if !endpoint.admits(&parts, endpoint.carried(&parts)) {
        return refuse(Problem::cross_site());
    }
    match topics {
        Ok(topics) => follow(endpoint, parts, peer, &topics, &cursors).await,
        Err(detail) => {
            refuse(Problem::new(StatusCode::BAD_REQUEST, "topics", "Not a list of topics", detail))
        }
    }
}

async fn follow(
    endpoint: &Endpoint,
    mut parts: Parts,
    peer: Option<std::net::SocketAddr>,
    asked: &[TopicName],
    cursors: &Cursors,
) -> Response<ReplyBody> {
    let settings = endpoint.settings();
    let datastar = guard::is_datastar(&parts.headers);
    let streams = endpoint.streams();
    if streams.is_draining() {
        // It ends as those do that were open, and comes back, to another node if there is one. Of a status a
        // browser would complain, and an `EventSource` would never come back.
        return reply::answer(StatusCode::OK, EVENT_STREAM, ReplyBody::full(retry()));
    }
    let closings = streams.closings();
    let address = endpoint.address(&parts.headers, peer);
    let visitor = match RequestIdentity::of(endpoint, &parts, endpoint.carried(&parts), address).await {
        Ok(visitor) => visitor,
        Err(error) => return reply::status(&Problem::of(&error)),
    };
    let viewer = visitor.viewer();
    let permit = match streams.enter(&settings.limits, viewer.clone(), address) {
        Ok(permit) => permit,
        Err(full) => return visitor.marked(reply::status(&too_many(full))),
    };

    let joining = asked.iter().map(|topic| {
        let cursor = cursors.of(topic);
        let name = permit.name();
        async move { endpoint.registry().follow(topic, viewer, cursor, name).await }
    });
    let mut topics = Vec::with_capacity(asked.len());
    let mut refused = Vec::new();
    for (name, joined) in asked.iter().zip(join_all(joining).await) {
        let key = endpoint.registry().key(&name.state, viewer, name.id.as_deref());
        match joined.and_then(|follower| Ok((follower, key?))) {
            Ok((follower, key)) => topics.push(Topic { name: name.clone(), key, follower }),
            Err(error @ (Error::Unknown | Error::SignIn)) if !datastar => {
                return visitor.marked(reply::status(&Problem::of(&error)));
            }
            Err(Error::Unknown | Error::SignIn) => refused.push(name.clone()),
            Err(error) => return visitor.marked(reply::status(&Problem::of(&error))),
        }
    }
    // A page that has been told does not hear it again.
    refused.retain(|topic| !cursors.has_gone(&cursor_path(topic)));
    if topics.is_empty() && refused.is_empty() {
        return visitor.marked(reply::nothing());
    }

    let mut first = retry();
    if datastar {
        // Datastar tells a page what it merges and nothing else: this patch also says that the stream is open.
        first.extend_from_slice(&stale(false));
        if viewer.is_unconfirmed() {
            // The page set a cookie, and its own stream does not carry it.
            first.extend_from_slice(&frame::signals(COOKIES_BLOCKED));
        }
    }
    if cursors.has_gone(&WHOLE) {
        first.extend_from_slice(&frame::signals(nest::object(&WHOLE, "".into()).to_string().as_bytes()));
    }
    if !refused.is_empty() {
        first.extend_from_slice(&gone(&refused, &*settings.problem_view));
    }
    let identify = match settings.identify.clone() {
        None => None,
        Some(identify) => {
            parts.extensions.insert(visitor.session());
            let Some(head) = HeadCopy::of(&parts) else {
                return visitor.marked(reply::status(&too_long()));
            };
            Some((identify, Box::new(head)))
        }
    };
    let recheck = Recheck {
        registry: Arc::clone(endpoint.registry()),
        identify,
        session: visitor.session(),
        every: settings.recheck,
        view: Arc::clone(&settings.problem_view),
    };
    let mut following =
        Following::new(topics, Bytes::from(first), datastar, settings.heartbeat, recheck, permit);
    tracing::debug!(topics = ?following.topics(), "opened");
    if streams.closings() != closings {
        following.hold();
    }
    visitor.marked(reply::answer(StatusCode::OK, EVENT_STREAM, ReplyBody::following(following)))
}

impl Asked {
    /// Reads topics and cursors; a cursor that makes no sense is none.
    fn read(parts: &Parts, most: usize) -> Self {
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
            [list] => topics(list, most),
            _ => Err("`states` is given twice".to_owned()),
        };
        let id = parts.headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
        let last_event_id = id.filter(|_| topics.as_ref().is_ok_and(|topics| topics.len() == 1));
        Self { topics, cursors: Cursors { signals, last_event_id } }
    }
}

/// The topics of a list, each once.
fn topics(list: &str, most: usize) -> Result<Vec<TopicName>, String> {
    let mut topics = Vec::new();
    for text in list.split(',') {
        let topic: TopicName = text.parse().map_err(|error| format!("`{text}`: {error}"))?;
        let names = [Some(&topic.state), topic.view.as_ref()];
        if names.into_iter().flatten().any(|name| check_name(name).is_err()) {
            return Err(format!("`{text}`: names are `[a-z][a-z0-9_]*` without `__`"));
        }
        if topics.len() == limit(most) {
            return Err(format!("at most {most} topics in one stream"));
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

    fn has_gone(&self, path: &[impl AsRef<str>]) -> bool {
        nest::text(&self.signals, path) == Some(GONE)
    }
}

/// When to come back after the stream's end: at random, since clients add no jitter of their own.
fn retry() -> Vec<u8> {
    format!("retry: {}\n\n", rand::random_range(800..=2400)).into_bytes()
}

fn too_many(which: Full) -> Problem {
    match which {
        Full::Node => full("this server has as many streams as it may have", StatusCode::SERVICE_UNAVAILABLE),
        Full::Session => {
            full("this session has as many streams as it may have", StatusCode::TOO_MANY_REQUESTS)
        }
        Full::Address => {
            full("your address has as many streams as it may have", StatusCode::TOO_MANY_REQUESTS)
        }
    }
}

fn too_long() -> Problem {
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    let detail = format!("the head of a stream's request has at most {HEAD_BYTES} bytes");
    Problem::new(status, "too_large", "Too large", detail)
}

fn full(detail: &str, status: StatusCode) -> Problem {
    Problem::new(status, "busy", "Too many streams", detail).retry(5)
}
