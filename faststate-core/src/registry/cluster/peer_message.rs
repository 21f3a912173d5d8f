//! Messages between nodes, apart from changes.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Elements, Revocation, Version, elements::PatchMode, registry::Audience};

/// A message from one node to others. A node ignores messages that it does not know: they come from a newer version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(in crate::registry) enum PeerMessage {
    /// Sent to all nodes once a second.
    #[serde(rename = "here")]
    Heartbeat { node: u64, name: String },
    /// Sent to all nodes by a node that leaves after it has published all of its changes.
    Goodbye { node: u64 },
    /// The number of streams that follow a key on this node, sent to the nodes that have joined the key.
    #[serde(rename = "present")]
    FollowerCount {
        node: u64,
        count: usize,
        /// Whether the receivers answer with their own counts.
        #[serde(rename = "asks")]
        wants_reply: bool,
    },
    /// The users and guests that follow a key on this node, sent to the nodes that have joined the key.
    Audience {
        node: u64,
        audience: Audience,
        /// Whether the receivers answer with their own audiences.
        #[serde(rename = "asks")]
        wants_reply: bool,
    },
    /// Elements for the followers of a key's signals, sent to the nodes that have joined the key.
    Elements {
        node: u64,
        /// The version that they belong to, if it is stored.
        version: Option<MessageVersion>,
        elements: Vec<MessageElements>,
    },
    /// Requests that all nodes close these streams.
    #[serde(rename = "revoked")]
    Revoke { revocation: Revocation },
    /// Requests that all nodes recheck the access of every stream, because too many revocations were queued.
    #[serde(rename = "revoked_many")]
    RecheckStreams,
    /// Notifies all nodes that this node has dropped unpublished changes, so that they reload what they follow.
    #[serde(rename = "missed")]
    ChangesDropped,
    /// The header of one piece of a long message; the content follows.
    Piece { message: u64, part: u32, parts: u32 },
}

/// The encoding of a version in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::registry) struct MessageVersion(u64, u64, u32);

/// The encoding of elements in a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::registry) struct MessageElements {
    mode: Cow<'static, str>,
    selector: Cow<'static, str>,
    html: String,
    added: Option<String>,
}

impl PeerMessage {
    pub(super) fn to_bytes(&self) -> Bytes {
        // Serialising numbers and strings cannot fail.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// Decodes a message. The returned bytes are the content of a piece, and empty for every other message.
    pub(in crate::registry) fn from_bytes(bytes: &Bytes) -> Option<(Self, Bytes)> {
        let mut values = serde_json::Deserializer::from_slice(bytes).into_iter();
        let first = values.next()?.ok()?;
        let rest = bytes.slice(values.byte_offset()..);
        (rest.is_empty() || matches!(first, Self::Piece { .. })).then_some((first, rest))
    }
}

impl From<Version> for MessageVersion {
    fn from(Version { epoch, seq, nonce }: Version) -> Self {
        Self(epoch, seq, nonce)
    }
}

impl From<MessageVersion> for Version {
    fn from(MessageVersion(epoch, seq, nonce): MessageVersion) -> Self {
        Self { epoch, seq, nonce }
    }
}

impl From<&Elements> for MessageElements {
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

impl MessageElements {
    /// Decodes the elements. Returns `None` for a mode that only a newer version knows.
    pub(super) fn into_elements(self) -> Option<Elements> {
        let Self { mode, selector, html, added } = self;
        Some(Elements { mode: PatchMode::from_name(&mode)?, selector, html, added })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_encoding_and_decoding() {
        let version = Version { epoch: u64::MAX, seq: u64::MAX, nonce: u32::MAX };
        let elements = [Elements::append("#a", "b", "<p id=\"b\">\r\n\0é</p>"), Elements::remove("#c")];
        let audience = Audience { users: vec!["Ann".into(), "b\"ob".into()], guests: 2 };
        for message in [
            PeerMessage::Heartbeat { node: u64::MAX, name: "a\"\n".into() },
            PeerMessage::Goodbye { node: 7 },
            PeerMessage::FollowerCount { node: 0, count: 7, wants_reply: true },
            PeerMessage::Audience { node: 0, audience, wants_reply: false },
            PeerMessage::Elements {
                node: 1,
                version: Some(version.into()),
                elements: elements.iter().map(MessageElements::from).collect(),
            },
            PeerMessage::Revoke { revocation: Revocation::user("Alice") },
            PeerMessage::RecheckStreams,
            PeerMessage::ChangesDropped,
        ] {
            assert_eq!(PeerMessage::from_bytes(&message.to_bytes()), Some((message, Bytes::new())));
        }
        assert_eq!(Version::from(MessageVersion::from(version)), version);
        assert_eq!(
            elements.each_ref().map(|one| MessageElements::from(one).into_elements().unwrap()),
            elements
        );
        assert_eq!(PeerMessage::from_bytes(&Bytes::from_static(b"{\"is\":\"something_new\"}")), None);
        assert_eq!(PeerMessage::from_bytes(&Bytes::from_static(b"{\"is\":\"missed\"}x")), None);
    }

    #[test]
    fn encoding_is_the_one_that_other_versions_read() {
        for (message, json) in [
            (PeerMessage::Heartbeat { node: 1, name: "a".into() }, r#"{"is":"here","node":1,"name":"a"}"#),
            (PeerMessage::Goodbye { node: 1 }, r#"{"is":"goodbye","node":1}"#),
            (
                PeerMessage::FollowerCount { node: 1, count: 2, wants_reply: true },
                r#"{"is":"present","node":1,"count":2,"asks":true}"#,
            ),
            (
                PeerMessage::Audience { node: 1, audience: Audience::default(), wants_reply: false },
                r#"{"is":"audience","node":1,"audience":{"users":[],"guests":0},"asks":false}"#,
            ),
            (PeerMessage::RecheckStreams, r#"{"is":"revoked_many"}"#),
            (PeerMessage::ChangesDropped, r#"{"is":"missed"}"#),
            (
                PeerMessage::Piece { message: 1, part: 0, parts: 2 },
                r#"{"is":"piece","message":1,"part":0,"parts":2}"#,
            ),
        ] {
            assert_eq!(message.to_bytes(), json);
        }
        let revoke = PeerMessage::Revoke { revocation: Revocation::user("a") }.to_bytes();
        assert!(revoke.starts_with(br#"{"is":"revoked","revocation":"#));
    }
}
