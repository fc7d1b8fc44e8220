//! The exchange: one request at one service, from its head until its response was sent or cancelled.
//!
//! It owns what the request uses (lease, permit, recorder, timer) and releases all of it in one place; a standard guest
//! that continues after its response shares lease, permit and recorder until it has ended. A response that fits into
//! one write ends the exchange when it is handed over. The body of any other response owns the exchange.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Response, StatusCode, Version};
use http_body::Body as _;

use super::arrival::Arrival;
use super::rejection::Rejection;
use super::response_rules::ResponseRules;
use super::{server_span, trace_response};
use crate::component::{Cost, GuestExecution, Reply};
use crate::http::routes::{Match, RouteIndex};
use crate::http::{Body, BodyError, FRAME};
use crate::metrics::{ActiveRequestGuard, ServerRequest};
use crate::services::{Generation, Lease, Outcome, Permit, Service};
use crate::trace::{Abort, Pipeline, Recorder, SharedRecorder, SpanId, TraceId};

/// One request at one service. If it is dropped before it has ended, the caller has disconnected, and the request is
/// counted as cancelled.
pub(super) struct Exchange {
    service: Arc<Service>,
    lease: Lease,
    rules: ResponseRules,
    pipeline: Pipeline,
    /// Counts the request as active.
    active: Option<ActiveRequestGuard>,
    /// The request's permit under the service's concurrency limit.
    pub permit: Option<Permit>,
    method: Method,
    scheme: &'static str,
    /// `None` for a call within the host, which uses no protocol.
    version: Option<Version>,
    began: Instant,
    pub recorder: Recorder,
    /// The recorder shared with a standard guest, and the guest's cost.
    pub standard: Option<(SharedRecorder, Arc<GuestExecution>)>,
    route: Option<RouteIndex>,
    pub cost: Option<Cost>,
    guest: GuestTime,
    head: Option<Head>,
    has_ended: bool,
}

/// How long the guest has had the request. Time spent on slow clients is excluded.
#[derive(Clone, Copy)]
enum GuestTime {
    /// The guest has not received it.
    None,
    /// The guest is running since then.
    Since(Instant),
    /// The guest ran for this long.
    Took(Duration),
}

/// What is known once the head of the response exists.
struct Head {
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
    /// It was handed over completely.
    Complete,
    /// The client disconnected, or the transport dropped it.
    Cancelled,
    /// It failed, or the guest paused for too long.
    Failed(BodyError),
    /// The client did not read for too long.
    NotRead(BodyError),
}

impl Exchange {
    /// Starts the exchange of a request.
    pub fn new(
        service: &Arc<Service>,
        lease: Lease,
        arrival: &Arrival,
        began: Instant,
        (recorder, pipeline): (Recorder, Pipeline),
    ) -> Exchange {
        Exchange {
            active: Some(service.metrics.load().start_server_request(&arrival.method, arrival.scheme())),
            service: service.clone(),
            rules: ResponseRules::new(lease.clone(), arrival),
            lease,
            pipeline,
            permit: None,
            method: arrival.method.clone(),
            scheme: arrival.scheme(),
            version: arrival.connection.is_some().then_some(arrival.version),
            began,
            recorder,
            standard: None,
            route: None,
            cost: None,
            guest: GuestTime::None,
            head: None,
            has_ended: false,
        }
    }

    /// Sets the name of the server span and the attributes that are known before the request is served.
    pub fn describe(&mut self, arrival: &Arrival, generation: &Generation, found: &Match) {
        let server = self.recorder.server();
        if let Match::Found { index, .. } = found {
            self.route = Some(*index);
        }
        if !self.recorder.is_recording() {
            return;
        }
        let route = self.route.and_then(|index| generation.routes().get(index));
        let name = self.route.and_then(|index| generation.routes().span_name(index));
        if let Some((route, name)) = route.zip(name) {
            self.recorder.rename(server, server_span::server_name(route, name, &arrival.method));
        }
        if let Some(prepared) = generation.on_server_spans(self.route) {
            self.recorder.set_prepared(server, prepared);
        }
        let redaction = &generation.pool.context().redaction;
        server_span::server_request(&mut self.recorder, arrival, (self.service.listen(), redaction), route);
    }

    /// The lease on the generation that serves the request.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Marks the start of the guest.
    pub fn guest_begins(&mut self) {
        self.guest = GuestTime::Since(Instant::now());
    }

    /// Marks the end of the guest: it has answered or failed.
    pub fn guest_ends(&mut self) {
        self.guest = GuestTime::Took(self.guest_time());
    }

    fn guest_time(&self) -> Duration {
        match self.guest {
            GuestTime::None => Duration::ZERO,
            GuestTime::Since(began) => began.elapsed(),
            GuestTime::Took(duration) => duration,
        }
    }

    /// Creates the response and records its head. The exchange lasts until the body has been sent.
    pub fn answer(&mut self, answered: Result<Reply, Rejection>) -> Response<Body> {
        let rejection = answered.as_ref().err();
        let status = answered.as_ref().map_or_else(Rejection::status, |reply| reply.status);
        let cost = self.cost;
        self.record(|recorder| server_span::server_response(recorder, status, rejection, cost.as_ref()));
        if matches!(rejection, Some(Rejection::Busy)) {
            self.service.metrics.load().count_rejected("concurrency_limit");
        }
        let error_type = rejection.and_then(Rejection::error_type);
        let outcome = match rejection {
            Some(rejection) => rejection.outcome(),
            None if status.is_server_error() => Outcome::GuestFault,
            None => Outcome::Success,
        };
        self.head = Some(Head { status, error_type, abort: rejection.and_then(abort), outcome });
        // What a standard component answers reaches the client as it is everywhere else.
        let is_of_standard_guest = answered.is_ok() && self.standard.is_some();
        let response = match answered {
            Ok(reply) => response(reply),
            Err(rejection) => rejection.response(),
        };
        let (mut parts, mut body) = response.into_parts();
        if let Some(server) =
            self.record(|recorder| recorder.is_enabled().then(|| recorder.context_of(recorder.server())))
        {
            trace_response::name_in_head(&mut parts, &server, &self.pipeline);
            if !is_of_standard_guest {
                trace_response::name_in_problem(&parts, &mut body, &server);
            }
        }
        let body = self.rules.apply(&self.service, &mut parts, body);
        let is_head = self.method == Method::HEAD && has_content(status);
        let body = if is_head { without_content(&mut parts.headers, body) } else { body };
        Response::from_parts(parts, body)
    }

    /// Whether handing over a body of this size sends it: it fits into one write, or a service of this host receives it
    /// whole.
    pub fn leaves_at_once(&self, bytes: usize) -> bool {
        self.version.is_none() || bytes <= FRAME
    }

    /// The longest body, and the longest pause in it.
    pub fn body_limits(&self) -> (u64, Duration) {
        let limits = &self.lease.generation().config.limits;
        (limits.response_body as u64, limits.idle_timeout)
    }

    /// Ends the server span and counts the request. `sent` is the number of body bytes that were sent.
    pub fn end(mut self, end: BodyEnd, sent: u64) {
        let Some(Head { status, error_type, mut abort, outcome }) = self.head.take() else { return };
        self.has_ended = true;
        let cut = match &end {
            BodyEnd::Complete => None,
            BodyEnd::Cancelled => Some(("cancelled", String::from("the client went away before the end of the body"))),
            BodyEnd::Failed(error) | BodyEnd::NotRead(error) => Some((error.error_type(), error.to_string())),
        };
        let is_told = abort.is_some();
        if let Some((error_type, message)) = &cut {
            abort.get_or_insert((error_type, message.clone()));
        }
        let (duration, pipeline, execution) = (self.began.elapsed(), self.pipeline.clone(), self.execution());
        let has_failed = status.is_server_error() || matches!(end, BodyEnd::Failed(_) | BodyEnd::NotRead(_));
        let trace = self.record(|recorder| {
            let server = recorder.server();
            recorder.set(server, "http.response.body.size", i64::try_from(sent).unwrap_or(i64::MAX));
            if let Some(execution) = &execution {
                server_span::guest_ended(recorder, execution, is_told);
            }
            if let Some((error_type, message)) = &cut {
                recorder.fail(server, error_type, message.clone());
            }
            // Exemplars refer only to traces that are kept.
            let is_kept = recorder.is_recording() && pipeline.is_certainly_exported(has_failed, duration);
            is_kept.then(|| (recorder.trace_id(), recorder.server_span_id()))
        });
        let outcome = match end {
            BodyEnd::Failed(_) => Outcome::GuestFault,
            BodyEnd::NotRead(_) => Outcome::ClientGone,
            BodyEnd::Complete | BodyEnd::Cancelled => outcome,
        };
        self.lease.generation().stats.count(outcome, self.guest_time());
        let error_type = cut.as_ref().map(|(error_type, _)| *error_type).or(error_type);
        self.count(status.as_u16(), error_type, duration, trace);
        match self.standard.take() {
            // The guest may continue, and what it records from here on is kept as well.
            Some((recorder, _)) => recorder.end(abort.map(|(kind, message)| Abort { kind, message })),
            None => {
                let recorder = std::mem::replace(&mut self.recorder, Recorder::detached());
                recorder.finish(abort.as_ref().map(|(kind, message)| (*kind, message.as_str())));
            }
        }
    }

    /// Records with the request's recorder, whether shared with a guest or not.
    fn record<T>(&mut self, record: impl FnOnce(&mut Recorder) -> T) -> T {
        match &self.standard {
            Some((recorder, _)) => recorder.with(record),
            None => record(&mut self.recorder),
        }
    }

    fn execution(&self) -> Option<Arc<GuestExecution>> {
        self.standard.as_ref().map(|(_, execution)| execution.clone())
    }

    fn count(
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
            if !matches!(self.guest, GuestTime::None) {
                self.lease.generation().stats.count(Outcome::ClientGone, self.guest_time());
            }
            self.count(0, Some("cancelled"), self.began.elapsed(), None);
        }
    }
}

/// The reason recorded on spans that a guest left open, if the host answers without it.
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

/// Whether a response of this status may have content. If not, any content from the guest is dropped, and its length is
/// not sent (RFC 9110, 15.3.5, 15.3.6 and 15.4.5).
fn has_content(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED)
}

/// The response to HEAD: the content length of the GET response, without content (RFC 9110, 9.3.2). A guest may have left
/// the content out itself, and then its length is unknown.
fn without_content(headers: &mut http::HeaderMap, body: Body) -> Body {
    if let Some(length) = body.size_hint().exact().filter(|length| *length > 0)
        && !headers.contains_key(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Body::empty()
}
