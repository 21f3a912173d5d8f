//! The bytes of SSE events.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;

use super::events::push_elements;
pub use super::events::push_signals;
use crate::{
    Elements, Key, Version,
    patch::{EncodedFields, FieldChange, Residue, diff},
};

/// A comment that keeps a quiet stream alive.
pub const PING: Bytes = Bytes::from_static(b": ping\n\n");

/// What a log's entry costs besides its bytes.
const ENTRY: usize = 128;

/// The bytes of one or more SSE events for one change, and then a block with only `id:`.
///
/// Encoded once and shared: a clone, and each part, is a reference to the same bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    bytes: Bytes,
    /// How many of the bytes are events.
    events: usize,
    /// The fields that a change has set, if that is all there is to it.
    fields: Option<Arc<[Touched]>>,
}

/// A field that a change has set: where its name is in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Touched {
    start: u32,
    len: u16,
    residue: Residue,
}

impl Frame {
    /// What a follower is sent: with the `id:` block or without.
    #[must_use]
    pub fn bytes(&self, id: bool) -> Bytes {
        if id { self.with_id() } else { self.plain() }
    }

    /// Events and the `id:` block, for a stream of one topic.
    #[must_use]
    pub fn with_id(&self) -> Bytes {
        self.bytes.clone()
    }

    /// The events alone, for a stream of several topics.
    #[must_use]
    pub fn plain(&self) -> Bytes {
        self.bytes.slice(..self.events)
    }

    /// The `id:` block alone.
    #[must_use]
    pub fn id_block(&self) -> Bytes {
        self.bytes.slice(self.events..)
    }

    /// What it costs a log, in bytes: its length and a constant.
    #[must_use]
    pub fn cost(&self) -> usize {
        let fields = self.fields.as_deref().map_or(0, size_of_val);
        self.bytes.len() + fields + ENTRY
    }

    /// How long the events are, in bytes, without the `id:` block.
    pub const fn len(&self) -> usize {
        self.events
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What the frames of several changes come to, given the image after the last: each field that they set,
    /// once, as it is now. None if one of them has more to it than fields.
    ///
    /// Oldest first. `nest` is where the fields are, `cursor` the version of `image`.
    #[must_use]
    pub fn merged<'a>(
        frames: impl Iterator<Item = &'a Self>,
        nest: &SignalPath,
        image: &EncodedFields,
        cursor: Version,
    ) -> Option<Self> {
        let mut fields: HashMap<&[u8], Residue> = HashMap::new();
        for frame in frames.filter(|frame| !frame.is_empty()) {
            for touched in frame.fields.as_deref()? {
                let name = frame.bytes.get(touched.start as usize..)?.get(..touched.len.into())?;
                fields
                    .entry(name)
                    .and_modify(|worst| match touched.residue.max(*worst) {
                        Residue::None => {}
                        // What was hidden at one step may show after another.
                        Residue::Latent | Residue::Present => *worst = Residue::Present,
                    })
                    .or_insert(touched.residue);
            }
        }
        let mut changes: Vec<FieldChange<'_>> = Vec::with_capacity(fields.len());
        for field in image.fields() {
            if let Some(worst) = fields.remove(field.name) {
                let residue = if field.is_object() { worst } else { Residue::None };
                changes.push(FieldChange { name: field.name, value: field.value, residue });
            }
        }
        changes.extend(fields.into_keys().map(|name| FieldChange::absent(name, Residue::Latent)));
        Some(nest.changes(&changes, cursor))
    }

    /// This frame with `elements` before the events.
    #[must_use]
    pub fn with_elements(self, elements: &[Elements]) -> Self {
        if elements.is_empty() {
            return self;
        }
        let mut out = Vec::with_capacity(room_for(elements) + self.bytes.len());
        elements.iter().for_each(|elements| push_elements(&mut out, elements));
        let events = out.len() + self.events;
        out.extend_from_slice(&self.bytes);
        Self { bytes: out.into(), events, fields: None }
    }

    /// Closes a frame whose last patch ends with the cursor written at `cursor`.
    fn close(mut out: Vec<u8>, cursor: std::ops::Range<usize>) -> Self {
        let events = out.len();
        out.extend_from_slice(b"id: ");
        out.extend_from_within(cursor);
        out.extend_from_slice(b"\n\n");
        Self { bytes: out.into(), events, fields: None }
    }
}

impl Touched {
    /// The field whose name and colon have just been written.
    fn at(end: usize, change: &FieldChange<'_>) -> Self {
        let len = change.name.len();
        Self {
            // A frame of 4 GiB does not exist, and a name has at most 64 bytes.
            start: u32::try_from(end - len - 2).unwrap_or(u32::MAX),
            len: u16::try_from(len).unwrap_or(u16::MAX),
            residue: change.residue,
        }
    }
}

/// Where a topic's signals are nested, written once per instance. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SignalPath {
    /// `{"product":{"p1":`
    prefix: Arc<[u8]>,
    /// How many `}` end it.
    depth: usize,
    /// Whether these are the signals of an instance that can be deleted for good: a record or component.
    can_go: bool,
}

/// What an event costs besides its signals: its lines, and the cursor with the `id:` block.
const LINES: usize = 56;
const CURSOR: usize = 112;

impl SignalPath {
    /// The place of a key's signals, or of the cursor of one of its views.
    #[must_use]
    pub fn of(key: &Key, view: Option<&str>) -> Self {
        let mut path = key.signal_path();
        path.extend(view.map(|view| format!("_{view}")));
        // Segments are made of letters, digits and `_`: nothing to escape.
        let prefix = path.iter().map(|segment| format!("{{\"{segment}\":")).collect::<String>();
        let can_go = key.scope().has_id() && view.is_none();
        Self { prefix: prefix.into_bytes().into(), depth: path.len(), can_go }
    }

    /// The change from `before` to `after`; empty if nothing visible changed.
    ///
    /// A field whose old value would shine through the new one (a key of a map is gone) is first `""`,
    /// in an event of its own: a browser merges objects. So are the cursor and the stream's id, for whoever
    /// hears no more than that: without a cursor, everything is sent.
    #[must_use]
    pub fn change(&self, before: &EncodedFields, after: &EncodedFields, cursor: Version) -> Frame {
        self.changes(&diff(before, after), cursor)
    }

    fn changes(&self, changes: &[FieldChange<'_>], cursor: Version) -> Frame {
        if changes.is_empty() {
            return Frame::default();
        }
        let size: usize = changes.iter().map(|change| 2 * change.name.len() + change.value.len() + 12).sum();
        let mut out = Vec::with_capacity(size + 2 * self.room() + CURSOR);
        if changes.iter().any(FieldChange::needs_clearing) {
            let cleared = changes.iter().filter(|change| change.needs_clearing());
            out.extend_from_slice(NO_ID);
            self.push_cleared(&mut out, cleared.map(|change| change.name).chain([CURSOR_NAME]));
        }
        let mut fields = Vec::with_capacity(changes.len());
        let cursor = self.push_event(&mut out, |out| {
            for change in changes {
                push_name(out, change.name);
                fields.push(Touched::at(out.len(), change));
                out.extend_from_slice(change.value);
            }
            push_cursor(out, cursor)
        });
        Frame { fields: Some(fields.into()), ..Frame::close(out, cursor) }
    }

    /// Everything.
    ///
    /// Whatever the browser had before: each object is first `""`, and the cursor and the stream's id with
    /// them, in an event of its own. What a map or a struct that flattens one had in other fields is gone,
    /// because then all signals are first `""`.
    #[must_use]
    pub fn snapshot(&self, image: &EncodedFields, cursor: Version) -> Frame {
        let mut out = Vec::with_capacity(2 * (self.room() + image.json().len()) + CURSOR);
        self.push_clearing(&mut out, image, Some(CURSOR_NAME));
        let cursor = self.push_event(&mut out, |out| {
            out.extend_from_slice(image.inner());
            if self.can_go {
                push_fields(out, std::iter::once((GONE_NAME, &b"false"[..])));
            }
            push_cursor(out, cursor)
        });
        Frame::close(out, cursor)
    }

    /// The instance was deleted: its signal `_gone`, or a view's cursor alone. The page keeps what else it has.
    #[must_use]
    pub fn gone(&self, cursor: Version) -> Frame {
        let mut out = Vec::with_capacity(self.room() + CURSOR);
        let cursor = self.push_event(&mut out, |out| {
            if self.can_go {
                push_fields(out, std::iter::once((GONE_NAME, &b"true"[..])));
            }
            push_cursor(out, cursor)
        });
        Frame::close(out, cursor)
    }

    /// Elements, and the cursor after them; empty if there are no elements.
    #[must_use]
    pub fn elements(&self, elements: &[Elements], cursor: Version) -> Frame {
        if elements.is_empty() {
            return Frame::default();
        }
        let mut out = Vec::with_capacity(room_for(elements) + self.room() + CURSOR);
        elements.iter().for_each(|elements| push_elements(&mut out, elements));
        let cursor = self.push_event(&mut out, |out| push_cursor(out, cursor));
        Frame::close(out, cursor)
    }

    /// The nested JSON object of an image (none: a view's cursor alone), with the cursor if there is one.
    #[must_use]
    pub fn json(&self, image: Option<&EncodedFields>, cursor: Option<Version>) -> Bytes {
        let len = image.map_or(0, |image| image.json().len());
        let mut out = Vec::with_capacity(self.room() + len + CURSOR);
        self.push_nested(&mut out, |out| {
            out.extend_from_slice(image.map(EncodedFields::inner).unwrap_or_default());
            cursor.map(|cursor| push_cursor(out, cursor))
        });
        out.into()
    }

    /// The snapshot's events without a cursor, for the reply to a caller that does not follow.
    #[must_use]
    pub fn view(&self, image: &EncodedFields) -> Bytes {
        let mut out = Vec::with_capacity(2 * (self.room() + image.json().len()));
        self.append_view(&mut out, image);
        out.into()
    }

    pub fn append_view(&self, out: &mut Vec<u8>, image: &EncodedFields) {
        self.push_clearing(out, image, None);
        self.push_event(out, |out| out.extend_from_slice(image.inner()));
    }

    /// The event that takes away what a snapshot would be merged into, and the cursor if there is one.
    fn push_clearing(&self, out: &mut Vec<u8>, image: &EncodedFields, cursor: Option<&[u8]>) {
        let any = image.is_open() || image.fields().any(|field| field.is_object());
        if any && cursor.is_some() {
            out.extend_from_slice(NO_ID);
        }
        if image.is_open() {
            push_signals(out, |out| {
                out.extend_from_slice(&self.prefix);
                out.extend_from_slice(EMPTY);
                self.close(out);
            });
        } else if any {
            let objects = image.fields().filter(|field| field.is_object());
            self.push_cleared(out, objects.map(|field| field.name).chain(cursor));
        }
    }

    fn push_cleared<'a>(&self, out: &mut Vec<u8>, names: impl Iterator<Item = &'a [u8]>) {
        self.push_event(out, |out| push_fields(out, names.map(|name| (name, EMPTY))));
    }

    fn push_event<T>(&self, out: &mut Vec<u8>, push: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        push_signals(out, |out| self.push_nested(out, push))
    }

    fn push_nested<T>(&self, out: &mut Vec<u8>, push: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        out.extend_from_slice(&self.prefix);
        out.push(b'{');
        let pushed = push(out);
        out.push(b'}');
        self.close(out);
        pushed
    }

    fn close(&self, out: &mut Vec<u8>) {
        out.extend(std::iter::repeat_n(b'}', self.depth));
    }

    fn room(&self) -> usize {
        self.prefix.len() + self.depth + LINES
    }
}

/// The events that patch these elements.
#[must_use]
pub fn elements(elements: &[Elements]) -> Bytes {
    let mut out = Vec::with_capacity(room_for(elements));
    append_elements(&mut out, elements);
    out.into()
}

pub fn append_elements(out: &mut Vec<u8>, elements: &[Elements]) {
    elements.iter().for_each(|elements| push_elements(out, elements));
}

/// One event that merges a JSON object, given as strict JSON, at the root.
#[must_use]
pub fn signals(json: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(json.len() + LINES);
    push_signals(&mut out, |out| {
        // Between JSON's tokens a line end is a space; inside a text there is none.
        out.extend(json.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
    });
    out.into()
}

/// The signal that holds a topic's cursor.
const CURSOR_NAME: &[u8] = b"_v";

/// The signal that states whether a record or component was deleted.
const GONE_NAME: &[u8] = b"_gone";

/// The line with which a stream takes its last id back, as the clearing of a cursor.
const NO_ID: &[u8] = b"id:\n";

/// What is absent or about to be replaced.
const EMPTY: &[u8] = b"\"\"";

fn room_for(elements: &[Elements]) -> usize {
    elements.iter().map(|elements| elements.html().len() + elements.selector().len() + 256).sum()
}

fn push_fields<'a>(out: &mut Vec<u8>, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    for (name, value) in fields {
        push_name(out, name);
        out.extend_from_slice(value);
    }
}

/// Writes the cursor, and says where its version is.
fn push_cursor(out: &mut Vec<u8>, cursor: Version) -> std::ops::Range<usize> {
    push_name(out, CURSOR_NAME);
    out.push(b'"');
    let start = out.len();
    cursor.push_to(out);
    let end = out.len();
    out.push(b'"');
    start..end
}

fn push_name(out: &mut Vec<u8>, name: &[u8]) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name);
    out.extend_from_slice(b"\":");
}

#[cfg(test)]
mod tests;
