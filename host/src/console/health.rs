//! The host's own health and its metrics.

use bytes::Bytes;
use http::header::ACCEPT;
use http::{Request, Response};

use super::{Console, json, with_type};
use crate::metrics::Exposition;

/// `/healthz` says that the host runs; `/readyz` that its services answer, which is true from the first moment on,
/// because nothing listens before everything is ready.
pub(super) fn answer(console: &Console, ready: bool) -> Response<Bytes> {
    let services = console.control.catalog.services();
    let status = if ready { "ready" } else { "healthy" };
    json(&serde_json::json!({ "status": status, "service": "spandrel", "services": services.len() }))
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
