//! The trailers of HTTP/1.1 responses (RFC 9112, 7.1.2). hyper writes only those that the head of the response announces
//! in `Trailer`, and a guest need not know its trailers before it has written its body.
//!
//! The response body holds its trailers back until hyper has written everything before the last chunk, and ends then.
//! The next write therefore starts with the last chunk, and the stream writes it with the trailers.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST,
    MAX_FORWARDS, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, Request, Version};
use http_body::Frame;

/// The last chunk of a body without trailers, as hyper writes it.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The trailers of the response that a connection is writing.
#[derive(Default)]
pub(super) struct TrailerSlot(Mutex<Slot>);

#[derive(Default)]
enum Slot {
    #[default]
    Empty,
    /// hyper has to write what precedes the last chunk. The waker is that of the body.
    Held(Bytes, Waker),
    /// The last chunk is next.
    Due(Bytes),
}

/// Whether the response to a request may have trailers that the host writes itself: the client accepts them (RFC 9110,
/// 10.1.4), and its protocol is HTTP/1.1.
pub(super) fn accepts_trailers<B>(request: &Request<B>) -> bool {
    let fields = request.headers().get_all(TE).into_iter().filter_map(|field| field.to_str().ok());
    let mut codings = fields.flat_map(|field| field.split(','));
    request.version() == Version::HTTP_11 && codings.any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// The fields that may not be trailers: they concern the framing or the routing of a message, authentication, or how the
/// content is to be processed (RFC 9110, 6.5.1).
const FORBIDDEN: [HeaderName; 14] = [
    AUTHORIZATION,
    CACHE_CONTROL,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    HOST,
    MAX_FORWARDS,
    SET_COOKIE,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Whether a field may be a trailer.
fn is_allowed(name: &HeaderName) -> bool {
    !FORBIDDEN.contains(name)
}

/// The frame without fields that may not be trailers. HTTP/2 clients abort a response with some of them.
pub(super) fn only_allowed(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        for name in &FORBIDDEN {
            trailers.remove(name);
        }
    }
    frame
}

impl TrailerSlot {
    /// Holds the trailers of a body that ends. The body is woken when it can end.
    pub fn hold(&self, trailers: &HeaderMap, context: &Context<'_>) {
        let mut last_chunk = BytesMut::from("0\r\n");
        for (name, value) in trailers.iter().filter(|(name, _)| is_allowed(name)) {
            last_chunk.put(name.as_str().as_bytes());
            last_chunk.put(&b": "[..]);
            last_chunk.put(value.as_bytes());
            last_chunk.put(&b"\r\n"[..]);
        }
        last_chunk.put(&b"\r\n"[..]);
        *self.lock() = Slot::Held(last_chunk.freeze(), context.waker().clone());
        // Without anything to write, hyper need not flush in this poll.
        context.waker().wake_by_ref();
    }

    /// Ready when the body can end.
    pub fn poll_due(&self, context: &Context<'_>) -> Poll<()> {
        match &mut *self.lock() {
            Slot::Held(_, waker) => {
                waker.clone_from(context.waker());
                Poll::Pending
            }
            Slot::Empty | Slot::Due(_) => Poll::Ready(()),
        }
    }

    /// Records that everything before the last chunk was written.
    pub fn flushed(&self) {
        let mut slot = self.lock();
        if let Slot::Held(..) = *slot
            && let Slot::Held(last_chunk, waker) = std::mem::take(&mut *slot)
        {
            *slot = Slot::Due(last_chunk);
            waker.wake();
        }
    }

    /// The last chunk with trailers that replaces [`LAST_CHUNK`] at the start of a write. A body whose end is not a
    /// chunk has no trailers: one with a `Content-Length`.
    pub fn take_due(&self, written: &[u8]) -> Option<Bytes> {
        let mut slot = self.lock();
        match &mut *slot {
            Slot::Due(last_chunk) => {
                let last_chunk = std::mem::take(last_chunk);
                *slot = Slot::Empty;
                written.starts_with(LAST_CHUNK).then_some(last_chunk)
            }
            Slot::Empty | Slot::Held(..) => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(fields: &[(HeaderName, &str)]) -> TrailerSlot {
        let trailers = fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        let slot = TrailerSlot::default();
        slot.hold(&trailers, &Context::from_waker(Waker::noop()));
        slot
    }

    #[test]
    fn trailers_of_every_protocol_leave_out_fields_that_concern_the_framing() {
        let fields = [(CONTENT_LENGTH, "9"), (TE, "x"), (HeaderName::from_static("x-rows"), "2")];
        let trailers = fields.into_iter().map(|(name, value)| (name, value.parse().unwrap())).collect();
        let kept = only_allowed(Frame::trailers(trailers)).into_trailers().expect("trailers");
        assert_eq!(kept.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-rows"]);
    }

    #[test]
    fn trailers_are_written_with_the_last_chunk_after_everything_else() {
        let slot = held(&[(HeaderName::from_static("x-rows"), "2"), (CONTENT_LENGTH, "9")]);
        let context = Context::from_waker(Waker::noop());
        assert_eq!(slot.take_due(LAST_CHUNK), None, "hyper has not written the rest yet");
        assert!(slot.poll_due(&context).is_pending());
        slot.flushed();
        assert!(slot.poll_due(&context).is_ready());
        assert_eq!(slot.take_due(LAST_CHUNK).unwrap(), "0\r\nx-rows: 2\r\n\r\n");
        assert_eq!(slot.take_due(LAST_CHUNK), None);
    }

    #[test]
    fn trailers_of_a_body_that_ends_without_a_chunk_are_dropped() {
        let slot = held(&[(HeaderName::from_static("x-rows"), "2")]);
        slot.flushed();
        assert_eq!(slot.take_due(b"HTTP/1.1 200 OK\r\n\r\n"), None);
        assert_eq!(slot.take_due(LAST_CHUNK), None);
    }
}
