//! What the life of a request needs at every step, and how it ends: the server span, the metrics and the response.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Response, StatusCode, Version};

use super::arrival::Arrival;
use super::rejection::Rejection;
use super::server_span;
use crate::component::{Cost, Failure, Reply};
use crate::http::SCHEME;
use crate::http::routes::{Match, RouteIndex};
use crate::metrics::Served;
use crate::services::{Generation, Lease, Service};
use crate::trace::{Pipeline, Recorder, SpanId, TraceId};

/// What the life of a request needs at every step. One that is dropped before it has ended is a request whose caller
/// went away; it is counted as that.
pub(super) struct Exchange {
    service: Arc<Service>,
    lease: Lease,
    method: Method,
    /// None for a call within the host, which no protocol carries.
    version: Option<Version>,
    began: Instant,
    pub recorder: Recorder,
    route: Option<RouteIndex>,
    pub cost: Option<Cost>,
    has_ended: bool,
}

impl Exchange {
    /// The exchange of a request that begins to be served.
    pub fn new(service: Arc<Service>, lease: Lease, arrival: &Arrival, began: Instant, recorder: Recorder) -> Exchange {
        let method = arrival.method.clone();
        let version = arrival.connection.is_some().then_some(arrival.version);
        let (route, cost, has_ended) = (None, None, false);
        Exchange { service, lease, method, version, began, recorder, route, cost, has_ended }
    }

    /// Gives the server span its name and what is known of the request before it is served.
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
        server_span::server_request(&mut self.recorder, arrival, generation.config.listen, route);
    }

    /// Ends the server span, counts the request, and makes the response.
    pub fn end(mut self, answered: Result<Reply, Rejection>, pipeline: &Pipeline) -> Response<Bytes> {
        self.has_ended = true;
        let rejection = answered.as_ref().err();
        let status = answered.as_ref().map_or_else(Rejection::status, |reply| reply.status);
        server_span::server_response(&mut self.recorder, status, rejection, self.cost.as_ref());
        let duration = self.began.elapsed();
        self.lease.generation().stats.count(status.is_server_error(), duration);
        // An exemplar names a trace that can be looked up.
        let is_kept = self.recorder.is_recording() && pipeline.is_sure_to_keep(status.is_server_error(), duration);
        let trace = is_kept.then(|| (self.recorder.trace_id(), self.recorder.server_id()));
        self.count(status.as_u16(), rejection.and_then(Rejection::error_type), duration, trace);
        if matches!(rejection, Some(Rejection::Busy)) {
            self.service.metrics.load().rejected("concurrency_limit");
        }
        let abort = match rejection {
            Some(Rejection::Failed(Failure::Trapped(exception))) => Some(("wasm_trap", exception.message.clone())),
            Some(Rejection::Failed(Failure::TimedOut)) => Some(("timeout", String::from("request_timeout passed"))),
            _ => None,
        };
        let recorder = std::mem::replace(&mut self.recorder, Recorder::detached());
        recorder.finish(abort.as_ref().map(|(kind, message)| (*kind, message.as_str())));
        match answered {
            Ok(reply) => response(reply),
            Err(rejection) => rejection.response(),
        }
    }

    fn count(
        &self,
        status: u16,
        error_type: Option<&'static str>,
        duration: Duration,
        trace: Option<(TraceId, SpanId)>,
    ) {
        let route = self.route.and_then(|index| self.lease.generation().routes().get(index));
        self.service.metrics.load().served(&Served {
            method: &self.method,
            scheme: SCHEME,
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
            self.count(0, Some("cancelled"), self.began.elapsed(), None);
        }
    }
}

fn response(reply: Reply) -> Response<Bytes> {
    let Reply { status, headers, body } = reply;
    // RFC 9110, 15.3.5 and 15.4.5: these have no content, whatever the guest put there.
    let body = if matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) { Bytes::new() } else { body };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
