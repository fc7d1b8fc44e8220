//! Health and metrics of the host.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};

use super::responses;
use super::state::Console;
use crate::control::Readiness;
use crate::metrics::Exposition;

/// `/healthz`: the host runs.
pub(super) async fn healthy(State(console): State<Arc<Console>>) -> Response {
    status(&console, "healthy")
}

/// `/readyz`: whether the host is ready for requests and can write to the state store.
pub(super) async fn ready(State(console): State<Arc<Console>>) -> Response {
    if !console.control.builder.state().is_healthy() {
        let detail = "The state store has failed and is being opened again";
        return responses::problem(StatusCode::SERVICE_UNAVAILABLE, detail);
    }
    let readiness = console.control.readiness();
    let mut response = status(&console, readiness.as_str());
    if readiness != Readiness::Ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

fn status(console: &Console, status: &str) -> Response {
    let services = console.control.catalog.services();
    responses::json(&serde_json::json!({ "status": status, "service": "spandrel", "services": services.len() }))
}

/// The Prometheus text format, or OpenMetrics if the scraper accepts it.
pub(super) async fn metrics(State(console): State<Arc<Console>>, headers: HeaderMap) -> Response {
    let format = Exposition::accepted(headers.get_all(ACCEPT).iter().filter_map(|field| field.to_str().ok()));
    let page = console.control.builder.metrics().exposition(format);
    responses::with_type(page.into(), format.content_type())
}
