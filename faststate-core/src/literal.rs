//! JavaScript literals that are safe in any HTML attribute and in Datastar's expressions.

use std::fmt::Write as _;

use serde_json::Value;

use crate::key::pollutes;

/// 2^53: up to this magnitude, JavaScript represents each integer exactly.
const MAX_EXACT: u64 = 1 << 53;

/// Appends the literal of a value: texts and keys in single quotes, `null` as `absent`, and integers beyond 2^53 as
/// texts. Omits keys that would pollute a prototype.
pub(crate) fn push_value(out: &mut String, value: &Value, absent: &str) {
    match value {
        Value::Null => out.push_str(absent),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => {
            let inexact = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            let quote = if inexact.is_some_and(|magnitude| magnitude > MAX_EXACT) { "'" } else { "" };
            let _ = write!(out, "{quote}{number}{quote}");
        }
        Value::String(text) => push_text(out, text),
        Value::Array(items) => {
            out.push('[');
            separated(out, items, |out, item| push_value(out, item, absent));
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            separated(out, map.iter().filter(|(key, _)| !pollutes(key)), |out, (key, value)| {
                push_text(out, key);
                out.push(':');
                push_value(out, value, absent);
            });
            out.push('}');
        }
    }
}

/// Appends a text in single quotes.
///
/// Escapes each character that would end or change the text in JavaScript, that an HTML parser or a template's escaping
/// would change, or that has a meaning in Datastar's expressions: `;` separates statements, `$` begins a signal, and
/// `@` begins an action.
pub(crate) fn push_text(out: &mut String, text: &str) {
    out.push('\'');
    for c in text.chars() {
        match c {
            '"' | '\\' | ';' | '$' | '@' | '\'' | '<' | '>' | '&' | '`' | '\u{2028}' | '\u{2029}' => {
                push_escaped(out, c);
            }
            c if c.is_control() => push_escaped(out, c),
            c => out.push(c),
        }
    }
    out.push('\'');
}

/// Appends items with commas between them.
pub(crate) fn separated<T>(
    out: &mut String,
    items: impl IntoIterator<Item = T>,
    mut push: impl FnMut(&mut String, T),
) {
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        push(out, item);
    }
}

fn push_escaped(out: &mut String, c: char) {
    let _ = write!(out, "\\u{:04x}", u32::from(c));
}
