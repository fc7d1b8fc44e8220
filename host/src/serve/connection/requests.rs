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
use super::request_body::{self, UnfinishedBody};
use super::trailers::{TrailerSlot, accepts_trailers, only_allowed};
use crate::http::{Body, BodyError};

/// The hyper service that answers the requests of one connection.
pub(super) struct RequestService<H, C> {
    handler: H,
    client: Arc<C>,
    clock: Arc<Clock>,
    trailers: Arc<TrailerSlot>,
}

impl<H, C> RequestService<H, C> {
    pub fn new(handler: H, client: Arc<C>, clock: Arc<Clock>, trailers: Arc<TrailerSlot>) -> RequestService<H, C> {
        RequestService { handler, client, clock, trailers }
    }
}

impl<H, C> Service<Request<Incoming>> for RequestService<H, C>
where
    H: Fn(Request<Body>, &C) -> BoxFuture<'static, Response<Body>>,
{
    type Response = Response<InFlightBody>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, request: Request<Incoming>) -> ResponseFuture {
        let in_flight = self.clock.start_request();
        let trailers = accepts_trailers(&request).then(|| self.trailers.clone());
        let (request, unfinished) = request_body::split(request, &in_flight);
        let response = (self.handler)(request, &self.client);
        ResponseFuture { response, ready: None, unfinished, trailers, in_flight: Some(in_flight) }
    }
}

/// The future of a response.
pub(super) struct ResponseFuture {
    response: BoxFuture<'static, Response<Body>>,
    /// The response, if hyper has to read before it writes the head.
    ready: Option<Box<Response<Body>>>,
    unfinished: Option<UnfinishedBody>,
    trailers: Option<Arc<TrailerSlot>>,
    in_flight: Option<InFlight>,
}

impl ResponseFuture {
    fn poll_response(&mut self, context: &mut Context<'_>) -> Poll<Response<Body>> {
        if let Some(response) = self.ready.take() {
            return Poll::Ready(*response);
        }
        let response = ready!(self.response.as_mut().poll(context));
        if self.unfinished.take().is_some_and(|body| body.precedes_head(context)) {
            self.ready = Some(Box::new(response));
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(response)
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<InFlightBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let response = ready!(this.poll_response(context));
        let (trailers, in_flight) = (this.trailers.take(), this.in_flight.take());
        Poll::Ready(Ok(response.map(|body| InFlightBody { body, trailers, ends: false, _in_flight: in_flight })))
    }
}

/// A response body that keeps its request in flight until the connection drops it.
pub(super) struct InFlightBody {
    body: Body,
    /// The connection's slot for trailers, if hyper would not write them.
    trailers: Option<Arc<TrailerSlot>>,
    /// The slot holds the body's trailers, and the body ends when they are due.
    ends: bool,
    _in_flight: Option<InFlight>,
}

impl http_body::Body for InFlightBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Some(slot) = &this.trailers else {
            return Pin::new(&mut this.body).poll_frame(context).map(|frame| Some(frame?.map(only_allowed)));
        };
        if this.ends {
            return slot.poll_due(context).map(|()| None);
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            slot.hold(trailers, context);
            this.ends = true;
            return Poll::Pending;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        !self.ends && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
