//! Requests that keep guests busy: incomplete requests, and requests to a server that closes connections after a delay.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// How long the silent server keeps a connection open.
const SILENCE: Duration = Duration::from_secs(1);
/// The longest wait for the effect of held requests.
const PATIENCE: Duration = Duration::from_secs(20);

/// Requests whose bodies are sent without the last byte.
pub(crate) struct HeldRequests {
    connections: Vec<TcpStream>,
    last: u8,
}

impl HeldRequests {
    /// Sends `count` requests, each on a connection of its own.
    pub(crate) fn send(address: SocketAddr, path: &str, body: &str, count: usize) -> Result<HeldRequests> {
        let (last, most) = body.as_bytes().split_last().context("the body is empty")?;
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n"
        );
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            let mut connection = TcpStream::connect(address)?;
            connection.write_all(&[head.as_bytes(), most].concat())?;
            connections.push(connection);
        }
        Ok(HeldRequests { connections, last: *last })
    }

    /// Waits until the condition holds, while the requests are incomplete.
    pub(crate) fn until(&self, condition: impl Fn() -> Result<bool>) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while !condition()? {
            ensure!(Instant::now() < until, "{} held requests did not get an instance each", self.connections.len());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Completes the requests. Each must be answered with 200.
    pub(crate) fn finish(mut self) -> Result<()> {
        for connection in &mut self.connections {
            connection.write_all(&[self.last])?;
        }
        for connection in &mut self.connections {
            let mut answer = String::new();
            connection.read_to_string(&mut answer)?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "a held request was answered with {answer}");
        }
        Ok(())
    }
}

/// A server that accepts connections and closes each after a delay, without a response.
pub(crate) struct SilentServer(SocketAddr);

impl SilentServer {
    /// Starts a server that runs until this process ends.
    pub(crate) fn start() -> Result<SilentServer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    std::thread::sleep(SILENCE);
                    drop(connection);
                });
            }
        });
        Ok(SilentServer(address))
    }

    /// The address of the server.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0
    }
}
