//! Request bodies with deadlines.

use std::{
    fmt,
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use faststate_core::BoxError;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

/// The longest pause between two pieces of a body.
const MAX_BODY_SILENCE: Duration = Duration::from_secs(10);

/// The time for a whole body. Every [`MIN_BODY_RATE`] bytes received extend it by one second.
const BASE_BODY_TIME: Duration = Duration::from_secs(30);

/// The minimum rate of a body that takes longer than [`BASE_BODY_TIME`], in bytes per second.
const MIN_BODY_RATE: u64 = 8 * 1024;

/// The body of a request.
///
/// It ends with an error if no data arrives for 10 s, or if the whole body takes longer than 30 s plus 1 s per 8 KiB
/// received.
#[derive(Debug)]
pub struct RequestBody(TimedBody<BodySource>);

/// The source of a request's body.
#[derive(Debug)]
pub(super) enum BodySource {
    /// Read from a socket by hyper.
    Incoming(Incoming),
    /// Complete from the start, for requests that are made without a connection.
    Whole(http_body_util::Full<Bytes>),
}

/// A body with one deadline for its next piece and one for the whole body.
struct TimedBody<B> {
    body: B,
    /// The number of bytes received.
    bytes: u64,
    /// When the body was first read.
    began: Option<Instant>,
    /// Allocated at the first wait, because most bodies arrive together with their head.
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the timer is set for the current wait.
    waits: bool,
}

impl RequestBody {
    pub(super) const fn new(body: BodySource) -> Self {
        Self(TimedBody::new(body))
    }
}

impl From<Bytes> for RequestBody {
    fn from(body: Bytes) -> Self {
        Self::new(BodySource::Whole(http_body_util::Full::new(body)))
    }
}

impl<B> TimedBody<B> {
    const fn new(body: B) -> Self {
        Self { body, bytes: 0, began: None, timer: None, waits: false }
    }

    /// Completes with the reason when a deadline has passed.
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        let now = Instant::now();
        let time = BASE_BODY_TIME + Duration::from_secs(self.bytes / MIN_BODY_RATE);
        let whole = *self.began.get_or_insert(now) + time;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(MAX_BODY_SILENCE)));
        if !std::mem::replace(&mut self.waits, true) {
            timer.as_mut().reset(whole.min(now + MAX_BODY_SILENCE));
        }
        timer.as_mut().poll(cx).map(|()| {
            if whole <= Instant::now() {
                format!("the request body did not arrive within {time:?}")
            } else {
                format!("no part of the request body arrived for {MAX_BODY_SILENCE:?}")
            }
        })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.get_mut().0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl Body for BodySource {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Whole(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Incoming(body) => body.is_end_stream(),
            Self::Whole(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Incoming(body) => body.size_hint(),
            Self::Whole(body) => body.size_hint(),
        }
    }
}

impl<B> Body for TimedBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.waits = false;
            if let Some(Ok(frame)) = &frame {
                this.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        this.poll_timeout(cx).map(|reason| Some(Err(reason.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> fmt::Debug for TimedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::time::timeout;

    use super::*;

    /// A body with pieces of `bytes` bytes, each after a pause in seconds.
    fn body(
        pieces: impl Iterator<Item = u64> + Send + 'static,
        bytes: usize,
    ) -> TimedBody<impl Body<Data = Bytes, Error = Infallible> + Unpin> {
        let stream = futures::stream::unfold(pieces, move |mut pieces| async move {
            sleep(Duration::from_secs(pieces.next()?)).await;
            Some((Ok(Frame::data(Bytes::from(vec![0; bytes]))), pieces))
        });
        TimedBody::new(StreamBody::new(Box::pin(stream)))
    }

    /// The whole seconds until the body ended, and its length or error.
    async fn ended(body: TimedBody<impl Body<Data = Bytes, Error = Infallible> + Unpin>) -> (u64, String) {
        let start = Instant::now();
        let ended = timeout(Duration::from_secs(3600), body.collect()).await.unwrap();
        let how =
            ended.map_or_else(|error| error.to_string(), |body| format!("{} bytes", body.to_bytes().len()));
        (start.elapsed().as_secs(), how)
    }

    #[tokio::test(start_paused = true)]
    async fn body_is_refused_when_silent_and_not_when_slow() {
        assert_eq!(ended(body([9, 0, 9, 9].into_iter(), 1)).await, (27, "4 bytes".to_owned()));
        let (seconds, how) = ended(body([9, 3600].into_iter(), 1)).await;
        assert_eq!((seconds, &*how), (19, "no part of the request body arrived for 10s"));
    }

    #[tokio::test(start_paused = true)]
    async fn law_06_body_is_refused_when_it_takes_over_30_s() {
        let (seconds, how) = ended(body(std::iter::repeat(5), 1)).await;
        assert_eq!((seconds, &*how), (30, "the request body did not arrive within 30s"));
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_of_large_body_grows_with_its_bytes() {
        let upload = body(std::iter::repeat_n(5, 60), 5 * MIN_BODY_RATE as usize);
        assert_eq!(ended(upload).await, (300, format!("{} bytes", 300 * MIN_BODY_RATE)));
    }
}
