//! What nodes tell each other besides changes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Revocation;

/// What one node tells others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(in crate::registry) enum Words {
    /// To all: this node is there.
    Here { node: u64, name: String },
    /// To all: this node leaves, and has told everything that it saved.
    Goodbye { node: u64 },
    /// To who follows a key: so many streams of this node follow it. Perhaps the others are to say the
    /// same of themselves.
    Present { node: u64, count: usize, asks: bool },
    /// To all: these streams are to be closed.
    Revoked { revocation: Revocation },
}

impl Words {
    pub(super) fn to_bytes(&self) -> Bytes {
        // Numbers and texts can be written.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_were_told() {
        for words in [
            Words::Here { node: u64::MAX, name: "a\"\n".into() },
            Words::Goodbye { node: 7 },
            Words::Present { node: 0, count: 7, asks: true },
            Words::Revoked { revocation: Revocation::user("Alice") },
        ] {
            assert_eq!(Words::from_bytes(&words.to_bytes()), Some(words));
        }
        assert_eq!(Words::from_bytes(b"{\"is\":\"something_new\"}"), None);
    }
}
