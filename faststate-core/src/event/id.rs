//! The id of an event, by which a retry is recognised.

use std::{fmt, str::FromStr, sync::Arc};

/// The id of one event. An event that is sent again under the same id is applied once (law 3).
///
/// It is 1 to 64 bytes of visible ASCII. Over HTTP, it comes from the header `Faststate-Event`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EventId(Arc<str>);

impl EventId {
    /// Generates a random id.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()).into())
    }

    /// Returns the id of the event that a message carries.
    pub(crate) fn of_message(id: u128) -> Self {
        Self(format!("{id:032x}").into())
    }

    /// Returns the text of the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventId({})", self.0)
    }
}

/// The error of parsing an [`EventId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event id is 1 to 64 bytes of visible ASCII")]
#[non_exhaustive]
pub struct EventIdError;

impl FromStr for EventId {
    type Err = EventIdError;

    fn from_str(text: &str) -> Result<Self, EventIdError> {
        text.as_bytes().try_into()
    }
}

impl TryFrom<&[u8]> for EventId {
    type Error = EventIdError;

    fn try_from(bytes: &[u8]) -> Result<Self, EventIdError> {
        let legal = (1..=64).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        let text = str::from_utf8(bytes).ok().filter(|_| legal);
        text.map(|text| Self(text.into())).ok_or(EventIdError)
    }
}
