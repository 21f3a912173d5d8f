//! The framework-independent HTTP endpoint that the adapters share: `http::Request` in, `http::Response` out.
//!
//! ```text
//! request -> route -> guard -> session and identity -> event or stream -> registry -> response
//! ```
//!
//! An adapter passes requests to [`Endpoint::respond`] and sends response bodies unchanged. It gives handlers their
//! [`Page`] (through [`RequestPage`]). On shutdown it awaits [`Endpoint::drain`].

mod bundle;
mod connections;
mod error_page;
mod event;
mod field_errors;
mod guard;
mod head_copy;
mod health;
mod hosts;
mod identity;
#[cfg(feature = "inspector")]
mod inspector;
mod limits;
mod log_limit;
#[cfg(feature = "metrics")]
mod metrics;
mod nest;
mod open_stream;
#[cfg(any(feature = "metrics", feature = "inspector"))]
mod operator_access;
mod page;
mod problem;
mod reply;
mod request_identity;
mod request_page;
mod respond;
mod route;
mod secret;
mod service;
mod session;
mod set_cookie;
mod stream_body;

#[cfg(any(feature = "metrics", feature = "inspector"))]
pub use self::operator_access::{AccessRequest, OperatorAccess};
pub use self::{
    bundle::{Bundle, BundleError},
    identity::{Identity, IntoIdentity},
    limits::Limits,
    page::Page,
    problem::{Notice, Problem, ProblemView},
    reply::ReplyBody,
    request_identity::RequestIdentity,
    request_page::RequestPage,
    secret::{Secret, SecretError},
    service::Endpoint,
};
#[cfg(feature = "server")]
pub(crate) use self::{head_copy::MAX_HEAD_BYTES, limits::network, service::PeerAddress};
