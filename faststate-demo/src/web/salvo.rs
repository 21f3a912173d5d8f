//! The site on Salvo.

use std::{io, net::SocketAddr};

use faststate::{
    endpoint::Endpoint,
    salvo::{FastState, Page, PageError},
};
use salvo::{http::ResBody, prelude::*};

use crate::{assets::ContentPolicy, counter::host, login::LoginForm, response::PageResponse};

type PageResult = Result<PageResponse, PageError>;

pub(super) async fn serve(site: Endpoint, policy: ContentPolicy, listen: SocketAddr) -> io::Result<()> {
    FastState::from_endpoint(site).serve(listen, pages(policy)).await
}

/// Routes requests to the pages.
pub(super) fn pages(policy: ContentPolicy) -> Router {
    let pages = Router::with_filter_fn(|request, _| request.method().is_safe())
        .goal(home)
        .push(Router::with_path("counter").goal(counter))
        .push(Router::with_path("products").goal(products))
        .push(Router::with_path("product/{id}").goal(product))
        .push(Router::with_path("auction").goal(auction))
        .push(Router::with_path("auction/{id}").goal(lot))
        .push(Router::with_path("chat").goal(chat))
        .push(Router::with_path("profile").goal(profile))
        .push(Router::with_path("status").goal(status))
        .push(Router::with_path("admin").goal(admin))
        .push(Router::with_path("login").goal(login))
        .push(Router::with_path("source/{**file}").goal(source))
        .push(Router::with_path("style.css").goal(style))
        .push(Router::with_path("favicon.svg").goal(icon))
        .push(Router::with_path("{*+path}").goal(not_found));
    Router::new().hoop(policy).push(Router::with_path("login").post(sign_in)).push(pages)
}

#[handler]
async fn home(page: Page) -> PageResult {
    Ok(crate::home::show(&page).await?.into())
}

#[handler]
async fn counter(page: Page, request: &mut Request) -> PageResult {
    Ok(crate::counter::show(&page, host(request.headers())).await?.into())
}

#[handler]
async fn products(page: Page) -> PageResult {
    Ok(crate::products::list(&page).await?.into())
}

#[handler]
async fn product(page: Page, request: &mut Request) -> PageResult {
    let id = request.param::<String>("id").unwrap_or_default();
    Ok(crate::products::show(&page, &id).await?)
}

#[handler]
async fn auction(page: Page) -> PageResult {
    Ok(crate::auction::list(&page).await?.into())
}

#[handler]
async fn lot(page: Page, request: &mut Request) -> PageResult {
    let id = request.param::<String>("id").unwrap_or_default();
    Ok(crate::auction::show(&page, &id).await?)
}

#[handler]
async fn chat(page: Page) -> PageResult {
    Ok(crate::chat::show(&page).await?.into())
}

#[handler]
async fn profile(page: Page) -> PageResult {
    Ok(crate::profile::show(&page).await?)
}

#[handler]
async fn status(page: Page) -> PageResult {
    Ok(crate::status::show(&page).await?.into())
}

#[handler]
async fn admin(page: Page) -> PageResult {
    Ok(crate::admin::show(&page).await?)
}

#[handler]
async fn login(page: Page, request: &mut Request) -> PageResult {
    let asked = request.parse_queries::<LoginForm>().unwrap_or_default();
    Ok(crate::login::show(&page, &asked).await?.into())
}

#[handler]
async fn sign_in(page: Page, request: &mut Request) -> PageResult {
    let form = request.parse_form::<LoginForm>().await.unwrap_or_default();
    let peer = request.remote_addr().clone().into_std();
    Ok(crate::login::sign_in(&page, &form, peer.map(|peer| peer.ip())).await?)
}

#[handler]
async fn source(page: Page, request: &mut Request) -> PageResult {
    let file = request.param::<String>("file").unwrap_or_default();
    Ok(crate::source::show(&page, &file).await?)
}

#[handler]
async fn not_found(page: Page) -> PageResult {
    Ok(crate::not_found::show(&page).await?)
}

#[handler]
fn style() -> PageResponse {
    crate::assets::style()
}

#[handler]
fn icon() -> PageResponse {
    crate::assets::icon()
}

#[handler]
impl ContentPolicy {
    async fn handle(
        &self,
        request: &mut Request,
        depot: &mut Depot,
        response: &mut Response,
        control: &mut FlowCtrl,
    ) {
        control.call_next(request, depot, response).await;
        self.apply(response.headers_mut());
    }
}

impl Scribe for PageResponse {
    fn render(self, response: &mut Response) {
        let (head, body) = self.into_inner().into_parts();
        response.status_code(head.status);
        response.headers_mut().extend(head.headers);
        response.replace_body(ResBody::Once(body));
    }
}
