//! Revocations, which close the streams of a session or a user.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{SessionId, Viewer};

/// Identifies the streams to close: those of a session after a logout, or those of a user whose rights were withdrawn.
///
/// It contains only a hash, so that messages between nodes reveal no session and no user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Revocation {
    digest: (u64, u64),
}

impl Revocation {
    /// Creates the revocation of a session's streams.
    #[must_use]
    pub fn session(session: &SessionId) -> Self {
        Self::of("session", session.as_bytes())
    }

    /// Creates the revocation of a user's streams in all sessions.
    #[must_use]
    pub fn user(user: &str) -> Self {
        Self::of("user", user.as_bytes())
    }

    /// Returns whether it closes the streams of this viewer.
    #[must_use]
    #[doc(hidden)]
    pub fn concerns(&self, viewer: &Viewer) -> bool {
        viewer.session_id().is_some_and(|session| Self::session(session) == *self)
            || viewer.user().is_some_and(|user| Self::user(user) == *self)
    }

    fn of(kind: &str, name: &[u8]) -> Self {
        let digest = Sha256::new().chain_update("faststate revocation\0").chain_update(kind);
        let digest = digest.chain_update("\0").chain_update(name).finalize();
        let mut halves = digest
            .chunks_exact(8)
            .map(|half| half.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)));
        let mut half = || halves.next().unwrap_or_default();
        Self { digest: (half(), half()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn law_08_revocation_concerns_only_its_session_or_user() {
        let (one, other) = (SessionId::random(), SessionId::random());
        let alice = Viewer::session(one).with_user("alice");
        assert!(Revocation::session(&one).concerns(&alice) && Revocation::user("alice").concerns(&alice));
        assert!(!Revocation::session(&other).concerns(&alice) && !Revocation::user("Alice").concerns(&alice));
        let session = Revocation::session(&one);
        assert!(!session.concerns(&Viewer::session(other).with_user(one.to_string())));
        assert!(!session.concerns(&Viewer::application()));
    }
}
