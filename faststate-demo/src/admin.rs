//! Admin: the page on which administrators change the settings.

use askama::Template;
use faststate::{BoxError, endpoint::Page, prelude::*};
use http::StatusCode;

use crate::{
    layout::Layout,
    login,
    response::PageResponse,
    settings::{Announce, SetMaintenance, SetTheme, Theme},
};

#[derive(Template)]
#[template(path = "admin.html")]
struct AdminPage {
    layout: Layout,
    allowed: bool,
}

impl AdminPage {
    const THEMES: [Theme; 3] = Theme::ALL;

    fn set_theme(&self, theme: &Theme) -> Action {
        SetTheme { theme: *theme }.action().in_order()
    }

    fn set_maintenance(&self, on: bool) -> Action {
        SetMaintenance { on }.action().in_order()
    }

    fn announce(&self) -> Action {
        Announce { text: String::new() }.action().bind("text", "_announcement").in_order()
    }

    fn silence(&self) -> Action {
        Announce { text: String::new() }.action().in_order()
    }
}

pub(crate) async fn show(page: &Page) -> Result<PageResponse, BoxError> {
    if page.viewer().user().is_none() {
        return Ok(login::required("/admin"));
    }
    let allowed = page.viewer().has_role("admin");
    let html = AdminPage { layout: Layout::of(page, "/admin", "admin.rs").await?, allowed }.render()?;
    Ok(if allowed { html.into() } else { PageResponse::refused(StatusCode::FORBIDDEN, html) })
}
