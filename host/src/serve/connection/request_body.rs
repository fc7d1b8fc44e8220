//! The body of a request, as its connection receives it.
//!
//! hyper reads on only between two polls of the response. If the response is ready when the service has just dropped
//! the request's body, or has not asked for it yet, hyper has to learn that before it writes the head: it sends
//! `100 Continue` only before the head, and announces there that it will close the connection (RFC 9112, 9.6).
//!
//! A body of HTTP/1.1 may arrive after its response was sent. Until it has ended, its request is in flight: the bytes
//! that arrive are not those of the next head.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::{Request, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::clock::InFlight;
use crate::http::Body;

/// How long the rest of an HTTP/2 request's body is discarded. Some clients, such as curl before version 8, lose the
/// response if their stream is reset while they send.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Splits a request, which is in flight, into the request for its service, and the connection's part of its body. A body that has ended has
/// no such part, and neither has one of HTTP/2, where responses do not depend on it.
pub(super) fn split(request: Request<Incoming>, in_flight: &InFlight) -> (Request<Body>, Option<UnfinishedBody>) {
    let (head, incoming) = request.into_parts();
    if incoming.is_end_stream() {
        return (Request::from_parts(head, Body::empty()), None);
    }
    let is_http2 = head.version == Version::HTTP_2;
    let expects = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    let awaits_continue = !is_http2 && head.headers.get(EXPECT).is_some_and(expects);
    let (incoming, read_ahead) = (Some(incoming), None);
    let in_flight = (!is_http2).then(|| in_flight.part());
    let received = Received { incoming, read_ahead, awaits_continue, is_wanted: false, has_ended: false, in_flight };
    let received = Arc::new(Mutex::new(received));
    let unfinished = (!is_http2).then(|| UnfinishedBody(received.clone()));
    (Request::from_parts(head, Body::from_transport(RequestBody { received, is_http2 })), unfinished)
}

/// What has been received of a body.
struct Received {
    /// `None` after the service has dropped the body.
    incoming: Option<Incoming>,
    /// A frame that was received before the service asked for it.
    read_ahead: Option<hyper::Result<Frame<Bytes>>>,
    /// The client may wait for `100 Continue`: it has asked for it, and nothing was received.
    awaits_continue: bool,
    /// The service has asked for the body.
    is_wanted: bool,
    /// The service has received the whole body.
    has_ended: bool,
    /// The body's part of its request, until it has ended. `None` over HTTP/2.
    in_flight: Option<InFlight>,
}

impl Received {
    fn end_if(&mut self, has_ended: bool) {
        self.has_ended = has_ended;
        if has_ended {
            self.in_flight = None;
        }
    }
}

/// The service's part of a body.
struct RequestBody {
    received: Arc<Mutex<Received>>,
    is_http2: bool,
}

/// The connection's part of a body.
pub(super) struct UnfinishedBody(Arc<Mutex<Received>>);

impl UnfinishedBody {
    /// Whether hyper has to read before it writes the head of the response: it sends `100 Continue` if the service may
    /// still read the body, and closes the connection after the response if the service has dropped it.
    pub fn precedes_head(&self, context: &mut Context<'_>) -> bool {
        let mut received = lock(&self.0);
        let Received { incoming, awaits_continue, is_wanted, has_ended, .. } = &mut *received;
        match incoming {
            Some(incoming) if *awaits_continue => {
                // A second waker would replace that of the service.
                if !*is_wanted && let Poll::Ready(frame) = Pin::new(incoming).poll_frame(context) {
                    received.end_if(frame.is_none());
                    received.read_ahead = frame;
                }
                true
            }
            Some(_) => false,
            None => !*has_ended,
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let mut received = lock(&self.received);
        let Received { incoming, read_ahead, awaits_continue, is_wanted, .. } = &mut *received;
        *is_wanted = true;
        if let Some(frame) = read_ahead.take() {
            return Poll::Ready(Some(frame));
        }
        let Some(incoming) = incoming else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *incoming).poll_frame(context));
        *awaits_continue = false;
        let has_ended = frame.is_none() || incoming.is_end_stream();
        received.end_if(has_ended);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let received = lock(&self.received);
        received.read_ahead.is_none() && received.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let received = lock(&self.received);
        // Before anything was read, the hint is that of the whole body.
        let ahead = received.read_ahead.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref().map(Bytes::len));
        let mut hint = received.incoming.as_ref().map_or_else(SizeHint::default, Incoming::size_hint);
        if let (Some(ahead), Some(rest)) = (ahead, hint.exact()) {
            hint = SizeHint::with_exact(rest + ahead as u64);
        }
        hint
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let mut received = lock(&self.received);
        received.in_flight = None;
        let Some(incoming) = received.incoming.take() else { return };
        if !self.is_http2 || received.has_ended {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(DISCARD_TIMEOUT, discard(incoming)));
        }
    }
}

/// Receives the rest of a body.
async fn discard(mut body: Incoming) {
    while let Some(Ok(_)) = body.frame().await {}
}

fn lock(received: &Mutex<Received>) -> MutexGuard<'_, Received> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}
