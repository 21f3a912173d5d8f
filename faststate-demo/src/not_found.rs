//! What there is where nothing is.

use askama::Template;
use faststate::salvo::{Page, PageError};
use salvo::prelude::*;

use crate::layout::Layout;

#[derive(Template)]
#[template(path = "not_found.html")]
struct NotFoundPage {
    layout: Layout,
}

#[handler]
pub(crate) async fn show(page: Page, response: &mut Response) -> Result<Text<String>, PageError> {
    response.status_code(StatusCode::NOT_FOUND);
    let page = NotFoundPage { layout: Layout::of(&page, "") };
    Ok(Text::Html(page.render()?))
}
