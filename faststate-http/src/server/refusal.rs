//! The response to a connection above a limit.

use std::{io, time::Duration};

use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};

use super::{connection_limits::LimitReached, linger::linger};

/// The time for a refused client to send its request and to receive the response.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// Answers 503 or 429 on a connection above a limit, and closes it.
pub(super) async fn refuse(mut socket: TcpStream, reached: LimitReached) {
    let _ = timeout(REFUSAL_TIMEOUT, answer(&mut socket, reached)).await;
}

async fn answer(socket: &mut TcpStream, reached: LimitReached) -> io::Result<()> {
    // A client may treat a response that arrives before its request as an error.
    socket.readable().await?;
    let (status, detail) = match reached {
        LimitReached::Server => {
            ("503 Service Unavailable", "this server has reached its limit of connections; try again later")
        }
        LimitReached::Address => (
            "429 Too Many Requests",
            "your address has reached its limit of connections; close some and try again",
        ),
    };
    let length = detail.len();
    let response = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\ncache-control: no-store\r\n\
         retry-after: 5\r\nconnection: close\r\n\r\n{detail}"
    );
    socket.write_all(response.as_bytes()).await?;
    socket.shutdown().await?;
    linger(socket).await;
    Ok(())
}
