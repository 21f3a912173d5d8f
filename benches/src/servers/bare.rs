//! Sockets and a loop, as the lower bound.

use std::{io, net, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::board::{self, PlainBoard, SetBoardNumber};

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

#[derive(Default)]
struct BareApp {
    board: Mutex<PlainBoard>,
    followers: Mutex<Vec<TcpStream>>,
}

impl BareApp {
    /// Writes to every socket in turn. A socket whose buffer is full misses the frame.
    fn tell(&self, frame: &[u8]) {
        for socket in self.followers.lock().iter() {
            let _ = socket.try_write(frame);
        }
    }

    async fn serve(self: Arc<Self>, mut socket: TcpStream) -> io::Result<()> {
        let mut read = Vec::with_capacity(1024);
        loop {
            let end = loop {
                if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
                    break end + 4;
                }
                if socket.read_buf(&mut read).await? == 0 {
                    return Ok(());
                }
            };
            let head = String::from_utf8_lossy(&read[..end]).into_owned();
            if head.starts_with("GET /follow") {
                let first = board::snapshot(&self.board.lock());
                socket.write_all(format!("{HEAD}{first}").as_bytes()).await?;
                self.followers.lock().push(socket);
                return Ok(());
            }
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            let length = length.and_then(|length| length.parse::<usize>().ok()).unwrap_or_default();
            while read.len() < end + length {
                if socket.read_buf(&mut read).await? == 0 {
                    return Ok(());
                }
            }
            if let Ok(set) = serde_json::from_slice::<SetBoardNumber>(&read[end..end + length]) {
                self.board.lock().set(set);
                self.tell(board::frame(set.slot, set.value).as_bytes());
            }
            read.drain(..end + length);
            socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
        }
    }
}

pub(super) async fn serve(listener: net::TcpListener) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let app = Arc::new(BareApp::default());
    loop {
        let (socket, _) = listener.accept().await?;
        let _ = socket.set_nodelay(true);
        tokio::spawn(Arc::clone(&app).serve(socket));
    }
}
