//! Requests to the registry and their outcomes.

use std::{any::Any, borrow::Cow, fmt, str::FromStr, sync::Arc};

use bytes::Bytes;
use http::Method;
use percent_encoding::percent_decode_str;
use tokio::sync::mpsc;

use crate::{
    Elements, EventId, Key, Version, Viewer,
    patch::EncodedFields,
    wire::{Input, SignalPath},
};

/// A request to apply an event, from outside the application.
#[derive(Debug)]
#[non_exhaustive]
pub struct Call {
    /// The instance, as returned by [`Registry::key`](super::Registry::key).
    pub key: Key,
    /// The event's name.
    pub event: Cow<'static, str>,
    /// The sender.
    pub viewer: Viewer,
    /// The raw input.
    pub input: Input,
    /// The caller's id for the event. Without one, the engine generates an id.
    pub id: Option<EventId>,
    /// Whether the reply must contain the state's signals, because the caller does not follow them.
    #[doc(hidden)]
    pub wants_view: bool,
}

impl Call {
    /// Creates a call of a caller that follows the state, under an id that the engine generates.
    #[must_use]
    pub fn new(key: Key, event: impl Into<Cow<'static, str>>, viewer: Viewer, input: Input) -> Self {
        Self { key, event: event.into(), viewer, input, id: None, wants_view: false }
    }

    /// Sets the caller's own id. Calls with the same id are applied once (law 3).
    #[must_use]
    pub fn with_id(mut self, id: EventId) -> Self {
        self.id = Some(id);
        self
    }

    /// Requests the state's signals in the reply, for a caller that does not follow the state.
    #[doc(hidden)]
    #[must_use]
    pub const fn wanting_view(mut self) -> Self {
        self.wants_view = true;
        self
    }
}

/// A mutation of one instance, created by [`Handle`](crate::Handle).
pub struct HandleRequest {
    /// A `Box<dyn Mutation<S>>`; the instance table of the key's state downcasts it.
    pub(crate) mutation: Box<dyn Any + Send>,
    pub(crate) viewer: Viewer,
    pub(crate) id: Option<EventId>,
}

impl fmt::Debug for HandleRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandleRequest")
            .field("viewer", &self.viewer)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// The outcome of an accepted event.
#[derive(Debug)]
pub struct Outcome {
    /// Whether the event changed the state.
    pub answer: Applied,
    /// The instance's version after the event.
    pub version: Version,
    /// The signals after the event, if the call requested them.
    #[doc(hidden)]
    pub view: Option<ReplyView>,
    /// Elements for the caller.
    pub elements: Vec<Elements>,
    /// The streamed reply, if there is one. Dropping it stops its writer.
    #[doc(hidden)]
    pub stream: Option<ReplyStream>,
    /// The names of the event's fields, whose error messages the reply clears.
    #[doc(hidden)]
    pub fields: &'static [&'static str],
}

impl Outcome {
    /// Creates an outcome that sends nothing to the caller.
    pub(super) const fn quiet(answer: Applied, version: Version) -> Self {
        Self { answer, version, view: None, elements: Vec::new(), stream: None, fields: &[] }
    }
}

/// The receiving end of a streamed reply. Each piece is one or more encoded SSE events.
#[derive(Debug)]
pub struct ReplyStream(pub(crate) mpsc::Receiver<Bytes>);

impl ReplyStream {
    /// Waits for the next piece. Returns `None` at the end of the reply.
    ///
    /// # Cancellation
    /// Dropping the future loses no piece.
    #[doc(hidden)]
    pub async fn next(&mut self) -> Option<Bytes> {
        self.0.recv().await
    }

    #[doc(hidden)]
    #[must_use]
    pub const fn new(receiver: mpsc::Receiver<Bytes>) -> Self {
        Self(receiver)
    }

    #[doc(hidden)]
    #[must_use]
    pub fn into_receiver(self) -> mpsc::Receiver<Bytes> {
        self.0
    }
}

/// A key's signals without a cursor, for the reply to a caller that does not follow them.
#[derive(Clone, Debug)]
pub struct ReplyView {
    nest: SignalPath,
    image: EncodedFields,
}

impl ReplyView {
    #[doc(hidden)]
    #[must_use]
    pub const fn new(nest: SignalPath, image: EncodedFields) -> Self {
        Self { nest, image }
    }

    /// Returns a JSON object that nests the signals under the state's name.
    #[must_use]
    pub fn json(&self) -> Bytes {
        self.nest.json(Some(&self.image), None)
    }

    /// Returns the SSE events that merge the signals into a page.
    #[must_use]
    pub fn events(&self) -> Bytes {
        self.nest.view(&self.image)
    }

    #[doc(hidden)]
    pub fn append_events(&self, out: &mut Vec<u8>) {
        self.nest.append_view(out, &self.image);
    }
}

/// The effect of an accepted event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Applied {
    /// The event changed the state.
    Changed,
    /// The event was applied and changed nothing.
    Unchanged,
    /// The event had already been applied under the same id.
    Repeated,
}

/// The current state of an instance, which [`Handle`](crate::Handle) downcasts.
#[derive(Clone)]
#[non_exhaustive]
pub struct StateSnapshot {
    /// The state, of the type that the key names.
    pub state: Arc<dyn Any + Send + Sync>,
    /// The version of the state.
    pub version: Version,
    /// Whether the store did not respond to the last call, so that it may hold a newer version.
    pub stale: bool,
}

impl fmt::Debug for StateSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateSnapshot")
            .field("version", &self.version)
            .field("stale", &self.stale)
            .finish_non_exhaustive()
    }
}

/// The initial content of a topic in a page, at one version.
#[derive(Clone, Debug)]
pub enum Rendered {
    /// A JSON object that nests the key's signals and the cursor under the state's name.
    Signals(Bytes),
    /// The elements of a view, and a JSON object that contains its cursor.
    View(Elements, Bytes),
}

/// An event that can be called over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path pattern: `/faststate/counter/increment`, `/faststate/product/{id}/rename`, or
    /// [`Event::PATH`](crate::Event::PATH).
    pub path: Cow<'static, str>,
    /// The state's name.
    pub state: &'static str,
    /// The event's name.
    pub event: &'static str,
}

/// The name of a topic: a key's signals, or one of the key's views.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TopicName {
    /// The state's name.
    pub state: String,
    /// The id of the record or component.
    pub id: Option<String>,
    /// The view's name, or `None` for the signals.
    pub view: Option<String>,
}

/// The error of parsing a [`TopicName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a topic is `state`, `state:id`, `state.view` or `state:id.view`, with `%`, `,`, `:` and `.` of an id percent-encoded"
)]
#[non_exhaustive]
pub struct TopicNameError;

impl TopicName {
    /// Names the signals of a state without an id.
    #[must_use]
    pub fn signals(state: impl Into<String>) -> Self {
        Self { state: state.into(), id: None, view: None }
    }

    /// Names the same topic of the instance with this id.
    #[must_use]
    pub fn of(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Names a view of the same instance.
    #[must_use]
    pub fn view(mut self, view: impl Into<String>) -> Self {
        self.view = Some(view.into());
        self
    }
}

impl FromStr for TopicName {
    type Err = TopicNameError;

    fn from_str(text: &str) -> Result<Self, TopicNameError> {
        let (rest, view) = match text.split_once('.') {
            Some((rest, view)) => (rest, Some(view)),
            None => (text, None),
        };
        let (state, id) = match rest.split_once(':') {
            Some((state, id)) => (state, Some(id)),
            None => (rest, None),
        };
        let id = id.map(|id| percent_decode_str(id).decode_utf8()).transpose().map_err(|_| TopicNameError)?;
        let legal = !state.is_empty() && view != Some("") && id.as_deref() != Some("");
        legal
            .then(|| Self {
                state: state.to_owned(),
                id: id.map(Cow::into_owned),
                view: view.map(str::to_owned),
            })
            .ok_or(TopicNameError)
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.state)?;
        if let Some(id) = &self.id {
            write!(f, ":{}", percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC))?;
        }
        if let Some(view) = &self.view {
            write!(f, ".{view}")?;
        }
        Ok(())
    }
}
