//! The site on Salvo.

use std::{io, net::SocketAddr};

use faststate::{
    endpoint::Endpoint,
    salvo::{FastState, Page, PageError},
};
use salvo::{http::ResBody, prelude::*};

use super::{Answer, host};
use crate::{assets::Policy, login::Form};

type Shown = Result<Answer, PageError>;

pub(super) async fn serve(site: Endpoint, policy: Policy, listen: SocketAddr) -> io::Result<()> {
    FastState::from_endpoint(site).serve(listen, pages(policy)).await
}

/// Which page answers what.
pub(super) fn pages(policy: Policy) -> Router {
    let pages = Router::with_filter_fn(|request, _| request.method().is_safe())
        .goal(home)
        .push(Router::with_path("counter").goal(counter))
        .push(Router::with_path("products").goal(products))
        .push(Router::with_path("product/{id}").goal(product))
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
async fn home(page: Page) -> Shown {
    Ok(crate::home::show(&page).await?.into())
}

#[handler]
async fn counter(page: Page, request: &mut Request) -> Shown {
    Ok(crate::counter::show(&page, host(request.headers())).await?.into())
}

#[handler]
async fn products(page: Page) -> Shown {
    Ok(crate::products::list(&page).await?.into())
}

#[handler]
async fn product(page: Page, request: &mut Request) -> Shown {
    let id = request.param::<String>("id").unwrap_or_default();
    Ok(crate::products::show(&page, &id).await?)
}

#[handler]
async fn chat(page: Page) -> Shown {
    Ok(crate::chat::show(&page).await?.into())
}

#[handler]
async fn profile(page: Page) -> Shown {
    Ok(crate::profile::show(&page).await?)
}

#[handler]
async fn status(page: Page) -> Shown {
    Ok(crate::status::show(&page).await?.into())
}

#[handler]
async fn admin(page: Page) -> Shown {
    Ok(crate::admin::show(&page).await?)
}

#[handler]
async fn login(page: Page, request: &mut Request) -> Shown {
    let asked = request.parse_queries::<Form>().unwrap_or_default();
    Ok(crate::login::show(&page, &asked).await?.into())
}

#[handler]
async fn sign_in(page: Page, request: &mut Request) -> Shown {
    let form = request.parse_form::<Form>().await.unwrap_or_default();
    let peer = request.remote_addr().clone().into_std();
    Ok(crate::login::sign_in(&page, &form, peer.map(|peer| peer.ip())).await?)
}

#[handler]
async fn source(page: Page, request: &mut Request) -> Shown {
    let file = request.param::<String>("file").unwrap_or_default();
    Ok(crate::source::show(&page, &file).await?)
}

#[handler]
async fn not_found(page: Page) -> Shown {
    Ok(crate::not_found::show(&page).await?)
}

#[handler]
fn style() -> Answer {
    crate::assets::style()
}

#[handler]
fn icon() -> Answer {
    crate::assets::icon()
}

#[handler]
impl Policy {
    async fn handle(
        &self,
        request: &mut Request,
        depot: &mut Depot,
        response: &mut Response,
        control: &mut FlowCtrl,
    ) {
        control.call_next(request, depot, response).await;
        self.mark(response.headers_mut());
    }
}

impl Scribe for Answer {
    fn render(self, response: &mut Response) {
        let (head, body) = self.0.into_parts();
        response.status_code(head.status);
        response.headers_mut().extend(head.headers);
        response.replace_body(ResBody::Once(body));
    }
}
