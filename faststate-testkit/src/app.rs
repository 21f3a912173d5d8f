//! An application, as a test's browsers reach it.

use std::{fmt, future::Future, sync::Arc};

use bytes::Bytes;
use faststate_core::{Registry, internal::follow_tokio_time};
use faststate_http::endpoint::Endpoint;
use futures::{FutureExt as _, future::BoxFuture};
use http::{Request, Response};

type Render = dyn Fn(Request<Bytes>) -> BoxFuture<'static, Response<Bytes>> + Send + Sync;

/// An application, as a test's browsers reach it: without a socket, and without a framework unless its pages
/// are rendered by one. Cheap to clone.
#[derive(Clone)]
pub struct App {
    endpoint: Endpoint,
    render: Option<Arc<Render>>,
    /// The nodes over the same store, this one included; empty if it is alone.
    pub(super) nodes: Vec<Endpoint>,
}

impl App {
    /// A registry behind an endpoint without settings. Browsers say who they are with
    /// [`Browser::user`](super::Browser::user).
    #[must_use]
    pub fn new(registry: Arc<impl Registry>) -> Self {
        Self::of(Endpoint::new(registry))
    }

    /// The application's own endpoint. Its identity closure is asked about every browser that does not say who
    /// it is with [`Browser::user`](super::Browser::user).
    #[must_use]
    pub fn of(endpoint: Endpoint) -> Self {
        follow_tokio_time();
        Self { endpoint: endpoint.in_process(), render: None, nodes: Vec::new() }
    }

    /// Renders the pages that browsers [visit](super::Browser::visit), with [`Endpoint::page`] of
    /// [`endpoint`](Self::endpoint), or through a framework that `FastState::app` does not know.
    #[must_use]
    pub fn pages<F>(mut self, render: impl Fn(Request<Bytes>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Bytes>> + Send + 'static,
    {
        self.render = Some(Arc::new(move |request| render(request).boxed()));
        self
    }

    /// The endpoint that the browsers talk to.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The registry: handles of it look at states and change them past any browser.
    #[must_use]
    pub fn registry(&self) -> Arc<dyn Registry> {
        Arc::clone(self.endpoint.registry())
    }

    pub(super) async fn page(&self, request: Request<Bytes>) -> Option<Response<Bytes>> {
        Some(self.render.as_ref()?(request).await)
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
