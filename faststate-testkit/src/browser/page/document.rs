//! A page as a template wrote it.

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
            match Script::new(&value).literal(&page.signals) {
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
            merge(&mut signals, &Value::Object(self.signals.as_map().clone()));
        }
        self.merge(signals.to_string().as_bytes())
    }

    /// What an attribute of this name says, on the first element that has it.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.body.elements().into_iter().find_map(|element| element.attribute(name))
    }

    /// A signal, by its path without `$`.
    pub(crate) fn signal(&self, path: &str) -> Option<&Value> {
        self.signals.get(path)
    }

    /// Sets a signal as the page itself does.
    pub(crate) fn set(&mut self, path: &str, value: Value) {
        self.signals.set(path, value);
    }

    /// Merges an answer to an event, which is no part of the stream.
    pub(crate) fn answered(&mut self, content_type: &str, body: &[u8]) -> Result<(), Failure> {
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

    /// The elements that a selector picks.
    pub(in crate::browser) fn find(&self, selector: &str) -> Result<Vec<&Element>, Failure> {
        self.body.find(selector)
    }

    /// Every element.
    pub(in crate::browser) fn elements(&self) -> Vec<&Element> {
        self.body.elements()
    }

    /// What somebody reads.
    pub(crate) fn text(&self) -> String {
        self.body.text(&|path| self.signal(path).cloned())
    }

    /// What somebody reads of an element.
    pub(in crate::browser) fn text_of(&self, element: &Element) -> String {
        element.text(&|path| self.signal(path).cloned())
    }

    /// What Datastar would have written to the console.
    pub(crate) fn console(&self) -> &[String] {
        self.console.as_deref().unwrap_or_default()
    }

    /// The signals of the page.
    pub(in crate::browser) const fn signal_tree(&self) -> &SignalTree {
        &self.signals
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
