//! A whole application as a test's browsers reach it.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};

use super::{Application, Connection, FastState, Framework, RequestBody, body::Arriving};
use crate::{BoxError, testing::App};

impl<F: Framework> FastState<F> {
    /// The application as a test's [browsers](crate::testing::Browser) reach it, without a socket: what they visit goes
    /// through the framework, events and streams to the endpoint.
    ///
    /// # Panics
    /// A browser's visit does, where a handler closes the connection without an answer.
    #[must_use]
    pub fn app(self, router: F::Router) -> App {
        let app = App::of(self.endpoint);
        let application = Arc::new(F::application(router, F::pages(app.endpoint().clone())));
        app.pages(move |request| {
            let application = Arc::clone(&application);
            async move {
                render(&*application, request).await.unwrap_or_else(|error| panic!("no answer: {error}"))
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
    let whole = request.map(|body| RequestBody::new(Arriving::Whole(Full::new(body))));
    let (head, body) = client.answer(whole).await?.into_parts();
    let body = body.collect().await.map_err(Into::into)?;
    Ok(Response::from_parts(head, body.to_bytes()))
}
