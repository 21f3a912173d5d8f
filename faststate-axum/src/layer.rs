//! The layer that provides pages to handlers.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{body::Body, extract::Request, response::Response};
use faststate_http::endpoint::{Endpoint, RequestPage};
use tower_layer::Layer;
use tower_service::Service;

/// Lets the handlers inside it take [`Page`](crate::Page) and [`Current`](crate::Current) as arguments, and sets
/// the cookie of a new session on the page's response.
#[derive(Clone, Debug)]
pub struct Pages {
    endpoint: Endpoint,
}

impl Pages {
    pub(crate) const fn new(endpoint: Endpoint) -> Self {
        Self { endpoint }
    }
}

impl<S> Layer<S> for Pages {
    type Service = Paged<S>;

    fn layer(&self, inner: S) -> Paged<S> {
        Paged { inner, endpoint: self.endpoint.clone() }
    }
}

/// A service inside [`Pages`].
#[derive(Clone, Debug)]
pub struct Paged<S> {
    inner: S,
    endpoint: Endpoint,
}

impl<S> Service<Request> for Paged<S>
where
    S: Service<Request, Response = Response, Future: Send + 'static>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        if let Some(refusal) = self.endpoint.refusal(request.version(), request.uri(), request.headers()) {
            return Box::pin(async move { Ok(refusal.map(Body::new)) });
        }
        let request_page = RequestPage::new(self.endpoint.clone());
        request.extensions_mut().insert(request_page.clone());
        let inner = self.inner.call(request);
        Box::pin(async move {
            let mut response = inner.await?;
            request_page.mark(response.headers_mut());
            Ok(response)
        })
    }
}
