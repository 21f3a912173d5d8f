//! Signals inside an HTML attribute.

use serde_json::Value;

use crate::literal::push_value;

/// Signals as the value of `data-signals`: a JavaScript object literal in single quotes that means the
/// same escaped by a template and raw inside double quotes.
///
/// It contains neither `"` nor `&`, `<` or `>`. As on the wire, `null` is `""` and an integer beyond 2^53
/// is a text; a name that would pollute a prototype is left out.
#[must_use]
pub fn attribute(signals: &Value) -> String {
    let mut out = String::with_capacity(256);
    push_value(&mut out, signals, "''");
    out
}
