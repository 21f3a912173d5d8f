//! What somebody reads on a page.

use serde_json::Value;

use super::{Dom, DomNode, Element, read::decoded};

/// Looks a signal up by its path, without `$`.
pub(crate) type Lookup<'a> = dyn Fn(&str) -> Option<Value> + 'a;

impl Dom {
    /// The page's text, with blanks between blocks.
    pub(crate) fn text(&self, signals: &Lookup<'_>) -> String {
        let mut out = String::new();
        push(&mut out, &self.nodes, signals);
        tidied(&out)
    }
}

impl Element {
    /// The element's text. `data-text` and `data-show` count where they name a signal and no more; what another
    /// `data-text` would show is shown as its expression.
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

/// The path of an expression that is one signal.
fn path_of(expression: &str) -> Option<&str> {
    let path = expression.trim().strip_prefix('$')?;
    let is_path = path.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
    is_path.then_some(path)
}

/// A value as JavaScript makes a text of it.
pub(crate) fn plain(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Whether JavaScript takes it for true.
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
