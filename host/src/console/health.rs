//! The host's own health and its metrics.

use bytes::Bytes;
use http::header::ACCEPT;
use http::{Request, Response, StatusCode};

use super::{Console, json, with_type};
use crate::control::Readiness;
use crate::http::problem;
use crate::metrics::Exposition;

/// `/healthz` says that the host runs; `/readyz` whether it wants requests and can keep what services store.
pub(super) fn answer(console: &Console, ready: bool) -> Response<Bytes> {
    if ready && !console.control.builder.state().is_healthy() {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "The state store has failed and is being opened again");
    }
    let (services, readiness) = (console.control.catalog.services(), console.control.readiness());
    let status = if ready { readiness.as_str() } else { "healthy" };
    let mut answer = json(&serde_json::json!({ "status": status, "service": "spandrel", "services": services.len() }));
    if ready && readiness != Readiness::Ready {
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    answer
}

/// Prometheus' text format, or OpenMetrics for a scraper that asks for it.
pub(super) fn metrics<B>(console: &Console, request: &Request<B>) -> Response<Bytes> {
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = match accept.contains("application/openmetrics-text") {
        true => Exposition::OpenMetrics,
        false => Exposition::Prometheus,
    };
    let page = console.control.builder.metrics().exposition(format);
    with_type(page.into(), format.content_type())
}
