//! The byte stream of one connection. It detects the protocol, limits the size of request heads, and reports events to
//! the connection's clock.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::clock::Clock;
use super::hyper_response;
use super::trailers::{LAST_CHUNK, TrailerSlot};
use crate::http::head::{FIELDS_LIMIT, HeadError, TARGET_LIMIT};

/// The connection preface of HTTP/2 (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The length allowed for a request line in addition to its target.
const REQUEST_LINE_OVERHEAD: usize = 256;

/// Buffers of up to this size in total are written as one. Copying them takes less time than the kernel needs for
/// several.
const COALESCED: usize = 2048;

/// The protocol of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HttpProtocol {
    Http1,
    Http2,
}

/// A TCP stream that reports events to the connection's clock.
pub(super) struct Stream {
    tcp: TcpStream,
    /// Bytes that the detection of the protocol has read. They are returned by the next reads.
    read_ahead: BytesMut,
    clock: Arc<Clock>,
    head: HeadProgress,
    head_error: Option<HeadError>,
    /// The last response, if hyper may have generated it. It is not written yet.
    held_response: Option<Vec<u8>>,
    /// The buffer for [`coalesce`], kept for later responses.
    coalesced: Vec<u8>,
    trailers: Arc<TrailerSlot>,
    /// The rest of a last chunk with trailers. It is written before anything else.
    last_chunk: Bytes,
    is_write_blocked: bool,
}

/// How much of a head has arrived.
#[derive(Default)]
struct HeadProgress {
    /// How many requests preceded the head.
    number: u64,
    /// The number of bytes.
    size: usize,
    /// Whether the request line is complete.
    has_request_line: bool,
}

impl Stream {
    pub fn new(tcp: TcpStream, clock: Arc<Clock>, trailers: Arc<TrailerSlot>) -> Stream {
        Stream {
            tcp,
            read_ahead: BytesMut::new(),
            clock,
            head: HeadProgress::default(),
            head_error: None,
            held_response: None,
            coalesced: Vec::new(),
            trailers,
            last_chunk: Bytes::new(),
            is_write_blocked: false,
        }
    }

    /// Detects the protocol. Returns `None` if the client disconnected first.
    pub async fn detect_protocol(&mut self) -> io::Result<Option<HttpProtocol>> {
        loop {
            if !PREFACE.starts_with(&self.read_ahead) {
                return Ok(Some(HttpProtocol::Http1));
            }
            if self.read_ahead.len() == PREFACE.len() {
                self.clock.set_http2();
                return Ok(Some(HttpProtocol::Http2));
            }
            let mut rest = [0; PREFACE.len()];
            let missing = PREFACE.len() - self.read_ahead.len();
            let count = self.tcp.read(rest.get_mut(..missing).unwrap_or_default()).await?;
            if count == 0 {
                return Ok(None);
            }
            self.read_ahead.extend_from_slice(rest.get(..count).unwrap_or_default());
        }
    }

    /// Why a head was not read completely.
    pub fn head_error(&self) -> Option<&HeadError> {
        self.head_error.as_ref()
    }

    /// Removes and returns the last response, if it was held back.
    pub fn take_held_response(&mut self) -> Option<Vec<u8>> {
        self.held_response.take()
    }

    /// The last response, if it was held back.
    pub fn held_response(&self) -> Option<&[u8]> {
        self.held_response.as_deref()
    }

    /// Whether part of an unanswered request has arrived.
    pub fn has_partial_head(&self) -> bool {
        !self.read_ahead.is_empty() || (self.head.size > 0 && self.clock.awaited_head() == Some(self.head.number))
    }

    /// Writes a complete response, unless an earlier write is blocked.
    pub async fn write_response(&mut self, response: &[u8]) {
        if !self.is_write_blocked && self.tcp.write_all(response).await.is_ok() {
            self.tcp.flush().await.ok();
        }
    }

    /// Shuts down the write side and discards what the client still sends. Closing with unread bytes would reset the
    /// connection, and the client could lose the response (RFC 9112, 9.6).
    pub async fn linger(mut self) {
        if self.tcp.shutdown().await.is_err() {
            return;
        }
        let mut unread = [0; 4096];
        while let Ok(1..) = self.tcp.read(&mut unread).await {}
    }

    /// Counts received bytes if they are part of a head.
    fn count_head_bytes(&mut self, bytes: &[u8]) {
        let Some(number) = self.clock.bytes_received() else { return };
        if self.head.number != number {
            self.head = HeadProgress { number, ..HeadProgress::default() };
        }
        self.head.size += bytes.len();
        self.head.has_request_line = self.head.has_request_line || bytes.contains(&b'\n');
    }

    /// Fails if the head is too long and still incomplete.
    fn check_head_size(&self) -> Result<(), HeadError> {
        let HeadProgress { number, size, has_request_line } = self.head;
        if size <= TARGET_LIMIT + REQUEST_LINE_OVERHEAD || self.clock.awaited_head() != Some(number) {
            return Ok(());
        }
        match (has_request_line, size > FIELDS_LIMIT) {
            (false, _) => Err(HeadError::TargetTooLong),
            (true, true) => Err(HeadError::FieldsTooLarge),
            (true, false) => Ok(()),
        }
    }

    /// Writes the rest of the last chunk, if there is one.
    fn poll_last_chunk(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.last_chunk.is_empty() {
            let written = Pin::new(&mut self.tcp).poll_write(context, &self.last_chunk);
            let count = ready!(self.report_write(written))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.last_chunk.advance(count);
        }
        Poll::Ready(Ok(()))
    }

    /// Reports to the clock whether writes are blocked.
    fn report_write<T>(&mut self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if self.is_write_blocked != result.is_pending() {
            self.is_write_blocked = result.is_pending();
            self.clock.set_write_blocked(self.is_write_blocked);
        }
        result
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Err(head_error) = this.check_head_size() {
            let error = io::Error::new(io::ErrorKind::InvalidData, head_error.to_string());
            this.head_error = Some(head_error);
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        if this.read_ahead.is_empty() {
            ready!(Pin::new(&mut this.tcp).poll_read(context, buffer))?;
        } else {
            let count = this.read_ahead.len().min(buffer.remaining());
            buffer.put_slice(this.read_ahead.get(..count).unwrap_or_default());
            this.read_ahead.advance(count);
        }
        if let Some(bytes) = buffer.filled().get(before..).filter(|bytes| !bytes.is_empty()) {
            this.count_head_bytes(bytes);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_last_chunk(context))?;
        if let Some(last_chunk) = this.trailers.take_due(bytes) {
            this.last_chunk = last_chunk;
            return Poll::Ready(Ok(LAST_CHUNK.len()));
        }
        if hyper_response::generated_status(bytes).is_some() {
            this.held_response = Some(bytes.to_vec());
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut this.tcp).poll_write(context, bytes);
        this.report_write(written)
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
        ready!(this.poll_last_chunk(context))?;
        if let Some(first) = bytes.iter().find(|part| !part.is_empty())
            && let Some(last_chunk) = this.trailers.take_due(first)
        {
            this.last_chunk = last_chunk;
            return Poll::Ready(Ok(LAST_CHUNK.len()));
        }
        let written = if coalesce(bytes, &mut this.coalesced) {
            Pin::new(&mut this.tcp).poll_write(context, &this.coalesced)
        } else {
            Pin::new(&mut this.tcp).poll_write_vectored(context, bytes)
        };
        this.report_write(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_last_chunk(context))?;
        this.trailers.flushed();
        Pin::new(&mut this.tcp).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(context)
    }
}

/// Copies the parts into `buffer` if they have up to [`COALESCED`] bytes in total. Returns whether it did.
fn coalesce(parts: &[io::IoSlice<'_>], buffer: &mut Vec<u8>) -> bool {
    if parts.iter().map(|part| part.len()).sum::<usize>() > COALESCED {
        return false;
    }
    buffer.clear();
    parts.iter().for_each(|part| buffer.extend_from_slice(part));
    true
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;

    #[test]
    fn small_buffers_are_written_as_one() {
        let mut buffer = b"before".to_vec();
        assert!(coalesce(&[b"ab", b"".as_slice(), b"cde"].map(IoSlice::new), &mut buffer));
        assert_eq!(buffer, b"abcde");
        let half = [b'x'; COALESCED / 2];
        assert!(coalesce(&[&half, &half].map(|part| IoSlice::new(part)), &mut buffer));
        assert_eq!(buffer.len(), COALESCED);
        assert!(!coalesce(&[&half, b"y".as_slice(), &half].map(IoSlice::new), &mut buffer));
    }
}
