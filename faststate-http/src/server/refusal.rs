//! The answer to a connection that exceeds a limit.

use std::{io, time::Duration};

use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::timeout};

use super::{linger::linger, places::Full};

/// The time for a refused client to send its request, and to receive the response.
const TIME: Duration = Duration::from_secs(2);

/// Answers a client that there is no room for, and closes its connection.
pub(super) async fn refuse(mut socket: TcpStream, full: Full) {
    let _ = timeout(TIME, answer(&mut socket, full)).await;
}

async fn answer(socket: &mut TcpStream, full: Full) -> io::Result<()> {
    // A client may take a response that arrives before its request for an error.
    socket.readable().await?;
    let (status, detail) = match full {
        Full::Server => ("503 Service Unavailable", "this server has as many connections as it may have"),
        Full::Address => ("429 Too Many Requests", "your address has as many connections as it may have"),
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
