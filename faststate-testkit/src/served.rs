//! Runs an application of a web framework without a socket.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use faststate_core::BoxError;
use faststate_http::server::{Application, ClientConnection, FastState, Framework};
use http::{Request, Response};
use http_body_util::BodyExt as _;

use crate::App;

/// Converts a server and its router into an [`App`].
pub trait InProcess<F: Framework> {
    /// Creates an [`App`] whose page visits go through the framework, and whose events and streams go to the endpoint.
    ///
    /// # Panics
    /// A later visit panics if a handler closes the connection without a response.
    #[must_use]
    fn app(self, router: F::Router) -> App;
}

impl<F: Framework> InProcess<F> for FastState<F> {
    fn app(self, router: F::Router) -> App {
        let app = App::of(self.endpoint().clone());
        let application = Arc::new(F::application(router, F::pages(app.endpoint().clone())));
        app.pages(move |request| {
            let application = Arc::clone(&application);
            async move {
                render(&*application, request).await.unwrap_or_else(|error| panic!("no response: {error}"))
            }
        })
    }
}

async fn render(
    application: &impl Application,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, BoxError> {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
    let client = application.connect(nowhere, nowhere);
    let (head, body) = client.answer(request.map(Into::into)).await?.into_parts();
    let body = body.collect().await.map_err(Into::into)?;
    Ok(Response::from_parts(head, body.to_bytes()))
}
