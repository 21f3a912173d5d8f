//! The visible text of a page.

use serde_json::Value;

use super::{Dom, DomNode, Element, read::decoded};

/// Returns a signal by its path without `$`.
pub(crate) type Lookup<'a> = dyn Fn(&str) -> Option<Value> + 'a;

impl Dom {
    /// Returns the visible text, with spaces between blocks.
    pub(crate) fn text(&self, signals: &Lookup<'_>) -> String {
        let mut out = String::new();
        push(&mut out, &self.nodes, signals);
        tidied(&out)
    }
}

impl Element {
    /// Returns the visible text. `data-text` and `data-show` are evaluated if they name a single signal; another `data-text` is
    /// shown as its expression.
    pub(crate) fn text(&self, signals: &Lookup<'_>) -> String {
        let mut out = String::new();
        self.push_text(&mut out, signals);
        tidied(&out)
    }

    fn push_text(&self, out: &mut String, signals: &Lookup<'_>) {
        if let Some(shown) = self.attribute("data-show") {
            let (path, negated) = shown.strip_prefix('!').map_or((shown, false), |rest| (rest, true));
            if path_of(path).is_some_and(|path| truthy(signals(path).as_ref()) == negated) {
                return;
            }
        }
        let is_inline = matches!(
            &*self.name,
            "a" | "abbr"
                | "b"
                | "code"
                | "em"
                | "i"
                | "kbd"
                | "mark"
                | "output"
                | "s"
                | "small"
                | "span"
                | "strong"
                | "sub"
                | "sup"
                | "time"
                | "u"
        );
        if !is_inline {
            out.push(' ');
        }
        match self.attribute("data-text") {
            Some(expression) => match path_of(expression) {
                Some(path) => out.push_str(&plain(signals(path).as_ref())),
                None => out.extend(["{", expression, "}"]),
            },
            None if matches!(&*self.name, "script" | "style" | "template") => {}
            None => push(out, &self.children, signals),
        }
        if !is_inline {
            out.push(' ');
        }
    }
}

/// Returns the path of an expression that is a single signal.
fn path_of(expression: &str) -> Option<&str> {
    let path = expression.trim().strip_prefix('$')?;
    let is_path = path.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
    is_path.then_some(path)
}

/// Converts a value to text as JavaScript does.
pub(crate) fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Returns whether a value is true in JavaScript.
pub(crate) fn truthy(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Bool(flag)) => *flag,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(_) | Value::Object(_)) => true,
    }
}

fn push(out: &mut String, nodes: &[DomNode], signals: &Lookup<'_>) {
    for node in nodes {
        match node {
            DomNode::Text(text) => out.push_str(&decoded(text)),
            DomNode::Other(_) => {}
            DomNode::Element(element) => element.push_text(out, signals),
        }
    }
}

fn tidied(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
