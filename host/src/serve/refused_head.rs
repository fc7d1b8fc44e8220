//! Requests whose head cannot be read and which therefore have no route or trace context: the metrics of the port's
//! service count them, and a span in a trace of its own says what was wrong, within a limit of such spans.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Version};

use super::peer::Peer;
use super::rejection::Rejection;
use super::{server_span, trace_response};
use crate::http::bare::bare;
use crate::http::head::HeadError;
use crate::http::{Body, SCHEME};
use crate::metrics::ServerRequest;
use crate::services::Service;
use crate::trace::{Incoming, Pipeline, SpanKind};

/// How many of them get a span per [`PERIOD`]. A flood of them is counted, but does not fill the queue.
const SPANS: u32 = 20;
const PERIOD: Duration = Duration::from_secs(1);

/// Answers unreadable heads, on one port.
pub struct RefusedHeads {
    pipeline: Pipeline,
    spans: Mutex<Budget>,
}

/// How many spans are left in the current period.
struct Budget {
    began: Instant,
    left: u32,
}

impl Budget {
    fn take(&mut self, now: Instant) -> bool {
        if now.duration_since(self.began) >= PERIOD {
            *self = Budget { began: now, left: SPANS };
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

impl RefusedHeads {
    /// What answers them on one port.
    pub fn new(pipeline: Pipeline) -> RefusedHeads {
        RefusedHeads { pipeline, spans: Mutex::new(Budget { began: Instant::now(), left: SPANS }) }
    }

    /// Returns the response to such a head, as HTTP/1.1 bytes. It is traced and counted.
    pub fn answer(&self, service: &Service, error: &HeadError, peer: &Peer) -> Vec<u8> {
        let began = Instant::now();
        let rejection = Rejection::Head(error.clone());
        let (mut parts, mut body) = rejection.response().into_parts();
        if self.has_span(began) {
            let resource = service.resource.load();
            let mut recorder = self.pipeline.record(&resource, &Incoming::default(), "HTTP", SpanKind::Server);
            let generation = service.serving().stable.clone();
            if let Some(prepared) = generation.on_server_spans(None).filter(|_| recorder.is_recording()) {
                recorder.set_prepared(recorder.server(), prepared);
            }
            server_span::unread_request(&mut recorder, peer, service.listen());
            server_span::server_response(&mut recorder, parts.status, Some(&rejection), None);
            if recorder.is_enabled() {
                let server = recorder.context_of(recorder.server());
                trace_response::name_in_head(&mut parts, &server, &self.pipeline);
                trace_response::name_in_problem(&parts, &mut body, &server);
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
        bare(http::Response::from_parts(parts, body))
    }

    fn has_span(&self, now: Instant) -> bool {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).take(now)
    }
}

/// The semantic conventions' value for an unknown method.
fn unknown_method() -> Method {
    Method::from_bytes(b"_OTHER").unwrap_or(Method::GET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_gets_a_bounded_number_of_spans() {
        let began = Instant::now();
        let mut budget = Budget { began, left: SPANS };
        let taken = |budget: &mut Budget, now| (0..1000).filter(|_| budget.take(now)).count();
        assert_eq!(taken(&mut budget, began), SPANS as usize);
        assert_eq!(taken(&mut budget, began + PERIOD / 2), 0);
        assert_eq!(taken(&mut budget, began + PERIOD), SPANS as usize);
    }
}
