//! Admin: settings that every open page follows, and that only administrators change.

use askama::Template;
use faststate::{
    BoxError,
    endpoint::Page,
    prelude::*,
    registry::{Call, RegistryBuilder},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::{layout::Layout, login, text::is_visible, web::Answer};

const LONGEST: usize = 200;

/// What holds for the whole site. [`Layout`] follows it on every page.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) theme: Theme,
    pub(crate) maintenance: bool,
    pub(crate) announcement: String,
}

impl ReactiveState for Settings {
    const NAME: &'static str = "settings";
}

/// The colour that the stylesheet's accents have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Theme {
    #[default]
    Indigo,
    Forest,
    Ember,
}

impl Theme {
    const ALL: [Self; 3] = [Self::Indigo, Self::Forest, Self::Ember];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Indigo => "indigo",
            Self::Forest => "forest",
            Self::Ember => "ember",
        }
    }
}

impl Settings {
    /// Whether an event is refused because of maintenance: everybody's but an administrator's, and one can
    /// always sign out.
    pub(crate) fn refuse(&self, call: &Call) -> bool {
        let leaves = matches!(call.key.state(), "login" | "account");
        self.maintenance && !leaves && !call.viewer.has_role("admin")
    }
}

pub(crate) fn register(builder: RegistryBuilder) -> RegistryBuilder {
    let everybody = StateConfig::global().access(Access::public()).persist();
    builder.state::<Settings>(everybody, |state| {
        state.event::<SetTheme>().event::<SetMaintenance>().event::<Announce>()
    })
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetTheme {
    theme: Theme,
}

impl Event for SetTheme {
    type State = Settings;
    const NAME: &'static str = "set_theme";

    fn authorize(&self, _: &Settings, viewer: &Viewer) -> Result<(), Rejection> {
        administrators(viewer)
    }

    fn apply(&self, settings: &mut Settings, _: &mut Context<Settings>) -> Result<(), Rejection> {
        settings.theme = self.theme;
        Ok(())
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetMaintenance {
    on: bool,
}

impl Event for SetMaintenance {
    type State = Settings;
    const NAME: &'static str = "set_maintenance";

    fn authorize(&self, _: &Settings, viewer: &Viewer) -> Result<(), Rejection> {
        administrators(viewer)
    }

    fn apply(&self, settings: &mut Settings, _: &mut Context<Settings>) -> Result<(), Rejection> {
        settings.maintenance = self.on;
        Ok(())
    }
}

/// Shows a line on every page; an empty one takes it away.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Announce {
    text: String,
}

impl Event for Announce {
    type State = Settings;
    const NAME: &'static str = "announce";

    fn authorize(&self, _: &Settings, viewer: &Viewer) -> Result<(), Rejection> {
        administrators(viewer)
    }

    fn apply(&self, settings: &mut Settings, _: &mut Context<Settings>) -> Result<(), Rejection> {
        let text = self.text.trim();
        if text.chars().count() > LONGEST {
            return Err(Rejection::invalid("at most 200 characters").field("text"));
        }
        // A text that shows nothing takes the line away, as an empty one does.
        if is_visible(text) { text } else { "" }.clone_into(&mut settings.announcement);
        Ok(())
    }
}

fn administrators(viewer: &Viewer) -> Result<(), Rejection> {
    if viewer.has_role("admin") { Ok(()) } else { Err(Rejection::forbidden("this is for administrators")) }
}

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

pub(crate) async fn show(page: &Page) -> Result<Answer, BoxError> {
    if page.viewer().user().is_none() {
        return Ok(login::required("/admin"));
    }
    let allowed = page.viewer().has_role("admin");
    let html = AdminPage { layout: Layout::of(page, "/admin", "admin.rs").await?, allowed }.render()?;
    Ok(if allowed { html.into() } else { Answer::refused(StatusCode::FORBIDDEN, html) })
}
