//! What there is where nothing is.

use askama::Template;
use faststate::salvo::{Page, PageError};
use salvo::prelude::*;

use crate::layout::Layout;

#[derive(Template)]
#[template(path = "not_found.html")]
struct NotFoundPage<'a> {
    layout: Layout,
    title: &'a str,
}

#[handler]
pub(crate) async fn show(page: Page, response: &mut Response) -> Result<(), PageError> {
    answer(&page, "There is nothing here", response).await
}

/// A friendly 404.
pub(crate) async fn answer(page: &Page, title: &str, response: &mut Response) -> Result<(), PageError> {
    response.status_code(StatusCode::NOT_FOUND);
    let page = NotFoundPage { layout: Layout::of(page, "", "not_found.rs").await?, title };
    response.render(Text::Html(page.render()?));
    Ok(())
}
