//! What a guest writes to standard output and standard error, kept until its request ends and then logged line by line.
//!
//! A guest that writes without end fills a bounded buffer; what does not fit is counted and left out.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// How much of one stream is kept for one request, in bytes.
const LIMIT: usize = 64 * 1024;

/// One of a guest's two output streams.
#[derive(Clone, Default)]
pub struct GuestOutput {
    buffer: Arc<Mutex<Buffer>>,
}

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    left_out: usize,
}

impl GuestOutput {
    /// The lines written since the last call; the stream is empty afterwards.
    pub fn take_lines(&self) -> Vec<String> {
        let mut buffer = self.lock();
        if buffer.bytes.is_empty() {
            return Vec::new();
        }
        let Buffer { bytes, left_out } = std::mem::take(&mut *buffer);
        let text = String::from_utf8_lossy(&bytes);
        let mut lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
        if left_out > 0 {
            lines.push(format!("({left_out} more bytes were left out)"));
        }
        lines
    }

    fn append(&self, bytes: &[u8]) {
        let mut buffer = self.lock();
        let fits = bytes.len().min(LIMIT - buffer.bytes.len());
        let (kept, rest) = bytes.split_at(fits);
        buffer.bytes.extend_from_slice(kept);
        buffer.left_out += rest.len();
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {}
}

impl OutputStream for GuestOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.append(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(LIMIT)
    }
}

impl AsyncWrite for GuestOutput {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.append(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_bounded_and_handed_over_once() {
        let output = GuestOutput::default();
        output.append(b"one\ntwo\n\n");
        assert_eq!(output.take_lines(), ["one", "two"]);
        assert!(output.take_lines().is_empty());
        output.append(&vec![b'x'; LIMIT + 5]);
        assert_eq!(output.take_lines()[1], "(5 more bytes were left out)");
    }
}
