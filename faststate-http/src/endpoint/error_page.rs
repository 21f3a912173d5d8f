//! Problems as whole pages, for requests for a page.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Response, header};
use sha2::{Digest as _, Sha256};

use super::{
    problem::{Problem, escaped},
    reply::{ReplyBody, answer},
};

const STYLE: &str = "*{box-sizing:border-box}body{margin:0;min-height:100vh;display:grid;place-items:center;\
padding:1.5rem;background:#fef7ff;color:#1d1b20;font:1.0625rem/1.6 system-ui,sans-serif}\
main{max-width:34rem;width:100%;padding:2rem;border-radius:1rem;background:#fff;box-shadow:0 .25rem 1.5rem #0002}\
h1{margin:0 0 .5rem;font-size:1.6rem;line-height:1.25}p{margin:.5rem 0}\
.status{margin:0;color:#b3261e;font-weight:700;letter-spacing:.05em}.detail::first-letter{text-transform:uppercase}\
.id{font-size:.9em;opacity:.75}a{color:#5b4b9b}\
@media(prefers-color-scheme:dark){body{background:#141218;color:#e6e0e9}main{background:#211f26}\
.status{color:#f2b8b5}a{color:#cfbcff}}";

/// Renders a problem as a whole page, light and dark. Its content security policy allows only its own style.
#[must_use]
pub fn error_page(problem: &Problem) -> Response<ReplyBody> {
    let Problem { status, title, detail, id, .. } = problem;
    let code = status.as_u16();
    let detail = escaped(detail);
    let id = id.as_deref().map_or_else(String::new, |id| {
        format!("<p class=\"id\">Reference: <code>{}</code></p>", escaped(id))
    });
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>{title}</title>\
         <style>{STYLE}</style></head><body><main><p class=\"status\">{code}</p><h1>{title}</h1>\
         <p class=\"detail\">{detail}</p>{id}<p><a href=\"/\">Back to the start</a></p></main></body></html>"
    );
    let mut response = answer(*status, "text/html; charset=utf-8", ReplyBody::full(html));
    let style = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!("default-src 'none'; style-src 'sha256-{style}'; frame-ancestors 'none'");
    if let Ok(policy) = HeaderValue::try_from(policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

#[cfg(test)]
mod tests {
    use faststate_core::{BoxError, Error, Rejection};
    use http_body_util::BodyExt as _;

    use super::*;

    async fn text(error: BoxError) -> (u16, String) {
        let response = error_page(&Problem::unexpected(error));
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn faststate_errors_keep_status_and_detail() {
        let (status, page) = text(Error::Unknown.into()).await;
        assert!(status == 404 && page.contains("not found, or not yours to see"), "{page}");
        let (status, page) = text(Rejection::forbidden("<no>").into()).await;
        assert!(status == 403 && page.contains("&#60;no&#62;"), "{page}");
    }

    #[tokio::test]
    async fn application_errors_are_hidden_behind_an_id() {
        let (status, page) = text("the password is hunter2".into()).await;
        assert!(status == 500 && !page.contains("hunter2") && page.contains("Reference: "), "{page}");
    }
}
