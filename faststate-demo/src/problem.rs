//! The rendering of problems, such as a refused event, in the page's own style.

use askama::Template;
use faststate::{
    Elements,
    endpoint::{Problem, ProblemView},
};

/// Renders a problem into the live region `#problem` of `base.html`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProblemRegion;

impl ProblemView for ProblemRegion {
    fn render(&self, problem: &Problem) -> Elements {
        Elements::inner("#problem", ProblemNotice { problem }.to_string())
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemNotice<'a> {
    problem: &'a Problem,
}

impl ProblemNotice<'_> {
    /// The title that the user reads, in everyday words for common kinds of problems.
    fn title(&self) -> &'static str {
        match self.problem.kind {
            "rejected" | "input" => "That did not work",
            "sign_in" => "Sign in first",
            "unavailable" | "timed_out" | "busy" => "Not right now",
            _ => self.problem.title,
        }
    }
}
