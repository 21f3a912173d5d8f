//! Frames: the encoded bytes of one change, shared by all followers.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

use super::events::elements_capacity;
pub use super::events::{PING, append_elements, elements, push_signals, signals};
use crate::{
    Elements,
    patch::{FieldChange, Residue},
};

/// Bytes that an entry of a topic's log occupies besides the bytes of its frame.
const ENTRY_OVERHEAD: usize = 128;

/// The bytes of one or more SSE events for one change, followed by a block that contains only an `id:` line.
///
/// A frame is encoded once and shared: clones and parts of it reference the same bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    bytes: Bytes,
    /// Length of the events in bytes, without the `id:` block.
    events: usize,
    /// The fields that the change sets, if it does nothing else.
    fields: Option<Arc<[SetField]>>,
}

/// A field that a change sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SetField {
    /// The position of the field's name in the frame.
    start: u32,
    len: u16,
    residue: Residue,
}

impl Frame {
    /// Ends a frame. The last patch in `out` contains its cursor at `cursor`.
    pub(super) fn close(mut out: Vec<u8>, cursor: Range<usize>) -> Self {
        let events = out.len();
        out.extend_from_slice(b"id: ");
        out.extend_from_within(cursor);
        out.extend_from_slice(b"\n\n");
        Self { bytes: out.into(), events, fields: None }
    }

    /// Adds the fields that the frame sets, so that it can be merged with others.
    pub(super) fn with_fields(self, fields: Vec<SetField>) -> Self {
        Self { fields: Some(fields.into()), ..self }
    }

    /// Returns the names of the fields that the frame sets, and the residue of their old values. `None` if the frame
    /// also does something else; an item is `None` if its position is unknown.
    pub(super) fn fields(&self) -> Option<impl Iterator<Item = Option<(&[u8], Residue)>>> {
        let fields = self.fields.as_deref()?.iter();
        Some(fields.map(|field| {
            let name = self.bytes.get(field.start as usize..)?.get(..field.len.into())?;
            Some((name, field.residue))
        }))
    }

    /// Returns the bytes that a follower receives, with the `id:` block or without.
    #[must_use]
    pub fn bytes(&self, id: bool) -> Bytes {
        if id { self.with_id() } else { self.plain() }
    }

    /// Returns the events and the `id:` block, for a stream of one topic.
    #[must_use]
    pub fn with_id(&self) -> Bytes {
        self.bytes.clone()
    }

    /// Returns the events alone, for a stream of several topics.
    #[must_use]
    pub fn plain(&self) -> Bytes {
        self.bytes.slice(..self.events)
    }

    /// Returns the `id:` block alone.
    #[must_use]
    pub fn id_block(&self) -> Bytes {
        self.bytes.slice(self.events..)
    }

    /// Returns the frame's share of a log's size limit in bytes: its length plus a constant.
    #[must_use]
    pub fn cost(&self) -> usize {
        let fields = self.fields.as_deref().map_or(0, size_of_val);
        self.bytes.len() + fields + ENTRY_OVERHEAD
    }

    /// Returns the length of the events in bytes, without the `id:` block.
    pub const fn len(&self) -> usize {
        self.events
    }

    /// Returns whether the frame contains no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns this frame with the patch of `elements` before its events.
    #[must_use]
    pub fn with_elements(self, elements: &[Elements]) -> Self {
        if elements.is_empty() {
            return self;
        }
        let mut out = Vec::with_capacity(elements_capacity(elements) + self.bytes.len());
        append_elements(&mut out, elements);
        let events = out.len() + self.events;
        out.extend_from_slice(&self.bytes);
        Self { bytes: out.into(), events, fields: None }
    }
}

impl SetField {
    /// Describes the field whose name and colon end at `end`.
    pub(super) fn before(end: usize, change: &FieldChange<'_>) -> Self {
        let len = change.name.len();
        Self {
            // These conversions do not fail: a frame is smaller than 4 GiB, and a name has at most 64 bytes.
            start: u32::try_from(end - len - 2).unwrap_or(u32::MAX),
            len: u16::try_from(len).unwrap_or(u16::MAX),
            residue: change.residue,
        }
    }
}
