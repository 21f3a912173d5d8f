//! One SSE event, line by line.

use std::fmt::Write as _;

use crate::{Elements, Mode};

/// Writes an event that merges the JSON object that `push` writes, on one line.
pub fn push_signals<T>(out: &mut Vec<u8>, push: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    out.extend_from_slice(b"event: datastar-patch-signals\ndata: signals ");
    let pushed = push(out);
    out.extend_from_slice(b"\n\n");
    pushed
}

/// Writes the event that patches these elements; before it, for an element that is added, the events that
/// remove whatever has its id, so that a replay changes nothing.
pub(super) fn push_elements(out: &mut Vec<u8>, elements: &Elements) {
    let (selector, mode) = (elements.selector(), elements.mode());
    if let Some(id) = &elements.added {
        // Datastar warns about a removal that finds nothing, so there is always something to find.
        push_patch(out, selector, mode, &marker(id));
        push_patch(out, &id_selector(id), Mode::Remove, "");
    }
    push_patch(out, selector, mode, elements.html());
}

fn push_patch(out: &mut Vec<u8>, selector: &str, mode: Mode, html: &str) {
    push_head(out, selector, mode);
    if mode != Mode::Remove {
        for line in lines(html) {
            out.extend_from_slice(b"data: elements ");
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
    }
    out.push(b'\n');
}

fn push_head(out: &mut Vec<u8>, selector: &str, mode: Mode) {
    out.extend_from_slice(b"event: datastar-patch-elements\n");
    if !selector.is_empty() {
        out.extend_from_slice(b"data: selector ");
        // A line end would begin another field of the event; in CSS it is a space.
        out.extend(selector.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
        out.push(b'\n');
    }
    if mode != Mode::default() {
        out.extend_from_slice(b"data: mode ");
        out.extend_from_slice(mode.as_str().as_bytes());
        out.push(b'\n');
    }
}

/// The lines of a text, whichever way they end: for SSE a bare CR ends one too.
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

/// An element that shows nothing, with the id escaped for an attribute.
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

/// `#id`, with the id escaped as `CSS.escape` does.
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
