//! `wasi:http` outgoing: requests of standard components to other services, each with a client span.
//!
//! A call runs concurrently with the guest, which may read the response late or never. Its span ends when the response
//! body has ended or was dropped, or when the call failed.
//!
//! The parent of the client span is the request's server span, unless the guest sets a trace context of the same trace
//! (because its own SDK created a span for the call): then that span is the parent, and the callee gets the context of
//! the client span. A context of another trace is sent unchanged.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use wasmtime_wasi::runtime::spawn;
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpHooks};

use super::guest_request::{ConcurrentRequests, Destination, HttpGuestRequest};
use crate::component::account::{MemoryAccount, MemoryReservation};
use crate::component::{GuestOutput, ServiceContext};
use crate::config::{Origin, Scheme};
use crate::http::method;
use crate::http::{Body, BodyError};
use crate::metrics::ClientRequest;
use crate::outbound::{Call, CallError, ConnectionFailure, LocalCalls};
use crate::trace::{GuestPoint, Incoming, InstanceMetrics, SharedRecorder, SpanKind, SpanRef};

/// The largest chunk of a body that a 0.2 guest writes at once. It is that of `wasmtime serve`: a guest that writes more
/// than `check-write` permits is stopped, and some do not ask.
const P2_CHUNK_SIZE: usize = 1024 * 1024;
/// The most chunks of one body that are queued. A 0.2 guest whose response fits into the queue does not wait for the
/// client.
const MAX_QUEUED_CHUNKS: usize = 4;
/// The largest chunk that is read from a 0.3 guest at once.
const P3_CHUNK_SIZE: usize = 64 * 1024;

/// The part of a store's data for `wasi:http`.
pub(crate) struct HttpState {
    pub context: WasiHttpCtx,
    pub outgoing: Outgoing,
    /// The metrics of the guest's own SDK, and the host memory reserved for them.
    metrics: InstanceMetrics,
    metrics_reservation: Option<MemoryReservation>,
    /// The output streams of the instance.
    output: (GuestOutput, GuestOutput),
    /// The requests of an instance that serves several concurrently.
    requests: Option<ConcurrentRequests>,
    /// The current request, for a 0.2 middleware to forward.
    incoming: Option<Request<Body>>,
}

/// Sends the requests of a guest.
pub(crate) struct Outgoing {
    service: Arc<ServiceContext>,
    request: Option<HttpGuestRequest>,
    /// The destination of the request that is being sent.
    pub destination: Destination,
}

impl HttpState {
    /// The state of an instance without a request.
    pub fn new(service: Arc<ServiceContext>, output: (GuestOutput, GuestOutput)) -> HttpState {
        let outgoing = Outgoing { service, request: None, destination: Destination::Url };
        let (context, metrics) = (WasiHttpCtx::new(), InstanceMetrics::default());
        HttpState { context, outgoing, metrics, output, requests: None, incoming: None, metrics_reservation: None }
    }

    /// Sets the requests of an instance that serves several concurrently.
    pub fn set_concurrent(&mut self, requests: Option<ConcurrentRequests>) {
        self.requests = requests;
    }

    /// The requests of an instance that serves several concurrently.
    pub fn requests(&self) -> Option<&ConcurrentRequests> {
        self.requests.as_ref()
    }

    /// Makes one of several concurrent requests the current one, and redirects the output streams to it.
    pub fn set_current(&mut self, request: Option<HttpGuestRequest>) {
        let (stdout, stderr) = &self.output;
        let printed = request.as_ref().and_then(|request| request.execution.open_output());
        stdout.redirect_to(printed.map(|(stdout, _)| stdout));
        stderr.redirect_to(printed.map(|(_, stderr)| stderr));
        self.outgoing.request = request;
    }

    /// Converts cumulative points of the guest's SDK into the changes since the last export. The previous values stay
    /// reserved on the account as long as the instance exists.
    pub fn new_metric_points(&mut self, points: Vec<GuestPoint>, account: &Arc<MemoryAccount>) -> Vec<GuestPoint> {
        let reservation = self.metrics_reservation.get_or_insert_with(|| account.empty_reservation());
        self.metrics.deltas(points, |bytes| reservation.try_grow(bytes))
    }

    /// Bytes reserved for the guest's metrics, which an idle instance keeps.
    pub fn reserved_for_metrics(&self) -> u64 {
        self.metrics_reservation.as_ref().map_or(0, MemoryReservation::bytes)
    }

    /// Sets the size of the instance's linear memory on every request that it serves.
    pub fn set_memory(&self, bytes: u64) {
        match &self.requests {
            Some(requests) => requests.set_memory(bytes),
            None => self.request().into_iter().for_each(|request| request.execution.set_memory(bytes)),
        }
    }

    /// Makes `request` the current one.
    pub fn set_request(&mut self, request: HttpGuestRequest) {
        self.outgoing.request = Some(request);
    }

    /// Removes the current request.
    pub fn clear_request(&mut self) {
        self.outgoing.request = None;
        self.incoming = None;
    }

    /// Keeps the current request, to be forwarded.
    pub fn store_incoming(&mut self, request: Request<Body>) {
        self.incoming = Some(request);
    }

    /// Takes the current request, to forward it.
    pub fn take_incoming(&mut self) -> Option<Request<Body>> {
        self.incoming.take()
    }

    /// The current request.
    pub fn request(&self) -> Option<&HttpGuestRequest> {
        self.outgoing.request.as_ref()
    }
}

/// The future that performs the I/O of a response. Unused here, because the body does that itself.
type Driver = Box<dyn Future<Output = Result<(), Error>> + Send>;
type SendResult = Result<(Response<WasiBody>, Driver), Error>;

impl WasiHttpHooks for Outgoing {
    /// The default, without an allocation for each field.
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        static FORBIDDEN: [HeaderName; 9] = DEFAULT_FORBIDDEN_HEADERS;
        FORBIDDEN.contains(name)
    }

    /// The network client derives the host from the URI.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        MAX_QUEUED_CHUNKS
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        P2_CHUNK_SIZE
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        P3_CHUNK_SIZE
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Driver,
    ) -> Box<dyn Future<Output = SendResult> + Send> {
        // Outside a request, for example during instantiation, a component may make no calls.
        let Some(active) = self.request.clone() else { return Box::new(async { Err(Error::HttpRequestDenied) }) };
        let (mut pending, call) = start(&self.service, &active, self.destination, request);
        let (service, options) = (self.service.clone(), options.unwrap_or_default());
        Box::new(async move {
            // In a task of its own: a local service must not run inside a poll of the store of the guest that calls it.
            let sent = spawn(async move { send(&service, call, active.locals, options).await }).await;
            let (head, body) = pending.record_response(sent)?.into_parts();
            let body = CallResponseBody { body, pending, idle_timer: IdleTimer::new(options.between_bytes_timeout) };
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
    let send = pin!(service.outbound.send(call?, locals));
    match options.first_byte_timeout {
        Some(limit) => tokio::time::timeout(limit, send).await.unwrap_or(Err(CallError::TimedOut)),
        None => send.await,
    }
}

/// Starts the client span of a call and prepares its request.
fn start(
    service: &Arc<ServiceContext>,
    active: &HttpGuestRequest,
    destination: Destination,
    request: Request<WasiBody>,
) -> (PendingCall, Result<Call, CallError>) {
    let (head, body) = request.into_parts();
    let (method, uri, mut headers) = (head.method, head.uri, head.headers);
    let next = service.next.as_ref().filter(|_| destination == Destination::Next);
    // The authority in a forwarded request is the client's name for the host, so `next` uses the service name instead.
    let origin = match next {
        Some(name) => Some(Origin { scheme: Scheme::Http, host: name.to_string(), port: 80 }),
        None => Origin::of(&uri),
    };
    let Incoming { parent: guest, baggage: of_guest, .. } = service.outbound.propagators().extract(&headers);
    let (span, context, baggage) = active.recorder.with(|recorder| {
        let guest_context = guest.filter(|guest| recorder.is_enabled() && guest.is_valid());
        let is_same_trace =
            guest_context.as_ref().is_some_and(|guest_context| guest_context.trace_id == recorder.trace_id());
        let parent = guest_context
            .as_ref()
            .filter(|_| is_same_trace)
            .map_or(recorder.server_span_id(), |guest_context| guest_context.span_id);
        let span = recorder.start_under_id(method::span_name(&method), SpanKind::Client, parent);
        if recorder.is_recording() {
            let (known, original) = method::attributes(&method);
            recorder.set(span, "http.request.method", known);
            if let Some(original) = original {
                recorder.set(span, "http.request.method_original", original);
            }
            recorder.set(span, "url.full", &*service.redaction.url(&uri.to_string(), &uri));
            if let Some(origin) = &origin {
                recorder.set(span, "server.address", origin.address());
                recorder.set(span, "server.port", i64::from(origin.port));
            }
        }
        // The guest has received the request's trace state and baggage, and may have changed them.
        let context = match guest_context {
            Some(guest_context) if !is_same_trace => guest_context,
            guest_context => {
                let mut context = recorder.context_of(span);
                context.state = guest_context.and_then(|guest_context| guest_context.state).or(context.state);
                context
            }
        };
        let baggage = if of_guest.is_empty() { recorder.baggage().clone() } else { of_guest };
        (span, context, baggage)
    });
    headers.remove(http::header::HOST);
    let call =
        origin.clone().ok_or_else(|| CallError::InvalidUrl("this is not an absolute http or https URL".to_owned()));
    let call = call.map(|origin| {
        let (method, body, service) = (method.clone(), Body::stream(CallRequestBody(body)), next.cloned());
        Call { method, uri, origin, service, headers, body, context, baggage }
    });
    let (service, recorder, began) = (service.clone(), active.recorder.clone(), Instant::now());
    (PendingCall { service, recorder, span, method, origin, destination, began, status: None, has_ended: false }, call)
}

/// A call in progress. If it is dropped before the response, the guest has cancelled it.
struct PendingCall {
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

impl PendingCall {
    /// Sets the response status on the span, or ends the span if the call failed.
    fn record_response(&mut self, sent: Result<Response<Body>, CallError>) -> Result<Response<Body>, Error> {
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
                Err(call_error(error))
            }
        }
    }

    /// Ends the span and records the call's metrics.
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
        self.service.metrics.record_client_request(&ClientRequest {
            method: &self.method,
            address: origin.address(),
            port: origin.port,
            status: self.status,
            error_type,
            duration: self.began.elapsed(),
        });
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        let error = match self.status {
            // A guest may drop a response body early; that is not an error.
            Some(_) => None,
            None => Some(("cancelled", String::from("the guest cancelled the call"))),
        };
        self.end(error);
    }
}

/// The timeout between two frames of a body, if the guest set one.
struct IdleTimer {
    limit: Option<Duration>,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl IdleTimer {
    fn new(limit: Option<Duration>) -> IdleTimer {
        IdleTimer { limit, timer: None }
    }

    fn poll_expired(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(limit) = self.limit else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        timer.as_mut().poll(context)
    }
}

/// The response body of a call. Its end ends the call's span.
struct CallResponseBody {
    body: Body,
    pending: PendingCall,
    idle_timer: IdleTimer,
}

impl http_body::Body for CallResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                ready!(self.idle_timer.poll_expired(context));
                self.pending.end(Some(("timeout", String::from("the response body was idle for too long"))));
                return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
            }
        };
        self.idle_timer.timer = None;
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(error)) => {
                self.pending.end(Some((error.error_type(), error.to_string())));
                Some(Err(response_body_error(&error)))
            }
            None => {
                self.pending.end(None);
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

/// The error code that a guest gets for a response body that failed.
fn response_body_error(error: &BodyError) -> Error {
    match error {
        BodyError::TooLarge(limit) => Error::HttpResponseBodySize(Some(*limit)),
        BodyError::Paused(_) => Error::ConnectionReadTimeout,
        BodyError::Malformed(_) => Error::HttpProtocolError,
        _ => Error::ConnectionTerminated,
    }
}

/// A body that the guest sends.
struct CallRequestBody(WasiBody);

impl http_body::Body for CallRequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.0).poll_frame(context));
        Poll::Ready(frame.map(|frame| frame.map_err(|error| BodyError::EndedEarly(error.to_string()))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// The error code that a guest gets for a call without a response.
fn call_error(error: CallError) -> Error {
    match error {
        CallError::Denied(_) | CallError::NotPublic(..) => Error::HttpRequestDenied,
        CallError::InvalidUrl(_) => Error::HttpRequestUriInvalid,
        CallError::Unreachable { failure, .. } => match failure {
            ConnectionFailure::Name => Error::DnsError { rcode: None, info_code: None },
            ConnectionFailure::NotConnected => Error::ConnectionRefused,
            ConnectionFailure::Certificate => Error::TlsCertificateError,
            ConnectionFailure::Tls => Error::TlsProtocolError,
            ConnectionFailure::Protocol => Error::HttpProtocolError,
        },
        CallError::ConnectTimedOut(_) => Error::ConnectionTimeout,
        CallError::TimedOut => Error::HttpResponseTimeout,
        CallError::TooLarge(limit) => Error::HttpResponseBodySize(Some(limit as u64)),
        CallError::MemoryLimit => Error::InternalError(Some(error.to_string())),
    }
}
