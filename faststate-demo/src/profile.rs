//! The profile: one for each user, the same in every browser of that user.

use askama::Template;
use faststate::{BoxError, endpoint::Page, prelude::*, registry::RegistryBuilder};
use serde::{Deserialize, Serialize};

use crate::{
    draft::{only_touched, put, touched},
    layout::Layout,
    login,
    response::PageResponse,
    text::{is_visible, visible},
};

const FIELDS: &[&str] = &["display_name", "email", "about"];
const MAX_PREFERENCES: usize = 20;

/// The profile of one user.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Profile {
    display_name: String,
    email: String,
    about: String,
    preferences: Vec<Preference>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Preference {
    name: String,
    value: String,
}

/// The form's fields; the preferences are a [`View`].
#[derive(Serialize)]
struct ProfileSignals<'a> {
    display_name: &'a str,
    email: &'a str,
    about: &'a str,
}

impl ReactiveState for Profile {
    const NAME: &'static str = "profile";

    fn signals(&self) -> impl Serialize {
        ProfileSignals { display_name: &self.display_name, email: &self.email, about: &self.about }
    }
}

pub(crate) fn register(builder: RegistryBuilder) -> RegistryBuilder {
    builder.state::<Profile>(StateConfig::user().persist(), |state| {
        state.event::<Save>().event::<Prefer>().event::<Forget>().view(Preferences)
    })
}

/// Saves the fields that were touched.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Save {
    #[serde(default, deserialize_with = "touched")]
    display_name: Option<String>,
    #[serde(default, deserialize_with = "touched")]
    email: Option<String>,
    #[serde(default, deserialize_with = "touched")]
    about: Option<String>,
}

impl Event for Save {
    type State = Profile;
    const NAME: &'static str = "save";

    fn apply(&self, profile: &mut Profile, _: &mut Context<Profile>) -> Result<(), Rejection> {
        let mut refused = Rejection::invalid("the profile was not saved");
        let trimmed = |text: &Option<String>| text.as_deref().map(|text| text.trim().to_owned());
        if trimmed(&self.display_name)
            .is_some_and(|name| name.chars().count() > 40 || visible(&name).chars().count() < 2)
        {
            refused = refused.and("display_name", "2 to 40 characters");
        }
        if trimmed(&self.email).is_some_and(|email| !is_address(&email)) {
            refused = refused.and("email", "an address like ada@example.org");
        }
        if trimmed(&self.about).is_some_and(|about| about.chars().count() > 300) {
            refused = refused.and("about", "at most 300 characters");
        }
        if refused.fields().next().is_some() {
            return Err(refused);
        }
        put(self.display_name.as_deref(), &mut profile.display_name);
        put(self.email.as_deref(), &mut profile.email);
        put(self.about.as_deref(), &mut profile.about);
        Ok(())
    }
}

/// Returns whether the text is empty or has one `@` between a name and a host with a dot.
fn is_address(text: &str) -> bool {
    let plain =
        text.len() <= 100 && !text.contains(|letter: char| letter.is_whitespace() || letter.is_control());
    let parts = text.split_once('@').is_some_and(|(name, host)| {
        let dotted = host.split('.').count() > 1 && host.split('.').all(|part| !part.is_empty());
        !name.is_empty() && !host.contains('@') && dotted
    });
    text.is_empty() || (plain && parts)
}

/// Adds a preference, or changes the one with this name.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Prefer {
    preference: String,
    value: String,
}

impl Event for Prefer {
    type State = Profile;
    const NAME: &'static str = "prefer";

    fn apply(&self, profile: &mut Profile, context: &mut Context<Profile>) -> Result<(), Rejection> {
        let (name, value) = (self.preference.trim(), self.value.trim());
        let mut refused = Rejection::invalid("the preference was not added");
        if !is_visible(name) || name.chars().count() > 30 {
            refused = refused.and("preference", "1 to 30 characters");
        }
        if !is_visible(value) || value.chars().count() > 60 {
            refused = refused.and("value", "1 to 60 characters");
        }
        if refused.fields().next().is_some() {
            return Err(refused);
        }
        let known = profile.preferences.iter().position(|preference| preference.name == name);
        match known {
            Some(at) => value.clone_into(&mut profile.preferences[at].value),
            None if profile.preferences.len() == MAX_PREFERENCES => {
                return Err(Rejection::conflict("20 preferences are enough: remove one first"));
            }
            None => profile.preferences.push(Preference { name: name.to_owned(), value: value.to_owned() }),
        }
        // Empties the fields of the sender only.
        context.stream(|_, reply| async move {
            let _ = reply.signals(&Added { new_preference: "", new_value: "" }).await;
        });
        Ok(())
    }
}

#[derive(Serialize)]
struct Added {
    new_preference: &'static str,
    new_value: &'static str,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Forget {
    preference: String,
}

impl Event for Forget {
    type State = Profile;
    const NAME: &'static str = "forget";

    fn apply(&self, profile: &mut Profile, _: &mut Context<Profile>) -> Result<(), Rejection> {
        profile.preferences.retain(|preference| preference.name != self.preference);
        Ok(())
    }
}

/// The list of preferences.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Preferences;

impl View for Preferences {
    type State = Profile;
    const NAME: &'static str = "preferences";

    fn render(&self, profile: &Profile) -> Elements {
        Elements::outer(PreferenceList { preferences: &profile.preferences }.to_string())
    }
}

#[derive(Template)]
#[template(path = "preferences.html")]
struct PreferenceList<'a> {
    preferences: &'a [Preference],
}

impl PreferenceList<'_> {
    fn forget(&self, preference: &Preference) -> Action {
        Forget { preference: preference.name.clone() }.action()
    }
}

#[derive(Template)]
#[template(path = "profile.html")]
struct ProfilePage<'a> {
    layout: Layout,
    user: &'a str,
    profile: &'a Profile,
    preferences: Elements,
}

impl ProfilePage<'_> {
    fn save(&self) -> Action {
        only_touched(Save::default().action(), FIELDS)
    }

    fn prefer(&self) -> Action {
        let empty = Prefer { preference: String::new(), value: String::new() };
        empty.action().bind("preference", "new_preference").bind("value", "new_value")
    }
}

pub(crate) async fn show(page: &Page) -> Result<PageResponse, BoxError> {
    let Some(user) = page.viewer().user() else { return Ok(login::required("/profile")) };
    let (profile, preferences) = (page.follow::<Profile>().await?, page.view::<Preferences>().await?);
    let layout = Layout::of(page, "/profile", "profile.rs").await?;
    Ok(ProfilePage { layout, user, profile: &profile, preferences }.render()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn email_addresses_are_recognised() {
        for text in ["", "ada@example.org", "a.b+c@x.y.z"] {
            assert!(is_address(text), "{text}");
        }
        for text in
            ["ada", "@example.org", "ada@", "ada@example", "ada@.org", "a@b@c.d", "a b@c.d", "a@b.c\n"]
        {
            assert!(!is_address(text), "{text}");
        }
    }
}
