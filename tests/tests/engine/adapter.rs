//! The adapter of an application: the only difference between the runs of a story.

use std::{net::TcpListener, sync::Arc};

use axum::{response::Html, routing::get};
use faststate::{
    BoxError, StateRegistry, axum as on_axum,
    endpoint::{Bundle, Endpoint, Page, Secret},
    salvo as on_salvo,
    server::{FastState, Framework},
};
use faststate_tests::Demo;
use futures::future::BoxFuture;
use salvo::{Writer, handler, writing::Text};

/// An adapter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Adapter {
    Salvo,
    Axum,
}

/// The HTML response to a page request.
pub(crate) type Show = Arc<dyn Fn(Page) -> BoxFuture<'static, Result<String, BoxError>> + Send + Sync>;

/// A page handler, independent of the adapter.
pub(crate) fn shows<F>(show: impl Fn(Page) -> F + Send + Sync + 'static) -> Show
where
    F: Future<Output = Result<String, BoxError>> + Send + 'static,
{
    Arc::new(move |page| Box::pin(show(page)))
}

impl Adapter {
    /// Serves until the runtime ends.
    pub(crate) fn serve(
        self,
        registry: Arc<StateRegistry>,
        listener: TcpListener,
        pages: &[(&'static str, Show)],
    ) -> Endpoint {
        match self {
            Self::Salvo => {
                let router = pages.iter().fold(salvo::Router::new(), |router, (path, show)| {
                    router.push(salvo::Router::with_path(path.trim_matches('/')).get(Shown(Arc::clone(show))))
                });
                serve::<on_salvo::Salvo>(registry, listener, router)
            }
            Self::Axum => {
                let router = pages.iter().fold(axum::Router::new(), |router, (path, show)| {
                    let show = Arc::clone(show);
                    router.route(path, get(async move |page: on_axum::Page| shown(&show, page).await))
                });
                serve::<on_axum::Axum>(registry, listener, router)
            }
        }
    }
}

fn serve<F: Framework>(registry: Arc<StateRegistry>, listener: TcpListener, router: F::Router) -> Endpoint {
    let server = FastState::<F>::new(registry)
        .secret(Secret::from_bytes(&[7; 32]).unwrap())
        .datastar(Bundle::bytes(Demo::bundle()).unwrap());
    let endpoint = server.endpoint().clone();
    tokio::spawn(server.serve_until(listener, router, std::future::pending()));
    endpoint
}

struct Shown(Show);

#[handler]
impl Shown {
    async fn handle(&self, page: on_salvo::Page) -> Result<Text<String>, on_salvo::PageError> {
        Ok(Text::Html((self.0)(Page::clone(&page)).await?))
    }
}

async fn shown(show: &Show, page: on_axum::Page) -> Result<Html<String>, on_axum::PageError> {
    Ok(Html(show(Page::clone(&page)).await?))
}
