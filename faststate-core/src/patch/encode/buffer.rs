//! The buffer into which a value is encoded, and the positions of its fields.

use std::ops::Range;

use super::{form::Form, json::push_key};
use crate::{
    key::check_name,
    patch::{EncodeError, error::BoxedEncodeError},
};

/// The initial capacity of a buffer in bytes for a value of unknown size. Most states fit.
pub(crate) const INITIAL_CAPACITY: usize = 128;

/// The JSON written so far.
pub(in crate::patch) struct EncodeBuffer<F> {
    pub(in crate::patch) json: Vec<u8>,
    /// The top-level fields, if the top-level value is a struct or a map.
    pub(in crate::patch) fields: Option<FieldSpans>,
    pub(in crate::patch) form: F,
}

/// The top-level fields of a struct or map.
pub(in crate::patch) struct FieldSpans {
    pub(in crate::patch) spans: Vec<FieldSpan>,
    /// Whether other values of the same type can have other fields: a map, or a struct that flattens one.
    pub(in crate::patch) open: bool,
    /// Whether each name so far is greater than the previous one.
    sorted: bool,
}

/// The position of a field in the JSON object.
#[derive(Clone, Debug)]
pub(in crate::patch) struct FieldSpan {
    pub(in crate::patch) name: Range<usize>,
    /// The end of the value; 0 until the value is written.
    pub(in crate::patch) end: usize,
}

impl<F: Form> EncodeBuffer<F> {
    /// Creates an empty buffer with an initial capacity in bytes.
    pub(in crate::patch) fn with_capacity(bytes: usize) -> Self {
        Self { json: Vec::with_capacity(bytes), fields: None, form: F::default() }
    }

    /// Starts to record fields if the next value is the top-level value.
    pub(super) fn expect_fields(&mut self, len: usize, open: bool) {
        if self.json.is_empty() {
            self.fields = Some(FieldSpans { spans: Vec::with_capacity(len), open, sorted: true });
        }
    }

    /// Writes the name of a top-level struct field, and returns its position.
    // Inlined into each struct, where the compiler knows most names and then checks them itself.
    #[expect(clippy::inline_always, reason = "a change of a small state is measurably slower without it")]
    #[inline(always)]
    pub(super) fn begin_field(&mut self, name: &'static str) -> Result<Range<usize>, BoxedEncodeError> {
        let start = self.json.len() + 2;
        if check_name(name).is_ok() {
            self.json.extend_from_slice(b",\"");
            self.json.extend_from_slice(name.as_bytes());
            self.json.extend_from_slice(b"\":");
        } else {
            self.begin_unusual_field(name)?;
        }
        Ok(start..self.json.len() - 2)
    }

    /// Writes a name that cannot be a signal.
    #[cold]
    fn begin_unusual_field(&mut self, name: &'static str) -> Result<(), BoxedEncodeError> {
        self.reject_on_wire(EncodeError::Name(name.to_owned()))?;
        self.json.push(b',');
        push_key(&mut self.json, name)?;
        self.json.push(b':');
        Ok(())
    }

    /// Records a top-level field whose value has just been written.
    pub(super) fn end_field(&mut self, name: Range<usize>) {
        if let Some(fields) = &mut self.fields {
            fields.spans.push(FieldSpan { name, end: self.json.len() });
        }
    }

    /// Records a top-level map key that has just been written.
    pub(super) fn begin_entry(&mut self, key: Range<usize>) -> Result<(), BoxedEncodeError> {
        let Some(fields) = &mut self.fields else { return Ok(()) };
        let bytes = &self.json[key.clone()];
        fields.sorted &= fields.spans.last().is_none_or(|last| self.json[last.name.clone()] < *bytes);
        let text = as_text(bytes);
        let error = check_name(text).err().map(|_| EncodeError::Name(text.to_owned()));
        fields.spans.push(FieldSpan { name: key, end: 0 });
        error.map_or(Ok(()), |error| self.reject_on_wire(error))
    }

    /// Removes and returns the top-level map key that has no value yet.
    pub(super) fn take_pending_key(&mut self) -> Option<Range<usize>> {
        match self.fields.as_mut()?.spans.pop() {
            Some(FieldSpan { name, end: 0 }) => Some(name),
            _ => None,
        }
    }

    /// Returns whether a top-level map key has no value yet.
    pub(super) fn has_pending_key(&self) -> bool {
        self.fields.as_ref().and_then(|fields| fields.spans.last()).is_some_and(|last| last.end == 0)
    }

    /// Rejects a name that a top-level map contains twice.
    pub(super) fn check_unique(&mut self) -> Result<(), BoxedEncodeError> {
        let Some(fields) = self.fields.as_ref().filter(|fields| !fields.sorted) else { return Ok(()) };
        let mut names: Vec<_> = fields.spans.iter().map(|span| &self.json[span.name.clone()]).collect();
        // A flattened map's names follow the struct's own names, each group mostly sorted. A stable sort
        // merges such runs in linear time.
        names.sort();
        let repeated = names.windows(2).find_map(|pair| match pair {
            [one, other] if one == other => Some(EncodeError::Repeated(as_text(one).to_owned())),
            _ => None,
        });
        repeated.map_or(Ok(()), |error| self.reject_on_wire(error))
    }

    /// Returns the name at a position.
    pub(super) fn name(&self, name: Range<usize>) -> &str {
        as_text(&self.json[name])
    }

    /// Returns `error` in the wire form. The stored form accepts names that cannot be signals.
    fn reject_on_wire(&mut self, error: EncodeError) -> Result<(), BoxedEncodeError> {
        if F::IS_WIRE {
            return Err(error.into());
        }
        self.form.mark_different();
        Ok(())
    }
}

/// Returns a name as text; everything in the buffer is UTF-8.
fn as_text(name: &[u8]) -> &str {
    std::str::from_utf8(name).unwrap_or_default()
}
