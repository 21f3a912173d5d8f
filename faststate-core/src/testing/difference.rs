//! How what was expected differs from what was seen, in lines that people read.

use std::fmt::Write as _;

use serde_json::Value;

/// The longest value that is written out.
const LONGEST: usize = 200;

/// One line for each path at which the two differ; a name that is missing is as good as `""`.
pub(super) fn difference(expected: &Value, seen: &Value) -> String {
    let mut lines = String::new();
    compare(&mut lines, "", Some(expected), Some(seen));
    lines
}

fn compare(lines: &mut String, path: &str, expected: Option<&Value>, seen: Option<&Value>) {
    let is_empty = |value: Option<&Value>| value.is_none_or(|value| value == "");
    if expected == seen || (is_empty(expected) && is_empty(seen)) {
        return;
    }
    if let (Some(Value::Object(expected)), Some(Value::Object(seen))) = (expected, seen) {
        for name in expected.keys().chain(seen.keys().filter(|name| !expected.contains_key(*name))) {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            compare(lines, &path, expected.get(name), seen.get(name));
        }
        return;
    }
    if let (Some(Value::Array(expected)), Some(Value::Array(seen))) = (expected, seen) {
        for at in 0..expected.len().max(seen.len()) {
            compare(lines, &format!("{path}[{at}]"), expected.get(at), seen.get(at));
        }
        return;
    }
    let path = if path.is_empty() { "it" } else { path };
    let _ = write!(lines, "\n  {path}: expected {}, seen {}", shown(expected), shown(seen));
}

fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return "nothing".to_owned() };
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some((at, _)) => format!("{}..", &text[..at]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_place_has_a_line_and_the_rest_is_silent() {
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
