//! Small JSON objects, nested along a path.

use serde_json::{Map, Value};

/// Returns `leaf` nested under `path`: `{"a":{"b":leaf}}`.
pub(super) fn object(path: &[impl AsRef<str>], leaf: Value) -> Value {
    path.iter()
        .rev()
        .fold(leaf, |inner, name| Value::Object(Map::from_iter([(name.as_ref().to_owned(), inner)])))
}

/// Merges objects recursively; any other value replaces the old one.
pub(super) fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// Returns the string at `path`, if there is one.
pub(super) fn text<'a>(value: &'a Value, path: &[impl AsRef<str>]) -> Option<&'a str> {
    path.iter().try_fold(value, |value, name| value.get(name.as_ref()))?.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_merge_along_their_paths() {
        let mut all = object(&["a", "b"], 1.into());
        merge(&mut all, object(&["a", "c"], "x".into()));
        merge(&mut all, object(&["d"], json!([1])));
        assert_eq!(all, json!({"a": {"b": 1, "c": "x"}, "d": [1]}));
        assert_eq!(text(&all, &["a", "c"]), Some("x"));
        assert_eq!(text(&all, &["a", "b"]), None);
        assert_eq!(text(&all, &["a", "c", "d"]), None);
    }
}
