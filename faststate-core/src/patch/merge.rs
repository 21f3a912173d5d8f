//! The merge of a signals patch, as a browser performs it.

use serde_json::{Map, Value};

/// Merges a patch into `target` like `mergePatch` of Datastar 1.0.4.
///
/// `null` deletes a signal, objects are merged key by key, and any other value replaces the old one. A patch that is
/// not an object changes nothing. Two cases are surprising:
/// - If the old value is an array, an object is merged *into the array*. A key that is an index sets that element. Any
///   other key becomes a property of the array, which JSON cannot represent, so it is ignored here.
/// - A `null` or a hole in an array becomes `""`, because Datastar's signals return that value for it.
pub fn merge(target: &mut Value, patch: &Value) {
    if let Value::Object(patch) = patch {
        merge_object(target, patch);
    }
}

fn merge_entry(node: &mut Map<String, Value>, name: &str, patch: &Value) {
    match patch {
        Value::Null => {
            node.remove(name);
        }
        Value::Object(patch) => {
            merge_object(node.entry(name).or_insert(Value::Null), patch);
        }
        other => {
            node.insert(name.to_owned(), as_signal(other));
        }
    }
}

fn merge_object(slot: &mut Value, patch: &Map<String, Value>) {
    match slot {
        Value::Object(node) => patch.iter().for_each(|(key, value)| merge_entry(node, key, value)),
        Value::Array(items) => patch.iter().for_each(|(key, value)| merge_item(items, key, value)),
        _ => {
            let mut node = Map::new();
            patch.iter().for_each(|(key, value)| merge_entry(&mut node, key, value));
            *slot = Value::Object(node);
        }
    }
}

fn merge_item(items: &mut Vec<Value>, key: &str, patch: &Value) {
    let Some(index) = index(key) else { return };
    if patch.is_null() {
        if let Some(item) = items.get_mut(index) {
            *item = hole();
        }
        return;
    }
    if index >= items.len() {
        items.resize(index + 1, hole());
    }
    match patch {
        Value::Object(patch) => merge_object(&mut items[index], patch),
        other => items[index] = as_signal(other),
    }
}

/// Parses an array index in JavaScript's canonical form.
fn index(key: &str) -> Option<usize> {
    let index = key.parse::<u32>().ok()?;
    (index != u32::MAX && index.to_string() == key).then_some(index as usize)
}

/// Returns the value of an array element that was not set.
fn hole() -> Value {
    Value::String(String::new())
}

/// Returns the value that Datastar's signals return after they were set to `value`.
fn as_signal(value: &Value) -> Value {
    match value {
        Value::Null => hole(),
        Value::Array(items) => items.iter().map(as_signal).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), as_signal(value))).collect(),
        other => other.clone(),
    }
}
