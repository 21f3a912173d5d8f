//! The demo's pages on axum: routes, handlers and the server.

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

use crate::{assets::ContentPolicy, counter::host, login::LoginForm, response::PageResponse};

type PageResult = Result<PageResponse, PageError>;

pub(super) async fn serve(site: Endpoint, policy: ContentPolicy, listen: SocketAddr) -> io::Result<()> {
    FastState::from_endpoint(site).serve(listen, pages(policy)).await
}

/// Routes requests to the pages.
pub(super) fn pages(policy: ContentPolicy) -> Router {
    let mark = move |mut response: Response| {
        policy.apply(response.headers_mut());
        ready(response)
    };
    Router::new()
        .route("/", get(home))
        .route("/counter", get(counter))
        .route("/products", get(products))
        .route("/product/{id}", get(product))
        .route("/auction", get(auction))
        .route("/auction/{id}", get(lot))
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

async fn home(page: Page) -> PageResult {
    Ok(crate::home::show(&page).await?.into())
}

async fn counter(page: Page, headers: HeaderMap) -> PageResult {
    Ok(crate::counter::show(&page, host(&headers)).await?.into())
}

async fn products(page: Page) -> PageResult {
    Ok(crate::products::list(&page).await?.into())
}

async fn product(page: Page, Path(id): Path<String>) -> PageResult {
    Ok(crate::products::show(&page, &id).await?)
}

async fn auction(page: Page) -> PageResult {
    Ok(crate::auction::list(&page).await?.into())
}

async fn lot(page: Page, Path(id): Path<String>) -> PageResult {
    Ok(crate::auction::show(&page, &id).await?)
}

async fn chat(page: Page) -> PageResult {
    Ok(crate::chat::show(&page).await?.into())
}

async fn profile(page: Page) -> PageResult {
    Ok(crate::profile::show(&page).await?)
}

async fn status(page: Page) -> PageResult {
    Ok(crate::status::show(&page).await?.into())
}

async fn admin(page: Page) -> PageResult {
    Ok(crate::admin::show(&page).await?)
}

async fn login(page: Page, Query(asked): Query<LoginForm>) -> PageResult {
    Ok(crate::login::show(&page, &asked).await?.into())
}

async fn sign_in(
    page: Page,
    peer: Option<Extension<ConnectInfo<SocketAddr>>>,
    Posted(form): Posted<LoginForm>,
) -> PageResult {
    let address = peer.map(|Extension(ConnectInfo(peer))| peer.ip());
    Ok(crate::login::sign_in(&page, &form, address).await?)
}

async fn source(page: Page, Path(file): Path<String>) -> PageResult {
    Ok(crate::source::show(&page, &file).await?)
}

async fn not_found(page: Page) -> PageResult {
    Ok(crate::not_found::show(&page).await?)
}

async fn style() -> PageResponse {
    crate::assets::style()
}

async fn icon() -> PageResponse {
    crate::assets::icon()
}

impl IntoResponse for PageResponse {
    fn into_response(self) -> Response {
        self.into_inner().map(Body::from)
    }
}
