//! Forms whose fields are drafts: what is being typed lives beside the followed state, in `_draft`, and only
//! what was touched (`_touched`) is sent, so that two people who edit at once lose nothing.
//!
//! The other half is the macro `field` in `templates/draft.html`.

use faststate::prelude::*;
use serde::{Deserialize, Deserializer};

/// A field of such a form: absent if it was not touched, and empty if it was emptied.
pub(crate) fn touched<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

/// Takes each of these fields from its draft, if it was touched.
pub(crate) fn only_touched(action: Action, fields: &[&str]) -> Action {
    fields.iter().fold(action, |action, field| {
        action.bind_if(field, &format!("_draft.{field}"), &format!("_touched.{field}"))
    })
}

/// Puts what was touched into its place.
pub(crate) fn put(draft: Option<&str>, place: &mut String) {
    if let Some(draft) = draft {
        draft.trim().clone_into(place);
    }
}
