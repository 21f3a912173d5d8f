//! The outcome of a sent event.

use std::fmt::Write as _;

use faststate_core::{Version, registry::Applied};
use faststate_http::endpoint::{Problem, ReplyBody};
use http::{Response, StatusCode};

use super::Click;

/// A sent event and its outcome.
#[derive(Clone, Debug)]
pub struct Sent {
    click: Click,
    pub(super) status: StatusCode,
    answer: Option<Applied>,
    problem: Option<Problem>,
    version: Option<Version>,
}

impl Sent {
    /// Reads the outcome from the head of a response.
    pub(super) fn new(click: &Click, response: &Response<ReplyBody>) -> Self {
        let version = response.headers().get("faststate-version").and_then(|value| value.to_str().ok());
        Self {
            click: click.clone(),
            status: response.status(),
            answer: response.extensions().get().copied(),
            problem: response.extensions().get().cloned(),
            version: version.and_then(|version| version.parse().ok()),
        }
    }

    /// Asserts that the event changed the state.
    ///
    /// # Panics
    /// Panics with the outcome if it did not.
    #[track_caller]
    pub fn assert_changed(self) -> Self {
        self.assert_answer(Applied::Changed, "changed the state")
    }

    /// Asserts that the event was accepted and changed nothing.
    ///
    /// # Panics
    /// Panics with the outcome if it was not.
    #[track_caller]
    pub fn assert_unchanged(self) -> Self {
        self.assert_answer(Applied::Unchanged, "was accepted and changed nothing")
    }

    /// Asserts that the event had already been applied.
    ///
    /// # Panics
    /// Panics with the outcome if it had not.
    #[track_caller]
    pub fn assert_repeated(self) -> Self {
        self.assert_answer(Applied::Repeated, "was a repeat")
    }

    /// Asserts that the event was rejected, or that its input was invalid, with a message for this field. `""` means a
    /// rejection without fields.
    ///
    /// # Panics
    /// Panics with the outcome if it was not.
    #[track_caller]
    pub fn assert_rejected(self, field: &str) -> Self {
        let problem = self.problem.as_ref().filter(|problem| matches!(problem.kind, "rejected" | "input"));
        let has_message = problem.is_some_and(|problem| match field {
            "" => problem.errors.is_empty(),
            field => problem.errors.iter().any(|(name, _)| name == field),
        });
        let for_field =
            if field.is_empty() { String::new() } else { format!(" with a message for `{field}`") };
        assert!(has_message, "expected that the event was rejected{for_field}, but {}", self.outcome());
        self
    }

    /// Asserts that the event was refused with a problem of this [kind](Problem::kind): `not_found`, `sign_in`, `unavailable`.
    ///
    /// # Panics
    /// Panics with the outcome if it was not.
    #[track_caller]
    pub fn assert_problem(self, kind: &str) -> Self {
        let is_it = self.problem.as_ref().is_some_and(|problem| problem.kind == kind);
        assert!(is_it, "expected the problem `{kind}`, but {}", self.outcome());
        self
    }

    /// The result of an accepted event.
    #[must_use]
    pub const fn answer(&self) -> Option<Applied> {
        self.answer
    }

    /// The problem of a refused event.
    #[must_use]
    pub const fn problem(&self) -> Option<&Problem> {
        self.problem.as_ref()
    }

    /// The version of the state after an accepted event.
    #[must_use]
    pub const fn version(&self) -> Option<Version> {
        self.version
    }

    /// The request, which can be [repeated](super::Browser::repeat).
    #[must_use]
    pub const fn click(&self) -> &Click {
        &self.click
    }

    #[track_caller]
    fn assert_answer(self, answer: Applied, what: &str) -> Self {
        assert!(self.answer == Some(answer), "expected that the event {what}, but {}", self.outcome());
        self
    }

    fn outcome(&self) -> String {
        match (self.answer, &self.problem) {
            (Some(Applied::Changed), _) => "it changed the state".to_owned(),
            (Some(Applied::Unchanged), _) => "it was accepted and changed nothing".to_owned(),
            (Some(Applied::Repeated), _) => "it was a repeat".to_owned(),
            (Some(other), _) => format!("it was accepted: {other:?}"),
            (None, Some(problem)) => {
                let status = problem.status.as_u16();
                let mut text = format!("it was refused: {status} {}, {}", problem.kind, problem.detail);
                for (name, message) in &problem.errors {
                    let _ = write!(text, "\n  {name}: {message}");
                }
                text
            }
            (None, None) => format!("the response was {} and not of an event", self.status),
        }
    }
}
