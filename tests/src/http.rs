//! A minimal HTTP client.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

use crate::wait::DEADLINE;

/// A response.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The header lines.
    pub head: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of the first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// A GET without cookies.
///
/// # Errors
/// The server cannot be reached, or its response is not HTTP.
pub fn get(address: SocketAddr, path: &str) -> io::Result<Reply> {
    exchange(address, "GET", path, "", &[])
}

/// A POST of JSON without cookies, as scripts send it.
///
/// # Errors
/// The server cannot be reached, or its response is not HTTP.
pub fn post(address: SocketAddr, path: &str, json: &str) -> io::Result<Reply> {
    exchange(address, "POST", path, "Content-Type: application/json\r\n", json.as_bytes())
}

/// Any request. Each of `headers` ends with a line end. HTTP/1.0, so that the body ends with the connection.
///
/// # Errors
/// The server cannot be reached, or its response is not HTTP.
pub fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &[u8],
) -> io::Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\n{headers}Content-Length: {length}\r\n\r\n"
    )?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = head_end(&answer).ok_or(io::ErrorKind::InvalidData)?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(Reply { status: status.ok_or(io::ErrorKind::InvalidData)?, head, body: answer.split_off(end) })
}

/// The offset of the body, once the whole head has arrived.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// The value of the first header of this name.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}
