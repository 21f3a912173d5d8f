//! The traits and the engine of FastState, on which `faststate-http`, the stores and the broadcasters depend.
//!
//! It contains no HTTP server, no web framework and no database. Applications use the facade crate `faststate`.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod clock;
mod elements;
mod key;
mod literal;
mod rejection;
mod revocation;
mod version;
mod viewer;

mod action;
mod event;
mod handle;
mod state;
mod view;

pub mod broadcast;
mod health;
#[doc(hidden)]
pub mod internal;
mod metrics;
mod patch;
pub mod registry;
pub mod store;
pub mod topics;
pub mod wire;

pub use action::Action;
pub use broadcast::{Broadcaster, LocalBroadcaster};
pub use elements::{Elements, Mode};
pub use event::{Context, Event, EventId, EventIdError, PrepareContext, Reply, ReplyClosed};
pub use handle::{Handle, Snapshot};
pub use health::{Health, StoreHealth};
pub use key::{Key, KeyError, Scope};
pub use registry::{Access, Error, Registry, StateConfig, StateRegistry};
pub use rejection::{Rejection, RejectionKind};
pub use revocation::Revocation;
pub use state::ReactiveState;
pub use store::{MemoryStore, Store};
pub use version::{Version, VersionError};
pub use view::View;
pub use viewer::{SessionId, Viewer};

/// An error of any type, as sources are kept.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
