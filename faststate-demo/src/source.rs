//! The demo's own source, to which each page links.

use askama::Template;
use faststate::{BoxError, endpoint::Page};

use crate::{layout::Layout, not_found, response::PageResponse};

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
    "auction.rs",
    "purse.rs",
    "lots.rs",
    "admin.rs",
    "settings.rs",
    "login.rs",
    "account.rs",
    "draft.rs",
    "layout.rs",
    "problem.rs",
    "not_found.rs",
    "source.rs",
    "assets.rs",
    "response.rs",
    "web.rs",
    "web/salvo.rs",
    "web/axum.rs",
    "web/hyper.rs",
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

pub(crate) async fn show(page: &Page, file: &str) -> Result<PageResponse, BoxError> {
    let Some((name, text)) = FILES.iter().find(|(name, _)| *name == file) else {
        return not_found::answer(page, "There is no such file").await;
    };
    let layout = Layout::of(page, "", name).await?;
    Ok(SourcePage { layout, name, text }.render()?.into())
}

/// The address of the first line of `file` that contains `text`, or of the whole file if there is none.
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
    fn place_is_a_line_or_a_whole_file() {
        assert!(place("home.rs", "struct SetText").starts_with("/source/home.rs#L"));
        assert_eq!(place("main.rs", "no line has this\0"), "/source/main.rs");
    }
}
