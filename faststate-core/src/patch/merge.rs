//! How a browser merges signals.
use serde_json::Value;

/// Merges a patch as Datastar 1.0.4 does.
pub fn merge(_target: &mut Value, _patch: &Value) {
    todo!()
}
