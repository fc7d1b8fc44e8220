//! Requests take turns before anything of their body is held, so that what many senders send at once stays with them.

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

/// How long a request may take once it has its turn, its body included: a slow sender holds up the others for no longer.
const LIMIT: Duration = Duration::from_secs(10);

/// A request's turn, which ends when the last of its holders is gone.
#[derive(Clone)]
pub(super) struct Turn {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Lets a request in when its turn has come.
pub(super) async fn wait(State(receiver): State<Receiver>, mut request: Request, next: Next) -> Response {
    let Ok(permit) = receiver.turns.clone().acquire_owned().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    request.extensions_mut().insert(Turn { _permit: Arc::new(permit) });
    let kind = request.headers().get(CONTENT_TYPE);
    let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let answered = tokio::time::timeout(LIMIT, next.run(request)).await;
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

    use super::super::receiver::REQUESTS;
    use super::*;
    use crate::trace::store::TraceStore;

    fn export(body: Body) -> Request {
        let request = Request::post("/v1/traces").header(CONTENT_TYPE, "application/x-protobuf");
        request.body(body).unwrap()
    }

    /// Sends a body of which nothing comes, and tells whether anybody asks for it.
    fn slow(router: &Router) -> (tokio::task::JoinHandle<()>, tokio::sync::oneshot::Receiver<()>) {
        let (asks, asked) = tokio::sync::oneshot::channel();
        let first = stream::once(async move {
            asks.send(()).ok();
            Ok::<_, Infallible>(Bytes::new())
        });
        let body = Body::from_stream(first.chain(stream::pending()));
        let sent = router.clone().oneshot(export(body));
        (tokio::spawn(async move { drop(sent.await) }), asked)
    }

    #[tokio::test]
    async fn nothing_of_a_body_is_read_before_its_turn() {
        let router = super::super::receiver(Arc::new(TraceStore::new(1 << 20)));
        let mut slow_ones = Vec::new();
        for _ in 0..REQUESTS {
            let (task, asked) = slow(&router);
            asked.await.unwrap();
            slow_ones.push(task);
        }
        let (waiting, mut asked) = slow(&router);
        tokio::task::yield_now().await;
        assert!(asked.try_recv().is_err(), "it is read although others have their turn");
        slow_ones.pop().unwrap().abort();
        asked.await.unwrap();
        waiting.abort();
        slow_ones.pop().unwrap().abort();
        let answered = router.oneshot(export(Body::empty())).await.unwrap();
        assert_eq!(answered.status(), StatusCode::OK);
    }
}
