//! The error type of page handlers.

use std::error::Error;

use faststate_core::BoxError;
use faststate_http::endpoint::{Problem, error_page};
use salvo::{
    Response, Scribe,
    http::{ParseError, StatusCode, StatusError},
};

use crate::routes::write;

/// Any error of a page handler, rendered as a plain styled page. `?` converts every error into it.
///
/// The page shows the text and the status of FastState's own errors and rejections. It does the same for Salvo's
/// `ParseError` and `StatusError` if the client caused them (400, 413 and so on). Any other error is internal: the log
/// contains it in full, under the id that the page shows.
#[derive(Debug)]
pub struct PageError(BoxError);

impl<E: Into<BoxError>> From<E> for PageError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl Scribe for PageError {
    fn render(self, response: &mut Response) {
        let problem = match refusal(&*self.0) {
            Some((status, reason)) if status.is_client_error() => Problem::refused(status, reason),
            _ => Problem::unexpected(self.0),
        };
        write(error_page(&problem), response);
    }
}

/// Returns the status and the reason of an error for which Salvo has its own response.
fn refusal(error: &(dyn Error + 'static)) -> Option<(StatusCode, String)> {
    if let Some(error) = error.downcast_ref::<StatusError>() {
        return Some((error.code, error.brief.clone()));
    }
    let error = error.downcast_ref::<ParseError>()?;
    let status = match error {
        ParseError::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    };
    Some((status, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(error: impl Into<BoxError>) -> u16 {
        let mut response = Response::new();
        PageError::from(error).render(&mut response);
        response.status_code.map_or(200, |status| status.as_u16())
    }

    #[test]
    fn errors_of_salvo_keep_their_client_status() {
        assert_eq!(status(ParseError::PayloadTooLarge), 413);
        assert_eq!(status(ParseError::EmptyBody), 400);
        assert_eq!(status(StatusError::unsupported_media_type()), 415);
        assert_eq!(status(StatusError::bad_gateway()), 500);
    }

    #[test]
    fn other_errors_stay_internal() {
        assert_eq!(status("the disk is gone"), 500);
    }
}
