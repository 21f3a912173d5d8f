//! A page as a template wrote it.

use faststate_core::internal::merge;
use serde_json::{Map, Value};

use super::Page;
use crate::{
    Failure,
    dom::{Dom, Element},
    script::Script,
    sse::Parser,
};

impl Page {
    /// A page as its HTML begins: the signals of `data-signals` and `data-bind`, and the elements. Signals that cannot be
    /// read are on the console.
    pub(crate) fn document(html: &str) -> Result<Self, Failure> {
        let mut page = Self { body: Dom::document(html), console: Some(Vec::new()), ..Self::new() };
        let all = page.body.elements();
        let all = all.into_iter().flat_map(Element::attributes).filter_map(|(name, value)| {
            Some((name.strip_prefix("data-signals")?.to_owned(), value.to_owned()))
        });
        for (name, value) in all.collect::<Vec<_>>() {
            let (target, modifiers) = split(&name);
            match Script::new(&value).literal(&page) {
                Ok(value) => page.begin(target, value, modifiers)?,
                Err(failure) => page.console.get_or_insert_default().push(failure.to_string()),
            }
        }
        let bound: Vec<_> = page.body.elements().into_iter().filter_map(bound).collect();
        for (path, value) in bound {
            if page.signal(&path).is_none() {
                page.set(&path, value.into());
            }
        }
        Ok(page)
    }

    fn begin(&mut self, target: &str, value: Value, modifiers: &str) -> Result<(), Failure> {
        let mut signals = match target.strip_prefix(':') {
            Some(path) => nested(path, value),
            None => value,
        };
        if modifiers.contains("ifmissing") {
            merge(&mut signals, &Value::Object(self.signals.clone()));
        }
        self.merge(signals.to_string().as_bytes())
    }

    /// What an attribute of this name says, on the first element that has it.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.body.elements().into_iter().find_map(|element| element.attribute(name))
    }

    /// A signal, by its path without `$`.
    pub(crate) fn signal(&self, path: &str) -> Option<&Value> {
        let mut names = path.split('.');
        let first = self.signals.get(names.next()?)?;
        names.try_fold(first, |value, name| value.get(name))
    }

    /// Sets a signal as the page itself does.
    pub(crate) fn set(&mut self, path: &str, value: Value) {
        let mut signals = Value::Object(std::mem::take(&mut self.signals));
        merge(&mut signals, &nested(path, value));
        if let Value::Object(signals) = signals {
            self.signals = signals;
        }
    }

    /// Merges an answer to an event, which is no part of the stream.
    pub(crate) fn answered(&mut self, content_type: &str, body: &[u8]) -> Result<(), Failure> {
        match content_type {
            "application/json" => self.merge(body),
            "text/event-stream" => {
                for event in Parser::default().feed(body)? {
                    self.take(&event)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The elements that a selector picks.
    pub(crate) fn find(&self, selector: &str) -> Result<Vec<&Element>, Failure> {
        self.body.find(selector)
    }

    /// Every element.
    pub(crate) fn elements(&self) -> Vec<&Element> {
        self.body.elements()
    }

    /// What somebody reads.
    pub(crate) fn text(&self) -> String {
        self.body.text(&|path| self.signal(path).cloned())
    }

    /// What somebody reads of an element.
    pub(crate) fn text_of(&self, element: &Element) -> String {
        element.text(&|path| self.signal(path).cloned())
    }

    /// What Datastar would have written to the console.
    pub(crate) fn console(&self) -> &[String] {
        self.console.as_deref().unwrap_or_default()
    }

    /// The signals that Datastar sends with an action that has no payload of its own.
    pub(crate) fn sent(&self) -> Value {
        fn public(object: &Map<String, Value>) -> Value {
            let kept = object.iter().filter(|(name, _)| !name.starts_with('_'));
            let kept = kept.map(|(name, value)| match value {
                Value::Object(object) => (name.clone(), public(object)),
                value => (name.clone(), value.clone()),
            });
            Value::Object(kept.collect())
        }
        public(&self.signals)
    }
}

/// The signal that an element is bound to, and what it begins as.
fn bound(element: &Element) -> Option<(String, String)> {
    let path = element.attributes().find_map(|(name, value)| {
        let (rest, _) = split(name.strip_prefix("data-bind")?);
        match rest.strip_prefix(':') {
            Some(path) => Some(path),
            None => rest.is_empty().then_some(value),
        }
    })?;
    Some((path.trim_start_matches('$').to_owned(), element.attribute("value").unwrap_or_default().to_owned()))
}

/// The rest of an attribute's name, without its modifiers, and these.
fn split(rest: &str) -> (&str, &str) {
    rest.split_once("__").unwrap_or((rest, ""))
}

fn nested(path: &str, value: Value) -> Value {
    path.rsplit('.').fold(value, |inner, name| Value::Object(Map::from_iter([(name.to_owned(), inner)])))
}
