//! Request bodies as a standard guest reads them, and response bodies as it writes them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::Response;
use http::header::CONTENT_LENGTH;
use http::response::Parts;
use http_body::{Body as _, Frame, SizeHint};
use wasmtime_wasi_http::{Error, WasiBody};

use super::body_buffer::{BodyBuffer, MAX_BUFFERED};
use super::execution::GuestExecution;
use crate::component::failure::Failure;
use crate::component::invocation::Reply;
use crate::http::{Body, BodyError, FRAME_LIMIT};

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
        BodyError::Malformed(_) => Error::HttpProtocolError,
        _ => Error::ConnectionTerminated,
    }
}

/// The reader of a guest's response body. The body ends with an error if the guest fails before it has finished it.
pub(super) struct GuestResponseBody {
    /// Keeps the body.
    execution: Arc<GuestExecution>,
    /// The rest of the length that is known in advance: the `Content-Length` that the guest set, or else that of the
    /// request body if the guest responds with it, or 0 if there is no body. A transport polls no frame beyond it.
    remaining: Option<u64>,
    /// The end of the body was returned to the reader.
    end_reported: bool,
}

impl GuestResponseBody {
    /// The response with its body in `execution`.
    pub fn of(response: Response<WasiBody>, execution: &Arc<GuestExecution>) -> Response<GuestResponseBody> {
        let (head, inner) = response.into_parts();
        let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let remaining = length.map_or_else(|| inner.size_hint().exact(), |length| length.parse().ok());
        *execution.body() = BodyBuffer::new(inner);
        Response::from_parts(head, GuestResponseBody { execution: execution.clone(), remaining, end_reported: false })
    }

    /// The reply with this body: buffered as far as possible if `is_complete`, otherwise a stream.
    pub fn into_reply(self, head: Parts, is_complete: bool) -> Reply {
        let Parts { status, headers, .. } = head;
        let body = if is_complete { self.into_buffered() } else { Body::stream(self) };
        Reply { status, headers, body }
    }

    /// Reads the frames that are available. Ready when the body has ended or [`MAX_BUFFERED`] is exceeded.
    pub fn poll_buffer(&self, context: &mut Context<'_>) -> Poll<()> {
        self.execution.body().poll_fill(MAX_BUFFERED, context)
    }

    /// Reads the frames that are available, and fails if they have more than `limit` bytes: as long as the head was not
    /// sent, the client can be told. A body that exceeds the limit later is cut off.
    pub fn check_size(&self, limit: usize) -> Result<(), Failure> {
        let _ = self.poll_buffer(&mut Context::from_waker(Waker::noop()));
        let size = self.execution.body().size;
        if size > limit { Err(Failure::ResponseTooLarge { size }) } else { Ok(()) }
    }

    /// How many frames are buffered.
    pub fn buffered_frames(&self) -> usize {
        self.execution.body().frames.len()
    }

    /// Whether the whole body is buffered.
    pub fn has_ended(&self) -> bool {
        self.execution.body().has_ended
    }

    /// The body with the frames that are available: one buffer if it is complete, and either has the length that was
    /// known in advance, or none was known and it fits into one frame; otherwise a stream of the guest's chunks.
    fn into_buffered(self) -> Body {
        let mut body = self.execution.body();
        if self.remaining.is_some_and(|length| body.size as u64 > length) {
            self.fail_as_too_long();
        }
        let is_data = body.frames.iter().all(|frame| frame.as_ref().is_ok_and(Frame::is_data));
        let is_complete = is_data && body.has_ended && self.execution.failure().is_none();
        let has_length = self.remaining == Some(body.size as u64);
        let fits = self.remaining.is_none() && body.size <= FRAME_LIMIT;
        let data = (is_complete && (has_length || fits)).then(|| body.take_data());
        drop(body);
        match data {
            Some(data) if has_length => Body::Whole(data),
            Some(data) => Body::Undeclared(Some(data)),
            None => Body::stream(self),
        }
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
            return Some(BodyError::from(&failure));
        }
        let missing = self.remaining.filter(|missing| *missing > 0)?;
        let reason = format!("its body is {missing} bytes shorter than its Content-Length");
        Some(BodyError::from(&Failure::InvalidResponse(reason)))
    }

    fn stream_error(&self, error: Error) -> BodyError {
        let failure = self.execution.failure();
        BodyError::from(&failure.unwrap_or_else(|| Failure::InvalidResponse(error.to_string())))
    }
}

impl http_body::Body for GuestResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(self.execution.body().poll_frame(context));
        Poll::Ready(match frame {
            // Trailers are the last frame.
            Some(Ok(frame)) if frame.is_trailers() => {
                self.end_reported = true;
                Some(self.error_at_end().map_or(Ok(frame), Err))
            }
            Some(Ok(frame)) => Some(Ok(self.count(frame))),
            Some(Err(error)) => {
                self.end_reported = true;
                Some(Err(self.stream_error(error)))
            }
            None => {
                let is_first = !std::mem::replace(&mut self.end_reported, true);
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
