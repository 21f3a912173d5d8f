//! What a request carries.

use std::{
    fmt,
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};

use crate::BoxError;

/// Between pieces.
const BODY_TIME: Duration = Duration::from_secs(10);

/// A request's body; an error where nothing of it has arrived for 10 s.
#[derive(Debug)]
pub struct RequestBody(Timed<Arriving>);

/// What a request brings along.
#[derive(Debug)]
pub(super) enum Arriving {
    /// Over a socket.
    Incoming(Incoming),
    /// From a test.
    #[cfg(feature = "testing")]
    Whole(http_body_util::Full<Bytes>),
}

/// A body that may not be silent for too long.
struct Timed<B> {
    arriving: B,
    silence: Option<Pin<Box<Sleep>>>,
    waits: bool,
}

impl RequestBody {
    pub(super) const fn new(arriving: Arriving) -> Self {
        Self(Timed::new(arriving))
    }
}

impl<B> Timed<B> {
    const fn new(arriving: B) -> Self {
        Self { arriving, silence: None, waits: false }
    }

    /// Done when the body has been waited for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(BODY_TIME)));
        if !std::mem::replace(&mut self.waits, true) {
            silence.as_mut().reset(Instant::now() + BODY_TIME);
        }
        silence.as_mut().poll(cx)
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
            #[cfg(feature = "testing")]
            Self::Whole(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Incoming(body) => body.is_end_stream(),
            #[cfg(feature = "testing")]
            Self::Whole(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Incoming(body) => body.size_hint(),
            #[cfg(feature = "testing")]
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
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let late = || Some(Err(format!("nothing of the body has arrived for {BODY_TIME:?}").into()));
        this.poll_silence(cx).map(|()| late())
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

    /// Pieces, each after this many seconds.
    fn arriving(pieces: &'static [u64]) -> Timed<impl Body<Data = Bytes, Error = Infallible> + Unpin> {
        Timed::new(StreamBody::new(Box::pin(futures::stream::unfold(pieces, |pieces| async move {
            let (wait, rest) = pieces.split_first()?;
            sleep(Duration::from_secs(*wait)).await;
            Some((Ok(Frame::data(Bytes::from_static(b"x"))), rest))
        }))))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_be_slow_and_not_silent() {
        let slow = arriving(&[9, 0, 9, 9]).collect().await.unwrap().to_bytes();
        assert_eq!(slow, "xxxx");
        let start = Instant::now();
        let silent = timeout(Duration::from_secs(60), arriving(&[9, 3600]).collect()).await.unwrap();
        assert_eq!(silent.unwrap_err().to_string(), "nothing of the body has arrived for 10s");
        assert_eq!(start.elapsed().as_secs(), 19);
    }
}
