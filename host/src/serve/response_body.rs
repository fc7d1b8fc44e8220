//! A response body that does not fit into one write, and the exchange that ends with it.
//!
//! Both the receiver of the frames and the guest that produces them may be slow. If no frame passes for `idle_timeout`,
//! the exchange ends, whether or not the transport polls the body: over HTTP/2 a client that reads nothing leaves the
//! body unpolled.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::exchange::{BodyEnd, Exchange};
use super::rejection::Rejection;
use crate::component::Reply;
use crate::http::{Body, BodyError};

/// A body that ends its exchange.
struct ResponseBody {
    shared: Arc<Mutex<Shared>>,
    watchdog: AbortHandle,
}

struct Shared {
    body: Body,
    /// `None` once it has ended.
    exchange: Option<Exchange>,
    sent: u64,
    limit: u64,
    /// When the last frame passed.
    passed: Instant,
    /// The waker of the transport, while it waits for a frame.
    waker: Option<Waker>,
    /// The error that the transport will receive.
    error: Option<BodyError>,
}

/// Creates the response of an exchange. The exchange ends when the body has been sent: at once if it fits into one
/// write, or if a service of this host receives it whole.
pub(super) fn respond(mut exchange: Exchange, answered: Result<Reply, Rejection>) -> Response<Body> {
    let (parts, body) = exchange.answer(answered).into_parts();
    let body = match body {
        Body::Whole(bytes) if exchange.leaves_at_once(bytes.len()) => {
            exchange.end(BodyEnd::Complete, bytes.len() as u64);
            Body::Whole(bytes)
        }
        body => Body::stream(ResponseBody::new(exchange, body)),
    };
    Response::from_parts(parts, body)
}

impl ResponseBody {
    /// A body within the limits of the exchange's service.
    fn new(exchange: Exchange, body: Body) -> ResponseBody {
        let (limit, idle_timeout) = exchange.body_limits();
        let (passed, sent) = (Instant::now(), 0);
        let (exchange, waker, error) = (Some(exchange), None, None);
        let shared = Shared { body, exchange, sent, limit, passed, waker, error };
        let shared = Arc::new(Mutex::new(shared));
        let watchdog = tokio::spawn(watch(shared.clone(), idle_timeout)).abort_handle();
        ResponseBody { shared, watchdog }
    }
}

/// Ends the exchange of a body that pauses for too long.
async fn watch(shared: Arc<Mutex<Shared>>, idle_timeout: Duration) {
    loop {
        let deadline = lock(&shared).passed + idle_timeout;
        tokio::time::sleep_until(deadline).await;
        let mut shared = lock(&shared);
        if shared.passed + idle_timeout > Instant::now() {
            continue;
        }
        let paused = BodyError::Paused(idle_timeout);
        shared.error = Some(paused.clone());
        // Dropping the body stops the guest that produces it.
        shared.body = Body::empty();
        let waker = shared.waker.take();
        // Without a reader that waits for the guest, the client is what pauses.
        shared.end(if waker.is_some() { BodyEnd::Failed(paused) } else { BodyEnd::NotRead(paused) });
        return waker.into_iter().for_each(Waker::wake);
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn end(&mut self, end: BodyEnd) {
        if let Some(exchange) = self.exchange.take() {
            exchange.end(end, self.sent);
        }
    }

    /// Drops the rest of the body.
    fn fail(&mut self, error: BodyError) -> BodyError {
        self.body = Body::empty();
        self.end(BodyEnd::Failed(error.clone()));
        error
    }

    fn pass(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        let size = frame.data_ref().map_or(0, Bytes::len) as u64;
        if self.sent + size > self.limit {
            return Err(self.fail(BodyError::TooLarge(self.limit)));
        }
        self.sent += size;
        self.passed = Instant::now();
        if self.body.is_end_stream() {
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
        if let Some(error) = shared.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        shared.waker = None;
        match Pin::new(&mut shared.body).poll_frame(context) {
            Poll::Pending => {
                shared.waker = Some(context.waker().clone());
                Poll::Pending
            }
            Poll::Ready(None) => {
                shared.end(BodyEnd::Complete);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(shared.pass(frame))),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(shared.fail(error)))),
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
