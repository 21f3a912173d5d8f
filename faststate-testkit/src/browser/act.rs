//! Actions and the requests that they send.

use bytes::Bytes;
use faststate_core::{Action, Event, internal::TopicName};
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{script::Script, signal_tree::SignalTree};
use crate::Failure;

/// The action of a page element: an event, an [`Action`] with an id and bound signals, or the text of a `data-on:*`
/// attribute.
#[derive(Clone, Debug)]
pub struct Act(ActKind);

#[derive(Clone, Debug)]
enum ActKind {
    Event(Action),
    Written(String),
}

impl<E: Event> From<&E> for Act {
    fn from(event: &E) -> Self {
        Self(ActKind::Event(event.action()))
    }
}

impl From<Action> for Act {
    fn from(action: Action) -> Self {
        Self(ActKind::Written(action.to_string()))
    }
}

impl From<&str> for Act {
    fn from(text: &str) -> Self {
        Self(ActKind::Written(text.to_owned()))
    }
}

impl From<String> for Act {
    fn from(text: String) -> Self {
        Self(ActKind::Written(text))
    }
}

/// The request of an action. Its event id stays the same when the request is sent again.
#[derive(Clone, Debug)]
pub struct Click {
    method: Method,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Act {
    /// Builds the request that a page with these signals and followed topics sends.
    pub(super) fn click(self, signals: &SignalTree, topics: &[TopicName]) -> Result<Click, Failure> {
        const PROMISE: &str = "an action sends a valid request";
        let text = match self.0 {
            ActKind::Written(text) => text,
            // A page that does not follow the state requests its signals in the response.
            ActKind::Event(action) => {
                let topic = action.topic().parse().ok();
                let follows = topic.is_some_and(|topic| topics.contains(&topic));
                if follows { action.to_string() } else { action.with_reply().to_string() }
            }
        };
        let sent = Script::new(&text).action(signals)?;
        let payload = sent.payload.unwrap_or_else(|| signals.sent()).to_string();
        let in_url = matches!(sent.method, Method::GET | Method::DELETE);
        let (uri, body) =
            if in_url { (in_query(&sent.url, &payload), Bytes::new()) } else { (sent.url, payload.into()) };
        let uri = Uri::try_from(uri).map_err(|error| Failure::error(PROMISE, &error))?;
        let mut headers = Vec::new();
        for (name, value) in sent.headers {
            let name = HeaderName::try_from(name).map_err(|error| Failure::error(PROMISE, &error))?;
            let value = HeaderValue::try_from(value).map_err(|error| Failure::error(PROMISE, &error))?;
            headers.push((name, value));
        }
        if !in_url {
            let json = HeaderValue::from_static("application/json");
            headers.push((http::header::CONTENT_TYPE, json));
        }
        Ok(Click { method: sent.method, uri, headers, body })
    }
}

impl Click {
    /// The event id, if the action generates one.
    #[must_use]
    pub fn event_id(&self) -> Option<&str> {
        let (_, id) = self.headers.iter().find(|(name, _)| name == "faststate-event")?;
        id.to_str().ok()
    }

    pub(super) fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().extend(self.headers.iter().cloned());
        request
    }
}

/// Adds JSON to the query of a URL, as Datastar does.
pub(super) fn in_query(url: &str, json: &str) -> String {
    let mark = if url.contains('?') { '&' } else { '?' };
    format!("{url}{mark}datastar={}", utf8_percent_encode(json, NON_ALPHANUMERIC))
}
