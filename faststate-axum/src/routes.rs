//! The service that passes axum's requests to the endpoint.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Once,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    extract::{ConnectInfo, Request},
    response::Response,
};
use faststate_http::endpoint::Endpoint;
use tower_service::Service;

/// Answers all requests under `/faststate`, and events with their own paths.
#[derive(Clone, Debug)]
pub(crate) struct Routes {
    endpoint: Endpoint,
}

impl Routes {
    pub(crate) const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }
}

impl Service<Request> for Routes {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let endpoint = self.endpoint.clone();
        let peer = peer(&request);
        Box::pin(async move { Ok(endpoint.respond(request, peer).await.map(Body::new)) })
    }
}

/// Returns the address of the client, if the server provides it. Logs once if it does not.
fn peer(request: &Request) -> Option<SocketAddr> {
    static WARNED: Once = Once::new();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
    if peer.is_none() {
        WARNED.call_once(|| {
            tracing::warn!(
                "streams are not counted per address: serve with `into_make_service_with_connect_info::<SocketAddr>()`"
            );
        });
    }
    peer
}
