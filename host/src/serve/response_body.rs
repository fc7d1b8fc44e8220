//! A response body that does not fit into one write, and the exchange that ends with it.
//!
//! Both the client that receives the frames and the guest that produces them may be slow. If no frame is forwarded for
//! `idle_timeout`, the exchange ends, whether or not the transport polls the body: over HTTP/2 the transport does not
//! poll the body while the client reads nothing.
//!
//! If the body fails, the client still receives the head and the frames before the failure.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep};

use super::exchange::{BodyEnd, Exchange};
use super::rejection::Rejection;
use crate::component::Reply;
use crate::http::{Body, BodyError};

/// The time in which the transport writes the head and earlier frames before it receives an error. When it receives one
/// it discards what it has not written, and the client would get no response at all.
const ERROR_DELAY: Duration = Duration::from_millis(10);

/// A body that ends its exchange when it ends or is dropped.
struct ResponseBody {
    shared: Arc<Mutex<SharedBody>>,
    watchdog: AbortHandle,
}

struct SharedBody {
    body: Body,
    /// `None` after the exchange has ended.
    exchange: Option<Box<Exchange>>,
    /// The number of bytes that were forwarded.
    sent: u64,
    /// The most bytes of the body.
    limit: u64,
    /// When the last frame was forwarded.
    last_frame_at: Instant,
    /// The waker of the transport while it waits for a frame.
    waker: Option<Waker>,
    /// The error that the transport will receive.
    error: Option<BodyError>,
    /// What is left of the delay before it.
    error_delay: Option<Pin<Box<Sleep>>>,
}

/// Creates the response of an exchange. The exchange ends when the body has been sent: at once if the body fits into
/// one write, or if the caller is a service of this host and receives the body whole.
pub(super) fn respond(mut exchange: Box<Exchange>, result: Result<Reply, Rejection>) -> Response<Body> {
    let (parts, body) = exchange.response(result).into_parts();
    let body = match body {
        Body::Whole(bytes) if exchange.is_sent_at_once(bytes.len()) => {
            exchange.end(BodyEnd::Complete, bytes.len() as u64);
            Body::Whole(bytes)
        }
        Body::Undeclared(Some(bytes)) if exchange.is_sent_at_once(bytes.len()) => {
            exchange.end(BodyEnd::Complete, bytes.len() as u64);
            Body::Undeclared(Some(bytes))
        }
        body => Body::stream(ResponseBody::new(exchange, body)),
    };
    Response::from_parts(parts, body)
}

impl ResponseBody {
    /// A body within the limits of the exchange's service.
    fn new(exchange: Box<Exchange>, body: Body) -> ResponseBody {
        let (limit, idle_timeout) = exchange.body_limits();
        let (last_frame_at, sent) = (Instant::now(), 0);
        let (exchange, waker, error, error_delay) = (Some(exchange), None, None, None);
        let shared = SharedBody { body, exchange, sent, limit, last_frame_at, waker, error, error_delay };
        let shared = Arc::new(Mutex::new(shared));
        let watchdog = tokio::spawn(watch_idle(shared.clone(), idle_timeout)).abort_handle();
        ResponseBody { shared, watchdog }
    }
}

/// Ends the exchange if the body pauses for longer than `idle_timeout`.
async fn watch_idle(shared: Arc<Mutex<SharedBody>>, idle_timeout: Duration) {
    loop {
        let deadline = lock(&shared).last_frame_at + idle_timeout;
        tokio::time::sleep_until(deadline).await;
        let mut shared = lock(&shared);
        if shared.last_frame_at + idle_timeout > Instant::now() {
            continue;
        }
        let paused = BodyError::Paused(idle_timeout);
        shared.error = Some(paused.clone());
        // Dropping the body stops the guest that produces it.
        shared.body = Body::empty();
        let waker = shared.waker.take();
        // If the transport waits for a frame, the guest is slow. Otherwise the client is.
        shared.end(if waker.is_some() { BodyEnd::Failed(paused) } else { BodyEnd::NotRead(paused) });
        return waker.into_iter().for_each(Waker::wake);
    }
}

fn lock(shared: &Mutex<SharedBody>) -> MutexGuard<'_, SharedBody> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SharedBody {
    fn end(&mut self, end: BodyEnd) {
        if let Some(exchange) = self.exchange.take() {
            exchange.end(end, self.sent);
        }
    }

    /// Ends the exchange with `error` and drops the rest of the body. The transport receives the error after
    /// [`ERROR_DELAY`].
    fn fail(&mut self, error: BodyError) {
        self.body = Body::empty();
        self.end(BodyEnd::Failed(error.clone()));
        self.error = Some(error);
        self.error_delay = Some(Box::pin(tokio::time::sleep(ERROR_DELAY)));
    }

    /// The error for the transport, if there is one.
    fn poll_error(&mut self, context: &mut Context<'_>) -> Option<Poll<BodyError>> {
        self.error.as_ref()?;
        if self.error_delay.as_mut().is_some_and(|delay| delay.as_mut().poll(context).is_pending()) {
            return Some(Poll::Pending);
        }
        self.error.take().map(Poll::Ready)
    }

    /// Counts a frame that is handed to the transport. Fails if the body exceeds its limit.
    fn forward(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        let size = frame.data_ref().map_or(0, Bytes::len) as u64;
        if self.sent + size > self.limit {
            return Err(BodyError::TooLarge(self.limit));
        }
        self.sent += size;
        self.last_frame_at = Instant::now();
        // A transport does not poll a body again after its trailers.
        if frame.is_trailers() || self.body.is_end_stream() {
            self.end(BodyEnd::Complete);
        }
        Ok(frame)
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut shared = lock(&self.shared);
        loop {
            if let Some(error) = shared.poll_error(context) {
                return error.map(|error| Some(Err(error)));
            }
            shared.waker = None;
            let frame = match Pin::new(&mut shared.body).poll_frame(context) {
                Poll::Pending => {
                    shared.waker = Some(context.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(None) => {
                    shared.end(BodyEnd::Complete);
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(frame)) => frame,
            };
            match frame.and_then(|frame| shared.forward(frame)) {
                Ok(frame) => return Poll::Ready(Some(Ok(frame))),
                Err(error) => shared.fail(error),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let shared = lock(&self.shared);
        shared.error.is_none() && shared.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.shared).body.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.watchdog.abort();
        let mut shared = lock(&self.shared);
        let end = if shared.body.is_end_stream() { BodyEnd::Complete } else { BodyEnd::Cancelled };
        shared.end(end);
    }
}
