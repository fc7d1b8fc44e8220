//! Bodies on their way into a standard guest and out of it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body as _, Frame, SizeHint};
use wasmtime_wasi_http::{Error, WasiBody};

use super::run::Run;
use crate::component::failure::Failure;
use crate::http::{Body, BodyError};

/// The most data that is gathered of a body whose guest has ended. More of it streams.
const GATHERED: usize = 1 << 20;

/// A request body as a guest reads it.
pub(super) enum GuestRequestBody {
    /// Which nobody else reads.
    Own(Body),
    /// Which may be handed on as far as the guest has not read it.
    Kept(KeptBody),
}

/// A request body that its guest reads, or whoever the request is handed on to.
#[derive(Clone)]
pub(super) struct KeptBody(Arc<Mutex<Body>>);

impl KeptBody {
    fn with<T>(&self, read: impl FnOnce(&mut Body) -> T) -> T {
        read(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl GuestRequestBody {
    pub fn new(body: Body) -> GuestRequestBody {
        GuestRequestBody::Own(body)
    }

    /// A body for a guest that may hand it on, and what takes over what is left of it.
    pub fn kept(body: Body) -> (GuestRequestBody, Body) {
        let kept = KeptBody(Arc::new(Mutex::new(body)));
        (GuestRequestBody::Kept(kept.clone()), Body::stream(kept))
    }
}

impl http_body::Body for KeptBody {
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
        let frame = match &mut *self {
            GuestRequestBody::Own(body) => ready!(Pin::new(body).poll_frame(context)),
            GuestRequestBody::Kept(body) => ready!(Pin::new(body).poll_frame(context)),
        };
        Poll::Ready(frame.map(|frame| frame.map_err(|error| to_guest(&error))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            GuestRequestBody::Own(body) => body.is_end_stream(),
            GuestRequestBody::Kept(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            GuestRequestBody::Own(body) => body.size_hint(),
            GuestRequestBody::Kept(body) => body.size_hint(),
        }
    }
}

/// What a guest is told of a body that broke off.
pub(crate) fn to_guest(error: &BodyError) -> Error {
    match error {
        BodyError::TooLarge(limit) => Error::HttpRequestBodySize(Some(*limit)),
        BodyError::Paused(_) => Error::ConnectionReadTimeout,
        _ => Error::ConnectionTerminated,
    }
}

/// A response body as it comes out of a guest. Ends as an error where the guest failed while it streamed.
pub(super) struct ResponseBody {
    inner: WasiBody,
    run: Arc<Run>,
    /// What is left of the length that the guest gave. A transport that knows it asks for nothing beyond.
    left: Option<u64>,
    /// Frames that are here already.
    gathered: VecDeque<Result<Frame<Bytes>, Error>>,
    /// Nothing more comes out of `inner`.
    has_ended: bool,
    /// The end was told.
    is_over: bool,
}

impl ResponseBody {
    pub fn new(inner: WasiBody, run: Arc<Run>, headers: &HeaderMap) -> ResponseBody {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        let left = length.and_then(|length| length.parse().ok());
        ResponseBody { inner, run, left, gathered: VecDeque::new(), has_ended: false, is_over: false }
    }

    /// The body as it comes.
    pub fn streamed(self) -> Body {
        Body::stream(self)
    }

    /// Takes what is here. Ready once that is all of it, or as much as is gathered.
    pub fn poll_gather(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while !self.has_ended && self.gathered_size() <= GATHERED {
            match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(frame) => self.gathered.push_back(frame),
                None => self.has_ended = true,
            }
        }
        Poll::Ready(())
    }

    /// Whether trailers are here.
    pub fn has_trailers(&self) -> bool {
        self.gathered.iter().flatten().any(Frame::is_trailers)
    }

    fn gathered_size(&self) -> usize {
        let frames = self.gathered.iter().flatten().filter_map(|frame| frame.data_ref());
        frames.map(Bytes::len).sum()
    }

    /// The body as far as it is here: as one piece where that is all of it and the guest gave its length, else in chunks,
    /// as the guest wrote it. Trailers that are here are announced in `headers` to a client that takes trailers: HTTP/1.1
    /// sends no others.
    pub fn gathered(mut self, mut headers: HeaderMap, takes_trailers: bool) -> (Body, HeaderMap) {
        let _ = self.poll_gather(&mut Context::from_waker(Waker::noop()));
        let trailers = self.gathered.iter().flatten().find_map(|frame| frame.trailers_ref());
        if let Some(trailers) = trailers.filter(|_| takes_trailers) {
            announce(trailers, &mut headers);
        }
        let is_plain = trailers.is_none() && self.gathered.iter().all(Result::is_ok);
        let is_whole = is_plain && self.has_ended && self.run.failure().is_none();
        if !is_whole || !headers.contains_key(CONTENT_LENGTH) {
            return (Body::stream(self), headers);
        }
        let size = self.gathered_size();
        (Body::Whole(self.take_data(size)), headers)
    }

    fn take_data(&mut self, size: usize) -> Bytes {
        let mut frames =
            std::mem::take(&mut self.gathered).into_iter().flatten().filter_map(|frame| frame.into_data().ok());
        let first = frames.next().unwrap_or_default();
        if first.len() == size {
            return first;
        }
        let mut data = BytesMut::with_capacity(size);
        data.extend_from_slice(&first);
        frames.for_each(|frame| data.extend_from_slice(&frame));
        data.freeze()
    }

    fn cut(&self, error: Error) -> BodyError {
        let failure = self.run.failure().cloned();
        told(&failure.unwrap_or_else(|| Failure::InvalidResponse(error.to_string())))
    }
}

/// What those who read the body are told of the guest.
fn told(failure: &Failure) -> BodyError {
    BodyError::Failed { error_type: failure.error_type(), message: failure.to_string() }
}

fn announce(trailers: &HeaderMap, headers: &mut HeaderMap) {
    if headers.contains_key(TRAILER) {
        return;
    }
    let names: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
    if let Ok(names) = HeaderValue::from_str(&names.join(", ")) {
        headers.insert(TRAILER, names);
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match self.gathered.pop_front() {
            Some(frame) => Some(frame),
            None if self.has_ended => None,
            None => ready!(Pin::new(&mut self.inner).poll_frame(context)),
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let size = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.left = self.left.map(|left| left.saturating_sub(size));
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                (self.has_ended, self.is_over) = (true, true);
                Some(Err(self.cut(error)))
            }
            // A store that is gone leaves a body that seems to end well. Why it is gone was said before.
            None => {
                let is_new = !std::mem::replace(&mut self.is_over, true);
                self.has_ended = true;
                self.run.failure().filter(|_| is_new).map(|failure| Err(told(failure)))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.is_over || self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        if self.gathered.is_empty() { self.inner.size_hint() } else { SizeHint::default() }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.run.end_body();
    }
}
