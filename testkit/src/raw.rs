//! A bare TCP connection, for requests that no HTTP client would send.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::PATIENCE;

/// A connection to a service.
pub struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl From<TcpStream> for Connection {
    fn from(stream: TcpStream) -> Connection {
        Connection { stream, unread: Vec::new() }
    }
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Connection {
        let stream = TcpStream::connect(address).await.expect("the service listens");
        Connection::from(stream)
    }

    /// Sends bytes unchanged. That the peer has already closed the connection is not an error.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.ok();
    }

    /// Reads until the received bytes end in `end`, and returns them. Panics at a timeout or if the connection ends
    /// first.
    pub async fn read_until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = find(&self.unread, end.as_bytes()) {
                let rest = self.unread.split_off(at + end.len());
                return text(std::mem::replace(&mut self.unread, rest));
            }
            let came = self.more().await;
            assert!(came > 0, "the connection ended before `{end}`: {}", text(self.unread.clone()));
        }
    }

    /// Reads one response with a `content-length`: its head and its body.
    pub async fn response(&mut self) -> (String, String) {
        let head = self.read_until("\r\n\r\n").await.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let length: usize = length.unwrap_or_else(|| panic!("no content-length in {head}"));
        while self.unread.len() < length {
            assert!(self.more().await > 0, "the connection ended within the body");
        }
        let rest = self.unread.split_off(length);
        (head, text(std::mem::replace(&mut self.unread, rest)))
    }

    /// Reads until the peer closes the connection. Panics at a timeout.
    pub async fn rest(mut self) -> String {
        while self.more().await > 0 {}
        text(self.unread)
    }

    /// Whether the peer has closed the connection, without waiting.
    pub fn is_closed(&self) -> bool {
        let mut byte = [0];
        matches!(self.stream.try_read(&mut byte), Ok(0))
    }

    async fn more(&mut self) -> usize {
        let mut buffer = [0; 4096];
        let read = tokio::time::timeout(2 * PATIENCE, self.stream.read(&mut buffer)).await;
        // A connection reset counts as the end.
        let count = read.expect("the peer sends or hangs up in time").unwrap_or(0);
        self.unread.extend_from_slice(&buffer[..count]);
        count
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}
