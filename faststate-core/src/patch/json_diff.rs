//! A readable list of the differences between two JSON values.

use serde_json::Value;

/// One place at which two values differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference<'a> {
    /// The path, such as `list[1].name`; empty for the root.
    pub path: String,
    /// The old value; `None` if the field is new.
    pub before: Option<&'a Value>,
    /// The new value; `None` if the field was removed.
    pub after: Option<&'a Value>,
}

/// Returns every place at which two values differ.
#[must_use]
pub fn json_diff<'a>(before: &'a Value, after: &'a Value) -> Vec<Difference<'a>> {
    let mut found = Vec::new();
    compare(&mut found, String::new(), Some(before), Some(after));
    found
}

fn compare<'a>(
    found: &mut Vec<Difference<'a>>,
    path: String,
    before: Option<&'a Value>,
    after: Option<&'a Value>,
) {
    if before == after {
        return;
    }
    match (before, after) {
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            for name in before.keys().chain(after.keys().filter(|name| !before.contains_key(*name))) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                compare(found, path, before.get(name), after.get(name));
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => {
            for at in 0..before.len().max(after.len()) {
                compare(found, format!("{path}[{at}]"), before.get(at), after.get(at));
            }
        }
        _ => found.push(Difference { path, before, after }),
    }
}
