//! Signals inside an HTML attribute.
use serde_json::Value;

/// Signals as the value of `data-signals`: a JavaScript object literal in single quotes that means the
/// same escaped by a template and raw.
#[must_use]
pub fn attribute(_signals: &Value) -> String {
    todo!()
}
