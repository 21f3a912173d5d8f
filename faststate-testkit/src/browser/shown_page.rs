//! The page that a browser shows, and assertions on it.

use std::fmt;

use faststate_core::{
    Key, ReactiveState,
    internal::{Rendered, TopicName},
};
use serde::Serialize;
use serde_json::Value;

use super::{
    dom::Element,
    page::BrowserPage,
    signal_tree::{normal, same, without_own},
    value_diff::difference,
};
use crate::Failure;

/// The page that a [`Browser`](super::Browser) shows. A browser has all of its methods.
#[derive(Default)]
pub struct ShownPage(pub(super) BrowserPage);

impl ShownPage {
    /// Returns the value of a signal on the page.
    #[must_use]
    pub fn signal(&self, path: &str) -> Option<&Value> {
        self.0.signal(path)
    }

    /// The visible text of the page. `data-text` and `data-show` are evaluated only if they name a single signal; another
    /// `data-text` is shown as its expression in braces.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.text()
    }

    /// The current HTML of the page.
    #[must_use]
    pub fn html(&self) -> String {
        self.0.html()
    }

    /// The errors that Datastar would write to the console: patches without a target element, and `data-signals` that this
    /// kit cannot parse.
    #[must_use]
    pub fn console(&self) -> &[String] {
        self.0.console()
    }

    /// Asserts that a signal has this value.
    ///
    /// # Panics
    /// Panics with the difference.
    #[track_caller]
    pub fn assert_signal(&self, path: &str, expected: impl Serialize) {
        let expected = json(&expected);
        if let Err(difference) = self.has_signal(path, &expected) {
            panic!("the signal `{path}` is not as expected:{difference}");
        }
    }

    /// Asserts that all signals of a state equal this state.
    ///
    /// # Panics
    /// Panics with the difference.
    #[track_caller]
    pub fn assert_state<S: ReactiveState>(&self, expected: &S) {
        self.assert_shown(&[S::NAME.to_owned()], &json(&expected.signals()));
    }

    /// Asserts that all signals of a record or component equal this state.
    ///
    /// # Panics
    /// Panics with the difference.
    #[track_caller]
    pub fn assert_record<S: ReactiveState>(&self, id: &str, expected: &S) {
        self.assert_shown(
            &[S::NAME.to_owned(), faststate_core::internal::segment(id)],
            &json(&expected.signals()),
        );
    }

    /// Asserts the visible text of the first element that matches a selector: `#list`, `h1`, `form .hint`.
    ///
    /// # Panics
    /// Panics with both texts.
    #[track_caller]
    pub fn assert_text(&self, selector: &str, expected: &str) {
        let found = self.0.find(selector).unwrap_or_else(|failure| panic!("{failure}"));
        let Some(element) = found.first() else {
            panic!("no element matches `{selector}`; the page shows:\n  {}", self.text());
        };
        let seen = self.0.text_of(element);
        assert!(
            seen == expected,
            "`{selector}` has another text:\n  expected {expected:?}\n  seen     {seen:?}"
        );
    }

    /// Asserts that the page shows this text.
    ///
    /// # Panics
    /// Panics with the visible text.
    #[track_caller]
    pub fn assert_reads(&self, text: &str) {
        let seen = self.text();
        assert!(seen.contains(text), "the page does not show {text:?}, but:\n  {seen}");
    }

    /// Asserts that the page does not show this text.
    ///
    /// # Panics
    /// Panics with the visible text.
    #[track_caller]
    pub fn assert_reads_not(&self, text: &str) {
        let seen = self.text();
        assert!(!seen.contains(text), "the page shows {text:?}:\n  {seen}");
    }

    /// Checks that the page shows a topic as the server does. Returns the difference.
    pub(super) fn check(&self, topic: &TopicName, key: &Key, truth: &Rendered) -> Result<(), String> {
        match truth {
            Rendered::Signals(truth) => {
                let truth = serde_json::from_slice(truth).unwrap_or_default();
                let truth = without_own(at_path(&truth, &key.signal_path()));
                self.0.follows(key, &truth).map_err(|failure| failure.to_string())
            }
            Rendered::View(elements, _) => {
                let (seen, expected) = (self.html(), elements.html());
                let difference = || {
                    format!(
                        "the page does not show the view {topic} as it is:\n  expected {expected}\n  seen {seen}"
                    )
                };
                if seen.contains(expected) { Ok(()) } else { Err(difference()) }
            }
        }
    }

    /// Compares a signal with a value, and returns the difference.
    pub(super) fn has_signal(&self, path: &str, expected: &Value) -> Result<(), String> {
        let seen = self.0.signal(path).cloned().map(without_own).unwrap_or_else(|| "".into());
        let expected = normal(expected);
        if same(&expected, &seen) { Ok(()) } else { Err(difference(&expected, &seen)) }
    }

    #[track_caller]
    fn assert_shown(&self, path: &[String], expected: &Value) {
        let shown = Value::Object(self.0.signals().clone());
        let (seen, expected) = (without_own(at_path(&shown, path)), normal(expected));
        assert!(
            same(&expected, &seen),
            "the page does not show `{}` as expected:{}",
            path.join("."),
            difference(&expected, &seen)
        );
    }

    /// Returns the action of the form that a button submits.
    fn action_of_form(&self, button: &str) -> Option<String> {
        let is_it = |found: &&Element| match self.0.find(button) {
            Ok(selected) if is_selector(button) => selected.iter().any(|one| std::ptr::eq(*one, *found)),
            _ => self.0.text_of(found) == button || found.attribute("value") == Some(button),
        };
        let forms =
            self.0.elements().into_iter().filter_map(|form| Some((form, action_for(form, "submit")?)));
        let mut submitted =
            forms.filter(|(form, _)| form.find("button").iter().chain(&form.find("input")).any(is_it));
        submitted.next().map(|(_, action)| action.to_owned())
    }

    /// Returns the action of an element for a DOM event.
    pub(super) fn action_on(&self, event: &str, element: &str) -> Result<String, Failure> {
        let selected = is_selector(element).then(|| self.0.find(element)).transpose()?;
        let mut candidates = Vec::new();
        for candidate in self.0.elements() {
            let Some(action) = action_for(candidate, event) else { continue };
            let text = self.0.text_of(candidate);
            let label = candidate.attribute("aria-label").unwrap_or(&text).to_owned();
            let is_it = match &selected {
                Some(found) => found.iter().any(|found| std::ptr::eq(*found, candidate)),
                None => text == element || label == element,
            };
            if is_it {
                return Ok(action.to_owned());
            }
            candidates.push(candidate.attribute("id").map_or(label, |id| format!("#{id}")));
        }
        if event == "click"
            && let Some(action) = self.action_of_form(element)
        {
            return Ok(action);
        }
        let candidates = if candidates.is_empty() { "no element".to_owned() } else { candidates.join(", ") };
        Err(Failure::new(
            format!("`{element}` has a `data-on:{event}`"),
            format!("this page has it on {candidates}"),
        ))
    }
}

impl fmt::Debug for ShownPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShownPage").field("signals", self.0.signals()).finish_non_exhaustive()
    }
}

fn is_selector(element: &str) -> bool {
    element.starts_with(['#', '.', '['])
}

/// Returns the action of an element for a DOM event.
fn action_for<'a>(element: &'a Element, event: &str) -> Option<&'a str> {
    let of_event = |name: &str| {
        let rest = name.strip_prefix("data-on:").and_then(|on| on.strip_prefix(event));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("__"))
    };
    element.attributes().find(|(name, _)| of_event(name)).map(|(_, action)| action)
}

/// Converts an expected value to JSON.
pub(super) fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_else(|error| panic!("this is not JSON: {error}"))
}

/// Returns the value at a path, or `null`.
fn at_path(value: &Value, path: &[String]) -> Value {
    path.iter().try_fold(value, |value, name| value.get(name)).cloned().unwrap_or_default()
}
