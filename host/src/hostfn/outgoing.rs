//! `wasi:http` outgoing: requests of standard components to other services, each with a client span of its own.
//!
//! Such a request runs beside the guest, which may have its answer late or never. Its span ends when the response body
//! has ended or was given up, or when the request failed.
//!
//! The parent of the client span is the request's server span, unless the guest says otherwise: where it sends a trace
//! context of the same trace (its own SDK made a span for the call), that span is the parent, and the callee sees the
//! client span. A context of another trace is the guest's own affair and goes out as it is.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use wasmtime_wasi::runtime::spawn;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpHooks};

use super::guest_request::{ConcurrentRequests, Destination, HttpGuestRequest};
use crate::component::account::{MemoryAccount, MemoryReservation};
use crate::component::{GuestOutput, ServiceContext};
use crate::config::{Origin, Scheme};
use crate::http::method::span_name;
use crate::http::{Body, BodyError};
use crate::metrics::Called;
use crate::outbound::{Call, CallError, LocalCalls};
use crate::trace::{GuestPoint, InstanceMetrics, SharedRecorder, SpanKind, SpanRef};

/// The most bytes of a body that a guest hands over at once, and how many such pieces of one body wait to be taken. A guest
/// whose whole response fits need not wait for the client.
const CHUNK: usize = 64 * 1024;
const CHUNKS: usize = 8;

/// The `wasi:http` half of a store's data.
pub(crate) struct HttpState {
    pub context: WasiHttpCtx,
    pub outgoing: Outgoing,
    /// What the guest's own SDK has counted, and the room that it takes.
    metrics: InstanceMetrics,
    metrics_reservation: Option<MemoryReservation>,
    /// Where the instance prints.
    output: (GuestOutput, GuestOutput),
    /// The requests that the instance serves at once, if it does.
    requests: Option<ConcurrentRequests>,
    /// The request being served, for a middleware of 0.2 to hand on.
    incoming: Option<Request<Body>>,
}

/// Sends the requests of a guest.
pub(crate) struct Outgoing {
    service: Arc<ServiceContext>,
    request: Option<HttpGuestRequest>,
    /// The destination of the request that is sent now.
    pub destination: Destination,
}

impl HttpState {
    /// The state of an instance that serves no request yet.
    pub fn new(service: Arc<ServiceContext>, output: (GuestOutput, GuestOutput)) -> HttpState {
        let outgoing = Outgoing { service, request: None, destination: Destination::Outbound };
        let (context, metrics) = (WasiHttpCtx::new(), InstanceMetrics::default());
        HttpState { context, outgoing, metrics, output, requests: None, incoming: None, metrics_reservation: None }
    }

    /// Makes the instance one that serves `requests` at once, or none any more.
    pub fn set_concurrent(&mut self, requests: Option<ConcurrentRequests>) {
        self.requests = requests;
    }

    /// The requests that the instance serves at once, if it does.
    pub fn requests(&self) -> Option<&ConcurrentRequests> {
        self.requests.as_ref()
    }

    /// Makes one of the requests that the instance serves at once the one that host functions work on.
    pub fn enter(&mut self, request: Option<HttpGuestRequest>) {
        let (stdout, stderr) = &self.output;
        let printed = request.as_ref().and_then(|request| request.printed.as_ref());
        stdout.redirect_to(printed.map(|(stdout, _)| stdout));
        stderr.redirect_to(printed.map(|(_, stderr)| stderr));
        self.outgoing.request = request;
    }

    /// Turns what the guest's own SDK says into what is new in it. What it has said is reservation on the account for as long as the
    /// instance lives.
    pub fn new_metric_points(&mut self, points: Vec<GuestPoint>, account: &Arc<MemoryAccount>) -> Vec<GuestPoint> {
        let reservation = self.metrics_reservation.get_or_insert_with(|| account.empty_reservation());
        self.metrics.news(points, |bytes| reservation.try_grow(bytes))
    }

    /// What is reservation for the guest's metrics, in bytes: it stays with an idle instance.
    pub fn reserved_for_metrics(&self) -> u64 {
        self.metrics_reservation.as_ref().map_or(0, MemoryReservation::bytes)
    }

    /// Says how much linear memory the instance has to whoever it serves.
    pub fn set_memory(&self, bytes: u64) {
        match &self.requests {
            Some(requests) => requests.set_memory(bytes),
            None => self.request().into_iter().for_each(|request| request.execution.set_memory(bytes)),
        }
    }

    /// Makes `request` the one that host functions work on.
    pub fn begin(&mut self, request: HttpGuestRequest) {
        self.outgoing.request = Some(request);
    }

    /// Forgets the request.
    pub fn end(&mut self) {
        self.outgoing.request = None;
        self.incoming = None;
    }

    /// Keeps the request being served, to be handed on.
    pub fn keep_incoming(&mut self, request: Request<Body>) {
        self.incoming = Some(request);
    }

    /// Gives the request being served to whoever hands it on.
    pub fn take_incoming(&mut self) -> Option<Request<Body>> {
        self.incoming.take()
    }

    /// The request being served.
    pub fn request(&self) -> Option<&HttpGuestRequest> {
        self.outgoing.request.as_ref()
    }
}

/// Drives whatever else a response needs. Here that is done by the body itself.
type Driver = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Result<(Response<WasiBody>, Driver), Error>;

impl WasiHttpHooks for Outgoing {
    /// The network's client knows the host from the URI.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        CHUNKS
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Driver,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        // Outside a request (while it is instantiated, say) a component may call nobody.
        let Some(active) = self.request.clone() else { return Box::new(async { Err(Error::HttpRequestDenied) }) };
        let (mut open, call) = start(&self.service, &active, self.destination, request);
        let (service, options) = (self.service.clone(), options.unwrap_or_default());
        Box::new(async move {
            // In a task of its own: a service of this host may not run within the store of the guest that calls it.
            let sent = spawn(async move { send(&service, call, active.locals, options).await }).await;
            let (head, body) = open.answered(sent)?.into_parts();
            let body = AnswerBody { body, open, pause: Pause::new(options.between_bytes_timeout) };
            let driver: Driver = Box::new(async { Ok(()) });
            Ok((Response::from_parts(head, body.boxed_unsync()), driver))
        })
    }
}

async fn send(
    service: &ServiceContext,
    call: Result<Call, CallError>,
    locals: Arc<dyn LocalCalls>,
    options: RequestOptions,
) -> Result<Response<Body>, CallError> {
    let send = service.outbound.send(call?, locals);
    match options.first_byte_timeout {
        Some(limit) => tokio::time::timeout(limit, send).await.unwrap_or(Err(CallError::TimedOut)),
        None => send.await,
    }
}

/// Starts the span of a call and makes ready what is sent.
fn start(
    service: &Arc<ServiceContext>,
    active: &HttpGuestRequest,
    destination: Destination,
    request: Request<WasiBody>,
) -> (OpenCall, Result<Call, CallError>) {
    let (head, body) = request.into_parts();
    let (method, uri, mut headers) = (head.method, head.uri, head.headers);
    let next = service.next.as_ref().filter(|_| destination == Destination::Next);
    // What a client calls the host is no name of a service: `next` is known by the name that the manifest gives it.
    let origin = match next {
        Some(name) => Some(Origin { scheme: Scheme::Http, host: name.to_string(), port: 80 }),
        None => Origin::of(&uri),
    };
    let guest = service.outbound.propagators().extract(&headers).parent;
    let (span, context, baggage) = active.recorder.with(|recorder| {
        let own = guest.filter(|guest| recorder.is_enabled() && guest.is_valid());
        let is_same_trace = own.as_ref().is_some_and(|own| own.trace_id == recorder.trace_id());
        let parent = own.as_ref().filter(|_| is_same_trace).map_or(recorder.server_span_id(), |own| own.span_id);
        let span = recorder.start_under_id(span_name(&method), SpanKind::Client, parent);
        if recorder.is_recording() {
            recorder.set(span, "http.request.method", span_name(&method));
            recorder.set(span, "url.full", &*service.redaction.url(&uri.to_string(), &uri));
            if let Some(origin) = &origin {
                recorder.set(span, "server.address", origin.address());
                recorder.set(span, "server.port", i64::from(origin.port));
            }
        }
        let context = own.filter(|_| !is_same_trace).unwrap_or_else(|| recorder.context_of(span));
        (span, context, recorder.baggage().clone())
    });
    headers.remove(http::header::HOST);
    let call = origin.clone().ok_or_else(|| CallError::InvalidUrl("this is no absolute http or https URL".to_owned()));
    let call = call.map(|origin| {
        let (method, body, service) = (method.clone(), Body::stream(SentBody(body)), next.cloned());
        Call { method, uri, origin, service, headers, body, context, baggage }
    });
    let (service, recorder, began) = (service.clone(), active.recorder.clone(), Instant::now());
    (OpenCall { service, recorder, span, method, origin, destination, began, status: None, has_ended: false }, call)
}

/// A call that is under way. One that is dropped was given up by the guest.
struct OpenCall {
    service: Arc<ServiceContext>,
    recorder: SharedRecorder,
    span: SpanRef,
    method: Method,
    origin: Option<Origin>,
    destination: Destination,
    began: Instant,
    status: Option<u16>,
    has_ended: bool,
}

impl OpenCall {
    /// Puts the answer's status on the span, or ends the span where there is no answer.
    fn answered(&mut self, sent: Result<Response<Body>, CallError>) -> Result<Response<Body>, Error> {
        match sent {
            Ok(response) => {
                let status = response.status();
                self.status = Some(status.as_u16());
                self.recorder.with(|recorder| {
                    recorder.set(self.span, "http.response.status_code", i64::from(status.as_u16()));
                    if status.is_client_error() || status.is_server_error() {
                        recorder.fail(self.span, status.as_str(), String::new());
                    }
                });
                Ok(response)
            }
            Err(error) => {
                self.end(Some((error.error_type(), error.to_string())));
                Err(to_guest(error))
            }
        }
    }

    /// Ends the span and counts the call.
    fn end(&mut self, error: Option<(&'static str, String)>) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        let error_type = error.as_ref().map(|(kind, _)| *kind);
        self.recorder.with(|recorder| {
            if let Some((kind, message)) = error {
                recorder.fail(self.span, kind, message);
            }
            recorder.end(self.span);
        });
        let Some(origin) = self
            .origin
            .as_ref()
            .filter(|origin| self.destination == Destination::Next || self.service.outbound.allows(origin))
        else {
            return;
        };
        self.service.metrics.client_request(&Called {
            method: &self.method,
            address: origin.address(),
            port: origin.port,
            status: self.status,
            error_type,
            duration: self.began.elapsed(),
        });
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let error = match self.status {
            // A body that the guest does not want to its end is no error.
            Some(_) => None,
            None => Some(("cancelled", String::from("the guest gave the call up"))),
        };
        self.end(error);
    }
}

/// The longest pause between two pieces of a body, where the guest set one.
struct Pause {
    limit: Option<Duration>,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Pause {
    fn new(limit: Option<Duration>) -> Pause {
        Pause { limit, timer: None }
    }

    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(limit) = self.limit else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer.as_mut().poll(context)
    }
}

/// The body of an answer, which ends the call's span.
struct AnswerBody {
    body: Body,
    open: OpenCall,
    pause: Pause,
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(self.pause.poll_over(context));
                self.open.end(Some(("timeout", String::from("the body paused for too long"))));
                return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
            }
        };
        self.pause.timer = None;
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(error)) => {
                self.open.end(Some((error.error_type(), error.to_string())));
                Some(Err(broken(&error)))
            }
            None => {
                self.open.end(None);
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a guest is told of an answer's body that broke off.
fn broken(error: &BodyError) -> Error {
    match error {
        BodyError::TooLarge(limit) => Error::HttpResponseBodySize(Some(*limit)),
        BodyError::Paused(_) => Error::ConnectionReadTimeout,
        _ => Error::ConnectionTerminated,
    }
}

/// A body that the guest sends.
struct SentBody(WasiBody);

impl http_body::Body for SentBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.0).poll_frame(context));
        Poll::Ready(frame.map(|frame| frame.map_err(|error| BodyError::BrokenOff(error.to_string()))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// What a guest is told of a call without an answer.
fn to_guest(error: CallError) -> Error {
    match error {
        CallError::Denied(_) | CallError::NotPublic(..) => Error::HttpRequestDenied,
        CallError::InvalidUrl(_) => Error::HttpRequestUriInvalid,
        CallError::Unreachable(_) => Error::ConnectionRefused,
        CallError::TimedOut => Error::HttpResponseTimeout,
        CallError::TooLarge(limit) => Error::HttpResponseBodySize(Some(limit as u64)),
        CallError::NoRoom => Error::InternalError(Some(error.to_string())),
    }
}
