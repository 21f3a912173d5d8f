//! The error type of page handlers.

use std::error::Error;

#[cfg(feature = "multipart")]
use axum::extract::multipart::{MultipartError, MultipartRejection};
use axum::{
    body::Body,
    extract::rejection::{
        BytesRejection, FormRejection, JsonRejection, PathRejection, QueryRejection, RawFormRejection,
        RawPathParamsRejection, StringRejection,
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use faststate_core::BoxError;
use faststate_http::endpoint::{Problem, error_page};

/// Any error of a page handler, rendered as a plain styled page. `?` converts every error into it.
///
/// The page shows the text and the status of FastState's own errors and rejections. It does the same for the rejections
/// of axum's extractors for paths, queries, forms, JSON, bytes and strings if the client caused them (400, 413, 422 and
/// so on), and, with the feature `multipart`, for multipart bodies and their fields. Any other error is internal: the
/// log contains it in full, under the id that the page shows.
#[derive(Debug)]
pub struct PageError(BoxError);

impl<E: Into<BoxError>> From<E> for PageError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let problem = match extractor_status(&*self.0).filter(StatusCode::is_client_error) {
            Some(status) => Problem::refused(status, self.0.to_string()),
            None => Problem::unexpected(self.0),
        };
        error_page(&problem).map(Body::new)
    }
}

/// Returns the status of an error that is the rejection of one of axum's extractors.
fn extractor_status(error: &(dyn Error + 'static)) -> Option<StatusCode> {
    macro_rules! status_of {
        ($($rejection:ident)*) => {
            None$(.or_else(|| error.downcast_ref::<$rejection>().map($rejection::status)))*
        };
    }
    let status = status_of! {
        BytesRejection FormRejection JsonRejection PathRejection QueryRejection RawFormRejection
        RawPathParamsRejection StringRejection
    };
    status.or_else(|| multipart_status(error))
}

/// Returns the status of an error of axum's multipart extractor.
#[cfg(feature = "multipart")]
fn multipart_status(error: &(dyn Error + 'static)) -> Option<StatusCode> {
    let rejection = error.downcast_ref().map(MultipartRejection::status);
    rejection.or_else(|| error.downcast_ref().map(MultipartError::status))
}

/// Without the feature, these errors cannot be named.
#[cfg(not(feature = "multipart"))]
const fn multipart_status(_: &(dyn Error + 'static)) -> Option<StatusCode> {
    None
}

#[cfg(test)]
mod tests {
    use axum::{
        Form,
        body::Bytes,
        extract::{DefaultBodyLimit, FromRequest as _, Request},
        http::header::CONTENT_TYPE,
    };

    use super::*;

    fn request(content_type: &str, body: &'static str) -> Request {
        Request::post("/").header(CONTENT_TYPE, content_type).body(body.into()).unwrap()
    }

    fn status(error: impl Into<BoxError>) -> u16 {
        PageError::from(error).into_response().status().as_u16()
    }

    #[tokio::test]
    async fn rejections_of_extractors_keep_their_client_status() {
        const FORM: &str = "application/x-www-form-urlencoded";
        let form = async |request| Form::<[(String, u8); 1]>::from_request(request, &()).await.unwrap_err();
        assert_eq!(status(form(request(FORM, "a=many")).await), 422);
        assert_eq!(status(form(request("text/plain", "a=1")).await), 415);
        let mut long = request(FORM, "a=1234567890");
        DefaultBodyLimit::max(5).apply(&mut long);
        assert_eq!(status(form(long).await), 413);
        let mut long = request(FORM, "a=1234567890");
        DefaultBodyLimit::max(5).apply(&mut long);
        assert_eq!(status(Bytes::from_request(long, &()).await.unwrap_err()), 413);
        let json = axum::Json::<Vec<u8>>::from_request(request("application/json", "["), &()).await;
        assert_eq!(status(json.unwrap_err()), 400);
    }

    #[cfg(feature = "multipart")]
    #[tokio::test]
    async fn rejections_of_multipart_bodies_keep_their_client_status() {
        use axum::extract::Multipart;

        const FORM: &str = "multipart/form-data; boundary=x";
        let no_boundary = request("multipart/form-data", "");
        assert_eq!(status(Multipart::from_request(no_boundary, &()).await.unwrap_err()), 400);
        let mut cut = Multipart::from_request(request(FORM, "--x\r\n"), &()).await.unwrap();
        assert_eq!(status(cut.next_field().await.unwrap_err()), 400);
        let body = "--x\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n1234567890\r\n--x--\r\n";
        let mut long = request(FORM, body);
        DefaultBodyLimit::max(5).apply(&mut long);
        let mut long = Multipart::from_request(long, &()).await.unwrap();
        assert_eq!(status(long.next_field().await.unwrap_err()), 413);
    }

    #[test]
    fn other_errors_stay_internal() {
        assert_eq!(status("the disk is gone"), 500);
    }
}
