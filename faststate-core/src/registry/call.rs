//! What is asked of the registry, and what it answers.

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

/// An event from outside.
#[derive(Debug)]
#[non_exhaustive]
pub struct Call {
    /// The instance, as [`Registry::key`](super::Registry::key) gave it.
    pub key: Key,
    /// The event's name.
    pub event: Cow<'static, str>,
    /// Who sent it.
    pub viewer: Viewer,
    /// The raw input.
    pub input: Input,
    /// The caller's id of the event; without one the engine mints one.
    pub id: Option<EventId>,
    /// Whether the reply needs the state's signals, because the caller does not follow them.
    pub wants_view: bool,
}

impl Call {
    /// The event of this name, under an id that the engine mints, from a caller who follows the state.
    #[must_use]
    pub fn new(key: Key, event: impl Into<Cow<'static, str>>, viewer: Viewer, input: Input) -> Self {
        Self { key, event: event.into(), viewer, input, id: None, wants_view: false }
    }

    /// This call, under the caller's own id: however often it comes, it counts once (law 3).
    #[must_use]
    pub fn with_id(mut self, id: EventId) -> Self {
        self.id = Some(id);
        self
    }

    /// This call, of a caller who does not follow the state.
    #[must_use]
    pub const fn wanting_view(mut self) -> Self {
        self.wants_view = true;
        self
    }
}

/// A piece of work for one instance's turn, made by [`Handle`](crate::Handle).
pub struct Job {
    /// A `Box<dyn Mutation<S>>`, which the state that the key names takes out again.
    pub(crate) attempt: Box<dyn Any + Send>,
    pub(crate) viewer: Viewer,
    pub(crate) id: Option<EventId>,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("viewer", &self.viewer).field("id", &self.id).finish_non_exhaustive()
    }
}

/// An accepted event.
#[derive(Debug)]
pub struct Outcome {
    /// What became of it.
    pub answer: Applied,
    /// The instance's version after it.
    pub version: Version,
    /// The signals after it, if the call wanted them.
    pub view: Option<ReplyView>,
    /// Elements for the caller.
    pub elements: Vec<Elements>,
    /// The pieces of a streamed reply: whoever drops them tells the writer to stop.
    pub stream: Option<ReplyStream>,
    /// The names of the event's fields, whose error messages the reply takes away.
    pub fields: &'static [&'static str],
}

/// The pieces of a streamed reply, as they are written: SSE events, ready for the wire.
#[derive(Debug)]
pub struct ReplyStream(pub(crate) mpsc::Receiver<Bytes>);

impl ReplyStream {
    /// The next piece, once it is written; none at the end of the reply.
    ///
    /// # Cancellation
    /// A dropped future loses no piece.
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

/// A key's signals for the reply to a caller that does not follow them: without a cursor.
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

    /// A JSON object that nests the signals under the state's name.
    #[must_use]
    pub fn json(&self) -> Bytes {
        self.nest.json(Some(&self.image), None)
    }

    /// The SSE events that merge the signals into a page.
    #[must_use]
    pub fn events(&self) -> Bytes {
        self.nest.view(&self.image)
    }

    #[doc(hidden)]
    pub fn append_events(&self, out: &mut Vec<u8>) {
        self.nest.append_view(out, &self.image);
    }
}

/// What became of an accepted event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Applied {
    /// It changed the state.
    Changed,
    /// It was applied and changed nothing.
    Unchanged,
    /// It had been applied before.
    Repeated,
}

/// A state as it is now, for [`Handle`](crate::Handle) to make typed.
#[derive(Clone)]
#[non_exhaustive]
pub struct StateSnapshot {
    /// An `S` behind `dyn Any`.
    pub state: Arc<dyn Any + Send + Sync>,
    /// Its version.
    pub version: Version,
    /// Whether the store did not answer when it was asked, so that there may be something newer.
    pub stale: bool,
}

impl fmt::Debug for StateSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading")
            .field("version", &self.version)
            .field("stale", &self.stale)
            .finish_non_exhaustive()
    }
}

/// What a page shows of a topic, at one version.
#[derive(Clone, Debug)]
pub enum Rendered {
    /// A key's signals: a JSON object that nests them under the state's name, cursor included.
    Signals(Bytes),
    /// A view: its elements, and the JSON object that carries its cursor.
    View(Elements, Bytes),
}

/// An event that can be called over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path pattern: `/faststate/counter/increment`, `/faststate/product/{id}/rename`, or the
    /// event's own.
    pub path: Cow<'static, str>,
    /// The state's name.
    pub state: &'static str,
    /// The event's name.
    pub event: &'static str,
}

/// What can be followed: a key's signals, or one view of the key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TopicName {
    /// The state's name.
    pub state: String,
    /// The record's or component's id.
    pub id: Option<String>,
    /// The view's name; without one, the signals.
    pub view: Option<String>,
}

/// The text is not a topic: `state`, `state:id`, `state.view` or `state:id.view`, ids percent-encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a topic is `state`, `state:id`, `state.view` or `state:id.view`, with `%`, `,`, `:` and `.` of an id percent-encoded"
)]
#[non_exhaustive]
pub struct TopicNameError;

impl TopicName {
    /// The signals of a state without an id.
    #[must_use]
    pub fn signals(state: impl Into<String>) -> Self {
        Self { state: state.into(), id: None, view: None }
    }

    /// This topic, of the instance with this id.
    #[must_use]
    pub fn of(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// This topic's view of this name.
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
