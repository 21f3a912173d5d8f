//! The application that the adapter suite tests.
//!
//! ```text
//! counter   global, public   increment{amount,user} explode reset=DELETE /counter visit=GET /visit, view shown
//! note      session          write{text}
//! item      record, public   rename{name}=PUT /items/{id}/name put{part,amount} take{part} due{on}
//!                            discard=DELETE /items/{id} count{to} watch late open, view card
//! vault     record, keepers  deposit{gold}; the id `none` does not exist
//! profile   user             call{name} leave, after which the user has no identity
//! ```
//!
//! The header `x-user` names the user, `x-roles` the roles. Like the secret, they are only for tests.

mod counter;
mod gate;
mod item;
mod own;

use std::{
    future::{Ready, ready},
    sync::Arc,
    time::Duration,
};

use faststate_core::{Access, Registry, StateConfig, StateRegistry, registry::BuildError};
use faststate_http::endpoint::{Endpoint, Identity, Limits, Page, Secret};
use http::{HeaderName, request::Parts};

pub use self::counter::FixtureCounter;
#[doc(hidden)]
pub use self::own::{FixtureProfile, Vault};
use self::{
    counter::{AddToCounter, CountView, CountVisit, Explode, ResetCounter},
    gate::Gates,
    item::{
        CountUp, DiscardItem, ItemCard, OpenGate, PutPart, RenameAtGate, RenameItem, SetDue, StockItem,
        TakePart, WatchName,
    },
    own::{Deposit, LeaveForGood, Note, SetName, WriteNote},
};

/// A text that must never leave the server. The event `explode` panics with it.
#[doc(hidden)]
pub const INTERNAL: &str = "the password is hunter2";

/// The interval after which an idle stream of the fixture sends a comment.
#[doc(hidden)]
pub const HEARTBEAT: Duration = Duration::from_secs(2);

/// The header in which a trusted proxy names the client's address.
#[doc(hidden)]
pub const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Builds the fixture's registry with all states and events.
///
/// # Errors
/// Fails only if the engine rejects the fixture's configuration.
pub fn registry() -> Result<Arc<StateRegistry>, BuildError> {
    StateRegistry::builder()
        .resource(Gates::default())
        .state::<FixtureCounter>(StateConfig::global().access(Access::public()), |state| {
            state
                .event::<AddToCounter>()
                .event::<Explode>()
                .event::<ResetCounter>()
                .event::<CountVisit>()
                .view(CountView)
        })
        .state::<Note>(StateConfig::session(), |state| state.event::<WriteNote>())
        .state::<StockItem>(StateConfig::record().access(Access::public()), |state| {
            state
                .event::<RenameItem>()
                .event::<PutPart>()
                .event::<TakePart>()
                .event::<SetDue>()
                .event::<DiscardItem>()
                .event::<CountUp>()
                .event::<WatchName>()
                .event::<RenameAtGate>()
                .event::<OpenGate>()
                .view(ItemCard)
        })
        .state::<Vault>(StateConfig::record().access(Access::role("keeper")), |state| {
            state
                .event::<Deposit>()
                .initial(|key| async move { (key.id().as_deref() != Some("none")).then(Vault::default) })
        })
        .state::<FixtureProfile>(StateConfig::user(), |state| {
            state.event::<SetName>().event::<LeaveForGood>()
        })
        .build()
}

/// Builds the endpoint that an adapter must serve for the suite, with its identity, limits, secret, hosts and heartbeat.
#[must_use]
pub fn endpoint(registry: Arc<dyn Registry>) -> Endpoint {
    Endpoint::new(registry)
        .secret(secret())
        .hosts(["127.0.0.1", "[::1]", "localhost"])
        .identity(identify)
        .limits(limits())
        .trusted_proxy_header(FORWARDED)
        .heartbeat(HEARTBEAT)
}

/// Renders a page that shows the counter and follows the topics that `page` has collected, for
/// [`pages_belong_to_their_viewer`](super::adapter::pages_belong_to_their_viewer).
#[must_use]
pub fn page(page: &Page, counter: &FixtureCounter) -> String {
    let (signals, follow) = (page.signals(), page.follow_action());
    format!("<body data-signals=\"{signals}\" data-init=\"{follow}\"><p>{}</p>", counter.count)
}

/// Reads user and roles from `x-user` and `x-roles`. Returns an anonymous identity for a user who has sent `leave`.
#[doc(hidden)]
pub fn identify(parts: &Parts) -> Ready<Identity> {
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    if header("x-user").is_some_and(own::has_left) {
        return ready(Identity::nobody());
    }
    let user = header("x-user").map_or_else(Identity::nobody, Identity::user);
    let roles = header("x-roles").unwrap_or_default().split(',').filter(|role| !role.is_empty());
    ready(roles.fold(user, Identity::with_role))
}

/// Returns limits that the suite can reach: 12 streams per node, 3 per session and 8 per address.
#[must_use]
#[doc(hidden)]
pub fn limits() -> Limits {
    Limits { streams: 12, streams_per_session: 3, streams_per_address: 8, ..Limits::default() }
}

/// Returns the secret that signs the fixture's cookies. The suite also signs cookies of another name with it.
#[must_use]
#[doc(hidden)]
pub fn secret() -> Secret {
    Secret::from_bytes(b"the secret of the conformance fixture").unwrap_or_else(|_| Secret::random())
}
