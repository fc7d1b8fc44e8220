//! What keeps guests waiting: requests that are sent but for their end, and a neighbour that takes its time to say no.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// How long the neighbour is silent, and how long it is waited for what held requests lead to.
const SILENCE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);

/// Requests whose bodies lack the last byte.
pub(crate) struct HeldRequests {
    connections: Vec<TcpStream>,
    last: u8,
}

impl HeldRequests {
    /// Sends so many of them, each on a connection of its own.
    pub(crate) fn send(address: SocketAddr, path: &str, body: &str, count: usize) -> Result<HeldRequests> {
        let (last, most) = body.as_bytes().split_last().context("a body is needed")?;
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

    /// Waits until this is so, while the requests are held.
    pub(crate) fn until(&self, is_so: impl Fn() -> Result<bool>) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while !is_so()? {
            ensure!(Instant::now() < until, "{} held requests did not get an instance each", self.connections.len());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Sends what is left of them. Each has to be answered well.
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

/// Takes connections, is silent for a while, and closes them.
pub(crate) struct SilentNeighbour(SocketAddr);

impl SilentNeighbour {
    /// Starts one, for as long as this process lives.
    pub(crate) fn start() -> Result<SilentNeighbour> {
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
        Ok(SilentNeighbour(address))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0
    }
}
