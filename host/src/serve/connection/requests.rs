//! The requests of one connection. Each counts as in flight until its response's last byte was handed to the
//! connection.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::Service;

use super::clock::{Clock, InFlight};
use crate::http::{Body, BodyError};

/// Answers the requests of one connection.
pub(super) struct Requests<H, C> {
    handler: H,
    client: Arc<C>,
    clock: Arc<Clock>,
}

impl<H, C> Requests<H, C> {
    pub fn new(handler: H, client: Arc<C>, clock: Arc<Clock>) -> Requests<H, C> {
        Requests { handler, client, clock }
    }
}

impl<H, C> Service<Request<Incoming>> for Requests<H, C>
where
    H: Fn(Request<Incoming>, &C) -> BoxFuture<'static, Response<Body>>,
{
    type Response = Response<InFlightBody>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        let request_in_flight = Some(self.clock.begin());
        Answer { answer: (self.handler)(request, &self.client), request: request_in_flight }
    }
}

/// A response that is being produced.
pub(super) struct Answer {
    answer: BoxFuture<'static, Response<Body>>,
    request: Option<InFlight>,
}

impl Future for Answer {
    type Output = Result<Response<InFlightBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let answer = ready!(this.answer.as_mut().poll(context));
        let request = this.request.take();
        Poll::Ready(Ok(answer.map(|body| InFlightBody { body, _request: request })))
    }
}

/// A body whose request is in flight for as long as the connection holds it.
pub(super) struct InFlightBody {
    body: Body,
    _request: Option<InFlight>,
}

impl http_body::Body for InFlightBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
