//! A socket whose writes may not stall for ever.

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

/// For a client to read something of what waits for it.
const WRITE_TIME: Duration = Duration::from_secs(60);

/// Up to how many bytes it is cheaper to copy pieces together than to have the kernel collect them.
const GATHERED: usize = 1024;

/// A socket; an error where its client has read nothing for a minute of what waits for it.
pub(super) struct Socket<S = TcpStream> {
    inner: S,
    /// Made when a write first stalls, which most clients never have happen.
    deadline: Option<Pin<Box<Sleep>>>,
    stalls: bool,
}

impl<S> Socket<S> {
    pub(super) const fn new(inner: S) -> Self {
        Self { inner, deadline: None, stalls: false }
    }

    /// What the socket said to a write, or that it has been silent for too long.
    fn judge(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalls = false;
            return written;
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(WRITE_TIME)));
        if !std::mem::replace(&mut self.stalls, true) {
            deadline.as_mut().reset(Instant::now() + WRITE_TIME);
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
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        let written = if length <= GATHERED {
            let mut gathered = [0; GATHERED];
            let mut at = 0;
            for slice in slices {
                gathered[at..at + slice.len()].copy_from_slice(slice);
                at += slice.len();
            }
            Pin::new(&mut self.inner).poll_write(cx, &gathered[..at])
        } else {
            Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
        };
        self.judge(cx, written)
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
    async fn law_06_a_client_that_reads_nothing_for_a_minute_is_given_up() {
        let (client, server) = duplex(1);
        let mut socket = Socket::new(server);
        socket.write_all(b"a").await.unwrap();
        let start = Instant::now();
        assert_eq!(socket.write_all(b"b").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 60);
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_is_waited_for() {
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
