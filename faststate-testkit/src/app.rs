//! An application under test.

use std::{fmt, future::Future, sync::Arc};

use bytes::Bytes;
use faststate_core::{Registry, internal::follow_tokio_time};
use faststate_http::endpoint::Endpoint;
use futures::{FutureExt as _, future::BoxFuture};
use http::{Request, Response};

type Render = dyn Fn(Request<Bytes>) -> BoxFuture<'static, Response<Bytes>> + Send + Sync;

/// An application under test, which [browsers](super::Browser) reach without a socket. Cheap to clone.
#[derive(Clone)]
pub struct App {
    endpoint: Endpoint,
    render: Option<Arc<Render>>,
    /// All nodes over the same store, including this one. Empty for a single node.
    pub(super) nodes: Vec<Endpoint>,
}

impl App {
    /// Creates an application with default endpoint settings. A browser sets its user with
    /// [`Browser::user`](super::Browser::user).
    #[must_use]
    pub fn new(registry: Arc<impl Registry>) -> Self {
        Self::of(Endpoint::new(registry))
    }

    /// Creates an application from its endpoint. The identity closure is called for browsers without a
    /// [user](super::Browser::user) or [role](super::Browser::role).
    #[must_use]
    pub fn of(endpoint: Endpoint) -> Self {
        follow_tokio_time();
        Self { endpoint: endpoint.in_process(), render: None, nodes: Vec::new() }
    }

    /// Sets the renderer of the pages that browsers [visit](super::Browser::visit). It calls [`Endpoint::page`] of
    /// [`endpoint`](Self::endpoint), or a framework that does not implement [`InProcess`](super::InProcess).
    #[must_use]
    pub fn pages<F>(mut self, render: impl Fn(Request<Bytes>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Bytes>> + Send + 'static,
    {
        self.render = Some(Arc::new(move |request| render(request).boxed()));
        self
    }

    /// The endpoint that handles the browsers' requests.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The registry. Its handles read and change states without a browser.
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
