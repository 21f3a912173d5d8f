//! What an adapter says of its framework.

use std::{future::Future, net::SocketAddr};

use bytes::Bytes;
use faststate_core::BoxError;
use http::{Request, Response};
use http_body::Body;

use super::RequestBody;
use crate::endpoint::Endpoint;

/// A web framework, as far as [`FastState`](super::FastState) needs to know it.
pub trait Framework: 'static {
    /// What leads requests to handlers.
    type Router: Send;
    /// What stands before handlers that take pages as arguments: a hoop, a layer, a fairing.
    type Pages;
    /// What the server asks.
    type Application: Application;

    /// Routes for every path that the endpoint [answers](Endpoint::handles), for a server of one's own.
    fn router(endpoint: Endpoint) -> Self::Router;

    /// Keeps a [`RequestPage`](crate::endpoint::RequestPage) with each request, and marks its answer.
    fn pages(endpoint: Endpoint) -> Self::Pages;

    /// Makes one of a router, all of whose handlers are below `pages`.
    fn application(router: Self::Router, pages: Self::Pages) -> Self::Application;
}

/// Everything that is not FastState's: pages, files, what an application has besides.
pub trait Application: Send + Sync + 'static {
    /// One client's connection.
    type Connection: Connection;

    /// A client has connected. Called for each, so it costs as little as it can.
    fn connect(&self, local: SocketAddr, peer: SocketAddr) -> Self::Connection;
}

/// What an application knows of one client's connection.
pub trait Connection: Send + Sync + 'static {
    /// What an answer carries.
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static;

    /// Answers a request; the endpoint does not answer its path.
    ///
    /// # Errors
    /// The connection is closed without an answer.
    ///
    /// # Cancellation
    /// Dropped when the connection breaks or the server stops. A client that has closed its sending side still waits
    /// for the answer, and one that has gone away looks the same until something is written to it.
    fn answer(
        &self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Self::Body>, BoxError>> + Send;

    /// Whether a handler has given the connection up: it is closed without an answer. Asked after a handler has
    /// gone on (never).
    fn is_given_up(&self) -> bool {
        false
    }
}
