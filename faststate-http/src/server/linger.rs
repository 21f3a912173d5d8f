//! The end of a connection whose client may still be sending.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};

const TIME: Duration = Duration::from_secs(2);

/// The most bytes that are read.
const BYTES: usize = 1024 * 1024;

/// Reads and drops what a client sends after its response, until it has received that.
///
/// The kernel resets a connection that is closed before everything has been read, and a client whose connection is
/// reset may lose the response.
pub(super) async fn linger(socket: &mut (impl AsyncRead + Unpin)) {
    let mut scrap = [0; 1024];
    let mut left = BYTES;
    let reading = async {
        while let Ok(read @ 1..) = socket.read(&mut scrap).await {
            left = left.saturating_sub(read);
            if left == 0 {
                return;
            }
        }
    };
    // A client that neither sends nor closes has no need of the response.
    let _ = timeout(TIME, reading).await;
}
