//! Pages, answered as by handlers that take a page as an argument.

use bytes::Bytes;
use faststate_core::BoxError;
use faststate_http::endpoint::{Endpoint, Problem, ReplyBody, RequestPage, error_page};
use faststate_testkit::suites::fixture::{self, FixtureCounter, Vault};
use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use http_body_util::{Either, Full};

use crate::flaw::Flaw;

type Answer = Response<Either<ReplyBody, Full<Bytes>>>;

/// Answers a request that the endpoint does not handle; returns `None` if there is no such page.
pub(crate) async fn answer(endpoint: &Endpoint, parts: &Parts, flaw: Flaw) -> Option<Answer> {
    let request_page = RequestPage::new(endpoint.clone());
    let shown = match parts.uri.path() {
        "/page" => show(endpoint, &request_page, parts, flaw).await,
        "/missing" => missing(&request_page, parts).await,
        "/broken" => Err(fixture::INTERNAL.into()),
        _ => return None,
    };
    let mut answer = match shown {
        Ok(html) => Response::new(Either::Right(html.into())),
        Err(error) if flaw == Flaw::ShowsWhatFailed => {
            let mut answer = Response::new(Either::Right(format!("Reference: {error}").into()));
            *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            answer
        }
        Err(error) => error_page(&Problem::unexpected(error)).map(Either::Left),
    };
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    match flaw {
        Flaw::MarksNoPages => {}
        Flaw::MarksPagesTwice => (0..2).for_each(|_| request_page.mark(headers)),
        Flaw::SharesPages => {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
            request_page.mark(headers);
        }
        _ => request_page.mark(headers),
    }
    if flaw == Flaw::AnswersEveryPageWithOk {
        *answer.status_mut() = StatusCode::OK;
    }
    Some(answer)
}

async fn show(
    endpoint: &Endpoint,
    request_page: &RequestPage,
    parts: &Parts,
    flaw: Flaw,
) -> Result<String, BoxError> {
    let page = request_page.page(parts).await?;
    // Like an adapter that makes a page for each argument.
    let other = match flaw {
        Flaw::MakesAPagePerArgument => RequestPage::new(endpoint.clone()),
        _ => request_page.clone(),
    };
    let counter = other.page(parts).await?.follow::<FixtureCounter>().await?;
    Ok(fixture::page(&page, &counter))
}

async fn missing(request_page: &RequestPage, parts: &Parts) -> Result<String, BoxError> {
    request_page.page(parts).await?.follow_id::<Vault>("none").await?;
    Ok(String::new())
}
