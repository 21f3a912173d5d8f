//! The signals of a page.

use faststate_core::{Version, internal::merge};
use serde_json::{Map, Value};

use crate::Failure;

/// The names from the root of the tree to one signal.
pub(super) type Path = Vec<String>;

/// The name of the signal that carries a topic's cursor.
const CURSOR: &str = "_v";
/// The value of the cursor of a topic that the page may not follow.
const GONE: &str = "gone";

/// The signals of a page, nested as Datastar nests them.
#[derive(Clone, Debug, Default)]
pub(super) struct SignalTree(Map<String, Value>);

impl SignalTree {
    /// Returns a signal by its path without `$`.
    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        let mut names = path.split('.');
        let first = self.0.get(names.next()?)?;
        names.try_fold(first, |value, name| value.get(name))
    }

    /// Returns the value at a path of names, which may contain dots.
    pub(super) fn at(&self, path: &[String]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.0.get(first)?, |value, name| value.get(name))
    }

    /// Sets a signal as an expression of the page does.
    pub(super) fn set(&mut self, path: &str, value: Value) {
        self.merge(&nested(path, value));
    }

    /// Merges a patch as Datastar does.
    pub(super) fn merge(&mut self, patch: &Value) {
        let mut signals = Value::Object(std::mem::take(&mut self.0));
        merge(&mut signals, patch);
        if let Value::Object(signals) = signals {
            self.0 = signals;
        }
    }

    pub(super) const fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Returns every cursor, nested as the follow action sends them in `?datastar=`.
    pub(super) fn cursors(&self) -> Value {
        only_cursors(&self.0)
    }

    /// Returns the signals that Datastar sends with an action without a payload: all whose names do not begin with `_`.
    pub(super) fn sent(&self) -> Value {
        without_private(&self.0)
    }
}

/// Wraps `value` in one object for each name of `path`.
pub(super) fn nested(path: &str, value: Value) -> Value {
    path.rsplit('.').fold(value, |inner, name| Value::Object(Map::from_iter([(name.to_owned(), inner)])))
}

/// Collects the cursors in `object` with their paths.
pub(super) fn find_cursors(
    object: &Map<String, Value>,
    path: &mut Path,
    found: &mut Vec<(Path, Version)>,
) -> Result<(), Failure> {
    for (name, value) in object {
        path.push(name.clone());
        match value {
            Value::Object(object) => find_cursors(object, path, found)?,
            Value::String(text) if name == CURSOR && !matches!(&**text, "" | GONE) => {
                let version =
                    text.parse().map_err(|error| Failure::error("a cursor is a version", &error))?;
                found.push((path.clone(), version));
            }
            _ => {}
        }
        path.pop();
    }
    Ok(())
}

fn only_cursors(object: &Map<String, Value>) -> Value {
    let mut out = Map::new();
    for (name, value) in object {
        match value {
            Value::Object(object) => {
                let inner = only_cursors(object);
                if inner.as_object().is_some_and(|inner| !inner.is_empty()) {
                    out.insert(name.clone(), inner);
                }
            }
            Value::String(_) if name == CURSOR => drop(out.insert(name.clone(), value.clone())),
            _ => {}
        }
    }
    Value::Object(out)
}

fn without_private(object: &Map<String, Value>) -> Value {
    let kept = object.iter().filter(|(name, _)| !name.starts_with('_'));
    let kept = kept.map(|(name, value)| match value {
        Value::Object(object) => (name.clone(), without_private(object)),
        value => (name.clone(), value.clone()),
    });
    Value::Object(kept.collect())
}

/// Removes the names at the top level that the wire adds: those that begin with `_`.
pub(super) fn without_own(value: Value) -> Value {
    match value {
        Value::Object(object) => object.into_iter().filter(|(name, _)| !name.starts_with('_')).collect(),
        other => other,
    }
}

/// Converts a state's JSON to its form on the wire: `None` becomes `""`, an integer beyond 2^53 a string.
pub(super) fn normal(value: &Value) -> Value {
    match value {
        Value::Null => Value::String(String::new()),
        Value::Object(object) => object.iter().map(|(name, value)| (name.clone(), normal(value))).collect(),
        Value::Array(values) => values.iter().map(normal).collect(),
        Value::Number(number)
            if number.as_f64().is_some_and(|float| float.abs() > 9_007_199_254_740_992.0) =>
        {
            if number.is_f64() { value.clone() } else { Value::String(number.to_string()) }
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// Compares two values; a missing name equals `""`.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    let (Value::Object(a), Value::Object(b)) = (a, b) else { return a == b };
    let empty = Value::String(String::new());
    a.keys().chain(b.keys()).all(|name| same(a.get(name).unwrap_or(&empty), b.get(name).unwrap_or(&empty)))
}
