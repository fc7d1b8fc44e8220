//! Requests whose head cannot be read. They have no route and no trace context.
//!
//! The metrics of the port's service count them. Each is recorded as a span in a new trace, up to a limit of spans.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Version};

use super::peer::Peer;
use super::rejection::Rejection;
use super::{server_span, trace_response};
use crate::http::head::HeadError;
use crate::http::http1::last_response;
use crate::http::{Body, SCHEME};
use crate::metrics::ServerRequest;
use crate::services::Service;
use crate::trace::{Incoming, Pipeline, SpanKind};

/// How many spans are recorded per [`PERIOD`]. A flood of unreadable heads is counted, but does not fill the queue.
const SPANS_PER_PERIOD: u32 = 20;
const PERIOD: Duration = Duration::from_secs(1);

/// Answers requests with unreadable heads on one port.
pub struct RejectedHeads {
    pipeline: Pipeline,
    spans: Mutex<SpanBudget>,
}

/// How many more spans may be recorded in the current period.
struct SpanBudget {
    began: Instant,
    remaining: u32,
}

impl SpanBudget {
    fn take(&mut self, now: Instant) -> bool {
        if now.duration_since(self.began) >= PERIOD {
            *self = SpanBudget { began: now, remaining: SPANS_PER_PERIOD };
        }
        let is_within_budget = self.remaining > 0;
        self.remaining = self.remaining.saturating_sub(1);
        is_within_budget
    }
}

impl RejectedHeads {
    /// Answers unreadable heads and records them with `pipeline`.
    pub fn new(pipeline: Pipeline) -> RejectedHeads {
        RejectedHeads { pipeline, spans: Mutex::new(SpanBudget { began: Instant::now(), remaining: SPANS_PER_PERIOD }) }
    }

    /// Returns the response to an unreadable head as HTTP/1.1 bytes, and traces and counts the request.
    pub fn respond(&self, service: &Service, error: &HeadError, peer: &Peer) -> Vec<u8> {
        let began = Instant::now();
        let rejection = Rejection::Head(error.clone());
        let (mut parts, mut body) = rejection.response().into_parts();
        if self.has_span(began) {
            let resource = service.resource.load();
            let mut recorder = self.pipeline.record(&resource, &Incoming::default(), "HTTP", SpanKind::Server);
            let generation = service.serving().stable.clone();
            if let Some(prepared) = generation.server_span_attributes(None).filter(|_| recorder.is_recording()) {
                recorder.set_prepared(recorder.server(), prepared);
            }
            server_span::record_unreadable_request(&mut recorder, peer, service.listen());
            server_span::record_response(&mut recorder, parts.status, Some(&rejection), None);
            if recorder.is_enabled() {
                let server = recorder.context_of(recorder.server());
                trace_response::set_header(&mut parts, &server, self.pipeline.has_response_header());
                trace_response::set_problem_member(&parts, &mut body, &server);
            }
            recorder.finish(None);
        }
        service.metrics.load().record_server_request(&ServerRequest {
            method: &unknown_method(),
            scheme: SCHEME,
            route: None,
            status: parts.status.as_u16(),
            error_type: rejection.error_type(),
            version: Some(Version::HTTP_11),
            duration: began.elapsed(),
            trace: None,
        });
        let body = if let Body::Whole(bytes) = body { bytes } else { Bytes::new() };
        last_response(http::Response::from_parts(parts, body))
    }

    fn has_span(&self, now: Instant) -> bool {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).take(now)
    }
}

/// The method of a request whose method is unknown, as the semantic conventions name it.
fn unknown_method() -> Method {
    Method::from_bytes(b"_OTHER").unwrap_or(Method::GET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_unreadable_heads_is_recorded_as_a_bounded_number_of_spans() {
        let began = Instant::now();
        let mut budget = SpanBudget { began, remaining: SPANS_PER_PERIOD };
        let taken = |budget: &mut SpanBudget, now| (0..1000).filter(|_| budget.take(now)).count();
        assert_eq!(taken(&mut budget, began), SPANS_PER_PERIOD as usize);
        assert_eq!(taken(&mut budget, began + PERIOD / 2), 0);
        assert_eq!(taken(&mut budget, began + PERIOD), SPANS_PER_PERIOD as usize);
    }
}
