//! What nodes tell each other besides changes.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Elements, Revocation, Version, elements::Mode, registry::Audience};

/// What one node tells others. A node ignores words that it does not know: they are of a newer one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(in crate::registry) enum PeerMessage {
    /// To all: this node is there.
    Here { node: u64, name: String },
    /// To all: this node leaves, and has told everything that it saved.
    Goodbye { node: u64 },
    /// To who follows a key: so many streams of this node follow it. Perhaps the others are to say the
    /// same of themselves.
    Present { node: u64, count: usize, asks: bool },
    /// To who follows a key: these users and so many guests follow it on this node. Perhaps the others are to
    /// say the same of themselves.
    Audience { node: u64, audience: Audience, asks: bool },
    /// To who follows a key: elements for those who follow its signals. They belong to this version, if it is
    /// stored.
    Elements { node: u64, version: Option<WordVersion>, elements: Vec<WordElements> },
    /// To all: these streams are to be closed.
    Revoked { revocation: Revocation },
    /// To all: more streams are to be closed than this node could say. Each stream's access is to be checked.
    RevokedMany,
    /// To all: this node has dropped changes that it had not published. What is followed is to be read again.
    Missed,
    /// A piece of words that are too long for one message; its content follows.
    Piece { message: u64, part: u32, parts: u32 },
}

/// A version as words carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::registry) struct WordVersion(u64, u64, u32);

/// Elements as words carry them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::registry) struct WordElements {
    mode: Cow<'static, str>,
    selector: Cow<'static, str>,
    html: String,
    added: Option<String>,
}

impl PeerMessage {
    pub(super) fn to_bytes(&self) -> Bytes {
        // Numbers and texts can be written.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// The words, and what follows a piece.
    pub(super) fn from_bytes(bytes: &Bytes) -> Option<(Self, Bytes)> {
        let mut words = serde_json::Deserializer::from_slice(bytes).into_iter();
        let first = words.next()?.ok()?;
        let rest = bytes.slice(words.byte_offset()..);
        (rest.is_empty() || matches!(first, Self::Piece { .. })).then_some((first, rest))
    }
}

impl From<Version> for WordVersion {
    fn from(Version { epoch, seq, nonce }: Version) -> Self {
        Self(epoch, seq, nonce)
    }
}

impl From<WordVersion> for Version {
    fn from(WordVersion(epoch, seq, nonce): WordVersion) -> Self {
        Self { epoch, seq, nonce }
    }
}

impl From<&Elements> for WordElements {
    fn from(elements: &Elements) -> Self {
        let Elements { mode, selector, html, added } = elements;
        Self {
            mode: mode.as_str().into(),
            selector: selector.clone(),
            html: html.clone(),
            added: added.clone(),
        }
    }
}

impl WordElements {
    /// The elements, unless a newer node has a mode that this one does not know.
    pub(in crate::registry) fn read(self) -> Option<Elements> {
        let Self { mode, selector, html, added } = self;
        Some(Elements { mode: Mode::named(&mode)?, selector, html, added })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_were_told() {
        let version = Version { epoch: u64::MAX, seq: u64::MAX, nonce: u32::MAX };
        let elements = [Elements::append("#a", "b", "<p id=\"b\">\r\n\0é</p>"), Elements::remove("#c")];
        let audience = Audience { users: vec!["Ann".into(), "b\"ob".into()], guests: 2 };
        for words in [
            PeerMessage::Here { node: u64::MAX, name: "a\"\n".into() },
            PeerMessage::Goodbye { node: 7 },
            PeerMessage::Present { node: 0, count: 7, asks: true },
            PeerMessage::Audience { node: 0, audience, asks: false },
            PeerMessage::Elements {
                node: 1,
                version: Some(version.into()),
                elements: elements.iter().map(WordElements::from).collect(),
            },
            PeerMessage::Revoked { revocation: Revocation::user("Alice") },
            PeerMessage::RevokedMany,
            PeerMessage::Missed,
        ] {
            assert_eq!(PeerMessage::from_bytes(&words.to_bytes()), Some((words, Bytes::new())));
        }
        assert_eq!(Version::from(WordVersion::from(version)), version);
        assert_eq!(elements.each_ref().map(|one| WordElements::from(one).read().unwrap()), elements);
        assert_eq!(PeerMessage::from_bytes(&Bytes::from_static(b"{\"is\":\"something_new\"}")), None);
        assert_eq!(PeerMessage::from_bytes(&Bytes::from_static(b"{\"is\":\"missed\"}x")), None);
    }
}
