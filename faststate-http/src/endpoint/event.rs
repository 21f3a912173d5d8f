//! Receives events over HTTP: reads the request, dispatches the event, and replies.

use std::{
    net::SocketAddr,
    pin::{Pin, pin},
    time::Duration,
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use faststate_core::{
    BoxError, EventId, Key,
    internal::TopicName,
    registry::{Call, Outcome},
    wire::Input,
};
use http::{HeaderName, Response, StatusCode, header, request::Parts};
use http_body::Body;
use http_body_util::BodyExt as _;

use super::{
    Endpoint,
    field_errors::FieldErrors,
    limits::limit,
    problem::Problem,
    reply::{self, ReplyBody},
    request_identity::RequestIdentity,
};

/// The header with the event id, if the client has chosen one.
static EVENT_HEADER: HeaderName = HeaderName::from_static("faststate-event");
/// The header with the names of the topics that the client's page follows, separated by commas.
static FOLLOWS_HEADER: HeaderName = HeaderName::from_static("faststate-follows");

/// Maximum time for a whole body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// Maximum number of bytes beyond a body's limit that are read and discarded.
const MAX_DISCARDED_BYTES: usize = 1024 * 1024;

/// The event that a path names.
#[derive(Clone, Copy)]
pub(super) struct EventTarget<'a> {
    pub(super) state: &'static str,
    pub(super) event: &'static str,
    /// The id of the record or component, not of the event.
    pub(super) id: Option<&'a str>,
}

/// Returns the response to an event, in this order: guard, body, session, access, input, dispatch, reply.
///
/// The viewer is identified only after the body has arrived. Otherwise a client could delay the body and act
/// with rights that were revoked in the meantime (law 8).
pub(super) async fn answer<B>(
    endpoint: &Endpoint,
    target: EventTarget<'_>,
    parts: &Parts,
    body: B,
    peer: Option<SocketAddr>,
) -> Response<ReplyBody>
where
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let patches = endpoint.settings().patches(&parts.headers);
    let refuse = |problem: Problem| {
        let errors = FieldErrors::of(target.state, target.id);
        let problem = problem.about(target.event, errors);
        endpoint.settings().annotated(reply::problem(&problem, patches), &problem)
    };
    if let Err(error) = endpoint.settings().check_host(&parts.headers, &parts.uri) {
        return refuse(Problem::of(&error));
    }
    let session = endpoint.settings().request_session(parts);
    if !endpoint.settings().admits(parts, session) {
        return refuse(Problem::cross_site());
    }
    let body = match read_body(body, endpoint.settings().limits.body_bytes).await {
        Ok(body) => body,
        Err(problem) => return refuse(*problem),
    };
    let address = endpoint.settings().address(&parts.headers, peer);
    let visitor = match RequestIdentity::of(endpoint, parts, session, address).await {
        Ok(visitor) => visitor,
        Err(error) => return refuse(Problem::of(&error)),
    };
    if visitor.is_refused() {
        return visitor.marked(refuse(Problem::session()));
    }
    let response = match dispatch(endpoint, target, parts, &body, &visitor).await {
        Ok((outcome, key)) => {
            let applied = outcome.answer;
            let response = reply::accepted(outcome, &key, target.event, patches.is_some());
            endpoint.settings().annotated(response, &applied)
        }
        Err(problem) => refuse(*problem),
    };
    visitor.marked(response)
}

async fn dispatch(
    endpoint: &Endpoint,
    target: EventTarget<'_>,
    parts: &Parts,
    body: &[u8],
    visitor: &RequestIdentity,
) -> Result<(Outcome, Key), Box<Problem>> {
    let EventTarget { state, event, id } = target;
    let registry = endpoint.registry();
    let failed = |error| Box::new(Problem::of(&error));
    let viewer = visitor.viewer();
    let key = registry.key(state, viewer, id).map_err(failed)?;
    if !registry.allows(&key, viewer) {
        return Err(Problem::unknown().into());
    }
    let id = event_id(parts)?;
    if let Some(id) = &id {
        tracing::Span::current().record("id", tracing::field::display(id));
    }
    let content_type = parts.headers.get(header::CONTENT_TYPE).map(|value| value.to_str());
    let content_type =
        content_type.transpose().map_err(|_| bad_request("the header `Content-Type` is not ASCII"))?;
    let input = Input::parse(parts.uri.query(), content_type, body)
        .map_err(|error| Box::new(Problem::input(&error, StatusCode::BAD_REQUEST)))?;
    let wants_view = !follows_signals(parts, &key);
    let viewer = visitor.sender(endpoint, id.as_ref());
    let mut call = Call::new(key.clone(), event, viewer, input);
    (call.id, call.wants_view) = (id, wants_view);
    Ok((registry.dispatch(call).await.map_err(failed)?, key))
}

/// Returns the event id that the client has chosen, if any.
fn event_id(parts: &Parts) -> Result<Option<EventId>, Box<Problem>> {
    let Some(value) = parts.headers.get(&EVENT_HEADER) else { return Ok(None) };
    value
        .as_bytes()
        .try_into()
        .map(Some)
        .map_err(|_| bad_request("the header `Faststate-Event` must be 1 to 64 bytes of visible ASCII"))
}

/// Returns whether the client's page follows the key's signals. If so, its stream carries the change.
fn follows_signals(parts: &Parts, key: &Key) -> bool {
    let named = parts.headers.get_all(&FOLLOWS_HEADER).into_iter().filter_map(|value| value.to_str().ok());
    let mut topics = named.flat_map(|value| value.split(',')).filter_map(|text| text.trim().parse().ok());
    topics.any(|topic: TopicName| {
        topic.view.is_none() && topic.state == key.state() && topic.id.as_deref() == key.id().as_deref()
    })
}

async fn read_body<B>(body: B, bytes: usize) -> Result<Bytes, Box<Problem>>
where
    B: Body + Send,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    match tokio::time::timeout(BODY_TIMEOUT, collect(pin!(body), limit(bytes))).await {
        Ok(Ok(Some(body))) => Ok(body),
        Ok(Ok(None)) => {
            let detail = format!("an event has at most {bytes} bytes");
            Err(refusal(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "Too large", detail))
        }
        Ok(Err(_)) => Err(bad_request("the body broke off")),
        Err(_) => {
            let detail = "the body took too long to arrive";
            Err(refusal(StatusCode::REQUEST_TIMEOUT, "timed_out", "Took too long", detail))
        }
    }
}

/// Reads the body; returns `None` if it is longer than `max` bytes.
///
/// Of a longer body, up to [`MAX_DISCARDED_BYTES`] beyond `max` are read and discarded: if the connection
/// were closed before the client has sent everything, the client would get a reset instead of the response.
async fn collect<B: Body>(mut body: Pin<&mut B>, max: usize) -> Result<Option<Bytes>, B::Error> {
    let mut first = Bytes::new();
    let mut collected = BytesMut::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame?.into_data() else { continue };
        let is_first = length == 0;
        length = length.saturating_add(data.remaining());
        if length > max {
            if length - max > MAX_DISCARDED_BYTES {
                break;
            }
        } else if is_first {
            // Most bodies arrive in one piece, which is not copied.
            first = data.copy_to_bytes(data.remaining());
        } else {
            collected.put(std::mem::take(&mut first));
            collected.put(data);
        }
    }
    let whole = if first.is_empty() { collected.freeze() } else { first };
    Ok((length <= max).then_some(whole))
}

fn bad_request(detail: &str) -> Box<Problem> {
    refusal(StatusCode::BAD_REQUEST, "bad_request", "Bad request", detail)
}

fn refusal(
    status: StatusCode,
    kind: &'static str,
    title: &'static str,
    detail: impl Into<String>,
) -> Box<Problem> {
    Box::new(Problem::new(status, kind, title, detail))
}
