//! The page for addresses that do not exist.

use askama::Template;
use faststate::{BoxError, endpoint::Page};
use http::StatusCode;

use crate::{layout::Layout, response::PageResponse};

#[derive(Template)]
#[template(path = "not_found.html")]
struct NotFoundPage<'a> {
    layout: Layout,
    title: &'a str,
}

pub(crate) async fn show(page: &Page) -> Result<PageResponse, BoxError> {
    answer(page, "There is nothing here").await
}

/// A 404 page with this title.
pub(crate) async fn answer(page: &Page, title: &str) -> Result<PageResponse, BoxError> {
    let page = NotFoundPage { layout: Layout::of(page, "", "not_found.rs").await?, title };
    Ok(PageResponse::refused(StatusCode::NOT_FOUND, page.render()?))
}
