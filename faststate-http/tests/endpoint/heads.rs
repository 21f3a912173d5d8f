//! The copy of the request's head that a stream keeps.

use std::sync::Arc;

use bytes::Bytes;
use faststate_http::endpoint::ReplyBody;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::Empty;

use super::app::{Client, Doorman, endpoint, registry};

const URI: &str = "/faststate/sse?states=counter";

/// A server's read buffer, which counts its owners.
struct ReadBuffer(Arc<[u8]>);

impl AsRef<[u8]> for ReadBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Opens a stream with a head whose URI and values are slices of `buffer`, as hyper makes them.
async fn open(buffer: &Arc<[u8]>, client: &Client) -> Response<ReplyBody> {
    let bytes = Bytes::from_owner(ReadBuffer(Arc::clone(buffer)));
    let value = HeaderValue::from_maybe_shared(bytes.slice(URI.len()..)).unwrap();
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = Uri::from_maybe_shared(bytes.slice(..URI.len())).unwrap();
    request.headers_mut().insert("host", HeaderValue::from_static("app.example"));
    request.headers_mut().insert("x-long", value);
    client.endpoint.respond(request, None).await
}

#[tokio::test]
async fn law_06_stream_frees_the_read_buffer_of_its_head() {
    let client = Client::of(endpoint(&registry(), &Doorman::default()));
    let buffer = Arc::from(format!("{URI}{}", "x".repeat(8 * 1024)).into_bytes());
    let stream = open(&buffer, &client).await;
    assert!(stream.status() == 200 && stream.body().is_stream());
    assert_eq!(Arc::strong_count(&buffer), 1, "the stream holds slices of the buffer");
}

#[tokio::test]
async fn law_06_stream_is_refused_when_its_head_exceeds_64_kib() {
    let client = Client::of(endpoint(&registry(), &Doorman::default()));
    for (bytes, status) in [(60 * 1024, 200), (64 * 1024, 431)] {
        let buffer = Arc::from(format!("{URI}{}", "x".repeat(bytes)).into_bytes());
        assert_eq!(open(&buffer, &client).await.status(), status, "{bytes} bytes");
    }
}
