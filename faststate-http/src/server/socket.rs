//! A socket with a write timeout.

use std::{
    future::Future as _,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

/// The longest time that a write may make no progress.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// The most bytes that are copied into one buffer. Copying a small write costs less than a vectored system call.
const MAX_COPIED_BYTES: usize = 1024;

/// A socket whose writes fail if the client has read nothing for 60 s.
pub(super) struct Socket<S = TcpStream> {
    inner: S,
    /// Allocated at the first stalled write, because most connections never stall.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Whether the deadline is set for the current stall.
    stalls: bool,
}

impl<S> Socket<S> {
    pub(super) const fn new(inner: S) -> Self {
        Self { inner, deadline: None, stalls: false }
    }

    /// Passes on the result of a write, or fails if writes have stalled for too long.
    fn with_timeout(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalls = false;
            return written;
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(WRITE_TIMEOUT)));
        if !std::mem::replace(&mut self.stalls, true) {
            deadline.as_mut().reset(Instant::now() + WRITE_TIMEOUT);
        }
        deadline.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.with_timeout(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        let written = if length <= MAX_COPIED_BYTES {
            let mut buffer = [0; MAX_COPIED_BYTES];
            let mut at = 0;
            for slice in slices {
                buffer[at..at + slice.len()].copy_from_slice(slice);
                at += slice.len();
            }
            Pin::new(&mut self.inner).poll_write(cx, &buffer[..at])
        } else {
            Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
        };
        self.with_timeout(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn law_06_write_fails_when_client_reads_nothing_for_60_s() {
        let (client, server) = duplex(1);
        let mut socket = Socket::new(server);
        socket.write_all(b"a").await.unwrap();
        let start = Instant::now();
        assert_eq!(socket.write_all(b"b").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 60);
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn write_succeeds_when_client_reads_slowly() {
        let (mut client, server) = duplex(1);
        let reading = tokio::spawn(async move {
            for _ in 0..5 {
                sleep(Duration::from_secs(50)).await;
                client.read_u8().await.unwrap();
            }
            client
        });
        let mut socket = Socket::new(server);
        socket.write_all(b"slow").await.unwrap();
        let slices = [IoSlice::new(b"l"), IoSlice::new(b"y")];
        assert_eq!(socket.write_vectored(&slices).await.unwrap(), 1, "there is room for one byte");
        drop(reading.await.unwrap());
    }
}
