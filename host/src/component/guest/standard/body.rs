//! Request bodies as a standard guest reads them, and response bodies as it writes them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRAILER};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body as _, Frame, SizeHint};
use wasmtime_wasi_http::{Error, WasiBody};

use super::execution::GuestExecution;
use crate::component::failure::Failure;
use crate::component::invocation::Reply;
use crate::http::{Body, BodyError, FRAME_LIMIT};

/// The most bytes of a body that are buffered before the head is sent. A longer body is streamed.
const MAX_BUFFERED: usize = 1 << 20;
/// What a buffered frame counts in addition to its data, in bytes.
const FRAME_OVERHEAD: usize = 128;

/// A request body as a guest reads it.
pub(super) struct GuestRequestBody(pub Body);

/// A request body of which a guest reads a part, and the service that the request is forwarded to reads the rest.
#[derive(Clone)]
pub(super) struct SharedBody(Arc<Mutex<Body>>);

impl SharedBody {
    pub fn new(body: Body) -> SharedBody {
        SharedBody(Arc::new(Mutex::new(body)))
    }

    fn with<T>(&self, read: impl FnOnce(&mut Body) -> T) -> T {
        read(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl http_body::Body for SharedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.with(|body| Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.with(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|body| body.size_hint())
    }
}

impl http_body::Body for GuestRequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.0).poll_frame(context));
        Poll::Ready(frame.map(|frame| frame.map_err(|error| request_body_error(&error))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// The error code that a guest gets for a request body that failed.
pub(crate) fn request_body_error(error: &BodyError) -> Error {
    match error {
        BodyError::TooLarge(limit) => Error::HttpRequestBodySize(Some(*limit)),
        BodyError::Paused(_) => Error::ConnectionReadTimeout,
        _ => Error::ConnectionTerminated,
    }
}

/// The response body of a guest. It ends with an error if the guest fails while it streams.
pub(super) struct GuestResponseBody {
    inner: WasiBody,
    execution: Arc<GuestExecution>,
    /// The rest of the length that is known in advance: the `Content-Length` that the guest set, or else that of the
    /// request body if the guest responds with it, or 0 if there is no body. A transport polls no frame beyond it.
    remaining: Option<u64>,
    /// Frames that were read from `inner` and not sent yet.
    buffered: VecDeque<Result<Frame<Bytes>, Error>>,
    /// The size of all data that was buffered, in bytes.
    buffered_size: usize,
    /// `inner` has ended.
    has_ended: bool,
    /// The end of the body was returned to the reader.
    end_reported: bool,
}

impl GuestResponseBody {
    pub fn new(inner: WasiBody, execution: Arc<GuestExecution>, headers: &HeaderMap) -> GuestResponseBody {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let remaining = length.map_or_else(|| inner.size_hint().exact(), |length| length.parse().ok());
        GuestResponseBody {
            inner,
            execution,
            remaining,
            buffered: VecDeque::new(),
            buffered_size: 0,
            has_ended: false,
            end_reported: false,
        }
    }

    /// The reply with this body: buffered as far as possible if `is_complete`, otherwise a stream.
    pub fn into_reply(self, head: Parts, is_complete: bool, accepts_trailers: bool) -> Reply {
        let Parts { status, headers, .. } = head;
        let (body, headers) =
            if is_complete { self.into_buffered(headers, accepts_trailers) } else { (Body::stream(self), headers) };
        Reply { status, headers, body }
    }

    /// Reads the frames that are available. Ready when `inner` has ended or [`MAX_BUFFERED`] is exceeded.
    pub fn poll_buffer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while !self.has_ended && self.buffered_size + self.buffered.len() * FRAME_OVERHEAD <= MAX_BUFFERED {
            match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(frame) => {
                    let data = frame.as_ref().ok().and_then(Frame::data_ref);
                    self.buffered_size += data.map_or(0, Bytes::len);
                    self.has_ended = frame.is_err();
                    self.buffered.push_back(frame);
                }
                None => self.has_ended = true,
            }
        }
        Poll::Ready(())
    }

    /// Reads the frames that are available, and fails if they have more than `limit` bytes: as long as the head was not
    /// sent, the client can be told. A body that exceeds the limit later is cut off.
    pub fn check_size(&mut self, limit: usize) -> Result<(), Failure> {
        let _ = self.poll_buffer(&mut Context::from_waker(Waker::noop()));
        let size = self.buffered_size;
        if size > limit { Err(Failure::ResponseTooLarge { size }) } else { Ok(()) }
    }

    /// Whether trailers were read.
    pub fn has_trailers(&self) -> bool {
        self.buffered.iter().flatten().any(Frame::is_trailers)
    }

    /// How many frames are buffered.
    pub fn buffered_frames(&self) -> usize {
        self.buffered.len()
    }

    /// Whether the whole body is buffered.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// The body with the frames that are available: one buffer if it is complete, and either has the length that was
    /// known in advance, or none was known and it fits into one frame; otherwise a stream of the guest's chunks. Trailers
    /// that were read are announced in `headers` if the client accepts them: HTTP/1.1 sends no others.
    fn into_buffered(mut self, mut headers: HeaderMap, accepts_trailers: bool) -> (Body, HeaderMap) {
        if self.remaining.is_some_and(|length| self.buffered_size as u64 > length) {
            self.fail_as_too_long();
        }
        let trailers = self.buffered.iter().flatten().find_map(|frame| frame.trailers_ref());
        if let Some(trailers) = trailers.filter(|_| accepts_trailers) {
            announce_trailers(trailers, &mut headers);
        }
        let is_data = trailers.is_none() && self.buffered.iter().all(Result::is_ok);
        let is_complete = is_data && self.has_ended && self.execution.failure().is_none();
        let body = if is_complete && self.remaining == Some(self.buffered_size as u64) {
            Body::Whole(self.take_data())
        } else if is_complete && self.remaining.is_none() && self.buffered_size <= FRAME_LIMIT {
            Body::Undeclared(Some(self.take_data()))
        } else {
            Body::stream(self)
        };
        (body, headers)
    }

    fn take_data(&mut self) -> Bytes {
        let mut frames =
            std::mem::take(&mut self.buffered).into_iter().flatten().filter_map(|frame| frame.into_data().ok());
        let first = frames.next().unwrap_or_default();
        if first.len() == self.buffered_size {
            return first;
        }
        let mut data = BytesMut::with_capacity(self.buffered_size);
        data.extend_from_slice(&first);
        frames.for_each(|frame| data.extend_from_slice(&frame));
        data.freeze()
    }

    /// Subtracts the data of a frame from the rest of the `Content-Length`, and cuts off what exceeds it.
    fn count(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let (Some(remaining), Some(data)) = (self.remaining, frame.data_ref()) else { return frame };
        let size = data.len() as u64;
        self.remaining = Some(remaining.saturating_sub(size));
        if size <= remaining {
            return frame;
        }
        self.fail_as_too_long();
        Frame::data(data.slice(..remaining as usize))
    }

    /// Records that the guest has produced more than its `Content-Length`. The client gets a complete response.
    fn fail_as_too_long(&self) {
        let reason = String::from("its body is longer than its Content-Length");
        self.execution.fail(Failure::InvalidResponse(reason));
    }

    /// Why a body that ended without an error is incomplete. A dropped store ends the body in this way; the failure was
    /// recorded before that.
    fn error_at_end(&self) -> Option<BodyError> {
        if let Some(failure) = self.execution.failure() {
            return Some(BodyError::from(failure));
        }
        let missing = self.remaining.filter(|missing| *missing > 0)?;
        let reason = format!("its body is {missing} bytes shorter than its Content-Length");
        Some(BodyError::from(&Failure::InvalidResponse(reason)))
    }

    fn stream_error(&self, error: Error) -> BodyError {
        let failure = self.execution.failure().cloned();
        BodyError::from(&failure.unwrap_or_else(|| Failure::InvalidResponse(error.to_string())))
    }
}

fn announce_trailers(trailers: &HeaderMap, headers: &mut HeaderMap) {
    if headers.contains_key(TRAILER) {
        return;
    }
    let names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
    if let Ok(names) = HeaderValue::from_str(&names.join(", ")) {
        headers.insert(TRAILER, names);
    }
}

impl http_body::Body for GuestResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match self.buffered.pop_front() {
            Some(frame) => Some(frame),
            None if self.has_ended => None,
            None => ready!(Pin::new(&mut self.inner).poll_frame(context)),
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(self.count(frame))),
            Some(Err(error)) => {
                (self.has_ended, self.end_reported) = (true, true);
                Some(Err(self.stream_error(error)))
            }
            None => {
                let is_first = !std::mem::replace(&mut self.end_reported, true);
                self.has_ended = true;
                self.error_at_end().filter(|_| is_first).map(Err)
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.end_reported || self.remaining == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for GuestResponseBody {
    fn drop(&mut self) {
        self.execution.end_body();
    }
}
