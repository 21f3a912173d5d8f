//! Forms whose fields are drafts.
//!
//! The signals `_draft` hold the typed text, beside the followed state, and `_touched` marks the fields that the user has
//! changed. An action sends only those, so that two people who edit at once lose nothing.
//!
//! The macro `field` in `templates/draft.html` renders such a field.

use faststate::prelude::*;
use serde::{Deserialize, Deserializer};

/// Deserializes a field of such a form: `None` if it was not touched, and an empty text if it was emptied.
pub(crate) fn touched<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

/// Makes an action send the draft of each of these fields that was touched.
pub(crate) fn only_touched(action: Action, fields: &[&str]) -> Action {
    fields.iter().fold(action, |action, field| {
        action.bind_if(field, &format!("_draft.{field}"), &format!("_touched.{field}"))
    })
}

/// Replaces `place` by the draft, if the field was touched.
pub(crate) fn put(draft: Option<&str>, place: &mut String) {
    if let Some(draft) = draft {
        draft.trim().clone_into(place);
    }
}
