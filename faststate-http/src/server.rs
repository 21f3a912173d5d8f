//! A whole server for every adapter: HTTP/1.1 over hardened sockets, and a shutdown that drops nothing.
//!
//! What is FastState's goes to the [`endpoint`](crate::endpoint) as it arrives, the rest to what a
//! [`Framework`] makes of its router. A framework says three things, and its adapter has [`FastState`] with all
//! of its settings; the rest of an adapter are arguments of handlers, which are the framework's own.
//!
//! This is the only part of the crate that opens sockets and knows an HTTP server, and so a feature (`serve`)
//! that adapters turn on. An adapter can do without it: `examples/custom_adapter` in the repository is one over
//! bare hyper.

mod body;
mod connection;
mod detached_stream;
mod fast_state;
mod framework;
mod linger;
mod listener;
mod places;
mod refusal;
mod run;
mod socket;

pub use self::{
    body::RequestBody,
    fast_state::FastState,
    framework::{Application, Connection, Framework},
};
