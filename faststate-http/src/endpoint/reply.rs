//! HTTP responses and their bodies.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
};

use bytes::Bytes;
use faststate_core::{Key, internal::frame, registry::Outcome};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::{
    field_errors,
    problem::{Problem, ProblemView},
    stream_body::{GONE, StreamBody},
};

/// The body of a response: complete bytes, a stream that follows states, or a streamed reply of an event.
///
/// Its pieces are ready for the wire: an adapter sends each piece unchanged and without copying it. Dropping the body
/// ends the stream or the streamed reply.
pub struct ReplyBody(ReplyKind);

enum ReplyKind {
    Complete(Bytes),
    Stream(Box<StreamBody>),
    /// A reply that the application is still writing.
    Streamed {
        first: Bytes,
        rest: mpsc::Receiver<Bytes>,
    },
}

impl ReplyBody {
    pub(super) fn full(bytes: impl Into<Bytes>) -> Self {
        Self(ReplyKind::Complete(bytes.into()))
    }

    pub(super) fn stream(body: Box<StreamBody>) -> Self {
        Self(ReplyKind::Stream(body))
    }

    /// Returns whether this is a stream that follows states, which continues until either side ends it.
    #[must_use]
    pub const fn is_stream(&self) -> bool {
        matches!(self.0, ReplyKind::Stream(_))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut self.get_mut().0 {
            ReplyKind::Complete(bytes) => Poll::Ready((!bytes.is_empty()).then(|| std::mem::take(bytes))),
            ReplyKind::Stream(body) => body.poll_next(cx),
            ReplyKind::Streamed { first, .. } if !first.is_empty() => {
                Poll::Ready(Some(std::mem::take(first)))
            }
            ReplyKind::Streamed { rest, .. } => rest.poll_recv(cx),
        };
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, ReplyKind::Complete(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            ReplyKind::Complete(bytes) => SizeHint::with_exact(bytes.len() as u64),
            ReplyKind::Stream(_) | ReplyKind::Streamed { .. } => SizeHint::default(),
        }
    }
}

impl fmt::Debug for ReplyBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            ReplyKind::Complete(_) => "ReplyBody::Complete",
            ReplyKind::Stream(_) => "ReplyBody::Stream",
            ReplyKind::Streamed { .. } => "ReplyBody::Streamed",
        })
    }
}

static VERSION: HeaderName = HeaderName::from_static("faststate-version");
static BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) const EVENT_STREAM: &str = "text/event-stream";
pub(super) const JSON: &str = "application/json";

/// The headers of every response that carries SSE events.
static EVENT_HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| {
    // A proxy that compresses or buffers the response delays events.
    let mut headers = headers("no-cache, no-transform");
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
    headers.insert(BUFFERING.clone(), HeaderValue::from_static("no"));
    headers
});
/// The headers of every other response.
static OTHER_HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| headers("no-store"));

/// The same headers with an empty version. Replacing its value in a copy avoids growing the map for one more header.
static VERSIONED_EVENT_HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| versioned(&EVENT_HEADERS));
static VERSIONED_JSON_HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| versioned(&OTHER_HEADERS));

fn versioned(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    headers.insert(VERSION.clone(), HeaderValue::from_static(""));
    headers
}

fn headers(cached: &'static str) -> HeaderMap {
    HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static(JSON)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static(cached)),
    ])
}

/// Returns a response with the common headers.
pub(super) fn answer(status: StatusCode, content_type: &'static str, body: ReplyBody) -> Response<ReplyBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = if content_type == EVENT_STREAM {
        EVENT_HEADERS.clone()
    } else {
        let mut headers = OTHER_HEADERS.clone();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers
    };
    response
}

/// Returns `204 No Content`, which makes Datastar stop reconnecting. The version header distinguishes it from a
/// proxy's 204.
pub(super) fn no_content() -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::full(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(VERSION.clone(), HeaderValue::from_static(GONE));
    response
}

/// Returns a 303 to another address that sets a cookie.
#[cfg(feature = "inspector")]
pub(super) fn see_other(address: &'static str, cookie: HeaderValue) -> Response<ReplyBody> {
    let mut response = no_content();
    *response.status_mut() = StatusCode::SEE_OTHER;
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(address));
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response
}

/// Returns the response for a problem: a 200 with patches for Datastar, which ignores the body of any other status, or
/// the status and `application/problem+json` for other clients.
pub(super) fn problem(problem: &Problem, patches: Option<&dyn ProblemView>) -> Response<ReplyBody> {
    match patches {
        Some(view) => answer(StatusCode::OK, EVENT_STREAM, ReplyBody::full(problem.frames(view))),
        None => status(problem),
    }
}

/// Returns the response for a problem with its status and `application/problem+json`.
pub(super) fn status(problem: &Problem) -> Response<ReplyBody> {
    let mut response = answer(problem.status, "application/problem+json", ReplyBody::full(problem.json()));
    if let Some(seconds) = problem.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// The initial capacity of a reply, in bytes. Most replies fit without growing.
const REPLY_CAPACITY: usize = 512;

/// Returns the response to an accepted event.
pub(super) fn accepted(outcome: Outcome, key: &Key, event: &str, datastar: bool) -> Response<ReplyBody> {
    let Outcome { version, view, elements, stream, fields, .. } = outcome;
    let (headers, body) = if datastar || stream.is_some() {
        let mut out = Vec::with_capacity(REPLY_CAPACITY);
        frame::append_elements(&mut out, &elements);
        if let Some(view) = view {
            view.append_events(&mut out);
        }
        if out.is_empty() && stream.is_none() {
            push_cleared_errors(&mut out, key, event, fields);
            (&VERSIONED_JSON_HEADERS, ReplyBody::full(out))
        } else {
            if datastar {
                frame::push_signals(&mut out, |out| push_cleared_errors(out, key, event, fields));
            }
            let first = Bytes::from(out);
            let body = match stream {
                Some(pieces) => ReplyBody(ReplyKind::Streamed { first, rest: pieces.into_receiver() }),
                None => ReplyBody::full(first),
            };
            (&VERSIONED_EVENT_HEADERS, body)
        }
    } else {
        let json = view.map_or(Bytes::from_static(b"{}"), |view| view.json());
        (&VERSIONED_JSON_HEADERS, ReplyBody::full(json))
    };
    let mut response = Response::new(body);
    *response.headers_mut() = HeaderMap::clone(headers);
    if let (Some(value), Ok(version)) = (response.headers_mut().get_mut(&VERSION), version.text().try_into())
    {
        *value = version;
    }
    response
}

/// Appends the signals, as JSON, that clear the messages of an earlier problem of the event.
fn push_cleared_errors(json: &mut Vec<u8>, key: &Key, event: &str, fields: &[&str]) {
    json.extend_from_slice(br#"{"_problem":"""#);
    field_errors::push_removed(json, key.state(), key.id().as_deref(), event, fields);
    json.push(b'}');
}

#[cfg(test)]
mod tests {
    use faststate_core::{
        Elements, Scope, Version,
        internal::{EncodedFields, ReplyView, SignalPath},
        registry::{Applied, ReplyStream},
    };
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};

    use super::*;

    fn outcome() -> Outcome {
        Outcome {
            answer: Applied::Changed,
            version: Version::start(),
            view: None,
            elements: Vec::new(),
            stream: None,
            fields: &["amount", "user"],
        }
    }

    fn key() -> Key {
        Key::new("counter", Scope::Global, None, None).unwrap()
    }

    fn view() -> ReplyView {
        let image = EncodedFields::of(&json!({ "count": 5 })).unwrap();
        ReplyView::new(SignalPath::of(&key(), None), image)
    }

    async fn text(response: Response<ReplyBody>) -> String {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn event_without_reply_clears_errors() {
        let response = accepted(outcome(), &key(), "increment", true);
        assert_eq!(response.headers()["content-type"], JSON);
        assert!(response.headers().contains_key("faststate-version"));
        let json: Value = serde_json::from_str(&text(response).await).unwrap();
        let fields = json!({"amount": "", "increment__amount": "", "user": "", "increment__user": ""});
        assert_eq!(json, json!({"_problem": "", "_errors": {"counter": fields}}));
    }

    #[tokio::test]
    async fn other_clients_receive_the_view_as_json() {
        let outcome = Outcome { view: Some(view()), elements: vec![Elements::remove("#x")], ..outcome() };
        let response = accepted(outcome, &key(), "increment", false);
        assert_eq!(text(response).await, "{\"counter\":{\"count\":5}}");
    }

    #[tokio::test]
    async fn streamed_reply_passes_pieces_on() {
        let (sender, receiver) = mpsc::channel(2);
        let outcome = Outcome { view: Some(view()), stream: Some(ReplyStream::new(receiver)), ..outcome() };
        let response = accepted(outcome, &key(), "increment", false);
        assert_eq!(response.headers()["content-type"], EVENT_STREAM);
        sender.send("one".into()).await.unwrap();
        sender.send("two".into()).await.unwrap();
        drop(sender);
        let text = text(response).await;
        assert!(
            text.starts_with("event: datastar-patch-signals\n") && text.ends_with("\n\nonetwo"),
            "{text}"
        );
    }
}
