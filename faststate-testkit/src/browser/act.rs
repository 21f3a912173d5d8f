//! What an element of a page does when somebody acts on it.

use bytes::Bytes;
use faststate_core::{Action, Event, registry::TopicName};
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{script::Script, signal_tree::SignalTree};
use crate::Failure;

/// What an element of a page does when somebody acts on it: an event, an [`Action`] with an id and bound signals,
/// or the text of a `data-on:*` attribute.
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

/// A request that an act made: with its own event id, the same however often it is sent.
#[derive(Clone, Debug)]
pub struct Click {
    method: Method,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Act {
    /// The request that the act makes of a page that follows these topics.
    pub(super) fn click(self, signals: &SignalTree, topics: &[TopicName]) -> Result<Click, Failure> {
        const PROMISE: &str = "an action makes a request";
        let text = match self.0 {
            ActKind::Written(text) => text,
            // A page that does not follow the state would ask for its signals.
            ActKind::Event(action) => {
                let topic = action.topic().parse().ok();
                let follows = topic.is_some_and(|topic| topics.contains(&topic));
                if follows { action.to_string() } else { action.with_reply().to_string() }
            }
        };
        let sending = Script::new(&text).action(signals)?;
        let payload = sending.payload.unwrap_or_else(|| signals.sent()).to_string();
        let in_url = matches!(sending.method, Method::GET | Method::DELETE);
        let (uri, body) = if in_url {
            (in_query(&sending.url, &payload), Bytes::new())
        } else {
            (sending.url, payload.into())
        };
        let uri = Uri::try_from(uri).map_err(|error| Failure::error(PROMISE, &error))?;
        let mut headers = Vec::new();
        for (name, value) in sending.headers {
            let name = HeaderName::try_from(name).map_err(|error| Failure::error(PROMISE, &error))?;
            let value = HeaderValue::try_from(value).map_err(|error| Failure::error(PROMISE, &error))?;
            headers.push((name, value));
        }
        if !in_url {
            let json = HeaderValue::from_static("application/json");
            headers.push((http::header::CONTENT_TYPE, json));
        }
        Ok(Click { method: sending.method, uri, headers, body })
    }
}

impl Click {
    /// The event's id, if the action minted one.
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

/// A URL with JSON in its query, as Datastar sends it.
pub(super) fn in_query(url: &str, json: &str) -> String {
    let mark = if url.contains('?') { '&' } else { '?' };
    format!("{url}{mark}datastar={}", utf8_percent_encode(json, NON_ALPHANUMERIC))
}
