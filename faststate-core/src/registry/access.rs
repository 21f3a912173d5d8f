//! Who may see and change a state.

use std::{fmt, sync::Arc};

use crate::{Key, Viewer};

type Policy = dyn Fn(&Viewer, &Key) -> bool + Send + Sync;

/// Who may see and change an instance; asked for each event, when a stream opens, and again while it
/// is open. A refusal looks like an instance that does not exist.
#[derive(Clone)]
pub struct Access(Arc<Policy>);

impl Access {
    /// Everybody.
    #[must_use]
    pub fn public() -> Self {
        Self::when(|_, _| true)
    }

    /// Every signed-in user.
    #[must_use]
    pub fn signed_in() -> Self {
        Self::when(|viewer, _| viewer.user().is_some())
    }

    /// Every viewer with this role.
    #[must_use]
    pub fn role(role: impl Into<String>) -> Self {
        let role = role.into();
        Self::when(move |viewer, _| viewer.has_role(&role))
    }

    /// Whoever the policy lets in. It is asked often: no I/O, no panics.
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
