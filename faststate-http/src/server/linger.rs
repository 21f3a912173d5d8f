//! A close that does not lose the response while the client is still sending.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};

/// The longest time to read after the response.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// The most bytes to read after the response.
const MAX_LINGER_BYTES: usize = 1024 * 1024;

/// Reads and discards data from the client until the client closes its side or a limit is reached.
///
/// The kernel resets a connection that is closed with unread data, and a client may lose the response in a reset.
pub(super) async fn linger(socket: &mut (impl AsyncRead + Unpin)) {
    let mut discarded = [0; 1024];
    let mut left = MAX_LINGER_BYTES;
    let reading = async {
        while let Ok(read @ 1..) = socket.read(&mut discarded).await {
            left = left.saturating_sub(read);
            if left == 0 {
                return;
            }
        }
    };
    // A client that neither sends nor closes within the time is given up.
    let _ = timeout(LINGER_TIMEOUT, reading).await;
}
