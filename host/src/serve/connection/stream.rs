//! The bytes of one connection: returns bytes that were read ahead first, measures heads, and informs the connection's
//! clock.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::automatic;
use super::clock::Clock;
use crate::http::head::{FIELDS_LIMIT, HeadError, TARGET_LIMIT};

/// The connection preface of HTTP/2 (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The length allowed for a request line without its target.
const LINE_REST: usize = 256;

/// The protocol of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A TCP stream that informs the connection's clock.
pub(super) struct Stream {
    tcp: TcpStream,
    /// Read ahead, but not returned yet.
    ahead: BytesMut,
    clock: Arc<Clock>,
    head: Head,
    fault: Option<HeadError>,
    /// The last response, if hyper may have generated it itself. It is not written yet.
    held: Option<Vec<u8>>,
    stalled: bool,
}

/// The part of a head that has arrived.
#[derive(Default)]
struct Head {
    /// How many requests preceded it.
    number: u64,
    size: usize,
    has_line: bool,
}

impl Stream {
    pub fn new(tcp: TcpStream, clock: Arc<Clock>) -> Stream {
        Stream { tcp, ahead: BytesMut::new(), clock, head: Head::default(), fault: None, held: None, stalled: false }
    }

    /// Detects the protocol; `None` if the client disconnected first.
    pub async fn detect(&mut self) -> io::Result<Option<Protocol>> {
        loop {
            if !PREFACE.starts_with(&self.ahead) {
                return Ok(Some(Protocol::Http1));
            }
            if self.ahead.len() == PREFACE.len() {
                self.clock.multiplexes();
                return Ok(Some(Protocol::Http2));
            }
            let mut rest = [0; PREFACE.len()];
            let room = PREFACE.len() - self.ahead.len();
            let count = self.tcp.read(rest.get_mut(..room).unwrap_or_default()).await?;
            if count == 0 {
                return Ok(None);
            }
            self.ahead.extend_from_slice(rest.get(..count).unwrap_or_default());
        }
    }

    /// What was wrong with a head that was not read completely.
    pub fn fault(&self) -> Option<&HeadError> {
        self.fault.as_ref()
    }

    /// Removes and returns the last response, if it was held back.
    pub fn take_held(&mut self) -> Option<Vec<u8>> {
        self.held.take()
    }

    /// The last response, if it was held back.
    pub fn held(&self) -> Option<&[u8]> {
        self.held.as_deref()
    }

    /// Whether part of an unanswered request has arrived.
    pub fn has_begun_a_head(&self) -> bool {
        !self.ahead.is_empty() || (self.head.size > 0 && self.clock.awaited() == Some(self.head.number))
    }

    /// Writes a whole response, unless an earlier write is blocked.
    pub async fn answer(&mut self, answer: &[u8]) {
        if !self.stalled && self.tcp.write_all(answer).await.is_ok() {
            self.tcp.flush().await.ok();
        }
    }

    /// Shuts down the write side and reads what the client still sends: closing with unread bytes would reset the
    /// connection, and the client could lose the response (RFC 9112, 9.6).
    pub async fn linger(mut self) {
        if self.tcp.shutdown().await.is_err() {
            return;
        }
        let mut unread = [0; 4096];
        while let Ok(1..) = self.tcp.read(&mut unread).await {}
    }

    /// Counts bytes that may be part of a head.
    fn measure(&mut self, bytes: &[u8]) {
        let Some(number) = self.clock.received() else { return };
        if self.head.number != number {
            self.head = Head { number, ..Head::default() };
        }
        self.head.size += bytes.len();
        self.head.has_line = self.head.has_line || bytes.contains(&b'\n');
    }

    /// Fails if the head is already too long when more of it is read.
    fn check(&self) -> Result<(), HeadError> {
        let Head { number, size, has_line } = self.head;
        if size <= TARGET_LIMIT + LINE_REST || self.clock.awaited() != Some(number) {
            return Ok(());
        }
        match (has_line, size > FIELDS_LIMIT) {
            (false, _) => Err(HeadError::TargetTooLong),
            (true, true) => Err(HeadError::FieldsTooLarge),
            (true, false) => Ok(()),
        }
    }

    fn wrote<T>(&mut self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if self.stalled != result.is_pending() {
            self.stalled = result.is_pending();
            self.clock.stalled(self.stalled);
        }
        result
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Err(fault) = this.check() {
            let error = io::Error::new(io::ErrorKind::InvalidData, fault.to_string());
            this.fault = Some(fault);
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        if this.ahead.is_empty() {
            std::task::ready!(Pin::new(&mut this.tcp).poll_read(context, buffer))?;
        } else {
            let count = this.ahead.len().min(buffer.remaining());
            buffer.put_slice(this.ahead.get(..count).unwrap_or_default());
            this.ahead.advance(count);
        }
        if let Some(bytes) = buffer.filled().get(before..).filter(|bytes| !bytes.is_empty()) {
            this.measure(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if automatic::status(bytes).is_some() {
            this.held = Some(bytes.to_vec());
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut this.tcp).poll_write(context, bytes);
        this.wrote(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bytes {
            return self.poll_write(context, only);
        }
        let this = self.get_mut();
        let written = Pin::new(&mut this.tcp).poll_write_vectored(context, bytes);
        this.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(context)
    }
}
