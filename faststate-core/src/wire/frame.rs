//! The bytes of SSE events.
use crate::{Elements, Key, Version, patch::Image};
use bytes::Bytes;

/// A comment that keeps a quiet stream alive.
pub const PING: Bytes = Bytes::from_static(b": ping\n\n");

/// The bytes of one or more SSE events for one change, and then a block with only `id:`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {}

impl Frame {
    /// Events and the `id:` block, for a stream of one topic.
    #[must_use]
    pub fn with_id(&self) -> Bytes {
        todo!()
    }
    /// The events alone, for a stream of several topics.
    #[must_use]
    pub fn plain(&self) -> Bytes {
        todo!()
    }
    /// The `id:` block alone.
    #[must_use]
    pub fn id_block(&self) -> Bytes {
        todo!()
    }
    /// What it costs a log, in bytes: its length and a constant.
    #[must_use]
    pub fn cost(&self) -> usize {
        todo!()
    }
    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        todo!()
    }
    /// This frame with `elements` before the events.
    #[must_use]
    pub fn with_elements(self, _elements: &[Elements]) -> Self {
        todo!()
    }
}

/// Where a topic's signals are nested, written once per instance.
#[derive(Clone, Debug)]
pub struct Nest {}

impl Nest {
    /// The place of a key's signals, or of the cursor of one of its views.
    #[must_use]
    pub fn of(_key: &Key, _view: Option<&str>) -> Self {
        todo!()
    }
    /// The change from `before` to `after`; empty if nothing visible changed.
    #[must_use]
    pub fn change(&self, _before: &Image, _after: &Image, _cursor: Version) -> Frame {
        todo!()
    }
    /// Everything.
    #[must_use]
    pub fn snapshot(&self, _image: &Image, _cursor: Version) -> Frame {
        todo!()
    }
    /// Elements, and the cursor after them; empty if there are no elements.
    #[must_use]
    pub fn elements(&self, _elements: &[Elements], _cursor: Version) -> Frame {
        todo!()
    }
    /// The nested JSON object of an image (none: a view's cursor alone), with the cursor if there is one.
    #[must_use]
    pub fn json(&self, _image: Option<&Image>, _cursor: Option<Version>) -> Bytes {
        todo!()
    }
    /// The snapshot's events without a cursor, for the reply to a caller that does not follow.
    #[must_use]
    pub fn view(&self, _image: &Image) -> Bytes {
        todo!()
    }
}

/// The events that patch these elements.
#[must_use]
pub fn elements(_elements: &[Elements]) -> Bytes {
    todo!()
}

/// One event that merges a JSON object, given as strict JSON, at the root.
#[must_use]
pub fn signals(_json: &[u8]) -> Bytes {
    todo!()
}
