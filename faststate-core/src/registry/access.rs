//! Access policies of states.

use std::{fmt, sync::Arc};

use crate::{Key, Viewer};

type Policy = dyn Fn(&Viewer, &Key) -> bool + Send + Sync;

/// The policy that decides which viewers may see and change an instance.
///
/// It is checked for every event, when a stream opens, and periodically while the stream is open. A refused
/// viewer gets the same response as for an instance that does not exist (law 8).
///
/// ```
/// # use faststate_core::Access;
/// Access::public();
/// Access::role("editor");
/// Access::when(|viewer, key| viewer.user().is_some() && key.id().as_deref() != Some("draft"));
/// ```
#[derive(Clone)]
pub struct Access(Arc<Policy>);

impl Access {
    /// Admits every viewer.
    #[must_use]
    pub fn public() -> Self {
        Self::when(|_, _| true)
    }

    /// Admits every signed-in user.
    #[must_use]
    pub fn signed_in() -> Self {
        Self::when(|viewer, _| viewer.user().is_some())
    }

    /// Admits every viewer with this role.
    #[must_use]
    pub fn role(role: impl Into<String>) -> Self {
        let role = role.into();
        Self::when(move |viewer, _| viewer.has_role(&role))
    }

    /// Admits the viewers for which `policy` returns true.
    ///
    /// `policy` is called for every event and every recheck of a stream, so it must neither block nor panic.
    #[must_use]
    pub fn when(policy: impl Fn(&Viewer, &Key) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(policy))
    }

    pub(crate) fn allows(&self, viewer: &Viewer, key: &Key) -> bool {
        (self.0)(viewer, key)
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Access")
    }
}
