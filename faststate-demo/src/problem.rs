//! The rendering of a refused event, in the page's live region and style.

use askama::Template;
use faststate::{
    Elements,
    endpoint::{Problem, ProblemView},
};

/// Renders a problem into the region that `base.html` reserves.
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
    /// A title for the person who pressed the button.
    fn title(&self) -> &'static str {
        match self.problem.kind {
            "rejected" | "input" => "That did not work",
            "sign_in" => "Sign in first",
            "unavailable" | "timed_out" | "busy" => "Not right now",
            _ => self.problem.title,
        }
    }
}
