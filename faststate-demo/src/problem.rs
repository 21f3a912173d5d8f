//! How a refused event is shown: in the page's own live region, in the page's own style.

use askama::Template;
use faststate::{
    Elements,
    endpoint::{Problem, ProblemView},
};

/// The notice that `base.html` has a place for.
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
    /// In words for whoever pressed the button.
    fn title(&self) -> &'static str {
        match self.problem.kind {
            "rejected" | "input" => "That did not work",
            "sign_in" => "Sign in first",
            "unavailable" | "timed_out" | "busy" => "Not right now",
            _ => self.problem.title,
        }
    }
}
