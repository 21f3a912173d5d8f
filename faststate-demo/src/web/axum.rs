//! The site on axum.

use std::{future::ready, io, net::SocketAddr};

use axum::{
    Extension, Form as Posted, Router,
    body::Body,
    extract::{ConnectInfo, Path, Query},
    middleware::map_response,
    response::{IntoResponse, Response},
    routing::get,
};
use faststate::{
    axum::{FastState, Page, PageError},
    endpoint::Endpoint,
};
use http::HeaderMap;

use super::{Answer, host};
use crate::{assets::Policy, login::Form};

type Shown = Result<Answer, PageError>;

pub(super) async fn serve(site: Endpoint, policy: Policy, listen: SocketAddr) -> io::Result<()> {
    FastState::from_endpoint(site).serve(listen, pages(policy)).await
}

/// Which page answers what.
pub(super) fn pages(policy: Policy) -> Router {
    let mark = move |mut response: Response| {
        policy.mark(response.headers_mut());
        ready(response)
    };
    Router::new()
        .route("/", get(home))
        .route("/counter", get(counter))
        .route("/products", get(products))
        .route("/product/{id}", get(product))
        .route("/chat", get(chat))
        .route("/profile", get(profile))
        .route("/status", get(status))
        .route("/admin", get(admin))
        .route("/login", get(login).post(sign_in))
        .route("/source/{*file}", get(source))
        .route("/style.css", get(style))
        .route("/favicon.svg", get(icon))
        .fallback(not_found)
        .layer(map_response(mark))
}

async fn home(page: Page) -> Shown {
    Ok(crate::home::show(&page).await?.into())
}

async fn counter(page: Page, headers: HeaderMap) -> Shown {
    Ok(crate::counter::show(&page, host(&headers)).await?.into())
}

async fn products(page: Page) -> Shown {
    Ok(crate::products::list(&page).await?.into())
}

async fn product(page: Page, Path(id): Path<String>) -> Shown {
    Ok(crate::products::show(&page, &id).await?)
}

async fn chat(page: Page) -> Shown {
    Ok(crate::chat::show(&page).await?.into())
}

async fn profile(page: Page) -> Shown {
    Ok(crate::profile::show(&page).await?)
}

async fn status(page: Page) -> Shown {
    Ok(crate::status::show(&page).await?.into())
}

async fn admin(page: Page) -> Shown {
    Ok(crate::admin::show(&page).await?)
}

async fn login(page: Page, Query(asked): Query<Form>) -> Shown {
    Ok(crate::login::show(&page, &asked).await?.into())
}

async fn sign_in(
    page: Page,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    Posted(form): Posted<Form>,
) -> Shown {
    let address = peer.map(|Extension(ConnectInfo(peer))| peer.ip());
    Ok(crate::login::sign_in(&page, &form, address).await?)
}

async fn source(page: Page, Path(file): Path<String>) -> Shown {
    Ok(crate::source::show(&page, &file).await?)
}

async fn not_found(page: Page) -> Shown {
    Ok(crate::not_found::show(&page).await?)
}

async fn style() -> Answer {
    crate::assets::style()
}

async fn icon() -> Answer {
    crate::assets::icon()
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        self.0.map(Body::from)
    }
}
