//! Readable differences between expected and actual values.

use std::fmt::Write as _;

use faststate_core::internal::{Difference, json_diff};
use serde_json::Value;

/// The maximum length of a printed value, in characters.
const MAX_VALUE_CHARS: usize = 200;

/// Returns one line for each path at which the values differ. A missing name equals `""`.
pub(super) fn difference(expected: &Value, seen: &Value) -> String {
    let mut lines = String::new();
    for Difference { path, before: expected, after: seen } in json_diff(expected, seen) {
        let is_empty = |value: Option<&Value>| value.is_none_or(|value| value == "");
        if !(is_empty(expected) && is_empty(seen)) {
            let path = if path.is_empty() { "it" } else { &path };
            let _ = write!(lines, "\n  {path}: expected {}, seen {}", shown(expected), shown(seen));
        }
    }
    lines
}

fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return "nothing".to_owned() };
    let text = value.to_string();
    match text.char_indices().nth(MAX_VALUE_CHARS) {
        None => text,
        Some((at, _)) => format!("{}..", &text[..at]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_difference_has_one_line() {
        let expected = json!({"same": 1, "count": 2, "list": [1, 2], "gone": "", "name": "ada"});
        let seen = json!({"same": 1, "count": 1, "list": [1, 3, {"a": 1}], "more": true});
        assert_eq!(
            difference(&expected, &seen),
            "\n  count: expected 2, seen 1\n  list[1]: expected 2, seen 3\n  list[2]: expected nothing, seen {\"a\":1}\
             \n  name: expected \"ada\", seen nothing\n  more: expected nothing, seen true"
        );
        assert_eq!(difference(&json!(5), &json!("5")), "\n  it: expected 5, seen \"5\"");
        assert_eq!(difference(&seen, &seen), "");
    }
}
