//! The changed fields between two encodings of the same signals.

use std::collections::HashMap;

use super::{EncodedFields, encoded_fields::EncodedField};

/// The value that replaces an absent field.
const ABSENT: &[u8] = b"\"\"";

/// Number of names out of order that are looked up by a linear scan. Beyond it, an index of all fields is faster.
const MAX_SCANS: usize = 4;

/// One field that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FieldChange<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) residue: Residue,
}

/// The parts of a field's old value that survive in the browser after it merges the new value, from none to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Residue {
    /// No part survives, and an object keeps at least its old keys.
    None,
    /// No part survives this change, because a scalar replaces the list or object. A browser that skips the
    /// scalar and merges a later object keeps parts of the old value.
    Latent,
    /// Some parts survive: the field must be cleared with `""` in a separate event first.
    Present,
}

impl<'a> FieldChange<'a> {
    /// The removal of a field.
    pub(crate) const fn absent(name: &'a [u8], residue: Residue) -> Self {
        Self { name, value: ABSENT, residue }
    }

    /// Returns whether the field must be cleared with `""` in a separate event first.
    pub(crate) fn needs_clearing(&self) -> bool {
        self.residue == Residue::Present
    }
}

/// Returns the fields of `after` that differ from `before`, and the fields that only `before` has, as absent.
pub(crate) fn diff<'a>(before: &'a EncodedFields, after: &'a EncodedFields) -> Vec<FieldChange<'a>> {
    if before.json() == after.json() {
        return Vec::new();
    }
    let mut changes = Vec::with_capacity(after.len().min(8));
    let mut search = FieldSearch::new(before);
    for field in after.fields() {
        match search.find(field.name) {
            Some(old) if old.value == field.value => {}
            old => {
                let residue = old.map_or(Residue::None, |old| residue(old.value, field.value));
                changes.push(FieldChange { name: field.name, value: field.value, residue });
            }
        }
    }
    if search.found < before.len() {
        let mut search = FieldSearch::new(after);
        let removed = before.fields().filter(|field| search.find(field.name).is_none());
        changes.extend(removed.map(|field| FieldChange::absent(field.name, residue(field.value, ABSENT))));
    }
    changes
}

/// Finds fields by name: in constant time if the names come in the order of the fields, otherwise by a scan or
/// an index.
struct FieldSearch<'a> {
    fields: &'a EncodedFields,
    /// The position of the field that is expected next.
    next: usize,
    found: usize,
    /// How many names were not at the expected position.
    out_of_order: usize,
    by_name: Option<HashMap<&'a [u8], usize>>,
}

impl<'a> FieldSearch<'a> {
    const fn new(fields: &'a EncodedFields) -> Self {
        Self { fields, next: 0, found: 0, out_of_order: 0, by_name: None }
    }

    fn find(&mut self, name: &[u8]) -> Option<EncodedField<'a>> {
        let field = match self.fields.field(self.next) {
            Some(field) if field.name == name => field,
            _ => {
                self.next = self.find_out_of_order(name)?;
                self.fields.field(self.next)?
            }
        };
        self.next += 1;
        self.found += 1;
        Some(field)
    }

    #[cold]
    fn find_out_of_order(&mut self, name: &[u8]) -> Option<usize> {
        self.out_of_order += 1;
        let fields = self.fields;
        if self.out_of_order <= MAX_SCANS {
            let is_named = |at: &usize| fields.field(*at).is_some_and(|field| field.name == name);
            return (self.next..fields.len()).chain(0..self.next).find(is_named);
        }
        let index = || fields.fields().enumerate().map(|(at, field)| (field.name, at)).collect();
        self.by_name.get_or_insert_with(index).get(name).copied()
    }
}

/// Returns the parts of `before` that survive in a browser after it merges `after`: a removed key, at any depth,
/// or an array that becomes an object (Datastar writes the keys into the array).
fn residue(before: &[u8], after: &[u8]) -> Residue {
    match (before.first(), after.first()) {
        (Some(b'['), Some(b'{')) => Residue::Present,
        (Some(b'{'), Some(b'{')) if before != after => residue_of_entries(before, after),
        (Some(b'['), Some(b'[')) | (Some(b'{'), Some(b'{')) => Residue::None,
        (Some(b'[' | b'{'), _) => Residue::Latent,
        _ => Residue::None,
    }
}

fn residue_of_entries(before: &[u8], after: &[u8]) -> Residue {
    let mut ahead = ObjectEntries::of(after);
    let mut by_key = None;
    let mut worst = Residue::None;
    for (key, old) in ObjectEntries::of(before) {
        let new = if by_key.is_none() { ahead.find(|(candidate, _)| *candidate == key) } else { None };
        let new = new.map(|(_, new)| new).or_else(|| {
            // The key was removed, or the keys are in another order: build an index of all keys.
            by_key
                .get_or_insert_with(|| ObjectEntries::of(after).collect::<HashMap<_, _>>())
                .get(key)
                .copied()
        });
        worst = worst.max(new.map_or(Residue::Present, |new| residue(old, new)));
        if worst == Residue::Present {
            break;
        }
    }
    worst
}

/// Iterates over the keys, still escaped, and the values of an object that this crate encoded.
struct ObjectEntries<'a> {
    rest: &'a [u8],
}

impl<'a> ObjectEntries<'a> {
    fn of(object: &'a [u8]) -> Self {
        Self { rest: object.get(1..object.len() - 1).unwrap_or_default() }
    }
}

impl<'a> Iterator for ObjectEntries<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (key, rest) = self.rest.split_at(value_len(self.rest));
        let rest = rest.get(1..)?;
        let (value, rest) = rest.split_at(value_len(rest));
        self.rest = rest.get(1..).unwrap_or_default();
        Some((key, value))
    }
}

/// Returns the length of the value at the start of `json`.
fn value_len(json: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => at = string_end(json, at),
            b'{' | b'[' => depth += 1,
            b',' | b':' if depth == 0 => return at,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    at
}

/// Returns the position of the closing quote of the string that begins at `start`.
fn string_end(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}
