//! The traits that connect a web framework to the server.

use std::{future::Future, net::SocketAddr};

use bytes::Bytes;
use faststate_core::BoxError;
use http::{Request, Response};
use http_body::Body;

use super::RequestBody;
use crate::endpoint::Endpoint;

/// A web framework, as [`FastState`](super::FastState) uses it.
pub trait Framework: 'static {
    /// The framework's router.
    type Router: Send;
    /// The framework's middleware (a hoop, a layer, a fairing) for handlers that take pages as arguments.
    type Pages;
    /// The application that answers requests outside FastState's paths.
    type Application: Application;

    /// Returns routes for every path that the endpoint [handles](Endpoint::handles), to mount in an existing server.
    fn router(endpoint: Endpoint) -> Self::Router;

    /// Returns middleware that stores a [`RequestPage`](crate::endpoint::RequestPage) in each request and
    /// [marks](crate::endpoint::RequestPage::mark) the response.
    fn pages(endpoint: Endpoint) -> Self::Pages;

    /// Builds the application from a router, with `pages` in front of every handler.
    fn application(router: Self::Router, pages: Self::Pages) -> Self::Application;
}

/// The part of a site that FastState does not serve: pages, files and the application's own routes.
pub trait Application: Send + Sync + 'static {
    /// One client's connection.
    type Connection: ClientConnection;

    /// Returns the handler of a new connection. The server calls this for every connection, so keep it cheap.
    fn connect(&self, local: SocketAddr, peer: SocketAddr) -> Self::Connection;
}

/// One client's connection, as the application sees it.
pub trait ClientConnection: Send + Sync + 'static {
    /// The body of a response.
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static;

    /// Answers a request whose path the endpoint does not handle.
    ///
    /// # Errors
    /// After an error, the server closes the connection without a response.
    ///
    /// # Cancellation
    /// The server drops the future when the connection breaks or the server stops. It does not drop the future when
    /// the client closes its sending side: such a client may still read the response. A client that has gone away is
    /// detected only by a failing write.
    fn answer(
        &self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Self::Body>, BoxError>> + Send;

    /// Returns whether a handler has abandoned the connection; the server then closes it without a response.
    ///
    /// The server calls this after each poll of a pending [`answer`](Self::answer). The default is `false`.
    #[doc(hidden)]
    fn is_given_up(&self) -> bool {
        false
    }
}
