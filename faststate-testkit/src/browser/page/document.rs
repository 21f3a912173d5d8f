//! The parts of a page that come from its HTML document.

use faststate_core::internal::merge;
use serde_json::Value;

use super::BrowserPage;
use crate::{
    Failure,
    browser::{
        dom::{Dom, Element},
        script::Script,
        signal_tree::{SignalTree, nested},
        sse::SseParser,
    },
};

impl BrowserPage {
    /// Creates a page from HTML: its elements, and the signals of `data-signals` and `data-bind`. Signals that cannot be
    /// parsed are reported on the console.
    pub(crate) fn document(html: &str) -> Result<Self, Failure> {
        let mut page = Self { body: Dom::document(html), console: Some(Vec::new()), ..Self::new() };
        let all = page.body.elements();
        let all = all.into_iter().flat_map(Element::attributes).filter_map(|(name, value)| {
            Some((name.strip_prefix("data-signals")?.to_owned(), value.to_owned()))
        });
        for (name, value) in all.collect::<Vec<_>>() {
            let (target, modifiers) = split(&name);
            match Script::new(&value).literal(&page.signals) {
                Ok(value) => page.add_signals(target, value, modifiers)?,
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

    fn add_signals(&mut self, target: &str, value: Value, modifiers: &str) -> Result<(), Failure> {
        let mut signals = match target.strip_prefix(':') {
            Some(path) => nested(path, value),
            None => value,
        };
        if modifiers.contains("ifmissing") {
            merge(&mut signals, &Value::Object(self.signals.as_map().clone()));
        }
        self.merge(signals.to_string().as_bytes())
    }

    /// Returns the value of an attribute of the first element that has it.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.body.elements().into_iter().find_map(|element| element.attribute(name))
    }

    /// Returns a signal by its path without `$`.
    pub(crate) fn signal(&self, path: &str) -> Option<&Value> {
        self.signals.get(path)
    }

    /// Sets a signal as an expression of the page does.
    pub(crate) fn set(&mut self, path: &str, value: Value) {
        self.signals.set(path, value);
    }

    /// Merges the response to an event, which is not part of the stream.
    pub(crate) fn merge_response(&mut self, content_type: &str, body: &[u8]) -> Result<(), Failure> {
        match content_type {
            "application/json" => self.merge(body),
            "text/event-stream" => {
                for event in SseParser::default().feed(body)? {
                    self.take(&event)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Returns the elements that match a selector.
    pub(in crate::browser) fn find(&self, selector: &str) -> Result<Vec<&Element>, Failure> {
        self.body.find(selector)
    }

    /// Returns all elements.
    pub(in crate::browser) fn elements(&self) -> Vec<&Element> {
        self.body.elements()
    }

    /// Returns the visible text.
    pub(crate) fn text(&self) -> String {
        self.body.text(&|path| self.signal(path).cloned())
    }

    /// Returns the visible text of an element.
    pub(in crate::browser) fn text_of(&self, element: &Element) -> String {
        element.text(&|path| self.signal(path).cloned())
    }

    /// The errors that Datastar would write to the console.
    pub(crate) fn console(&self) -> &[String] {
        self.console.as_deref().unwrap_or_default()
    }

    /// The signals of the page.
    pub(in crate::browser) const fn signal_tree(&self) -> &SignalTree {
        &self.signals
    }
}

/// Returns the signal that an element is bound to, and its initial value.
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

/// Splits the rest of an attribute's name from its modifiers.
fn split(rest: &str) -> (&str, &str) {
    rest.split_once("__").unwrap_or((rest, ""))
}
