//! The HTTP/1.1 server that adapters share: hardened sockets, and a graceful shutdown.
//!
//! Requests for FastState's paths go to the [`endpoint`](crate::endpoint). All other requests go to the application
//! that a [`Framework`] builds from its router. An adapter implements the three functions of [`Framework`] and gets
//! [`FastState`] with every setting. Beyond that it only provides the framework's extractors.
//!
//! Only this module opens sockets and depends on an HTTP server, so it is behind the feature `server`, which adapters
//! enable. An adapter can also work without it: `examples/custom_adapter` in the repository uses hyper directly.

mod body;
mod connection;
mod connection_limits;
mod detached_stream;
mod fast_state;
mod framework;
mod linger;
mod listener;
mod refusal;
mod run;
mod socket;

pub use self::{
    body::RequestBody,
    fast_state::FastState,
    framework::{Application, ClientConnection, Framework},
};
