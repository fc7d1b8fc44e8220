//! The hyper service of one connection. A request is in flight until the connection has received the last byte of the
//! response.

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

/// The hyper service that answers the requests of one connection.
pub(super) struct RequestService<H, C> {
    handler: H,
    client: Arc<C>,
    clock: Arc<Clock>,
}

impl<H, C> RequestService<H, C> {
    pub fn new(handler: H, client: Arc<C>, clock: Arc<Clock>) -> RequestService<H, C> {
        RequestService { handler, client, clock }
    }
}

impl<H, C> Service<Request<Incoming>> for RequestService<H, C>
where
    H: Fn(Request<Incoming>, &C) -> BoxFuture<'static, Response<Body>>,
{
    type Response = Response<InFlightBody>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, request: Request<Incoming>) -> ResponseFuture {
        let in_flight = Some(self.clock.start_request());
        ResponseFuture { response: (self.handler)(request, &self.client), in_flight }
    }
}

/// The future of a response.
pub(super) struct ResponseFuture {
    response: BoxFuture<'static, Response<Body>>,
    in_flight: Option<InFlight>,
}

impl Future for ResponseFuture {
    type Output = Result<Response<InFlightBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let response = ready!(this.response.as_mut().poll(context));
        let in_flight = this.in_flight.take();
        Poll::Ready(Ok(response.map(|body| InFlightBody { body, _in_flight: in_flight })))
    }
}

/// A response body that keeps its request in flight until the connection drops it.
pub(super) struct InFlightBody {
    body: Body,
    _in_flight: Option<InFlight>,
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
