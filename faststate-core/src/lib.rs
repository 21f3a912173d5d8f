//! FastState's traits and engine.
//!
//! This crate knows neither a web framework nor a database: adapters translate requests into
//! [`endpoint`], stores implement [`Store`]. Applications use the facade crate `faststate`.
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
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod endpoint;
mod health;
mod metrics;
// Public for `benches` and `tests` in the repository alone: no version promises anything of it.
#[doc(hidden)]
pub mod patch;
pub mod registry;
#[cfg(feature = "serve")]
pub mod serve;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
pub mod topics;
pub mod wire;

pub use action::Action;
pub use broadcast::{Broadcaster, LocalBroadcaster};
pub use elements::{Elements, Mode};
pub use event::{Context, Event, EventId, EventIdError, Reply, ReplyClosed, Scene};
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
