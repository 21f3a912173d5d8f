//! What a page's handler answers with when it cannot answer.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use faststate_core::{BoxError, endpoint::Problem};

/// Any error of a page's handler, as a plain styled page: `?` makes one of every error.
///
/// FastState's own errors and rejections say what they are, with their status; any other error is
/// internal: the log has it in full under the id that the page shows.
#[derive(Debug)]
pub struct PageError(BoxError);

impl<E: Into<BoxError>> From<E> for PageError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        Problem::unexpected(self.0).page().map(Body::new)
    }
}
