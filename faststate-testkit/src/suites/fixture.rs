//! The application that the adapter's suite talks to.
//!
//! ```text
//! counter   global, public   increment{amount,user} explode reset=DELETE /counter visit=GET /visit, view shown
//! note      session          write{text}
//! item      record, public   rename{name}=PUT /items/{id}/name put{part,amount} take{part} due{on}
//!                            discard=DELETE /items/{id} count{to} watch late open, view card
//! vault     record, keepers  deposit{gold}; there is none with the id `none`
//! profile   user             call{name} leave, after which the user is nobody
//! ```
//!
//! The header `x-user` names the user, `x-roles` the roles: for tests only, as is the secret.

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

pub use self::{
    counter::Counter,
    own::{Profile, Vault},
};
use self::{
    counter::{CountView, CountVisit, Explode, Increment, Reset},
    gate::Gates,
    item::{
        CountUp, DiscardItem, ItemCard, OpenGate, PutPart, RenameAtGate, RenameItem, SetDue, StockItem,
        TakePart, WatchName,
    },
    own::{Deposit, LeaveForGood, Note, SetName, WriteNote},
};

/// What must never leave the server: [`Explode`] panics with it.
pub const INTERNAL: &str = "the password is hunter2";

/// After how much silence a stream of the fixture sends a comment.
pub const HEARTBEAT: Duration = Duration::from_secs(2);

/// The header that names the client's address, as a proxy of ours would.
pub const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The fixture's states and events.
///
/// # Errors
/// None, unless the engine's rules have changed.
pub fn registry() -> Result<Arc<StateRegistry>, BuildError> {
    StateRegistry::builder()
        .resource(Gates::default())
        .state::<Counter>(StateConfig::global().access(Access::public()), |state| {
            state
                .event::<Increment>()
                .event::<Explode>()
                .event::<Reset>()
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
        .state::<Profile>(StateConfig::user(), |state| state.event::<SetName>().event::<LeaveForGood>())
        .build()
}

/// The endpoint that the suite expects an adapter to serve: identity, limits, secret, hosts and heartbeat.
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

/// A page that shows the counter and follows what has been collected: for
/// [`pages_belong_to_their_viewer`](super::adapter::pages_belong_to_their_viewer).
#[must_use]
pub fn page(page: &Page, counter: &Counter) -> String {
    let (signals, follow) = (page.signals(), page.follow_action());
    format!("<body data-signals=\"{signals}\" data-init=\"{follow}\"><p>{}</p>", counter.count)
}

/// Tells user and roles from `x-user` and `x-roles`; nobody for a user who has [left](LeaveForGood).
pub fn identify(parts: &Parts) -> Ready<Identity> {
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    if header("x-user").is_some_and(own::has_left) {
        return ready(Identity::nobody());
    }
    let user = header("x-user").map_or_else(Identity::nobody, Identity::user);
    let roles = header("x-roles").unwrap_or_default().split(',').filter(|role| !role.is_empty());
    ready(roles.fold(user, Identity::with_role))
}

/// Few streams, so that the suite reaches each limit: 12 for the node, 3 for a session, 8 for an address.
#[must_use]
pub fn limits() -> Limits {
    Limits::default().with_streams(12).with_streams_per_session(3).with_streams_per_address(8)
}

/// What the fixture's cookies are signed with. The suite signs others with it, to swap them.
#[must_use]
pub fn secret() -> Secret {
    Secret::from_bytes(b"the fixture's secret is known to everybody").unwrap_or_else(|_| Secret::random())
}
