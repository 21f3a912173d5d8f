//! Settings of the whole site, which every page follows and only administrators change.

use faststate::{
    prelude::*,
    registry::{Call, RegistryBuilder},
};
use serde::{Deserialize, Serialize};

use crate::text::is_visible;

const MAX_ANNOUNCEMENT_CHARS: usize = 200;

/// The settings of the whole site, which the layout of every page follows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) theme: Theme,
    pub(crate) maintenance: bool,
    pub(crate) announcement: String,
}

impl ReactiveState for Settings {
    const NAME: &'static str = "settings";
}

/// The colour of the stylesheet's accents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Theme {
    #[default]
    Indigo,
    Forest,
    Ember,
}

impl Theme {
    pub(crate) const ALL: [Self; 3] = [Self::Indigo, Self::Forest, Self::Ember];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Indigo => "indigo",
            Self::Forest => "forest",
            Self::Ember => "ember",
        }
    }
}

impl Settings {
    /// Returns whether maintenance refuses this event. Administrators' events and signing out are always allowed.
    pub(crate) fn refuse(&self, call: &Call) -> bool {
        let leaves = matches!(call.key.state(), "login" | "account");
        self.maintenance && !leaves && !call.viewer.has_role("admin")
    }
}

pub(crate) fn register(builder: RegistryBuilder) -> RegistryBuilder {
    let config = StateConfig::global().access(Access::public()).persist();
    builder.state::<Settings>(config, |state| {
        state.event::<SetTheme>().event::<SetMaintenance>().event::<Announce>()
    })
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetTheme {
    pub(crate) theme: Theme,
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
    pub(crate) on: bool,
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

/// Shows an announcement on every page; an empty one removes it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Announce {
    pub(crate) text: String,
}

impl Event for Announce {
    type State = Settings;
    const NAME: &'static str = "announce";

    fn authorize(&self, _: &Settings, viewer: &Viewer) -> Result<(), Rejection> {
        administrators(viewer)
    }

    fn apply(&self, settings: &mut Settings, _: &mut Context<Settings>) -> Result<(), Rejection> {
        let text = self.text.trim();
        if text.chars().count() > MAX_ANNOUNCEMENT_CHARS {
            return Err(Rejection::invalid("at most 200 characters").field("text"));
        }
        // An invisible text removes the announcement, as an empty one does.
        if is_visible(text) { text } else { "" }.clone_into(&mut settings.announcement);
        Ok(())
    }
}

fn administrators(viewer: &Viewer) -> Result<(), Rejection> {
    if viewer.has_role("admin") {
        Ok(())
    } else {
        Err(Rejection::forbidden("only administrators may do this"))
    }
}
