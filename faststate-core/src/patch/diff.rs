//! What changed between two images.

use std::collections::HashMap;

use super::{EncodedFields, encoded_fields::Field};

/// What an absent field goes out as.
const ABSENT: &[u8] = b"\"\"";

/// How many names out of order are looked up by a scan of the fields. After that, an index of all fields pays.
const SCANS: usize = 4;

/// One field that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) remains: Residue,
}

/// What a browser keeps of a field's old value when it merges the new one, by how bad that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Residue {
    /// Nothing; and whatever had keys still has them, or more.
    Nothing,
    /// Nothing, but a list or an object became something else. Whoever misses that, and merges what comes
    /// after it, may keep something.
    Hidden,
    /// Some of it: the field must be `""` in an event of its own first.
    Something,
}

impl<'a> Change<'a> {
    /// A field that is gone.
    pub(crate) const fn absent(name: &'a [u8], remains: Residue) -> Self {
        Self { name, value: ABSENT, remains }
    }

    /// Whether the field must be `""` in an event of its own first.
    pub(crate) fn is_cleared(&self) -> bool {
        self.remains == Residue::Something
    }
}

/// The fields of `after` that `before` has not, and as `""` those that only `before` has.
pub(crate) fn diff<'a>(before: &'a EncodedFields, after: &'a EncodedFields) -> Vec<Change<'a>> {
    if before.json() == after.json() {
        return Vec::new();
    }
    let mut changes = Vec::with_capacity(after.len().min(8));
    let mut search = Search::new(before);
    for field in after.fields() {
        match search.find(field.name) {
            Some(old) if old.value == field.value => {}
            old => {
                let remains = old.map_or(Residue::Nothing, |old| remains(old.value, field.value));
                changes.push(Change { name: field.name, value: field.value, remains });
            }
        }
    }
    if search.found < before.len() {
        let mut search = Search::new(after);
        let gone = before.fields().filter(|field| search.find(field.name).is_none());
        changes.extend(gone.map(|field| Change::absent(field.name, remains(field.value, ABSENT))));
    }
    changes
}

/// Finds fields by name: at once if they are requested in the image's own order, else through an index.
struct Search<'a> {
    image: &'a EncodedFields,
    next: usize,
    found: usize,
    /// How many names were not next in the order.
    out_of_order: usize,
    by_name: Option<HashMap<&'a [u8], usize>>,
}

impl<'a> Search<'a> {
    const fn new(image: &'a EncodedFields) -> Self {
        Self { image, next: 0, found: 0, out_of_order: 0, by_name: None }
    }

    fn find(&mut self, name: &[u8]) -> Option<Field<'a>> {
        let field = match self.image.field(self.next) {
            Some(field) if field.name == name => field,
            _ => {
                self.next = self.out_of_order(name)?;
                self.image.field(self.next)?
            }
        };
        self.next += 1;
        self.found += 1;
        Some(field)
    }

    #[cold]
    fn out_of_order(&mut self, name: &[u8]) -> Option<usize> {
        self.out_of_order += 1;
        let image = self.image;
        if self.out_of_order <= SCANS {
            let is_named = |at: &usize| image.field(*at).is_some_and(|field| field.name == name);
            return (self.next..image.len()).chain(0..self.next).find(is_named);
        }
        let index = || image.fields().enumerate().map(|(at, field)| (field.name, at)).collect();
        self.by_name.get_or_insert_with(index).get(name).copied()
    }
}

/// What a browser that merges `after` into `before` keeps of `before`: a key that is gone, at any depth, or an
/// array that becomes an object (Datastar writes the keys into the array).
fn remains(before: &[u8], after: &[u8]) -> Residue {
    match (before.first(), after.first()) {
        (Some(b'['), Some(b'{')) => Residue::Something,
        (Some(b'{'), Some(b'{')) if before != after => remains_of_entries(before, after),
        (Some(b'['), Some(b'[')) | (Some(b'{'), Some(b'{')) => Residue::Nothing,
        (Some(b'[' | b'{'), _) => Residue::Hidden,
        _ => Residue::Nothing,
    }
}

fn remains_of_entries(before: &[u8], after: &[u8]) -> Residue {
    let mut ahead = Entries::of(after);
    let mut by_key = None;
    let mut worst = Residue::Nothing;
    for (key, old) in Entries::of(before) {
        let new = if by_key.is_none() { ahead.find(|(candidate, _)| *candidate == key) } else { None };
        let new = new.map(|(_, new)| new).or_else(|| {
            // Gone, or the keys have no order: look it up among all.
            by_key.get_or_insert_with(|| Entries::of(after).collect::<HashMap<_, _>>()).get(key).copied()
        });
        worst = worst.max(new.map_or(Residue::Something, |new| remains(old, new)));
        if worst == Residue::Something {
            break;
        }
    }
    worst
}

/// The keys, as they are written, and the values of an object that this crate has encoded.
struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Entries<'a> {
    fn of(object: &'a [u8]) -> Self {
        Self { rest: object.get(1..object.len() - 1).unwrap_or_default() }
    }
}

impl<'a> Iterator for Entries<'a> {
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

/// The length of the value that `json` begins with.
fn value_len(json: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => at = text_end(json, at),
            b'{' | b'[' => depth += 1,
            b',' | b':' if depth == 0 => return at,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    at
}

/// Where the text ends that begins at `start`.
fn text_end(json: &[u8], start: usize) -> usize {
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
