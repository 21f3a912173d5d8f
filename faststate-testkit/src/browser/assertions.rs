//! Assertions on a browser's page.

use std::{future::Future, panic::Location};

use faststate_core::{ReactiveState, internal::Rendered};
use http::Request;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    Browser, WAIT_TIMEOUT,
    signal_tree::{normal, same, without_own},
    value_diff::difference,
};

impl Browser {
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
        let found = self.page.find(selector).unwrap_or_else(|failure| panic!("{failure}"));
        let Some(element) = found.first() else {
            panic!("no element matches `{selector}`; the page shows:\n  {}", self.text());
        };
        let seen = self.page.text_of(element);
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

    /// Asserts that no unread frame has arrived (law 14).
    ///
    /// # Panics
    /// Panics with the number of events.
    #[track_caller]
    pub fn assert_quiet(&mut self) -> impl Future<Output = ()> + Send + '_ {
        let at = Location::caller();
        async move {
            let before = self.page.events();
            self.read().await;
            let came = self.page.events() - before;
            assert!(came == 0, "at {at}: expected no events, but {came} arrived");
        }
    }

    /// Asserts that the page equals the server's state for every topic that it follows (law 4). Call
    /// [`settle`](Self::settle) first.
    ///
    /// # Panics
    /// Panics with the difference.
    #[track_caller]
    pub fn assert_current(&mut self) -> impl Future<Output = ()> + Send + '_ {
        let at = Location::caller();
        async move {
            let (head, ()) = self.request(Request::new(()), "same-origin").into_parts();
            let endpoint = self.app.endpoint();
            let visitor = endpoint.visitor(&head).await.unwrap_or_else(|error| panic!("at {at}: {error}"));
            for topic in &self.topics {
                let visible = endpoint.registry().engine().visible(topic, visitor.viewer()).await;
                let key = endpoint.registry().key(&topic.state, visitor.viewer(), topic.id.as_deref());
                let (visible, key) = match visible.and_then(|visible| Ok((visible, key?))) {
                    Ok(found) => found,
                    Err(error) => panic!("at {at}: the server does not show {topic}: {error}"),
                };
                match visible {
                    Rendered::Signals(truth) => {
                        let truth = serde_json::from_slice(&truth).unwrap_or_default();
                        let truth = without_own(at_path(&truth, &key.signal_path()));
                        let followed = self.page.follows(&key, &truth);
                        followed.unwrap_or_else(|failure| panic!("at {at}: {failure}"));
                    }
                    Rendered::View(elements, _) => {
                        let (html, truth) = (self.html(), elements.html());
                        assert!(
                            html.contains(truth),
                            "at {at}: the page does not show the view {topic} as it is:\n  expected {truth}\n  seen {html}"
                        );
                    }
                }
            }
        }
    }

    /// Waits until a signal has this value, and merges the stream in the meantime.
    ///
    /// # Panics
    /// Panics with the difference after 20 s.
    #[track_caller]
    pub fn sees<'a>(
        &'a mut self,
        path: &'a str,
        expected: impl Serialize,
    ) -> impl Future<Output = ()> + Send + 'a {
        let (at, expected) = (Location::caller(), json(&expected));
        async move {
            let deadline = Instant::now() + WAIT_TIMEOUT;
            while let Err(difference) = self.has_signal(path, &expected) {
                let in_time = self.next(deadline).await;
                assert!(
                    in_time,
                    "at {at}: the signal `{path}` was not as expected within {WAIT_TIMEOUT:?}:{difference}"
                );
            }
        }
    }

    /// Waits until the page shows this text, and merges the stream in the meantime.
    ///
    /// # Panics
    /// Panics with the visible text after 20 s.
    #[track_caller]
    pub fn reads<'a>(&'a mut self, text: &'a str) -> impl Future<Output = ()> + Send + 'a {
        let at = Location::caller();
        async move {
            let deadline = Instant::now() + WAIT_TIMEOUT;
            while !self.text().contains(text) {
                let in_time = self.next(deadline).await;
                assert!(
                    in_time,
                    "at {at}: the page did not show {text:?} within {WAIT_TIMEOUT:?}, but:\n  {}",
                    self.text()
                );
            }
        }
    }

    fn has_signal(&self, path: &str, expected: &Value) -> Result<(), String> {
        let seen = self.page.signal(path).cloned().map(without_own).unwrap_or_else(|| "".into());
        let expected = normal(expected);
        if same(&expected, &seen) { Ok(()) } else { Err(difference(&expected, &seen)) }
    }

    #[track_caller]
    fn assert_shown(&self, path: &[String], expected: &Value) {
        let shown = Value::Object(self.page.signals().clone());
        let (seen, expected) = (without_own(at_path(&shown, path)), normal(expected));
        assert!(
            same(&expected, &seen),
            "the page does not show `{}` as expected:{}",
            path.join("."),
            difference(&expected, &seen)
        );
    }
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_else(|error| panic!("this is not JSON: {error}"))
}

fn at_path(value: &Value, path: &[String]) -> Value {
    path.iter().try_fold(value, |value, name| value.get(name)).cloned().unwrap_or_default()
}
