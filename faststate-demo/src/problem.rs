//! How a refused event is shown: in the page's own live region, in the page's own style.

use askama::Template;
use faststate::{
    Elements,
    endpoint::{Problem, ProblemView},
};

/// The notice that `base.html` has a place for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notice;

impl ProblemView for Notice {
    fn render(&self, problem: &Problem) -> Elements {
        Elements::inner("#problem", ProblemNotice { problem }.to_string())
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemNotice<'a> {
    problem: &'a Problem,
}
