//! The site on bare hyper, through the handwritten adapter of an example.

#[path = "../../../examples/custom_adapter/adapter.rs"]
mod adapter;

use std::{io, net::SocketAddr};

use faststate::{
    BoxError, Rejection,
    endpoint::{Endpoint, Page},
};
use http_body_util::{BodyExt as _, Limited};
use hyper::{Method, Request, body::Incoming};

use self::adapter::FastState;
use crate::{assets::ContentPolicy, counter::host, login::LoginForm, response::PageResponse};

/// Maximum size of a posted form, in bytes.
const MAX_FORM_BYTES: usize = 64 * 1024;

pub(super) async fn serve(site: Endpoint, policy: ContentPolicy, listen: SocketAddr) -> io::Result<()> {
    tracing::info!("bare hyper on http://{listen}");
    let pages = move |page: Page, request| {
        let policy = policy.clone();
        async move {
            let mut response = show(&page, request).await?.into_inner();
            policy.apply(response.headers_mut());
            Ok(response)
        }
    };
    FastState::new(site, pages).serve(listen).await
}

/// Routes requests to the pages.
async fn show(page: &Page, request: Request<Incoming>) -> Result<PageResponse, BoxError> {
    let (head, body) = request.into_parts();
    let path: Vec<&str> = head.uri.path().split('/').skip(1).collect();
    Ok(match (&head.method, &*path) {
        (&Method::POST, ["login"]) => {
            let form = Limited::new(body, MAX_FORM_BYTES).collect().await;
            let form = form
                .map_err(|_| Rejection::invalid("this form is too long or did not arrive: send it again"))?;
            let peer = head.extensions.get::<SocketAddr>().map(SocketAddr::ip);
            crate::login::sign_in(page, &fields(&form.to_bytes()), peer).await?
        }
        (method, _) if !method.is_safe() => crate::not_found::show(page).await?,
        (_, [""]) => crate::home::show(page).await?.into(),
        (_, ["counter"]) => crate::counter::show(page, host(&head.headers)).await?.into(),
        (_, ["products"]) => crate::products::list(page).await?.into(),
        (_, ["product", id]) => crate::products::show(page, id).await?,
        (_, ["auction"]) => crate::auction::list(page).await?.into(),
        (_, ["auction", id]) => crate::auction::show(page, id).await?,
        (_, ["chat"]) => crate::chat::show(page).await?.into(),
        (_, ["profile"]) => crate::profile::show(page).await?,
        (_, ["status"]) => crate::status::show(page).await?.into(),
        (_, ["admin"]) => crate::admin::show(page).await?,
        (_, ["login"]) => {
            let asked = fields(head.uri.query().unwrap_or_default().as_bytes());
            crate::login::show(page, &asked).await?.into()
        }
        (_, ["source", file @ ..]) => crate::source::show(page, &file.join("/")).await?,
        (_, ["style.css"]) => crate::assets::style(),
        (_, ["favicon.svg"]) => crate::assets::icon(),
        _ => crate::not_found::show(page).await?,
    })
}

/// The fields of a form or a query.
fn fields(text: &[u8]) -> LoginForm {
    let mut form = LoginForm::default();
    for (name, value) in form_urlencoded::parse(text) {
        match &*name {
            "name" => form.name = value.into_owned(),
            "password" => form.password = value.into_owned(),
            "next" => form.next = value.into_owned(),
            _ => {}
        }
    }
    form
}
