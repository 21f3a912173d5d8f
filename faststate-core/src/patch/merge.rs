//! How a browser merges signals.

use serde_json::{Map, Value};

/// Merges a patch as the `mergePatch` of Datastar 1.0.4 does, and as its signals read afterwards.
///
/// `null` deletes, objects are merged key by key, anything else replaces what was there. What is not an
/// object patches nothing. Two things surprise: an object is merged *into an array*, where keys that
/// are indices set elements and others cannot be seen in JSON; and a `null` inside an array, like a
/// hole in it, reads as `""`.
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
            node.insert(name.to_owned(), settled(other));
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
        other => items[index] = settled(other),
    }
}

/// An array index as JavaScript writes it.
fn index(key: &str) -> Option<usize> {
    let index = key.parse::<u32>().ok()?;
    (index != u32::MAX && index.to_string() == key).then_some(index as usize)
}

fn hole() -> Value {
    Value::String(String::new())
}

/// A value as it reads once it is a signal.
fn settled(value: &Value) -> Value {
    match value {
        Value::Null => hole(),
        Value::Array(items) => items.iter().map(settled).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), settled(value))).collect(),
        other => other.clone(),
    }
}
