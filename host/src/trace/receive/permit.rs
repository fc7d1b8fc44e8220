//! Limits the requests that are received at once. A request gets its permit before its body is read, so that waiting
//! requests occupy no memory.

use std::sync::Arc;
use std::time::Duration;

use ::http::StatusCode;
use ::http::header::CONTENT_TYPE;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use super::receiver::Receiver;

/// The timeout of a request that has its permit, body included. A slow sender delays others for at most this long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The permit of a request. It is released when the last clone is dropped.
#[derive(Clone)]
pub(super) struct ReceivePermit {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Runs a request when it has its permit.
pub(super) async fn acquire(State(receiver): State<Receiver>, mut request: Request, next: Next) -> Response {
    let Ok(permit) = receiver.permits.clone().acquire_owned().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    request.extensions_mut().insert(ReceivePermit { _permit: Arc::new(permit) });
    let kind = request.headers().get(CONTENT_TYPE);
    let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let answered = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await;
    answered.unwrap_or_else(|_| {
        let message = "the request did not arrive in time";
        if is_grpc {
            return Status::deadline_exceeded(message).into_http();
        }
        (StatusCode::REQUEST_TIMEOUT, message).into_response()
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::Router;
    use axum::body::{Body, Bytes};
    use futures_util::StreamExt;
    use futures_util::stream;
    use tower::ServiceExt;

    use super::super::receiver::MAX_CONCURRENT_REQUESTS;
    use super::*;
    use crate::trace::store::TraceStore;

    fn export(body: Body) -> Request {
        let request = Request::post("/v1/traces").header(CONTENT_TYPE, "application/x-protobuf");
        request.body(body).unwrap()
    }

    /// Sends a request whose body never arrives. The receiver reports when the body is first polled.
    fn slow(router: &Router) -> (tokio::task::JoinHandle<()>, tokio::sync::oneshot::Receiver<()>) {
        let (polls, polled) = tokio::sync::oneshot::channel();
        let first = stream::once(async move {
            polls.send(()).ok();
            Ok::<_, Infallible>(Bytes::new())
        });
        let body = Body::from_stream(first.chain(stream::pending()));
        let sent = router.clone().oneshot(export(body));
        (tokio::spawn(async move { drop(sent.await) }), polled)
    }

    #[tokio::test]
    async fn no_body_is_read_before_the_request_has_its_permit() {
        let router = super::super::receiver(Arc::new(TraceStore::new(1 << 20)));
        let mut slow_ones = Vec::new();
        for _ in 0..MAX_CONCURRENT_REQUESTS {
            let (task, polled) = slow(&router);
            polled.await.unwrap();
            slow_ones.push(task);
        }
        let (waiting, mut polled) = slow(&router);
        tokio::task::yield_now().await;
        assert!(polled.try_recv().is_err(), "its body was read without a permit");
        slow_ones.pop().unwrap().abort();
        polled.await.unwrap();
        waiting.abort();
        slow_ones.pop().unwrap().abort();
        let answered = router.oneshot(export(Body::empty())).await.unwrap();
        assert_eq!(answered.status(), StatusCode::OK);
    }
}
