//! The demo's own source: each page links to the lines that it is made of.

use askama::Template;
use faststate::salvo::{Page, PageError};
use salvo::prelude::*;

use crate::{layout::Layout, not_found};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!($name))),*]
    };
}

const FILES: &[(&str, &str)] = files![
    "main.rs",
    "home.rs",
    "timer.rs",
    "products.rs",
    "profile.rs",
    "chat.rs",
    "counter.rs",
    "status.rs",
    "admin.rs",
    "login.rs",
    "account.rs",
    "draft.rs",
    "layout.rs",
    "problem.rs",
    "not_found.rs",
    "source.rs",
];

#[derive(Template)]
#[template(path = "source.html")]
struct SourcePage {
    layout: Layout,
    name: &'static str,
    text: &'static str,
}

impl SourcePage {
    const FILES: &'static [(&'static str, &'static str)] = FILES;
}

#[handler]
pub(crate) async fn show(
    page: Page,
    request: &mut Request,
    response: &mut Response,
) -> Result<(), PageError> {
    let asked = request.param::<String>("file").unwrap_or_default();
    let Some((name, text)) = FILES.iter().find(|(name, _)| *name == asked) else {
        return not_found::answer(&page, "There is no such file", response).await;
    };
    let layout = Layout::of(&page, "", name).await?;
    response.render(Text::Html(SourcePage { layout, name, text }.render()?));
    Ok(())
}

/// The address of the line of this file that has this text; of the whole file if none has.
pub(crate) fn place(file: &str, text: &str) -> String {
    let found = FILES.iter().find(|(name, _)| *name == file);
    match found.and_then(|(_, source)| source.lines().position(|line| line.contains(text))) {
        Some(line) => format!("/source/{file}#L{}", line + 1),
        None => format!("/source/{file}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_line_of_a_file() {
        assert!(place("home.rs", "struct SetText").starts_with("/source/home.rs#L"));
        assert_eq!(place("main.rs", "no line has this\0"), "/source/main.rs");
    }
}
