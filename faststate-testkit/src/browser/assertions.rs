//! What a page should show.

use std::{future::Future, panic::Location};

use faststate_core::{ReactiveState, registry::Rendered};
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
    /// The signal has this value.
    ///
    /// # Panics
    /// With the difference.
    #[track_caller]
    pub fn assert_signal(&self, path: &str, expected: impl Serialize) {
        let expected = json(&expected);
        if let Err(difference) = self.has_signal(path, &expected) {
            panic!("the signal `{path}` is not as expected:{difference}");
        }
    }

    /// The page shows this state, signal for signal.
    ///
    /// # Panics
    /// With the difference.
    #[track_caller]
    pub fn assert_state<S: ReactiveState>(&self, expected: &S) {
        self.assert_shown(&[S::NAME.to_owned()], &json(&expected.signals()));
    }

    /// The page shows this state of a record or component, signal for signal.
    ///
    /// # Panics
    /// With the difference.
    #[track_caller]
    pub fn assert_record<S: ReactiveState>(&self, id: &str, expected: &S) {
        self.assert_shown(
            &[S::NAME.to_owned(), faststate_core::internal::segment(id)],
            &json(&expected.signals()),
        );
    }

    /// What somebody reads of the first element that a selector picks: `#list`, `h1`, `form .hint`.
    ///
    /// # Panics
    /// With both texts.
    #[track_caller]
    pub fn assert_text(&self, selector: &str, expected: &str) {
        let found = self.page.find(selector).unwrap_or_else(|failure| panic!("{failure}"));
        let Some(element) = found.first() else {
            panic!("nothing on the page is `{selector}`; it reads:\n  {}", self.text());
        };
        let seen = self.page.text_of(element);
        assert!(
            seen == expected,
            "`{selector}` reads otherwise:\n  expected {expected:?}\n  seen     {seen:?}"
        );
    }

    /// Somebody reads this text somewhere on the page.
    ///
    /// # Panics
    /// With what is there to read.
    #[track_caller]
    pub fn assert_reads(&self, text: &str) {
        let seen = self.text();
        assert!(seen.contains(text), "the page does not read {text:?}, but:\n  {seen}");
    }

    /// Nobody reads this text anywhere on the page.
    ///
    /// # Panics
    /// With what is there to read.
    #[track_caller]
    pub fn assert_reads_not(&self, text: &str) {
        let seen = self.text();
        assert!(!seen.contains(text), "the page reads {text:?}:\n  {seen}");
    }

    /// Nothing comes: no frame has arrived that was not merged before (law 14).
    ///
    /// # Panics
    /// With how much came.
    #[track_caller]
    pub fn assert_quiet(&mut self) -> impl Future<Output = ()> + Send + '_ {
        let at = Location::caller();
        async move {
            let before = self.page.events();
            self.read().await;
            let came = self.page.events() - before;
            assert!(came == 0, "at {at}: expected silence, but {came} events came");
        }
    }

    /// The page shows what the server has, of everything that it follows (law 4). [Settle](Self::settle) first.
    ///
    /// # Panics
    /// With the difference.
    #[track_caller]
    pub fn assert_current(&mut self) -> impl Future<Output = ()> + Send + '_ {
        let at = Location::caller();
        async move {
            let (head, ()) = self.request(Request::new(()), "same-origin").into_parts();
            let endpoint = self.app.endpoint();
            let visitor = endpoint.visitor(&head).await.unwrap_or_else(|error| panic!("at {at}: {error}"));
            for topic in &self.topics {
                let visible = endpoint.registry().visible(topic, visitor.viewer()).await;
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

    /// Waits until the signal has this value, and merges what comes meanwhile: for what happens by itself.
    ///
    /// # Panics
    /// With the difference, after 20 s.
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
                let goes_on = self.next(deadline).await;
                assert!(
                    goes_on,
                    "at {at}: the signal `{path}` was not as expected within {WAIT_TIMEOUT:?}:{difference}"
                );
            }
        }
    }

    /// Waits until this text is somewhere on the page, and merges what comes meanwhile.
    ///
    /// # Panics
    /// With what is there to read, after 20 s.
    #[track_caller]
    pub fn reads<'a>(&'a mut self, text: &'a str) -> impl Future<Output = ()> + Send + 'a {
        let at = Location::caller();
        async move {
            let deadline = Instant::now() + WAIT_TIMEOUT;
            while !self.text().contains(text) {
                let goes_on = self.next(deadline).await;
                assert!(
                    goes_on,
                    "at {at}: the page did not read {text:?} within {WAIT_TIMEOUT:?}, but:\n  {}",
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
