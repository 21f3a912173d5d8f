//! What a request carries.

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

/// The longest silence between two pieces of a body.
const SILENCE: Duration = Duration::from_secs(10);

/// The time for a whole body, to which each [`BODY_RATE`] bytes that have arrived add a second.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The least rate of a body that takes longer than [`BODY_TIME`], in bytes per second.
const BODY_RATE: u64 = 8 * 1024;

/// A request's body. It ends with an error when nothing of it has arrived for 10 s, and when it takes longer than
/// 30 s and a second for each 8 KiB of it.
#[derive(Debug)]
pub struct RequestBody(Timed<Arriving>);

/// What a request brings along.
#[derive(Debug)]
pub(super) enum Arriving {
    /// Over a socket.
    Incoming(Incoming),
    /// Of a request without a connection.
    Whole(http_body_util::Full<Bytes>),
}

/// A body with deadlines: for its next piece, and for the whole.
struct Timed<B> {
    arriving: B,
    /// The bytes that have arrived.
    bytes: u64,
    /// When the body was first read.
    began: Option<Instant>,
    /// Made when the body is first waited for: most bodies arrive with their head.
    timer: Option<Pin<Box<Sleep>>>,
    waits: bool,
}

impl RequestBody {
    pub(super) const fn new(arriving: Arriving) -> Self {
        Self(Timed::new(arriving))
    }
}

impl From<Bytes> for RequestBody {
    fn from(body: Bytes) -> Self {
        Self::new(Arriving::Whole(http_body_util::Full::new(body)))
    }
}

impl<B> Timed<B> {
    const fn new(arriving: B) -> Self {
        Self { arriving, bytes: 0, began: None, timer: None, waits: false }
    }

    /// Done when the body has been waited for too long; gives the reason.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        let now = Instant::now();
        let time = BODY_TIME + Duration::from_secs(self.bytes / BODY_RATE);
        let whole = *self.began.get_or_insert(now) + time;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(SILENCE)));
        if !std::mem::replace(&mut self.waits, true) {
            timer.as_mut().reset(whole.min(now + SILENCE));
        }
        timer.as_mut().poll(cx).map(|()| {
            if whole <= Instant::now() {
                format!("the body has not arrived within {time:?}")
            } else {
                format!("nothing of the body has arrived for {SILENCE:?}")
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

impl Body for Arriving {
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

impl<B> Body for Timed<B>
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
        if let Poll::Ready(frame) = Pin::new(&mut this.arriving).poll_frame(cx) {
            this.waits = false;
            if let Some(Ok(frame)) = &frame {
                this.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        this.poll_late(cx).map(|reason| Some(Err(reason.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.arriving.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.arriving.size_hint()
    }
}

impl<B> fmt::Debug for Timed<B> {
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

    /// Pieces of this many bytes, each after so many seconds.
    fn arriving(
        pieces: impl Iterator<Item = u64> + Send + 'static,
        bytes: usize,
    ) -> Timed<impl Body<Data = Bytes, Error = Infallible> + Unpin> {
        let stream = futures::stream::unfold(pieces, move |mut pieces| async move {
            sleep(Duration::from_secs(pieces.next()?)).await;
            Some((Ok(Frame::data(Bytes::from(vec![0; bytes]))), pieces))
        });
        Timed::new(StreamBody::new(Box::pin(stream)))
    }

    /// Whole seconds until the body ended, and how.
    async fn ended(body: Timed<impl Body<Data = Bytes, Error = Infallible> + Unpin>) -> (u64, String) {
        let start = Instant::now();
        let ended = timeout(Duration::from_secs(3600), body.collect()).await.unwrap();
        let how =
            ended.map_or_else(|error| error.to_string(), |body| format!("{} bytes", body.to_bytes().len()));
        (start.elapsed().as_secs(), how)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_be_slow_and_not_silent() {
        assert_eq!(ended(arriving([9, 0, 9, 9].into_iter(), 1)).await, (27, "4 bytes".to_owned()));
        let (seconds, how) = ended(arriving([9, 3600].into_iter(), 1)).await;
        assert_eq!((seconds, &*how), (19, "nothing of the body has arrived for 10s"));
    }

    #[tokio::test(start_paused = true)]
    async fn law_06_body_is_given_up_when_the_whole_takes_too_long() {
        let (seconds, how) = ended(arriving(std::iter::repeat(5), 1)).await;
        assert_eq!((seconds, &*how), (30, "the body has not arrived within 30s"));
    }

    #[tokio::test(start_paused = true)]
    async fn large_body_gets_the_time_that_its_bytes_take() {
        let upload = arriving(std::iter::repeat_n(5, 60), 5 * BODY_RATE as usize);
        assert_eq!(ended(upload).await, (300, format!("{} bytes", 300 * BODY_RATE)));
    }
}
