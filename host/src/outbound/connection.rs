//! A connection of the client, which knows whether it has served a request.
//!
//! A server may close an idle connection at any time. A request that is sent at that moment fails, although the server is
//! well: it may be sent again if it is idempotent (RFC 9110, 9.2.2). A request that fails on a new connection is not,
//! because its server would get every request twice.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection};

/// Whether a connection has served a request.
#[derive(Clone, Default)]
pub(super) struct Reuse(Arc<AtomicBool>);

impl Reuse {
    /// Marks the connection of a response as one that has served a request.
    pub fn mark(response: &http::Extensions) {
        if let Some(Reuse(is_reused)) = response.get() {
            is_reused.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the connection that a request was sent on had served another one before. Those of HTTP/2 announce their
    /// end.
    pub fn is_reused(sent_on: &CaptureConnection) -> bool {
        let sent_on = sent_on.connection_metadata();
        let Some(connected) = sent_on.as_ref().filter(|connected| !connected.is_negotiated_h2()) else { return false };
        let mut extensions = http::Extensions::new();
        connected.get_extras(&mut extensions);
        extensions.get().is_some_and(|Reuse(is_reused)| is_reused.load(Ordering::Relaxed))
    }
}

/// A connection, with its [`Reuse`] in the extensions of its responses.
pub(super) struct Tracked<S> {
    stream: S,
    reuse: Reuse,
}

impl<S> From<S> for Tracked<S> {
    fn from(stream: S) -> Tracked<S> {
        Tracked { stream, reuse: Reuse::default() }
    }
}

impl<S: Connection> Connection for Tracked<S> {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.reuse.clone())
    }
}

impl<S: Read + Unpin> Read for Tracked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: Write + Unpin> Write for Tracked<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}
