//! The signals that show error messages beside the fields of a form.
//!
//! Messages belong to an instance: `$_errors.counter.amount`, or `$_errors.product.p1.name` for a record or component,
//! where `p1` is the encoded id. Each message also has a second name with the refused event,
//! `$_errors.product.p1.rename__name`, for pages with two forms that have a field of the same name. It cannot collide
//! with a field, because names do not contain `__`.

use faststate_core::internal::{check_name, segment};
use serde_json::{Map, Value};

use super::nest;

const ROOT: &str = "_errors";

/// The path of one instance's messages among the signals.
#[derive(Clone, Debug)]
pub(super) struct FieldErrors(Vec<String>);

impl FieldErrors {
    pub(super) fn of(state: &str, id: Option<&str>) -> Self {
        Self([ROOT.to_owned(), state.to_owned()].into_iter().chain(id.map(segment)).collect())
    }

    /// Returns the signals before any message: an empty object, so that a page can read its fields.
    pub(super) fn initial(&self) -> Value {
        nest::object(&self.0, Value::Object(Map::new()))
    }

    /// Returns the signals that remove every message of the instance. A merge alone would keep old messages.
    pub(super) fn removed(&self) -> Value {
        nest::object(&self.0, "".into())
    }

    /// Returns the signals after `event` was refused with these messages.
    pub(super) fn refused(&self, event: &str, errors: &[(String, String)]) -> Value {
        let mut messages = Map::new();
        for (name, message) in errors.iter().filter(|(name, _)| check_name(name).is_ok()) {
            messages.insert(format!("{event}__{name}"), message.clone().into());
            messages.insert(name.clone(), message.clone().into());
        }
        nest::object(&self.0, Value::Object(messages))
    }
}

/// Appends the member that clears the messages of an accepted event's fields: `,"_errors":{..}`.
///
/// Appends nothing if no field can have a message. Messages are set to `""`, because signals are never deleted.
pub(super) fn push_removed(json: &mut Vec<u8>, state: &str, id: Option<&str>, event: &str, fields: &[&str]) {
    let mut legal = fields.iter().filter(|field| check_name(field).is_ok()).peekable();
    if legal.peek().is_none() {
        return;
    }
    // Names and segments consist of letters, digits and `_`, so no character needs escaping.
    let id = id.map(segment);
    let mut push = |part: &str| json.extend_from_slice(part.as_bytes());
    push(",\"");
    push(ROOT);
    push("\":{\"");
    push(state);
    if let Some(id) = &id {
        push("\":{\"");
        push(id);
    }
    push("\":{\"");
    while let Some(field) = legal.next() {
        push(field);
        push("\":\"\",\"");
        push(event);
        push("__");
        push(field);
        push(if legal.peek().is_some() { "\":\"\",\"" } else { "\":\"\"}}" });
    }
    if id.is_some() {
        push("}");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_have_names_by_instance_and_event() {
        let (errors, path) = (FieldErrors::of("product", Some("P 1")), segment("P 1"));
        assert_eq!(errors.initial(), json!({"_errors": {"product": {&path: {}}}}));
        assert_eq!(errors.removed(), json!({"_errors": {"product": {&path: ""}}}));
        let messages =
            [("name".to_owned(), "too long".to_owned()), ("__proto__".to_owned(), "no".to_owned())];
        let expected = json!({"name": "too long", "rename__name": "too long"});
        assert_eq!(errors.refused("rename", &messages), json!({"_errors": {"product": {&path: expected}}}));
    }

    #[test]
    fn accepted_event_clears_messages_of_its_fields() {
        let removed = |id: Option<&str>, fields: &[&str]| {
            let mut json = b"{\"_problem\":\"\"".to_vec();
            push_removed(&mut json, "product", id, "edit", fields);
            json.push(b'}');
            serde_json::from_slice::<Value>(&json).unwrap()
        };
        let fields = json!({"name": "", "edit__name": "", "price": "", "edit__price": ""});
        assert_eq!(
            removed(None, &["name", "Not a signal", "price"]),
            json!({"_problem": "", "_errors": {"product": fields}})
        );
        assert_eq!(
            removed(Some("1"), &["name", "price"]),
            json!({"_problem": "", "_errors": {"product": {segment("1"): fields}}})
        );
        assert_eq!(removed(Some("1"), &["Not a signal"]), json!({"_problem": ""}));
    }
}
