//! The path of a topic's signals, and the frames of that topic.

use std::{collections::HashMap, ops::Range, sync::Arc};

use bytes::Bytes;

use super::{
    events::{EVENT_OVERHEAD, append_elements, elements_capacity, push_signals},
    frame::{Frame, SetField},
};
use crate::{
    Elements, Key, Version,
    patch::{EncodedFields, FieldChange, Residue, diff},
};

/// The signal that holds a topic's cursor.
const CURSOR_NAME: &[u8] = b"_v";

/// The signal that states whether a record or component was deleted.
const GONE_NAME: &[u8] = b"_gone";

/// The line that resets the last event id of a stream, together with the cursor.
const RESET_ID: &[u8] = b"id:\n";

/// The value of a signal that is absent or about to be replaced.
const EMPTY: &[u8] = b"\"\"";

/// Bytes of a cursor and its `id:` block.
const CURSOR_CAPACITY: usize = 112;

/// The path at which a topic's signals are nested. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SignalPath {
    /// `{"product":{"p1":`
    prefix: Arc<[u8]>,
    /// The number of `}` that close the prefix.
    depth: usize,
    /// Whether the signals belong to an instance that can be deleted for good: a record or component.
    can_go: bool,
}

impl SignalPath {
    /// Returns the path of a key's signals, or of the cursor of one of its views.
    #[must_use]
    pub fn of(key: &Key, view: Option<&str>) -> Self {
        let mut path = key.signal_path();
        path.extend(view.map(|view| format!("_{view}")));
        // Segments consist of letters, digits and `_`, which need no escaping.
        let prefix = path.iter().map(|segment| format!("{{\"{segment}\":")).collect::<String>();
        let can_go = key.scope().has_id() && view.is_none();
        Self { prefix: prefix.into_bytes().into(), depth: path.len(), can_go }
    }

    /// Returns the frame of the change from `before` to `after`; empty if no field changed.
    ///
    /// A browser merges objects. A field whose old value would partly survive (a map lost a key) is therefore first
    /// set to `""` in a separate event. That event also resets the cursor and the stream's event id: a browser
    /// that receives only this event reconnects without a cursor and gets a snapshot.
    #[must_use]
    pub fn change(&self, before: &EncodedFields, after: &EncodedFields, cursor: Version) -> Frame {
        self.changes(&diff(before, after), cursor)
    }

    /// Merges the frames of consecutive changes, oldest first, into one that sets each field once. `None` if one of
    /// them does more than set fields.
    ///
    /// `fields` are the signals after the last change, and `cursor` is their version.
    #[must_use]
    pub fn merge_frames<'a>(
        &self,
        frames: impl Iterator<Item = &'a Frame>,
        fields: &EncodedFields,
        cursor: Version,
    ) -> Option<Frame> {
        let mut set: HashMap<&[u8], Residue> = HashMap::new();
        for frame in frames.filter(|frame| !frame.is_empty()) {
            for field in frame.fields()? {
                let (name, residue) = field?;
                set.entry(name)
                    .and_modify(|worst| match residue.max(*worst) {
                        Residue::None => {}
                        // The merged frame skips the scalar between two objects.
                        Residue::Latent | Residue::Present => *worst = Residue::Present,
                    })
                    .or_insert(residue);
            }
        }
        let mut changes: Vec<FieldChange<'_>> = Vec::with_capacity(set.len());
        for field in fields.fields() {
            if let Some(worst) = set.remove(field.name) {
                let residue = if field.is_object() { worst } else { Residue::None };
                changes.push(FieldChange { name: field.name, value: field.value, residue });
            }
        }
        changes.extend(set.into_keys().map(|name| FieldChange::absent(name, Residue::Latent)));
        Some(self.changes(&changes, cursor))
    }

    fn changes(&self, changes: &[FieldChange<'_>], cursor: Version) -> Frame {
        if changes.is_empty() {
            return Frame::default();
        }
        let size: usize = changes.iter().map(|change| 2 * change.name.len() + change.value.len() + 12).sum();
        let mut out = Vec::with_capacity(size + 2 * self.event_capacity() + CURSOR_CAPACITY);
        if changes.iter().any(FieldChange::needs_clearing) {
            let cleared = changes.iter().filter(|change| change.needs_clearing());
            out.extend_from_slice(RESET_ID);
            self.push_cleared(&mut out, cleared.map(|change| change.name).chain([CURSOR_NAME]));
        }
        let mut fields = Vec::with_capacity(changes.len());
        let cursor = self.push_event(&mut out, |out| {
            for change in changes {
                push_name(out, change.name);
                fields.push(SetField::before(out.len(), change));
                out.extend_from_slice(change.value);
            }
            push_cursor(out, cursor)
        });
        Frame::close(out, cursor).with_fields(fields)
    }

    /// Returns the frame that replaces all signals, whatever the browser had before.
    ///
    /// A separate event first sets each object to `""`, and resets the cursor and the stream's event id. The
    /// signals of a map, or of a struct that flattens one, are all set to `""`, because the browser can
    /// have fields that no longer exist.
    #[must_use]
    pub fn snapshot(&self, fields: &EncodedFields, cursor: Version) -> Frame {
        let mut out = Vec::with_capacity(2 * (self.event_capacity() + fields.json().len()) + CURSOR_CAPACITY);
        self.push_clearing(&mut out, fields, Some(CURSOR_NAME));
        let cursor = self.push_event(&mut out, |out| {
            out.extend_from_slice(fields.inner());
            if self.can_go {
                push_fields(out, std::iter::once((GONE_NAME, &b"false"[..])));
            }
            push_cursor(out, cursor)
        });
        Frame::close(out, cursor)
    }

    /// Returns the frame of a deletion: the signal `_gone`, or only the cursor of a view. The page keeps its other
    /// signals.
    #[must_use]
    pub fn gone(&self, cursor: Version) -> Frame {
        let mut out = Vec::with_capacity(self.event_capacity() + CURSOR_CAPACITY);
        let cursor = self.push_event(&mut out, |out| {
            if self.can_go {
                push_fields(out, std::iter::once((GONE_NAME, &b"true"[..])));
            }
            push_cursor(out, cursor)
        });
        Frame::close(out, cursor)
    }

    /// Returns the frame that patches elements and then sets the cursor; empty if there are no elements.
    #[must_use]
    pub fn elements(&self, elements: &[Elements], cursor: Version) -> Frame {
        if elements.is_empty() {
            return Frame::default();
        }
        let capacity = elements_capacity(elements) + self.event_capacity() + CURSOR_CAPACITY;
        let mut out = Vec::with_capacity(capacity);
        append_elements(&mut out, elements);
        let cursor = self.push_event(&mut out, |out| push_cursor(out, cursor));
        Frame::close(out, cursor)
    }

    /// Returns the nested JSON object of the signals, with the cursor if there is one. For a view, `fields` is
    /// `None`.
    #[must_use]
    pub fn json(&self, fields: Option<&EncodedFields>, cursor: Option<Version>) -> Bytes {
        let len = fields.map_or(0, |fields| fields.json().len());
        let mut out = Vec::with_capacity(self.event_capacity() + len + CURSOR_CAPACITY);
        self.push_nested(&mut out, |out| {
            out.extend_from_slice(fields.map(EncodedFields::inner).unwrap_or_default());
            cursor.map(|cursor| push_cursor(out, cursor))
        });
        out.into()
    }

    /// Returns the events of a snapshot without a cursor, for the reply to a caller that does not follow the state.
    #[must_use]
    pub fn view(&self, fields: &EncodedFields) -> Bytes {
        let mut out = Vec::with_capacity(2 * (self.event_capacity() + fields.json().len()));
        self.append_view(&mut out, fields);
        out.into()
    }

    /// Writes the events of [`view`](Self::view).
    pub fn append_view(&self, out: &mut Vec<u8>, fields: &EncodedFields) {
        self.push_clearing(out, fields, None);
        self.push_event(out, |out| out.extend_from_slice(fields.inner()));
    }

    /// Writes the event that clears the values with which a browser would merge a snapshot. Clears the cursor as
    /// well, if there is one.
    fn push_clearing(&self, out: &mut Vec<u8>, fields: &EncodedFields, cursor: Option<&[u8]>) {
        let any = fields.is_open() || fields.fields().any(|field| field.is_object());
        if any && cursor.is_some() {
            out.extend_from_slice(RESET_ID);
        }
        if fields.is_open() {
            push_signals(out, |out| {
                out.extend_from_slice(&self.prefix);
                out.extend_from_slice(EMPTY);
                self.push_closing(out);
            });
        } else if any {
            let objects = fields.fields().filter(|field| field.is_object());
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
        self.push_closing(out);
        pushed
    }

    fn push_closing(&self, out: &mut Vec<u8>) {
        out.extend(std::iter::repeat_n(b'}', self.depth));
    }

    /// Returns the bytes of an event besides its fields.
    fn event_capacity(&self) -> usize {
        self.prefix.len() + self.depth + EVENT_OVERHEAD
    }
}

fn push_fields<'a>(out: &mut Vec<u8>, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    for (name, value) in fields {
        push_name(out, name);
        out.extend_from_slice(value);
    }
}

/// Writes the cursor, and returns the position of its version.
fn push_cursor(out: &mut Vec<u8>, cursor: Version) -> Range<usize> {
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
