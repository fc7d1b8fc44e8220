//! The exchange: one request at one service, from the request head until the response was sent or cancelled.
//!
//! The exchange owns what the request uses (lease, permit, recorder, start time) and releases all of it together. A
//! standard guest that continues after its response shares lease, permit and recorder until it has ended. A response
//! that fits into one write ends the exchange when the connection receives it. The body of any other response owns the
//! exchange.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Response, StatusCode, Version};
use http_body::Body as _;

use super::inbound_request::InboundRequest;
use super::rejection::Rejection;
use super::response_rules::ResponseRules;
use super::{server_span, trace_response};
use crate::component::{Cost, Failure, GuestExecution, Reply};
use crate::http::routes::{Match, RouteIndex};
use crate::http::{Body, BodyError, BodyFailure, FRAME_LIMIT};
use crate::metrics::{ActiveRequestGuard, ServerRequest};
use crate::services::{Generation, Lease, Outcome, Permit, Service};
use crate::trace::{Abort, Recorder, SharedRecorder, SpanId, TraceId};

/// One request at one service. An exchange that is dropped before it has ended counts as cancelled: the caller has
/// disconnected.
pub(super) struct Exchange {
    service: Arc<Service>,
    lease: Lease,
    rules: ResponseRules,
    /// Counts the request as active.
    active: Option<ActiveRequestGuard>,
    /// The request's permit under the service's concurrency limit.
    permit: Option<Permit>,
    method: Method,
    scheme: &'static str,
    /// `None` for a call within the host, which uses no protocol.
    version: Option<Version>,
    started: Instant,
    /// The recorder of the request's spans. `None` if it is in `standard` or with a lean guest.
    pub recorder: Option<Recorder>,
    /// The recorder shared with a standard guest, and the guest's cost.
    pub standard: Option<(SharedRecorder, Arc<GuestExecution>)>,
    /// How the request body fails that a standard guest reads.
    pub request_body: Option<BodyFailure>,
    route: Option<RouteIndex>,
    /// The cost of a lean guest.
    pub cost: Option<Cost>,
    guest_time: GuestTime,
    /// `None` until the response head exists.
    head: Option<ResponseHead>,
    has_ended: bool,
}

/// How long the guest has run for the request. Time spent on slow clients is excluded.
#[derive(Clone, Copy)]
enum GuestTime {
    /// The guest has not received the request.
    NotStarted,
    /// The guest has been running since this time.
    RunningSince(Instant),
    /// The guest ran for this long.
    Finished(Duration),
}

/// The response head, as far as metrics and spans need it.
struct ResponseHead {
    status: StatusCode,
    /// The value of `error.type`, if the host answered without the guest.
    error_type: Option<&'static str>,
    /// The reason recorded on spans that the guest left open.
    abort: Option<(&'static str, String)>,
    /// Who is responsible for the outcome.
    outcome: Outcome,
}

/// How the body of a response ended.
pub(super) enum BodyEnd {
    /// The transport has received all of it.
    Complete,
    /// The client disconnected, or the transport dropped the body.
    Cancelled,
    /// The body failed, or the guest paused for too long.
    Failed(BodyError),
    /// The client paused for too long.
    NotRead(BodyError),
}

impl BodyEnd {
    /// Whether the transport may have ended the body like this without having seen this failure of the guest.
    fn may_hide(&self, failure: &Failure) -> bool {
        match self {
            // It sends no more than the `Content-Length` and does not see what the guest produced beyond it.
            BodyEnd::Complete => matches!(failure, Failure::InvalidResponse(_)),
            // It does not poll the body while the client reads nothing.
            BodyEnd::Cancelled | BodyEnd::NotRead(_) | BodyEnd::Failed(BodyError::Paused(_)) => true,
            BodyEnd::Failed(_) => false,
        }
    }
}

impl Exchange {
    /// Starts the exchange of a request. It is boxed because it is large and is passed on several times.
    pub fn new(
        service: Arc<Service>,
        lease: Lease,
        inbound: &InboundRequest,
        started: Instant,
        recorder: Recorder,
    ) -> Box<Exchange> {
        Box::new(Exchange {
            active: Some(service.metrics.load().start_server_request(&inbound.method, inbound.scheme())),
            service,
            rules: ResponseRules::new(lease.clone(), inbound),
            lease,
            permit: None,
            method: inbound.method.clone(),
            scheme: inbound.scheme(),
            version: inbound.network.is_some().then_some(inbound.version),
            started,
            recorder: Some(recorder),
            standard: None,
            request_body: None,
            route: None,
            cost: None,
            guest_time: GuestTime::NotStarted,
            head: None,
            has_ended: false,
        })
    }

    /// Sets the name of the server span and the attributes that are known before the guest is called.
    pub fn describe_server_span(&mut self, inbound: &InboundRequest, generation: &Generation, found: &Match) {
        if let Match::Found { index, .. } = found {
            self.route = Some(*index);
        }
        let Some(recorder) = self.recorder.as_mut().filter(|recorder| recorder.is_recording()) else { return };
        let server = recorder.server();
        let route = self.route.and_then(|index| generation.routes().get(index));
        if let Some(route) = route {
            recorder.rename(server, server_span::route_span_name(route, &inbound.method));
        }
        if let Some(prepared) = generation.server_span_attributes(self.route) {
            recorder.set_prepared(server, prepared);
        }
        let redaction = &generation.pool.context().redaction;
        server_span::record_request(recorder, inbound, (self.service.listen(), redaction), route);
    }

    /// The service.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Takes a permit for the request, unless the service serves as many requests as it may.
    pub fn take_permit(&mut self, limit: usize) -> Result<Permit, Rejection> {
        let permit = self.service.permit(limit).ok_or(Rejection::ConcurrencyLimit)?;
        self.permit = Some(permit.clone());
        Ok(permit)
    }

    /// Takes the recorder, to hand it to a guest.
    pub fn take_recorder(&mut self) -> Recorder {
        self.recorder.take().unwrap_or_else(Recorder::detached)
    }

    /// The lease on the generation that serves the request.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Marks the start of the guest.
    pub fn guest_started(&mut self) {
        self.guest_time = GuestTime::RunningSince(Instant::now());
    }

    /// Marks the end of the guest, which has responded or failed.
    pub fn guest_stopped(&mut self) {
        self.guest_time = GuestTime::Finished(self.guest_time());
    }

    fn guest_time(&self) -> Duration {
        match self.guest_time {
            GuestTime::NotStarted => Duration::ZERO,
            GuestTime::RunningSince(started) => started.elapsed(),
            GuestTime::Finished(duration) => duration,
        }
    }

    /// Creates the response and records its head. The exchange lasts until the body has been sent.
    pub fn response(&mut self, result: Result<Reply, Rejection>) -> Response<Body> {
        let rejection = result.as_ref().err();
        let status = result.as_ref().map_or_else(Rejection::status, |reply| reply.status);
        let cost = self.cost;
        self.with_recorder(|recorder| server_span::record_response(recorder, status, rejection, cost.as_ref()));
        if matches!(rejection, Some(Rejection::ConcurrencyLimit)) {
            self.service.metrics.load().count_rejected("concurrency_limit");
        }
        let error_type = rejection.and_then(Rejection::error_type);
        let outcome = match rejection {
            Some(rejection) => rejection.outcome(),
            None if status.is_server_error() => self.fault(),
            None => Outcome::Success,
        };
        self.head = Some(ResponseHead { status, error_type, abort: rejection.and_then(abort), outcome });
        // The body of a response from a standard component stays unchanged.
        let is_of_standard_guest = result.is_ok() && self.standard.is_some();
        let response = match result {
            Ok(reply) => response(reply),
            Err(rejection) => rejection.response(),
        };
        let (mut parts, mut body) = response.into_parts();
        let server = |recorder: &mut Recorder| {
            let has_header = recorder.has_response_header();
            recorder.is_enabled().then(|| (recorder.context_of(recorder.server()), has_header))
        };
        if let Some((server, has_header)) = self.with_recorder(server).flatten() {
            trace_response::set_header(&mut parts, &server, has_header);
            if !is_of_standard_guest {
                trace_response::set_problem_member(&parts, &mut body, &server);
            }
        }
        let body = self.rules.apply(&self.service, &mut parts, body);
        let is_head = self.method == Method::HEAD && has_content(status);
        let body = if is_head { without_content(&mut parts.headers, body) } else { body };
        Response::from_parts(parts, body)
    }

    /// Who is responsible for a failure of the guest: it may have failed because the request body did.
    fn fault(&self) -> Outcome {
        match self.request_body.as_ref().and_then(BodyFailure::get) {
            Some(BodyError::EndedEarly(_)) => Outcome::ClientDisconnected,
            Some(_) => Outcome::HostRejection,
            None => Outcome::GuestFault,
        }
    }

    /// Whether a body of this size is sent at once: it fits into one write, or a service of this host receives it
    /// whole.
    pub fn is_sent_at_once(&self, bytes: usize) -> bool {
        self.version.is_none() || bytes <= FRAME_LIMIT
    }

    /// The longest body, and the longest pause in it.
    pub fn body_limits(&self) -> (u64, Duration) {
        let limits = &self.lease.generation().config.limits;
        (limits.response_body as u64, limits.idle_timeout)
    }

    /// Ends the server span and counts the request. `sent` is the number of body bytes that were sent.
    pub fn end(mut self: Box<Self>, end: BodyEnd, sent: u64) {
        let Some(ResponseHead { status, error_type, mut abort, outcome }) = self.head.take() else { return };
        self.has_ended = true;
        let execution = self.execution();
        let failure = execution.as_ref().and_then(|execution| execution.failure());
        let end = match failure {
            Some(failure) if end.may_hide(&failure) => BodyEnd::Failed((&failure).into()),
            _ => end,
        };
        let interruption = match &end {
            BodyEnd::Complete => None,
            BodyEnd::Cancelled => {
                Some(("cancelled", String::from("the client disconnected before the end of the body")))
            }
            BodyEnd::Failed(error) | BodyEnd::NotRead(error) => Some((error.error_type(), error.to_string())),
        };
        let is_recorded = abort.is_some();
        if let Some((error_type, message)) = &interruption {
            abort.get_or_insert((error_type, message.clone()));
        }
        let now = Instant::now();
        let duration = now.saturating_duration_since(self.started);
        let has_failed = status.is_server_error() || matches!(end, BodyEnd::Failed(_) | BodyEnd::NotRead(_));
        let trace = self.with_recorder(|recorder| {
            let server = recorder.server();
            recorder.set(server, "http.response.body.size", i64::try_from(sent).unwrap_or(i64::MAX));
            if let Some(execution) = &execution {
                server_span::record_guest_end(recorder, execution, is_recorded);
            }
            if let Some((error_type, message)) = &interruption {
                recorder.fail(server, error_type, message.clone());
            }
            // Exemplars refer only to traces that tail sampling keeps.
            let is_kept = recorder.is_recording() && recorder.is_certainly_exported(has_failed, duration);
            is_kept.then(|| (recorder.trace_id(), recorder.server_span_id()))
        });
        let trace = trace.flatten();
        let outcome = match end {
            BodyEnd::Failed(_) => self.fault(),
            BodyEnd::NotRead(_) => Outcome::ClientDisconnected,
            BodyEnd::Complete | BodyEnd::Cancelled => outcome,
        };
        self.lease.generation().stats.count(outcome, self.guest_time());
        let error_type = interruption.as_ref().map(|(error_type, _)| *error_type).or(error_type);
        self.record_metrics(status.as_u16(), error_type, duration, trace);
        match self.standard.take() {
            // The guest may continue and record more.
            Some((recorder, _)) => recorder.end(now, abort.map(|(kind, message)| Abort { kind, message })),
            None => {
                if let Some(recorder) = self.recorder.take() {
                    recorder.finish(abort.as_ref().map(|(kind, message)| (*kind, message.as_str())));
                }
            }
        }
    }

    /// Calls `record` with the request's recorder, which a standard guest shares.
    fn with_recorder<T>(&mut self, record: impl FnOnce(&mut Recorder) -> T) -> Option<T> {
        match &self.standard {
            Some((recorder, _)) => Some(recorder.with(record)),
            None => self.recorder.as_mut().map(record),
        }
    }

    fn execution(&self) -> Option<Arc<GuestExecution>> {
        self.standard.as_ref().map(|(_, execution)| execution.clone())
    }

    fn record_metrics(
        &mut self,
        status: u16,
        error_type: Option<&'static str>,
        duration: Duration,
        trace: Option<(TraceId, SpanId)>,
    ) {
        self.active = None;
        let route = self.route.and_then(|index| self.lease.generation().routes().get(index));
        self.service.metrics.load().record_server_request(&ServerRequest {
            method: &self.method,
            scheme: self.scheme,
            route: route.map(|route| &route.template),
            status,
            error_type,
            version: self.version,
            duration,
            trace,
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.has_ended {
            if !matches!(self.guest_time, GuestTime::NotStarted) {
                self.lease.generation().stats.count(Outcome::ClientDisconnected, self.guest_time());
            }
            self.record_metrics(0, Some("cancelled"), self.started.elapsed(), None);
        }
    }
}

/// The reason that is recorded on spans that a failed guest left open.
fn abort(rejection: &Rejection) -> Option<(&'static str, String)> {
    match rejection {
        Rejection::Failed(failure) => failure.open_span_error(),
        _ => None,
    }
}

fn response(reply: Reply) -> Response<Body> {
    let Reply { status, mut headers, body } = reply;
    let body = if has_content(status) {
        body
    } else {
        headers.remove(CONTENT_LENGTH);
        headers.remove(TRANSFER_ENCODING);
        Body::empty()
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Whether a response with this status may have content (RFC 9110, 15.3.5, 15.3.6 and 15.4.5). Otherwise content from
/// the guest and its length are dropped.
fn has_content(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Removes the content of a response to HEAD and sets its length, as in the response to GET (RFC 9110, 9.3.2).
/// The length is unknown if the guest has sent no content.
fn without_content(headers: &mut http::HeaderMap, body: Body) -> Body {
    if let Some(length) = body.size_hint().exact().filter(|length| *length > 0)
        && !headers.contains_key(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Body::empty()
}
