//! SSE events for Datastar, without cursors.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::{Elements, PatchMode};

/// A comment that keeps an idle stream alive.
pub const PING: Bytes = Bytes::from_static(b": ping\n\n");

/// Approximate bytes of an event besides its content.
pub(super) const EVENT_OVERHEAD: usize = 56;

/// Returns one event that merges a JSON object, given as strict JSON, into the root of the signals.
#[must_use]
pub fn signals(json: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(json.len() + EVENT_OVERHEAD);
    push_signals(&mut out, |out| {
        // A line end between two JSON tokens can be replaced by a space. JSON strings contain no line ends.
        out.extend(json.iter().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { *byte }));
    });
    out.into()
}

/// Returns the events that patch these elements.
#[must_use]
pub fn elements(elements: &[Elements]) -> Bytes {
    let mut out = Vec::with_capacity(elements_capacity(elements));
    append_elements(&mut out, elements);
    out.into()
}

/// Writes the events that patch these elements.
pub fn append_elements(out: &mut Vec<u8>, elements: &[Elements]) {
    elements.iter().for_each(|elements| push_elements(out, elements));
}

/// Returns the approximate size in bytes of the events that patch these elements.
pub(super) fn elements_capacity(elements: &[Elements]) -> usize {
    elements.iter().map(|elements| elements.html().len() + elements.selector().len() + 256).sum()
}

/// Writes an event that merges a JSON object. `push` writes the object, on one line.
pub fn push_signals<T>(out: &mut Vec<u8>, push: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    out.extend_from_slice(b"event: datastar-patch-signals\ndata: signals ");
    let pushed = push(out);
    out.extend_from_slice(b"\n\n");
    pushed
}

/// Writes the event that patches these elements.
///
/// If an element is added, events before it remove any element with the same id, so that a replay changes nothing.
fn push_elements(out: &mut Vec<u8>, elements: &Elements) {
    let (selector, mode) = (elements.selector(), elements.mode());
    if let Some(id) = &elements.added {
        // Datastar logs a warning if a removal finds no element, so a marker with the id is added first.
        push_patch(out, selector, mode, &marker(id));
        push_patch(out, &id_selector(id), PatchMode::Remove, "");
    }
    push_patch(out, selector, mode, elements.html());
}

fn push_patch(out: &mut Vec<u8>, selector: &str, mode: PatchMode, html: &str) {
    push_head(out, selector, mode);
    if mode != PatchMode::Remove {
        for line in lines(html) {
            out.extend_from_slice(b"data: elements ");
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
    }
    out.push(b'\n');
}

fn push_head(out: &mut Vec<u8>, selector: &str, mode: PatchMode) {
    out.extend_from_slice(b"event: datastar-patch-elements\n");
    if !selector.is_empty() {
        out.extend_from_slice(b"data: selector ");
        // A line end would start another field of the event. In CSS, a space is equivalent.
        out.extend(selector.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
        out.push(b'\n');
    }
    if mode != PatchMode::default() {
        out.extend_from_slice(b"data: mode ");
        out.extend_from_slice(mode.as_str().as_bytes());
        out.push(b'\n');
    }
}

/// Splits a text at LF, CR LF and CR, because SSE also ends a line at a bare CR.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\r', '\n']) else { return rest.take() };
        let (line, tail) = text.split_at(end);
        rest = Some(tail.strip_prefix("\r\n").unwrap_or(&tail[1..]));
        Some(line)
    })
}

/// Returns an invisible element with this id, escaped for an attribute.
fn marker(id: &str) -> String {
    let mut out = String::with_capacity(id.len() + 32);
    out.push_str("<template id=\"");
    for c in id.chars() {
        let _ = match c {
            '"' | '&' | '<' | '>' | '\r' | '\n' | '\0' => write!(out, "&#{};", u32::from(c)),
            c => out.write_char(c),
        };
    }
    out.push_str("\"></template>");
    out
}

/// Returns `#id`, with the id escaped like `CSS.escape`.
fn id_selector(id: &str) -> String {
    let mut out = String::with_capacity(id.len() + 8);
    out.push('#');
    let dashed = id.starts_with('-');
    for (at, c) in id.chars().enumerate() {
        let leading = at == 0 || (at == 1 && dashed);
        let _ = match c {
            '\0' => out.write_char('\u{fffd}'),
            c if c.is_ascii_control() || (leading && c.is_ascii_digit()) => {
                write!(out, "\\{:x} ", u32::from(c))
            }
            '-' if id.len() == 1 => out.write_str("\\-"),
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') || !c.is_ascii() => out.write_char(c),
            c => write!(out, "\\{c}"),
        };
    }
    out
}
